"""A database session of one question."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import cursor as Cursor

from fademoe.store.read.pool import Reader


@contextmanager
def open_session(address: str) -> Iterator[Cursor]:
    """Yield a read-only cursor of a fresh session, which ends with the block: nothing set in it reaches another one.

    Raises StoreError, and TooSlow when a statement takes longer than a read may take.
    """
    reader = Reader(address, connections=1)
    try:
        with reader.read() as cursor:
            yield cursor
    finally:
        reader.close()
