"""perp_data on TimescaleDB: which chunks are compressed, and which are dropped."""

import logging
import re

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS
from fademoe.store.queries import load_queries

log = logging.getLogger(__name__)

SQL = load_queries("timescale")

LICENSE = "timescale"  # the other one, apache, comes without compression
# Before it, INSERT … ON CONFLICT DO NOTHING into a compressed chunk ended at the first conflict, and the rows behind
# it were lost (timescale/timescaledb issue 7672, release notes of 2.18.1).
OLDEST = (2, 18, 1)
FINISHED_MS = 14 * DAY_MS  # a chunk so old gets no rows any more but late repairs, which it takes compressed as well


def is_available(cursor: Cursor) -> bool:
    """Return whether the extension is created, or installed and loaded."""
    cursor.execute(SQL["is_available"])
    return bool((cursor.fetchone() or (False,))[0])


def create_extension(cursor: Cursor) -> None:
    """Create the extension in this database."""
    cursor.execute(SQL["create_extension"])


def lift_limit_of_changes(cursor: Cursor) -> None:
    """Let this transaction change any number of compressed rows; by default TimescaleDB refuses more than 100,000.

    Does nothing on a version that knows no such limit.
    """
    cursor.execute(SQL["lift_limit_of_changes"])


def compress_finished(cursor: Cursor) -> None:
    """Have TimescaleDB compress finished chunks of perp_data, where its licence and version allow it.

    Decided once: what was changed of it since then stays. Does nothing where perp_data is no hypertable.
    """
    cursor.execute(SQL["version"])
    version = cursor.fetchone()
    if version is None or is_partitioned(cursor):
        return
    reason = explain_uncompressed(*version)
    if reason:
        log.info("chunks stay uncompressed: %s", reason)
        return
    cursor.execute(SQL["is_compressed"])
    if cursor.fetchone() != (False,):
        return
    cursor.execute(SQL["compress"])
    cursor.execute(SQL["add_compression_policy"], {"after": FINISHED_MS})
    log.info("TimescaleDB compresses chunks older than %d days from now on", FINISHED_MS // DAY_MS)


def explain_uncompressed(version: str, license_name: str | None) -> str | None:
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
    cursor.execute(SQL["is_partitioned"])
    return bool((cursor.fetchone() or (False,))[0])


def drop_chunks(cursor: Cursor, edge_ms: int) -> int:
    """Drop the chunks that lie wholly before `edge_ms`; return since when rows are kept now."""
    cursor.execute(SQL["drop_chunks"], {"edge": edge_ms})
    return find_kept_from_ms(cursor, edge_ms)


def find_kept_from_ms(cursor: Cursor, edge_ms: int) -> int:
    """Return since when rows are kept where the chunks that lie wholly before `edge_ms` are dropped."""
    cursor.execute(SQL["oldest_kept_chunk"], {"edge": edge_ms})
    (oldest_ms,) = cursor.fetchone() or (None,)
    return min(edge_ms, oldest_ms) if oldest_ms is not None else edge_ms
