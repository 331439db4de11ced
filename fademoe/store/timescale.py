"""perp_data on TimescaleDB: which chunks are compressed, and which are dropped."""

import logging
import re

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS

log = logging.getLogger(__name__)

LICENSE = "timescale"  # the other one, apache, comes without compression
# Before it, INSERT … ON CONFLICT DO NOTHING into a compressed chunk ended at the first conflict, and the rows behind
# it were lost (timescale/timescaledb issue 7672, release notes of 2.18.1).
OLDEST = (2, 18, 1)
FINISHED_MS = 14 * DAY_MS  # a chunk so old gets no rows any more but late repairs, which it takes compressed as well


def compress_finished(cursor: Cursor) -> None:
    """Have TimescaleDB compress finished chunks of perp_data, where its licence and version allow it.

    Decided once: what somebody has changed of it since then stays. Does nothing where perp_data is no hypertable.
    """
    cursor.execute(
        "SELECT extversion, current_setting('timescaledb.license', true) FROM pg_extension"
        " WHERE extname = 'timescaledb'"
    )
    found = cursor.fetchone()
    if found is None or is_partitioned(cursor):
        return
    reason = why_uncompressed(*found)
    if reason:
        log.info("chunks stay uncompressed: %s", reason)
        return
    cursor.execute(
        "SELECT compression_enabled FROM timescaledb_information.hypertables"
        " WHERE hypertable_schema = current_schema() AND hypertable_name = 'perp_data'"
    )
    if cursor.fetchone() != (False,):
        return
    cursor.execute(
        "ALTER TABLE perp_data SET (timescaledb.compress,"
        " timescaledb.compress_segmentby = 'source, symbol', timescaledb.compress_orderby = 'ts')"
    )
    cursor.execute("SELECT add_compression_policy('perp_data', compress_after => %s::bigint)", (FINISHED_MS,))
    log.info("TimescaleDB compresses chunks older than %d days from now on", FINISHED_MS // DAY_MS)


def why_uncompressed(version: str, license_name: str | None) -> str | None:
    """Return why this TimescaleDB is not to compress, None when it is."""
    if license_name != LICENSE:
        return f"timescaledb.license is {license_name or 'not set'}, compression needs {LICENSE!r}"
    numbers = tuple(int(number) for number in re.findall(r"[0-9]+", version)[:3])
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return f"TimescaleDB {version} may lose rows of compressed chunks, {oldest} and later do not"
    return None


def is_partitioned(cursor: Cursor) -> bool:
    """Return whether perp_data is partitioned by PostgreSQL itself, so no hypertable."""
    cursor.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = 'perp_data'::regclass")
    return bool((cursor.fetchone() or (False,))[0])


def drop_chunks(cursor: Cursor, edge_ms: int) -> int:
    """Drop the chunks that lie wholly before `edge_ms`; return since when rows are kept now."""
    cursor.execute("SELECT drop_chunks('perp_data', older_than => %s::bigint)", (edge_ms,))
    cursor.execute(
        "SELECT min(range_start_integer) FROM timescaledb_information.chunks"
        " WHERE hypertable_schema = current_schema() AND hypertable_name = 'perp_data'"
    )
    (oldest_ms,) = cursor.fetchone() or (None,)
    return min(edge_ms, oldest_ms) if oldest_ms is not None else edge_ms
