"""Slow quantities: premium index, open interest, and the share of accounts that are long."""

from __future__ import annotations

from array import array
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from fademoe.simulator.clock import DAY_MINUTES, DAY_MS, MINUTE_MS
from fademoe.simulator.market.candles import Candles
from fademoe.simulator.market.daycache import DayCache
from fademoe.simulator.market.holes import Holes
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.moves import CROWD_SHARE, INTEREST_PPM, Moves
from fademoe.simulator.market.noise import PPM, draw_number, draw_smooth_noise, draw_words

PREMIUM_DECIMALS = {"binance": 8, "bybit": 6, "okx": 16}
RATIO_DECIMALS = 4
_BASE_DECIMALS = 8
_PREMIUM_WAVES = ((240, 55_000), (20, 12_000))  # (minutes between knots, reach in units of 10 ** -8)
_INTEREST_WAVES = ((360, 80_000), (7, 3_000))  # (minutes, ppm)
_RATIO_WAVES = ((720, 1_500), (35, 150))  # (minutes, ten thousandths)
_INTEREST_IN_MINUTES = 45  # minutes whose turnover is the open interest


class PremiumBar(NamedTuple):
    """A minute of the premium index in units of 10 ** -PREMIUM_DECIMALS of the exchange; `open` is its first sample.

    Bybit prints the previous minute's close as the open instead, which may lie outside [low, high].
    """

    ts: int
    open: int
    high: int
    low: int
    close: int


PremiumTuple = tuple[int, int, int, int, int]


