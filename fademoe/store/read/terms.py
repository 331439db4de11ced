"""Lives of contracts, and the terms that were valid in them: what a backtest needs to know of a coin's contract then.

    lives = list_lives(cursor, codes=["bin"], symbols=["BTC"], window=Window(since_ms, until_ms))
    terms = read_terms(cursor, "bin", ["BTC"], Window(since_ms, until_ms))["BTC"]
    at_start = find_terms(terms, since_ms)      # (terms, is_assumed)

Times are ms since 1970, numbers Decimal.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.store.queries import load_queries

SQL = load_queries("read_terms")


LATE = ("tick", "lot", "min_notional", "funding_hours", "tier_unit", "tiers")


class Life(NamedTuple):
    """One life of a contract, from listing to delisting; what is not known is None.

    It traded in [listed_ms, delisted_ms); delisted_ms is None while it trades. `symbol` is our name in this life, which
    differs from that of another life where the ticker was given to another coin: `successor` is then the symbol of the
    life after it. `evidence` is where the times come from: list, missing (it left the list), archive.
    """

    exchange: str
    code: str
    instrument: str
    life: int
    symbol: str
    multiplier: int
    contract_value: Decimal  # coins in one contract, where sizes are counted in contracts
    listed_ms: int | None
    first_trade_ms: int | None
    last_trade_ms: int | None
    delisted_ms: int | None
    successor: str | None
    evidence: str


class Tier(NamedTuple):
    """A slice of a position up to `bound` (None: without end), and its maintenance margin rate, a fraction."""

    bound: Decimal | None
    rate: Decimal


class DatedTerms(NamedTuple):
    """The terms of a symbol's contract from `since_ms` on, until the next ones; None: the exchange does not tell it.

    `tick` is quote per coin, `lot` coins, `min_notional` quote. `tiers` are ascending; their bounds are notional in
    quote currency, or coins where `tier_unit` is "coins". The last tier has no bound: beyond the exchange's largest
    position its rate goes on. `is_assumed`: they are not yet told, but the first ones of this life of the contract.
    """

    since_ms: int
    instrument: str
    life: int
    multiplier: int
    contract_value: Decimal
    tick: Decimal | None
    lot: Decimal | None
    min_notional: Decimal | None
    funding_hours: int | None
    tier_unit: str | None  # "quote" or "coins", None without tiers
    tiers: tuple[Tier, ...]  # empty: not known
    is_assumed: bool = False


def list_lives(
    cursor: Cursor,
    *,
    codes: Sequence[str] | None = None,
    symbols: Sequence[str] | None = None,
    window: Window | None = None,
) -> list[Life]:
    """Return the lives of contracts that meet a window, dead ones too, by symbol, code and time; None: no restriction.

    The universe of an instant `at_ms` is that of Window(at_ms, at_ms + 1).
    """
    values = {
        "codes": None if codes is None else list(codes),
        "symbols": None if symbols is None else list(symbols),
        "start": None if window is None else window.start_ms,
        "end": None if window is None else window.end_ms,
    }
    cursor.execute(SQL["lives"], values)
    return [Life(*row) for row in cursor.fetchall()]


def read_terms(cursor: Cursor, code: str, symbols: Sequence[str], window: Window) -> dict[str, list[DatedTerms]]:
    """Return the terms of symbols on an exchange code that hold in a window, oldest first.

    The first ones hold before they are known, so there is at least one where any are known, however late; those of a
    later life from its listing on. What an exchange tells later than the rest holds before, too. Use `find_terms` to
    choose those of an instant. A symbol of which none are known is missing from the result.
    """
    cursor.execute(SQL["terms"], {"code": code, "symbols": list(symbols)})
    terms: dict[str, list[DatedTerms]] = {}
    listed_ms: dict[tuple[str, int], int | None] = {}
    for listed, symbol, *values, steps in cursor.fetchall():
        each = DatedTerms._make([*values, _make_tiers(steps), False])
        terms.setdefault(symbol, []).append(each)
        listed_ms[each.instrument, each.life] = listed
    return {
        symbol: _select(_begin_at_listing(_fill_back(of_symbol), listed_ms), window)
        for symbol, of_symbol in terms.items()
    }


def _begin_at_listing(terms: Sequence[DatedTerms], listed_ms: Mapping[tuple[str, int], int | None]) -> list[DatedTerms]:
    """Return ascending terms in which the first ones of a life hold from its listing on, not those before."""
    begun = list(terms[:1])
    for before, each in pairwise(terms):
        key = each.instrument, each.life
        listed = listed_ms[key]
        is_other = key != (before.instrument, before.life)
        if is_other and listed is not None and before.since_ms < listed < each.since_ms:
            begun.append(each._replace(since_ms=listed, is_assumed=True))
        begun.append(each)
    return begun


def _fill_back(terms: Sequence[DatedTerms]) -> list[DatedTerms]:
    """Return ascending terms in which what is not known has the value of the next ones of the same life."""
    filled: list[DatedTerms] = []
    for each in reversed(terms):
        later = filled[-1] if filled else None
        if later is not None and (later.instrument, later.life) == (each.instrument, each.life):
            blank = [name for name in LATE if getattr(each, name) in (None, ())]
            each = each._replace(**{name: getattr(later, name) for name in blank})
        filled.append(each)
    return filled[::-1]


def _select(terms: Sequence[DatedTerms], window: Window) -> list[DatedTerms]:
    """Return the terms that hold in a window: those at its start, or the first ones, and those that come in it."""
    before = [each for each in terms if each.since_ms <= window.start_ms]
    inside = [each for each in terms if window.start_ms < each.since_ms < window.end_ms]
    return [*before[-1:], *inside] or list(terms[:1])


def find_terms(terms: Sequence[DatedTerms], at_ms: int) -> tuple[DatedTerms | None, bool]:
    """Return the terms that hold at an instant, and whether they are assumed: before all known ones the first hold.

    `terms` are ascending. (None, True) where none are known at all.
    """
    valid = [each for each in terms if each.since_ms <= at_ms]
    if valid:
        return valid[-1], valid[-1].is_assumed
    return (terms[0] if terms else None), True


def _make_tiers(steps: list[list[str]] | None) -> tuple[Tier, ...]:
    tiers = [Tier(Decimal(bound), Decimal(rate)) for bound, rate in steps or ()]
    return (*tiers[:-1], *(tier._replace(bound=None) for tier in tiers[-1:]))
