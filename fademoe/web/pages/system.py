"""The pages about the system: queues, limits, schema, alerts; and the charts."""

from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, Response, render_template, request, send_file

from fademoe.clock import now_ms
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import schema as read_schema
from fademoe.store.read import status as read_status
from fademoe.web.api.state import unit_of
from fademoe.web.api.system import CHART_STEPS
from fademoe.web.current import current_summary, services
from fademoe.web.http.headers import POLICY
from fademoe.web.http.params import Params
from fademoe.web.model import queues
from fademoe.web.model.alerts import alerts
from fademoe.web.model.failed_jobs import NEWEST, FailedGroup, failed_groups
from fademoe.web.model.services import attempt
from fademoe.web.model.summary import queue_names
from fademoe.web.problem import Problem

blueprint = Blueprint("pages_system", __name__)

# plotly brings its own styles; scripts stay as strict as everywhere.
CHARTS_POLICY = f"{POLICY}; style-src 'self' 'unsafe-inline'"
PLOTLY = "package_data/plotly.min.js"
WAITING_UNITS = 50
PLOTLY_SECONDS = 86_400


@blueprint.get("/queues")
def show_queues() -> str:
    """Show queues, workers and failed jobs."""
    Params(request.args, ())
    found, reason = attempt(_read_queues)
    return render_template("queues.html", reason=reason, **(found or {}))


@blueprint.get("/limits")
def show_limits() -> str:
    """Show each budget by egress: what is used, when it opens, who waits."""
    Params(request.args, ())
    budgets, reason = attempt(lambda: queues.budgets(services().redis))
    waiting, _ = attempt(_waiting)
    return render_template("limits.html", budgets=budgets or [], reason=reason, waiting=waiting or [], now=now_ms())


@blueprint.get("/schema")
def show_schema() -> str:
    """Show the tables with columns, types, units, indexes and sizes."""
    Params(request.args, ())
    tables, reason = attempt(_tables)
    return render_template("schema.html", tables=tables or [], reason=reason)


@blueprint.get("/alerts")
def show_alerts() -> str:
    """Show what needs somebody."""
    Params(request.args, ())
    return render_template("alerts.html", alerts=alerts(services(), current_summary()))


@blueprint.get("/charts")
def show_charts() -> Response:
    """Show one symbol over all exchanges, pane above pane on one time axis."""
    params = Params(request.args, ("symbol", "exchanges", "from", "to", "step", "panes"))
    symbols = params.symbols() or ("BTC",)
    specs, reason = attempt(_specs)
    exchanges = sorted({spec.exchange for spec in (specs or {}).values()})
    chosen = params.choices("exchanges", exchanges) if exchanges else ()
    step = params.choice("step", tuple(CHART_STEPS), "1h")
    params.span()
    page = render_template(
        "charts.html",
        symbol=symbols[0],
        exchanges=exchanges,
        chosen=chosen or tuple(exchanges),
        specs=[
            {"perpspec": spec.name, "exchange": spec.exchange, "metric": spec.metric} for spec in (specs or {}).values()
        ],
        step=step,
        steps=tuple(CHART_STEPS),
        reason=reason,
        has_plotly=_plotly() is not None,
        given=request.args,
    )
    response = Response(page)
    response.headers["Content-Security-Policy"] = CHARTS_POLICY
    return response


@blueprint.get("/plotly.js")
def send_plotly() -> Response:
    """Send plotly's script out of its installed package."""
    path = _plotly()
    if path is None:
        raise Problem(404, "plotly is not installed here")
    return send_file(path, mimetype="text/javascript", max_age=PLOTLY_SECONDS)


def _plotly() -> Path | None:
    spec = find_spec("plotly")
    path = Path(spec.origin).parent / PLOTLY if spec and spec.origin else None
    return path if path and path.is_file() else None


def _read_queues() -> dict[str, object]:
    redis = services().redis
    found = queues.queues(redis, queue_names(services().settings))
    services().samples.add(now_ms(), ((queue.name, queue.depth) for queue in found))
    groups: list[FailedGroup] = failed_groups(redis, [queue.name for queue in found if queue.failed])
    return {
        "queues": [(queue, services().samples.rate(queue.name)) for queue in found],
        "workers": queues.workers(redis),
        "groups": groups,
        "looked_at": NEWEST,
        "more_failed": any(queue.failed > NEWEST for queue in found),
        "paused": queues.is_paused(redis),
    }


def _waiting() -> list[read_status.Unit]:
    with services().reader.read() as cursor:
        return read_status.list_units(cursor, state="waiting", limit=WAITING_UNITS)


def _specs() -> dict[str, read_catalog.Perpspec]:
    with services().reader.read() as cursor:
        return read_catalog.list_perpspecs(cursor)


def _tables() -> list[dict[str, object]]:
    with services().reader.read() as cursor:
        fields = {field.name: field for spec in read_catalog.list_perpspecs(cursor).values() for field in spec.fields}
        sizes = {size.table: size for size in read_schema.list_sizes(cursor)}
        return [
            {
                "name": table,
                "purpose": purpose,
                "size": sizes.get(table),
                "columns": [
                    (column, unit_of(table, column.name, fields)) for column in read_schema.list_columns(cursor, table)
                ],
                "indexes": read_schema.list_indexes(cursor, table),
            }
            for table, purpose in read_schema.TABLES.items()
        ]
