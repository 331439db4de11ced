"""The newest settlements that are stored."""

from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.store.queries import load_queries

SQL = load_queries("settlements")


class Settled(NamedTuple):
    """A settlement: its time, and the hours since the one before; None where they are not known."""

    ts: int
    hours: int | None


def find_newest(cursor: Cursor, source: str, symbol: str, window: Window) -> Settled | None:
    """Return the newest settlement of a series in a window."""
    values = {"source": source, "symbol": symbol, "since": window.start_ms, "until": window.end_ms}
    cursor.execute(SQL["newest_of_series"], values)
    row = cursor.fetchone()
    return Settled(*row) if row else None


def list_newest(cursor: Cursor, source: str, window: Window) -> dict[str, Settled]:
    """Return the newest settlement of each symbol of a perpspec in a window."""
    cursor.execute(SQL["newest"], {"source": source, "since": window.start_ms, "until": window.end_ms})
    return {symbol: Settled(ts, hours) for symbol, ts, hours in cursor.fetchall()}
