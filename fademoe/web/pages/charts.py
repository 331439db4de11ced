"""The page of the charts, and plotly's script out of its package."""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, Response, render_template, request, send_file

from fademoe.clock import DAY_MS
from fademoe.metrics import list_stored, rank_metric
from fademoe.store.read.catalog import Perpspec, list_perpspecs, list_symbols
from fademoe.web.api.chart import STEP
from fademoe.web.api.parameters import SYMBOL
from fademoe.web.current import get_services
from fademoe.web.http.headers import POLICY
from fademoe.web.http.params import FROM, TO, Choice, Names, Params
from fademoe.web.model.chart import CHART_STEPS_MS, MAX_POINTS
from fademoe.web.model.services import attempt
from fademoe.web.problem import Problem

blueprint = Blueprint("pages_charts", __name__)

# plotly writes styles into the page; scripts are as strict as on other pages.
CHARTS_POLICY = f"{POLICY}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
PLOTLY = "package_data/plotly.min.js"
PLOTLY_SECONDS = 86_400
RANGES = {"1d": DAY_MS, "1w": 7 * DAY_MS, "1m": 30 * DAY_MS, "3m": 91 * DAY_MS, "1y": 365 * DAY_MS}
RANGE_TITLES = {"1d": "1 day", "1w": "1 week", "1m": "1 month", "3m": "3 months", "1y": "1 year"}
DEFAULT_RANGE = "1w"
DEFAULT_SYMBOL = "BTC"
EXCHANGES = Names("exchanges", "a comma list of exchanges; all when left out")
SHOWN_METRICS = Names("metrics", "a comma list of metrics; all that are stored when left out")
RANGE = Choice("range", f"{DEFAULT_RANGE} by default", tuple(RANGES), DEFAULT_RANGE)
PROPOSED_PERPSPECS = 3  # whose symbols the form proposes


@blueprint.get("/charts")
def show_charts() -> Response:
    """Show one symbol over all exchanges, pane above pane on one time axis."""
    params = Params(request.args.to_dict(flat=False), (SYMBOL, EXCHANGES, SHOWN_METRICS, FROM, TO, STEP, RANGE))
    symbol = (*params[SYMBOL], DEFAULT_SYMBOL)[0]
    specs, reason = attempt(_read_drawn_perpspecs)
    symbols, _ = attempt(lambda: _read_symbols(specs or []))
    metrics = {spec.metric: spec.title for spec in specs or []}
    shown = (params.check_names(SHOWN_METRICS, metrics) if metrics else ()) or tuple(
        name for name in metrics if name in list_stored()
    )
    specs = [spec for spec in specs or [] if spec.metric in shown]
    exchanges = sorted({spec.exchange for spec in specs})
    chosen = params.check_names(EXCHANGES, exchanges) if exchanges else ()
    start_ms, end_ms = params.read_span()
    config = {
        "symbol": symbol,
        "specs": [_describe(spec) for spec in specs],
        "exchanges": exchanges,
        "chosen": chosen or exchanges,
        "steps": CHART_STEPS_MS,
        "step": params[STEP],
        "ranges": RANGES,
        "range": params[RANGE],
        "start_ms": start_ms,
        "end_ms": end_ms,
        "points_most": MAX_POINTS,
    }
    page = render_template(
        "charts.html",
        config=config,
        symbols=symbols or [],
        metrics=metrics,
        shown=shown,
        range_titles=RANGE_TITLES,
        reason=reason,
        has_plotly=_find_plotly() is not None,
        given=request.args,
    )
    response = Response(page)
    response.headers["Content-Security-Policy"] = CHARTS_POLICY
    return response


@blueprint.get("/plotly.js")
def send_plotly() -> Response:
    """Send plotly's script out of its installed package."""
    path = _find_plotly()
    if path is None:
        raise Problem(404, "plotly is not installed")
    return send_file(path, mimetype="text/javascript", max_age=PLOTLY_SECONDS)


def _find_plotly() -> Path | None:
    spec = find_spec("plotly")
    path = Path(spec.origin).parent / PLOTLY if spec and spec.origin else None
    return path if path and path.is_file() else None


def _describe(spec: Perpspec) -> dict[str, object]:
    return {
        "perpspec": spec.name,
        "code": spec.code,
        "exchange": spec.exchange,
        "metric": spec.metric,
        "plots": [asdict(plot) for plot in spec.plots],
    }


def _read_drawn_perpspecs() -> list[Perpspec]:
    """Return the perpspecs whose metrics declare plots, in the order of the metrics."""
    with get_services().reader.read() as cursor:
        specs = [spec for spec in list_perpspecs(cursor).values() if spec.plots]
    return sorted(specs, key=lambda spec: (rank_metric(spec.metric), spec.name))


def _read_symbols(specs: list[Perpspec]) -> list[str]:
    """Return the symbols of the first perpspecs, as proposals for the form."""
    with get_services().reader.read() as cursor:
        return sorted({symbol for spec in specs[:PROPOSED_PERPSPECS] for symbol in list_symbols(cursor, spec.name)})
