"""Transactions that collide, and text that PostgreSQL does not take."""

import contextlib
import logging
import threading

import psycopg2
import pytest

from fademoe.clock import HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.errors import BadPayload, StoreError
from fademoe.feeds.instrument import Instrument
from fademoe.metrics import Candle, OpenInterest
from fademoe.store import corrections, coverage, hours, instruments, status
from fademoe.store.connection import RETRY_PAUSES_S, Collision, Database
from fademoe.store.corrections import Difference
from fademoe.store.coverage import Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.status import Report, State
from fademoe.store.writer import Batch, Writer, store_rows
from tests.support.clocks import until

START = 1_767_225_600_000
SERIES = [Series("bin-ohlcv", symbol) for symbol in ("AAA", "BBB")]
OI = Series("okx-oi", "BTC")
TIMEOUT_S = 20


@pytest.fixture
def databases(database_url):
    both = Database(database_url), Database(database_url)
    yield both
    for database in both:
        database.close()


def fetch(database, statement, *values):
    with database.open_transaction() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall()


def run_both(works):
    """Run the works in threads; return what each raised, None where it succeeded."""
    errors = [None] * len(works)

    def run(number, work):
        try:
            work()
        except StoreError as error:
            errors[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
    return errors


def collide(databases, isolation="read committed"):
    """Run two transactions that lock the rows of SERIES in opposite order, the second only when both hold one.

    Returns how many times each ran and what each raised.
    """
    barrier, runs = threading.Barrier(2), [0, 0]
    databases[0].run(lambda cursor: coverage.want(cursor, SERIES, START, START + MINUTE_MS))

    def work(number, cursor):
        runs[number] += 1
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        first, second = SERIES if number == 0 else SERIES[::-1]
        update = "UPDATE perp_coverage SET wanted = wanted + %s::int8multirange WHERE symbol = %s"
        window = f"{{[{START + (number + 1) * MINUTE_MS},{START + (number + 2) * MINUTE_MS})}}"
        cursor.execute(update, (window, first.symbol))
        if runs[number] == 1:
            barrier.wait(TIMEOUT_S)
        cursor.execute(update, (window, second.symbol))

    errors = run_both([lambda n=n: databases[n].run(lambda cursor: work(n, cursor)) for n in (0, 1)])
    return runs, errors


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_transactions_that_deadlock_are_run_again_and_both_succeed(databases, isolation):
    """40P01; with snapshots also 40001 for the one that waited."""
    runs, errors = collide(databases, isolation)
    assert errors == [None, None]
    assert sum(runs) > 2
    wanted = dict(fetch(databases[0], "SELECT symbol, wanted::text FROM perp_coverage"))
    assert wanted == dict.fromkeys(("AAA", "BBB"), f"{{[{START},{START + 3 * MINUTE_MS})}}")


def test_a_transaction_that_always_collides_raises_and_leaves_the_connection_usable(databases):
    """The number of tries is bounded."""
    tries = 0

    def work(cursor):
        nonlocal tries
        tries += 1
        cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'collides' USING ERRCODE = '40001'; END $$")

    with pytest.raises(Collision, match="collides"):
        databases[0].run(work)
    assert tries == len(RETRY_PAUSES_S) + 1
    assert issubclass(Collision, StoreError)
    assert fetch(databases[0], "SELECT 1") == [(1,)]


def test_dropping_a_month_waits_for_a_reader_in_short_turns(databases):
    """Maintenance gives way (55P03), so no one waits long behind it, and comes back."""
    window = Window(START, START + MINUTE_MS)
    writer = Writer(databases[1])
    row = Candle(START, "1", "2", "0.5", "1", "10", "15", 1, None)
    writer.write([Batch("ohlcv", "1m", {SERIES[0]: [row]})], [Covered(SERIES[0], [window])])
    holds, may_end = threading.Event(), threading.Event()

    def read(cursor):
        cursor.execute("SELECT count(*) FROM perp_data")
        holds.set()
        may_end.wait(TIMEOUT_S)

    def drop():
        assert holds.wait(TIMEOUT_S)
        threading.Timer(3.0, may_end.set).start()  # longer than a maintenance statement waits for a lock
        Partitions(databases[1]).drop_before(START + 40 * 86_400_000)

    assert run_both([lambda: databases[0].run(read), drop]) == [None, None]
    assert fetch(databases[0], "SELECT count(*) FROM perp_data") == [(0,)]


def test_nobody_waits_long_behind_the_dropping_of_a_month(databases, database_url):
    """While it waits for a long reader, other readers of the table get their answers."""
    Partitions(databases[1]).ensure(Window(START, START + MINUTE_MS))
    long_reader, reader = psycopg2.connect(database_url), psycopg2.connect(database_url)
    long_reader.cursor().execute("SELECT count(*) FROM perp_data")
    watch = reader.cursor()
    watch.execute("SET statement_timeout = '10s'")
    reader.commit()

    def read():
        try:
            until(lambda: is_lock_awaited(reader), TIMEOUT_S)
            watch.execute("SELECT count(*) FROM perp_data")
        except psycopg2.errors.QueryCanceled as error:
            raise StoreError("the reader was not let by") from error
        finally:
            reader.close()
            long_reader.close()

    assert run_both([lambda: Partitions(databases[1]).drop_before(START + 40 * 86_400_000), read]) == [None, None]


def is_lock_awaited(connection):
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted")
        return cursor.fetchone()[0] > 0


def store_while_waiting(databases, database_url, first, second):
    """Store the first batch in a transaction that commits when `second`, work on the other database, waits for it."""
    database, other = databases
    thread = threading.Thread(target=second, args=(other,))
    with database.open_transaction() as cursor:
        store_rows(cursor, [first], [])
        thread.start()
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        watch = Database(database_url)
        until(lambda: fetch(watch, blocked, pid) == [(1,)], TIMEOUT_S)
        watch.close()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


def live(number):
    return Batch("oi", "1m", {OI: [OpenInterest(START + number * 5 * MINUTE_MS, "10", "7")]})


def exact(*numbers):
    return Batch("oi", "5m", {OI: [OpenInterest(START + number * 5 * MINUTE_MS, "11", None) for number in numbers]})


def read_interest(database):
    return fetch(database, "SELECT interval, oi::text, oi_usd::text FROM perp_data ORDER BY ts")


def test_a_sample_that_is_stored_at_the_same_moment_is_recorded_when_it_is_replaced(databases, database_url):
    Writer(databases[0]).write([live(0)], [])
    store_while_waiting(databases, database_url, live(1), lambda other: Writer(other).write([exact(0, 1)], []))
    assert read_interest(databases[0]) == [("5m", "11", "7")] * 2
    recorded = fetch(databases[0], "SELECT ts, reason, old_value::text FROM perp_corrections ORDER BY ts")
    assert recorded == [(START, "superseded", "10"), (START + 5 * MINUTE_MS, "superseded", "10")]


def test_two_writers_that_replace_one_sample_record_it_once(databases, database_url):
    Writer(databases[0]).write([live(0)], [])
    store_while_waiting(databases, database_url, exact(0), lambda other: Writer(other).write([exact(0)], []))
    assert read_interest(databases[0]) == [("5m", "11", "7")]
    assert fetch(databases[0], "SELECT count(*) FROM perp_corrections") == [(1,)]


def test_a_late_change_of_a_sample_does_not_touch_the_row_that_replaces_it(databases, database_url):
    Writer(databases[0]).write([live(0)], [])
    changes = [Difference(START, "oi", "10", "12"), Difference(START, "oi_usd", "7", "8")]
    counts = []

    def correct(other):
        counts.append(other.run(lambda cursor: corrections.correct(cursor, OI, "1m", changes)))

    store_while_waiting(databases, database_url, exact(0), correct)
    assert counts == [0]
    assert read_interest(databases[0]) == [("5m", "11", "7")]
    assert fetch(databases[0], "SELECT DISTINCT reason FROM perp_corrections") == [("superseded",)]


def test_two_writers_that_bring_rows_of_different_series_and_answer_for_both_do_not_collide(
    databases, monkeypatch, caplog
):
    """A stream and the job of the newest rows, at the last minute of an hour."""
    caplog.set_level(logging.INFO)
    ts = floor_to(now_ms(), HOUR_MS) - MINUTE_MS
    minute = Window(ts, ts + MINUTE_MS)
    databases[0].run(lambda cursor: coverage.want(cursor, SERIES, ts, None))
    mark, begun = hours.mark_changed, threading.Barrier(2)

    def mark_together(cursor, new):
        with contextlib.suppress(threading.BrokenBarrierError):
            begun.wait(1)  # without a lock before it, both would come here
        mark(cursor, new)
        with contextlib.suppress(threading.BrokenBarrierError):
            begun.wait(1)

    monkeypatch.setattr(hours, "mark_changed", mark_together)
    answers = [Covered(series, [minute]) for series in SERIES]

    def write(database, series):
        row = Candle(ts, "1", "2", "0.5", "1", "10", "15", 1, None)
        return lambda: Writer(database).write([Batch("ohlcv", "1m", {series: [row]})], answers)

    works = [write(database, series) for database, series in zip(databases, reversed(SERIES), strict=True)]
    assert run_both(works) == [None, None]
    assert not [message for message in caplog.messages if "deadlock" in message]


ODD = "a\x00b \ud800c"
STORED = "ab ?c"


def test_text_with_a_nul_is_stored_without_it(databases):
    """Messages, excerpts, requests, unit names and symbols; halves of surrogate pairs are of the kind."""
    database = databases[0]
    status.report(database, Report(unit=f"stream {ODD}", state=State.WAITING, message=ODD, source=ODD, symbol=ODD))
    status.record_error(database, ODD, BadPayload(ODD, exchange=ODD, request=ODD, body=ODD))
    contract = Instrument(exchange="binance", code="bin", name=ODD, symbol=ODD, multiplier=1)
    database.run(lambda cursor: instruments.save(cursor, [contract]))
    row = Candle(START, "1", "2", "0.5", "1", "10", "15", 1, None)
    series, window = Series("bin-ohlcv", ODD), Window(START, START + MINUTE_MS)
    assert Writer(database).write([Batch("ohlcv", "1m", {series: [row]})], [Covered(series, [window])]) == 1
    assert fetch(database, "SELECT unit, message, source, symbol FROM perp_status") == [
        (f"stream {STORED}", STORED, STORED, STORED)
    ]
    assert fetch(database, "SELECT message FROM perp_status_history") == [(STORED,)]
    assert fetch(database, "SELECT unit, message, exchange, request, excerpt FROM perp_errors") == [(STORED,) * 5]
    assert fetch(database, "SELECT instrument, symbol FROM perp_metadata") == [(STORED, STORED)]
    assert fetch(database, "SELECT symbol FROM perp_data UNION ALL SELECT symbol FROM perp_coverage") == [(STORED,)] * 2
