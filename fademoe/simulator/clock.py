"""The exchanges' clock: the only place of the simulator that reads the time."""

from fademoe import clock

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
        return clock.now_ms() + self.offset_ms

    @staticmethod
    def host_ms() -> int:
        """Return milliseconds that never jump, for durations that a change of the offset must not touch."""
        return int(clock.monotonic_s() * 1000)
