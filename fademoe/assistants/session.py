"""A database session of one question."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from psycopg2.extensions import cursor as Cursor

from fademoe.store.read.pool import BUSY_TIMEOUT_S, Busy, Reader
from fademoe.store.read.snapshot import hold_snapshot

MOST = 8  # sessions at a time, of the 20 that the role may open

_slots = BoundedSemaphore(MOST)


@contextmanager
def open_session(address: str) -> Iterator[Cursor]:
    """Yield a read-only cursor of a fresh session, which ends with the block: nothing set in it reaches another one.

    All that it reads is of one moment, so rows and coverage fit each other.
    Raises StoreError: Busy when others take all sessions, TooSlow when a statement takes longer than a read may take.
    """
    if not _slots.acquire(timeout=BUSY_TIMEOUT_S):
        raise Busy(f"{MOST} questions are answered already: ask again in some seconds")
    reader = Reader(address, connections=1)
    try:
        with reader.read() as cursor, hold_snapshot(cursor):
            yield cursor
    finally:
        reader.close()
        _slots.release()
