"""The tables as they are: columns, types, indexes, sizes. Knows only FadeMoe's own tables."""

from typing import NamedTuple

from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from fademoe.store.queries import load_queries

SQL = load_queries("read_schema")

# What each table is for; a table that is not here is not shown.
TABLES = {
    "perp_data": "The market data: one row per time, symbol and perpspec",
    "perp_coverage": "What is wanted, covered and absent of each series, as ranges of time",
    "perp_absence": "Ranges that an exchange does not have, with the reason",
    "perp_corrections": "Values that an audit or a late event changed, and live samples that gave way to exact rows",
    "perp_arrivals": "When rows that were fetched came: one row for those that came together",
    "perp_files": "Files of exchanges' archives: what they held, under which terms, and what became of them",
    "perp_files_asked": "For which ranges the files of a contract were asked to have a metric",
    "perp_minutes": "When live rows came: per source and minute the greatest lag, in ms after the end of their span",
    "perp_late": "Rows that live evaluation had not seen in a minute that should have read them, and when it did",
    "perp_unseen": "Points that live evaluation should have read and that have not come yet",
    "perp_lags": "How long after the end of its span a row is known, so at ts + span + lag_ms: from when on, and why",
    "perp_metadata": "The contracts, the newest life of each: the exchange's name, multiplier, contract value, listing",
    "perp_lives": "Every life of every contract, dead ones too: from listing to delisting, under which symbol",
    "perp_terms": "Terms of the contracts from when on: tick, lot, least order, funding interval, margin tiers",
    "perp_hours": "Hours of stored series, aggregated: what longer steps are read from",
    "perp_hours_made": "Which hours of a series perp_hours has",
    "perp_hours_stale": "Hours whose rows changed; recomputed within a minute",
    "perp_derived": "What derived perpspecs are computed from",
    "perpspec_schema": "The perpspecs and the columns they fill",
    "metric_catalog": "The metrics with columns, units and titles",
    "perp_status": "One row per unit: what it does now",
    "perp_status_history": "Changes of state, but not between running and done, and every action of a user",
    "perp_errors": "Every error with the request that failed",
    "perp_rules": "Alert rules, every version of them, with the minutes in which each was in force",
    "perp_alert_channels": "Where alerts are sent",
    "perp_silences": "What is not sent, and until when",
    "perp_transitions": "What every alert rule did: one row per rule, code, symbol, minute and new state",
    "perp_alert_cursor": "The next minute that the alert rules are evaluated for",
    "perp_alert_minutes": "Minutes that were evaluated, when, and which series were still late then",
    "perp_alert_states": "Alert rules that are not inactive, for each code and symbol",
    "perp_alert_snapshots": "The same at whole hours, for replays",
    "perp_deliveries": "Messages: the transitions of a rule in a minute on a channel, with the bytes that are sent",
    "perp_outbox": "Which transitions are in which message, and what became of each",
    "perp_attempts": "Every attempt to send a message",
    "schema_migrations": "Which migrations were applied",
}


class TableColumn(Struct, frozen=True, forbid_unknown_fields=True):
    """One column of a table."""

    name: str
    type: str
    nullable: bool
    default: str | None


class TableIndex(Struct, frozen=True, forbid_unknown_fields=True):
    """One index of a table."""

    name: str
    definition: str
    primary: bool
    unique: bool


class StatedLag(Struct, frozen=True, forbid_unknown_fields=True):
    """A row of perp_lags."""

    source: str
    interval: str
    lag_ms: int
    since_ms: int
    why: str


class TableSize(NamedTuple):
    """What a table takes; `rows` is PostgreSQL's estimate, None before the first ANALYZE."""

    table: str
    rows: int | None
    bytes: int
    partitions: int


def list_columns(cursor: Cursor, table: str) -> list[TableColumn]:
    """Return the columns of one of our tables, none when it is not there yet."""
    cursor.execute(SQL["columns"], {"table": table})
    return [TableColumn(*row) for row in cursor.fetchall()]


def list_indexes(cursor: Cursor, table: str) -> list[TableIndex]:
    """Return the indexes of one of our tables."""
    cursor.execute(SQL["indexes"], {"table": table})
    return [TableIndex(*row) for row in cursor.fetchall()]


def list_lags(cursor: Cursor) -> list[StatedLag]:
    """Return the stated lags, the newest first of each source and interval; none while the table is not there."""
    cursor.execute(SQL["has_lags"])
    if cursor.fetchone() != (True,):
        return []
    cursor.execute(SQL["lags"])
    return [StatedLag(*row) for row in cursor.fetchall()]


def list_sizes(cursor: Cursor) -> list[TableSize]:
    """Return the size of each of our tables."""
    cursor.execute(SQL["sizes"], {"tables": list(TABLES)})
    sizes = [TableSize(*row) for row in cursor.fetchall()]
    cursor.execute(SQL["is_hypertable"])
    if cursor.fetchone() != (True,):
        return sizes
    cursor.execute(SQL["hypertable_bytes"])
    (total_bytes,) = cursor.fetchone() or (0,)
    return [size._replace(bytes=total_bytes) if size.table == "perp_data" else size for size in sizes]
