"""What is stored: perpspecs with their fields, and the symbols of each; never by a scan of perp_data."""

from dataclasses import dataclass

from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from fademoe.metrics import METRICS, Aggregate, Plot
from fademoe.store.queries import load_queries

SQL = load_queries("read_catalog")


class Field(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of a perpspec, as its registration declared it."""

    name: str
    unit: str
    title: str
    type: str  # "decimal" or "integer"
    aggregate: Aggregate  # which value stands for all rows of a time step


@dataclass(frozen=True, kw_only=True)
class Perpspec:
    """One value of perp_data.source and the columns it fills."""

    name: str
    exchange: str
    metric: str
    title: str
    interval: str
    fields: tuple[Field, ...]
    plots: tuple[Plot, ...]  # how charts draw it; empty where no package declares the metric any more


def list_perpspecs(cursor: Cursor) -> dict[str, Perpspec]:
    """Return every registered perpspec by name, sorted."""
    cursor.execute(SQL["perpspecs"])
    return {
        name: Perpspec(
            name=name,
            exchange=exchange,
            metric=metric,
            title=title,
            interval=interval,
            fields=_fields(metric, fields),
            plots=METRICS[metric].plots if metric in METRICS else (),
        )
        for name, exchange, metric, title, interval, fields in cursor.fetchall()
    }


def _fields(metric: str, registered: list[dict[str, str]]) -> tuple[Field, ...]:
    """Return the registered columns of a metric, each with the aggregate that its declaration names."""
    declared = METRICS[metric].columns if metric in METRICS else ()
    aggregates: dict[str, Aggregate] = {column.name: column.aggregate for column in declared}
    return tuple(Field(**field, aggregate=aggregates.get(field["name"], "last")) for field in registered)


def list_symbols(cursor: Cursor, source: str) -> list[str]:
    """Return the symbols of a perpspec, sorted."""
    cursor.execute(SQL["symbols"], {"source": source})
    symbols = [symbol for (symbol,) in cursor.fetchall()]
    if not symbols:
        cursor.execute(SQL["symbols_without_coverage"], {"source": source})
        symbols = [symbol for (symbol,) in cursor.fetchall()]
    return symbols


def find_first_and_last_ts(cursor: Cursor, source: str, symbols: list[str]) -> tuple[int | None, int | None]:
    """Return the ts of the oldest and of the newest row of a perpspec's `symbols`; None without rows."""
    cursor.execute(SQL["first_and_last_ts"], {"source": source, "symbols": symbols})
    row = cursor.fetchone()
    return (row[0], row[1]) if row else (None, None)
