"""Rows of perp_data in pages, read by key, so that the thousandth page costs as much as the first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import HOUR_MS, MINUTE_MS, Window, ceil_to, floor_to, split
from fademoe.metrics import INTERVALS_MS
from fademoe.store.derived import find_derived, is_across, make_relation, make_relation_of, unite
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import (
    Perpspec,
    find_first_and_last_ts,
    list_inputs,
    list_perpspecs,
    list_symbols,
)
from fademoe.store.read.past import EXTRAS, Moment, build_rows
from fademoe.store.read.pool import Reader

SQL = load_queries("read_rows")
LIMIT_MOST = 10_000
EXPORT_PAGE_ROWS = 10_000
MAX_STEPS = 40_000  # of one statement that reads a window as a whole, so that it does not take long
CHECKED_ROWS = 1_000_000  # of one statement that looks at values only
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
    bounds = {symbol: compute_bounds(selection, symbol) for symbol in chosen}
    if not is_across(spec.name):
        return cut_page(_read_rows(cursor, spec, selection, bounds), selection)
    rows: list[tuple[Any, ...]] = []
    step_ms = INTERVALS_MS.get(spec.interval, HOUR_MS)
    for windows in split_bounds(cursor, [spec], selection, bounds, step_ms):
        rows += _read_rows(cursor, spec, selection, windows)
        if len(rows) > selection.limit:
            break
    return cut_page(rows, selection)


def _read_rows(
    cursor: Cursor, spec: Perpspec, selection: Selection, bounds: Mapping[str, Window]
) -> list[tuple[Any, ...]]:
    """Read the rows of a page that lie in the windows of the symbols, and one more."""
    chosen = list(bounds)
    lows, highs = zip(*bounds.values(), strict=True)
    query = sql.SQL(SQL["one_symbol" if len(chosen) == 1 else "many_symbols"]).format(
        rows=build_relation(cursor, spec, selection.columns, selection.moment),
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
    return cursor.fetchall()


def split_bounds(
    cursor: Cursor,
    specs: Sequence[Perpspec],
    selection: Selection,
    bounds: Mapping[str, Window],
    step_ms: int,
    most_steps: int = MAX_STEPS,
) -> Iterator[dict[str, Window]]:
    """Yield windows of the symbols to read one after another, from the side where the page begins.

    They begin and end on whole steps, but for the ends of `bounds`, and reach as far as rows are stored. The first ones
    hold a page of series without gaps; each further one is twice as long, up to `most_steps` of all symbols together. A
    symbol whose window is empty is left out.
    """
    ends = [find_first_and_last_ts(cursor, spec.name, list(bounds)) for spec in specs]
    firsts = [first for first, _ in ends if first is not None]
    lasts = [last for _, last in ends if last is not None]
    if not firsts:
        return
    stored = Window(floor_to(min(firsts), step_ms), floor_to(max(lasts), step_ms) + step_ms)
    bounds = _intersect(bounds, stored)
    if not bounds:
        return
    first_ms = floor_to(min(window.start_ms for window in bounds.values()), step_ms)
    end_ms = ceil_to(max(window.end_ms for window in bounds.values()), step_ms)
    steps = -(-(selection.limit + 1) // len(bounds)) + 1
    while first_ms < end_ms:
        span_ms = min(steps, max(1, most_steps // len(bounds))) * step_ms
        part = Window(end_ms - span_ms, end_ms) if selection.reads_down else Window(first_ms, first_ms + span_ms)
        windows = _intersect(bounds, part)
        if windows:
            yield windows
        first_ms, end_ms = (first_ms, part.start_ms) if selection.reads_down else (part.end_ms, end_ms)
        steps *= 2


def _intersect(bounds: Mapping[str, Window], limits: Window) -> dict[str, Window]:
    """Return the parts of windows inside `limits`, without the empty ones."""
    cut = {
        symbol: Window(max(window.start_ms, limits.start_ms), min(window.end_ms, limits.end_ms))
        for symbol, window in bounds.items()
    }
    return {symbol: window for symbol, window in cut.items() if window.start_ms < window.end_ms}


def read_metric_page(cursor: Cursor, specs: Sequence[Perpspec], selection: Selection) -> MetricPage:
    """Read one page of several perpspecs of one metric side by side; a page counts times and symbols, not rows.

    `selection.before` and `moment` are not supported: pages of a metric only go forward, and are of now.
    """
    if len(specs) == 1:
        rows_of = read_page(cursor, specs[0], selection)
        page = [MetricRow(ts, symbol, {specs[0].name: tuple(numbers)}) for ts, symbol, _, *numbers in rows_of.rows]
        return MetricPage(page, rows_of.next)
    pairs = [(spec.name, symbol) for spec in specs for symbol in selection.symbols or list_symbols(cursor, spec.name)]
    if not pairs:
        return MetricPage([], None)
    windows = [compute_bounds(selection, symbol) for _, symbol in pairs]
    query = sql.SQL(SQL["metric_page"]).format(
        rows=make_relation_of([spec.name for spec in specs]),
        columns=_columns(specs[0], selection),
        direction=sql.SQL("DESC" if selection.reads_down else "ASC"),
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

    Reads every row of the selection, in parts, so that no statement takes long.
    """
    decimals = [field.name for field in spec.fields if field.type == "decimal" and field.name in selection.columns]
    if not decimals:
        return False
    tests = [sql.SQL("({0} >= %(limit)s OR {0} <= -%(limit)s)").format(sql.Identifier(name)) for name in decimals]
    query = sql.SQL(SQL["holds_value"]).format(rows=make_relation(spec.name), tests=sql.SQL(" OR ").join(tests))
    with reader.read() as cursor:
        symbols = list(selection.symbols) or list_symbols(cursor, spec.name)
        first_ts, last_ts = find_first_and_last_ts(cursor, spec.name, symbols)
    if first_ts is None or last_ts is None:
        return False
    window = Window(max(selection.start_ms, first_ts), min(selection.end_ms, last_ts + 1))
    most = MAX_STEPS if is_across(spec.name) else CHECKED_ROWS
    span_ms = max(HOUR_MS, most // len(symbols) * MINUTE_MS)
    for part in split(window, span_ms) if window.start_ms < window.end_ms else ():
        values = {"source": spec.name, "symbols": symbols, "low": part.start_ms, "high": part.end_ms, "limit": limit}
        with reader.read() as cursor:
            cursor.execute(query, values)
            if cursor.fetchone() == (True,):
                return True
    return False


def _columns(spec: Perpspec, selection: Selection) -> sql.Composable:
    """Return the selected columns of a query, decimals as text."""
    integers = {field.name for field in spec.fields if field.type != "decimal"}
    integers.update(EXTRAS)
    return sql.SQL(", ").join(
        sql.SQL("d.{}" if name in integers else "d.{}::text").format(sql.Identifier(name))
        for name in (*selection.columns, *(EXTRAS if selection.moment else ()))
    )


def build_relation(cursor: Cursor, spec: Perpspec, columns: Sequence[str], moment: Moment | None) -> sql.Composable:
    """Return what rows are read from: perp_data or what derives them from it, or what was known of it."""
    if moment is None:
        return make_relation(spec.name)
    derived = find_derived(spec.name)
    if derived is None:
        return build_rows(cursor, spec, columns, moment)
    specs = list_perpspecs(cursor)

    def build(metric: str) -> sql.Composable:
        inputs = [specs[name] for name in list_inputs(cursor, spec.name) if specs[name].metric == metric]
        zero = derived.zero_when_empty  # then a row that is left out would count as zero
        return unite(
            build_rows(cursor, each, [field.name for field in each.fields], moment, with_later=zero) for each in inputs
        )

    return make_relation(spec.name, build, with_extras=True, known_by_ms=moment.at_ms)


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
