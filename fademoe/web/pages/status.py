"""The status page: units, errors by cause, changes of state."""

from fademoe.store.read import status as read_status
from fademoe.web.api.system import FIND, KIND, LIMIT, STATE, STATES, list_units
from fademoe.web.current import get_services
from fademoe.web.http.addresses import build_address
from fademoe.web.http.params import CURSOR, Params
from fademoe.web.http.routes import Routes

routes = Routes("pages_status")

MAX_GROUPS = 50
MAX_EVENTS = 50


@routes.show("/", "status.html", (KIND, STATE, FIND, LIMIT, CURSOR))
def show_status(params: Params) -> dict[str, object]:
    """Show what every unit does and what went wrong."""
    page = list_units(params)
    with get_services().reader.read() as cursor:
        return {
            "states": STATES,
            "units": page.units,
            "following": build_address({"cursor": page.next}) if page.next else None,
            "twin": build_address(path="/api/units"),
            "counts": read_status.count_units(cursor),
            "groups": read_status.list_error_groups(cursor, MAX_GROUPS),
            "events": read_status.list_history(cursor, MAX_EVENTS),
        }
