"""Rows, bytes and Redis keys that a week of 470 symbols on all exchanges leaves beside the data."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

from psycopg2.extensions import cursor as Cursor
from redis import Redis

from bench.report import Report, Table
from bench.stage import stage
from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.errors import RetryLater
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.queue.enqueue import enqueue_audits
from fademoe.queue.ids import Task
from fademoe.store import corrections, coverage, status
from fademoe.store.connection import Database
from fademoe.store.coverage import NO_ROW, Absence, Covered, Series
from fademoe.store.status import State

SYMBOLS = tuple(f"SYM{number:03}" for number in range(470))
DAYS = 7
ERRORS = 50  # of an exchange and day
CORRECTED_SERIES = 7  # one of so many has a correction a day
HOLED_SERIES = 10  # one of so many has a minute a day that the exchange does not have
TABLES = ("perp_status", "perp_status_history", "perp_errors", "perp_corrections", "perp_absence", "perp_coverage")

T = TypeVar("T")


class Transaction(Database):
    """A database whose work is done in one transaction that is open already."""

    def __init__(self, cursor: Cursor) -> None:
        """Work with `cursor`."""
        super().__init__("")
        self._cursor = cursor

    def run(self, work: Callable[[Cursor], T], *, lock_timeout_s: float | None = None) -> T:
        """Do the work without a commit."""
        return work(self._cursor)


def run() -> Report:
    """Store what the work of a week reports, day after day, and count what is left."""
    exchanges = list(registry.load_exchanges().values())
    table = Table(columns=("table", "rows after a day", "rows after a week", "MB after a week, indexes included"))
    memory = Table(columns=("Redis", "keys", "MB"))
    with stage(with_simulator=False) as servers:
        services = servers.context()
        end_ms = floor_to(now_ms(), DAY_MS)
        memory.rows.append(("empty", *_measure_redis(services.redis)))
        counts: list[dict[str, int]] = []
        for day in range(DAYS):
            window = Window(end_ms - (DAYS - day) * DAY_MS, end_ms - (DAYS - day - 1) * DAY_MS)
            for exchange in exchanges:
                services.database.run(partial(_work_a_day, exchange, window))
            status.forget_old(services.database)
            counts.append({name: _count(services.database, name) for name in TABLES})
            if day == 0:
                for exchange in exchanges:
                    tasks = [Task(series, window) for series in _list_series(exchange)]
                    enqueue_audits(services.redis, exchange.name, tasks)
                memory.rows.append(("a night's audits queued", *_measure_redis(services.redis)))
        for name in TABLES:
            table.rows.append((name, counts[0][name], counts[-1][name], _measure_mb(services.database, name)))
        services.close()
    series = sum(len(list(_list_series(exchange))) for exchange in exchanges)
    notes = [
        f"{series:,} series: {len(SYMBOLS)} symbols, all metrics of all exchanges. A day of each series: two windows of"
        " history, an audit, and a pause because the exchange was away for a while. A day of an exchange:"
        f" {ERRORS} errors. One series of {CORRECTED_SERIES} has a correction a day, one of {HOLED_SERIES} an absent"
        " minute. The store's own functions are called, in one transaction a day and exchange.",
    ]
    return Report(title="what a week leaves beside the data", tables=[table, memory], notes=notes)


def _list_series(exchange: Exchange) -> Iterator[Series]:
    for source in exchange.list_perpspecs():
        for symbol in SYMBOLS:
            yield Series(source, symbol)


def _work_a_day(exchange: Exchange, day: Window, cursor: Cursor) -> None:
    database = Transaction(cursor)
    for number, series in enumerate(_list_series(exchange)):
        fetching = status.Tracked(
            database=database, unit=status.name_backfill_unit(*series), source=series.source, symbol=series.symbol
        )
        for state in (State.RUNNING, State.DONE, State.WAITING, State.RUNNING, State.DONE):
            fetching.report(state, "2026-01-01T00:00Z to 2026-01-02T00:00Z", new_rows=1_440, last_ts=day.end_ms)
        audit = status.Tracked(database=database, unit=f"audit {series.source} {series.symbol}", source=series.source)
        audit.report(State.DONE, "1440 equal, 0 corrected, 0 missing, 0 extra")
        if number % CORRECTED_SERIES == 0:
            corrections.record_missing(cursor, series, [day.start_ms])
    answers = []
    for number, series in enumerate(_list_series(exchange)):
        hole = Window(
            day.start_ms + number * MINUTE_MS % DAY_MS, day.start_ms + number * MINUTE_MS % DAY_MS + MINUTE_MS
        )
        answers.append(Covered(series, [day], [Absence(hole, NO_ROW)] if number % HOLED_SERIES == 0 else []))
    coverage.record(cursor, answers)
    for series in islice(_list_series(exchange), ERRORS):
        error = RetryLater("HTTP 503", retry_after_s=5, exchange=exchange.name, request="/v1/klines", http_status=503)
        status.record_error(database, status.name_backfill_unit(*series), error)


def _count(database: Database, table: str) -> int:
    return int(_fetch(database, f"SELECT count(*) FROM {table}"))


def _measure_mb(database: Database, table: str) -> float:
    return round(_fetch(database, f"SELECT pg_total_relation_size('{table}')") / 1e6, 1)


def _fetch(database: Database, statement: str) -> int:
    def read(cursor: Cursor) -> int:
        cursor.execute(statement)
        return int((cursor.fetchone() or (0,))[0])

    return database.run(read)


def _measure_redis(redis: Redis) -> tuple[int, float]:
    """Return the number of keys, and the MB that they take."""
    return int(redis.dbsize()), round(int(redis.info("memory")["used_memory"]) / 1e6, 1)
