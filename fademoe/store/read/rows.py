"""Rows of perp_data in pages, read by key, so that the thousandth page costs as much as the first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, Window, split
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import Perpspec, find_first_and_last_ts, list_symbols
from fademoe.store.read.past import EXTRAS, Moment, build_rows
from fademoe.store.read.pool import Reader

SQL = load_queries("read_rows")
LIMIT_MOST = 10_000
EXPORT_PAGE_ROWS = 10_000
HEAD_START = 4  # how many times its fair share of a page is read of each symbol to find where the page ends


class Position(NamedTuple):
    """A row at the edge of a page; the next page begins behind it, the one before ends in front of it."""

    ts: int
    symbol: str


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rows of a perpspec: start_ms <= ts < end_ms of `symbols` (none: all), at most `limit` of them.

    They lie behind `after`, or, `before` given, just in front of it. `moment`: as of when; the rows then end with
    past.EXTRAS.
    """

    symbols: tuple[str, ...]
    columns: tuple[str, ...]
    start_ms: int
    end_ms: int
    limit: int
    newest_first: bool = True
    after: Position | None = None
    before: Position | None = None
    moment: Moment | None = None

    @property
    def reads_down(self) -> bool:
        """Whether rows are read from new to old: against the order when the page before is wanted."""
        return self.newest_first == (self.before is None)


class MetricRow(NamedTuple):
    """The values of one time and symbol by perpspec; a perpspec without a row then is missing."""

    ts: int
    symbol: str
    values: dict[str, tuple[Any, ...]]


class MetricPage(NamedTuple):
    """Rows of one metric and the position of the next page, None at the end."""

    rows: list[MetricRow]
    next: Position | None


class RowPage(NamedTuple):
    """Rows (ts, symbol, interval, values of the selected columns…) and where other pages are.

    Integers are int, decimals are text with the digits as stored.

    The next page comes after `next`, the one before it before `previous`; None at the ends.
    """

    rows: list[tuple[Any, ...]]
    next: Position | None
    previous: Position | None


