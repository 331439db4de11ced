"""How complete the series are: from perp_coverage alone, one subtraction of multiranges, never a scan of the data."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import MINUTE_MS, Window
from fademoe.feeds import registry
from fademoe.feeds.derived import list_parts
from fademoe.feeds.paging import compute_due_until_ms
from fademoe.metrics import is_derived, name_perpspec
from fademoe.store.coverage import CONFIRMED_CHECKS, NO_ROW
from fademoe.store.derived import choose_ranges
from fademoe.store.queries import load_queries

SQL = load_queries("read_completeness")
EDGE_MS = 20 * MINUTE_MS  # of a perpspec that no exchange declares


class SeriesCoverage(Struct, frozen=True, forbid_unknown_fields=True):
    """One perpspec of one symbol; lengths in ms, up to the rows that are due by now."""

    source: str
    symbol: str
    wanted_from: int | None
    newest_ms: int | None  # end of what is covered
    wanted_ms: int
    covered_ms: int
    absent_ms: int
    missing_ms: int
    gaps: int  # missing ranges that are due
    percent: float | None  # of the wanted time that is settled, rounded down: 100 only when nothing is missing


class SeriesRanges(NamedTuple):
    """The ranges of one series, ascending; wanted up to now, missing up to the rows that are due."""

    source: str
    symbol: str
    wanted: list[Window]
    covered: list[Window]
    absent: list[Window]
    missing: list[Window]


class PerpspecLag(NamedTuple):
    """How far behind the series of one perpspec are; without their gaps ten times as fast as a PerpspecTotal."""

    source: str
    exchange: str | None
    series: int
    behind: int  # series whose newest row is overdue
    lag_ms: int | None  # of the series furthest behind


class PerpspecTotal(Struct, frozen=True, forbid_unknown_fields=True):
    """All series of one perpspec together; `lag_ms` is that of the series furthest behind."""

    source: str
    exchange: str | None
    series: int
    wanted_ms: int
    missing_ms: int
    incomplete: int  # series with something missing
    behind: int  # series whose newest row is overdue
    lag_ms: int | None
    first_ms: int | None
    newest_ms: int | None

    @property
    def percent(self) -> float | None:
        """Percent of the wanted time that is settled, rounded down: 100 only when nothing is missing."""
        return _percent(self.wanted_ms, self.missing_ms)


def list_series(
    cursor: Cursor,
    *,
    now_ms: int,
    limit: int,
    sources: list[str] | None = None,
    symbols: list[str] | None = None,
    after: tuple[str, str] = ("", ""),
) -> list[SeriesCoverage]:
    """Return series by (source, symbol), behind `after`; None means all, of `sources` all that are stored."""
    values = _times(now_ms, sources) | {
        "sources": sources,
        "symbols": symbols,
        "after_source": after[0],
        "after_symbol": after[1],
        "limit": limit,
    }
    cursor.execute(sql.SQL(SQL["series"]).format(series=choose_ranges(sources or ())), values)
    return [SeriesCoverage(*(*row, _percent(row[4], row[7]))) for row in cursor.fetchall()]


def list_ranges(cursor: Cursor, keys: list[tuple[str, str]], now_ms: int) -> dict[tuple[str, str], SeriesRanges]:
    """Return the ranges of the given (source, symbol)."""
    chosen = {"sources": [key[0] for key in keys], "symbols": [key[1] for key in keys]}
    statement = sql.SQL(SQL["ranges"]).format(series=choose_ranges(chosen["sources"]))
    cursor.execute(statement, _times(now_ms, chosen["sources"]) | chosen)
    return {
        (source, symbol): SeriesRanges(source, symbol, *([Window(*pair) for pair in pairs] for pairs in lists))
        for source, symbol, *lists in cursor.fetchall()
    }


def list_provisional(cursor: Cursor, keys: list[tuple[str, str]]) -> dict[tuple[str, str], list[Window]]:
    """Return the absent ranges of the given (source, symbol) that are to be confirmed by a second run, ascending."""
    chosen = {"sources": [key[0] for key in keys], "symbols": [key[1] for key in keys]}
    cursor.execute(SQL["provisional"], {**chosen, "no_row": NO_ROW, "confirmed": CONFIRMED_CHECKS})
    return {(source, symbol): [Window(*pair) for pair in pairs] for source, symbol, pairs in cursor.fetchall()}


def list_lags(cursor: Cursor, now_ms: int) -> list[PerpspecLag]:
    """Return one line per perpspec that has series."""
    cursor.execute(SQL["lags"], _times(now_ms))
    return [PerpspecLag(*row) for row in cursor.fetchall()]


def list_totals(cursor: Cursor, now_ms: int, *, with_derived: bool = False) -> list[PerpspecTotal]:
    """Return one line per perpspec that has series."""
    series = sql.Identifier("perp_ranges" if with_derived else "perp_coverage")
    cursor.execute(sql.SQL(SQL["totals"]).format(series=series), _times(now_ms))
    return [PerpspecTotal(*row) for row in cursor.fetchall()]


def _percent(wanted_ms: int, missing_ms: int) -> float | None:
    return (wanted_ms - missing_ms) * 10_000 // wanted_ms / 100 if wanted_ms else None


def _times(now_ms: int, sources: Iterable[str] | None = None) -> dict[str, object]:
    """Return the parameters that say until when rows are due, as ages at `now_ms` (see `compute_due_until_ms`).

    They hold `sources` at least; None means all perpspecs that are declared.
    """
    stored = None if sources is None or any(map(is_derived, sources)) else set(sources)
    edges = {
        name_perpspec(code, metric): now_ms - compute_due_until_ms(exchange, metric, now_ms)
        for exchange in registry.load_exchanges().values()
        for metric in exchange.list_metrics()
        for code in exchange.codes
        if stored is None or name_perpspec(code, metric) in stored
    }
    parts = list_parts(registry.load_exchanges().values()) if stored is None else []
    for part in parts:  # a derived row is due when all of its inputs are
        slowest = max(edges[name] for name in part.inputs) + part.metric.lag_ms
        edges[part.source] = max(slowest, edges.get(part.source, 0))
    return {"now": now_ms, "edge_sources": list(edges), "edges": list(edges.values()), "edge": EDGE_MS}
