"""Minutes of events whose connection ended before an event could prove them: the next event of another does."""

import threading
from typing import NamedTuple

from fademoe.clock import MINUTE_MS
from fademoe.feeds.stream import StreamFeed
from fademoe.streams.minutes import Item

MAX_CARRY_MS = 5 * MINUTE_MS  # from the last event of the connection that ended to the first one of the next


class Unproven(NamedTuple):
    """Minutes of a feed that were watched to their end; `since_ms`: of its last event, or of its subscription."""

    feed: StreamFeed
    since_ms: int
    items: list[Item]


class EventProofs:
    """What ended connections of one exchange left unproven; used by the threads of all its connections."""

    def __init__(self) -> None:
        """Begin without anything to prove."""
        self._lock = threading.Lock()
        self._held: list[Unproven] = []

    def hold(self, unproven: list[Unproven]) -> None:
        """Keep minutes until an event of their feed comes on another connection."""
        with self._lock:
            self._held += unproven

    def on_event(self, feed: StreamFeed, exchange_ms: int) -> list[Item]:
        """Return the minutes that an event at `exchange_ms` proves, and forget those for which it comes too late."""
        if not self._held:
            return []
        with self._lock:
            of_feed = [held for held in self._held if held.feed == feed]
            self._held = [held for held in self._held if held.feed != feed]
        return [item for held in of_feed if exchange_ms - held.since_ms <= MAX_CARRY_MS for item in held.items]
