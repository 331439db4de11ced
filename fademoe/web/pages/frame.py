"""The frame of every page: navigation, status tiles, switches, the session."""

from collections.abc import Sequence
from typing import NamedTuple

from flask import Blueprint, g, render_template

from fademoe.clock import now_ms
from fademoe.store.trader import is_on as is_trader_on
from fademoe.supervisord.client import SupervisorClient
from fademoe.web.current import get_services, read_summary
from fademoe.web.http import auth
from fademoe.web.http.addresses import build_address
from fademoe.web.model import format as formatting
from fademoe.web.model.alert_cards import count_firing, make_spark_path
from fademoe.web.model.alerts import list_alerts
from fademoe.web.model.services import attempt
from fademoe.web.model.status_tiles import Tile, list_tiles, summarise_tiles

blueprint = Blueprint("pages_frame", __name__)

SPARK_SIZE = (240, 36)  # of the box of a sparkline, see alerts.html
PAGES = (
    ("/", "Status"),
    ("/data", "Data"),
    ("/coverage", "Coverage"),
    ("/archives", "Archives"),
    ("/charts", "Charts"),
    ("/compare", "Compare"),
    ("/backtester", "Backtester"),
    ("/trader", "Trader"),
    ("/screen", "Screen"),
    ("/queues", "Queues"),
    ("/limits", "Limits"),
    ("/schema", "Schema"),
    ("/api", "API"),
)


class PageFrame(NamedTuple):
    """The state of the system that every page shows."""

    tiles: list[Tile]
    worst: str  # level of the worst tile
    sentence: str  # all tiles in one line
    alerts: int  # that are not acknowledged, and rules that fire
    apis: str  # "on", "off" or "unknown": whether data are collected
    trader: str  # "on", "off" or "unknown": whether paper accounts send orders
    supervisor_error: str | None  # why the streams cannot be stopped and started from here
    at_ms: int


@blueprint.app_context_processor
def add_frame() -> dict[str, object]:
    """Return the variables that every template has."""
    return {
        "pages": PAGES,
        "simulated": get_services().settings.is_simulated,
        "signed_in": auth.is_signed_in(),
        "csrf": auth.get_csrf_token(),
        "may_read": auth.is_open() or auth.is_signed_in(),
        "frame": _read_frame,
        "here": build_address(),
        "address": build_address,
        "now": now_ms,
        "spark": _draw_spark,
    }


@blueprint.record_once
def add_filters(state: object) -> None:
    """Register the formats as filters of the templates."""
    state.app.jinja_env.filters.update(formatting.FILTERS)  # type: ignore[attr-defined]


@blueprint.get("/part/status")
def show_tiles() -> str:
    """Answer the status tiles alone, for the page to refresh them."""
    return render_template("box.html")


def _read_frame() -> PageFrame:
    """Return the frame, read at most once for each request."""
    if "frame" not in g:
        summary = read_summary()
        alerts = [alert for alert in list_alerts(get_services(), summary).alerts if not alert.acknowledged]
        apis = "unknown" if summary.queued is None else "off" if summary.queued.paused else "on"
        tiles = list_tiles(summary)
        firing, _ = attempt(_count_firing)
        is_on, _ = attempt(_read_trader)
        trader = "unknown" if is_on is None else "on" if is_on else "off"
        error = SupervisorClient(get_services().settings.run_dir).find_connection_error()
        g.frame = PageFrame(
            tiles, *summarise_tiles(tiles), len(alerts) + (firing or 0), apis, trader, error, summary.at_ms
        )
    frame: PageFrame = g.frame
    return frame


def _draw_spark(values: Sequence[str | None]) -> str:
    return make_spark_path(values, *SPARK_SIZE)


def _count_firing() -> int:
    with get_services().reader.read() as cursor:
        return count_firing(cursor)


def _read_trader() -> bool:
    with get_services().reader.read() as cursor:
        return is_trader_on(cursor)
