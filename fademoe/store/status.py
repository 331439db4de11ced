"""The state of every unit (a stream, a backfill of a series, the scheduler), its history, and the errors."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from psycopg2.extensions import cursor as Cursor

from fademoe.errors import RetryLater, SourceError, StoreError
from fademoe.signals import Stopped
from fademoe.store.connection import MAINTENANCE_LOCK_TIMEOUT_S, Database
from fademoe.store.queries import load_queries
from fademoe.store.text import clean_text

log = logging.getLogger(__name__)

SQL = load_queries("status")

MESSAGE_LENGTH = 500
COUNTED_TOGETHER = "10 minutes"  # errors of one cause in so long a time are one row


class Kept(NamedTuple):
    """How long and how many rows of a table are kept."""

    age: str
    rows: int


KEPT_ERRORS = Kept("30 days", 200_000)
KEPT_HISTORY = Kept("30 days", 1_000_000)
KEPT_CORRECTIONS = Kept("365 days", 1_000_000)
KEPT_SUPERSEDED = Kept(
    "100 days", 10_000_000
)  # live samples that gave way to exact rows: each five minutes of a series


class State(StrEnum):
    """What a unit does now."""

    STARTED = "started"
    RUNNING = "running"
    WAITING = "waiting"  # for an exchange, a budget or a server: it goes on by itself
    DONE = "done"
    ERROR = "error"
    STOPPED = "stopped"


ROUTINE = (State.RUNNING, State.DONE)  # a unit goes from one to the other with every window


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
    """A unit that reports its state; while PostgreSQL is away its reports go to the log instead.

    As a context manager it records an error that leaves the block, and reports the unit as in error. A stop is none:
    the unit is reported as stopped.
    """

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
        """Add an error to perp_errors, see `record_error`."""
        try:
            record_error(self.database, self.unit, error)
        except StoreError as away:
            log.warning("%s: %s (the error could not be stored: %s)", self.unit, error, away)

    def __enter__(self) -> Self:
        """Return itself; nothing is reported yet."""
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        """Report how the block ended where it raised; what it raised goes on."""
        if isinstance(error, Stopped):
            self.report(State.STOPPED, "stopped")
        elif isinstance(error, Exception):
            self.record(error)
            self.report(State.ERROR, str(error) or type(error).__name__)


def read_last_ts(database: Database, unit: str) -> int | None:
    """Return the `last_ts` of a unit's status, None where there is none."""
    with database.open_transaction() as cursor:
        cursor.execute(SQL["last_ts"], {"unit": unit})
        row = cursor.fetchone()
    return row[0] if row else None


def list_failed_backfills(cursor: Cursor, source: str, symbols: Sequence[str]) -> list[tuple[str, str]]:
    """Return the symbols of a perpspec whose backfill is in error, each with its message, by symbol."""
    cursor.execute(SQL["failed_backfills"], {"source": source, "symbols": list(symbols)})
    return cursor.fetchall()


def name_backfill_unit(source: str, symbol: str) -> str:
    """Name the unit of a series' backfill."""
    return f"backfill {source} {symbol}"


def report(database: Database, news: Report) -> None:
    """Store a unit's state; a change of it is added to the history, except between those of routine work."""
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
        "routine": [state.value for state in ROUTINE],
    }
    database.run(lambda cursor: cursor.execute(SQL["report"], values))


def record_action(cursor: Cursor, unit: str, message: str) -> None:
    """Add what a user did to the history, in the caller's transaction."""
    cursor.execute(SQL["record_action"], {"unit": unit, "message": message[:MESSAGE_LENGTH]})


def record_error(database: Database, unit: str, error: BaseException) -> None:
    """Add an error with the request that failed, or count it in the row of a recent one of the same cause.

    What an exchange that fails does to one request it does to all: errors of this kind count as one cause whatever unit
    and request they come from. Other errors name what is wrong: only an equal one of the same unit and request counts.
    """
    exchange, request, http_status, excerpt = "", "", None, ""
    if isinstance(error, SourceError):
        exchange, request, http_status, excerpt = error.exchange, error.request, error.http_status, error.body
    message = str(error) or type(error).__name__
    values = {
        "unit": unit,
        "class": type(error).__name__,
        "fingerprint": fingerprint_error(error),
        "message": message[:MESSAGE_LENGTH],
        "exchange": exchange,
        "request": request,
        "http_status": http_status,
        "excerpt": excerpt,
        "any_unit": isinstance(error, RetryLater),
        "together": COUNTED_TOGETHER,
    }
    database.run(lambda cursor: cursor.execute(SQL["record_error"], values))


def fingerprint_error(error: BaseException) -> str:
    """Return the same 12 characters for errors of one cause: class, path and message without its numbers."""
    path = error.request.partition("?")[0] if isinstance(error, SourceError) else ""
    return fingerprint_message(f"{type(error).__name__} {path}", str(error))


def fingerprint_message(label: str, message: str) -> str:
    """Return 12 characters, the same for messages that differ in numbers alone and have the same label."""
    plain = re.sub(r"[0-9.]+", "#", message)
    return hashlib.sha256(clean_text(f"{label} {plain}").encode()).hexdigest()[:12]


def forget_old(database: Database) -> None:
    """Delete errors, history and corrections beyond the age and the number that are kept."""

    def forget(cursor: Cursor) -> None:
        cursor.execute(SQL["forget_errors"], KEPT_ERRORS._asdict())
        cursor.execute(SQL["forget_history"], KEPT_HISTORY._asdict())
        cursor.execute(SQL["forget_corrections"], KEPT_CORRECTIONS._asdict())
        cursor.execute(SQL["forget_superseded"], KEPT_SUPERSEDED._asdict())

    database.run(forget, lock_timeout_s=MAINTENANCE_LOCK_TIMEOUT_S)
