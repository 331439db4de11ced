"""One-minute candles: a price path per coin, and each exchange's candles on it, final or still growing.

A day's path is a random walk between two anchors that do not depend on earlier days, so a minute of any year costs
the computation of one day. All numbers are integers in the contract's units (see instrument.py).
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

from fademoe.simulator.clock import DAY_MINUTES, DAY_MS, MINUTE_MS
from fademoe.simulator.market.daycache import DayCache
from fademoe.simulator.market.holes import Holes
from fademoe.simulator.market.instrument import Coin, Instrument
from fademoe.simulator.market.moves import TURNOVER_FACTOR, Moves
from fademoe.simulator.market.noise import PPM, build_heavy_tail, draw_number, draw_smooth_noise, draw_words

PATH_DIGITS = 12  # digits of a path's numbers, whatever the coin's price is
WALK_PPM = 450  # largest step of a minute
WICK_PPM = 260  # largest reach of high and low beyond open and close
SPREAD_PPM = 180  # largest distance of an exchange's price from the coin's
DRIFTS = ((1, 9_000), (5, 25_000), (23, 60_000), (101, 120_000))  # (days between knots, ppm)
VOLUME_FACTORS = build_heavy_tail(256, 60, 2)  # in 1024ths of the usual volume
SMALLEST_VOLUME = 7  # lots in a minute with trades
FEWEST_TRADES = 4


class Bar(NamedTuple):
    """A one-minute candle in the contract's units; `quote_volume` in units of 10 ** -quote_decimals."""

    ts: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trades: int
    buy_volume: int
    buy_quote_volume: int


BarTuple = tuple[int, int, int, int, int, int, int, int, int, int]


class DaySource:
    """The inputs of a contract's candles of one day."""

    __slots__ = ("before", "closes", "holes", "moving", "quiet", "usual_volume", "wick", "words")

    def __init__(
        self, before: int, closes: array[int], words: array[int], quiet: frozenset[int], holes: frozenset[int]
    ) -> None:
        """Keep the close before the day, 1440 closes, 1440 random words, and the quiet and the missing minutes."""
        self.before = before
        self.closes = closes
        self.words = words
        self.quiet = quiet
        self.holes = holes
        self.moving: frozenset[int] = frozenset()  # minutes in which the price makes a move
        self.usual_volume = 0
        self.wick = 0


