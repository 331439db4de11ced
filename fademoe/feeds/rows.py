"""Readers of rows: candles, liquidations, settlements, per one coin."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import groupby, pairwise

from fademoe.clock import HOUR_MS, MINUTE_MS, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds.columns import read_times
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.symbols import find_power_of_ten
from fademoe.feeds.values import (
    get_element,
    get_member,
    read_amount,
    read_amounts,
    read_price,
    read_records,
    shift,
    to_ms,
)
from fademoe.metrics import Candle, Funding, Liquidations, Mark, Row

LONGEST_FUNDING_HOURS = 8


def read_kind(item: Json, *names: str) -> tuple[str, ...]:
    """Return members of a contract that tell its kind; they may be blank. Raises BadPayload where one is no text."""
    kind = tuple(get_member(item, name) for name in names)
    if not all(isinstance(value, str) for value in kind):
        raise BadPayload(f"{', '.join(names)} of a contract are {kind}")
    return kind


def read_optional_kind(item: Json, name: str, default: str) -> str:
    """Return a member that tells a contract's kind and may be missing, but not null or of another type."""
    return read_kind({name: default, **item}, name)[0]


def check_name(name: Json, instrument: Instrument) -> None:
    """Raise BadPayload unless a row or page is of the requested instrument."""
    if name != instrument.name:
        raise BadPayload(f"{instrument.name} was requested, not {name!r}")


def keep_newest_per_interval(rows: Json, time: str, interval_ms: int) -> list[Json]:
    """Return the newest row of each interval; `time` is the member that holds a row's time.

    `rows` come newest first, so of equal times the first counts. Rows whose time is unreadable come first, and an
    interval that such a row may have been the newest of is left out.
    """
    unreadable: list[Json] = []
    newest: dict[int, tuple[int, Json]] = {}
    left_out: set[int] = set()
    is_behind_unreadable = False
    for row in read_records(rows):
        ts = read_time(row, time)
        if ts is None:
            unreadable.append(row)
            is_behind_unreadable = True
            continue
        start_ms = floor_to(ts, interval_ms)
        if is_behind_unreadable and start_ms not in newest:
            left_out.add(start_ms)
        if start_ms not in newest or ts > newest[start_ms][0]:
            newest[start_ms] = ts, row
        is_behind_unreadable = False
    return [*unreadable, *(row for start_ms, (_, row) in newest.items() if start_ms not in left_out)]


def add_previous(rows: Json, name: str, to_time: Callable[[Json], int] = to_ms) -> list[Json]:
    """Return the rows, oldest first, each with the time of the row before it in ms as "previous".

    `name` is the member that holds a row's time, which `to_time` reads. A row that is sent twice is one. "previous" is
    the row's own time where the time of the row before is unknown: of the first row, and of one with an unreadable row
    in between. Rows whose time is unreadable come last, as they are.
    """
    sent = read_records(rows)
    times = [read_time(row, name, to_time) for row in sent]
    unreadable = [position for position, time in enumerate(times) if time is None]
    ordered = sorted((time, position) for position, time in enumerate(times) if time is not None)
    distinct = [next(group) for _, group in groupby(ordered, key=lambda pair: (pair[0], str(sent[pair[1]])))]
    result = []
    for (before_ms, before), (ts, position) in pairwise([*distinct[:1], *distinct]):
        span = range(min(before, position), max(before, position))
        is_known = not any(other in span for other in unreadable)
        result.append({**sent[position], "previous": before_ms if is_known else ts})
    return [*result, *(sent[position] for position in unreadable)]


def count_hours_since(previous: Json, ts: int) -> int | None:
    """Return the funding interval that ended at `ts`: whole hours since the settlement before, None if unknown.

    No exchange sends it with a settlement, and it changes in a contract's life.
    """
    hours = round((ts - previous) / HOUR_MS)
    is_whole = abs(ts - previous - hours * HOUR_MS) < MINUTE_MS
    return hours if is_whole and 1 <= hours <= LONGEST_FUNDING_HOURS else None


