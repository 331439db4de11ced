"""Which rows a request asks for: the same parameters for the API, the data page and the exports."""

from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.store.read.catalog import Perpspec, list_perpspecs
from fademoe.store.read.rows import LIMIT_MOST, Selection
from fademoe.web.http.params import Params
from fademoe.web.http.problems import Problem

ROW_PARAMETERS = ("symbol", "from", "to", "order", "columns", "limit", "cursor")
LIMIT = 500


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
    after, before = params.position(newest_first=newest_first)
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
