"""The coverage of the series: ranges, the heat map, and what filling would take."""

from fademoe.clock import now_ms
from fademoe.store.read.catalog import list_names
from fademoe.web.api.parameters import ONE_SYMBOL, PERPSPEC, SYMBOL, read_one_symbol, read_window
from fademoe.web.current import get_services
from fademoe.web.http.params import CURSOR, FROM, TIME_FORMS, TO, Choice, Integer, Names, Params, write_cursor
from fademoe.web.http.routes import Page, Routes
from fademoe.web.model import heatmap
from fademoe.web.model.catalog import find_perpspec
from fademoe.web.model.certificate import Certificate, certify_range
from fademoe.web.model.fill import FillPlan, list_gaps, plan_gaps
from fademoe.web.model.heatmap import HeatMap
from fademoe.web.model.series_ranges import Coverage, read_series
from fademoe.web.problem import Problem

routes = Routes("api_coverage")

SOURCE = Names("source", "a perpspec, or a comma list of them")
LIMIT = Integer("limit", "series of a page, 2000 by default", 2_000, minimum=1, maximum=10_000)
BY = Choice("by", "day by default", tuple(heatmap.CELLS_MS), "day")
COLUMNS = Integer("columns", "7 days or 24 hours by default", 7, minimum=1, maximum=heatmap.MAX_COLUMNS)


@routes.get("/api/coverage", "Ranges and percentages of each series", (SOURCE, SYMBOL, LIMIT, CURSOR))
def list_coverage(params: Params) -> Coverage:
    """Answer the wanted, covered, absent and missing ranges of each series."""
    source, symbol = params.read_cursor("series", 2) or ("", "")
    now = now_ms()
    with get_services().reader.read() as cursor:
        sources = params.check_names(SOURCE, list_names(cursor))
        series, has_more = read_series(
            cursor,
            now_ms=now,
            limit=params[LIMIT],
            sources=list(sources) or None,
            symbols=list(params[SYMBOL]) or None,
            after=(source, symbol),
        )
    next_cursor = write_cursor("series", series[-1].source, series[-1].symbol) if has_more else None
    return Coverage(at=now, series=series, next=next_cursor)


@routes.get(
    "/api/coverage/<perpspec>", "The heat map: symbols by days or hours", (PERPSPEC, SYMBOL, TO, BY, COLUMNS, CURSOR)
)
def list_cells(params: Params) -> HeatMap:
    """Answer the heat map of one perpspec."""
    return read_heat_map(params, params[COLUMNS] if COLUMNS in params else heatmap.COLUMNS[params[BY]][0])


def read_heat_map(params: Params, columns: int) -> HeatMap:
    """Return the heat map of a request, for the API and for the coverage page."""
    now, by = now_ms(), params[BY]
    window = heatmap.find_window(params.get(TO, now), by, columns)
    (after,) = params.read_cursor("symbol", 1) or ("",)
    step_ms = heatmap.CELLS_MS[by]
    with get_services().reader.read() as cursor:
        spec = find_perpspec(cursor, params[PERPSPEC])
        lines, last = heatmap.read_lines(cursor, spec.name, params[SYMBOL], after, window, step_ms, now)
    return HeatMap(
        perpspec=spec.name,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        step_ms=step_ms,
        symbols=lines,
        next=write_cursor("symbol", last) if last else None,
    )


@routes.get(
    "/api/certificate/<perpspec>",
    "What is expected, present, absent and missing in a range of a series, and a hash of its rows",
    (PERPSPEC, ONE_SYMBOL, FROM, TO),
)
def show_certificate(params: Params) -> Certificate:
    """Answer the certificate of a range, on the grid of the perpspec's rows."""
    window = read_window(params)
    if window is None:
        raise Problem(400, f"{FROM.name} and {TO.name} are required: {TIME_FORMS}", parameter=FROM.name)
    if window.start_ms == window.end_ms:
        raise params.refuse(TO, f"a time after from={params.get_text(FROM)}")
    symbol = read_one_symbol(params)
    with get_services().reader.read() as cursor:
        spec = find_perpspec(cursor, params[PERPSPEC])
        return certify_range(cursor, spec, symbol, window)


@routes.get(
    "/api/fill/<perpspec>",
    "What filling would take: of what is wanted and missing, or of a whole range",
    (PERPSPEC, SYMBOL, FROM, TO),
    page=Page("/coverage/fill", "fill.html"),
)
def show_plan(params: Params) -> FillPlan:
    """Answer what filling would take."""
    services, now, name = get_services(), now_ms(), params[PERPSPEC]
    window = read_window(params)
    with services.reader.read() as cursor:
        gaps = list_gaps(cursor, name, params[SYMBOL], window, now)
    return plan_gaps(name, gaps, now_ms=now, settings=services.settings, redis=services.redis)