def link_settlement(row: Row, previous_ms: int | None) -> Row:
    """Return a settlement with the hours since the one before."""
    if not isinstance(row, Funding) or previous_ms is None:
        return row
    return row._replace(fr_hours=count_hours_since(previous_ms, row.ts))


def read_time(row: Json, place: str | int, to_time: Callable[[Json], int] = to_ms) -> int | None:
    """Return a row's time in ms, None where it is unreadable; `place` is its member or its index."""
    try:
        return to_time(get_member(row, place) if isinstance(place, str) else get_element(row, place))
    except BadPayload:
        return None


def read_row_times(rows: Sequence[Json], index: int) -> list[int | None]:
    """Return the time in ms of each row that is a list, at `index` in it; None where it is unreadable."""
    try:  # nearly all rows are good: all at once
        if set(map(type, rows)) == {list}:
            return [*read_times([row[index] for row in rows])]
    except (BadPayload, IndexError):
        pass
    return [read_time(row, index) for row in rows]


def check_candle(o: str, h: str, l: str, c: str) -> None:  # noqa: E741 - the columns' names
    """Raise BadPayload unless low <= open, close <= high."""
    low, high = Decimal(l), Decimal(h)
    if not (low <= Decimal(o) <= high and low <= Decimal(c) <= high):
        raise BadPayload(f"candle o={o} h={h} l={l} c={c}: open and close must lie between low and high")


def _are_ordered(o: str, h: str, l: str, c: str) -> bool:  # noqa: E741
    """Return whether low <= open, close <= high, for unsigned decimals of one length with their point at one place.

    Texts of that shape are in the order of their numbers, and are compared in a fifth of the time. Of others False says
    nothing.
    """
    point = l.find(".")
    return (
        len(o) == len(h) == len(l) == len(c)
        and o.find(".") == h.find(".") == c.find(".") == point
        and l <= o <= h
        and l <= c <= h
    )


def to_coins(value: Json, instrument: Instrument) -> str:
    """Read an amount of the contract's quoted unit as coins: 1.5 of 1000PEPE are 1500 PEPE."""
    return shift(read_amount(value), find_power_of_ten(instrument.multiplier))


def to_coin_price(value: Json, instrument: Instrument) -> str:
    """Read a price of the contract's quoted unit as the price of one coin."""
    return shift(read_price(value), -find_power_of_ten(instrument.multiplier))


def make_candle(instrument: Instrument, ts: int, values: Sequence[Json], trades: int | None = None) -> Candle:
    """Make the row of a closed candle, per one coin, of values in the exchange's unit.

    `values` are open, high, low, close, volume and quote volume, and where it is sent taker-buy volume; `trades` is
    their number, None where it is not sent.
    """
    opened, high, low, close, volume, quote, *taker = read_amounts(values)
    if not _are_ordered(opened, high, low, close):
        check_candle(opened, high, low, close)
    if low[0] == "0" and not low.strip("0."):
        raise BadPayload(f"{low!r} is not a price: it is zero")
    taker_volume = taker[0] if taker else None
    if instrument.multiplier != 1:
        power = find_power_of_ten(instrument.multiplier)
        opened, high, low, close = (shift(price, -power) for price in (opened, high, low, close))
        volume = shift(volume, power)
        taker_volume = None if taker_volume is None else shift(taker_volume, power)
    # tuple.__new__ takes a third of the time of the class itself
    return tuple.__new__(Candle, (ts, opened, high, low, close, volume, quote, trades, taker_volume))


def make_mark(instrument: Instrument, ts: int, values: Sequence[Json]) -> Mark:
    """Make the row of a closed minute of the mark price, per one coin; `values` are open, high, low, close.

    Only the close must lie between low and high: an exchange may repeat the close before as the open.
    """
    opened, high, low, close = (to_coin_price(value, instrument) for value in values)
    check_candle(close, high, low, close)
    return Mark(ts, opened, high, low, close)


def make_liquidation(ts: int, usd: str, *, of_long: bool) -> Liquidations:
    """Make the row of one liquidated position."""
    return Liquidations(ts, lql=usd if of_long else "0", lqs="0" if of_long else usd)
