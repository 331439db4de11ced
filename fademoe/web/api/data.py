"""The market data: perpspecs, rows of one perpspec, rows of one metric over all exchanges."""

import msgspec
from flask import Response, request

from fademoe.clock import now_ms
from fademoe.store.read.past import Provenance
from fademoe.store.read.rows import Selection
from fademoe.store.read.steps import STEP_MEMBERS
from fademoe.web.api.parameters import PERPSPEC
from fademoe.web.api.row_query import (
    KNOWN_MS,
    PAGE,
    PAST,
    STEP,
    TS,
    has_known_ms,
    read_page_selection,
    write_position,
)
from fademoe.web.current import get_services
from fademoe.web.http.addresses import build_address
from fademoe.web.http.caching import REVALIDATE
from fademoe.web.http.formats import MEDIA_TYPES, encode_csv, encode_json, encode_ndjson, make_json_response
from fademoe.web.http.params import CURSOR, Choice, Params, Text
from fademoe.web.http.routes import Bodies, Routes
from fademoe.web.model import catalog
from fademoe.web.model.catalog import Metrics, Perpspecs, find_metric, find_perpspec
from fademoe.web.model.rows import (
    MetricRows,
    Rows,
    name_members,
    read_page,
    read_side_by_side,
    settle_past,
    to_records,
    to_texts,
)

routes = Routes("api_data")

FORMATS = ("json", "csv", "ndjson")
FORMAT = Choice("format", "by default as the Accept header says, else json", FORMATS)
METRIC = Text("name", "a metric such as ohlcv", example="ohlcv")
TEXT = {"type": "string"}
ROW_BODIES = Bodies(json=Rows, media={"text/csv": TEXT, "application/x-ndjson": TEXT})


@routes.get("/api/perpspecs", "Every perpspec with its fields, units, series, first and last ts")
def list_perpspecs(params: Params) -> Perpspecs:
    """Answer every perpspec."""
    with get_services().reader.read() as cursor:
        return catalog.list_perpspecs(cursor, now_ms())


@routes.get(
    "/api/data/<perpspec>",
    "Rows of a perpspec, newest first",
    (PERPSPEC, *PAGE, *PAST, TS, FORMAT),
    bodies=ROW_BODIES,
)
def list_rows(params: Params) -> Response:
    """Answer one page of rows."""
    with get_services().reader.read() as cursor:
        spec = find_perpspec(cursor, params[PERPSPEC])
        selection = read_page_selection(params, spec)
        page = read_page(cursor, spec, selection, params[STEP])
    with_known = has_known_ms(params)
    page, provenance = settle_past(page, spec.metric, selection, with_known=with_known)
    next_cursor = write_position(page.next, params)
    body_format, iso = _choose_format(params), params[TS] == "iso"
    columns = (*selection.columns, *(STEP_MEMBERS if params[STEP] else ()), *([KNOWN_MS] if with_known else ()))
    records = to_records(page.rows, spec.name, columns, iso=iso)
    if body_format == "csv":
        body = encode_csv([name_members(columns, iso=iso), *map(to_texts, records)])
    elif body_format == "ndjson":
        body = encode_ndjson(records)
    else:
        answer = Rows(perpspec=spec.name, rows=list(records), next=next_cursor)
        body = encode_json(_add_provenance(answer, selection, provenance))
    response = Response(body, content_type=MEDIA_TYPES[body_format])
    if selection.moment and provenance:
        response.headers["X-FadeMoe-Knowledge"] = selection.moment.knowledge
        response.headers["X-FadeMoe-Basis"] = provenance.basis
        response.headers["X-FadeMoe-Rolled-Back"] = str(provenance.rolled_back)
    response.vary.add("Accept")
    return _finish_page(response, next_cursor)


@routes.get("/metric", "The metrics that exist")
def list_metrics(params: Params) -> Metrics:
    """Answer the metrics, with their columns and the perpspecs that hold them."""
    with get_services().reader.read() as cursor:
        return catalog.list_metrics(cursor)


@routes.get(
    "/metric/<name>",
    "Rows of one metric, the values of all exchanges side by side",
    (METRIC, *PAGE),
    bodies=Bodies(json=MetricRows),
)
def list_metric_rows(params: Params) -> Response:
    """Answer one page of rows of a metric."""
    with get_services().reader.read() as cursor:
        specs = find_metric(cursor, params[METRIC])
        selection = read_page_selection(params, specs[0])
        if selection.before is not None:
            raise params.refuse(CURSOR, "the value of `next` of the previous page")
        rows, page = read_side_by_side(cursor, specs, selection, params[STEP])
    next_cursor = write_position(page.next, params)
    return _finish_page(make_json_response(msgspec.structs.replace(rows, next=next_cursor)), next_cursor)


def _add_provenance(answer: Rows, selection: Selection, provenance: Provenance | None) -> Rows:
    if selection.moment is None or provenance is None:
        return answer
    return msgspec.structs.replace(answer, knowledge=selection.moment.knowledge, **provenance._asdict())


def _choose_format(params: Params) -> str:
    """Return the format requested: the parameter, else the Accept header, else JSON."""
    if params[FORMAT]:
        return params[FORMAT]
    types = {MEDIA_TYPES[name].partition(";")[0]: name for name in FORMATS}
    return types[request.accept_mimetypes.best_match(list(types), default="application/json")]


def _finish_page(response: Response, next_cursor: str | None) -> Response:
    """Let the client keep a page; add the address of the next one (RFC 8288) for programs that read no body."""
    response.headers["Cache-Control"] = REVALIDATE
    if next_cursor is not None:
        response.headers["Link"] = f'<{build_address({"cursor": next_cursor})}>; rel="next"'
    return response
