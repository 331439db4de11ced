"""Closes of the minutes of a window in an array: as a dictionary those of a month take twenty times the memory."""

import numpy as np
from numpy.typing import NDArray

from fademoe.clock import HOUR_MS, MINUTE_MS, Window, ceil_to


class MinuteCloses:
    """Closes by the open times of their minutes, within a window; a minute has one close or none."""

    def __init__(self, window: Window) -> None:
        """Begin without any."""
        self._start_ms = ceil_to(window.start_ms, MINUTE_MS)
        self._values = np.full(max(0, window.end_ms - self._start_ms + MINUTE_MS - 1) // MINUTE_MS, np.nan)

    def put(self, times: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Take closes; those outside the window, and between two minutes, are left out."""
        places, rest = np.divmod(times - self._start_ms, MINUTE_MS)
        inside = (places >= 0) & (places < len(self._values)) & (rest == 0)
        self._values[places[inside]] = values[inside]

    def add(self, other: "MinuteCloses") -> None:
        """Take what another one has; it counts before what is here."""
        places = np.flatnonzero(~np.isnan(other._values))
        self.put(other._start_ms + places * MINUTE_MS, other._values[places])

    def count(self, window: Window) -> int:
        """Return how many minutes of a window have a close."""
        return int(np.count_nonzero(~np.isnan(self._values[self._slice(window)])))

    def has_any_hour(self, window: Window) -> bool:
        """Return whether some full hour, counted from the begin of a window, has a close."""
        return not bool(np.isnan(self._values[self._slice(window)][:: HOUR_MS // MINUTE_MS]).all())

    def read(self, window: Window) -> dict[int, float]:
        """Return the closes of a window by the open times of their minutes."""
        part = self._slice(window)
        values = self._values[part]
        places = np.flatnonzero(~np.isnan(values))
        times = self._start_ms + (part.start + places) * MINUTE_MS
        return dict(zip(times.tolist(), values[places].tolist(), strict=True))

    def _slice(self, window: Window) -> slice:
        first = max(0, ceil_to(window.start_ms, MINUTE_MS) - self._start_ms) // MINUTE_MS
        last = max(0, ceil_to(window.end_ms, MINUTE_MS) - self._start_ms) // MINUTE_MS
        return slice(min(first, len(self._values)), min(last, len(self._values)))
