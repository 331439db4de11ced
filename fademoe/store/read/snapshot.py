"""Snapshots: several statements that see the database at one moment, so that rows and coverage fit each other."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.store.queries import load_queries

SQL = load_queries("read_snapshot")
BULK_TIMEOUT_MS = 120_000  # of a statement inside `hold_bulk_snapshot`


def take_snapshot(cursor: Cursor) -> None:
    """Let all that the caller's transaction reads be of one moment; must be its first statement."""
    cursor.execute(SQL["take"])


@contextmanager
def hold_snapshot(cursor: Cursor) -> Iterator[None]:
    """Let all statements of the block see the database as it is now; for a cursor in autocommit mode.

    In a transaction of the caller nothing is begun or ended.
    """
    if not cursor.connection.autocommit or cursor.connection.info.transaction_status:
        yield
        return
    cursor.execute(SQL["begin"])
    try:
        yield
    finally:
        _end(cursor)


@contextmanager
def hold_bulk_snapshot(cursor: Cursor) -> Iterator[None]:
    """Do what `hold_snapshot` does outside a transaction; statements may take longer than those of a page."""
    cursor.execute(SQL["begin"])
    try:
        cursor.execute(sql.SQL(SQL["bulk_limits"]).format(milliseconds=sql.Literal(BULK_TIMEOUT_MS)))
        yield
    finally:
        _end(cursor)


def _end(cursor: Cursor) -> None:
    with suppress(psycopg2.OperationalError, psycopg2.InterfaceError):
        cursor.execute(SQL["end"])
