"""Monthly partitions of `perp_data` on plain PostgreSQL; a hypertable makes its own chunks."""

import logging
from datetime import UTC, datetime

from psycopg2 import sql

from fademoe.clock import SECOND_MS, Window
from fademoe.store import timescale
from fademoe.store.connection import Database
from fademoe.store.migrate import LOCK

log = logging.getLogger(__name__)


class Partitions:
    """Makes partitions before rows need them and remembers which are there. One per process."""

    def __init__(self, database: Database) -> None:
        """Look at the database when first asked."""
        self._database = database
        self._present: set[str] | None = None
        self._native = True

    def ensure(self, window: Window) -> None:
        """Make the partitions that rows of `window` need; costs nothing when they are known to exist."""
        if self._present is None:
            self._look()
        months = [month for month in _months(window) if self._native and month.name not in (self._present or ())]
        for month in months:
            self._make(month)

    def drop_before(self, edge_ms: int) -> int:
        """Drop the months, or chunks, that lie wholly before `edge_ms`; return since when rows are kept now."""
        self._look()
        if not self._native:
            with self._database.transaction() as cursor:
                return timescale.drop_chunks(cursor, edge_ms)
        first_kept = _Month.at(edge_ms)
        for name in [name for name in self._present or () if name < first_kept.name]:
            with self._database.transaction() as cursor:
                cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
            log.info("partition %s dropped: older than FADEMOE_RETENTION_DAYS", name)
        self._present = None
        return first_kept.start_ms

    def _look(self) -> None:
        with self._database.transaction() as cursor:
            self._native = timescale.is_partitioned(cursor)
            cursor.execute(
                "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = 'perp_data'::regclass"
            )
            self._present = {name for (name,) in cursor.fetchall()}

    def _make(self, month: "_Month") -> None:
        """Attach a new table: unlike CREATE … PARTITION OF, that lets readers and writers of the others go on."""
        table = sql.Identifier(month.name)
        with self._database.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            cursor.execute("SELECT to_regclass(%s)", (month.name,))
            if (cursor.fetchone() or (None,))[0] is None:
                cursor.execute(sql.SQL("CREATE TABLE {} (LIKE perp_data INCLUDING DEFAULTS)").format(table))
                cursor.execute(
                    sql.SQL("ALTER TABLE perp_data ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                        table, sql.Literal(month.start_ms), sql.Literal(month.end_ms)
                    )
                )
                log.info("partition %s made", month.name)
        if self._present is not None:
            self._present.add(month.name)


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
    found = []
    while month.start_ms < window.end_ms:
        found.append(month)
        month = _Month.at(month.end_ms)
    return found
