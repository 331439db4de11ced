"""The data page: rows of one perpspec as a table. All of its state is in its address."""

from collections.abc import Mapping

from psycopg2.extensions import cursor as Cursor

from fademoe.bulk.arrow import is_installed
from fademoe.metrics import MAIN_METRIC
from fademoe.store.read.catalog import Perpspec, list_perpspecs, list_symbols
from fademoe.store.read.rows import LIMIT_MOST
from fademoe.store.read.steps import Completeness
from fademoe.web.api.parameters import PERPSPEC
from fademoe.web.api.row_query import BEFORE, PAGE, STEP, STEPS, read_page_selection, write_position
from fademoe.web.current import get_services
from fademoe.web.http.addresses import build_address
from fademoe.web.http.params import CURSOR, Integer, Params
from fademoe.web.http.routes import Routes
from fademoe.web.model.catalog import find_perpspec
from fademoe.web.model.format import align_decimals
from fademoe.web.model.rows import read_page

routes = Routes("pages_data")

DEFAULT_ROWS = 100
ROW_COUNTS = (50, 100, 250, 500, 1000)
REFRESH_S = (0, 5, 15, 60)
LIMIT = Integer("limit", "rows of a page", DEFAULT_ROWS, minimum=1, maximum=LIMIT_MOST)
REFRESH = Integer("refresh", "seconds between two refreshes; 0 is never", 0, minimum=0, maximum=max(REFRESH_S))
PARAMETERS = (PERPSPEC, REFRESH, *(LIMIT if one.name == LIMIT.name else one for one in PAGE))


@routes.show("/data", "data.html", PARAMETERS)
def show_data(params: Params) -> dict[str, object]:
    """Show rows of one perpspec, of the main metric by default."""
    choices = {"row_counts": ROW_COUNTS, "refresh": params[REFRESH], "refreshes": REFRESH_S}
    with get_services().reader.read() as cursor:
        specs = list_perpspecs(cursor)
        name = params[PERPSPEC] or _choose_perpspec(specs)
        rows = _read_rows(cursor, find_perpspec(cursor, name), params) if name else {"spec": None}
    return {"specs": specs, **choices, **rows}


def _choose_perpspec(specs: Mapping[str, Perpspec]) -> str:
    return next((spec.name for spec in specs.values() if spec.metric == MAIN_METRIC), next(iter(specs), ""))


def _read_rows(cursor: Cursor, spec: Perpspec, params: Params) -> dict[str, object]:
    selection = read_page_selection(params, spec)
    page = read_page(cursor, spec, selection, params[STEP])
    following = write_position(page.next, params)
    previous = write_position(page.previous, params, BEFORE)
    end = 3 + len(selection.columns)
    columns = list(zip(*(row[3:end] for row in page.rows), strict=True))
    whole_formats = ("csv", "ndjson", *(["parquet"] * is_installed()))
    return {
        "spec": spec,
        "selection": selection,
        "rows": [row[:end] for row in page.rows],
        "step": params[STEP],
        "steps": STEPS,
        "completeness": [Completeness(*row[end:]) for row in page.rows] if params[STEP] else None,
        "shown": list(zip(*map(align_decimals, columns), strict=True)),
        "symbols": list_symbols(cursor, spec.name),
        "fields": [field for field in spec.fields if field.name in selection.columns],
        "following": build_address({"cursor": following}) if following else None,
        "previous": build_address({"cursor": previous}) if previous else None,
        "first_page": build_address(dropped=("cursor",)) if CURSOR in params else None,
        "page_as": {
            name: build_address(
                {"limit": selection.limit, "format": name},
                path=f"/api/data/{spec.name}",
                dropped=("perpspec", "refresh"),
            )
            for name in ("json", "csv", "ndjson")
        },
        "whole_as": {
            name: build_address(
                {"format": name},
                path=f"/api/export/{spec.name}",
                dropped=("perpspec", "refresh", "limit", "cursor"),
            )
            for name in whole_formats
        },
    }
