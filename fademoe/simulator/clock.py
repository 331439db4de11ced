"""The exchanges' clock: the only place of the simulator that reads the time."""

import time

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
DAY_MINUTES = 1_440


class Clock:
    """A clock that may run ahead of or behind the host's, as an exchange's does."""

    def __init__(self, offset_ms: int = 0) -> None:
        """Start `offset_ms` ahead of the host (negative: behind it)."""
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        """Return the exchanges' time in milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000 + self.offset_ms

    @staticmethod
    def host_ms() -> int:
        """Return milliseconds that only ever grow, for durations that a change of the offset must not touch."""
        return time.monotonic_ns() // 1_000_000
