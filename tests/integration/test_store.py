"""Rows and the coverage they prove."""

from dataclasses import replace
from decimal import Decimal
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from fademoe.clock import DAY_MS, MINUTE_MS, Window, now_ms
from fademoe.errors import BadPayload, ConfigError, RetryLater, StoreError
from fademoe.feeds import registry
from fademoe.feeds.instrument import Instrument
from fademoe.metrics import METRICS, Candle, OpenInterest
from fademoe.store import coverage, instruments, status
from fademoe.store.connection import Database
from fademoe.store.coverage import NOT_LISTED_YET, Absence, Covered, Series
from fademoe.store.migrate import migrate
from fademoe.store.partitions import Partitions
from fademoe.store.read.pool import Reader
from fademoe.store.read.series import list_failures
from fademoe.store.read.status import count_errors_since, list_error_groups, list_units_of_error
from fademoe.store.status import Report, State
from fademoe.store.writer import Batch, Writer, group_rows

START = 1_767_225_600_000
BTC = Series("bin-ohlcv", "BTC")
ETH = Series("bin-ohlcv", "ETH")


def candles(count, start=START, close="1.50"):
    return [Candle(start + i * MINUTE_MS, "1.0", "2.00", "0.5", close, "10", "15.000", i, None) for i in range(count)]


def batch(series, rows):
    return Batch("ohlcv", "1m", {series: rows})


def minutes(first, last):
    return Window(START + first * MINUTE_MS, START + last * MINUTE_MS)


def fetch(database, statement, *values):
    with database.open_transaction() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def test_rows_arrive_with_all_their_digits(database):
    row = Candle(START, "0.000012300", "83155.70", "0.00001", "0.5", "0", "8514292.61220", 4409, "49.832")
    assert Writer(database).write([batch(BTC, [row])], [Covered(BTC, [minutes(0, 1)])]) == 1
    stored = fetch(
        database,
        "SELECT ts, interval, o::text, h::text, l::text, c::text, v::text, qv::text, n, tbv::text FROM perp_data",
    )
    assert stored == [(START, "1m", "0.000012300", "83155.70", "0.00001", "0.5", "0", "8514292.61220", 4409, "49.832")]


@pytest.mark.parametrize("count", [1, 60])
def test_history_replaces_a_live_sample_and_a_live_sample_replaces_nothing(database, count):
    """The exact value of the history is kept; that is no correction, but the sample is remembered."""
    series, step = Series("bin-oi", "BTC"), 5 * MINUTE_MS
    times = [START + n * step for n in range(count)]

    def write(interval, coins, usd):
        rows = [(series, OpenInterest(ts, coins, usd)) for ts in times]
        return Writer(database).write([Batch("oi", interval, group_rows(rows))], [])

    assert [write("1m", "10", "7"), write("5m", "11", None), write("1m", "12", "8"), write("5m", "13", "9")] == [
        count,
        count,
        0,
        0,
    ]
    assert fetch(database, "SELECT DISTINCT interval, oi::text, oi_usd::text FROM perp_data") == [("5m", "11", "7")]
    assert fetch(database, "SELECT count(*) FROM perp_data") == [(count,)]
    recorded = "SELECT reason, old_value::text, count(*) FROM perp_corrections GROUP BY 1, 2"
    assert fetch(database, recorded) == [("superseded", "10", count)]


def test_what_is_absent_by_the_list_is_missing_again_when_the_list_says_otherwise(database):
    absences = [Absence(minutes(0, 3), NOT_LISTED_YET), Absence(minutes(5, 6), "the exchange has no row")]
    Writer(database).write([], [Covered(series, [minutes(0, 10)], absences) for series in (BTC, ETH)])
    with database.open_transaction() as cursor:
        coverage.invalidate_listing_absences(cursor, [BTC, Series("bin-oi", "BTC")])
        coverage.invalidate_listing_absences(cursor, [])
        assert coverage.find_missing(cursor, BTC, minutes(0, 10)) == [minutes(0, 3)]
        assert coverage.count_absent_ms(cursor, BTC, minutes(0, 10)) == MINUTE_MS
        assert coverage.find_missing(cursor, ETH, minutes(0, 10)) == []
    reasons = "SELECT symbol, reason FROM perp_absence ORDER BY symbol, start_ms"
    assert fetch(database, reasons) == [("BTC", absences[1].reason), *(("ETH", each.reason) for each in absences)]


def test_what_is_stored_is_never_overwritten(database):
    writer = Writer(database)
    writer.write([batch(BTC, candles(10))], [Covered(BTC, [minutes(0, 10)])])
    again = writer.write([batch(BTC, candles(20, close="1.9"))], [Covered(BTC, [minutes(0, 20)])])
    assert again == 10
    assert fetch(database, "SELECT c, count(*) FROM perp_data GROUP BY c ORDER BY c") == [
        (Decimal("1.50"), 10),
        (Decimal("1.9"), 10),
    ]
    assert fetch(database, "SELECT covered::text FROM perp_coverage") == [(f"{{[{START},{START + 20 * MINUTE_MS})}}",)]


