"""TimescaleDB, on the server that FADEMOE_TEST_TIMESCALE_URL names: `pytest -m elsewhere`.

No wheel and no Debian package brings TimescaleDB, so this is the one service that the tests do not start themselves.
"""

import os
from decimal import Decimal
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.metrics import Candle
from fademoe.store import corrections, coverage, timescale
from fademoe.store.connection import Database
from fademoe.store.corrections import Difference
from fademoe.store.coverage import Covered, Series
from fademoe.store.migrate import migrate
from fademoe.store.partitions import Partitions
from fademoe.store.read import schema as read_schema
from fademoe.store.writer import Batch, Writer, group_rows

URL = os.environ.get("FADEMOE_TEST_TIMESCALE_URL", "")
NAME = f"fademoe_test_{os.getpid()}"
START = floor_to(now_ms() - 60 * DAY_MS, DAY_MS)
BTC = Series("bin-ohlcv", "BTC")
ROWS = 2000


@pytest.fixture
def database():
    """A database with the schema, on the server that was named."""
    assert URL, "FADEMOE_TEST_TIMESCALE_URL names a server on which databases may be made"
    execute(URL, f"CREATE DATABASE {NAME}")
    found = Database(urlunsplit(urlsplit(URL)._replace(path=f"/{NAME}")))
    migrate(found, list(registry.load_exchanges().values()))
    yield found
    found.close()
    execute(URL, f"DROP DATABASE {NAME} WITH (FORCE)")


def execute(url, *statements):
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def fetch(database, statement, *values):
    with database.open_transaction() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def write(database, numbers, close="1.50"):
    rows = [(BTC, Candle(START + n * MINUTE_MS, "1.0", "2", "0.5", close, "10")) for n in numbers]
    return Writer(database).write(
        [Batch("ohlcv", "1m", group_rows(rows))], [Covered(BTC, [Window(START, START + DAY_MS)])]
    )


def compress(database):
    """Let the policy run now; return how many chunks are compressed."""
    [(job,)] = fetch(database, "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'")
    execute(urlunsplit(urlsplit(URL)._replace(path=f"/{NAME}")), f"CALL run_job({job})")
    return fetch(database, "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed")[0][0]


def test_the_limit_of_changes_is_lifted_for_one_transaction_where_it_is_known(database_url):
    """Not of TimescaleDB: any PostgreSQL takes a parameter with a prefix."""
    plain, name = Database(database_url), "timescaledb.max_tuples_decompressed_per_dml_transaction"
    with plain.open_transaction() as cursor:
        timescale.lift_limit_of_changes(cursor)
        cursor.execute("SELECT current_setting(%s, true)", (name,))
        assert cursor.fetchone() == (None,)
        cursor.execute("SELECT set_config(%s, '100000', false)", (name,))
    with plain.open_transaction() as cursor:
        timescale.lift_limit_of_changes(cursor)
        cursor.execute("SELECT current_setting(%s)", (name,))
        assert cursor.fetchone() == ("0",)
    assert fetch(plain, "SELECT current_setting(%s)", name) == [("100000",)]
    plain.close()


@pytest.mark.elsewhere
def test_finished_chunks_are_compressed_and_take_late_rows(database):
    holes = range(100, 110)
    assert write(database, [n for n in range(ROWS) if n not in holes]) == ROWS - len(holes)
    assert compress(database) >= 1
    with database.open_transaction() as cursor:
        shown = next(size for size in read_schema.list_sizes(cursor) if size.table == "perp_data")
    assert shown.bytes >= fetch(database, "SELECT sum(total_bytes) FROM chunks_detailed_size('perp_data')")[0][0]
    assert write(database, range(ROWS), close="1.9") == len(holes)
    assert write(database, [5, ROWS, 6, ROWS + 1], close="1.8") == 2
    with database.open_transaction() as cursor:
        corrections.correct(cursor, BTC, "1m", [Difference(START, "c", "1.50", "1.7")])
    assert fetch(database, "SELECT c, count(*) FROM perp_data GROUP BY c ORDER BY c") == [
        (Decimal("1.50"), ROWS - len(holes) - 1),
        (Decimal("1.7"), 1),
        (Decimal("1.8"), 2),
        (Decimal("1.9"), len(holes)),
    ]


@pytest.mark.elsewhere
def test_a_new_column_fits_compressed_chunks(database):
    write(database, range(ROWS))
    compress(database)
    execute(urlunsplit(urlsplit(URL)._replace(path=f"/{NAME}")), "ALTER TABLE perp_data ADD COLUMN later NUMERIC")
    assert migrate(database, list(registry.load_exchanges().values())) == []
    assert fetch(database, "SELECT count(*) FROM perp_data WHERE later IS NULL") == [(ROWS,)]


@pytest.mark.elsewhere
def test_retention_drops_chunks_and_their_coverage(database):
    write(database, range(ROWS))
    young = floor_to(now_ms() - DAY_MS, MINUTE_MS)
    row = (BTC, Candle(young, "1", "1", "1", "1", "1"))
    Writer(database).write(
        [Batch("ohlcv", "1m", group_rows([row]))], [Covered(BTC, [Window(young, young + MINUTE_MS)])]
    )
    edge_ms = now_ms() - 10 * DAY_MS
    kept_from_ms = Partitions(database).drop_before(edge_ms)
    assert edge_ms - 7 * DAY_MS < kept_from_ms <= edge_ms
    with database.open_transaction() as cursor:
        coverage.forget_before(cursor, edge_ms, kept_from_ms)
        assert coverage.find_covered(cursor, BTC, Window(START, now_ms())) == [Window(young, young + MINUTE_MS)]
    assert fetch(database, "SELECT ts FROM perp_data") == [(young,)]


@pytest.mark.parametrize(
    ("version", "license_name", "words"),
    [
        ("2.29.2", "timescale", None),
        ("2.18.1", "timescale", None),
        ("2.23.0-dev", "timescale", None),
        ("2.29.2", "apache", "license is apache"),
        ("2.29.2", None, "not set"),
        ("2.18.0", "timescale", "2.18.1 and later"),
        ("2.9.3", "timescale", "may lose rows"),
    ],
)
def test_chunks_stay_uncompressed_where_that_cannot_be_or_is_not_safe(version, license_name, words):
    reason = timescale.explain_uncompressed(version, license_name)
    assert reason is None if words is None else words in reason
