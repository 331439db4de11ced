"""What is stored: perpspecs with their fields, and the symbols of each; never by a scan of perp_data."""

from dataclasses import dataclass

from msgspec import Struct
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS
from fademoe.metrics import METRICS, Aggregate, Plot
from fademoe.store.derived import choose_ranges, find_derived, is_across, make_relation
from fademoe.store.queries import load_queries

SQL = load_queries("read_catalog")


class Field(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of a perpspec, as its registration declared it."""

    name: str
    unit: str
    title: str
    type: str  # "decimal", "integer" or "text"
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

    @property
    def code(self) -> str:
        """The exchange code of its name; of a metric across exchanges ACROSS_CODE."""
        return self.name.removesuffix(f"-{self.metric}") if self.name != self.metric else self.exchange


def list_names(cursor: Cursor) -> list[str]:
    """Return the names of all registered perpspecs, sorted."""
    cursor.execute(SQL["names"])
    return [name for (name,) in cursor.fetchall()]


def list_perpspecs(cursor: Cursor, names: list[str] | None = None) -> dict[str, Perpspec]:
    """Return the registered perpspecs among `names` (None: all of them) by name, sorted."""
    cursor.execute(SQL["perpspecs"], {"names": names})
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
    cursor.execute(sql.SQL(SQL["symbols"]).format(series=choose_ranges([source])), {"source": source})
    symbols = [symbol for (symbol,) in cursor.fetchall()]
    if not symbols and find_derived(source):
        return sorted({symbol for name in list_inputs(cursor, source) for symbol in list_symbols(cursor, name)})
    if not symbols:
        cursor.execute(SQL["symbols_without_coverage"], {"source": source})
        symbols = [symbol for (symbol,) in cursor.fetchall()]
    return symbols


def list_known_symbols(cursor: Cursor) -> list[str]:
    """Return the symbols of all series and of all contracts that exchanges list, sorted."""
    cursor.execute(SQL["known_symbols"])
    return [symbol for (symbol,) in cursor.fetchall()]


def find_first_and_last_ts(cursor: Cursor, source: str, symbols: list[str]) -> tuple[int | None, int | None]:
    """Return the ts of the oldest and of the newest row of a perpspec's `symbols`; None without rows."""
    if is_across(source):
        return _find_across(cursor, source, symbols)
    cursor.execute(
        sql.SQL(SQL["first_and_last_ts"]).format(rows=make_relation(source)), {"source": source, "symbols": symbols}
    )
    row = cursor.fetchone()
    return (row[0], row[1]) if row else (None, None)


def _find_across(cursor: Cursor, source: str, symbols: list[str]) -> tuple[int | None, int | None]:
    """Return the same of a perpspec whose rows are found by time: from the ends of its inputs on, in growing spans."""
    ends = [find_first_and_last_ts(cursor, name, symbols) for name in list_inputs(cursor, source)]
    firsts, lasts = [first for first, _ in ends if first is not None], [last for _, last in ends if last is not None]
    if not firsts or not lasts:
        return None, None
    query = sql.SQL(SQL["first_and_last_within"]).format(rows=make_relation(source))

    def find(start_ms: int, end_ms: int) -> tuple[int | None, int | None]:
        cursor.execute(query, {"source": source, "symbols": symbols, "start": start_ms, "end": end_ms})
        row = cursor.fetchone()
        return (row[0], row[1]) if row else (None, None)

    start_ms, end_ms = min(firsts), max(lasts) + 1
    last, span_ms, edge_ms = None, DAY_MS, end_ms
    while last is None and edge_ms > start_ms:
        _, last = find(max(start_ms, edge_ms - span_ms), edge_ms)
        edge_ms, span_ms = edge_ms - span_ms, span_ms * 4
    if last is None:
        return None, None
    first, span_ms, edge_ms = None, DAY_MS, start_ms
    while first is None:
        first, _ = find(edge_ms, edge_ms + span_ms)
        edge_ms, span_ms = edge_ms + span_ms, span_ms * 4
    return first, last


def list_inputs(cursor: Cursor, source: str) -> list[str]:
    """Return the stored perpspecs that a derived one is computed from, those of its first metric first."""
    cursor.execute(SQL["inputs"], {"source": source})
    return [name for (name,) in cursor.fetchall()]
