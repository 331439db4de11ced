"""The JSON API of the market data: perpspecs, rows of one perpspec, rows of one metric over all exchanges."""

from dataclasses import asdict
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import EARLIEST_MS, Window, now_ms
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import coverage as read_coverage
from fademoe.store.read import rows as read_rows
from fademoe.web.api.row_query import ROW_PARAMETERS, Query, read_query, write_position
from fademoe.web.current import services
from fademoe.web.http.caching import IMMUTABLE, SETTLED_AFTER_MS
from fademoe.web.http.formats import MEDIA_TYPES, csv_text, header, json_bytes, ndjson_bytes, records
from fademoe.web.http.params import Params
from fademoe.web.problem import Problem, bad_parameter

blueprint = Blueprint("api_data", __name__)

FORMATS = ("json", "csv", "ndjson")
DATA_PARAMETERS = (*ROW_PARAMETERS, "ts", "format")


@blueprint.get("/api/perpspecs")
def list_perpspecs() -> Response:
    """Answer every perpspec with its fields, its series, and its first and last ts."""
    Params(request.args, ())
    with services().reader.read() as cursor:
        known = read_catalog.list_perpspecs(cursor)
        totals = {total.source: total for total in read_coverage.list_totals(cursor, now_ms())}
        found = [_described(cursor, spec, totals.get(spec.name)) for spec in known.values()]
    return json_response({"perpspecs": found})


@blueprint.get("/api/data/<perpspec>")
def list_rows(perpspec: str) -> Response:
    """Answer one page of rows."""
    params = Params(request.args, DATA_PARAMETERS)
    wanted = _format(params)
    iso = params.choice("ts", ("ms", "iso"), "ms") == "iso"
    with services().reader.read() as cursor:
        query = read_query(cursor, perpspec, params)
        page = read_rows.read_page(cursor, query.spec, query.selection)
        settled = _is_settled(cursor, query)
    following = write_position(page.next, newest_first=query.selection.newest_first)
    response = Response(_body(query, page.rows, following, wanted, iso=iso), content_type=MEDIA_TYPES[wanted])
    if settled:
        response.headers["Cache-Control"] = IMMUTABLE
    return _with_next(response, following)


@blueprint.get("/metric")
def list_metrics() -> Response:
    """Answer the metrics that exist, with their columns and the perpspecs that hold them."""
    Params(request.args, ())
    with services().reader.read() as cursor:
        known = read_catalog.list_perpspecs(cursor)
    found: dict[str, dict[str, object]] = {}
    for spec in known.values():
        entry = found.setdefault(spec.metric, _metric(spec) | {"perpspecs": []})
        entry["perpspecs"].append(spec.name)  # type: ignore[attr-defined]
    return json_response({"metrics": list(found.values())})


@blueprint.get("/metric/<name>")
def list_metric_rows(name: str) -> Response:
    """Answer rows of one metric: per time and symbol the values of all exchanges side by side."""
    params = Params(request.args, ROW_PARAMETERS)
    with services().reader.read() as cursor:
        known = read_catalog.list_perpspecs(cursor)
        specs = [spec for spec in known.values() if spec.metric == name]
        if not specs:
            valid = sorted({spec.metric for spec in known.values()})
            raise Problem(404, f"no metric {name[:100]!r}: valid is {', '.join(valid) or 'none yet'}", allowed=valid)
        queries = [read_query(cursor, spec.name, params) for spec in specs]
        if queries[0].selection.before is not None:
            raise bad_parameter("cursor", params.text("cursor"), "the value of `next` of the page before")
        side_by_side: dict[tuple[int, str], dict[str, object]] = {}
        more = False
        for query in queries:
            found = read_rows.read_page(cursor, query.spec, query.selection)
            more = more or found.next is not None
            for ts, symbol, _, *values in found.rows:
                row = side_by_side.setdefault((ts, symbol), dict.fromkeys(spec.name for spec in specs))
                row[query.spec.name] = dict(zip(query.selection.columns, values, strict=True))
    selection = queries[0].selection
    keys = sorted(side_by_side, key=lambda key: (-key[0] if selection.newest_first else key[0], key[1]))
    last = read_rows.Position(*keys[selection.limit - 1]) if len(keys) >= selection.limit else None
    is_end = last is None or (len(keys) == selection.limit and not more)
    following = None if is_end else write_position(last, newest_first=selection.newest_first)
    rows = [{"ts": key[0], "symbol": key[1], "values": side_by_side[key]} for key in keys[: selection.limit]]
    body = _metric(specs[0]) | {"perpspecs": [spec.name for spec in specs], "rows": rows, "next": following}
    return _with_next(json_response(body), following)


def json_response(body: object, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(json_bytes(body), status, content_type="application/json")


def _described(
    cursor: Cursor, spec: read_catalog.Perpspec, total: read_coverage.PerpspecTotal | None
) -> dict[str, object]:
    of_symbols = read_catalog.list_symbols(cursor, spec.name)
    first, last = read_catalog.find_first_and_last_ts(cursor, spec.name, of_symbols)
    return {
        "perpspec": spec.name,
        "exchange": spec.exchange,
        "metric": spec.metric,
        "title": spec.title,
        "interval": spec.interval,
        "fields": [vars(field) for field in spec.fields],
        "plots": [asdict(plot) for plot in spec.plots],
        "series": len(of_symbols),
        "symbols": of_symbols,
        "first_ts": first,
        "last_ts": last,
        "missing_ms": total.missing_ms if total else None,
    }


def _metric(spec: read_catalog.Perpspec) -> dict[str, object]:
    return {
        "metric": spec.metric,
        "title": spec.title,
        "interval": spec.interval,
        "columns": [vars(field) for field in spec.fields],
    }


def _is_settled(cursor: Cursor, query: Query) -> bool:
    """Return whether these rows will be the same for ever: a past range of named symbols, all of it covered."""
    chosen = query.selection
    if not chosen.symbols or chosen.start_ms == EARLIEST_MS or chosen.end_ms > now_ms() - SETTLED_AFTER_MS:
        return False
    window = Window(chosen.start_ms, chosen.end_ms)
    return read_coverage.are_covered(cursor, query.spec.name, chosen.symbols, window)


def _format(params: Params) -> str:
    """Return the format wanted: the parameter, else the Accept header, else JSON."""
    given = params.choice("format", FORMATS, "")
    if given:
        return given
    types = {MEDIA_TYPES[name].partition(";")[0]: name for name in FORMATS}
    return types[request.accept_mimetypes.best_match(list(types), default="application/json")]


def _body(query: Query, rows: list[tuple[object, ...]], following: str | None, wanted: str, *, iso: bool) -> bytes:
    columns = query.selection.columns
    found = records(rows, query.spec.name, columns, iso=iso)
    if wanted == "csv":
        names = header(columns, iso=iso)
        return csv_text([names, *(record.values() for record in found)]).encode()  # type: ignore[list-item]
    if wanted == "ndjson":
        return ndjson_bytes(found)
    return json_bytes({"perpspec": query.spec.name, "rows": list(found), "next": following})


def _with_next(response: Response, following: str | None) -> Response:
    """Add the address of the next page (RFC 8288), where programs that do not read the body find it."""
    if following is not None:
        query = urlencode(request.args.to_dict() | {"cursor": following})
        response.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return response
