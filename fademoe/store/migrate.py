"""Brings the schema up to date: numbered SQL files, each applied once, in one transaction with the record of it.

`NNNN_name.sql` is for every database; of `NNNN_name.plain.sql` and `NNNN_name.timescale.sql` one is taken.
A notice that a file raises is logged.
`read_role.sql` is looked after at every start.
"""

import json
import logging
from importlib import resources
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.feeds.exchange import Exchange
from fademoe.metrics import METRICS, Metric
from fademoe.store import timescale
from fademoe.store.connection import Database

log = logging.getLogger(__name__)

LOCK = 7_226_153  # advisory lock: one migration at a time
HAS_TIMESCALE = """
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
        OR (EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
            AND current_setting('shared_preload_libraries') LIKE '%timescaledb%')
"""


def migrate(database: Database, exchanges: list[Exchange]) -> list[str]:
    """Apply what is pending and register the perpspecs of `exchanges`; return the names of the applied files."""
    with database.transaction() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name TEXT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
        )
        cursor.execute("SELECT name FROM schema_migrations")
        done = {name for (name,) in cursor.fetchall()}
        cursor.execute(HAS_TIMESCALE)
        has_timescale = bool(_one(cursor))
        applied: list[str] = []
        for name, text in _files("timescale" if has_timescale else "plain"):
            if name not in done:
                if not applied and has_timescale:
                    cursor.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
                cursor.connection.notices.clear()
                cursor.execute(text)
                for notice in cursor.connection.notices:
                    log.info("migration %s: %s", name, notice.removeprefix("NOTICE:").strip())
                cursor.execute("INSERT INTO schema_migrations (name) VALUES (%s)", (name,))
                applied.append(name)
        for exchange in exchanges:
            register(cursor, exchange)
        timescale.compress_finished(cursor)
        cursor.execute(_text("read_role.sql"))
    for name in applied:
        log.info("migration %s applied", name)
    return applied


def register(cursor: Cursor, exchange: Exchange) -> None:
    """Declare an exchange's perpspecs: their columns in perp_data, perpspec_schema and metric_catalog.

    Safe to repeat; changes nothing when all of it is there.
    """
    for name in exchange.metrics():
        metric = METRICS[name]
        _ensure_columns(cursor, metric)
        fields = json.dumps(_fields(metric))
        cursor.execute(
            "INSERT INTO metric_catalog (metric, title, interval, columns) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (metric) DO UPDATE SET title = excluded.title, interval = excluded.interval,"
            " columns = excluded.columns WHERE metric_catalog.columns <> excluded.columns",
            (name, metric.title, metric.interval, fields),
        )
        for code in exchange.codes:
            cursor.execute(
                "INSERT INTO perpspec_schema (perpspec_name, exchange, metric, fields) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (perpspec_name) DO UPDATE SET fields = excluded.fields"
                " WHERE perpspec_schema.fields <> excluded.fields",
                (f"{code}-{name}", exchange.name, name, fields),
            )


def _ensure_columns(cursor: Cursor, metric: Metric) -> None:
    cursor.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'perp_data'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    present = {name for (name,) in cursor.fetchall()}
    for column in metric.columns:
        if column.name not in present:
            cursor.execute(
                sql.SQL("ALTER TABLE perp_data ADD COLUMN {} {}").format(
                    sql.Identifier(column.name), sql.SQL("BIGINT" if column.whole else "NUMERIC")
                )
            )


def _fields(metric: Metric) -> list[dict[str, str]]:
    return [
        {
            "name": column.name,
            "unit": column.unit,
            "title": column.title,
            "type": "integer" if column.whole else "decimal",
        }
        for column in metric.columns
    ]


def _files(variant: str) -> list[tuple[str, str]]:
    """Return (number and name, text) of the migrations for this kind of database, in order."""
    found = []
    for path in resources.files("fademoe.store").joinpath("sql/migrations").iterdir():
        parts = path.name.split(".")
        if parts[-1] == "sql" and (len(parts) == 2 or parts[1] == variant):
            found.append((parts[0], path.read_text(encoding="utf-8")))
    return sorted(found)


def _text(name: str) -> str:
    return resources.files("fademoe.store").joinpath("sql", name).read_text(encoding="utf-8")


def _one(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
