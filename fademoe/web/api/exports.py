"""Whole selections as files: streamed part by part, so neither memory nor a transaction grows with them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from flask import Response, request

from fademoe.bulk.arrow import STEP_TYPES, TOO_LARGE, is_installed, list_types, make_schema, read_text, write_parquet
from fademoe.clock import EARLIEST_MS, LATEST_MS, Window, ceil_to, now_ms, to_iso
from fademoe.feeds.registry import find_attribution
from fademoe.metrics import STEPS_MS
from fademoe.settings import LOOPBACK
from fademoe.store.read import files as read_files
from fademoe.store.read.bulk import copy_windows
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.past import EXTRAS
from fademoe.store.read.rows import Selection, has_value_from, read_pages
from fademoe.store.read.steps import STEP_MEMBERS, read_step_pages
from fademoe.store.read.windows import name_columns
from fademoe.web.api.data import TEXT
from fademoe.web.api.parameters import PERPSPEC
from fademoe.web.api.row_query import KNOWN_MS, PAST, SELECTION, STEP, TS, has_known_ms, read_selection
from fademoe.web.current import get_services
from fademoe.web.http.formats import MEDIA_TYPES, encode_csv, encode_ndjson
from fademoe.web.http.params import Choice, Params
from fademoe.web.http.routes import Bodies, Routes
from fademoe.web.model.catalog import find_perpspec
from fademoe.web.model.rows import name_members, to_records, to_texts
from fademoe.web.model.services import Services
from fademoe.web.problem import Problem

routes = Routes("exports")

FORMATS = ("csv", "ndjson", "parquet")
FORMAT = Choice("format", "csv by default", FORMATS, "csv")
MAX_AT_ONCE = 2  # exports of one process: the pages need free threads and connections too
RETRY_S = 30
FILES = Bodies(
    media={
        "text/csv": TEXT,
        "application/x-ndjson": TEXT,
        MEDIA_TYPES["parquet"]: {"type": "string", "format": "binary"},
    },
    statuses=(429,),
)

Page = list[tuple[Any, ...]]

_slots = threading.BoundedSemaphore(MAX_AT_ONCE)


@routes.get(
    "/api/export/<perpspec>",
    f"Every row of a selection as a file, streamed; {MAX_AT_ONCE} at a time in each process of the web",
    (PERPSPEC, *SELECTION, STEP, *PAST, TS, FORMAT),
    bodies=FILES,
)
def export_rows(params: Params) -> Response:
    """Answer every row of a selection as a file."""
    file_format = params[FORMAT]
    if file_format == "parquet" and not is_installed():
        raise params.refuse(FORMAT, "csv, ndjson: parquet needs pyarrow, which is not installed")
    with get_services().reader.read() as cursor:
        spec = find_perpspec(cursor, params[PERPSPEC])
        selection = read_selection(params, spec)
        step_ms = STEPS_MS[params[STEP]] if params[STEP] else 1
        window = Window(selection.start_ms, ceil_to(selection.end_ms, step_ms))  # the last bar is read to its end
        terms = read_files.list_terms(cursor, spec.name, selection.symbols, window)
    release = _take_slot()
    if file_format == "parquet":
        with ExitStack() as on_error:
            on_error.callback(release)
            _check_values(params, spec, selection)
            on_error.pop_all()
    with_known = has_known_ms(params)
    iso = params[TS] == "iso"
    if params[STEP]:
        pages = read_step_pages(get_services().reader, spec, selection, params[STEP], now_ms())
        pages = _cut_extras(pages, selection, with_known=with_known)
        columns = (*selection.columns, *STEP_MEMBERS, *([KNOWN_MS] if with_known else ()))
        parts = _encode_steps(pages, spec, columns, file_format, iso=iso)
    else:
        parts = _encode(get_services(), spec, selection, file_format, iso=iso, with_known=with_known)
    response = Response(_release_at_end(parts, release), content_type=MEDIA_TYPES[file_format])
    # to compress takes longer than to read and to send on this host
    response.direct_passthrough = file_format == "csv" and request.remote_addr in LOOPBACK
    if selection.moment is not None:
        response.headers["X-FadeMoe-Knowledge"] = selection.moment.knowledge
    if terms:
        attribution = " ".join(
            "; ".join(find_attribution(*one) for one in terms).split()
        )  # a header has no line breaks
        response.headers["X-FadeMoe-Attribution"] = attribution.encode("latin-1", "replace").decode("latin-1")
    response.call_on_close(release)  # when the client left before the first part
    name = f"{_name_file(spec, selection)}.{file_format}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _take_slot() -> Callable[[], None]:
    """Return the call that gives the slot of an export back; raise Problem when all are taken."""
    if not _slots.acquire(blocking=False):
        busy = f"this process of the web runs {MAX_AT_ONCE} exports: try again, or wait until one has ended"
        raise Problem(429, busy, retry_after_s=RETRY_S)
    return _call_once(_slots.release)


def _check_values(params: Params, spec: Perpspec, selection: Selection) -> None:
    """Refuse a selection of which a value does not fit into Parquet's decimals; it reads all of it."""
    if has_value_from(get_services().reader, spec, selection, TOO_LARGE):
        digits = len(str(TOO_LARGE)) - 1
        raise params.refuse(FORMAT, f"csv, ndjson: a value has more than {digits} digits before the decimal point")


