"""The audit and the certificate of series that have both rows of the history and live samples."""

import json

import pytest

from fademoe.cli.main import main
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, to_iso
from fademoe.jobs.audit import audit
from fademoe.metrics import OpenInterest
from fademoe.runtime.job_context import JobContext
from fademoe.store import certificate, coverage
from fademoe.store.coverage import NO_ROW, Absence, Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.writer import Batch, Writer, group_rows
from tests.support.clocks import settled_end

SERIES = Series("bin-oi", "BTC")
STEP_MS = 5 * MINUTE_MS


@pytest.fixture
def services(system):
    found = system.context()
    yield found
    found.close()


@pytest.fixture
def day():
    start_ms = settled_end(DAY_MS) - DAY_MS
    return Window(start_ms, start_ms + DAY_MS)


def write(services, interval, step_ms, times, *, value="1"):
    rows = [(SERIES, OpenInterest(ts, value, None)) for ts in times]
    answer = Covered(SERIES, [Window(ts, ts + step_ms) for ts in times], interval_ms=step_ms)
    return services.writer.write([Batch("oi", interval, group_rows(rows))], [answer])


def execute(services, statement, *values):
    services.database.run(lambda cursor: cursor.execute(statement, values))


def corrections(system):
    return system.query("SELECT ts, \"column\" FROM perp_corrections WHERE reason = '' ORDER BY ts")


def test_an_exact_row_over_a_live_sample_is_no_correction(system, services, day):
    """The fault: an audit of live open interest recorded a correction for each of 288 rows, every night."""
    write(services, "1m", MINUTE_MS, range(*day, MINUTE_MS))
    result = audit(JobContext(services=services), SERIES, day)
    assert (result.corrected, result.missing) == (0, 0)
    assert corrections(system) == []
    stored = system.query("SELECT interval, count(*) FROM perp_data GROUP BY interval ORDER BY interval")
    assert sum(count for _, count in stored) == DAY_MS // MINUTE_MS
    exact = dict(stored)["5m"]
    assert exact > 280, "the exact rows took the place of the samples"
    again = audit(JobContext(services=services), SERIES, day)
    assert (again.equal, again.corrected, again.missing, corrections(system)) == (exact, 0, 0, [])


def test_the_audit_records_what_it_inserted_and_what_it_changed(system, services, simulator, day):
    """Rows that were not there are inserted and recorded once, values that differ are corrected."""
    truth = simulator.truth("binance", "oi", "BTC", *day)
    times = sorted(truth)
    gone, wrong = times[10], times[20]
    window = Window(day.start_ms, day.start_ms + 4 * HOUR_MS)
    audit_rows = [ts for ts in times if ts < window.end_ms]
    services.writer.write([], [Covered(SERIES, [window])])
    assert audit(JobContext(services=services), SERIES, window).missing == len(audit_rows)
    execute(services, "DELETE FROM perp_corrections")
    execute(services, "DELETE FROM perp_data WHERE ts = %s", gone)
    execute(services, "UPDATE perp_data SET oi = oi + 1 WHERE ts = %s", wrong)
    result = audit(JobContext(services=services), SERIES, window)
    assert (result.corrected, result.missing, result.equal) == (1, 1, len(audit_rows) - 2)
    assert corrections(system) == [(gone, ""), (wrong, "oi")]


def test_the_audit_compares_what_the_exchange_keeps_and_names_the_rest(system, services):
    """Binance refuses a start that is older than 30 days: nothing was compared."""
    end_ms = settled_end(DAY_MS)
    window = Window(end_ms - 40 * DAY_MS, end_ms - 25 * DAY_MS)
    old, young = window.start_ms, window.end_ms - DAY_MS
    write(services, "5m", STEP_MS, [old, young])
    services.writer.write([], [Covered(SERIES, [window])])
    result = audit(JobContext(services=services), SERIES, window)
    assert (result.corrected, result.extra, result.expired) == (1, 0, 1)
    assert result.missing > 1000
    assert "1 older than the exchange keeps" in result.describe()
    assert audit(JobContext(services=services), SERIES, Window(old, old + DAY_MS)).expired == 1


