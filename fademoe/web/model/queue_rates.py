"""How fast the queues shrink: a few readings of their depth, kept in memory and taken whenever a page is read."""

import threading
from collections import deque
from collections.abc import Iterable

from fademoe.clock import MINUTE_MS, SECOND_MS
from fademoe.web.model.answer import Answer

MIN_SPAN_MS = 20 * SECOND_MS  # over a shorter span a rate is noise
MAX_AGE_MS = 10 * MINUTE_MS
MIN_INTERVAL_MS = 4 * SECOND_MS  # between two readings that are kept


class Rate(Answer):
    """Jobs that leave a queue per minute less those that enter it; `left_ms` until it is empty at that rate."""

    per_minute: float
    left_ms: int | None


class QueueRates:
    """Depths of queues over the last minutes, shared by the threads of a process."""

    def __init__(self) -> None:
        """Begin without readings."""
        self._lock = threading.Lock()
        self._readings: deque[tuple[int, dict[str, int]]] = deque()

    def add(self, at_ms: int, depths: Iterable[tuple[str, int]]) -> None:
        """Keep a reading, unless the last one is younger than MIN_INTERVAL_MS."""
        with self._lock:
            if self._readings and at_ms - self._readings[-1][0] < MIN_INTERVAL_MS:
                return
            self._readings.append((at_ms, dict(depths)))
            while at_ms - self._readings[0][0] > MAX_AGE_MS:
                self._readings.popleft()

    def find_rate(self, queue: str) -> Rate | None:
        """Return the rate of a queue, None before the readings span MIN_SPAN_MS."""
        with self._lock:
            depths = [(at_ms, reading[queue]) for at_ms, reading in self._readings if queue in reading]
        if len(depths) < 2 or depths[-1][0] - depths[0][0] < MIN_SPAN_MS:
            return None
        (first_ms, first), (last_ms, last) = depths[0], depths[-1]
        per_minute = (first - last) * MINUTE_MS / (last_ms - first_ms)
        return Rate(per_minute=per_minute, left_ms=round(last / per_minute * MINUTE_MS) if per_minute > 0 else None)
