"""Brings the schema up to date: numbered SQL files, each applied once, in one transaction with the record of it.

`NNNN_name.sql` is for every database; of `NNNN_name.plain.sql` and `NNNN_name.timescale.sql` one is taken.
A notice that a file raises is logged.
`views.sql`, `read_role.sql` and `assistant_views.sql` are looked after at every start.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from importlib import resources

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import now_ms
from fademoe.errors import ConfigError
from fademoe.feeds.derived import list_parts
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.lags import list_lags
from fademoe.metrics import METRICS, Metric
from fademoe.store import derived, timescale
from fademoe.store.connection import ENCODING, SCHEMA_LOCK, WAITING, Database
from fademoe.store.queries import load_queries

log = logging.getLogger(__name__)

SQL = load_queries("migrate")
FIRST_MIGRATION = "0001_initial"
MIGRATING = "fademoe migrate"  # name of the connections of programs that begin
DATA_VIEWS = {"data_f8": "double precision", "data_numeric": "numeric(38, 18)"}  # view of perp_data -> type of decimals


def migrate(database: Database, exchanges: list[Exchange], *, is_shared: bool = False) -> list[str]:
    """Apply what is pending and register the perpspecs of `exchanges`; return the names of the applied files.

    Raises ConfigError where the database is not in UTF-8, where its user is not the owner of the tables, and where a
    newer FadeMoe has migrated them; with `is_shared` also where something is pending while programs run: these are of
    an older FadeMoe, and would store rows as they were meant before.
    """
    applied = database.run(lambda cursor: _migrate(cursor, exchanges, is_shared=is_shared))
    for name in applied:
        log.info("migration %s applied", name)
    return applied


def list_pending(database: Database) -> list[str]:
    """Return the names of the migrations that a database lacks; [] for one that has none yet."""
    with database.open_transaction() as cursor:
        cursor.execute(SQL["has_record"])
        if cursor.fetchone() != (True,):
            return []
        cursor.execute(SQL["applied"])
        done = {name for (name,) in cursor.fetchall()}
    return [name for name, _ in _files("plain") if name not in done]


def _migrate(cursor: Cursor, exchanges: list[Exchange], *, is_shared: bool) -> list[str]:
    cursor.execute(SQL["lock_schema"], {"lock": SCHEMA_LOCK})
    _check_encoding(cursor)
    _check_owner(cursor)
    cursor.execute(SQL["create_record"])
    cursor.execute(SQL["applied"])
    done = {name for (name,) in cursor.fetchall()}
    has_timescale = timescale.is_available(cursor)
    files = _files("timescale" if has_timescale else "plain")
    pending = [file for file in files if file[0] not in done]
    _check_versions(cursor, done, [name for name, _ in files], is_shared=is_shared)
    if pending and has_timescale:
        timescale.create_extension(cursor)
        timescale.lift_limit_of_changes(cursor)
    if pending:
        cursor.execute(SQL["drop_assistant_views"])
        cursor.execute(SQL["drop_views"])  # they would hold on to what a migration changes
        for view in DATA_VIEWS:
            cursor.execute(sql.SQL(SQL["drop_data_view"]).format(view=sql.Identifier(view)))
    for name, text in pending:
        cursor.connection.notices.clear()
        cursor.execute(text)
        for notice in cursor.connection.notices:
            log.info("migration %s: %s", name, notice.removeprefix("NOTICE:").strip())
        cursor.execute(SQL["record"], {"name": name})
    for exchange in exchanges:
        register(cursor, exchange)
    register_derived(cursor, exchanges)
    _make_views(cursor)
    _make_data_views(cursor)
    timescale.compress_finished(cursor)
    cursor.execute(_text("read_role.sql"))
    cursor.execute(_text("assistant_views.sql"))
    return [name for name, _ in pending]


def _check_encoding(cursor: Cursor) -> None:
    """Raise ConfigError where the database cannot hold every symbol."""
    cursor.execute(SQL["encoding"])
    name, encoding = cursor.fetchone() or ("", "")
    if encoding != ENCODING:
        raise ConfigError(
            f"the database {name} of FADEMOE_DATABASE_URL has the encoding {encoding}, valid is {ENCODING}:"
            f" CREATE DATABASE {name} TEMPLATE template0 ENCODING '{ENCODING}'"
        )


def _check_owner(cursor: Cursor) -> None:
    """Raise ConfigError where another role owns the table of rows: no partition could be made, so nothing be stored."""
    cursor.execute(SQL["foreign_owner"])
    if found := cursor.fetchone():
        user, owner = found
        raise ConfigError(
            f"FADEMOE_DATABASE_URL logs in as {user}, and perp_data belongs to {owner}: no month can be added to it;"
            f" log in as {owner}, or give FadeMoe's tables, views and functions to {user}"
        )


def _check_versions(cursor: Cursor, done: set[str], known: Sequence[str], *, is_shared: bool) -> None:
    """Raise ConfigError where programs of two versions would work on the database."""
    newest = max(done, default="")
    if newest > max(known):
        raise ConfigError(f"a newer FadeMoe has migrated the database ({newest}): bring this checkout up to date")
    if is_shared and done and not done >= set(known):
        cursor.execute(SQL["others"], {"waiting": [MIGRATING, WAITING]})
        if others := ", ".join(name for (name,) in cursor.fetchall()):
            raise ConfigError(
                f"programs of an older FadeMoe use the database ({others}): make down on every host, then make up"
            )


def register(cursor: Cursor, exchange: Exchange) -> None:
    """Declare an exchange's perpspecs: their columns in perp_data, perpspec_schema, metric_catalog and perp_lags.

    Safe to repeat; changes nothing when all of it is there.
    """
    for name in exchange.list_metrics():
        metric = METRICS[name]
        _ensure_columns(cursor, metric)
        fields = json.dumps(_fields(metric))
        values = {"metric": name, "title": metric.title, "interval": metric.interval, "fields": fields}
        cursor.execute(SQL["register_metric"], values)
        for code in exchange.codes:
            values |= {"perpspec": f"{code}-{name}", "exchange": exchange.name}
            cursor.execute(SQL["register_perpspec"], values)
    for lag in list_lags(exchange):
        cursor.execute(SQL["register_lag"], {**lag._asdict(), "now_ms": now_ms()})


def register_derived(cursor: Cursor, exchanges: Sequence[Exchange]) -> None:
    """Declare the perpspecs that are derived from those of exchanges; safe to repeat."""
    parts = list_parts(exchanges)
    derived.register_parts(cursor, parts)
    for part in parts:
        metric = part.metric
        fields = json.dumps(_fields(metric))
        values = {"metric": metric.name, "title": metric.title, "interval": metric.interval, "fields": fields}
        cursor.execute(SQL["register_metric"], values)
        values |= {"perpspec": part.source, "exchange": part.exchange}
        cursor.execute(SQL["register_perpspec"], values)


def _make_views(cursor: Cursor) -> None:
    """Make the views over all series, unless they are there as this version has them."""
    text = _text("views.sql")
    digest = hashlib.sha256(text.encode()).hexdigest()
    cursor.execute(SQL["version_of_views"])
    if cursor.fetchone() != (digest,):
        cursor.execute(SQL["drop_assistant_views"])
        cursor.execute(SQL["drop_views"])
        cursor.execute(text)
        cursor.execute(SQL["set_version_of_views"], {"digest": digest})


def _make_data_views(cursor: Cursor) -> None:
    """Make the views of perp_data for drivers that do not know NUMERIC; recreate those that lack a column."""
    cursor.execute(SQL["data_columns"])
    columns = cursor.fetchall()
    for view, kind in DATA_VIEWS.items():
        cursor.execute(SQL["view_columns"], {"view": view})
        if [name for (name,) in cursor.fetchall()] == [name for name, _ in columns]:
            continue
        values = [
            sql.SQL("{column}::{kind} AS {column}" if stored == "numeric" else "{column}").format(
                column=sql.Identifier(name), kind=sql.SQL(kind)
            )
            for name, stored in columns
        ]
        names = {"view": sql.Identifier(view), "columns": sql.SQL(", ").join(values)}
        cursor.execute(sql.SQL(SQL["drop_data_view"]).format(**names))
        cursor.execute(sql.SQL(SQL["make_data_view"]).format(**names))


def _ensure_columns(cursor: Cursor, metric: Metric) -> None:
    """Add a metric's columns to the tables of rows and of hours.

    Raises ConfigError for a column that is there with another type, as a declaration before this one had it.
    """
    for table in ("perp_data", "perp_hours"):
        cursor.execute(SQL["columns"], {"table": table})
        present = dict(cursor.fetchall())
        for column in metric.columns:
            kind = "bigint" if column.whole else "numeric"
            stored = present.get(column.name)
            if stored is None:
                names = {"table": sql.Identifier(table), "column": sql.Identifier(column.name)}
                cursor.execute(sql.SQL(SQL["add_column"]).format(**names, kind=sql.SQL(kind)))
            elif stored != kind:
                raise ConfigError(
                    f"metric {metric.name}: its column {column.name} is declared with whole={column.whole}, and is"
                    f" {stored} in the database: declare it as it was, or under another name"
                )


def _fields(metric: Metric) -> list[dict[str, str]]:
    return [
        {
            "name": column.name,
            "unit": column.unit,
            "title": column.title,
            "type": column.type,
        }
        for column in metric.columns
    ]


def _files(variant: str) -> list[tuple[str, str]]:
    """Return (number and name, text) of the migrations for this kind of database, in order."""
    migrations = []
    for path in resources.files("fademoe.store").joinpath("sql/migrations").iterdir():
        parts = path.name.split(".")
        if parts[-1] == "sql" and (len(parts) == 2 or parts[1] == variant):
            migrations.append((parts[0], path.read_text(encoding="utf-8")))
    return sorted(migrations)


def _text(name: str) -> str:
    return resources.files("fademoe.store").joinpath("sql", name).read_text(encoding="utf-8")
