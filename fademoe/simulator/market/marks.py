"""The mark price: the contract's price path without the wicks of single trades, one bar per minute."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from fademoe.simulator.clock import DAY_MINUTES, DAY_MS, MINUTE_MS
from fademoe.simulator.market.candles import Candles
from fademoe.simulator.market.daycache import DayCache
from fademoe.simulator.market.holes import Holes
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.noise import draw_words

MARK_DECIMALS = {"binance": 8}  # of the quoted price; on the other exchanges those of their prices
DEVIATION_PPM = 40  # largest distance of the mark price from the last price at a minute's end
REACH_PPM = 60  # largest reach of high and low beyond open and close
PPM = 1_000_000


class MarkBar(NamedTuple):
    """A minute of the mark price in units of 10 ** -find_mark_decimals; its open is the close of the minute before."""

    ts: int
    open: int
    high: int
    low: int
    close: int


MarkTuple = tuple[int, int, int, int, int]


def find_mark_decimals(instrument: Instrument) -> int:
    """Return the decimals that a contract's mark price is printed with."""
    return max(instrument.price_decimals, MARK_DECIMALS.get(instrument.exchange, 0))


class Marks:
    """Random access to the mark price of every contract."""

    def __init__(self, seed: int, candles: Candles, holes: Holes) -> None:
        """Generate the mark price of this seed; `candles` gives the prices."""
        self._seed = seed
        self._candles = candles
        self._holes = holes
        self._words = DayCache(self._make_words)

    def list_marks(self, instrument: Instrument, day: int, first: int = 0, last: int = DAY_MINUTES) -> list[MarkTuple]:
        """Return the final bars of minutes [first, last) of `day`, as tuples in the order of `MarkBar`.

        Missing minutes and minutes outside the contract's life are left out; the future is included.
        """
        start_ms = day * DAY_MS
        first = max(first, -(-(instrument.listed_ms - start_ms) // MINUTE_MS))
        if instrument.delisted_ms is not None:
            last = min(last, (instrument.delisted_ms - start_ms) // MINUTE_MS)
        if first >= last:
            return []
        words = self._words(instrument, day)
        holes = self._holes.minutes(instrument, day, "mark")
        closes = self._candles.list_closes(instrument, day)
        scale = 10 ** (find_mark_decimals(instrument) - instrument.price_decimals)
        step = 1 if scale > 1 else instrument.tick

        def close_of(minute: int) -> int:
            before = self._words(instrument, day - 1)[-1] if minute < 0 else words[minute]
            return _deviate(closes[minute + 1] * scale, before, step)

        rows = []
        c = close_of(first - 1)
        for minute in range(first, last):
            o, c = c, close_of(minute)
            if minute in holes:
                continue
            h, low = (o, c) if o > c else (c, o)
            reach = h * REACH_PPM // PPM
            word = words[minute]
            h += reach * (word >> 16 & 255) >> 8
            low -= reach * (word >> 24 & 255) >> 8
            rows.append((start_ms + minute * MINUTE_MS, o, -(-h // step) * step, low // step * step, c))
        return rows

    def read_mark(self, instrument: Instrument, ts: int) -> MarkBar | None:
        """Return the final bar that opens at `ts`; None when the exchange has none."""
        day, ms = divmod(ts, DAY_MS)
        rows = self.list_marks(instrument, day, ms // MINUTE_MS, ms // MINUTE_MS + 1)
        return MarkBar._make(rows[0]) if rows else None

    def _make_words(self, instrument: Instrument, day: int) -> array[int]:
        """Draw the random words of a day."""
        return array("I", draw_words(self._seed, "mark", instrument.key, day, count=DAY_MINUTES, code="I"))


def grow_mark(bar: MarkBar, at_ms: int) -> MarkBar:
    """Return an open bar as it is `at_ms` after its start: its close wanders from the open to a third of its way."""
    close = bar.open + (bar.close - bar.open) * min(at_ms, MINUTE_MS) // (3 * MINUTE_MS)
    return MarkBar(bar.ts, bar.open, max(bar.open, close), min(bar.open, close), close)


def _deviate(price: int, word: int, step: int) -> int:
    """Return a price up to DEVIATION_PPM away, a multiple of `step`."""
    reach = price * DEVIATION_PPM // PPM
    return (price + reach * ((word & 0xFFFF) - 32_768) // 32_768) // step * step
