"""Minutes of events whose connection ended: another one proves them by its next event, and takes what comes late."""

import threading
from collections.abc import Container, Mapping
from typing import NamedTuple

from fademoe.clock import MINUTE_MS
from fademoe.feeds.stream import StreamFeed
from fademoe.store.coverage import Series
from fademoe.streams.minutes import YOUNG_MS, Item, Key, Minute

MAX_CARRY_MS = 5 * MINUTE_MS  # from the last event of the connection that ended to the first one of the next


class Unproven(NamedTuple):
    """Minutes of a feed that were watched to their end; `since_ms`: of its last event, or of its subscription."""

    feed: StreamFeed
    since_ms: int
    items: list[Item]


class EventProofs:
    """What ended connections of one exchange left; used by the threads of all its connections."""

    def __init__(self) -> None:
        """Begin without anything to prove."""
        self._lock = threading.Lock()
        self._held: list[Unproven] = []
        self._left: dict[Key, Minute] = {}

    def hold(self, unproven: list[Unproven]) -> None:
        """Keep minutes until an event of their feed comes on another connection that follows their series."""
        with self._lock:
            self._held += unproven

    def on_event(self, feed: StreamFeed, exchange_ms: int, followed: Container[Series]) -> list[Item]:
        """Return the minutes that an event at `exchange_ms` proves, and forget those for which any comes too late.

        `followed`: the series of the connection on which it came. It tells nothing of those that another one follows.
        """
        if not self._held:
            return []
        proved: list[Item] = []
        with self._lock:
            kept = [held for held in self._held if held.feed != feed]
            for held in self._held:
                if held.feed == feed and exchange_ms - held.since_ms <= MAX_CARRY_MS:
                    proved += [item for item in held.items if item.series in followed]
                    left = [item for item in held.items if item.series not in followed]
                    kept += [held._replace(items=left)] if left else []
            self._held = kept
        return proved

    def leave(self, minutes: Mapping[Key, Minute], exchange_ms: int) -> None:
        """Keep closed minutes as long as they are young: their late events come on another connection."""
        with self._lock:
            kept = {**self._left, **minutes}
            self._left = {key: minute for key, minute in kept.items() if key[1] > exchange_ms - YOUNG_MS}

    def take_left(self, key: Key) -> Minute | None:
        """Return a minute that an ended connection left, once."""
        if not self._left:
            return None
        with self._lock:
            return self._left.pop(key, None)
