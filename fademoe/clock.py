"""Times in integer milliseconds UTC, and half-open windows of time. No other module reads the clock."""

import re
import socket
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

# A time outside these years is a unit mistake (seconds or microseconds), not market data.
EARLIEST_MS = 1_262_304_000_000  # 2010-01-01
LATEST_MS = 4_102_444_800_000  # 2100-01-01

MAX_SPEED = 100  # of a clock that runs faster than the host's

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # only Linux has the first
_EPOCH = re.compile(r"[0-9]{1,16}(\.[0-9]+)?")


class Window(NamedTuple):
    """A half-open range [start_ms, end_ms)."""

    start_ms: int
    end_ms: int


class Pace(NamedTuple):
    """How fast the clock of a process runs: since `since_ms` (host time) `speed` times as fast as the host's."""

    speed: int
    since_ms: int

    def apply(self, host_ms: int) -> int:
        """Return the time at this pace when the host's clock shows `host_ms`."""
        return self.since_ms + (host_ms - self.since_ms) * self.speed


_pace = Pace(1, 0)


def set_pace(pace: Pace) -> None:
    """Let this process's clock run at another pace, for runs against the simulator; Pace(1, 0) is the host's."""
    global _pace
    _pace = pace


def get_pace() -> Pace:
    """Return how fast this process's clock runs."""
    return _pace


def now_ms() -> int:
    """Read the host's clock, at the pace of this process."""
    return _pace.apply(time.time_ns() // 1_000_000)


def monotonic_s() -> float:
    """Read the clock that never jumps, for intervals, at the pace of this process."""
    return time.monotonic() * _pace.speed


def steady_ms() -> int:
    """Read a clock that never jumps, counts suspended time, and is the same in all processes of one boot."""
    return time.clock_gettime_ns(_STEADY) // 1_000_000 * _pace.speed


def to_host_s(seconds: float) -> float:
    """Convert seconds of this process's clock to seconds of the host's, to sleep for."""
    return seconds / _pace.speed


@cache
def read_boot_id() -> str:
    """Return an identifier of this boot of this machine: times of `steady_ms` compare only within one boot.

    Containers of one kernel have the same. Where the system has no identifier of a boot, it is the name of the host.
    """
    identifier = Path("/proc/sys/kernel/random/boot_id")
    return identifier.read_text().strip() if identifier.exists() else socket.gethostname()


def floor_to(ts: int, step_ms: int) -> int:
    """Round `ts` down to a multiple of `step_ms`."""
    return ts - ts % step_ms


def ceil_to(ts: int, step_ms: int) -> int:
    """Round `ts` up to a multiple of `step_ms`."""
    return -(-ts // step_ms) * step_ms


def split(window: Window, span_ms: int) -> Iterator[Window]:
    """Cut a window longer than `span_ms` into pieces that end at multiples of `span_ms`, oldest first."""
    start_ms = window.start_ms
    if start_ms < window.end_ms <= start_ms + span_ms:
        yield window
        return
    while start_ms < window.end_ms:
        end_ms = min(floor_to(start_ms, span_ms) + span_ms, window.end_ms)
        yield Window(start_ms, end_ms)
        start_ms = end_ms


def merge(windows: Iterable[Window]) -> list[Window]:
    """Join windows that overlap or touch; the result is ascending."""
    merged: list[Window] = []
    for window in sorted(windows):
        if merged and window.start_ms <= merged[-1].end_ms:
            merged[-1] = Window(merged[-1].start_ms, max(merged[-1].end_ms, window.end_ms))
        elif window.start_ms < window.end_ms:
            merged.append(window)
    return merged


def subtract(window: Window, taken: Iterable[Window]) -> list[Window]:
    """Return the parts of `window` that no window of `taken` covers, ascending."""
    left: list[Window] = []
    start_ms = window.start_ms
    for piece in merge(taken):
        if piece.start_ms > start_ms:
            left.append(Window(start_ms, min(piece.start_ms, window.end_ms)))
        start_ms = max(start_ms, piece.end_ms)
        if start_ms >= window.end_ms:
            break
    if start_ms < window.end_ms:
        left.append(Window(start_ms, window.end_ms))
    return [piece for piece in left if piece.start_ms < piece.end_ms]


def parse_pace(text: str) -> Pace:
    """Read `speed@ms`; raise ValueError unless the speed is 1 to 100 and the time lies in 2010-2100."""
    match = re.fullmatch(r"([0-9]{1,3})@([0-9]{13})", text)
    if not match or not 1 <= int(match[1]) <= MAX_SPEED or not EARLIEST_MS <= int(match[2]) < LATEST_MS:
        raise ValueError(f"{text!r} is not a speed from 1 to {MAX_SPEED} and a time in ms, such as 6@1790000000000")
    return Pace(int(match[1]), int(match[2]))


def to_iso(ts: int) -> str:
    """Write a time as ISO 8601 UTC, to the second unless it has milliseconds."""
    precise = "milliseconds" if ts % SECOND_MS else "seconds"
    return datetime.fromtimestamp(ts / SECOND_MS, UTC).isoformat(timespec=precise).replace("+00:00", "Z")


def parse_time(text: str) -> int:
    """Read ISO 8601 (UTC unless it says otherwise) or an epoch in seconds or milliseconds.

    Raises ValueError for anything else and for times outside 2010-2100.
    """
    stripped = text.strip()
    if _EPOCH.fullmatch(stripped):
        value = float(stripped)
        ts = int(value if value >= LATEST_MS / SECOND_MS else value * SECOND_MS)
    else:
        moment = datetime.fromisoformat(stripped.replace("Z", "+00:00").replace("z", "+00:00"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        ts = round(moment.timestamp() * SECOND_MS)
    if not EARLIEST_MS <= ts < LATEST_MS:
        raise ValueError(f"{text!r} is outside 2010-2100")
    return ts
