"""Monthly partitions of `perp_data` on plain PostgreSQL; a hypertable makes its own chunks."""

import logging
from datetime import UTC, datetime
from functools import partial

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import SECOND_MS, Window
from fademoe.store import timescale
from fademoe.store.connection import MAINTENANCE_LOCK_TIMEOUT_S, SCHEMA_LOCK, Database
from fademoe.store.queries import load_queries

log = logging.getLogger(__name__)

SQL = load_queries("partitions")


class Partitions:
    """Makes partitions before rows need them and remembers which are there. One per process."""

    def __init__(self, database: Database) -> None:
        """Read the database when partitions are needed first."""
        self._database = database
        self._present: set[str] | None = None
        self._native = True

    def ensure(self, window: Window) -> None:
        """Make the partitions that rows of `window` need; costs nothing when they are known to exist."""
        if self._present is None:
            self._load()
        months = [month for month in _months(window) if self._native and month.name not in (self._present or ())]
        for month in months:
            self._make(month)

    def find_kept_from_ms(self, edge_ms: int) -> int:
        """Return since when rows are kept once `drop_before` has dropped what it can."""
        self._load()
        if not self._native:
            return self._database.run(lambda cursor: timescale.find_kept_from_ms(cursor, edge_ms))
        return _Month.at(edge_ms).start_ms

    def drop_before(self, edge_ms: int) -> int:
        """Drop the months, or chunks, that lie wholly before `edge_ms`; return since when rows are kept now."""
        self._load()
        if not self._native:
            return self._database.run(
                lambda cursor: timescale.drop_chunks(cursor, edge_ms), lock_timeout_s=MAINTENANCE_LOCK_TIMEOUT_S
            )
        first_kept = _Month.at(edge_ms)
        for name in [name for name in self._present or () if name < first_kept.name]:
            self._database.run(partial(_drop, name), lock_timeout_s=MAINTENANCE_LOCK_TIMEOUT_S)
            log.info("partition %s dropped: older than FADEMOE_RETENTION_DAYS", name)
        self._present = None
        return first_kept.start_ms

    def _load(self) -> None:
        """Read which partitions exist."""
        with self._database.open_transaction() as cursor:
            self._native = timescale.is_partitioned(cursor)
            cursor.execute(SQL["partitions"])
            self._present = {name for (name,) in cursor.fetchall()}

    def _make(self, month: "_Month") -> None:
        """Attach a new table: unlike CREATE … PARTITION OF, that lets readers and writers of the others go on."""
        names = {"table": sql.Identifier(month.name)}
        bounds = {"start": sql.Literal(month.start_ms), "end": sql.Literal(month.end_ms)}

        def make(cursor: Cursor) -> bool:
            cursor.execute(SQL["lock_schema"], {"lock": SCHEMA_LOCK})
            cursor.execute(SQL["has_table"], {"table": month.name})
            if cursor.fetchone() == (True,):
                return False
            cursor.execute(sql.SQL(SQL["create"]).format(**names))
            cursor.execute(sql.SQL(SQL["attach"]).format(**names, **bounds))
            return True

        if self._database.run(make):
            log.info("partition %s made", month.name)
        if self._present is not None:
            self._present.add(month.name)


def _drop(name: str, cursor: Cursor) -> None:
    cursor.execute(sql.SQL(SQL["drop"]).format(table=sql.Identifier(name)))


class _Month:
    """A calendar month, UTC."""

    def __init__(self, year: int, month: int) -> None:
        self.name = f"perp_data_{year}_{month:02d}"
        self.start_ms = _month_ms(year, month)
        self.end_ms = _month_ms(year + month // 12, month % 12 + 1)

    @classmethod
    def at(cls, ts: int) -> "_Month":
        """Return the month that holds a moment."""
        moment = datetime.fromtimestamp(ts / SECOND_MS, UTC)
        return cls(moment.year, moment.month)


def _month_ms(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * SECOND_MS


def _months(window: Window) -> list[_Month]:
    month = _Month.at(window.start_ms)
    months = []
    while month.start_ms < window.end_ms:
        months.append(month)
        month = _Month.at(month.end_ms)
    return months
