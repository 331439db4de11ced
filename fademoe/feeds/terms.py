"""Readers of a contract's terms. What cannot be read is not told: it must not cost the contract."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from fademoe.errors import BadPayload
from fademoe.feeds.instrument import Json, Terms, Tiers
from fademoe.feeds.symbols import find_power_of_ten
from fademoe.feeds.values import multiply, read_amount, read_optional_price, shift

MINUTES = 60
MAX_FUNDING_HOURS = 24


def read_term(item: Json, *names: str) -> str | None:
    """Return a decimal above zero behind some names of nested objects, None where there is none."""
    for name in names:
        item = item.get(name) if isinstance(item, dict) else None
    try:
        return read_optional_price(item)
    except BadPayload:
        return None


def find_filter(item: Json, kind: str) -> Json:
    """Return the element of the member "filters" whose filterType is `kind`, None where there is none."""
    filters = item.get("filters")
    found = [each for each in filters if isinstance(each, dict)] if isinstance(filters, list) else []
    return next((each for each in found if each.get("filterType") == kind), None)


def make_terms(
    multiplier: int, *, tick: str | None, lot: str | None, min_notional: str | None = None, hours: int | None = None
) -> Terms:
    """Make terms of a tick and a lot in the exchange's unit of `multiplier` coins."""
    power = find_power_of_ten(multiplier)
    return Terms(
        tick=None if tick is None else shift(tick, -power),
        lot=None if lot is None else shift(lot, power),
        min_notional=min_notional,
        funding_hours=hours,
    )


def rescale_terms(terms: Terms, power: int) -> Terms:
    """Return terms whose unit was taken for 10 ** power times as many coins as it is stored for."""
    return replace(
        terms,
        tick=None if terms.tick is None else shift(terms.tick, power),
        lot=None if terms.lot is None else shift(terms.lot, -power),
    )


def to_hours(minutes: Json) -> int | None:
    """Return a funding interval of whole hours, None where it is none."""
    is_whole = type(minutes) is int and minutes % MINUTES == 0 and 0 < minutes <= MAX_FUNDING_HOURS * MINUTES
    return minutes // MINUTES if is_whole else None


def make_tiers(unit: str, steps: Sequence[tuple[Json, Json]], factor: str = "1") -> Tiers:
    """Make tiers of (upper bound, rate) in any order; bounds are multiplied by `factor`.

    Raises BadPayload unless there is one, bounds rise, and rates rise and lie between 0 and 1.
    """
    read = sorted((Decimal(multiply(read_amount(bound), factor)), Decimal(read_amount(rate))) for bound, rate in steps)
    bounds, rates = [bound for bound, _ in read], [rate for _, rate in read]
    if not read or len(set(bounds)) < len(bounds) or rates != sorted(rates) or bounds[0] <= 0:
        raise BadPayload("tiers of a maintenance margin have bounds and rates that rise")
    if not 0 <= rates[0] <= rates[-1] < 1:
        raise BadPayload(f"rates of a maintenance margin lie between 0 and 1, not {rates[0]} and {rates[-1]}")
    return Tiers(unit=unit, steps=tuple((_plain(bound), _plain(rate)) for bound, rate in read))


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
