"""Materialised hours: equal to the aggregation of the rows, value by value, whatever changes these."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.jobs.hours import refresh
from fademoe.metrics import STEPS_MS, Candle, Funding, OpenInterest
from fademoe.runtime.services import Services
from fademoe.settings import Settings
from fademoe.signals import StopSignal
from fademoe.store import corrections, coverage, hours
from fademoe.store.connection import Database
from fademoe.store.corrections import Difference
from fademoe.store.coverage import NO_ROW, Absence, Covered, Series
from fademoe.store.read.catalog import list_perpspecs
from fademoe.store.read.rows import Selection
from fademoe.store.read.steps import read_step_page
from fademoe.store.writer import Batch, Writer, store_rows
from tests.support.clocks import settled_end

START = settled_end(DAY_MS) - 3 * DAY_MS
BTC, OI, FR = Series("bin-ohlcv", "BTC"), Series("byb-oi", "BTC"), Series("okx-fr", "BTC")


@pytest.fixture
def services(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Services]:
    found = Services(Settings(home=tmp_path, database_url=database_url, redis_url=redis_url), StopSignal())
    yield found
    found.close()


@pytest.fixture
def filled(services: Services) -> Services:
    """Two days and a bit of candles with holes, open interest with live rows between, and settlements."""
    minutes = [m for m in range(20, 2 * 1440 + 50) if m % 97 and not 600 <= m < 720]
    candles = [
        Candle(START + m * MINUTE_MS, f"{m}.10", f"{m + 1}.5", f"{m - 1}", f"{m}.250", str(m % 7), "1.5", m % 5)
        for m in minutes
    ]
    answer = Covered(
        BTC,
        [Window(START + 20 * MINUTE_MS, START + (2 * 1440 + 50) * MINUTE_MS)],
        [Absence(Window(START + 600 * MINUTE_MS, START + 720 * MINUTE_MS), NO_ROW)],
    )
    services.writer.write([Batch("ohlcv", "1m", {BTC: candles})], [answer])
    marks = [OpenInterest(START + m * MINUTE_MS, f"{1000 + m}.5", None if m % 25 else "9") for m in range(0, 2880, 5)]
    live = [OpenInterest(START + m * MINUTE_MS, "1") for m in range(3, 2880, 60)]
    rates = [Funding(START + h * HOUR_MS, f"0.000{h + 10}", 8) for h in range(0, 48, 8)]
    batches = [Batch("oi", "5m", {OI: marks}), Batch("oi", "1m", {OI: live})]
    batches.append(Batch("fr", "settlement", {FR: rates}))
    whole = [Window(START, START + 2 * DAY_MS)]
    services.writer.write(batches, [Covered(OI, whole), Covered(FR, whole)])
    return services


def read(database: Database, series: Series, step: str) -> list[tuple]:
    """Return all coarser bars of a series."""
    with database.open_transaction() as cursor:
        spec = list_perpspecs(cursor)[series.source]
        names = tuple(field.name for field in spec.fields)
        chosen = Selection(symbols=(series.symbol,), columns=names, start_ms=0, end_ms=2**52, limit=5000)
        return read_step_page(cursor, spec, chosen, step, now_ms()).rows


def read_from_rows(database: Database, series: Series, step: str) -> list[tuple]:
    """Return the same as if no hour were made."""
    kept = query(database, "SELECT source, symbol, hours::text FROM perp_hours_made")
    run(database, "DELETE FROM perp_hours_made")
    rows = read(database, series, step)
    for each in kept:
        run(database, "INSERT INTO perp_hours_made VALUES (%s, %s, %s)", *each)
    return rows


def run(database: Database, statement: str, *values: object) -> None:
    database.run(lambda cursor: cursor.execute(statement, values))


def query(database: Database, statement: str, *values: object) -> list[tuple]:
    with database.open_transaction() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def test_what_is_read_from_hours_equals_the_aggregation_of_the_rows(filled: Services):
    assert refresh(filled) > 90
    made = dict(query(filled.database, "SELECT source, hours::text FROM perp_hours_made"))
    edge = START + 2 * DAY_MS  # the hour in which the coverage ends is not made, nor the one in which it begins
    assert made["bin-ohlcv"] == f"{{[{START + HOUR_MS},{edge})}}"
    for series in (BTC, OI, FR, Series("bin-vwap", "BTC"), Series("bin-cvd", "BTC"), Series("byb-oi_chg", "BTC")):
        for step in STEPS_MS:
            found = read(filled.database, series, step)
            assert found == read_from_rows(filled.database, series, step), (series, step)
            assert found
    run(filled.database, "UPDATE perp_hours SET h = 77777 WHERE source = 'bin-ohlcv'")
    assert {row[4] for row in read(filled.database, BTC, "4h")} >= {"77777"}  # it is where long steps come from
    assert "77777" not in {row[4] for row in read(filled.database, BTC, "15m")}
    assert refresh(filled) == 0  # nothing is due twice


def test_a_corrected_value_is_in_the_answer_at_once_and_in_the_hours_soon(filled: Services):
    refresh(filled)
    ts = START + 100 * MINUTE_MS
    change = Difference(ts, "h", "101.5", "999999")
    filled.database.run(lambda cursor: corrections.correct(cursor, BTC, "1m", [change]))
    assert max(row[4] for row in read(filled.database, BTC, "1d")) == "999999"
    assert refresh(filled) == 1
    (high,) = query(
        filled.database, "SELECT h::text FROM perp_hours WHERE source = 'bin-ohlcv' AND ts = %s", floor_to(ts, HOUR_MS)
    )
    assert high == ("999999",)
    assert read(filled.database, BTC, "1d") == read_from_rows(filled.database, BTC, "1d")
    assert query(filled.database, "SELECT * FROM perp_hours_stale") == []


def test_rows_that_come_later_into_a_made_hour_are_in_the_answer_at_once(filled: Services):
    """What was absent is there all the same: the value, the bars and the absences change together."""
    refresh(filled)
    late = [Candle(START + m * MINUTE_MS, "1", "2", "1", "2", "5", "5", 1) for m in range(600, 720)]
    answer = Covered(BTC, [Window(late[0].ts, late[-1].ts + MINUTE_MS)])
    assert not [row for row in read(filled.database, BTC, "1h") if row[0] == late[0].ts]
    filled.writer.write([Batch("ohlcv", "1m", {BTC: late})], [answer])
    (row,) = [row for row in read(filled.database, BTC, "1h") if row[0] == late[0].ts]
    assert row[-4:] == (60, 60, 0, True) and row[7] == "300"
    assert refresh(filled) == 2
    assert read(filled.database, BTC, "4h") == read_from_rows(filled.database, BTC, "4h")


def test_an_hour_that_is_made_while_rows_of_it_are_under_way_is_not_used(filled: Services, database_url: str):
    """The other transaction stored its rows before the hour was made, and commits after it."""
    other = Database(database_url, "fademoe other")
    Writer(other).make_room([START])
    late = [Candle(START + m * MINUTE_MS, "1", "2", "1", "2", "5", "5", 1) for m in range(600, 610)]
    answer = Covered(BTC, [Window(late[0].ts, late[-1].ts + MINUTE_MS)])
    with other.open_transaction() as cursor:
        store_rows(cursor, [Batch("ohlcv", "1m", {BTC: late})], [answer])
        filled.database.run(lambda mine: hours.make(mine, BTC, Window(START + HOUR_MS, START + 20 * HOUR_MS)))
    other.close()
    assert [row[-4] for row in read(filled.database, BTC, "1h") if row[0] == late[0].ts] == [10]
    refresh(filled)
    assert read(filled.database, BTC, "1h") == read_from_rows(filled.database, BTC, "1h")


def test_hours_that_are_no_more_covered_are_not_complete_and_change_with_their_rows(filled: Services):
    refresh(filled)
    window = Window(START + 5 * HOUR_MS, START + 6 * HOUR_MS)
    run(
        filled.database,
        "UPDATE perp_coverage SET covered = covered - int8multirange(int8range(%s, %s)) WHERE source = 'bin-ohlcv'",
        *window,
    )
    assert [row[-1] for row in read(filled.database, BTC, "1h") if row[0] == window.start_ms] == [False]
    run(filled.database, "DELETE FROM perp_data WHERE source = 'bin-ohlcv' AND ts = %s", window.start_ms + MINUTE_MS)
    back = Candle(window.start_ms + MINUTE_MS, "1", "55555", "1", "2", "5", "5", 1)
    filled.writer.write([Batch("ohlcv", "1m", {BTC: [back]})], [Covered(BTC, [window])])
    assert [row[4] for row in read(filled.database, BTC, "1h") if row[0] == window.start_ms] == ["55555"]


def test_hours_are_forgotten_with_their_rows(filled: Services):
    refresh(filled)
    edge = START + DAY_MS
    filled.database.run(lambda cursor: coverage.forget_before(cursor, edge, edge))
    filled.database.run(lambda cursor: hours.forget_before(cursor, edge))
    assert query(filled.database, "SELECT min(ts), min(lower(hours)) FROM perp_hours, perp_hours_made") == [
        (edge, edge)
    ]
