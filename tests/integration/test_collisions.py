"""Transactions that collide, and text that PostgreSQL does not take (faults 36 and 37)."""

import threading

import psycopg2
import pytest

from fademoe.clock import MINUTE_MS, Window
from fademoe.errors import BadPayload, StoreError
from fademoe.feeds.instrument import Instrument
from fademoe.metrics import Candle
from fademoe.store import coverage, instruments, status
from fademoe.store.connection import RETRY_PAUSES_S, Collision, Database
from fademoe.store.coverage import Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.status import Report, State
from fademoe.store.writer import Batch, Writer
from tests.support.clocks import until

START = 1_767_225_600_000
SERIES = [Series("bin-ohlcv", symbol) for symbol in ("AAA", "BBB")]
TIMEOUT_S = 20


@pytest.fixture
def databases(database_url):
    both = Database(database_url), Database(database_url)
    yield both
    for database in both:
        database.close()


def fetch(database, statement):
    with database.open_transaction() as cursor:
        cursor.execute(statement)
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
    """Fault 37: 40P01; with snapshots also 40001 for the one that waited."""
    runs, errors = collide(databases, isolation)
    assert errors == [None, None]
    assert sum(runs) > 2
    wanted = dict(fetch(databases[0], "SELECT symbol, wanted::text FROM perp_coverage"))
    assert wanted == dict.fromkeys(("AAA", "BBB"), f"{{[{START},{START + 3 * MINUTE_MS})}}")


def test_a_transaction_that_always_collides_raises_and_leaves_the_connection_usable(databases):
    """Fault 37: the number of tries is bounded."""
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
    """Fault 37: maintenance gives way (55P03), so nobody waits long behind it, and comes back."""
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
    """Fault 37: while it waits for a long reader, other readers of the table get their answers."""
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


ODD = "a\x00b \ud800c"
STORED = "ab ?c"


def test_text_with_a_nul_is_stored_without_it(databases):
    """Fault 36: messages, excerpts, requests, unit names and symbols; halves of surrogate pairs are of the kind."""
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
