"""The JSON API of the system: health, summary, coverage, schema."""

from flask import Blueprint, Response, request

from fademoe.clock import now_ms
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import coverage as read_coverage
from fademoe.store.read import schema as read_schema
from fademoe.web.api.data import json_response
from fademoe.web.current import current_summary, services
from fademoe.web.http.params import Params, write_cursor
from fademoe.web.model.summary import as_json, health
from fademoe.web.problem import Problem

blueprint = Blueprint("api_state", __name__)

SERIES_LIMIT = 2_000
SERIES_MOST = 10_000


@blueprint.get("/health")
def show_health() -> Response:
    """Answer whether everything needed is there: 503 with the reason when the database or Redis is away."""
    found = health(services())
    return json_response(found, 200 if found["ready"] else 503)


@blueprint.get("/api/system-summary")
def show_summary() -> Response:
    """Answer streams, workers, queues, budgets, recent status and errors."""
    Params(request.args, ())
    return json_response(as_json(services(), current_summary()))


@blueprint.get("/api/coverage")
def list_coverage() -> Response:
    """Answer per series the wanted, covered, absent and missing ranges, and how complete it is."""
    params = Params(request.args, ("source", "symbol", "limit", "cursor"))
    limit = params.integer("limit", SERIES_LIMIT, 1, SERIES_MOST)
    after = params.cursor("series", 2) or ("", "")
    now = now_ms()
    with services().reader.read() as cursor:
        known = read_catalog.list_perpspecs(cursor)
        sources = params.choices("source", known)
        series = read_coverage.list_series(
            cursor,
            now_ms=now,
            limit=limit + 1,
            sources=list(sources) or None,
            symbols=list(params.symbols()) or None,
            after=(after[0], after[1]),
        )
        more, series = len(series) > limit, series[:limit]
        ranges = read_coverage.list_ranges(cursor, [(one.source, one.symbol) for one in series], now)
    found = [_with_ranges(one, ranges.get((one.source, one.symbol))) for one in series]
    return json_response(
        {
            "at": now,
            "series": found,
            "next": write_cursor("series", series[-1].source, series[-1].symbol) if more else None,
        }
    )


@blueprint.get("/api/schema")
def list_tables() -> Response:
    """Answer the tables with their sizes."""
    Params(request.args, ())
    with services().reader.read() as cursor:
        sizes = {size.table: size for size in read_schema.list_sizes(cursor)}
    return json_response({"tables": [_sized(table, sizes.get(table)) for table in read_schema.TABLES]})


@blueprint.get("/api/schema/<table>")
def show_table(table: str) -> Response:
    """Answer columns, types, units and indexes of one of our tables."""
    Params(request.args, ())
    if table not in read_schema.TABLES:
        valid = list(read_schema.TABLES)
        raise Problem(404, f"no table {table[:100]!r}: valid is {', '.join(valid)}", allowed=valid)
    with services().reader.read() as cursor:
        fields = {field.name: field for spec in read_catalog.list_perpspecs(cursor).values() for field in spec.fields}
        columns = read_schema.list_columns(cursor, table)
        indexes = read_schema.list_indexes(cursor, table)
        sizes = {size.table: size for size in read_schema.list_sizes(cursor)}
    described = _sized(table, sizes.get(table))
    return json_response(
        described
        | {
            "columns": [column._asdict() | unit_of(table, column.name, fields) for column in columns],
            "indexes": [index._asdict() for index in indexes],
        }
    )


def unit_of(table: str, column: str, fields: dict[str, read_catalog.Field]) -> dict[str, object]:
    """Return unit and title of a column, None where it has none."""
    if column in fields and table == "perp_data":
        return {"unit": fields[column].unit, "title": fields[column].title}
    if column in TIMES:
        return {"unit": "ms since 1970 UTC", "title": None}
    return {"unit": None, "title": None}


TIMES = (
    "ts",
    "last_ts",
    "start_ms",
    "end_ms",
    "listed_ms",
    "delisted_ms",
    "wanted_from",
    "wanted",
    "covered",
    "absent",
)


def _sized(table: str, size: read_schema.TableSize | None) -> dict[str, object]:
    return {
        "table": table,
        "purpose": read_schema.TABLES[table],
        "rows_estimate": size.rows if size else None,
        "bytes": size.bytes if size else None,
        "partitions": size.partitions if size else None,
    }


def _with_ranges(one: read_coverage.SeriesCoverage, ranges: read_coverage.SeriesRanges | None) -> dict[str, object]:
    found = one._asdict() | {"percent": one.percent}
    for name in ("wanted", "covered", "absent", "missing"):
        found[name] = getattr(ranges, name) if ranges else []
    return found
