"""Rows of open interest that older versions stored under the start of their minute."""

import logging

from fademoe.clock import MINUTE_MS, Window
from fademoe.metrics import Candle, OpenInterest
from fademoe.store import coverage
from fademoe.store.coverage import Absence, Covered, Series
from fademoe.store.writer import Batch, Writer, group_rows
from tests.support.migrations import migrate_again

START = 1_767_225_600_000  # a full five minutes, the first of a month
OI, BARS = Series("byb-oi", "BTC"), Series("byb-ohlcv", "BTC")
NAME = "0004_instant_of_samples"


def minutes(first, last):
    return Window(START + first * MINUTE_MS, START + last * MINUTE_MS)


def rows(database, series):
    with database.open_transaction() as cursor:
        cursor.execute(
            "SELECT (ts - %s) / 60000, interval, coalesce(oi, c)::text, oi_usd::text FROM perp_data"
            " WHERE source = %s AND symbol = %s ORDER BY ts",
            (START, *series),
        )
        return cursor.fetchall()


def test_live_rows_move_to_the_end_of_their_minute_and_give_way_to_history(database, caplog):
    """Minutes 0 to 3 and 8, 9 live, history at 5 and 10, an absence from minute 4 on."""
    writer = Writer(database)
    live = [(OI, OpenInterest(START + n * MINUTE_MS, str(n), "7")) for n in (0, 1, 2, 3, 8, 9)]
    exact = [(OI, OpenInterest(START + n * MINUTE_MS, f"{n}.5")) for n in (5, 10)]
    bar = Candle(START, "1", "1", "1", "1", "1")
    windows = [minutes(0, 4), minutes(5, 15)]
    writer.write(
        [
            Batch("oi", "1m", group_rows(live)),
            Batch("oi", "5m", group_rows(exact)),
            Batch("ohlcv", "1m", {BARS: [bar]}),
        ],
        [Covered(OI, windows), Covered(BARS, [minutes(0, 1)])],
    )
    writer.write([], [Covered(OI, [minutes(4, 5)], [Absence(minutes(4, 5), "missed")])])
    with caplog.at_level(logging.INFO):
        assert migrate_again(database, NAME) == [NAME]
    assert rows(database, OI) == [
        (1, "1m", "0", "7"),
        (2, "1m", "1", "7"),
        (3, "1m", "2", "7"),
        (4, "1m", "3", "7"),
        (5, "5m", "5.5", None),
        (9, "1m", "8", "7"),
        (10, "5m", "10.5", None),
    ]
    assert rows(database, BARS) == [(0, "1m", "1", None)]
    with database.open_transaction() as cursor:
        assert coverage.find_missing(cursor, OI, minutes(0, 15)) == [minutes(0, 1)]
        assert coverage.find_missing(cursor, BARS, minutes(0, 1)) == []
        assert coverage.count_absent_ms(cursor, OI, minutes(0, 15)) == 0
        cursor.execute("SELECT count(*) FROM perp_absence")
        assert cursor.fetchone() == (0,)
    assert "5 live rows moved to the end of their minute, 1 gave way to exact rows" in caplog.text
    assert migrate_again(database, NAME) == [
        NAME
    ]  # of an installation without such rows nothing changes but what is live


def test_a_row_whose_month_has_no_partition_is_fetched_again(database):
    last = START - MINUTE_MS
    Writer(database).write([Batch("oi", "1m", {OI: [OpenInterest(last, "1")]})], [Covered(OI, [Window(last, START)])])
    with database.open_transaction() as cursor:
        cursor.execute("DROP TABLE IF EXISTS perp_data_2026_01")
    migrate_again(database, NAME)
    assert rows(database, OI) == []
    with database.open_transaction() as cursor:
        assert coverage.find_missing(cursor, OI, Window(last, START)) == [Window(last, START)]


def test_an_installation_without_live_rows_stays_as_it_is(database, caplog):
    exact = [(OI, OpenInterest(START, "5"))]
    Writer(database).write([Batch("oi", "5m", group_rows(exact))], [Covered(OI, [minutes(0, 5)])])
    with caplog.at_level(logging.INFO):
        migrate_again(database, NAME)
    assert rows(database, OI) == [(0, "5m", "5", None)]
    assert "live rows" not in caplog.text
