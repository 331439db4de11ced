"""FADEMOE_RETENTION_DAYS."""

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.jobs import maintenance
from fademoe.metrics import Candle, Liquidations
from fademoe.queue.ids import Task
from fademoe.queue.states import connect_queue
from fademoe.store import coverage, files
from fademoe.store.connection import Database
from fademoe.store.coverage import Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.writer import Batch, Writer, group_rows
from tests.support.clocks import settled_end

BTC = Series("bin-ohlcv", "BTC")


def test_files_of_what_is_forgotten_may_be_asked_for_again(database_url):
    database = Database(database_url)
    with database.open_transaction() as cursor:
        files.add_asked(cursor, "binance", "ohlcv", "BTCUSDT", [Window(0, 10 * DAY_MS)])
        files.forget_before(cursor, 4 * DAY_MS)
        assert files.read_requested(cursor, "binance", "ohlcv") == {"BTCUSDT": [Window(4 * DAY_MS, 10 * DAY_MS)]}
    database.close()


def test_old_months_go_with_their_coverage_and_young_rows_stay(database_url):
    database = Database(database_url)
    old, young = (floor_to(now_ms() - days * DAY_MS, MINUTE_MS) for days in (200, 1))
    rows = [(BTC, Candle(ts, "1", "1", "1", "1", "1")) for ts in (old, young)]
    windows = [Window(ts, ts + MINUTE_MS) for ts in (old, young)]
    Writer(database).write([Batch("ohlcv", "1m", group_rows(rows))], [Covered(BTC, windows)])
    edge_ms = settled_end(DAY_MS) - 60 * DAY_MS
    kept_from_ms = Partitions(database).drop_before(edge_ms)
    assert edge_ms - 31 * DAY_MS < kept_from_ms <= edge_ms
    with database.open_transaction() as cursor:
        coverage.want(cursor, [BTC], old, None)
        coverage.forget_before(cursor, edge_ms, kept_from_ms)
        cursor.execute("SELECT ts FROM perp_data")
        assert cursor.fetchall() == [(young,)]
        assert coverage.find_covered(cursor, BTC, Window(old, now_ms())) == [windows[1]]
        assert coverage.find_gaps(cursor, "bin-ohlcv", young)[0][1].start_ms == edge_ms
    assert Partitions(database).drop_before(edge_ms) == kept_from_ms
    database.close()


def test_seeding_stops_at_the_edge_and_says_so(system):
    done = system.run("seed", "--days", "90", "--symbols", "BTC", "--dry-run", FADEMOE_RETENTION_DAYS="5")
    assert done.returncode == 0, done.stderr
    assert "FADEMOE_RETENTION_DAYS deletes everything before" in done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("bin-ohlcv"))
    assert int(line.split()[-1].replace(",", "")) <= 5 * 1440 + 60


def test_what_was_wanted_before_the_edge_is_not_fetched_any_more(system):
    with system.context().database.open_transaction() as cursor:
        coverage.want(cursor, [BTC], now_ms() - 90 * DAY_MS, None)
    system.environment["FADEMOE_RETENTION_DAYS"] = "5"
    edge_ms = floor_to(now_ms() - 5 * DAY_MS, HOUR_MS)
    assert system.run("reconcile").returncode == 0
    tasks = [Task.parse(job_id) for job_id in connect_queue(system.context().redis, "binance").get_job_ids()]
    assert tasks
    oldest_ms = min(task.window.start_ms for task in tasks)
    assert oldest_ms in (edge_ms, edge_ms + HOUR_MS)


def months(services) -> int:
    """Return how many partitions there are."""
    with services.database.open_transaction() as cursor:
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'perp_data'::regclass")
        return int(cursor.fetchone()[0])


@pytest.fixture
def kept(system):
    """Services with thirty days of retention and rows of 200 days; (services, partitions there are)."""
    system.environment["FADEMOE_RETENTION_DAYS"] = "30"
    services = system.context()
    Partitions(services.database).ensure(Window(now_ms() - 200 * DAY_MS, now_ms()))
    yield services, months(services)
    services.close()


@pytest.mark.parametrize("ahead_days", [365, 2, -2, -365])
def test_nothing_is_dropped_while_the_clock_of_the_host_is_off_by_more_than_a_day(kept, monkeypatch, ahead_days):
    """The fault: a host a year ahead dropped every partition at its start."""
    services, before = kept
    monkeypatch.setattr(maintenance, "now_ms", lambda: now_ms() + ahead_days * DAY_MS)
    assert "differ by more than a day" in maintenance.drop_expired(services)
    assert months(services) == before


@pytest.mark.parametrize("ahead_days", [-1, 0, 1])
def test_retention_goes_by_the_earliest_clock(kept, monkeypatch, ahead_days):
    services, before = kept
    monkeypatch.setattr(maintenance, "now_ms", lambda: now_ms() + ahead_days * DAY_MS)
    edges = []
    monkeypatch.setattr(Partitions, "drop_before", lambda self, edge_ms: edges.append(edge_ms) or edge_ms)
    assert maintenance.drop_expired(services) == ""
    expected = services.settings.compute_kept_from_ms(now_ms() + min(ahead_days, 0) * DAY_MS)
    assert abs(edges[0] - expected) <= HOUR_MS
    assert months(services) == before


def test_without_any_exchanges_time_nothing_is_dropped(kept, system):
    services, before = kept
    system.simulator.fault(exchange="binance", kind="down")
    assert registry.select_enabled(services.settings)
    assert maintenance.drop_expired(services) == "retention waits: no exchange tells its time"
    assert months(services) == before


def test_no_range_stays_covered_when_a_run_ends_before_it_is_forgotten(kept, monkeypatch):
    """Its months were dropped first: liquidations of which no row was left counted as zero for an hour at least."""
    services, before = kept
    monkeypatch.setattr(maintenance, "MAINTENANCE_LOCK_TIMEOUT_S", 0.05)
    series, ts = Series("bin-lq", "BTC"), floor_to(now_ms() - 100 * DAY_MS, MINUTE_MS)
    answer = Covered(series, [Window(ts, ts + MINUTE_MS)])
    Writer(services.database).write([Batch("lq", "1m", {series: [Liquidations(ts, "1", "1")]})], [answer])
    other = Database(services.settings.postgres_url)
    with other.open_transaction() as cursor:
        cursor.execute("SELECT FROM perp_coverage FOR UPDATE")  # as a long transaction of a writer does
        with pytest.raises(StoreError):
            maintenance.drop_expired(services)
        assert months(services) == before
    other.close()
    assert maintenance.drop_expired(services) == ""
    assert months(services) < before
    with services.database.open_transaction() as cursor:
        assert coverage.find_covered(cursor, series, Window(0, now_ms())) == []
