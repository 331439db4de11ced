"""The JSON API of the charts: the points of one series, and the ranges where it has none."""

from flask import Blueprint, Response, request

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.metrics import INTERVALS_MS
from fademoe.store.read import chart as read_chart
from fademoe.web.api.data import json_response
from fademoe.web.api.row_query import find_perpspec
from fademoe.web.current import services
from fademoe.web.http.params import Params
from fademoe.web.problem import bad_parameter

blueprint = Blueprint("api_chart", __name__)

POINTS_MOST = 10_000
CHART_STEPS = {
    "1m": MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "1d": DAY_MS,
}
DEFAULT_STEP = "1h"


@blueprint.get("/api/chart/<perpspec>")
def show_points(perpspec: str) -> Response:
    """Answer one series in equal steps, as columns of numbers to draw; a step without a row is null.

    `bands` are the ranges without rows, and why they have none.
    """
    params = Params(request.args, ("symbol", "from", "to", "step"))
    symbols = params.symbols()
    if len(symbols) != 1:
        raise bad_parameter("symbol", params.text("symbol"), "one coin such as BTC")
    step = params.choice("step", tuple(CHART_STEPS), DEFAULT_STEP)
    window = _read_window(params, step)
    with services().reader.read() as cursor:
        spec = find_perpspec(cursor, perpspec)
        own_step_ms = INTERVALS_MS.get(spec.interval)
        step_ms = max(CHART_STEPS[step], own_step_ms or 0)
        window = Window(floor_to(window.start_ms, step_ms), window.end_ms)
        points = read_chart.read_points(
            cursor, spec, symbols[0], window, step_ms=step_ms if own_step_ms else None, own_step_ms=own_step_ms
        )
        bands = read_chart.list_bands(cursor, spec.name, symbols[0], window, step_ms=step_ms, now_ms=now_ms())
    return json_response(
        {
            "perpspec": spec.name,
            "exchange": spec.exchange,
            "symbol": symbols[0],
            "events": own_step_ms is None,
            "step_ms": step_ms,
            "ts": points.ts,
            "columns": points.columns,
            "bands": [band._asdict() for band in bands],
        }
    )


def _read_window(params: Params, step: str) -> Window:
    """Return the range of a request, the last day by default; more than POINTS_MOST steps are refused."""
    end_ms = params.time("to", now_ms())
    start_ms = params.time("from", end_ms - DAY_MS)
    if (end_ms - start_ms) // CHART_STEPS[step] > POINTS_MOST:
        most = f"a range of at most {POINTS_MOST} steps of {step}, or a longer step"
        raise bad_parameter("from", params.text("from"), most)
    return Window(start_ms, end_ms)
