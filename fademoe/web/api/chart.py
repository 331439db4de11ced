"""The API of the charts: the points of one series, and the ranges where it has none."""

from fademoe.clock import DAY_MS, Window, now_ms
from fademoe.web.api.parameters import ONE_SYMBOL, PERPSPEC, read_one_symbol
from fademoe.web.current import get_services
from fademoe.web.http.params import FROM, TO, Choice, Params
from fademoe.web.http.routes import Routes
from fademoe.web.model.catalog import find_perpspec
from fademoe.web.model.chart import CHART_STEPS_MS, DEFAULT_STEP, MAX_POINTS, Points, read_points

routes = Routes("api_chart")

STEP = Choice("step", f"{DEFAULT_STEP} by default", tuple(CHART_STEPS_MS), DEFAULT_STEP)


@routes.get(
    "/api/chart/<perpspec>",
    f"One series in equal steps, as columns of numbers to draw; at most {MAX_POINTS} steps",
    (PERPSPEC, ONE_SYMBOL, FROM, TO, STEP),
)
def list_points(params: Params) -> Points:
    """Answer the points of one series, of the last day by default."""
    symbol, now = read_one_symbol(params), now_ms()
    start_ms, end_ms = params.read_span()
    end_ms = now if end_ms is None else end_ms
    window = Window(end_ms - DAY_MS if start_ms is None else start_ms, end_ms)
    if (window.end_ms - window.start_ms) // CHART_STEPS_MS[params[STEP]] > MAX_POINTS:
        raise params.refuse(FROM, f"a range of at most {MAX_POINTS} steps of {params[STEP]}, or a longer step")
    with get_services().reader.read() as cursor:
        spec = find_perpspec(cursor, params[PERPSPEC])
        return read_points(cursor, spec, symbol, window, CHART_STEPS_MS[params[STEP]], now)
