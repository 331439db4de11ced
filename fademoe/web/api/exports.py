"""Whole selections as files: streamed page by page, so neither memory nor a transaction grows with them."""

import threading
from collections.abc import Callable, Iterator

from flask import Blueprint, Response, request

from fademoe.clock import EARLIEST_MS, LATEST_MS, to_iso
from fademoe.store.read.rows import read_pages
from fademoe.web.api.parquet import is_possible, parquet_parts
from fademoe.web.api.row_query import Query, read_query
from fademoe.web.current import services
from fademoe.web.http.formats import MEDIA_TYPES, csv_text, header, ndjson_bytes, records
from fademoe.web.http.params import Params
from fademoe.web.model.services import Services
from fademoe.web.problem import Problem, bad_parameter

blueprint = Blueprint("exports", __name__)

FORMATS = ("csv", "ndjson", "parquet")
EXPORT_PARAMETERS = ("symbol", "from", "to", "order", "columns", "ts", "format")
AT_ONCE = 2  # exports of one process: the read_pages must find a free thread and connection too
RETRY_S = 30
PARQUET_TYPE = "application/vnd.apache.parquet"

_places = threading.BoundedSemaphore(AT_ONCE)


@blueprint.get("/api/export/<perpspec>")
def export(perpspec: str) -> Response:
    """Answer every row of a selection as a file."""
    params = Params(request.args, EXPORT_PARAMETERS)
    wanted = params.choice("format", FORMATS, "csv")
    if wanted == "parquet" and not is_possible():
        raise bad_parameter("format", wanted, "csv, ndjson: parquet needs pyarrow, which is not installed here")
    iso = params.choice("ts", ("ms", "iso"), "ms") == "iso"
    with services().reader.read() as cursor:
        query = read_query(cursor, perpspec, params)
    if not _places.acquire(blocking=False):
        raise Problem(429, f"{AT_ONCE} exports are under way: wait for one to end", retry_after_s=RETRY_S)
    leave = _once(_places.release)
    response = Response(
        _until_end(_parts(services(), query, wanted, iso=iso), leave),
        content_type=PARQUET_TYPE if wanted == "parquet" else MEDIA_TYPES[wanted],
    )
    response.call_on_close(leave)  # when the client left before the first part
    response.headers["Content-Disposition"] = f'attachment; filename="{_file_name(query)}.{wanted}"'
    return response


def _until_end(parts: Iterator[bytes], leave: Callable[[], None]) -> Iterator[bytes]:
    try:
        yield from parts
    finally:
        leave()


def _parts(found: Services, query: Query, wanted: str, *, iso: bool) -> Iterator[bytes]:
    """Yield the file in parts. An error on the way breaks the transfer off: half a file must not look whole."""
    rows = read_pages(found.reader, query.spec, query.selection)
    columns = query.selection.columns
    if wanted == "parquet":
        yield from parquet_parts(rows, query.spec, columns)
        return
    if wanted == "csv":
        yield csv_text([header(columns, iso=iso)]).encode()
    for page in rows:
        written = records(page, query.spec.name, columns, iso=iso)
        if wanted == "csv":
            yield csv_text(list(record.values()) for record in written).encode()
        else:
            yield ndjson_bytes(written)


def _file_name(query: Query) -> str:
    chosen = query.selection
    parts = [query.spec.name, *(symbol for symbol in chosen.symbols[:3] if symbol.isascii())]
    if chosen.start_ms > EARLIEST_MS:
        parts.append(f"from_{to_iso(chosen.start_ms)}")
    if chosen.end_ms < LATEST_MS:
        parts.append(f"to_{to_iso(chosen.end_ms)}")
    return "_".join(parts).replace(":", "")


def _once(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that makes the call the first time only."""
    calls = iter([call])
    return lambda: next(calls, lambda: None)()
