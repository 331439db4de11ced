"""What filling would take: asked before anybody fills, and nothing is changed by asking."""

from typing import NamedTuple

from flask import Blueprint, Response, request
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, now_ms, subtract
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import coverage as read_coverage
from fademoe.web.api.data import json_response
from fademoe.web.api.row_query import find_perpspec
from fademoe.web.current import services
from fademoe.web.http.params import TIME_WORDS, Params
from fademoe.web.model.estimate import Estimate, estimate
from fademoe.web.problem import bad_parameter

blueprint = Blueprint("api_fill", __name__)

PARAMETERS = ("symbol", "from", "to")


class Plan(NamedTuple):
    """How many series lack something, and what closing their gaps takes."""

    spec: read_catalog.Perpspec
    series: int
    estimate: Estimate


@blueprint.get("/api/fill/<perpspec>")
def show_plan(perpspec: str) -> Response:
    """Answer what filling would take."""
    params = Params(request.args, PARAMETERS)
    symbols, window = params.symbols(), window_of(params)
    with services().reader.read() as cursor:
        found = plan(cursor, perpspec, list(symbols), window)
    return json_response({"perpspec": found.spec.name, "series": found.series} | found.estimate._asdict())


def window_of(params: Params) -> Window | None:
    """Return the range that is meant, None for all that is wanted already."""
    missing = [name for name in ("from", "to") if not params.text(name)]
    if len(missing) == 1:
        raise bad_parameter(missing[0], "", f"a time, for the other end is given: {TIME_WORDS}")
    return None if missing else Window(*params.span())


def plan(cursor: Cursor, name: str, symbols: list[str], window: Window | None) -> Plan:
    """Return what filling a perpspec takes: what is missing of what is wanted, or of a whole window."""
    now = now_ms()
    spec = find_perpspec(cursor, name)
    chosen = symbols or read_catalog.list_symbols(cursor, spec.name)
    ranges = read_coverage.list_ranges(cursor, [(spec.name, symbol) for symbol in chosen], now)
    gaps: list[list[Window]] = []
    for symbol in sorted(chosen):
        of_symbol = ranges.get((spec.name, symbol))
        if window is None:
            gaps.append(of_symbol.missing if of_symbol else [])
        else:
            gaps.append(subtract(window, of_symbol.covered if of_symbol else []))
    every = [gap for of_symbol in gaps for gap in of_symbol]
    return Plan(spec, sum(map(bool, gaps)), estimate(spec.name, every, now, services().settings.workers))
