"""The description of the API (OpenAPI 3.1), and the page to try it."""

from typing import Any

from flask import Blueprint, Response, render_template, request

import fademoe
from fademoe.store.read.rows import LIMIT_MOST
from fademoe.store.read.schema import TABLES
from fademoe.web.api import schemas
from fademoe.web.api.chart import CHART_STEPS, POINTS_MOST
from fademoe.web.api.data import FORMATS, json_response
from fademoe.web.api.exports import FORMATS as EXPORT_FORMATS
from fademoe.web.api.row_query import LIMIT
from fademoe.web.api.state import SERIES_LIMIT, SERIES_MOST
from fademoe.web.api.system import COLUMNS_MOST, STATES, UNITS, UNITS_MOST
from fademoe.web.http.params import SYMBOLS_MOST, Params
from fademoe.web.model.heatmap import STEPS

blueprint = Blueprint("openapi", __name__)

DESCRIPTION = (
    "Market data of crypto perpetual futures. Times are accepted as ISO 8601 (UTC unless it says otherwise) or as an"
    " epoch in seconds or milliseconds; ranges are [from, to); a candle's ts is its open time, a sample's ts the"
    " instant it stands for. Decimals are strings, exactly as the exchange sent them; null: the exchange sends none."
    " Pages are found by an opaque cursor. Every error is a problem body (RFC 9457)."
)
Json = dict[str, Any]


@blueprint.get("/api/openapi.json")
def show_document() -> Response:
    """Answer the OpenAPI document."""
    return json_response(document())


@blueprint.get("/api")
def show_page() -> str:
    """Show every operation with a form to try it."""
    Params(request.args, ())
    return render_template("api.html", document=document())


