"""Writes rows and the coverage they prove, in one transaction."""

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import NamedTuple

from psycopg2 import errors, sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.metrics import METRICS, Row
from fademoe.store import coverage
from fademoe.store.coverage import Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.pool import Database

KEY_COLUMNS = ("ts", "symbol", "source", "interval")


class Batch(NamedTuple):
    """Rows of one metric, each with its series; `interval` is the value of that column."""

    metric: str
    interval: str
    rows: Sequence[tuple[Series, Row]]


class Writer:
    """Stores batches. One per process and connection."""

    def __init__(self, database: Database) -> None:
        """Write through `database`."""
        self._database = database
        self._partitions = Partitions(database)

    def write(self, batches: Sequence[Batch], answers: Sequence[Covered]) -> int:
        """Insert the rows that are not there yet and enter `answers`; return how many rows were new.

        All of it or nothing. Rows that exist are left as they are. Raises StoreError when PostgreSQL is away.
        """
        times = [row.ts for batch in batches for _, row in batch.rows]
        if times:
            self._partitions.ensure(Window(min(times), max(times) + 1))
        new = 0
        with self._database.transaction() as cursor:
            for batch in batches:
                if batch.rows:
                    new += _insert(cursor, batch)
            if answers:
                coverage.record(cursor, answers)
        return new


def _insert(cursor: Cursor, batch: Batch) -> int:
    """COPY straight into perp_data; where a row exists already, COPY aside and insert what is new."""
    metric = METRICS[batch.metric]
    names = sql.SQL(", ").join(map(sql.Identifier, (*KEY_COLUMNS, *(column.name for column in metric.columns))))
    text = copy_text(batch)
    cursor.execute("SAVEPOINT fresh")
    try:
        cursor.copy_expert(sql.SQL("COPY perp_data ({}) FROM STDIN").format(names), StringIO(text))
    except errors.UniqueViolation:
        cursor.execute("ROLLBACK TO SAVEPOINT fresh")
    else:
        cursor.execute("RELEASE SAVEPOINT fresh")
        return len(batch.rows)
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS perp_incoming (LIKE perp_data) ON COMMIT DROP")
    cursor.execute("TRUNCATE perp_incoming")
    cursor.copy_expert(sql.SQL("COPY perp_incoming ({}) FROM STDIN").format(names), StringIO(text))
    cursor.execute(
        sql.SQL(
            "INSERT INTO perp_data ({names}) SELECT {names} FROM perp_incoming ORDER BY source, symbol, ts"
            " ON CONFLICT DO NOTHING"
        ).format(names=names)
    )
    return int(cursor.rowcount)


def copy_text(batch: Batch) -> str:
    """Write rows in PostgreSQL's COPY text format, columns as in KEY_COLUMNS and the metric; None becomes \\N."""
    return "".join(_lines(batch))


def _lines(batch: Batch) -> Iterable[str]:
    for (source, symbol), row in batch.rows:
        values = "\t".join(["\\N" if value is None else str(value) for value in row[1:]])
        yield f"{row[0]}\t{symbol}\t{source}\t{batch.interval}\t{values}\n"
