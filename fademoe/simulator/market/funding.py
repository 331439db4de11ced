"""Funding: settled rates at intervals that differ by contract and change over time, and the current estimate."""

from typing import NamedTuple

from fademoe.simulator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.simulator.market.candles import Candles
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.noise import draw_number, draw_smooth_noise

RATE_DECIMALS = 8
REGIME_DAYS = 12  # days, from midnight, after which the interval of a changing contract changes
_CHANGING = 5  # 1 contract in 5 changes its interval
_RATE_REACH = 60_000  # in units of 10 ** -8
_JITTERS = (0, 0, 0, 0, 1, 2, 0, 3, 5, 8, 2, 0, 10, 14, 1, 20)


class Settlement(NamedTuple):
    """A settled rate: exact time, rate in units of 10 ** -8, hours since the previous settlement, a price."""

    ts: int
    rate: int
    hours: int
    price: int


class Funding:
    """Random access to the funding of every perpetual; dated contracts have none."""

    def __init__(self, seed: int, candles: Candles) -> None:
        """Generate the funding of this seed; `candles` gives the price at settlement."""
        self._seed = seed
        self._candles = candles

    def find_hours(self, instrument: Instrument, at_ms: int) -> int:
        """Return the funding interval in hours at `at_ms`; at its end, the next interval counts."""
        dice = draw_number(self._seed, "regime", instrument.key)
        if dice % _CHANGING or instrument.coin.name in ("BTC", "ETH"):
            return instrument.funding_hours
        regime = (at_ms // DAY_MS + (dice >> 8) % REGIME_DAYS) // REGIME_DAYS
        if regime % 2:
            return instrument.funding_hours
        return 8 if instrument.funding_hours < 8 else 4

    def find_next_ms(self, instrument: Instrument, at_ms: int) -> int:
        """Return the first settlement after `at_ms`, 0 for a contract without funding."""
        if instrument.kind == "dated":
            return 0
        interval_ms = self.find_hours(instrument, at_ms) * HOUR_MS
        return at_ms // interval_ms * interval_ms + interval_ms

    def list_settlements(
        self, instrument: Instrument, start_ms: int, end_ms: int, limit: int | None = None
    ) -> list[Settlement]:
        """Return the first `limit` settlements with start_ms <= ts < end_ms, oldest first; the future is included."""
        if instrument.kind == "dated":
            return []
        at_ms = max(start_ms, instrument.listed_ms + 1) - 1
        end_ms = min(end_ms, instrument.delisted_ms or end_ms)
        settlements: list[Settlement] = []
        while True:
            hours = self.find_hours(instrument, at_ms)
            at_ms = self.find_next_ms(instrument, at_ms)
            if at_ms >= end_ms or len(settlements) == limit:
                return settlements
            if not instrument.is_halted(at_ms):
                price = self._candles.estimate_price(instrument, at_ms)
                settlements.append(Settlement(at_ms, self._rate(instrument, at_ms, hours), hours, price))

    def list_last_settlements(self, instrument: Instrument, end_ms: int, count: int) -> list[Settlement]:
        """Return the newest `count` settlements before `end_ms`, oldest first."""
        settlements: list[Settlement] = []
        start_ms = end_ms
        while len(settlements) < count and start_ms > instrument.listed_ms:
            end_ms, start_ms = start_ms, max(instrument.listed_ms, start_ms - REGIME_DAYS * DAY_MS)
            settlements = self.list_settlements(instrument, start_ms, end_ms) + settlements
        return settlements[-count:] if count else []

    def estimate(self, instrument: Instrument, at_ms: int) -> int:
        """Return the estimate of the next rate in units of 10 ** -8; it changes at full minutes only."""
        next_ms = self.find_next_ms(instrument, at_ms)
        if not next_ms:
            return 0
        hours = self.find_hours(instrument, at_ms)
        minute = at_ms // MINUTE_MS
        error = draw_smooth_noise(self._seed, "estimate", instrument.key, position=minute, period=9, amplitude=4_000)
        left_ms = next_ms - minute * MINUTE_MS
        return self._rate(instrument, next_ms, hours) + error * left_ms // (hours * HOUR_MS)

    def draw_jitter_ms(self, instrument: Instrument, ts: int) -> int:
        """Return by how many ms (0 to 20) the printed time of a settlement is late."""
        return _JITTERS[draw_number(self._seed, "jitter", instrument.key, ts) % len(_JITTERS)]

    def _rate(self, instrument: Instrument, ts: int, hours: int) -> int:
        """Return the settled rate: the base rate in a third of the cases, as exchanges clamp small premiums to it."""
        if draw_number(self._seed, "clamp", instrument.key, ts) % 3 == 0:
            return 10_000 * hours // 8
        return draw_smooth_noise(
            self._seed, "rate", instrument.key, position=ts // HOUR_MS, period=29, amplitude=_RATE_REACH
        )
