"""What belongs to the coverage of a series beside its ranges: the contract's life, reasons of absence, errors."""

from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window


class Life(NamedTuple):
    """When a contract was listed and delisted, as far as the exchange says; None while it trades."""

    listed_ms: int | None
    delisted_ms: int | None


class Absence(NamedTuple):
    """A range that the exchange does not have, and why we say so."""

    start_ms: int
    end_ms: int
    reason: str
    checked_ms: int


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


_LIVES = """
    SELECT symbol, min(listed_ms), CASE WHEN bool_and(delisted_ms IS NOT NULL) THEN max(delisted_ms) END
    FROM perp_metadata WHERE code = %(code)s AND symbol = ANY(%(symbols)s) GROUP BY symbol
"""
_ABSENCES = """
    SELECT start_ms, end_ms, reason, (extract(epoch FROM checked_at) * 1000)::bigint FROM perp_absence
    WHERE source = %(source)s AND symbol = %(symbol)s AND start_ms < %(end)s AND end_ms > %(start)s
    ORDER BY start_ms LIMIT %(limit)s
"""
_FAILURES = """
    SELECT id, (extract(epoch FROM at) * 1000)::bigint, class, message, request, http_status FROM perp_errors
    WHERE unit = %(unit)s ORDER BY at DESC LIMIT %(limit)s
"""

_CORRECTIONS = """
    SELECT (extract(epoch FROM at) * 1000)::bigint, ts, "column", old_value::text, new_value::text
    FROM perp_corrections
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s
    ORDER BY ts DESC, id DESC LIMIT %(limit)s
"""


def lives(cursor: Cursor, code: str, symbols: list[str]) -> dict[str, Life]:
    """Return the life of each symbol's contract on one exchange code, where it is known."""
    cursor.execute(_LIVES, {"code": code, "symbols": symbols})
    return {symbol: Life(listed_ms, delisted_ms) for symbol, listed_ms, delisted_ms in cursor.fetchall()}


def absences(cursor: Cursor, source: str, symbol: str, window: Window, limit: int) -> list[Absence]:
    """Return what the exchange does not have of a window, with the reasons."""
    values = {"source": source, "symbol": symbol, "start": window.start_ms, "end": window.end_ms, "limit": limit}
    cursor.execute(_ABSENCES, values)
    return [Absence(*row) for row in cursor.fetchall()]


def failures(cursor: Cursor, unit: str, limit: int) -> list[Failure]:
    """Return the newest errors of one unit."""
    cursor.execute(_FAILURES, {"unit": unit, "limit": limit})
    return [Failure(*row) for row in cursor.fetchall()]


def corrections(cursor: Cursor, source: str, symbol: str, window: Window, limit: int) -> list[Correction]:
    """Return what audits changed in a window, the newest row first."""
    values = {"source": source, "symbol": symbol, "start": window.start_ms, "end": window.end_ms, "limit": limit}
    cursor.execute(_CORRECTIONS, values)
    return [Correction(*row) for row in cursor.fetchall()]
