"""What is known of a series beside its ranges: listing, absences, failed requests, corrections."""

from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.store.coverage import CONFIRMED_CHECKS, NO_ROW
from fademoe.store.queries import load_queries

SQL = load_queries("read_series")


class ListingPeriod(NamedTuple):
    """When a contract was listed and delisted, as far as the exchange says; None while it trades."""

    listed_ms: int | None
    delisted_ms: int | None


class AbsentRange(NamedTuple):
    """A range that the exchange does not have, and why we say so.

    `is_confirmed`: the reason is a proof, or two runs at least ten minutes apart found nothing; otherwise the absence
    is provisional and is requested again. `checked_by` is the kind of work that asked last.
    """

    start_ms: int
    end_ms: int
    reason: str
    checked_ms: int
    is_confirmed: bool
    checked_by: str


class Failure(NamedTuple):
    """One line of perp_errors."""

    id: int
    at_ms: int
    error_class: str
    message: str
    request: str
    http_status: int | None


class Correction(NamedTuple):
    """One value that an audit changed; numbers are text, `column` is empty for a row that was missing."""

    at_ms: int
    ts: int
    column: str
    old: str | None
    new: str | None


def list_listing_periods(cursor: Cursor, code: str, symbols: list[str]) -> dict[str, ListingPeriod]:
    """Return the listing period of each symbol's contract on one exchange code, where it is known."""
    cursor.execute(SQL["listing_periods"], {"code": code, "symbols": symbols})
    return {symbol: ListingPeriod(listed_ms, delisted_ms) for symbol, listed_ms, delisted_ms in cursor.fetchall()}


def list_absences(cursor: Cursor, source: str, symbol: str, window: Window, limit: int) -> list[AbsentRange]:
    """Return what the exchange does not have of a window, with the reasons."""
    values = {"source": source, "symbol": symbol, "start": window.start_ms, "end": window.end_ms, "limit": limit}
    cursor.execute(SQL["absences"], values | {"unproven": NO_ROW, "confirmed": CONFIRMED_CHECKS})
    return [AbsentRange(*row) for row in cursor.fetchall()]


def list_failures(cursor: Cursor, unit: str, limit: int) -> list[Failure]:
    """Return the newest errors of one unit."""
    cursor.execute(SQL["failures"], {"unit": unit, "limit": limit})
    return [Failure(*row) for row in cursor.fetchall()]


def list_corrections(cursor: Cursor, source: str, symbol: str, window: Window, limit: int) -> list[Correction]:
    """Return what audits changed in a window, the newest row first."""
    values = {"source": source, "symbol": symbol, "start": window.start_ms, "end": window.end_ms, "limit": limit}
    cursor.execute(SQL["corrections"], values)
    return [Correction(*row) for row in cursor.fetchall()]
