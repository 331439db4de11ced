"""Coarser bars: the rows of each step of a series as one, and how complete the step is, by its coverage.

A step is the range [ts, ts + length), UTC, and is always read whole, whatever a selection cuts: it is selected when its
`ts` is. A step without a row on the metric's grid has no row here. Each column is aggregated as its metric declares.

As of a moment a step is that of the rows that were known then, with the values they had. It is known when the last of
them is, and complete where it is by the coverage of now, was over then, and no row of it came later.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import HOUR_MS, MINUTE_MS, Window, ceil_to, subtract
from fademoe.metrics import INTERVALS_MS, STEPS_MS
from fademoe.store.aggregation import Value, list_values, make_buckets, make_hours_part, make_rows_part
from fademoe.store.derived import find_derived
from fademoe.store.hours import list_up_to_date
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import Perpspec, find_first_and_last_ts, list_perpspecs, list_symbols
from fademoe.store.read.past import EXTRAS, Moment
from fademoe.store.read.pool import Reader
from fademoe.store.read.rows import (
    EXPORT_PAGE_ROWS,
    MAX_STEPS,
    MetricPage,
    MetricRow,
    Position,
    RowPage,
    Selection,
    build_relation,
    compute_bounds,
    cut_page,
    split_bounds,
)
from fademoe.store.read.snapshot import hold_snapshot

SQL = load_queries("read_steps")
PAST_ROWS = 100_000  # of one statement that asks of each row when it was known
EXTRA_VALUES = (
    Value(EXTRAS[0], "max", "integer"),
    Value(EXTRAS[1], "all", "boolean"),
    Value(EXTRAS[2], "sum", "integer"),
)


class Completeness(NamedTuple):
    """How complete a step of a series is.

    `bars`: its rows on the metric's grid. `expected`: the points of that grid, `absent`: those of them that are absent
    for a reason; both None where the rows are events without a grid. `complete`: the whole step is covered and over.
    """

    bars: int
    expected: int | None
    absent: int | None
    complete: bool


STEP_MEMBERS = Completeness._fields  # they follow the columns of a row


class Bucket(NamedTuple):
    """One step of one series: values are text, whole numbers int, None where there is none."""

    ts: int
    symbol: str
    values: tuple[Any, ...]
    completeness: Completeness
    extras: tuple[Any, ...] = ()  # past.EXTRAS of all its rows, as of a moment


def read_step_page(cursor: Cursor, spec: Perpspec, selection: Selection, step: str, now_ms: int) -> RowPage:
    """Read one page of coarser bars: rows (ts, symbol, step, values of the selected columns…, *Completeness).

    As of a moment they end with past.EXTRAS.
    `step` is a key of STEPS_MS. Pages continue as those of `rows.read_page`. All of a page is of one moment.
    """
    buckets: list[Bucket] = []
    with hold_snapshot(cursor):
        for windows in _split_windows(cursor, [spec], selection, step):
            part = read_buckets(cursor, spec, windows, selection.columns, step, now_ms, selection.moment)
            buckets += _sort(part, selection)
            if len(buckets) > selection.limit:
                break
    rows = [(each.ts, each.symbol, step, *each.values, *each.completeness, *each.extras) for each in buckets]
    return cut_page(rows, selection)


def read_metric_step_page(
    cursor: Cursor, specs: Sequence[Perpspec], selection: Selection, step: str, now_ms: int
) -> MetricPage:
    """Read one page of coarser bars of several perpspecs of one metric side by side, as `rows.read_metric_page`.

    The values of a perpspec are those of the selected columns, then Completeness.
    """
    rows: dict[tuple[int, str], MetricRow] = {}
    with hold_snapshot(cursor):
        symbols = {spec.name: list(selection.symbols) or list_symbols(cursor, spec.name) for spec in specs}
        specs = [spec for spec in specs if find_first_and_last_ts(cursor, spec.name, symbols[spec.name])[0] is not None]
        for windows in _split_windows(cursor, specs, selection, step):
            part = [
                (bucket, spec.name)
                for spec in specs
                for bucket in read_buckets(cursor, spec, windows, selection.columns, step, now_ms)
            ]
            sources = {id(bucket): source for bucket, source in part}
            for bucket in _sort([bucket for bucket, _ in part], selection):
                row = rows.setdefault((bucket.ts, bucket.symbol), MetricRow(bucket.ts, bucket.symbol, {}))
                row.values[sources[id(bucket)]] = (*bucket.values, *bucket.completeness)
            if len(rows) > selection.limit:
                break
    page = list(rows.values())[: selection.limit]
    return MetricPage(page, Position(page[-1].ts, page[-1].symbol) if len(rows) > selection.limit else None)


def read_step_pages(
    reader: Reader, spec: Perpspec, selection: Selection, step: str, now_ms: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Read all coarser bars of a selection, page by page; each page is a read of its own."""
    part = replace(selection, limit=EXPORT_PAGE_ROWS)
    while True:
        with reader.read() as cursor:
            page = read_step_page(cursor, spec, part, step, now_ms)
        yield page.rows
        if page.next is None:
            return
        part = replace(part, after=page.next)


