"""What an exchange does not have, over REST and stream alike: single minutes per contract, and maintenance ranges."""

from functools import lru_cache

from fademoe.simulator.clock import DAY_MINUTES
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.noise import draw_words

MAINTENANCE_DAYS = 3  # on average one maintenance in so many days
MAINTENANCE_FIRST_MINUTE = 60
MAINTENANCE_LAST_START = 1_320
MAINTENANCE_SHORTEST = 20
MAINTENANCE_LONGEST = 60


class Holes:
    """The missing minutes. A day's last minute always exists, so that days join without looking at each other."""

    def __init__(self, seed: int, *, enabled: bool = True) -> None:
        """Make the holes of this seed; none at all when not `enabled`."""
        self._seed = seed
        self._enabled = enabled
        self.maintenance = lru_cache(maxsize=4_096)(self._maintenance)
        self.minutes = lru_cache(maxsize=16_384)(self._minutes)

    def _maintenance(self, exchange: str, day: int) -> range:
        """Return the minutes of `day` (days since the epoch) in which the whole exchange recorded nothing."""
        lottery, start, length = draw_words(self._seed, "maintenance", exchange, day, count=3, code="H")
        if not self._enabled or lottery % MAINTENANCE_DAYS:
            return range(0)
        first = MAINTENANCE_FIRST_MINUTE + start % (MAINTENANCE_LAST_START - MAINTENANCE_FIRST_MINUTE)
        return range(first, first + MAINTENANCE_SHORTEST + length % (MAINTENANCE_LONGEST - MAINTENANCE_SHORTEST + 1))

    def _minutes(self, instrument: Instrument, day: int, kind: str) -> frozenset[int]:
        """Return the minutes of `day` that the contract lacks for a kind of data ("candle", "premium", "sample").

        About 0.05 % of them are single minutes, different for each kind; the rest is the exchange's maintenance.
        """
        if not self._enabled:
            return frozenset()
        count, *places = draw_words(self._seed, "hole", instrument.key, kind, day, count=4, code="H")
        singles = {place % (DAY_MINUTES - 1) for place in places[: (0, 0, 1, 2)[count % 4]]}
        return frozenset(singles.union(self.maintenance(instrument.exchange, day)))
