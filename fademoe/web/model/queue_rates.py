"""How fast the queues are worked off: a few readings kept in memory, taken whenever somebody looks."""

import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from fademoe.clock import MINUTE_MS, SECOND_MS

LEAST_MS = 20 * SECOND_MS  # over less a rate is chance
LONGEST_MS = 10 * MINUTE_MS
PACE_MS = 4 * SECOND_MS  # between two readings that are kept


class Rate(NamedTuple):
    """Jobs that leave a queue per minute beyond those that come in, and when it is empty at that rate."""

    per_minute: float
    left_ms: int | None


class Samples:
    """Depths of queues over the last minutes."""

    def __init__(self) -> None:
        """Begin without readings."""
        self._lock = threading.Lock()
        self._readings: deque[tuple[int, dict[str, int]]] = deque()

    def add(self, at_ms: int, depths: Iterable[tuple[str, int]]) -> None:
        """Keep a reading, unless one was kept a moment ago."""
        with self._lock:
            if self._readings and at_ms - self._readings[-1][0] < PACE_MS:
                return
            self._readings.append((at_ms, dict(depths)))
            while at_ms - self._readings[0][0] > LONGEST_MS:
                self._readings.popleft()

    def rate(self, queue: str) -> Rate | None:
        """Return the rate of a queue, None before there is enough to tell."""
        with self._lock:
            known = [(at_ms, depths[queue]) for at_ms, depths in self._readings if queue in depths]
        if len(known) < 2 or known[-1][0] - known[0][0] < LEAST_MS:
            return None
        (first_ms, first), (last_ms, last) = known[0], known[-1]
        per_minute = (first - last) * MINUTE_MS / (last_ms - first_ms)
        return Rate(per_minute, round(last / per_minute * MINUTE_MS) if per_minute > 0 else None)