def test_of_a_long_window_only_what_is_not_there_is_inserted(database):
    writer = Writer(database)
    stored = candles(300)
    del stored[40], stored[200]
    writer.write([batch(BTC, stored)], [])
    shifted = candles(300, START + 30_000)  # as many rows in the same span, at other times
    assert writer.write([batch(BTC, shifted)], []) == 300
    assert writer.write([batch(BTC, candles(300, close="1.9"))], []) == 2
    assert writer.write([batch(BTC, candles(300, close="1.8"))], []) == 0
    assert fetch(database, "SELECT c, count(*) FROM perp_data GROUP BY c ORDER BY c") == [
        (Decimal("1.50"), 598),
        (Decimal("1.9"), 2),
    ]


@pytest.mark.parametrize("count", [1, 60])
def test_no_row_is_inserted_only_to_be_refused(database, count):
    """Each refused row would be a line in PostgreSQL's log and a dead row in the table."""
    series, step = Series("bin-oi", "BTC"), 5 * MINUTE_MS
    times = [START + n * step for n in range(count)]
    for interval in ("1m", "1m", "5m", "5m", "1m"):
        rows = [(series, OpenInterest(ts, "10", None)) for ts in times]
        Writer(database).write([Batch("oi", interval, group_rows(rows))], [])
    fetch(database, "SELECT pg_stat_force_next_flush()")
    # of the rows aside one table is a temporary one, dropped with its statistics
    inserted = "SELECT sum(n_tup_ins)::int FROM pg_stat_user_tables WHERE relname LIKE 'perp_data%%'"
    assert fetch(database, inserted) == [(count,)]


def test_a_row_that_comes_twice_is_stored_once(database):
    twice = sorted([*candles(200), *candles(200)])
    assert Writer(database).write([batch(BTC, twice), batch(ETH, twice[:20])], []) == 210
    counts = fetch(database, "SELECT symbol, count(*) FROM perp_data GROUP BY symbol ORDER BY symbol")
    assert counts == [("BTC", 200), ("ETH", 10)]


def test_any_symbol_is_stored_as_it_is(database):
    strange = Series("bin-ohlcv", "100%S币安人生%%")
    Writer(database).write([batch(strange, candles(60))], [Covered(strange, [minutes(0, 60)])])
    assert fetch(database, "SELECT DISTINCT symbol, tbv FROM perp_data") == [(strange.symbol, None)]


def test_rows_and_coverage_are_stored_together_or_not_at_all(database):
    broken = Covered(BTC, [Window(START + 10, START)])  # an impossible range
    with pytest.raises(psycopg2.Error):
        Writer(database).write([batch(BTC, candles(3))], [broken])
    assert fetch(database, "SELECT count(*) FROM perp_data") == [(0,)]
    assert Writer(database).write([batch(BTC, candles(3))], [Covered(BTC, [minutes(0, 3)])]) == 3


def test_missing_is_wanted_minus_covered(database):
    with database.open_transaction() as cursor:
        coverage.want(cursor, [BTC, ETH], START, None)
    Writer(database).write([batch(BTC, candles(3))], [Covered(BTC, [minutes(0, 3), minutes(5, 7)])])
    with database.open_transaction() as cursor:
        found = coverage.find_gaps(cursor, "bin-ohlcv", START + 9 * MINUTE_MS)
        assert found == [(BTC, minutes(3, 5)), (BTC, minutes(7, 9)), (ETH, minutes(0, 9))]
        assert coverage.find_missing(cursor, BTC, minutes(2, 6)) == [minutes(3, 5)]
        assert coverage.find_missing(cursor, Series("bin-ohlcv", "NEW"), minutes(0, 1)) == [minutes(0, 1)]
        assert coverage.list_symbols_wanted_without_end(cursor, "bin-ohlcv") == {"BTC", "ETH"}
    assert fetch(database, "SELECT wanted_from FROM perp_coverage WHERE symbol = 'BTC'") == [(START,)]


def test_absences_keep_their_reason_and_go_when_rows_come(database):
    writer = Writer(database)
    hole = Absence(minutes(3, 8), "the exchange has no row")
    writer.write([], [Covered(BTC, [minutes(0, 10)], [hole])])
    writer.write([batch(BTC, candles(2, START + 4 * MINUTE_MS))], [Covered(BTC, [minutes(4, 6)])])
    reasons = "SELECT start_ms, end_ms, reason FROM perp_absence ORDER BY start_ms"
    assert fetch(database, reasons) == [
        (*minutes(3, 4), "the exchange has no row"),
        (*minutes(6, 8), "the exchange has no row"),
    ]
    with database.open_transaction() as cursor:
        assert coverage.count_absent_ms(cursor, BTC, minutes(0, 10)) == 3 * MINUTE_MS


