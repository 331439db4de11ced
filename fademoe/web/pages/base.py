"""The frame of every page, the status page and the data page. All of a page's state is in its address."""

from typing import NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, g, render_template, request
from psycopg2.extensions import cursor as Cursor

from fademoe.errors import StoreError
from fademoe.metrics import MAIN_METRIC
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import rows as read_rows
from fademoe.store.read import status as read_status
from fademoe.supervisord.client import SupervisorClient
from fademoe.web.api.parquet import is_possible
from fademoe.web.api.row_query import BEFORE, ROW_PARAMETERS, Query, read_query, write_position
from fademoe.web.api.system import STATES, UNITS, read_units
from fademoe.web.current import current_summary, services
from fademoe.web.http import auth
from fademoe.web.http.addresses import address
from fademoe.web.http.params import Params
from fademoe.web.model import format as formatting
from fademoe.web.model import status_tiles
from fademoe.web.model.alerts import alerts
from fademoe.web.model.services import attempt

blueprint = Blueprint("pages", __name__)

GROUPS = 50
EVENTS = 50
PAGE_ROWS = 100
ROW_COUNTS = (50, 100, 250, 500, 1000)
REFRESH_S = (0, 5, 15, 60)
PAGES = (
    ("/", "Status"),
    ("/data", "Data"),
    ("/coverage", "Coverage"),
    ("/charts", "Charts"),
    ("/queues", "Queues"),
    ("/limits", "Limits"),
    ("/schema", "Schema"),
    ("/api", "API"),
)


class PageFrame(NamedTuple):
    """What the frame of a page says about the system."""

    tiles: list[status_tiles.Tile]
    worst: str  # level of the worst tile
    sentence: str  # the tiles in a few words
    alerts: int  # that nobody took note of
    apis: str  # "on", "off" or "unknown": whether data are being collected
    unswitchable: str | None  # why the streams cannot be stopped and started from here
    at_ms: int


@blueprint.app_context_processor
def add_frame() -> dict[str, object]:
    """Give every page what its frame shows."""
    return {
        "pages": PAGES,
        "simulated": services().settings.is_simulated,
        "signed_in": auth.is_signed_in(),
        "csrf": auth.csrf_token(),
        "may_read": auth.is_open() or auth.is_signed_in(),
        "frame": _frame,
        "here": address({}),
    }


@blueprint.record_once
def add_filters(state: object) -> None:
    """Register the words as filters."""
    state.app.jinja_env.filters.update(formatting.FILTERS)  # type: ignore[attr-defined]


@blueprint.get("/part/status")
def show_box() -> str:
    """Answer the status box alone, for the page to refresh it."""
    return render_template("box.html")


@blueprint.get("/")
def show_status() -> str:
    """Show what every unit does and what went wrong."""
    params = Params(request.args, ("kind", "state", "find", "cursor"))
    page, reason = attempt(lambda: read_units(params, UNITS))
    found, _ = attempt(_read_status) if page else (None, None)
    units, following = page or ([], None)
    return render_template(
        "status.html",
        reason=reason,
        states=STATES,
        given=request.args,
        units=units,
        following=address({"cursor": following}) if following else None,
        **(found or {}),
    )


@blueprint.get("/data")
def show_data() -> str:
    """Show rows of one perpspec as a table, with every choice in the address."""
    params = Params(request.args, ("perpspec", "refresh", *ROW_PARAMETERS))
    refresh = params.integer("refresh", 0, 0, max(REFRESH_S))
    found: dict[str, object] = {"specs": {}, "spec": None, "reason": None}
    try:
        with services().reader.read() as cursor:
            specs = read_catalog.list_perpspecs(cursor)
            found["specs"] = specs
            default = next((spec.name for spec in specs.values() if spec.metric == MAIN_METRIC), next(iter(specs), ""))
            name = params.text("perpspec", default)
            if name:
                found |= _read_data(cursor, read_query(cursor, name, params, PAGE_ROWS))
    except StoreError as error:
        found["reason"] = str(error)
    return render_template(
        "data.html", given=request.args, row_counts=ROW_COUNTS, refresh=refresh, refreshes=REFRESH_S, **found
    )


def _frame() -> PageFrame:
    """Read the state of the system once for this request."""
    if "frame" not in g:
        summary = current_summary()
        found = [alert for alert in alerts(services(), summary) if not alert.acknowledged]
        apis = "unknown" if summary.queued is None else "off" if summary.queued.paused else "on"
        tiles = status_tiles.tiles(summary)
        unswitchable = SupervisorClient(services().settings.run_dir).connection_error()
        g.frame = PageFrame(tiles, *status_tiles.sentence(tiles), len(found), apis, unswitchable, summary.at_ms)
    frame: PageFrame = g.frame
    return frame


def _read_status() -> dict[str, object]:
    with services().reader.read() as cursor:
        return {
            "counts": read_status.count_units(cursor),
            "groups": read_status.list_error_groups(cursor, GROUPS),
            "events": read_status.list_history(cursor, EVENTS),
        }


def _read_data(cursor: Cursor, query: Query) -> dict[str, object]:
    spec, selection = query.spec, query.selection
    page = read_rows.read_page(cursor, spec, selection)
    following = write_position(page.next, newest_first=selection.newest_first)
    previous = write_position(page.previous, newest_first=selection.newest_first, side=BEFORE)
    columns = list(zip(*(row[3:] for row in page.rows), strict=True))
    return {
        "spec": spec,
        "selection": selection,
        "rows": page.rows,
        "shown": list(zip(*map(formatting.aligned, columns), strict=True)),
        "symbols": read_catalog.list_symbols(cursor, spec.name),
        "fields": [field for field in spec.fields if field.name in selection.columns],
        "following": address({"cursor": following}) if following else None,
        "previous": address({"cursor": previous}) if previous else None,
        "first_page": address({"cursor": ""}) if request.args.get("cursor") else None,
        "page_as": _addresses(f"/api/data/{spec.name}", ("json", "csv", "ndjson"), str(selection.limit)),
        "whole_as": _addresses(f"/api/export/{spec.name}", ("csv", "ndjson", *(["parquet"] * is_possible())), None),
    }


def _addresses(path: str, formats: tuple[str, ...], limit: str | None) -> dict[str, str]:
    """Return the addresses of the same selection in the API, by format; without `limit` of all pages of it."""
    left_out = ("perpspec", "refresh", "limit", *(() if limit else ("cursor",)))
    query = {name: ",".join(request.args.getlist(name)) for name in request.args if name not in left_out}
    query = {name: value for name, value in query.items() if value} | ({"limit": limit} if limit else {})
    return {wanted: f"{path}?{urlencode(query | {'format': wanted})}" for wanted in formats}