def read_buckets(
    cursor: Cursor,
    spec: Perpspec,
    windows: Mapping[str, Window],
    columns: Sequence[str],
    step: str,
    now_ms: int,
    moment: Moment | None = None,
) -> list[Bucket]:
    """Return the steps of each symbol whose `ts` lies in its window, in no order; with EXTRAS as of a moment.

    Rows and coverage are of one moment only inside `hold_snapshot`.
    """
    step_ms = STEPS_MS[step]
    whole = {symbol: _align(window, step_ms) for symbol, window in windows.items()}
    whole = {symbol: window for symbol, window in whole.items() if window.start_ms < window.end_ms}
    if not whole:
        return []
    if moment is not None:
        return _read_known(cursor, spec, whole, columns, step, now_ms, moment)
    rows_of, made = _split_made(cursor, spec, whole, step_ms)
    query, parameters = _make_query(spec, columns, rows_of, made)
    cursor.execute(query, {**parameters, "step": step_ms})
    rows = cursor.fetchall()
    cover = read_cover(cursor, spec, list(whole), _hull(whole.values()))
    nothing = Cover([], [])
    return [
        Bucket(ts, symbol, tuple(numbers), cover.get(symbol, nothing).measure(spec, ts, step_ms, bars, now_ms))
        for ts, symbol, bars, *numbers in rows
    ]


def _read_known(
    cursor: Cursor,
    spec: Perpspec,
    windows: Mapping[str, Window],
    columns: Sequence[str],
    step: str,
    now_ms: int,
    moment: Moment,
) -> list[Bucket]:
    """Return whole steps as of a moment."""
    at_ms = now_ms if moment.at_ms is None else moment.at_ms
    present = {
        (each.ts, each.symbol): each.completeness
        for each in read_buckets(cursor, spec, windows, columns[:1], step, at_ms)
    }
    source = _get_source(spec)
    read_spec = spec if source == spec.name else list_perpspecs(cursor)[source]
    relation = build_relation(cursor, read_spec, [field.name for field in read_spec.fields], moment)
    rows_of = {symbol: [window] for symbol, window in windows.items()}
    query, parameters = _make_query(spec, columns, rows_of, {}, relation)
    cursor.execute(query, {**parameters, "step": STEPS_MS[step]})
    found = []
    for ts, symbol, bars, *values in cursor.fetchall():
        now = present[ts, symbol]
        completeness = now._replace(bars=bars, complete=now.complete and now.bars == bars)
        values, extras = values[: -len(EXTRAS)], values[-len(EXTRAS) :]
        found.append(Bucket(ts, symbol, tuple(values), completeness, tuple(extras)))
    return found


def _split_made(
    cursor: Cursor, spec: Perpspec, windows: Mapping[str, Window], step_ms: int
) -> tuple[dict[str, list[Window]], dict[str, list[Window]]]:
    """Return which parts of the windows of symbols are read from the rows, and which from perp_hours."""
    source = _get_source(spec)
    if step_ms < HOUR_MS or find_derived(source):
        return {symbol: [window] for symbol, window in windows.items()}, {}
    ranges = list_up_to_date(cursor, source, windows, _hull(windows.values()))
    made = {
        symbol: [
            Window(max(part.start_ms, windows[symbol].start_ms), min(part.end_ms, windows[symbol].end_ms))
            for part in of_symbol
            if part.start_ms < windows[symbol].end_ms and part.end_ms > windows[symbol].start_ms
        ]
        for symbol, of_symbol in ranges.items()
    }
    return {symbol: subtract(window, made.get(symbol, [])) for symbol, window in windows.items()}, made


class Cover:
    """What is covered and what is absent of one series: ranges (start, end), ascending."""

    def __init__(self, covered: Sequence[Sequence[int]], absent: Sequence[Sequence[int]]) -> None:
        self._covered, self._absent = covered, absent
        self._covered_ends = [end for _, end in covered]
        self._absent_ends = [end for _, end in absent]

    def measure(self, spec: Perpspec, ts: int, step_ms: int, bars: int, now_ms: int) -> Completeness:
        """Return how complete the step at `ts` is, which has `bars` rows on its grid."""
        end_ms = ts + step_ms
        at = bisect_left(self._covered_ends, end_ms)
        is_covered = at < len(self._covered) and self._covered[at][0] <= ts
        expected = absent = None
        if spec.interval in INTERVALS_MS:
            grid_ms = INTERVALS_MS[spec.interval]
            expected = _count_points(ts, end_ms, grid_ms)
            first = bisect_right(self._absent_ends, ts)
            absent = 0
            for start_ms, until_ms in self._absent[first:]:
                if start_ms >= end_ms:
                    break
                absent += _count_points(max(ts, start_ms), min(end_ms, until_ms), grid_ms)
        return Completeness(bars, expected, absent, is_covered and end_ms <= now_ms)