def test_partitions_are_made_for_any_month(database, database_url):
    window = Window(START - 400 * DAY_MS, START)
    Partitions(database).ensure(window)
    other = Database(database_url)
    Partitions(other).ensure(window)
    other.close()
    Writer(database).write([batch(BTC, candles(1, window.start_ms))], [])
    names = [
        name
        for (name,) in fetch(
            database, "SELECT relname FROM pg_class WHERE relname ~ '^perp_data_20'  AND relkind = 'r' ORDER BY 1"
        )
    ]
    assert names[0] == "perp_data_2024_11"
    assert names[-1] == "perp_data_2025_12"
    assert len(names) == 14


def test_a_contract_that_came_on_two_pages_of_a_list_is_stored_as_it_came_last(database):
    contract = Instrument(exchange="acme", code="acm", name="BTC-PERP", symbol="BTC")
    with database.open_transaction() as cursor:
        instruments.save(cursor, [contract, contract, replace(contract, delisted_ms=START)])
        assert instruments.read_by_symbol(cursor, "acm") == {"BTC": replace(contract, delisted_ms=START)}


def test_status_keeps_since_and_adds_rows(database):
    report = Report(unit="stream acme", state=State.RUNNING, message="a", new_rows=5, last_ts=3)
    status.report(database, report)
    status.report(database, Report(unit="stream acme", state=State.RUNNING, message="b", new_rows=2, last_ts=1))
    status.report(database, Report(unit="stream acme", state=State.STOPPED, message="c"))
    assert fetch(database, "SELECT kind, state, message, rows, last_ts FROM perp_status") == [
        ("stream", "stopped", "c", 7, 3)
    ]
    assert fetch(database, "SELECT state FROM perp_status_history ORDER BY id") == [("running",), ("stopped",)]


def outage(symbol, status_code=503):
    return RetryLater(
        f"HTTP {status_code}",
        retry_after_s=5,
        exchange="acme",
        request=f"/bars?symbol={symbol}",
        http_status=status_code,
    )


def test_errors_of_one_cause_are_counted_in_one_row(database):
    """The fault: an hour of HTTP 503 left an error row for every window and try."""
    units = [f"backfill acme-ohlcv S{number}" for number in range(20)]
    for unit in units * 3:
        status.record_error(database, unit, outage(unit[-1]))
    status.record_error(database, "poll acme oi", outage("BTC"))
    rows = fetch(database, "SELECT unit, count, last_at > at, cardinality(other_units) FROM perp_errors ORDER BY id")
    assert rows == [(units[0], 60, True, 19), ("poll acme oi", 1, None, 0)]
    with database.open_transaction() as cursor:
        [group] = list_error_groups(cursor, 10)
        assert (group.errors, group.unit) == (61, "poll acme oi")
        assert list_units_of_error(cursor, group.fingerprint) == sorted([*units, "poll acme oi"])
        assert count_errors_since(cursor, 3600) == {"RetryLater": 61}
        assert [failure.message for failure in list_failures(cursor, units[7], 10)] == ["HTTP 503"]
        cursor.execute("UPDATE perp_errors SET at = at - interval '11 minutes'")
    status.record_error(database, units[0], outage("S0"))
    assert fetch(database, "SELECT count FROM perp_errors ORDER BY id") == [(60,), (1,), (1,)]


def test_errors_that_name_what_is_unreadable_keep_their_rows(database):
    """What an error names is missing: only the same error of the same request is a repetition."""
    for symbol, element in (("BTC", 1), ("BTC", 2), ("ETH", 1), ("BTC", 1)):
        error = BadPayload(f"element {element} is unreadable", exchange="acme", request=f"/bars?symbol={symbol}")
        status.record_error(database, f"backfill acme-ohlcv {symbol}", error)
    rows = fetch(database, "SELECT request, message, count FROM perp_errors ORDER BY id")
    assert rows == [
        ("/bars?symbol=BTC", "element 1 is unreadable", 2),
        ("/bars?symbol=BTC", "element 2 is unreadable", 1),
        ("/bars?symbol=ETH", "element 1 is unreadable", 1),
    ]


def test_a_database_that_is_away_is_a_store_error_and_comes_back(database, database_url):
    fetch(database, "SELECT 1")
    killer = psycopg2.connect(database_url)
    killer.autocommit = True
    with killer.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fademoe'")
    killer.close()
    with pytest.raises(StoreError, match="PostgreSQL"):
        fetch(database, "SELECT 1")
    assert fetch(database, "SELECT 1") == [(1,)]


