"""What the system writes about its own work stays small."""

import pytest

from fademoe.clock import MINUTE_MS, Window
from fademoe.errors import RetryLater
from fademoe.store import coverage, status
from fademoe.store.coverage import NO_ROW, SETTLED_CHECKS, Absence, Covered, Series
from fademoe.store.queries import load_queries
from fademoe.store.status import Report, State
from fademoe.store.writer import Writer

START = 1_767_225_600_000
BTC = Series("c-bin-ohlcv", "BTC")
MAINTENANCE = {
    "status": ("forget_errors", "forget_history", "forget_corrections", "forget_superseded"),
    "coverage": ("forget_absences_before",),
}


def fetch(database, statement, values=None):
    return database.run(lambda cursor: (cursor.execute(statement, values), cursor.fetchall())[1])


def execute(database, statement, values=None):
    database.run(lambda cursor: cursor.execute(statement, values))


def test_routine_work_leaves_one_line_in_the_history(database):
    """The fault: each window left two lines, 4,500 a day and coin."""
    for _ in range(50):
        for state in (State.RUNNING, State.DONE):
            status.report(database, Report(unit="backfill bin-ohlcv BTC", state=state))
    for state in (State.WAITING, State.WAITING, State.RUNNING, State.ERROR, State.DONE, State.RUNNING):
        status.report(database, Report(unit="backfill bin-ohlcv BTC", state=state))
    states = [state for (state,) in fetch(database, "SELECT state FROM perp_status_history ORDER BY id")]
    assert states == ["running", "waiting", "running", "error", "done"]


def test_old_and_too_many_lines_are_deleted(database, monkeypatch):
    """The fault: corrections were never trimmed, and nothing limited the number of any of them."""
    monkeypatch.setattr(status, "KEPT_ERRORS", status.Kept("30 days", 3))
    for number in range(5):
        status.record_error(database, f"unit {number}", RetryLater(f"{'abcde'[number]} is away", retry_after_s=1))
        status.report(database, Report(unit=f"unit {number}", state=State.RUNNING))
    execute(
        database,
        "INSERT INTO perp_corrections (source, symbol, ts, \"column\", at) VALUES ('a', 'b', 1, '', now()),"
        " ('a', 'b', 2, '', now() - interval '366 days')",
    )
    execute(database, "UPDATE perp_status_history SET at = now() - interval '31 days' WHERE unit = 'unit 0'")
    status.forget_old(database)
    assert [unit for (unit,) in fetch(database, "SELECT unit FROM perp_errors ORDER BY id")] == [
        "unit 2",
        "unit 3",
        "unit 4",
    ]
    assert fetch(database, "SELECT count(*) FROM perp_status_history") == [(4,)]
    assert fetch(database, "SELECT ts FROM perp_corrections") == [(1,)]


@pytest.mark.parametrize("subject", MAINTENANCE)
def test_what_maintenance_deletes_is_found_by_an_index(database, subject):
    """The fault: the history's DELETE read the whole table."""
    values = {"age": "30 days", "rows": 1_000, "kept_from": START}
    for name in MAINTENANCE[subject]:

        def explain(cursor, name=name):
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {load_queries(subject)[name]}", values)
            return "\n".join(line for (line,) in cursor.fetchall())

        plan = database.run(explain)
        assert "Seq Scan" not in plan and "Index" in plan, plan


@pytest.mark.parametrize("kept", [status.KEPT_HISTORY, status.Kept("30 days", 49_990)], ids=["none", "ten"])
def test_the_history_is_not_read_to_delete_a_little_of_it(database, kept):
    """The fault: its only index began with the unit, so the hourly DELETE read the whole of that."""
    execute(
        database,
        "INSERT INTO perp_status_history (at, unit, state)"
        " SELECT now() - i * interval '1 second', 'unit ' || mod(i, 500), 'done' FROM generate_series(1, 50000) AS i",
    )
    execute(database, "ANALYZE perp_status_history")
    statement = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {load_queries('status')['forget_history']}"
    [([plan],)] = fetch(database, statement, kept._asdict())
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 100


def test_neighbouring_absences_that_are_settled_are_one(database):
    """The fault: an illiquid contract of which minutes are missing left a row for each, for ever."""
    writer = Writer(database)
    minutes = [Window(START + n * MINUTE_MS, START + (n + 1) * MINUTE_MS) for n in range(30)]

    def ask():
        for minute in minutes:
            writer.write([], [Covered(BTC, [minute], [Absence(minute, NO_ROW)])])
        execute(database, "UPDATE perp_absence SET checked_at = checked_at - interval '1 hour'")

    for _ in range(SETTLED_CHECKS - 1):
        ask()
    assert fetch(database, "SELECT count(*), min(checks) FROM perp_absence") == [(30, SETTLED_CHECKS - 1)]
    ask()
    whole = [(START, minutes[-1].end_ms, SETTLED_CHECKS)]
    assert fetch(database, "SELECT start_ms, end_ms, checks FROM perp_absence") == whole
    assert database.run(lambda cursor: coverage.list_rechecks(cursor, BTC.source, MINUTE_MS, 10)) == []