def read_page(cursor: Cursor, spec: Perpspec, selection: Selection) -> RowPage:
    """Read one page of a perpspec."""
    chosen = selection.symbols or list_symbols(cursor, spec.name)
    if not chosen:
        return RowPage([], None, None)
    lows, highs = zip(*(compute_bounds(selection, symbol) for symbol in chosen), strict=True)
    query = sql.SQL(SQL["one_symbol" if len(chosen) == 1 else "many_symbols"]).format(
        rows=_relation(cursor, spec, selection),
        columns=_columns(spec, selection),
        direction=sql.SQL("DESC" if selection.reads_down else "ASC"),
        by_symbol=sql.SQL("ASC" if selection.before is None else "DESC"),
    )
    limit = selection.limit + 1  # one more than wanted: it tells whether there is a next page
    values = {"source": spec.name, "limit": limit, "down": selection.reads_down}
    if len(chosen) == 1:
        values |= {"symbol": chosen[0], "low": lows[0], "high": highs[0]}
    else:
        each = max(1, -(-HEAD_START * limit // len(chosen)))
        values |= {"symbols": list(chosen), "lows": list(lows), "highs": list(highs), "each": each}
    cursor.execute(query, values)
    return cut_page(cursor.fetchall(), selection)


def read_metric_page(cursor: Cursor, specs: Sequence[Perpspec], selection: Selection) -> MetricPage:
    """Read one page of several perpspecs of one metric side by side; a page counts times and symbols, not rows.

    `selection.before` and `moment` are not supported: pages of a metric only go forward, and are of now.
    """
    pairs = [(spec.name, symbol) for spec in specs for symbol in selection.symbols or list_symbols(cursor, spec.name)]
    if not pairs:
        return MetricPage([], None)
    windows = [compute_bounds(selection, symbol) for _, symbol in pairs]
    query = sql.SQL(SQL["metric_page"]).format(
        columns=_columns(specs[0], selection), direction=sql.SQL("DESC" if selection.reads_down else "ASC")
    )
    limit = selection.limit + 1  # one more than wanted: it tells whether there is a next page
    values = {
        "sources": [source for source, _ in pairs],
        "symbols": [symbol for _, symbol in pairs],
        "lows": [window.start_ms for window in windows],
        "highs": [window.end_ms for window in windows],
        "limit": limit,
        "rows": limit * len(specs),
        "each": max(1, -(-HEAD_START * limit * len(specs) // len(pairs))),
        "down": selection.reads_down,
    }
    cursor.execute(query, values)
    rows: dict[tuple[int, str], MetricRow] = {}
    for ts, symbol, source, *numbers in cursor.fetchall():
        rows.setdefault((ts, symbol), MetricRow(ts, symbol, {})).values[source] = tuple(numbers)
    page = list(rows.values())[: selection.limit]
    return MetricPage(page, Position(page[-1].ts, page[-1].symbol) if len(rows) > selection.limit else None)


def read_pages(reader: Reader, spec: Perpspec, selection: Selection) -> Iterator[list[tuple[Any, ...]]]:
    """Read all rows of a selection, page by page; each page is a read of its own, so no transaction stays open."""
    part = replace(selection, limit=EXPORT_PAGE_ROWS)
    while True:
        with reader.read() as cursor:
            page = read_page(cursor, spec, part)
        yield page.rows
        if page.next is None:
            return
        part = replace(part, after=page.next)


def has_value_from(reader: Reader, spec: Perpspec, selection: Selection, limit: int) -> bool:
    """Return whether a decimal of a selection is NaN, infinite, or as far from zero as `limit` or farther.

    Reads every row of the selection, a day at a time, so that no statement takes long.
    """
    decimals = [field.name for field in spec.fields if field.type == "decimal" and field.name in selection.columns]
    if not decimals:
        return False
    tests = [sql.SQL("abs({}) >= %(limit)s").format(sql.Identifier(name)) for name in decimals]
    query = sql.SQL(SQL["holds_value"]).format(tests=sql.SQL(" OR ").join(tests))
    with reader.read() as cursor:
        symbols = list(selection.symbols) or list_symbols(cursor, spec.name)
        first_ts, last_ts = find_first_and_last_ts(cursor, spec.name, symbols)
    if first_ts is None or last_ts is None:
        return False
    window = Window(max(selection.start_ms, first_ts), min(selection.end_ms, last_ts + 1))
    for part in split(window, DAY_MS) if window.start_ms < window.end_ms else ():
        values = {"source": spec.name, "symbols": symbols, "low": part.start_ms, "high": part.end_ms, "limit": limit}
        with reader.read() as cursor:
            cursor.execute(query, values)
            if cursor.fetchone() == (True,):
                return True
    return False


def _columns(spec: Perpspec, selection: Selection) -> sql.Composable:
    """Return the selected columns of a query, decimals as text."""
    integers = {field.name for field in spec.fields if field.type == "integer"}
    integers.update(EXTRAS)
    return sql.SQL(", ").join(
        sql.SQL("d.{}" if name in integers else "d.{}::text").format(sql.Identifier(name))
        for name in (*selection.columns, *(EXTRAS if selection.moment else ()))
    )


def _relation(cursor: Cursor, spec: Perpspec, selection: Selection) -> sql.Composable:
    """Return what rows are read from: perp_data, or what was known of it."""
    if selection.moment is None:
        return sql.Identifier("perp_data")
    return build_rows(cursor, spec, selection.columns, selection.moment)


def cut_page(rows: list[tuple[Any, ...]], selection: Selection) -> RowPage:
    """Cut what was read, at least one row more than a page where there are more, and put it into order."""
    more = len(rows) > selection.limit
    del rows[selection.limit :]
    if not rows:
        return RowPage(rows, None, None)
    if selection.before is not None:
        rows.reverse()
    first, last = Position(*rows[0][:2]), Position(*rows[-1][:2])
    if selection.before is not None:
        return RowPage(rows, last, first if more else None)
    return RowPage(rows, last if more else None, first if selection.after else None)


def compute_bounds(selection: Selection, symbol: str) -> Window:
    """Return the times in which rows of `symbol` may lie on this page.

    At the time of the row where the page begins to be read only the symbols on its far side still have rows to come.
    """
    start_ms, end_ms, edge = selection.start_ms, selection.end_ms, selection.after or selection.before
    if edge is None:
        return Window(start_ms, end_ms)
    has_more = symbol > edge.symbol if selection.after else symbol < edge.symbol
    if selection.reads_down:
        return Window(start_ms, min(end_ms, edge.ts + 1 if has_more else edge.ts))
    return Window(max(start_ms, edge.ts if has_more else edge.ts + 1), end_ms)
