"""Waiting, and clocks that run faster than the host's."""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from fademoe.clock import MINUTE_MS, Pace, floor_to, now_ms, set_pace, to_host_s

FAST = 6  # times as fast as the host's the clocks of fast systems run
BUSY_S = 60.0  # a machine that runs the other tests meanwhile may need as much more


@contextlib.contextmanager
def fast_clock(speed: int, begin_ms: int | None = None) -> Iterator[str]:
    """Let the clock of this process run `speed` times as fast as the host's; yield it as FADEMOE_CLOCK takes it.

    It shows `begin_ms` now, by default what the host's shows.
    """
    now = now_ms()
    pace = Pace(speed, now if begin_ms is None else now - (begin_ms - now) // (speed - 1))
    set_pace(pace)
    yield f"{pace.speed}@{pace.since_ms}"


def settled_end(step_ms: int) -> int:
    """Return the newest multiple of `step_ms` that is ten minutes ago: what ended then is due, whatever the hour."""
    return floor_to(now_ms() - 10 * MINUTE_MS, step_ms)


def sleep_until(ts: int) -> None:
    """Sleep until this process's clock shows `ts`."""
    time.sleep(max(0.0, to_host_s((ts - now_ms()) / 1000)))


def until(probe: Callable[[], object], seconds: float) -> object:
    """Return what `probe` gives as soon as it is true; fail after twice `seconds` and BUSY_S."""
    begin_s = time.monotonic()
    while (waited_s := time.monotonic() - begin_s) < 2 * seconds + BUSY_S:
        value = probe()
        if value:
            return value
        time.sleep(min(0.5, 0.1 + waited_s / 50))  # many wait beside each other, and a probe costs something
    pytest.fail(f"still not so after {seconds} s")