def test_a_host_that_vanished_is_noticed_within_a_minute(database, database_url):
    """Without limits of its own a connection waits for the kernel's, which are more than ten minutes."""
    reader = Reader(database_url)
    for opened in (database.open_transaction, reader.read):
        with opened() as cursor:
            given = {
                name: int(value)
                for name, value in cursor.connection.info.dsn_parameters.items()
                if name.startswith("keepalives_") or name == "tcp_user_timeout"
            }
        assert given["keepalives_idle"] + given["keepalives_interval"] * given["keepalives_count"] <= 60
        assert 0 < given["tcp_user_timeout"] <= 120_000
    reader.close()


@pytest.mark.parametrize("opened_by", ["writer", "reader"])
def test_names_in_any_script_are_sent_whatever_encoding_a_client_is_given(database_url, opened_by, monkeypatch):
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    database, reader = Database(database_url), Reader(database_url)
    with database.open_transaction() if opened_by == "writer" else reader.read() as cursor:
        cursor.execute("SELECT %s", ("币安人生",))
        assert cursor.fetchone() == ("币安人生",)
    database.close()
    reader.close()


def test_a_database_that_cannot_hold_every_symbol_is_refused(database_url):
    """A cluster that was made with LC_ALL=C has SQL_ASCII by default."""
    name = make_database(database_url, "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    database = Database(urlunsplit(urlsplit(database_url)._replace(path=f"/{name}")))
    with pytest.raises(ConfigError, match=f"{name} of FADEMOE_DATABASE_URL has the encoding SQL_ASCII, valid is UTF8"):
        migrate(database, [])
    database.close()


def make_database(database_url, options):
    """Make a database on the same server, which ends with it; return its name."""
    name = f"{urlsplit(database_url).path[1:]}_other"
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} {options}")
    connection.close()
    return name


def test_postgresql_is_told_to_notice_a_host_of_ours_that_vanished(database, database_url):
    """Its session would hold its locks for hours else, and a migration waits for them."""
    reader = Reader(database_url)
    for opened in (database.open_transaction, reader.read):
        with opened() as cursor:
            # a server shows no values on a socket file, but where they come from
            cursor.execute("SELECT name FROM pg_settings WHERE name ~ '^tcp_keepalives' AND source = 'session'")
            assert {name for (name,) in cursor.fetchall()} == {
                "tcp_keepalives_idle",
                "tcp_keepalives_interval",
                "tcp_keepalives_count",
            }
    reader.close()


def test_lags_are_recorded_and_a_changed_one_holds_from_now_on(database):
    exchange = registry.load_exchanges()["binance"]
    assert fetch(database, "SELECT lag_ms, since_ms FROM perp_lags WHERE source = 'bin-lsr'") == [(201_000, 0)]
    before_ms = now_ms()
    feeds = [
        replace(feed, lag_ms=240_000, lag_why="measured again") if feed.metric == "lsr" else feed
        for feed in exchange.rest_feeds
    ]
    for _ in range(2):
        migrate(database, [replace(exchange, rest_feeds=tuple(feeds))])
    (first, second) = fetch(
        database, "SELECT lag_ms, since_ms, why FROM perp_lags WHERE source = 'bin-lsr' ORDER BY since_ms"
    )
    assert (first[:2], second[0]) == ((201_000, 0), 240_000)
    assert before_ms <= second[1] <= now_ms()
    assert second[2].startswith("measured again; ")


def test_views_have_the_values_as_types_that_other_drivers_know(database):
    Writer(database).write([batch(BTC, candles(1, close="0.000000012345678901"))], [])
    assert fetch(database, "SELECT ts, symbol, c, n FROM data_f8") == [(START, "BTC", 1.2345678901e-8, 0)]
    assert fetch(database, "SELECT c FROM data_numeric") == [(Decimal("0.000000012345678901"),)]
    types = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'c'"
    assert fetch(database, types, "data_f8") == [("double precision",)]
    assert fetch(database, types, "data_numeric") == [("numeric(38,18)",)]
    execute = "ALTER TABLE perp_data ADD COLUMN later NUMERIC"
    database.run(lambda cursor: cursor.execute(execute))
    migrate(database, list(registry.load_exchanges().values()))
    assert fetch(database, "SELECT later FROM data_f8") == [(None,)]


def test_a_column_that_is_stored_as_another_type_than_it_is_declared_is_named(database, monkeypatch):
    """Decimals of a column that was declared whole at first were refused by PostgreSQL, row after row."""
    metric = METRICS["fr"]
    columns = tuple(replace(column, whole=column.name == "fr_mark") for column in metric.columns)
    monkeypatch.setitem(METRICS, "fr", replace(metric, columns=columns))
    with pytest.raises(ConfigError, match="metric fr: its column fr_hours is declared with whole=False, and is bigint"):
        migrate(database, [registry.load_exchanges()["binance"]])
