"""The coverage pages: heat map, list, and one cell with its ranges, jobs and errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from markupsafe import Markup, escape
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, floor_to, merge, now_ms, to_iso
from fademoe.metrics import MAIN_METRIC, rank_metric
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import completeness as read_completeness
from fademoe.store.read import files as read_files
from fademoe.store.read import series as read_series
from fademoe.web.api.parameters import ONE_SYMBOL, PERPSPEC, SYMBOL, read_one_symbol
from fademoe.web.api.series_coverage import BY, COLUMNS, read_heat_map
from fademoe.web.current import get_services
from fademoe.web.http.addresses import build_address
from fademoe.web.http.params import CURSOR, FROM, TO, Choice, Params, write_cursor
from fademoe.web.http.routes import Routes
from fademoe.web.model import heatmap
from fademoe.web.model.catalog import find_perpspec
from fademoe.web.model.failed_jobs import list_jobs
from fademoe.web.model.fill import plan_gaps
from fademoe.web.model.services import attempt
from fademoe.web.model.summary import list_queue_names

routes = Routes("pages_coverage")

MAX_SERIES = 500  # lines of a list
MAX_RANGES = 200  # ranges shown of one cell
MAX_ERRORS = 20
VIEW = Choice("view", "map by default", ("map", "list"), "map")


@dataclass(frozen=True, kw_only=True)
class Heading:
    """The perpspecs to choose from, how complete each is, and the chosen one."""

    specs: dict[str, read_catalog.Perpspec]
    totals: dict[str, read_completeness.PerpspecTotal]
    spec: read_catalog.Perpspec | None

    @property
    def metrics(self) -> list[str]:
        """The columns of the table of perpspecs, in the order of the metrics."""
        return sorted({spec.metric for spec in self.specs.values()}, key=rank_metric)

    @property
    def codes(self) -> dict[str, dict[str, str]]:
        """The lines of the table: per exchange code its perpspecs by metric."""
        lines: dict[str, dict[str, str]] = {}
        for spec in self.specs.values():
            lines.setdefault(spec.code, {})[spec.metric] = spec.name
        return lines


@routes.show("/coverage", "coverage.html", (PERPSPEC, SYMBOL, TO, BY, COLUMNS, VIEW, CURSOR))
def show_coverage(params: Params) -> dict[str, object]:
    """Show how complete the series of a perpspec are, as a heat map or as a list."""
    by, view, now = params[BY], params[VIEW], now_ms()
    count = params[COLUMNS] if COLUMNS in params else heatmap.COLUMNS[by][2]
    choices = {"now": now, "by": by, "view": view, "count": count, "counts": heatmap.COLUMNS[by]}
    with get_services().reader.read() as cursor:
        heading = _read_heading(cursor, params[PERPSPEC], now)
    if heading.spec is None:
        return {"heading": heading, "meanings": heatmap.LEGEND, **choices}
    params.set_default(PERPSPEC, heading.spec.name)
    body = _read_map(params, by, count, now) if view == "map" else _read_list(params, now)
    return {"heading": heading, "meanings": heatmap.LEGEND, **choices, **body, **_twins(heading.spec.name)}


@routes.show("/coverage/cell", "cell.html", (PERPSPEC, ONE_SYMBOL, FROM, TO, BY))
def show_cell(params: Params) -> dict[str, object]:
    """Show one series in one span of time: ranges, jobs, errors, and what filling it would take."""
    symbol, now, step_ms = read_one_symbol(params), now_ms(), heatmap.CELLS_MS[params[BY]]
    start_ms = params.get(FROM, floor_to(now, step_ms))
    window = Window(start_ms, params.get(TO, start_ms + step_ms))
    names = list_queue_names(get_services().settings)
    jobs, jobs_reason = attempt(lambda: list_jobs(get_services().redis, names, params[PERPSPEC], symbol))
    overlapping = [
        job for job in jobs or [] if job.window.start_ms < window.end_ms and job.window.end_ms > window.start_ms
    ]
    cell, reason = attempt(lambda: _read_cell(params[PERPSPEC], symbol, window, now))
    return {
        "symbol": symbol,
        "window": window,
        "jobs": overlapping[:MAX_RANGES],
        "most": MAX_RANGES,
        "jobs_reason": jobs_reason,
        "reason": reason,
        **(cell or {}),
    }


def _twins(name: str) -> dict[str, str]:
    """Return the addresses of the same coverage as JSON."""
    return {
        "cells_twin": build_address(path=f"/api/coverage/{name}", dropped=("perpspec", "view")),
        "ranges_twin": build_address(
            {"source": name}, path="/api/coverage", dropped=("perpspec", "view", "to", "by", "columns", "cursor")
        ),
    }


def _read_heading(cursor: Cursor, name: str, now: int) -> Heading:
    specs = read_catalog.list_perpspecs(cursor)
    totals = {total.source: total for total in read_completeness.list_totals(cursor, now, with_derived=True)}
    if name:
        return Heading(specs=specs, totals=totals, spec=find_perpspec(cursor, name))
    requested = [spec for spec in specs.values() if spec.name in totals]
    main = [spec for spec in requested if spec.metric == MAIN_METRIC]
    return Heading(specs=specs, totals=totals, spec=next(iter([*main, *requested, *specs.values()]), None))


def _read_map(params: Params, by: str, count: int, now: int) -> dict[str, object]:
    answer = read_heat_map(params, count)
    window = Window(answer.start_ms, answer.end_ms)
    heads = heatmap.list_heads(window, by)
    newer = to_iso(window.end_ms + (window.end_ms - window.start_ms))
    return {
        "rows": [(line, _draw(line, params[PERPSPEC], by, heads)) for line in answer.symbols],
        "heads": heads,
        "groups": heatmap.list_groups(window, by),
        "older": build_address({"to": to_iso(window.start_ms)}, dropped=("cursor",)),
        "newer": build_address({"to": newer}, dropped=("cursor",)) if window.end_ms < now else None,
        "following": build_address({"cursor": answer.next}) if answer.next else None,
    }


def _draw(line: heatmap.SeriesCells, source: str, by: str, heads: Sequence[tuple[str, str]]) -> Markup:
    """Return the cells of a line as HTML. A page has thousands, so only what is not our own text is escaped, once."""
    symbol = escape(line.symbol)
    link = escape(f"/coverage/cell?{urlencode({'perpspec': source, 'symbol': line.symbol, 'by': by})}&from=")
    cells = []
    for cell, (date, _) in zip(line.cells, heads, strict=True):
        came = f", {cell.came}" if cell.ways else ""
        label = f"{symbol} {date}: {cell.words}{came}"
        sign = f'<a href="{link}{cell.ts}" aria-label="{label}" title="{label}">{cell.sign}</a>' if cell.sign else ""
        cells.append(f'<td class="cell {cell.state}">{sign}</td>')
    return Markup("".join(cells))


def _read_list(params: Params, now: int) -> dict[str, object]:
    (after,) = params.read_cursor("symbol", 1) or ("",)
    source = params[PERPSPEC]
    with get_services().reader.read() as cursor:
        series = read_completeness.list_series(
            cursor,
            now_ms=now,
            limit=MAX_SERIES + 1,
            sources=[source],
            symbols=list(params[SYMBOL]) or None,
            after=(source, after),
        )
    has_more, series = len(series) > MAX_SERIES, series[:MAX_SERIES]
    following = build_address({"cursor": write_cursor("symbol", series[-1].symbol)}) if has_more else None
    return {"series": series, "following": following}


def _read_cell(name: str, symbol: str, window: Window, now: int) -> dict[str, object]:
    with get_services().reader.read() as cursor:
        spec = find_perpspec(cursor, name)
        ranges = read_completeness.list_ranges(cursor, [(spec.name, symbol)], now).get((spec.name, symbol))
        series = read_completeness.list_series(cursor, now_ms=now, limit=1, sources=[spec.name], symbols=[symbol])
        missing = _cut(ranges.missing, window) if ranges else []
        return {
            "spec": spec,
            "series": series[0] if series else None,
            "missing": missing[:MAX_RANGES],
            "covered": _cut(ranges.covered, window)[:MAX_RANGES] if ranges else [],
            "absences": read_series.list_absences(cursor, spec.name, symbol, window, MAX_RANGES),
            "arrivals": read_files.list_arrivals(cursor, spec.name, symbol, window, MAX_RANGES),
            "ways": heatmap.WAYS,
            "corrections": read_series.list_corrections(cursor, spec.name, symbol, window, MAX_RANGES),
            "failures": read_series.list_failures(cursor, f"backfill {spec.name} {symbol}", MAX_ERRORS),
            "estimate": plan_gaps(
                spec.name, [missing], now_ms=now, settings=get_services().settings, redis=get_services().redis
            ),
        }


def _cut(windows: list[Window], limits: Window) -> list[Window]:
    """Return the parts of ascending windows that lie inside `limits`."""
    parts = (Window(max(one.start_ms, limits.start_ms), min(one.end_ms, limits.end_ms)) for one in windows)
    return merge(part for part in parts if part.start_ms < part.end_ms)