class Candles:
    """Random access to every candle of every contract."""

    def __init__(self, seed: int, holes: Holes, moves: Moves) -> None:
        """Generate the candles of this seed."""
        self._seed = seed
        self._moves = moves
        self._holes = holes
        self._anchor = lru_cache(maxsize=16_384)(self._make_anchor)
        self._path = lru_cache(maxsize=512)(self._make_path)
        self._source = DayCache(self._make_source)

    def list_bars(self, instrument: Instrument, day: int, first: int = 0, last: int = DAY_MINUTES) -> list[BarTuple]:
        """Return the final candles of minutes [first, last) of `day`, as tuples in the order of `Bar`.

        Missing minutes and minutes outside the contract's life are left out; the future is included.
        """
        start_ms = day * DAY_MS
        first = max(first, -(-(instrument.listed_ms - start_ms) // MINUTE_MS))
        if instrument.delisted_ms is not None:
            last = min(last, (instrument.delisted_ms - start_ms) // MINUTE_MS)
        if first >= last:
            return []
        source = self._source(instrument, day)
        closes, words, quiet, holes, moving = source.closes, source.words, source.quiet, source.holes, source.moving
        usual, wick, tick, factors = source.usual_volume, source.wick, instrument.tick, VOLUME_FACTORS
        trades_base = min(2_000, 2 + usual // 40)
        c = closes[first - 1] if first else source.before
        bars = []
        for minute in range(first, last):
            o = c
            c = closes[minute]
            if minute in holes:
                continue
            ts = start_ms + minute * MINUTE_MS
            if minute in quiet:
                bars.append((ts, c, c, c, c, 0, 0, 0, 0, 0))
                continue
            w = words[minute]
            h, low = (o, c) if o > c else (c, o)
            h += ((w >> 8 & 255) * wick >> 8) * tick
            low -= ((w >> 16 & 255) * wick >> 8) * tick
            factor = factors[w & 255]
            if minute in moving:
                factor *= TURNOVER_FACTOR
            v = (usual * factor >> 10) + (w >> 48) % 89 + SMALLEST_VOLUME
            q = v * ((o + h + low + c) >> 2)
            if h > low:
                q += (w >> 48) * v >> 16
            n = FEWEST_TRADES + (trades_base * factor >> 10)
            buy = v * (64 + (w >> 24 & 127)) >> 8
            bars.append((ts, o, h, low, c, v, q, n if n < v else v, buy, q * buy // v))
        return bars

    def read_bar(self, instrument: Instrument, ts: int) -> Bar | None:
        """Return the final candle that opens at `ts`; None when the exchange has none."""
        day, ms = divmod(ts, DAY_MS)
        bars = self.list_bars(instrument, day, ms // MINUTE_MS, ms // MINUTE_MS + 1)
        return Bar._make(bars[0]) if bars else None

    def read_growing_bar(self, instrument: Instrument, ts: int, step: int, steps: int) -> Bar | None:
        """Return the candle that opens at `ts` after `step` of `steps` of its trades; None when there is none."""
        bar = self.read_bar(instrument, ts)
        return bar and grow(bar, step, steps, instrument.tick)

    def read_price(self, instrument: Instrument, at_ms: int) -> int:
        """Return the last price at an instant, in the contract's price units; missing minutes have one too."""
        day, ms = divmod(at_ms, DAY_MS)
        source = self._source(instrument, day)
        minute, ms = divmod(ms, MINUTE_MS)
        before = source.closes[minute - 1] if minute else source.before
        return before + (source.closes[minute] - before) * ms // MINUTE_MS // instrument.tick * instrument.tick

    def list_closes(self, instrument: Instrument, day: int) -> list[int]:
        """Return the last price before `day`, then that at the end of each of its minutes, also of missing ones."""
        source = self._source(instrument, day)
        return [source.before, *source.closes]

    def estimate_price(self, instrument: Instrument, at_ms: int) -> int:
        """Return a price within some percent of the last one without generating the day."""
        day, ms = divmod(at_ms, DAY_MS)
        start, end = self._anchor(instrument.coin, day), self._anchor(instrument.coin, day + 1)
        return (start + (end - start) * ms // DAY_MS) * PPM // self._divisor(instrument) * instrument.tick

    def is_quiet(self, instrument: Instrument, ts: int) -> bool:
        """Tell whether the minute that opens at `ts` has no trade."""
        day, ms = divmod(ts, DAY_MS)
        return ms // MINUTE_MS in self._source(instrument, day).quiet

    def _make_anchor(self, coin: Coin, day: int) -> int:
        """Return the coin's price at the start of `day`, in path units."""
        base = int(coin.price.scaleb(_path_decimals(coin)))
        drift = sum(
            draw_smooth_noise(self._seed, "drift", coin.name, position=day, period=period, amplitude=amplitude)
            for period, amplitude in DRIFTS
        )
        return base * (PPM + drift) // PPM

    def _make_path(self, coin: Coin, day: int) -> array[int]:
        """Return the coin's price at the end of each minute of `day`, in path units."""
        start, end = self._anchor(coin, day), self._anchor(coin, day + 1)
        reach = start * WALK_PPM // PPM
        words = draw_words(self._seed, "walk", coin.name, day, count=DAY_MINUTES, code="H")
        walk = list(accumulate((word - 32_768) * reach >> 15 for word in words))
        miss = end - start - walk[-1]
        path = array("q", [start + step + miss * minute // DAY_MINUTES for minute, step in enumerate(walk, 1)])
        for minute, away_ppm in self._moves.list_price_moves(coin, day).items():
            path[minute] += path[minute] * away_ppm // PPM
        return path

    def _make_source(self, instrument: Instrument, day: int) -> DaySource:
        """Derive an exchange's prices from the coin's path: spread, tick, quiet minutes."""
        coin = instrument.coin
        divisor = self._divisor(instrument)
        tick = instrument.tick
        before = self._anchor(coin, day) * self._spread(instrument, day - 1) // divisor * tick
        spread = self._spread(instrument, day)
        closes = array("q", [price * spread // divisor * tick for price in self._path(coin, day)])
        words = array("Q", draw_words(self._seed, "minute", instrument.key, day, count=DAY_MINUTES, code="Q"))
        rarity = _quiet_share(instrument.usd_per_minute)
        quiet = [m for m in range(DAY_MINUTES - 1) if (words[m] >> 32 & 0xFFFF) < rarity] if rarity else []
        for minute in quiet:
            closes[minute] = closes[minute - 1] if minute else before
        factor, until_ms = instrument.relisted_factor, instrument.halted_until_ms
        if factor != 1 and until_ms is not None:  # the minute before has it, too: it is the open of the first one
            first = max(0, min(DAY_MINUTES, (until_ms - day * DAY_MS) // MINUTE_MS - 1))
            closes = array("q", [*closes[:first], *(price * factor for price in closes[first:])])
            before *= factor if until_ms <= day * DAY_MS else 1
        source = DaySource(before, closes, words, frozenset(quiet), self._holes.minutes(instrument, day, "candle"))
        source.moving = frozenset(self._moves.list_price_moves(coin, day))
        source.wick = max(2, before * WICK_PPM // PPM // tick)
        source.usual_volume = max(20, instrument.usd_per_minute * 10**instrument.quote_decimals // max(before, 1))
        return source

    @staticmethod
    def _divisor(instrument: Instrument) -> int:
        """Return the path units (times a million, for the spread) per tick."""
        decimals = _path_decimals(instrument.coin) - instrument.price_decimals - instrument.price_shift
        units: int = 10**decimals
        return units * PPM * instrument.tick

    def _spread(self, instrument: Instrument, day: int) -> int:
        """Return the exchange's price on `day` in millionths of the coin's price."""
        return PPM + draw_number(self._seed, "spread", instrument.key, day) % (2 * SPREAD_PPM + 1) - SPREAD_PPM


def replace_close(bar: Bar) -> Bar:
    """Return a closed bar with a wrong close, as an exchange may send it by mistake before the right one."""
    return bar._replace(close=bar.high if bar.close != bar.high else bar.low)


def grow(bar: Bar, step: int, steps: int, tick: int) -> Bar:
    """Return a final candle as it was after `step` of `steps` of its trades: none at 0, final at `steps`."""
    if step >= steps or not bar.trades:
        return bar
    trades = bar.trades * step // steps
    if not trades:
        return Bar(bar.ts, bar.open, bar.open, bar.open, bar.open, 0, 0, 0, 0, 0)
    close, high, low = _price_at(bar, step, steps, tick)
    volume = bar.volume * step // steps
    quote = bar.quote_volume * volume // bar.volume
    buy = bar.buy_volume * step // steps
    return Bar(bar.ts, bar.open, high, low, close, volume, quote, trades, buy, quote * buy // volume)


def _path_decimals(coin: Coin) -> int:
    """Return the decimals of the coin's path units."""
    return PATH_DIGITS - coin.price.adjusted()


def _quiet_share(usd_per_minute: int) -> int:
    """Return how many of 65536 minutes have no trade: 0 for big contracts, about 6 % for the smallest."""
    return 0 if usd_per_minute >= 300_000 else min(4_000, 60_000_000 // usd_per_minute)


def _price_at(bar: Bar, step: int, steps: int, tick: int) -> tuple[int, int, int]:
    """Return price, high and low so far: straight lines from open over both extremes to the close."""
    is_up_first = bar.close < bar.open
    knots = (
        (0, bar.open),
        (steps // 4, bar.high if is_up_first else bar.low),
        (steps * 2 // 3, bar.low if is_up_first else bar.high),
        (steps, bar.close),
    )
    high = low = price = bar.open
    for (left, start), (right, end) in pairwise(knots):
        if step <= left or right == left:
            continue
        at = min(step, right)
        price = start + (end - start) * (at - left) // (right - left) // tick * tick
        high, low = max(high, price), min(low, price)
    return price, high, low
