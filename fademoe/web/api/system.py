"""The state of the system, as JSON and as pages: health, summary, units, queues, limits, schema."""

from flask import Response

from fademoe.clock import now_ms
from fademoe.store.read import status as read_status
from fademoe.store.read.schema import TABLES
from fademoe.web.current import get_services, read_summary
from fademoe.web.http.formats import make_json_response
from fademoe.web.http.params import CURSOR, NEXT_FORM, Choice, Integer, Params, Text, write_cursor
from fademoe.web.http.routes import Bodies, Page, Routes
from fademoe.web.model import schema
from fademoe.web.model.answer import Answer
from fademoe.web.model.limits import Limits, list_budgets, list_outages
from fademoe.web.model.queues import Queues, read_queues
from fademoe.web.model.schema import Table, Tables, find_table
from fademoe.web.model.services import attempt
from fademoe.web.model.summary import Health, SystemSummary, check_health, describe_system, list_queue_names

routes = Routes("api_system")

STATES = ("error", "stale", "waiting", "started", "running", "stopped", "done")
WAITING_UNITS = 50
KIND = Text("kind", "such as stream or backfill")
STATE = Choice("state", "one state", ("", *STATES))
FIND = Text("find", "a part of the unit's name")
LIMIT = Integer("limit", "units of a page, 200 by default", 200, minimum=1, maximum=2_000)

TABLE = Text("table", f"one of FadeMoe's tables: {', '.join(TABLES)}", example="perp_data")


class Units(Answer):
    """One page of units, most urgent first."""

    units: list[read_status.Unit]
    next: str | None


@routes.get("/health", "Whether PostgreSQL and Redis answer", bodies=Bodies(json=Health, unready=Health))
def show_health(params: Params) -> Response:
    """Answer whether the system is ready: 503 with the reason when a server is unavailable."""
    health = check_health(get_services())
    return make_json_response(health, 200 if health.ready else 503)


@routes.get("/api/system-summary", "Streams, workers, queues, budgets, recent status and errors")
def show_summary(params: Params) -> SystemSummary:
    """Answer the state of the system."""
    return describe_system(get_services(), read_summary())


@routes.get("/api/units", "What every unit does, most urgent first", (KIND, STATE, FIND, LIMIT, CURSOR))
def list_units(params: Params) -> Units:
    """Answer the units."""
    rank, unit = params.read_cursor("unit", 2) or ("-1", "")
    if not rank.lstrip("-").isdecimal() or len(rank) > 2:
        raise params.refuse(CURSOR, NEXT_FORM)
    limit = params[LIMIT]
    with get_services().reader.read() as cursor:
        units = read_status.list_units(
            cursor,
            kinds=[params[KIND]] if params[KIND] else [],
            state=params[STATE],
            find=params[FIND],
            after=(int(rank), unit),
            limit=limit + 1,
        )
    last = units[limit - 1] if len(units) > limit else None
    return Units(units=units[:limit], next=write_cursor("unit", str(last.rank), last.unit) if last else None)


@routes.get("/api/queues", "Queues, workers, failed jobs by error", page=Page("/queues", "queues.html"))
def show_queues(params: Params) -> Queues:
    """Answer the queues with their rates, the workers, and the failed jobs by error."""
    return read_queues(get_services(), list_queue_names(get_services().settings))


@routes.get("/api/limits", "The rate limits of the exchanges", page=Page("/limits", "limits.html"))
def show_limits(params: Params) -> Limits:
    """Answer every budget that was used lately."""
    budgets = list_budgets(get_services().redis)
    waiting, _ = attempt(_list_waiting)
    return Limits(at=now_ms(), budgets=budgets, outages=list_outages(get_services().redis), waiting=waiting)


@routes.get("/api/schema", "The tables with columns, indexes and sizes", page=Page("/schema", "schema.html"))
def list_tables(params: Params) -> Tables:
    """Answer every table."""
    with get_services().reader.read() as cursor:
        return schema.list_tables(cursor)


@routes.get("/api/schema/<table>", "Columns, types, units and indexes of a table", (TABLE,))
def show_table(params: Params) -> Table:
    """Answer one table."""
    with get_services().reader.read() as cursor:
        return find_table(cursor, params[TABLE])


def _list_waiting() -> list[read_status.Unit]:
    with get_services().reader.read() as cursor:
        return read_status.list_units(cursor, state="waiting", limit=WAITING_UNITS)
