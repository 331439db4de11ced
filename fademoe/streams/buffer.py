"""Between the sockets and the writer: rows that are final, kept until they are stored."""

import logging
import threading
from collections import deque

from fademoe.clock import Window
from fademoe.metrics import Row
from fademoe.store.coverage import Covered, Series
from fademoe.store.writer import Batch
from fademoe.streams.minutes import Item

log = logging.getLogger(__name__)

MOST_ITEMS = 200_000  # about 100 MB; the oldest give way, and are then a gap that history fills


class Buffer:
    """Rows from any thread, in order of arrival; one thread takes them."""

    def __init__(self, most: int = MOST_ITEMS) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._items: deque[Item] = deque(maxlen=most)
        self._faults: deque[tuple[str, Exception]] = deque(maxlen=50)
        self.dropped = 0

    def put(self, items: list[Item]) -> None:
        """Add final rows."""
        with self._lock:
            room = (self._items.maxlen or 0) - len(self._items)
            self.dropped += max(0, len(items) - room)
            self._items.extend(items)

    def complain(self, unit: str, error: Exception) -> None:
        """Add an error to be recorded; the newest 50 are kept."""
        with self._lock:
            self._faults.append((unit, error))

    def take(self) -> list[Item]:
        """Remove and return all rows."""
        with self._lock:
            items = list(self._items)
            self._items.clear()
        return items

    def put_back(self, items: list[Item]) -> None:
        """Return rows that could not be stored, in front of what came meanwhile."""
        with self._lock:
            room = (self._items.maxlen or 0) - len(self._items)
            kept = items[-room:] if room else []
            self.dropped += len(items) - len(kept)
            self._items.extendleft(reversed(kept))

    def take_faults(self) -> list[tuple[str, Exception]]:
        """Remove and return the errors to be recorded."""
        with self._lock:
            faults = list(self._faults)
            self._faults.clear()
        return faults

    def __len__(self) -> int:
        """Return how many rows wait."""
        return len(self._items)


def to_batches(items: list[Item]) -> tuple[list[Batch], list[Covered]]:
    """Sort rows into batches for the writer, with the minutes that they prove; of doubles the first counts."""
    rows: dict[tuple[str, str], dict[tuple[Series, int], Row]] = {}
    windows: dict[Series, list[Window]] = {}
    for feed, series, ts, row, _ in items:
        windows.setdefault(series, []).append(Window(ts, ts + feed.interval_ms))
        if row is not None:
            rows.setdefault((feed.metric, feed.interval), {}).setdefault((series, ts), row)
    batches = [
        Batch(metric, interval, [(series, found[series, ts]) for series, ts in sorted(found)])
        for (metric, interval), found in rows.items()
    ]
    return batches, [Covered(series, found) for series, found in windows.items()]
