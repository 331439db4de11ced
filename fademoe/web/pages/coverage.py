"""The coverage pages: heat map, list, one cell with its windows, jobs and errors, and what filling would take."""

from dataclasses import dataclass

from flask import Blueprint, render_template, request
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, floor_to, merge, now_ms, to_iso
from fademoe.errors import StoreError
from fademoe.metrics import MAIN_METRIC, rank
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import coverage as read_coverage
from fademoe.store.read import series as read_series
from fademoe.web.api.fill import PARAMETERS, plan, window_of
from fademoe.web.api.row_query import find_perpspec
from fademoe.web.api.system import SYMBOLS
from fademoe.web.current import services
from fademoe.web.http.addresses import address
from fademoe.web.http.params import Params, write_cursor
from fademoe.web.model import heatmap
from fademoe.web.model.estimate import estimate
from fademoe.web.model.failed_jobs import SeriesJob, series_jobs
from fademoe.web.model.summary import queue_names
from fademoe.web.problem import bad_parameter

blueprint = Blueprint("pages_coverage", __name__)

SERIES = 500  # lines of a list
RANGES = 200  # ranges shown of one cell
ERRORS = 20


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What both views of the coverage page choose from."""

    specs: dict[str, read_catalog.Perpspec]
    totals: dict[str, read_coverage.PerpspecTotal]
    spec: read_catalog.Perpspec | None

    @property
    def metrics(self) -> list[str]:
        """The columns of the table of perpspecs, in the order of the metrics."""
        return sorted({spec.metric for spec in self.specs.values()}, key=rank)

    @property
    def codes(self) -> dict[str, dict[str, str]]:
        """The lines of the table: per exchange code its perpspecs by metric."""
        found: dict[str, dict[str, str]] = {}
        for spec in self.specs.values():
            found.setdefault(spec.name.rpartition("-")[0], {})[spec.metric] = spec.name
        return found


@blueprint.get("/coverage")
def show_coverage() -> str:
    """Show how complete the series of a perpspec are, as a heat map or as a list."""
    params = Params(request.args, ("perpspec", "symbol", "to", "by", "columns", "view", "cursor"))
    by = params.choice("by", tuple(heatmap.STEPS), "day")
    view = params.choice("view", ("map", "list"), "map")
    count = params.integer("columns", heatmap.COLUMNS[by][2], 1, max(heatmap.COLUMNS[by]))
    window = heatmap.window_of(params.time("to", now_ms()), by, count)
    found: dict[str, object] = {"reason": None, "heading": Heading(specs={}, totals={}, spec=None)}
    try:
        with services().reader.read() as cursor:
            heading = _heading(cursor, params.text("perpspec"))
            found["heading"] = heading
            if heading.spec is not None:
                read = _read_map if view == "map" else _read_list
                found |= read(cursor, heading.spec, params, window, by)
    except StoreError as error:
        found["reason"] = str(error)
    choices = {"now": now_ms(), "by": by, "view": view, "count": count, "counts": heatmap.COLUMNS[by], "window": window}
    return render_template("coverage.html", given=request.args, meanings=heatmap.MEANINGS, **choices, **found)


@blueprint.get("/coverage/cell")
def show_cell() -> str:
    """Show one series in one span of time: ranges, jobs, errors, and what filling it would take."""
    params = Params(request.args, ("perpspec", "symbol", "from", "to", "by"))
    symbols = params.symbols()
    if len(symbols) != 1:
        raise bad_parameter("symbol", params.text("symbol"), "one coin such as BTC")
    step_ms = heatmap.STEPS[params.choice("by", tuple(heatmap.STEPS), "day")]
    start_ms = params.time("from", floor_to(now_ms(), step_ms))
    window = Window(start_ms, params.time("to", start_ms + step_ms))
    found: dict[str, object] = {"reason": None, "spec": None}
    try:
        with services().reader.read() as cursor:
            spec = find_perpspec(cursor, params.text("perpspec"))
            found |= {"spec": spec} | _read_cell(cursor, spec, symbols[0], window)
    except StoreError as error:
        found["reason"] = str(error)
    jobs, jobs_reason = _jobs(params.text("perpspec"), symbols[0], window)
    return render_template(
        "cell.html", symbol=symbols[0], window=window, jobs=jobs, jobs_reason=jobs_reason, given=request.args, **found
    )


@blueprint.get("/coverage/fill")
def show_fill() -> str:
    """Show what filling would take, before anybody asks for it."""
    params = Params(request.args, ("perpspec", *PARAMETERS))
    symbols, window = params.symbols(), window_of(params)
    found: dict[str, object] = {"reason": None, "spec": None}
    try:
        with services().reader.read() as cursor:
            found |= plan(cursor, params.text("perpspec"), list(symbols), window)._asdict()
    except StoreError as error:
        found["reason"] = str(error)
    return render_template("fill.html", symbols=symbols, window=window, given=request.args, **found)


def _heading(cursor: Cursor, name: str) -> Heading:
    specs = read_catalog.list_perpspecs(cursor)
    totals = {total.source: total for total in read_coverage.list_totals(cursor, now_ms())}
    default = next((spec for spec in specs if spec in totals), next(iter(specs), None))
    main = next((spec.name for spec in specs.values() if spec.metric == MAIN_METRIC and spec.name in totals), default)
    spec = find_perpspec(cursor, name) if name else specs.get(main or "")
    return Heading(specs=specs, totals=totals, spec=spec)


def _read_map(
    cursor: Cursor, spec: read_catalog.Perpspec, params: Params, window: Window, by: str
) -> dict[str, object]:
    now, step_ms = now_ms(), heatmap.STEPS[by]
    after = params.cursor("symbol", 1) or ("",)
    chosen = list(params.symbols()) or read_catalog.list_symbols(cursor, spec.name)
    page = sorted(symbol for symbol in chosen if symbol > after[0])
    more, page = len(page) > SYMBOLS, page[:SYMBOLS]
    ranges = read_coverage.list_ranges(cursor, [(spec.name, symbol) for symbol in page], now)
    lives = read_series.list_listing_periods(cursor, spec.name.rpartition("-")[0], page)
    series = read_coverage.list_series(cursor, now_ms=now, limit=SYMBOLS, sources=[spec.name], symbols=page)
    return {
        "rows": [
            (one, heatmap.marks(ranges[(one.source, one.symbol)], lives.get(one.symbol), window, by, now))
            for one in series
        ],
        "heads": heatmap.heads(window, by),
        "groups": heatmap.groups(window, by),
        "step_ms": step_ms,
        "older": address({"to": to_iso(window.start_ms), "cursor": ""}),
        "newer": address({"to": to_iso(window.end_ms + (window.end_ms - window.start_ms)), "cursor": ""})
        if window.end_ms < now
        else None,
        "following": address({"cursor": write_cursor("symbol", page[-1])}) if more else None,
    }


def _read_list(
    cursor: Cursor, spec: read_catalog.Perpspec, params: Params, _window: Window, _by: str
) -> dict[str, object]:
    after = params.cursor("symbol", 1) or ("",)
    series = read_coverage.list_series(
        cursor,
        now_ms=now_ms(),
        limit=SERIES + 1,
        sources=[spec.name],
        symbols=list(params.symbols()) or None,
        after=(spec.name, after[0]),
    )
    more, series = len(series) > SERIES, series[:SERIES]
    following = address({"cursor": write_cursor("symbol", series[-1].symbol)}) if more else None
    return {"series": series, "following": following}


def _read_cell(cursor: Cursor, spec: read_catalog.Perpspec, symbol: str, window: Window) -> dict[str, object]:
    now = now_ms()
    ranges = read_coverage.list_ranges(cursor, [(spec.name, symbol)], now).get((spec.name, symbol))
    series = read_coverage.list_series(cursor, now_ms=now, limit=1, sources=[spec.name], symbols=[symbol])
    missing = _cut(ranges.missing, window) if ranges else []
    return {
        "series": series[0] if series else None,
        "missing": missing[:RANGES],
        "covered": _cut(ranges.covered, window)[:RANGES] if ranges else [],
        "absences": read_series.list_absences(cursor, spec.name, symbol, window, RANGES),
        "corrections": read_series.list_corrections(cursor, spec.name, symbol, window, RANGES),
        "failures": read_series.list_failures(cursor, f"backfill {spec.name} {symbol}", ERRORS),
        "estimate": estimate(spec.name, missing, now, services().settings.workers) if missing else None,
    }


def _jobs(source: str, symbol: str, window: Window) -> tuple[list[SeriesJob], str | None]:
    names = queue_names(services().settings)
    try:
        found = series_jobs(services().redis, names, source, symbol)
    except StoreError as error:
        return [], str(error)
    overlapping = [job for job in found if job.window.start_ms < window.end_ms and job.window.end_ms > window.start_ms]
    return overlapping[:RANGES], None


def _cut(windows: list[Window], window: Window) -> list[Window]:
    """Return the parts of ascending windows that lie inside one."""
    cut = (Window(max(one.start_ms, window.start_ms), min(one.end_ms, window.end_ms)) for one in windows)
    return merge(one for one in cut if one.start_ms < one.end_ms)