def document() -> Json:
    """Return the OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "FadeMoe", "version": fademoe.__version__, "description": DESCRIPTION},
        "paths": _data_paths() | _state_paths() | _control_paths(),
        "components": {
            "schemas": schemas.SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "the admin token"}},
        },
    }


def _data_paths() -> dict[str, Json]:
    return {
        "/api/perpspecs": _get(
            "listPerpspecs", "Every perpspec with its fields, units, series, first and last ts", "Perpspecs"
        ),
        "/api/data/{perpspec}": _get(
            "listRows",
            "Rows of a perpspec, newest first",
            "Rows",
            [PERPSPEC, *ROWS, TS, _choice("format", "else by the Accept header, else json", FORMATS)],
            other={"text/csv": {"schema": {"type": "string"}}, "application/x-ndjson": {"schema": {"type": "string"}}},
            codes=(400, 404, 503),
        ),
        "/api/export/{perpspec}": _get(
            "exportRows",
            "Every row of a selection as a file, streamed; two at a time",
            None,
            [PERPSPEC, *UNPAGED, TS, _choice("format", "csv unless told", EXPORT_FORMATS)],
            other={
                "text/csv": {"schema": {"type": "string"}},
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            },
            codes=(400, 404, 429, 503),
        ),
        "/api/chart/{perpspec}": _get(
            "listPoints",
            f"One series in equal steps, as columns of numbers to draw; at most {POINTS_MOST} steps",
            "Points",
            [PERPSPEC, SYMBOL | {"required": True}, FROM, TO, _choice("step", "1h unless told", tuple(CHART_STEPS))],
            codes=(400, 404, 503),
        ),
        "/metric": _get("listMetrics", "The metrics that exist", "Metrics"),
        "/metric/{name}": _get(
            "listMetricRows",
            "Rows of one metric, the values of all exchanges side by side",
            "MetricRows",
            [_path("name", "a metric such as ohlcv", "ohlcv"), *ROWS],
            codes=(400, 404, 503),
        ),
    }


def _state_paths() -> dict[str, Json]:
    by_series = [
        _query("source", "a perpspec, or a comma list of them"),
        SYMBOL,
        _integer("limit", f"series of a page, {SERIES_LIMIT} unless told", 1, SERIES_MOST),
        CURSOR,
    ]
    cells = [PERPSPEC, SYMBOL, TO, _choice("by", "day unless told", tuple(STEPS))]
    cells += [_integer("columns", "how many days or hours", 1, COLUMNS_MOST), CURSOR]
    units = [_query("kind", "such as stream or backfill"), _choice("state", "one state", ("", *STATES))]
    units += [
        _query("find", "a part of the unit's name"),
        _integer("limit", f"{UNITS} unless told", 1, UNITS_MOST),
        CURSOR,
    ]
    table = _path("table", "one of our tables", "perp_data", tuple(TABLES))
    return {
        "/health": _get("showHealth", "Whether everything needed is there", "Health", codes=(503,), failing="Health"),
        "/api/system-summary": _get(
            "showSummary", "Streams, workers, queues, budgets, recent status and errors", "Summary"
        ),
        "/api/coverage": _get("listCoverage", "Ranges and percentages of each series", "Coverage", by_series),
        "/api/coverage/{perpspec}": _get(
            "listCells", "The heat map: symbols by days or hours", "Cells", cells, codes=(400, 404, 503)
        ),
        "/api/fill/{perpspec}": _get(
            "showPlan",
            "What filling would take: of what is wanted and missing, or of a whole range",
            "Plan",
            [PERPSPEC, SYMBOL, FROM, TO],
            codes=(400, 404, 503),
        ),
        "/api/units": _get("listUnits", "What every unit does, those that need somebody first", "Units", units),
        "/api/queues": _get("showQueues", "Queues, workers, failed jobs by error", "Queues"),
        "/api/limits": _get("showLimits", "The budgets of the exchanges", "Limits"),
        "/api/alerts": _get("listAlerts", "What needs somebody now", "Alerts", codes=(400,)),
        "/api/schema": _get("listTables", "The tables with their sizes", "Tables"),
        "/api/schema/{table}": _get(
            "showTable", "Columns, types, units and indexes of a table", "Table", [table], codes=(400, 404, 503)
        ),
    }


def _control_paths() -> dict[str, Json]:
    on_off, go = ["on", "off"], ["pause", "resume"]
    text = {"type": "string"}
    return {
        "/control/apis": _post(
            "switchApis", "Turn the collecting on or off", {"state": text | {"enum": on_off}}, ["state"]
        ),
        "/control/workers": _post(
            "pauseWorkers", "Pause the workers or let them go on", {"state": text | {"enum": go}}, ["state"]
        ),
        "/control/fill": _post(
            "fill",
            "Want a range and enqueue what is missing of it; without symbol for all symbols of the perpspec",
            {"perpspec": text, "symbol": text, "from": text, "to": text},
            ["perpspec"],
        ),
        "/control/retry": _post(
            "retry",
            "Queue failed jobs again: one, a group, all of a queue; all of a series (perpspec and symbol); or those of"
            " every series that had an error (its fingerprint)",
            {"queue": text, "group": text, "job": text, "perpspec": text, "symbol": text, "error": text},
            [],
        ),
        "/control/acknowledge": _post("acknowledge", "Take note of an alert for a day", {"alert": text}, ["alert"]),
    }


def _get(
    name: str,
    summary: str,
    schema: str | None,
    parameters: list[Json] | None = None,
    *,
    other: Json | None = None,
    codes: tuple[int, ...] = (400, 503),
    failing: str | None = None,
) -> Json:
    content: Json = {"application/json": {"schema": _ref(schema)}} if schema else {}
    responses: Json = {"200": {"description": "the answer", "content": content | (other or {})}}
    for code in (*codes, 401):
        responses[str(code)] = PROBLEM
    if failing:
        responses["503"] = {"description": "not ready", "content": {"application/json": {"schema": _ref(failing)}}}
    return {"get": {"operationId": name, "summary": summary, "parameters": parameters or [], "responses": responses}}


def _post(name: str, summary: str, members: Json, required: list[str]) -> Json:
    body = {"type": "object", "properties": members, "required": required, "additionalProperties": False}
    responses: Json = {str(code): PROBLEM for code in (400, 401, 403, 404, 409, 413, 415, 503)}
    responses["200"] = {"description": "done", "content": {"application/json": {"schema": _ref("Done")}}}
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "parameters": [],
            "security": [{"token": []}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": responses,
        }
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, description: str, example: str = "", schema: Json | None = None) -> Json:
    found = {"name": name, "in": "query", "description": description, "schema": schema or {"type": "string"}}
    return found | ({"example": example} if example else {})


def _choice(name: str, description: str, allowed: tuple[str, ...]) -> Json:
    return _query(name, description, schema={"type": "string", "enum": list(allowed)})


def _integer(name: str, description: str, lowest: int, highest: int) -> Json:
    return _query(name, description, schema={"type": "integer", "minimum": lowest, "maximum": highest})


def _path(name: str, description: str, example: str, allowed: tuple[str, ...] = ()) -> Json:
    schema: Json = {"type": "string", "minLength": 1} | ({"enum": list(allowed)} if allowed else {})
    return _query(name, description, example, schema) | {"in": "path", "required": True}


PROBLEM = {
    "description": "what is wrong, in words",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
PERPSPEC = _path("perpspec", "exchange code and metric; /api/perpspecs lists them", "bin-ohlcv")
SYMBOL = _query("symbol", f"a coin, or a comma list of up to {SYMBOLS_MOST}; all when left out", "BTC")
TIME: Json = {"type": "string", "pattern": r"^(|20[0-9]{2}-[0-9]{2}-[0-9]{2}.*|[0-9]{10}|[0-9]{13})$"}
FROM = _query("from", "the first time, included", "2026-01-31T00:00Z", TIME)
TO = _query("to", "the end, not included", "2026-02-01T00:00Z", TIME)
ORDER = _choice("order", "desc (newest first) unless told", ("desc", "asc"))
COLUMNS = _query("columns", "a comma list of the perpspec's fields; all when left out")
TS = _choice("ts", "iso adds the time as ISO 8601", ("ms", "iso"))
CURSOR = _query("cursor", "`next` of the page before")
UNPAGED = [SYMBOL, FROM, TO, ORDER, COLUMNS]
ROWS = [*UNPAGED, _integer("limit", f"rows of a page, {LIMIT} unless told", 1, LIMIT_MOST), CURSOR]