def _release_at_end(parts: Iterator[bytes], release: Callable[[], None]) -> Iterator[bytes]:
    try:
        yield from parts
    finally:
        release()


def _encode(
    services: Services, spec: Perpspec, selection: Selection, file_format: str, *, iso: bool, with_known: bool
) -> Iterator[bytes]:
    """Yield the file in parts. An error on the way breaks the transfer off: half a file must not look complete."""
    if file_format == "ndjson":
        yield from _encode_ndjson(services, spec, selection, iso=iso, with_known=with_known)
        return
    names, columns = name_columns(selection, iso=iso and file_format == "csv", with_known=with_known)
    parts = copy_windows(services.reader, spec, selection, columns=columns)
    if file_format == "csv":
        yield encode_csv([names])
        yield from parts
        return
    schema = make_schema(list_types(spec.fields, names))
    yield from write_parquet((read_text(part, schema, is_csv=True) for part in parts), schema)


def _encode_steps(
    pages: Iterator[Page], spec: Perpspec, columns: Sequence[str], file_format: str, *, iso: bool
) -> Iterator[bytes]:
    """Yield coarser bars in parts."""
    iso = iso and file_format != "parquet"
    records = (to_records(page, spec.name, columns, iso=iso) for page in pages)
    if file_format == "ndjson":
        yield from map(encode_ndjson, records)
        return
    names = name_members(columns, iso=iso)
    parts = (encode_csv(map(to_texts, page)) for page in records)
    if file_format == "csv":
        yield encode_csv([names])
        yield from parts
        return
    schema = make_schema([(name, STEP_TYPES.get(name, kind)) for name, kind in list_types(spec.fields, names)])
    yield from write_parquet((read_text(part, schema, is_csv=True) for part in parts if part), schema)


def _encode_ndjson(
    services: Services, spec: Perpspec, selection: Selection, *, iso: bool, with_known: bool
) -> Iterator[bytes]:
    columns = (*selection.columns, *([KNOWN_MS] if with_known else ()))
    for page in _cut_extras(read_pages(services.reader, spec, selection), selection, with_known=with_known):
        yield encode_ndjson(to_records(page, spec.name, columns, iso=iso))


def _cut_extras(pages: Iterator[Page], selection: Selection, *, with_known: bool) -> Iterator[Page]:
    """Yield pages without EXTRAS, except `known_ms` where it is asked for."""
    extras = 0 if selection.moment is None else len(EXTRAS) - with_known
    return ([row[: len(row) - extras] for row in page] for page in pages)


def _name_file(spec: Perpspec, selection: Selection) -> str:
    parts = [spec.name, *(symbol for symbol in selection.symbols[:3] if symbol.isascii())]
    if selection.start_ms > EARLIEST_MS:
        parts.append(f"from_{to_iso(selection.start_ms)}")
    if selection.end_ms < LATEST_MS:
        parts.append(f"to_{to_iso(selection.end_ms)}")
    return "_".join(parts).replace(":", "")


def _call_once(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that makes the call the first time only."""
    calls = iter([call])
    return lambda: next(calls, lambda: None)()
