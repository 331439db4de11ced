"""FADEMOE_RETENTION_DAYS."""

from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.metrics import Candle
from fademoe.store import coverage
from fademoe.store.coverage import Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.pool import Database
from fademoe.store.writer import Batch, Writer

BTC = Series("bin-ohlcv", "BTC")


def test_old_months_go_with_their_coverage_and_young_rows_stay(database_url):
    database = Database(database_url)
    old, young = (floor_to(now_ms() - days * DAY_MS, MINUTE_MS) for days in (200, 1))
    rows = [(BTC, Candle(ts, "1", "1", "1", "1", "1")) for ts in (old, young)]
    windows = [Window(ts, ts + MINUTE_MS) for ts in (old, young)]
    Writer(database).write([Batch("ohlcv", "1m", rows)], [Covered(BTC, windows)])
    kept_from_ms = Partitions(database).drop_before(now_ms() - 60 * DAY_MS)
    with database.transaction() as cursor:
        coverage.forget_before(cursor, kept_from_ms)
        cursor.execute("SELECT ts FROM perp_data")
        assert cursor.fetchall() == [(young,)]
        assert coverage.covered(cursor, BTC, Window(old, now_ms())) == [windows[1]]
    assert Partitions(database).drop_before(now_ms() - 60 * DAY_MS) is None
    database.close()


def test_seeding_stops_at_the_edge_and_says_so(system):
    done = system.run("seed", "--days", "90", "--symbols", "BTC", "--dry-run", FADEMOE_RETENTION_DAYS="5")
    assert done.returncode == 0, done.stderr
    assert "FADEMOE_RETENTION_DAYS keeps nothing before" in done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("bin-ohlcv"))
    assert int(line.split()[-1].replace(",", "")) <= 5 * 1440
