"""The pages about the system: queues, limits, schema, alerts."""

from flask import Blueprint, render_template, request

from fademoe.clock import now_ms
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import schema as read_schema
from fademoe.store.read import status as read_status
from fademoe.web.api.state import unit_of
from fademoe.web.current import current_summary, services
from fademoe.web.http.params import Params
from fademoe.web.model import queues
from fademoe.web.model.alerts import alerts
from fademoe.web.model.failed_jobs import NEWEST, FailedGroup, failed_groups
from fademoe.web.model.services import attempt
from fademoe.web.model.summary import queue_names

blueprint = Blueprint("pages_system", __name__)

WAITING_UNITS = 50


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
