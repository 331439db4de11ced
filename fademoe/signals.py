"""Graceful shutdown: SIGTERM sets a flag and interrupts blocks marked `allow_interrupt`."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):
    """A stop was requested inside an `allow_interrupt` block."""


class StopSignal:
    """A flag that SIGTERM and SIGINT set. Call `install` in the main thread, the rest in any thread."""

    def __init__(self) -> None:
        """Make the flag, not set."""
        self._event = threading.Event()
        self._is_interruptible = False

    def install(self) -> None:
        """Install handlers of SIGTERM and SIGINT that set the flag."""
        signal.signal(signal.SIGTERM, self._received)
        signal.signal(signal.SIGINT, self._received)

    def _received(self, signum: int, frame: FrameType | None) -> None:
        self._event.set()
        if self._is_interruptible:
            self._is_interruptible = False
            raise Stopped

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds` or until a stop is requested; return whether it is."""
        return self._event.wait(max(seconds, 0.0))

    @contextmanager
    def allow_interrupt(self) -> Iterator[None]:
        """Let a signal raise Stopped inside the block; raise it at once when a stop was requested before.

        In another thread than the main one, which signals do not reach, it only checks before the block.
        """
        if self.requested:
            raise Stopped
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        was_interruptible, self._is_interruptible = self._is_interruptible, True
        try:
            yield
        finally:
            self._is_interruptible = was_interruptible
