"""Readers of rows: candles, liquidations, settlements, per one coin."""

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

from fademoe.clock import HOUR_MS, MINUTE_MS, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds.instrument import Instrument, Json, ParseItem
from fademoe.feeds.symbols import power_of_ten
from fademoe.feeds.values import amount, amounts, count, member, number, price, records, shift, text, to_ms
from fademoe.metrics import Candle, Liquidations, Row

LONGEST_FUNDING_HOURS = 8
PER_COIN = (-1, -1, -1, -1, 1, 0, 1)  # which way a multiplier shifts the values of a candle, as `candle` takes them


def by_name(rows: Json, name: str) -> list[tuple[str, Json]]:
    """Sort rows by instrument: the exchange's name of it, which is the member `name`, with each row."""
    return [(text(member(item, name)), item) for item in records(rows)]


def every(parse: ParseItem) -> Callable[[Json, Instrument], list[Row]]:
    """Make of a parser of one item, None where it is no row, a parser of a list of them."""

    def parse_all(items: Json, instrument: Instrument) -> list[Row]:
        rows = [parse(item, instrument) for item in records(items)]
        return [row for row in rows if row is not None]

    return parse_all


def check_name(name: Json, instrument: Instrument) -> None:
    """Raise BadPayload unless a row or page is of the instrument that was asked for."""
    if name != instrument.name:
        raise BadPayload(f"{instrument.name} was asked for, not {name!r}")


def newest_of_each(rows: Json, time: str, value: str, step_ms: int) -> list[Json]:
    """Return of each interval of `step_ms` the row with the newest `time`; a bad `value` of any row spoils all.

    `rows` come newest first, so of equal times the first counts.
    """
    newest: dict[int, tuple[int, Json]] = {}
    for row in records(rows):
        ts = to_ms(member(row, time))
        number(member(row, value))
        if ts > newest.get(floor_to(ts, step_ms), (0, None))[0]:
            newest[floor_to(ts, step_ms)] = ts, row
    return [row for _, row in newest.values()]


def with_previous(rows: Json, name: str) -> list[Json]:
    """Add to each row the time of the row before it as "previous"; `name` is the member that holds a row's time.

    A row that is sent twice is one.
    """
    ordered = [row for row, _ in groupby(sorted(records(rows), key=lambda row: to_ms(member(row, name))))]
    return [{**row, "previous": to_ms(before[name])} for before, row in pairwise([*ordered[:1], *ordered])]


def hours_since(previous: Json, ts: int) -> int | None:
    """Return the funding interval that ended at `ts`: whole hours since the settlement before, None if unknown.

    No exchange sends it with a settlement, and it changes in a contract's life.
    """
    hours = round((ts - previous) / HOUR_MS)
    is_whole = abs(ts - previous - hours * HOUR_MS) < MINUTE_MS
    return hours if is_whole and 1 <= hours <= LONGEST_FUNDING_HOURS else None


def check_candle(o: str, h: str, l: str, c: str) -> None:  # noqa: E741 - the columns' names
    """Raise BadPayload unless low <= open, close <= high."""
    low, high = float(l), float(h)
    if not (low <= float(o) <= high and low <= float(c) <= high):
        raise BadPayload(f"candle o={o} h={h} l={l} c={c}: open and close must lie between low and high")


def coins(value: Json, instrument: Instrument) -> str:
    """Read an amount of the contract's quoted unit as coins: 1.5 of 1000PEPE are 1500 PEPE."""
    return shift(amount(value), power_of_ten(instrument.multiplier))


def coin_price(value: Json, instrument: Instrument) -> str:
    """Read a price of the contract's quoted unit as the price of one coin."""
    return shift(price(value), -power_of_ten(instrument.multiplier))


def candle(instrument: Instrument, ts: int, values: Sequence[Json]) -> Candle:
    """Make the row of a closed candle, per one coin, of values in the exchange's unit.

    They are open, high, low, close, volume and quote volume, and where these are sent trades and taker-buy volume.
    """
    numbers = amounts([*values[:6], *values[7:8]])
    power = power_of_ten(instrument.multiplier)
    if power:
        numbers = [shift(value, power * way) for value, way in zip(numbers, PER_COIN, strict=False)]
    opened, high, low, close, volume, quote, *taker = numbers
    check_candle(opened, high, low, close)
    if not low.strip("0."):
        raise BadPayload(f"{low!r} is not a price: it is zero")
    return Candle(ts, opened, high, low, close, volume, quote, count(values[6]) if taker else None, *taker)


def liquidation(ts: int, usd: str, *, of_long: bool) -> Liquidations:
    """Make the row of one liquidated position."""
    return Liquidations(ts, lql=usd if of_long else "0", lqs="0" if of_long else usd)