def read_cover(cursor: Cursor, spec: Perpspec, symbols: Sequence[str], window: Window) -> dict[str, Cover]:
    """Return what is covered and absent of a window, by symbol; a series without coverage is left out."""
    values = {"source": spec.name, "symbols": list(symbols), "start": window.start_ms, "end": window.end_ms}
    cursor.execute(SQL["coverage"], values)
    return {symbol: Cover(covered, absent) for symbol, covered, absent in cursor.fetchall()}


def get_grid_ms(spec: Perpspec) -> int:
    """Return the distance of the points of time at which rows of a perpspec count: 1 for events, which are anywhere."""
    return INTERVALS_MS.get(spec.interval, 1)


def _split_windows(
    cursor: Cursor, specs: Sequence[Perpspec], selection: Selection, step: str
) -> Iterator[dict[str, Window]]:
    """Yield the windows of symbols to read one after another, from the side where the page begins."""
    symbols = selection.symbols or sorted({symbol for spec in specs for symbol in list_symbols(cursor, spec.name)})
    step_ms = STEPS_MS[step]
    bounds = {symbol: _align(compute_bounds(selection, symbol), step_ms) for symbol in symbols}
    most = MAX_STEPS
    if selection.moment is not None:
        most = max(1, PAST_ROWS * min(INTERVALS_MS.get(spec.interval, MINUTE_MS) for spec in specs) // step_ms)
    yield from split_bounds(cursor, specs, selection, bounds, step_ms, most)


def _sort(buckets: list[Bucket], selection: Selection) -> list[Bucket]:
    """Put steps into the order in which a selection is read."""
    by_symbol = sorted(buckets, key=lambda bucket: bucket.symbol, reverse=selection.before is not None)
    return sorted(by_symbol, key=lambda bucket: bucket.ts, reverse=selection.reads_down)


def _make_query(
    spec: Perpspec,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[Window]],
    made: Mapping[str, Sequence[Window]],
    relation: sql.Composable | None = None,
) -> tuple[sql.Composable, dict[str, object]]:
    """Return the query of the steps of a perpspec, with these columns, and its parameters but for the step.

    `relation`: the rows as of a moment; then EXTRAS follow the columns.
    It reads the windows `rows` of the symbols from the rows and `made` from perp_hours. A metric that is derived
    `from_steps` aggregates the columns of its input, and applies its formulas to them.
    """
    derived = find_derived(spec.name)
    source = _get_source(spec)
    if derived is not None and derived.from_steps:
        values = list_values(derived.inputs[0])
        formulas = dict(zip([field.name for field in spec.fields], map(sql.SQL, derived.formulas), strict=True))
    else:
        values = [Value(field.name, field.aggregate, field.type) for field in spec.fields if field.name in columns]
        formulas = {}
    types = {field.name: "bigint" if field.type == "integer" else "text" for field in spec.fields}
    if relation is not None:
        values = [*values, *EXTRA_VALUES]
        columns = [*columns, *EXTRAS]
        types |= {value.name: "boolean" if value.aggregate == "all" else "bigint" for value in EXTRA_VALUES}
    parts: list[sql.Composable] = []
    parameters: dict[str, object] = {}
    hull = _hull(window for of_symbol in rows.values() for window in of_symbol)
    if hull.start_ms < hull.end_ms or not made:
        parts.append(make_rows_part(source, values, relation))
        parameters |= {"grid": get_grid_ms(spec), "first": hull.start_ms, "end": hull.end_ms}
        parameters |= _list_windows(rows, "symbols", "lows", "highs")
    if made:
        parts.append(make_hours_part(source, values))
        parameters |= _list_windows(made, "hour_symbols", "hour_lows", "hour_highs")
    results = [
        sql.SQL(", ({})::{}").format(formulas.get(name, sql.Identifier("d", name)), sql.SQL(types[name]))
        for name in columns
    ]
    return make_buckets(parts, values, sql.SQL("").join(results)), parameters


def _get_source(spec: Perpspec) -> str:
    """Return the perpspec whose rows are aggregated: the input of a metric that is derived from its steps."""
    derived = find_derived(spec.name)
    return f"{spec.name.removesuffix(derived.name)}{derived.inputs[0]}" if derived and derived.from_steps else spec.name


def _list_windows(windows: Mapping[str, Sequence[Window]], *names: str) -> dict[str, object]:
    """Return parallel lists of symbols, starts and ends, under these names."""
    listed = [(symbol, *window) for symbol, of_symbol in windows.items() for window in of_symbol]
    return dict(zip(names, ([each[at] for each in listed] for at in range(3)), strict=True))


def _count_points(start_ms: int, end_ms: int, grid_ms: int) -> int:
    """Return how many multiples of `grid_ms` lie in [start_ms, end_ms)."""
    return ceil_to(end_ms, grid_ms) // grid_ms - ceil_to(start_ms, grid_ms) // grid_ms


def _align(window: Window, step_ms: int) -> Window:
    """Return the whole steps whose begin lies in a window."""
    return Window(ceil_to(window.start_ms, step_ms), ceil_to(window.end_ms, step_ms))


def _hull(windows: Iterable[Window]) -> Window:
    kept = [window for window in windows if window.start_ms < window.end_ms]
    return Window(min((w.start_ms for w in kept), default=0), max((w.end_ms for w in kept), default=0))
