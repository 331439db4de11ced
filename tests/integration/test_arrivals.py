"""When rows came, and what they replaced."""

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, LATEST_MS, MINUTE_MS, SECOND_MS, Window, now_ms, subtract
from fademoe.metrics import Candle, OpenInterest
from fademoe.store import corrections
from fademoe.store.arrivals import HISTORY, LIVE, Origin, Way
from fademoe.store.coverage import Covered, Series
from fademoe.store.read.market import read_known
from fademoe.store.writer import Batch, Writer, group_rows
from tests.support.clocks import settled_end

START = settled_end(HOUR_MS) - 10 * DAY_MS  # a lag of more than 24 days is recorded by name
BTC, ETH = Series("bin-ohlcv", "BTC"), Series("bin-ohlcv", "ETH")
OI = Series("bin-oi", "BTC")


def fetch(database, statement, *values):
    with database.open_transaction() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def write_candles(database, minutes, origin=HISTORY, series=(BTC,)):
    rows = [(each, Candle(START + i * MINUTE_MS, "1", "1", "1", "1", "1")) for each in series for i in minutes]
    return Writer(database).write([Batch("ohlcv", "1m", group_rows(rows))], [], origin)


def write_interest(database, interval, minutes, origin=HISTORY, coins="11", usd=None):
    rows = [(OI, OpenInterest(START + i * MINUTE_MS, coins, usd)) for i in minutes]
    return Writer(database).write([Batch("oi", interval, group_rows(rows))], [], origin)


def arrivals(database):
    rows = fetch(database, "SELECT source, symbol, start_ms, end_ms, way FROM perp_arrivals ORDER BY 1, 2, 3, 4")
    return [
        (symbol, (start - START) / MINUTE_MS, (end - 1 - START) / MINUTE_MS, way) for _, symbol, start, end, way in rows
    ]


@pytest.mark.parametrize("count", [10, 200])
def test_a_window_of_new_rows_is_one_arrival(database, count):
    before_ms = now_ms()
    write_candles(database, range(count), Origin(Way.ARCHIVE, 7))
    write_candles(database, range(count))
    assert arrivals(database) == [("BTC", 0, count - 1, "archive")], "rows that were there did not come again"
    ((known_from, known_to, file_id),) = fetch(
        database, "SELECT known_from_ms, known_to_ms, file_id FROM perp_arrivals"
    )
    assert before_ms <= known_from <= known_to <= now_ms()
    assert file_id == 7


@pytest.mark.parametrize("count", [60, 120])
def test_an_arrival_covers_no_row_that_came_before(database, count):
    write_candles(database, [20, 21, 40], LIVE)
    write_candles(database, range(count))
    assert arrivals(database) == [
        ("BTC", 0, 19, "history"),
        ("BTC", 22, 39, "history"),
        ("BTC", 41, count - 1, "history"),
    ]


def test_samples_between_the_marks_are_not_covered_either(database):
    write_interest(database, "1m", [1, 2, 6, 7], LIVE)
    write_interest(database, "5m", [0, 5, 10, 15])
    assert arrivals(database) == [("BTC", 0, 0, "history"), ("BTC", 5, 5, "history"), ("BTC", 10, 15, "history")]


def test_a_long_arrival_is_cut(database):
    month = 31 * 24 * 60
    write_candles(database, range(0, 2 * month, 1440))
    assert {way for *_, way in arrivals(database)} == {"history"}
    longest = fetch(database, "SELECT max(end_ms - start_ms), count(*) FROM perp_arrivals")
    assert longest[0][0] <= 31 * 24 * HOUR_MS
    assert longest[0][1] in (2, 3)


def test_live_rows_leave_the_greatest_lag_of_their_minute(database):
    now_minute = now_ms() // MINUTE_MS - START // MINUTE_MS
    minutes = [now_minute - 2, now_minute - 1]
    write_candles(database, minutes, LIVE, (BTC, ETH))
    hours = fetch(database, "SELECT source, hour_ms, last_lag, rows FROM perp_minutes")
    found = {
        hour_ms + i * MINUTE_MS: (lag, hours_rows[i])
        for _, hour_ms, lags, hours_rows in hours
        for i, lag in enumerate(lags)
        if lag is not None
    }
    first, second = (START + i * MINUTE_MS for i in minutes)
    assert found.keys() == {first, second}
    assert found[first][1] == found[second][1] == 2
    assert 0 <= found[second][0] <= now_ms() - second - MINUTE_MS
    assert found[first][0] == found[second][0] + MINUTE_MS
    assert arrivals(database) == []


def test_a_straggler_is_recorded_by_name_and_does_not_delay_its_minute(database):
    write_candles(database, [0], LIVE)
    fetch_one = "SELECT last_lag[1], rows[1] FROM perp_minutes"
    database.run(lambda cursor: cursor.execute("UPDATE perp_minutes SET last_lag[1] = 1500"))
    write_candles(database, [0], LIVE, (BTC, ETH))
    assert fetch(database, fetch_one) == [(1500, 1)]
    assert arrivals(database) == [("ETH", 0, 0, "live")]


def test_a_sample_that_gives_way_is_kept_as_superseded(database):
    write_interest(database, "1m", [0, 5], LIVE, coins="10", usd="7")
    write_interest(database, "5m", [0, 5], coins="10.0", usd=None)
    rows = (
        'SELECT ts, "column", old_value::text, new_value::text, reason, old_interval FROM perp_corrections ORDER BY id'
    )
    assert fetch(database, rows) == [(START + i * MINUTE_MS, "oi", "10", "10.0", "superseded", "1m") for i in (0, 5)]
    assert arrivals(database) == [], "the row was there before"


def test_a_value_that_the_sample_lacked_is_kept_as_unknown_before(database):
    write_interest(database, "1m", [0], LIVE, coins="10")
    write_interest(database, "5m", [0], coins="12", usd="9")
    rows = 'SELECT "column", old_value::text, new_value::text FROM perp_corrections ORDER BY id'
    assert fetch(database, rows) == [("oi", "10", "12"), ("oi_usd", None, "9")]


def test_the_coverage_of_then_is_without_what_came_later(database):
    """Live candles in time and an hour late, a window of the history, and a minute that the audit added."""
    write_candles(database, range(10), LIVE)
    lags = [2 * SECOND_MS] * 5 + [HOUR_MS] * 5 + [None] * 50
    database.run(lambda cursor: cursor.execute("UPDATE perp_minutes SET last_lag = %s", (lags,)))
    write_candles(database, range(20, 30))
    database.run(lambda cursor: corrections.record_missing(cursor, BTC, [START + 40 * MINUTE_MS]))
    Writer(database).write([], [Covered(BTC, [Window(START, START + HOUR_MS)])])

    def list_missing(at_ms):
        with database.open_transaction() as cursor:
            covered = read_known(cursor, BTC, at_ms).covered
        missing = subtract(Window(START, min(START + HOUR_MS, at_ms or LATEST_MS)), covered)
        return [((start - START) // MINUTE_MS, (end - 1 - START) // MINUTE_MS) for start, end in missing]

    fetched = [(20, 29), (40, 40)]
    assert list_missing(None) == list_missing(now_ms()) == []
    assert list_missing(START + DAY_MS) == fetched
    assert list_missing(START + 30 * MINUTE_MS) == [(5, 9), (20, 29)]
    assert list_missing(START + 4 * MINUTE_MS + 2 * SECOND_MS) == [(4, 4)]
    assert list_missing(START + 4 * MINUTE_MS + 2 * SECOND_MS - 1) == [(3, 4)]