def test_the_audit_fills_the_mark_price_of_settlements_stored_without_it(system, services, day):
    series = Series("bin-fr", "BTC")
    services.writer.write([], [Covered(series, [day])])
    found = audit(JobContext(services=services), series, day)
    stored = system.query("SELECT ts, fr_mark FROM perp_data WHERE source = 'bin-fr' ORDER BY ts")
    assert len(stored) == found.missing > 0
    execute(services, "UPDATE perp_data SET fr_mark = NULL")
    assert audit(JobContext(services=services), series, day).corrected == len(stored)
    assert system.query("SELECT ts, fr_mark FROM perp_data WHERE source = 'bin-fr' ORDER BY ts") == stored
    filled = system.query("SELECT ts, old_value FROM perp_corrections WHERE \"column\" = 'fr_mark' ORDER BY ts")
    assert filled == [(ts, None) for ts, _ in stored]


def verify(system, window):
    options = ("--source", "bin-oi", "--symbol", "BTC", "--since", str(window[0]), "--until", str(window[1]))
    done = system.run("verify", *options, "--json")
    certificate = json.loads(done.stdout)
    assert done.returncode == (0 if certificate["complete"] else 1)
    return certificate


def test_a_certificate_counts_steps_of_both_resolutions(system, services, day):
    """The fault: of a day of live samples it said expected 288, present 1440, complete False."""
    noon_ms = day.start_ms + DAY_MS // 2
    write(services, "5m", STEP_MS, range(day.start_ms, noon_ms, STEP_MS))
    write(services, "1m", MINUTE_MS, range(noon_ms, day.end_ms, MINUTE_MS))
    certificate = verify(system, day)
    assert {name: certificate[name] for name in ("expected", "present", "absent", "missing", "complete", "rows")} == {
        "expected": 288,
        "present": 288,
        "absent": {},
        "missing": 0,
        "complete": True,
        "rows": 144 + 720,
    }


def test_a_certificate_tells_missing_absent_and_lost_steps(system, services, day):
    """A step with a minute that is not covered is missing; one that lost its rows is not complete."""
    times = set(range(*day, MINUTE_MS)) - {day.start_ms + 7 * MINUTE_MS}
    times -= set(range(day.start_ms + 20 * MINUTE_MS, day.start_ms + 30 * MINUTE_MS, MINUTE_MS))
    write(services, "1m", MINUTE_MS, sorted(times))
    empty = Window(day.start_ms + 20 * MINUTE_MS, day.start_ms + 30 * MINUTE_MS)
    services.writer.write([], [Covered(SERIES, [empty], [Absence(empty, NO_ROW)], interval_ms=STEP_MS)])
    certificate = verify(system, day)
    numbers = [certificate[name] for name in ("expected", "present", "absent", "provisional", "missing", "complete")]
    assert numbers == [288, 285, {NO_ROW: 2}, 2, 1, False]
    write(services, "5m", STEP_MS, [day.start_ms + 5 * MINUTE_MS])
    certificate = verify(system, day)
    assert (certificate["present"], certificate["missing"], certificate["complete"]) == (286, 0, True)
    execute(services, "DELETE FROM perp_data WHERE ts >= %s AND ts < %s", day.start_ms, day.start_ms + STEP_MS)
    certificate = verify(system, day)
    assert (certificate["present"], certificate["missing"], certificate["complete"]) == (285, 0, False)


def test_a_certificate_is_of_one_moment(database_url, database, redis_url, monkeypatch, capsys, tmp_path):
    """A window and its coverage are committed right after the rows were hashed: they are missing in it."""
    for name, value in (("HOME", str(tmp_path)), ("DATABASE_URL", database_url), ("REDIS_URL", redis_url)):
        monkeypatch.setenv(f"FADEMOE_{name}", value)
    start_ms = settled_end(DAY_MS) - DAY_MS
    window = Window(start_ms, start_ms + 10 * STEP_MS)
    Partitions(database).ensure(window)
    with database.open_transaction() as cursor:
        coverage.want(cursor, [SERIES], window.start_ms, window.end_ms)

    def hash_and_store(*arguments, original=certificate._hash):
        found = original(*arguments)
        rows = [OpenInterest(ts, "5") for ts in range(*window, STEP_MS)]
        Writer(database).write([Batch("oi", "5m", {SERIES: rows})], [Covered(SERIES, [window])])
        return found

    monkeypatch.setattr(certificate, "_hash", hash_and_store)
    options = ["--source", SERIES.source, "--symbol", SERIES.symbol, "--json"]
    code = main(["verify", *options, "--since", to_iso(window.start_ms), "--until", to_iso(window.end_ms)])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["rows"], found["missing"], found["complete"]) == (1, 0, 10, False)
