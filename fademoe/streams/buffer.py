"""Between the sockets and the writer: rows that are final, kept until they are stored."""

import threading
from collections import deque

from fademoe.clock import Window
from fademoe.metrics import Row
from fademoe.store.coverage import Covered, Series
from fademoe.store.writer import Batch, group_rows
from fademoe.streams.minutes import Item

MAX_ITEMS = 200_000  # about 100 MB
MAX_ERRORS = 50


class Buffer:
    """Rows from any thread, in order of arrival; one thread takes them.

    Where there are too many, the oldest are dropped and counted: nothing is claimed of them, so they are gaps. Rows
    that replace a stored one are few and are never dropped, as the wrong row would stay.
    """

    def __init__(self, max_items: int = MAX_ITEMS) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._replacements: list[Item] = []
        self._max_items = max_items
        self._errors: deque[tuple[str, Exception]] = deque(maxlen=MAX_ERRORS)
        self._has_new = threading.Event()
        self.dropped = 0

    def put(self, items: list[Item]) -> None:
        """Add final rows."""
        with self._lock:
            for item in items:
                (self._replacements if item.replaces else self._items).append(item)
            self._drop_oldest()
        self._has_new.set()

    def wait(self, seconds: float) -> None:
        """Return as soon as rows have come since the last `take`, after `seconds` at most."""
        self._has_new.wait(max(seconds, 0.0))

    def add_error(self, unit: str, error: Exception) -> None:
        """Add an error to be recorded; the newest are kept."""
        with self._lock:
            self._errors.append((unit, error))

    def take(self) -> list[Item]:
        """Remove and return all rows; those that replace others come last."""
        with self._lock:
            self._has_new.clear()
            items = [*self._items, *self._replacements]
            self._items.clear()
            self._replacements.clear()
        return items

    def put_back(self, items: list[Item]) -> None:
        """Return rows that could not be stored, in front of what came meanwhile."""
        with self._lock:
            self._items.extendleft(item for item in reversed(items) if not item.replaces)
            self._replacements[:0] = [item for item in items if item.replaces]
            self._drop_oldest()

    def take_errors(self) -> list[tuple[str, Exception]]:
        """Remove and return the errors to be recorded."""
        with self._lock:
            errors = list(self._errors)
            self._errors.clear()
        return errors

    def __len__(self) -> int:
        """Return how many rows wait."""
        return len(self._items) + len(self._replacements)

    def _drop_oldest(self) -> None:
        while len(self._items) > self._max_items:
            self._items.popleft()
            self.dropped += 1


def to_batches(items: list[Item]) -> tuple[list[Batch], list[Covered]]:
    """Sort rows into batches for the writer, with the minutes that they prove; of doubles the last one counts."""
    rows: dict[tuple[str, str], dict[tuple[Series, int], Row]] = {}
    windows: dict[Series, list[Window]] = {}
    for feed, series, ts, row, _ in items:
        windows.setdefault(series, []).append(Window(ts, ts + feed.interval_ms))
        if row is not None:
            rows.setdefault((feed.metric, feed.interval), {})[series, ts] = row
    batches = [
        Batch(metric, interval, group_rows((series, row) for (series, _), row in by_key.items()))
        for (metric, interval), by_key in rows.items()
    ]
    return batches, [Covered(series, spans) for series, spans in windows.items()]
