"""The data that an exchange lacks, over REST and stream alike: single minutes per contract, and maintenance ranges."""

from functools import lru_cache

from fademoe.simulator.clock import DAY_MINUTES, DAY_MS, MINUTE_MS
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.noise import draw_words

MAINTENANCE_DAYS = 3  # average days between two maintenance ranges
MAINTENANCE_FIRST_MINUTE = 60
MAINTENANCE_LAST_START = 1_320
MAINTENANCE_SHORTEST = 20
MAINTENANCE_LONGEST = 60
OPEN_MINUTES = 480  # before and behind a time around which exchanges are to be open


class Holes:
    """The missing minutes. The last minute of a day always exists, so that days can be computed one by one."""

    def __init__(self, seed: int, *, enabled: bool = True, open_ms: int | None = None) -> None:
        """Generate the holes of this seed; without any when not `enabled`, without maintenance around `open_ms`."""
        self._seed = seed
        self._enabled = enabled
        at = (open_ms or 0) // MINUTE_MS
        self._open = range(0) if open_ms is None else range(at - OPEN_MINUTES, at + OPEN_MINUTES)
        self.maintenance = lru_cache(maxsize=4_096)(self._maintenance)
        self.minutes = lru_cache(maxsize=16_384)(self._minutes)

    def _maintenance(self, exchange: str, day: int) -> range:
        """Return the minutes of `day` (days since the epoch) in which the whole exchange recorded nothing."""
        lottery, start, length = draw_words(self._seed, "maintenance", exchange, day, count=3, code="H")
        if not self._enabled or lottery % MAINTENANCE_DAYS:
            return range(0)
        first = MAINTENANCE_FIRST_MINUTE + start % (MAINTENANCE_LAST_START - MAINTENANCE_FIRST_MINUTE)
        last = first + MAINTENANCE_SHORTEST + length % (MAINTENANCE_LONGEST - MAINTENANCE_SHORTEST + 1)
        is_open = day * DAY_MINUTES + first in self._open or day * DAY_MINUTES + last in self._open
        return range(0) if is_open else range(first, last)

    def _minutes(self, instrument: Instrument, day: int, kind: str) -> frozenset[int]:
        """Return the minutes of `day` that a contract lacks for a kind of data ("candle", "premium", "sample").

        About 0.05 % of all minutes are missing one by one, different ones for each kind; the others are maintenance, or
        lie between a delisting and the listing after it.
        """
        halted = self._list_halted(instrument, day)
        if not self._enabled:
            return halted
        count, *places = draw_words(self._seed, "hole", instrument.key, kind, day, count=4, code="H")
        singles = {place % (DAY_MINUTES - 1) for place in places[: (0, 0, 1, 2)[count % 4]]}
        return halted.union(singles, self.maintenance(instrument.exchange, day))

    @staticmethod
    def _list_halted(instrument: Instrument, day: int) -> frozenset[int]:
        """Return the minutes of `day` between a delisting of the contract and the listing after it."""
        if instrument.halted_from_ms is None:
            return frozenset()
        start_ms = day * DAY_MS
        return frozenset(m for m in range(DAY_MINUTES) if instrument.is_halted(start_ms + m * MINUTE_MS))
