"""Reads a whole page of candles column by column: exact and as strict as reading row by row, in half of the time.

Whatever is not as expected raises BadPayload; the page is then read row by row, which names the bad row.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, repeat
from operator import le

from fademoe.clock import EARLIEST_MS, LATEST_MS
from fademoe.errors import BadPayload
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.symbols import find_power_of_ten
from fademoe.feeds.values import MAX_COUNT, are_amounts, shift
from fademoe.metrics import Candle, Mark

MS_DIGITS = 13  # of a time in ms, from 2001 to 2286
EXACT_LENGTH = 16  # fifteen digits and a point: different decimals of that length are different floats
VALUES = 6  # open, high, low, close, volume, quote volume
SHIFTS = (-1, -1, -1, -1, 1, 0, 1)  # which way a multiplier shifts them and the taker volume, to be per coin

_make_mark = partial(tuple.__new__, Mark)
_make_candle = partial(tuple.__new__, Candle)  # takes a third of the time of the class itself


def split_columns(items: Sequence[Json], width: int) -> list[tuple[Json, ...]]:
    """Return the columns of rows that are lists of `width` values; raise BadPayload for other rows."""
    if not items:
        return [()] * width
    if set(map(type, items)) != {list} or set(map(len, items)) != {width}:
        raise BadPayload(f"not all rows are lists of {width} values")
    return list(zip(*items, strict=True))


def read_times(column: Sequence[Json]) -> list[int]:
    """Read a column of times in ms, all integers or all their digits; raise BadPayload as `values.to_ms` does."""
    times = list(column)
    if set(map(type, times)) == {str}:
        if set(map(len, times)) != {MS_DIGITS} or not "".join(times).isdecimal():
            raise BadPayload("not all times are in ms")
        times = list(map(int, times))
    if times and not (set(map(type, times)) == {int} and min(times) >= EARLIEST_MS and max(times) < LATEST_MS):
        raise BadPayload("not all times are in ms")
    return times


def read_candles(
    instrument: Instrument, times: Sequence[int], columns: Sequence[Sequence[Json]], trades: Sequence[Json] = ()
) -> list[Candle]:
    """Make the rows of closed candles, per one coin, as `rows.candle` makes one.

    `columns` are open, high, low, close, volume and quote volume, and where it is sent taker-buy volume; `trades` is
    empty where their number is not sent.
    """
    if not times:
        return []
    _check(columns, trades)
    if instrument.multiplier != 1:
        power = find_power_of_ten(instrument.multiplier)
        columns = [_shift(column, power * way) for column, way in zip(columns, SHIFTS, strict=False)]
    counts: Iterable[int | None] = trades or repeat(None)
    taker: Iterable[str | None] = columns[VALUES] if len(columns) > VALUES else repeat(None)
    return list(map(_make_candle, zip(times, *columns[:VALUES], counts, taker, strict=False)))


def read_marks(instrument: Instrument, times: Sequence[int], columns: Sequence[Sequence[Json]]) -> list[Mark]:
    """Make the rows of closed minutes of the mark price, per one coin, as `rows.make_mark` makes one.

    `columns` are open, high, low and close.
    """
    if not times:
        return []
    opens, highs, lows, closes = _make_comparable(columns)
    if not (all(map(le, lows, closes)) and all(map(le, closes, highs))):
        raise BadPayload("the close of a mark price lies outside its low and high")
    if not (float(min(lows)) > 0 and float(min(opens)) > 0):
        raise BadPayload("a mark price is zero")
    if instrument.multiplier != 1:
        columns = [_shift(column, -find_power_of_ten(instrument.multiplier)) for column in columns]
    return list(map(_make_mark, zip(times, *columns, strict=True)))


def _check(columns: Sequence[Sequence[Json]], trades: Sequence[Json]) -> None:
    """Raise BadPayload unless all values are decimals, low <= open, close <= high, and low is above zero."""
    opens, highs, lows, closes = _make_comparable(columns[:4])
    if not are_amounts(list(chain.from_iterable(columns[4:]))):
        raise BadPayload("not all values are non-negative decimals")
    inner = (opens, closes)
    if not all(all(map(le, lows, prices)) and all(map(le, prices, highs)) for prices in inner):
        raise BadPayload("open or close of a candle lies outside its low and high")
    if not float(min(lows)) > 0:
        raise BadPayload("a price is zero")
    if trades and not (set(map(type, trades)) == {int} and min(trades) >= 0 and max(trades) < MAX_COUNT):
        raise BadPayload("a number of trades is not a count")


def _make_comparable(prices: Sequence[Sequence[Json]]) -> Sequence[Sequence[str] | Sequence[float]]:
    """Return columns of prices such that what is less or equal in them is so in number; raise BadPayload for others.

    Texts with equally many digits before the point are compared as they are: "30709.9" < "30710" < "30710.5". Of equal
    numbers the shorter text is the lesser one, so "30710.0" beside "30710" may only be taken for more than it is.
    Otherwise floats are compared, of texts up to EXACT_LENGTH.
    """
    values = list(chain.from_iterable(prices))
    if are_amounts(values, whole_digits=len(str(values[0]).partition(".")[0])):
        return prices
    if not are_amounts(values):
        raise BadPayload("not all values are non-negative decimals")
    if max(map(len, values)) > EXACT_LENGTH:
        raise BadPayload("prices are too long to be compared as floats")
    return [list(map(float, column)) for column in prices]


def _shift(column: Sequence[str], power: int) -> Sequence[str]:
    return [shift(value, power) for value in column] if power else column
