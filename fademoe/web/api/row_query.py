"""Which rows a request asks for: the same parameters for the API, the data page and the exports."""

import re
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.store.read.catalog import Perpspec, list_perpspecs
from fademoe.store.read.rows import LIMIT_MOST, Position, Selection
from fademoe.web.http.params import Params, write_cursor
from fademoe.web.problem import Problem, bad_parameter

ROW_PARAMETERS = ("symbol", "from", "to", "order", "columns", "limit", "cursor")
LIMIT = 500
AFTER, BEFORE = "after", "before"  # which side of its row a cursor continues from

_TIME = re.compile(r"[0-9]{13}")


class Query(NamedTuple):
    """A perpspec and the rows wanted of it."""

    spec: Perpspec
    selection: Selection


def find_perpspec(cursor: Cursor, name: str) -> Perpspec:
    """Return a registered perpspec; any other name is a 404 with the valid ones."""
    known = list_perpspecs(cursor)
    if name not in known:
        names = ", ".join(known) or "none: no exchange is registered in the database yet"
        raise Problem(404, f"no perpspec {name[:100]!r}: valid is {names}", allowed=list(known))
    return known[name]


def read_query(cursor: Cursor, name: str, params: Params, limit: int = LIMIT) -> Query:
    """Read and check all parameters of a request for rows of the perpspec `name`."""
    spec = find_perpspec(cursor, name)
    fields = [field.name for field in spec.fields]
    start_ms, end_ms = params.span()
    newest_first = params.choice("order", ("desc", "asc"), "desc") == "desc"
    after, before = _read_position(params, newest_first=newest_first)
    selection = Selection(
        symbols=params.symbols(),
        columns=params.choices("columns", fields) or tuple(fields),
        start_ms=start_ms,
        end_ms=end_ms,
        limit=params.integer("limit", limit, 1, LIMIT_MOST),
        newest_first=newest_first,
        after=after,
        before=before,
    )
    return Query(spec, selection)


def _read_position(params: Params, *, newest_first: bool) -> tuple[Position | None, Position | None]:
    """Return the row after which the page begins and the row before which it ends; at most one is given."""
    parts = params.cursor(_order(newest_first=newest_first), 3)
    if parts is None:
        return None, None
    side, ts, symbol = parts
    if side not in (AFTER, BEFORE) or not _TIME.fullmatch(ts):
        raise bad_parameter("cursor", params.text("cursor"), "the value of `next` of the page before")
    position = Position(int(ts), symbol)
    return (position, None) if side == AFTER else (None, position)


def write_position(position: Position | None, *, newest_first: bool, side: str = AFTER) -> str | None:
    """Return the token of the page on one side of a row, None when there is no such page."""
    if position is None:
        return None
    return write_cursor(_order(newest_first=newest_first), side, str(position.ts), position.symbol)


def _order(*, newest_first: bool) -> str:
    return "desc" if newest_first else "asc"
