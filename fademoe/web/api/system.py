"""The JSON twins of the pages about the system: units, queues, limits, alerts, coverage by day."""

from flask import Blueprint, Response, request

from fademoe.clock import now_ms
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import coverage as read_coverage
from fademoe.store.read import series as read_series
from fademoe.store.read import status as read_status
from fademoe.web.api.data import json_response
from fademoe.web.api.row_query import find_perpspec
from fademoe.web.current import current_summary, services
from fademoe.web.http.params import Params, write_cursor
from fademoe.web.model import queues
from fademoe.web.model.alerts import alerts
from fademoe.web.model.failed_jobs import failed_groups
from fademoe.web.model.heatmap import COLUMNS, STEPS, Mark, marks, window_of
from fademoe.web.model.summary import queue_names
from fademoe.web.problem import bad_parameter

blueprint = Blueprint("api_system", __name__)

UNITS = 200
UNITS_MOST = 2_000
STATES = ("error", "stale", "waiting", "started", "running", "stopped", "done")
SYMBOLS = 100  # of one heat map
COLUMNS_MOST = 100


@blueprint.get("/api/units")
def list_units() -> Response:
    """Answer the units, those that need somebody first."""
    params = Params(request.args, ("kind", "state", "find", "limit", "cursor"))
    limit = params.integer("limit", UNITS, 1, UNITS_MOST)
    units, following = read_units(params, limit)
    return json_response({"units": [unit._asdict() for unit in units], "next": following})


def read_units(params: Params, limit: int) -> tuple[list[read_status.Unit], str | None]:
    """Read a page of units and the cursor of the next one."""
    rank, unit = params.cursor("unit", 2) or ("-1", "")
    if not rank.lstrip("-").isdecimal() or len(rank) > 2:
        raise bad_parameter("cursor", params.text("cursor"), "the value of `next` of the page before")
    kind = params.text("kind")
    with services().reader.read() as cursor:
        found = read_status.list_units(
            cursor,
            kinds=[kind] if kind else (),
            state=params.choice("state", ("", *STATES), ""),
            find=params.text("find"),
            after=(int(rank), unit),
            limit=limit + 1,
        )
    following = write_cursor("unit", str(found[limit - 1].rank), found[limit - 1].unit) if len(found) > limit else None
    return found[:limit], following


@blueprint.get("/api/queues")
def show_queues() -> Response:
    """Answer queues with their rates, workers, and failed jobs by error."""
    Params(request.args, ())
    names = queue_names(services().settings)
    found = queues.queues(services().redis, names)
    services().samples.add(now_ms(), ((queue.name, queue.depth) for queue in found))
    return json_response(
        {
            "paused": queues.is_paused(services().redis),
            "queues": [queues.as_dict(queue) | {"rate": _rate(queue.name)} for queue in found],
            "workers": [queues.as_dict(worker) for worker in queues.workers(services().redis)],
            "failed": [
                {name: value for name, value in vars(group).items() if name != "jobs"} | {"count": len(group.jobs)}
                for group in failed_groups(services().redis, [queue.name for queue in found if queue.failed])
            ],
        }
    )


@blueprint.get("/api/limits")
def show_limits() -> Response:
    """Answer every budget that somebody has used."""
    Params(request.args, ())
    return json_response({"at": now_ms(), "budgets": [vars(budget) for budget in queues.budgets(services().redis)]})


@blueprint.get("/api/alerts")
def list_alerts() -> Response:
    """Answer what needs somebody now."""
    Params(request.args, ())
    found = alerts(services(), current_summary())
    return json_response({"alerts": [alert._asdict() for alert in found]})


@blueprint.get("/api/coverage/<perpspec>")
def list_cells(perpspec: str) -> Response:
    """Answer the heat map of one perpspec: symbols by days or hours."""
    params = Params(request.args, ("symbol", "to", "by", "columns", "cursor"))
    by = params.choice("by", tuple(STEPS), "day")
    now = now_ms()
    window = window_of(params.time("to", now), by, params.integer("columns", COLUMNS[by][0], 1, COLUMNS_MOST))
    after = params.cursor("symbol", 1) or ("",)
    with services().reader.read() as cursor:
        spec = find_perpspec(cursor, perpspec)
        chosen = list(params.symbols()) or read_catalog.list_symbols(cursor, spec.name)
        page = sorted(symbol for symbol in chosen if symbol > after[0])
        more, page = len(page) > SYMBOLS, page[:SYMBOLS]
        ranges = read_coverage.list_ranges(cursor, [(spec.name, symbol) for symbol in page], now)
        lives = read_series.list_listing_periods(cursor, spec.name.rpartition("-")[0], page)
    return json_response(
        {
            "perpspec": spec.name,
            "from": window.start_ms,
            "to": window.end_ms,
            "step_ms": STEPS[by],
            "symbols": [
                _row(symbol, marks(ranges[(spec.name, symbol)], lives.get(symbol), window, by, now))
                for symbol in page
                if (spec.name, symbol) in ranges
            ],
            "next": write_cursor("symbol", page[-1]) if more else None,
        }
    )


def _rate(name: str) -> dict[str, object] | None:
    found = services().samples.rate(name)
    return found._asdict() if found else None


def _row(symbol: str, drawn: list[Mark]) -> dict[str, object]:
    return {
        "symbol": symbol,
        "cells": [
            {
                "ts": mark.start_ms,
                "state": mark.state,
                "wanted_ms": mark.cell.wanted_ms,
                "missing_ms": mark.cell.missing_ms,
                "absent_ms": mark.cell.absent_ms,
            }
            for mark in drawn
        ],
    }
