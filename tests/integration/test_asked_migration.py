"""Absences at the begin of a day that older versions entered for samples that lie in the file of the day before."""

from fademoe.clock import DAY_MS, MINUTE_MS, Window
from fademoe.jobs.archive_store import NOT_IN_ARCHIVE
from fademoe.store import coverage, files
from fademoe.store.coverage import Absence, Covered, Series
from fademoe.store.writer import Writer
from tests.support.migrations import migrate_again

DAY = 1_714_521_600_000  # 2024-05-01
SAMPLE_MS = 5 * MINUTE_MS
OI, BARS = Series("bin-oi", "ETH"), Series("bin-ohlcv", "ETH")
NAME = "0021_asked_files"


def upgrade(database):
    """Migrate a database as it was before the migration."""
    with database.open_transaction() as cursor:
        cursor.execute("ALTER TABLE perp_files_asked RENAME COLUMN metric TO dataset")
        cursor.execute("INSERT INTO perp_files_asked VALUES ('binance', 'metrics', 'ETHUSDT', '{[0,9)}')")
    return migrate_again(database, NAME)


def test_the_first_samples_of_windows_are_missing_again(database):
    whole = Window(DAY, DAY + 3 * DAY_MS)
    first = Window(DAY, DAY + SAMPLE_MS)
    longer = Window(DAY + DAY_MS, DAY + DAY_MS + 3 * SAMPLE_MS)
    amid = Window(DAY + 7 * SAMPLE_MS, DAY + 8 * SAMPLE_MS)
    zero = Window(DAY + 2 * DAY_MS, DAY + 2 * DAY_MS + SAMPLE_MS)
    absences = [Absence(window, NOT_IN_ARCHIVE) for window in (first, amid, longer)]
    writer = Writer(database)
    writer.write([], [Covered(OI, [whole], [*absences, Absence(zero, "zero in archive")], SAMPLE_MS)])
    writer.write([], [Covered(BARS, [whole], [Absence(first, NOT_IN_ARCHIVE)])])
    assert upgrade(database) == [NAME]
    with database.open_transaction() as cursor:
        begin = Window(longer.start_ms, longer.start_ms + SAMPLE_MS)
        assert coverage.find_missing(cursor, OI, whole) == [first, begin]
        assert coverage.find_missing(cursor, BARS, whole) == []
        absent = coverage.find_absent(cursor, OI, whole, [NOT_IN_ARCHIVE])
        assert absent == [amid, Window(begin.end_ms, longer.end_ms)]
        assert coverage.count_absent_ms(cursor, OI, whole) == 4 * SAMPLE_MS
        assert coverage.find_absent(cursor, BARS, whole, [NOT_IN_ARCHIVE]) == [first]
        assert files.read_requested(cursor, "binance", "oi") == {}