class Gauges:
    """Random access to the gauges of every contract."""

    def __init__(self, seed: int, candles: Candles, holes: Holes, moves: Moves) -> None:
        """Generate the gauges of this seed; `candles` gives the prices."""
        self._seed = seed
        self._candles = candles
        self._holes = holes
        self._moves = moves
        self._words = DayCache(self._make_words)
        self._interest = lru_cache(maxsize=8_192)(self._make_interest)
        self._usual_interest = lru_cache(maxsize=8_192)(self._make_usual_interest)

    def list_premiums(
        self, instrument: Instrument, day: int, first: int = 0, last: int = DAY_MINUTES
    ) -> list[PremiumTuple]:
        """Return the premium index of minutes [first, last) of `day`, as tuples in the order of `PremiumBar`.

        Missing minutes and minutes outside the contract's life are left out; the future is included.
        """
        start_ms = day * DAY_MS
        first = max(first, -(-(instrument.listed_ms - start_ms) // MINUTE_MS))
        if instrument.delisted_ms is not None:
            last = min(last, (instrument.delisted_ms - start_ms) // MINUTE_MS)
        if first >= last:
            return []
        words = self._words(instrument, day)
        holes = self._holes.minutes(instrument, day, "premium")
        position = day * DAY_MINUTES + first
        waves = [self._wave(instrument, position, last - first, period, reach) for period, reach in _PREMIUM_WAVES]
        decimals = PREMIUM_DECIMALS[instrument.exchange]
        rows = []
        for minute, level in enumerate(map(sum, zip(*waves, strict=True)), first):
            if minute in holes:
                continue
            w = words[minute]
            level += self._moves.raise_premium(instrument, day * DAY_MINUTES + minute)
            o, c = level + (w & 8_191) - 4_096, level + (w >> 13 & 8_191) - 4_096
            h, low = (o, c) if o > c else (c, o)
            bar = o, h + (w >> 26 & 8_191), low - (w >> 39 & 8_191), c
            if decimals < _BASE_DECIMALS:
                o, h, low, c = (value // 10 ** (_BASE_DECIMALS - decimals) for value in bar)
            elif decimals > _BASE_DECIMALS:
                scale = 10 ** (decimals - _BASE_DECIMALS)
                o, h, low, c = (value * scale + w % scale for value in bar)
            else:
                o, h, low, c = bar
            rows.append((start_ms + minute * MINUTE_MS, o, h, low, c))
        return rows

    def read_premium(self, instrument: Instrument, ts: int) -> PremiumBar | None:
        """Return the premium index of the minute that opens at `ts`; None when the exchange has none."""
        day, ms = divmod(ts, DAY_MS)
        rows = self.list_premiums(instrument, day, ms // MINUTE_MS, ms // MINUTE_MS + 1)
        return PremiumBar._make(rows[0]) if rows else None

    def read_open_interest(self, instrument: Instrument, at_ms: int) -> int:
        """Return the open interest of one side in lots.

        It changes right after a full minute, so the value seen within a minute is the value at its end.
        """
        return self._interest(instrument, -(-at_ms // MINUTE_MS))

    def read_open_interest_value(self, instrument: Instrument, at_ms: int) -> int:
        """Return the open interest of one side in quote currency, in units of 10 ** -quote_decimals."""
        minute_ms = -(-at_ms // MINUTE_MS) * MINUTE_MS
        return self.read_open_interest(instrument, at_ms) * self._candles.read_price(instrument, minute_ms)

    def read_long_share(self, instrument: Instrument, at_ms: int) -> int:
        """Return the share of accounts that are long, in ten thousandths; it changes at full minutes only."""
        minute = at_ms // MINUTE_MS
        usual = 5_400 + self._waves(instrument, "accounts", minute, _RATIO_WAVES)
        return usual + self._moves.scale({"crowd": CROWD_SHARE}, instrument.coin, minute)

    def has_sample(self, instrument: Instrument, at_ms: int) -> bool:
        """Tell whether the exchange has samples (open interest, ratio) of the instant `at_ms`.

        Samples are missing during maintenance, outside the contract's life, and in some single minutes.
        """
        if not instrument.is_trading(at_ms):
            return False
        day, ms = divmod(at_ms, DAY_MS)
        return ms // MINUTE_MS not in self._holes.minutes(instrument, day, "sample")

    def _waves(self, instrument: Instrument, name: str, minute: int, waves: tuple[tuple[int, int], ...]) -> int:
        """Return the sum of some waves at one minute."""
        return sum(
            draw_smooth_noise(self._seed, name, instrument.key, position=minute, period=period, amplitude=reach)
            for period, reach in waves
        )

    def _wave(self, instrument: Instrument, position: int, count: int, period: int, reach: int) -> list[int]:
        """Return `count` minutes of one wave of the premium; each knot is drawn once."""
        wave: list[int] = []
        first_knot = position // period
        last_knot = (position + count - 1) // period + 1
        knots = [
            draw_number(self._seed, "wave", instrument.key, period, knot) % (2 * reach + 1) - reach
            for knot in range(first_knot, last_knot + 1)
        ]
        for left, right in pairwise(knots):
            wave += [left + (right - left) * step // period for step in range(period)]
        skipped = position - first_knot * period
        return wave[skipped : skipped + count]

    def _make_words(self, instrument: Instrument, day: int) -> array[int]:
        """Draw the random words of a day of the premium."""
        return array("Q", draw_words(self._seed, "premium", instrument.key, day, count=DAY_MINUTES, code="Q"))

    def _make_interest(self, instrument: Instrument, minute: int) -> int:
        """Return the open interest of a minute in lots."""
        ppm = PPM + self._waves(instrument, "interest", minute, _INTEREST_WAVES)
        ppm += self._moves.scale(INTEREST_PPM, instrument.coin, minute)
        return self._usual_interest(instrument) * ppm // PPM

    def _make_usual_interest(self, instrument: Instrument) -> int:
        """Return the mean open interest in lots, from turnover and mean price."""
        middle = int(instrument.coin.price.scaleb(instrument.price_decimals + instrument.price_shift))
        usd = instrument.usd_per_minute * _INTEREST_IN_MINUTES
        units: int = 10**instrument.quote_decimals
        return max(1_000, usd * units // max(1, middle))
