"""The exchanges' clock: the only module of the simulator that reads the time."""

from fademoe import clock

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
DAY_MINUTES = 1_440


class Clock:
    """A clock with an offset to the host's clock, as the clock of an exchange has."""

    def __init__(self, offset_ms: int = 0) -> None:
        """Set the offset to the host's clock in ms; a negative offset is behind it."""
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        """Return the exchanges' time: ms since the epoch, UTC."""
        return clock.now_ms() + self.offset_ms

    @staticmethod
    def host_ms() -> int:
        """Return a monotonic time in ms, for durations that a change of the offset must not affect."""
        return int(clock.monotonic_s() * 1000)
