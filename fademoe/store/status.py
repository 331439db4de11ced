"""The state of every unit (a stream, a backfill of a series, the scheduler), its history, and the errors."""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from fademoe.errors import SourceError, StoreError
from fademoe.store.connection import Database

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A unit that reports its state; while PostgreSQL is away its reports go to the log instead."""

    database: Database
    unit: str
    source: str | None = None
    symbol: str | None = None
    interval_s: int = 60

    def report(
        self,
        state: State,
        message: str,
        *,
        new_rows: int = 0,
        last_ts: int | None = None,
        interval_s: int | None = None,
    ) -> None:
        """Store the state; `interval_s`: time to the next report at most, unless it is the unit's usual one."""
        news = Report(
            unit=self.unit,
            state=state,
            message=message,
            source=self.source,
            symbol=self.symbol,
            new_rows=new_rows,
            last_ts=last_ts,
            interval_s=interval_s or self.interval_s,
        )
        try:
            report(self.database, news)
        except StoreError as error:
            log.warning("%s %s: %s (its status could not be stored: %s)", self.unit, state.value, message, error)

    def record(self, error: BaseException) -> None:
        """Append an error to perp_errors."""
        try:
            record_error(self.database, self.unit, error)
        except StoreError as away:
            log.warning("%s: %s (the error could not be stored: %s)", self.unit, error, away)


@contextmanager
def track(
    database: Database, unit: str, *, source: str | None = None, symbol: str | None = None, interval_s: int = 60
) -> Iterator[Tracked]:
    """Yield the reporter of a unit; an exception that leaves the block is recorded as the unit's error and raised."""
    tracked = Tracked(database=database, unit=unit, source=source, symbol=symbol, interval_s=interval_s)
    try:
        yield tracked
    except Exception as error:
        tracked.record(error)
        tracked.report(State.ERROR, str(error) or type(error).__name__)
        raise


def read_last_ts(database: Database, unit: str) -> int | None:
    """Return the `last_ts` of a unit's status, None where there is none."""
    with database.transaction() as cursor:
        cursor.execute("SELECT last_ts FROM perp_status WHERE unit = %s", (unit,))
        row = cursor.fetchone()
    return row[0] if row else None


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
    return fingerprint_message(f"{type(error).__name__} {path}", str(error))


def fingerprint_message(label: str, message: str) -> str:
    """Return 12 characters, the same for messages that differ in numbers alone and have the same label."""
    plain = re.sub(r"[0-9.]+", "#", message)
    return hashlib.sha256(f"{label} {plain}".encode()).hexdigest()[:12]


def forget_old(database: Database) -> None:
    """Delete errors and history that nobody will look at any more."""
    with database.transaction() as cursor:
        cursor.execute("DELETE FROM perp_errors WHERE at < now() - %s::interval", (KEEP_ERRORS,))
        cursor.execute("DELETE FROM perp_status_history WHERE at < now() - %s::interval", (KEEP_HISTORY,))
