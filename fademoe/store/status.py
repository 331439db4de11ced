"""The state of every unit (a stream, a backfill of a series, the scheduler), its history, and the errors."""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from fademoe.errors import SourceError
from fademoe.store.connection import Database

MESSAGE_LENGTH = 500
KEEP_ERRORS = "30 days"
KEEP_HISTORY = "30 days"


class State(StrEnum):
    """What a unit does now."""

    STARTED = "started"
    RUNNING = "running"
    WAITING = "waiting"  # for an exchange, a budget or a server: it goes on by itself
    DONE = "done"
    ERROR = "error"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class Report:
    """News of a unit. `new_rows` are added to its count; `interval_s` is the time to the next report at most."""

    unit: str
    state: State
    message: str = ""
    source: str | None = None
    symbol: str | None = None
    new_rows: int = 0
    last_ts: int | None = None
    interval_s: int = 60


def backfill_unit(source: str, symbol: str) -> str:
    """Name the unit of a series' backfill."""
    return f"backfill {source} {symbol}"


def report(database: Database, news: Report) -> None:
    """Store a unit's state; a change of state or message is added to the history."""
    values = {
        "unit": news.unit,
        "kind": news.unit.split()[0],
        "state": news.state.value,
        "message": news.message[:MESSAGE_LENGTH],
        "source": news.source,
        "symbol": news.symbol,
        "rows": news.new_rows,
        "last_ts": news.last_ts,
        "interval_s": news.interval_s,
    }
    with database.transaction() as cursor:
        cursor.execute(
            "WITH before AS (SELECT state FROM perp_status WHERE unit = %(unit)s), news AS ("
            " INSERT INTO perp_status AS p (unit, kind, state, message, source, symbol, rows, last_ts, interval_s)"
            " VALUES (%(unit)s, %(kind)s, %(state)s, %(message)s, %(source)s, %(symbol)s, %(rows)s, %(last_ts)s,"
            " %(interval_s)s) ON CONFLICT (unit) DO UPDATE SET state = excluded.state, message = excluded.message,"
            " rows = p.rows + excluded.rows, last_ts = greatest(p.last_ts, excluded.last_ts),"
            " interval_s = excluded.interval_s, heartbeat = now(),"
            " since = CASE WHEN p.state = excluded.state THEN p.since ELSE now() END)"
            " INSERT INTO perp_status_history (unit, state, message) SELECT %(unit)s, %(state)s, %(message)s"
            " WHERE NOT EXISTS (SELECT FROM before WHERE state = %(state)s)",
            values,
        )


def record_error(database: Database, unit: str, error: BaseException) -> None:
    """Append an error with the request that failed."""
    exchange, request, http_status, excerpt = "", "", None, ""
    if isinstance(error, SourceError):
        exchange, request, http_status, excerpt = error.exchange, error.request, error.http_status, error.body
    message = str(error) or type(error).__name__
    with database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO perp_errors (unit, class, fingerprint, message, exchange, request, http_status, excerpt)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                unit,
                type(error).__name__,
                fingerprint(error),
                message[:MESSAGE_LENGTH].replace("\x00", ""),
                exchange,
                request.replace("\x00", ""),
                http_status,
                excerpt.replace("\x00", ""),
            ),
        )


def fingerprint(error: BaseException) -> str:
    """Return the same 12 characters for errors of one cause: class, path and message without its numbers."""
    path = error.request.partition("?")[0] if isinstance(error, SourceError) else ""
    plain = re.sub(r"[0-9.]+", "#", str(error))
    return hashlib.sha256(f"{type(error).__name__} {path} {plain}".encode()).hexdigest()[:12]


def forget_old(database: Database) -> None:
    """Delete errors and history that nobody will look at any more."""
    with database.transaction() as cursor:
        cursor.execute("DELETE FROM perp_errors WHERE at < now() - %s::interval", (KEEP_ERRORS,))
        cursor.execute("DELETE FROM perp_status_history WHERE at < now() - %s::interval", (KEEP_HISTORY,))
