"""Which rows a request selects: the same parameters for the API, the data page and the exports."""

import re
from dataclasses import replace

from fademoe.clock import EARLIEST_MS, LATEST_MS, now_ms, to_iso
from fademoe.metrics import STEPS_MS
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.past import Knowledge, Moment
from fademoe.store.read.rows import LIMIT_MOST, Position, Selection
from fademoe.web.api.parameters import SYMBOL
from fademoe.web.http.params import (
    CURSOR,
    FROM,
    NEXT_FORM,
    TO,
    Choice,
    Integer,
    Names,
    OptionalChoice,
    Params,
    Time,
    write_cursor,
)

DEFAULT_LIMIT = 500
STEPS = tuple(STEPS_MS)
ORDER = Choice("order", "desc (newest first) by default", ("desc", "asc"), "desc")
COLUMNS = Names(
    "columns", "a comma list of the perpspec's fields, all when left out; +known_ms: since when a row was known"
)
LIMIT = Integer("limit", f"rows of a page, {DEFAULT_LIMIT} by default", DEFAULT_LIMIT, minimum=1, maximum=LIMIT_MOST)
TS = Choice("ts", "iso adds the time as ISO 8601", ("ms", "iso"), "ms")
STEP = OptionalChoice(
    "step", "coarser bars, with bars, expected, absent, complete; rows as stored when left out", STEPS
)
AS_OF = Time("as_of", "the rows as they were known then", example="2026-02-01T00:00Z")
KNOWLEDGE = OptionalChoice(
    "knowledge",
    "market (could a live client know it; by default) or recorded (did this database hold it)",
    tuple(Knowledge),
)
KNOWN_MS = "known_ms"  # a column that is computed: since when a row was known
PAST = (AS_OF, KNOWLEDGE)
SELECTION = (SYMBOL, FROM, TO, ORDER, COLUMNS)
PAGE = (*SELECTION, STEP, LIMIT, CURSOR)
AFTER, BEFORE = "after", "before"  # which side of its row a cursor continues from

_TIME = re.compile(r"[0-9]{13}")


def read_selection(params: Params, spec: Perpspec) -> Selection:
    """Return all rows that the parameters SELECTION, and PAST where the route has them, select of a perpspec."""
    fields = [field.name for field in spec.fields]
    params.read_span()  # refuses an end before its start
    return Selection(
        symbols=params[SYMBOL],
        columns=_read_columns(params, fields),
        start_ms=params.get(FROM, EARLIEST_MS),
        end_ms=params.get(TO, LATEST_MS),
        limit=DEFAULT_LIMIT,
        newest_first=params[ORDER] == "desc",
        moment=read_moment(params),
    )


def read_moment(params: Params) -> Moment | None:
    """Return as of when the parameters PAST read rows, None where they do not say; refuse a moment in the future.

    A request for KNOWN_MS is one as of now.
    """
    if not params.declares(AS_OF):
        return None
    at_ms, time_ms = params[AS_OF], now_ms()
    if at_ms is not None and at_ms > time_ms:
        raise params.refuse(AS_OF, f"a time not after now, {to_iso(time_ms)}")
    if at_ms is None and not params[KNOWLEDGE] and not has_known_ms(params):
        return None
    return Moment(at_ms, Knowledge(params[KNOWLEDGE] or Knowledge.MARKET))


def has_known_ms(params: Params) -> bool:
    """Return whether a request asks for the column KNOWN_MS."""
    return any(name.removeprefix("+") == KNOWN_MS for name in params[COLUMNS])


def _read_columns(params: Params, fields: list[str]) -> tuple[str, ...]:
    """Return the fields that COLUMNS selects: `+known_ms` adds to them, and alone it adds to all."""
    allowed = [*fields, *([KNOWN_MS, f"+{KNOWN_MS}"] if params.declares(KNOWLEDGE) else [])]
    names = params.check_names(COLUMNS, allowed)
    return tuple(name for name in names if name in fields) or tuple(fields)


def read_page_selection(params: Params, spec: Perpspec) -> Selection:
    """Return the page of rows that the parameters PAGE select of a perpspec."""
    selection = read_selection(params, spec)
    after, before = _read_position(params)
    return replace(selection, limit=params[LIMIT], after=after, before=before)


def write_position(position: Position | None, params: Params, side: str = AFTER) -> str | None:
    """Return the cursor of the page on one side of a row of a request's answer, None when there is no such page."""
    if position is None:
        return None
    return write_cursor(_name_kind(params), side, str(position.ts), position.symbol)


def _read_position(params: Params) -> tuple[Position | None, Position | None]:
    """Return the row after which the page begins and the row before which it ends; at most one is given."""
    parts = params.read_cursor(_name_kind(params), 3)
    if parts is None:
        return None, None
    side, ts, symbol = parts
    if side not in (AFTER, BEFORE) or not _TIME.fullmatch(ts):
        raise params.refuse(CURSOR, NEXT_FORM)
    position = Position(int(ts), symbol)
    return (position, None) if side == AFTER else (None, position)


def _name_kind(params: Params) -> str:
    """Return the kind of a request's cursors: one of another order or step is refused."""
    return params[ORDER] + params[STEP]
