"""What the units are doing and what went wrong: perp_status, its history, perp_errors."""

from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

STALE_AFTER = 3  # intervals without a heartbeat
ERRORS_GROUPED = 5_000  # groups are made of so many newest errors

# States of a unit that should be sending heartbeats; `done`, `stopped` and `error` are the end of one.
_ALIVE = "('started', 'running', 'waiting')"
_STALE = f"(state IN {_ALIVE} AND heartbeat < now() - interval_s * {STALE_AFTER} * interval '1 second')"
# The order of the eye: what needs somebody first, then what works, then what is at rest.
_RANK = f"""CASE WHEN state = 'error' THEN 0 WHEN {_STALE} THEN 1 WHEN state = 'waiting' THEN 2
    WHEN state IN ('started', 'running') THEN 3 WHEN state = 'stopped' THEN 4 ELSE 5 END"""
_MS = "(extract(epoch FROM {}) * 1000)::bigint"


class Unit(NamedTuple):
    """One row of perp_status; times are ms."""

    rank: int
    unit: str
    kind: str
    state: str
    stale: bool
    message: str
    source: str | None
    symbol: str | None
    rows: int
    last_ts: int | None
    interval_s: int
    heartbeat_ms: int
    since_ms: int


class ErrorGroup(NamedTuple):
    """Errors of one cause: the newest of them as a sample."""

    fingerprint: str
    errors: int
    first_ms: int
    last_ms: int
    id: int
    unit: str
    error_class: str
    message: str
    exchange: str
    request: str
    http_status: int | None
    excerpt: str


class Event(NamedTuple):
    """One line of perp_status_history."""

    id: int
    at_ms: int
    unit: str
    state: str
    message: str


_UNITS = f"""
    SELECT {_RANK} AS rank, unit, kind, state, {_STALE} AS stale, message, source, symbol, rows, last_ts, interval_s,
           {_MS.format("heartbeat")}, {_MS.format("since")}
    FROM perp_status
"""  # noqa: S608 - made of the constants above
_UNITS_PAGE = f"""
    SELECT * FROM ({_UNITS}) AS u
    WHERE (%(kind)s = '' OR kind = %(kind)s)
      AND (%(state)s = '' OR CASE WHEN %(state)s = 'stale' THEN stale ELSE state = %(state)s END)
      AND (%(find)s = '' OR position(lower(%(find)s) IN lower(unit)) > 0)
      AND (rank, unit COLLATE "C") > (%(rank)s, %(unit)s)
    ORDER BY rank, unit COLLATE "C" LIMIT %(limit)s
"""  # noqa: S608
_COUNTS = f"""
    SELECT kind, CASE WHEN {_STALE} THEN 'stale' ELSE state END AS state, count(*)
    FROM perp_status GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608
_OF_KIND = f"SELECT * FROM ({_UNITS}) AS u WHERE kind = ANY(%(kinds)s) ORDER BY unit"  # noqa: S608
_GROUPS = f"""
    SELECT fingerprint, count(*), min(at_ms), max(at_ms), max(id) AS newest
    FROM (
        SELECT id, fingerprint, {_MS.format("at")} AS at_ms FROM perp_errors ORDER BY at DESC LIMIT {ERRORS_GROUPED}
    ) AS e
    GROUP BY fingerprint ORDER BY max(at_ms) DESC LIMIT %(limit)s
"""  # noqa: S608
_ERROR_GROUPS = f"""
    SELECT g.fingerprint, g.count, g.min, g.max, e.id, e.unit, e.class, e.message, e.exchange, e.request, e.http_status,
           e.excerpt
    FROM ({_GROUPS}) AS g JOIN perp_errors e ON e.id = g.newest
    ORDER BY g.max DESC
"""  # noqa: S608
_UNITS_OF_ERROR = f"""
    SELECT DISTINCT unit FROM (
        SELECT unit FROM perp_errors WHERE fingerprint = %(fingerprint)s ORDER BY at DESC LIMIT {ERRORS_GROUPED}
    ) AS e ORDER BY unit
"""  # noqa: S608
_HISTORY = f"""
    SELECT id, {_MS.format("at")}, unit, state, message FROM perp_status_history
    WHERE {{unit}} ORDER BY id DESC LIMIT %(limit)s
"""  # noqa: S608
_ERRORS_SINCE = """
    SELECT class, count(*) FROM perp_errors WHERE at > now() - %(seconds)s * interval '1 second' GROUP BY 1
"""


def units(
    cursor: Cursor, *, kind: str = "", state: str = "", find: str = "", after: tuple[int, str] = (-1, ""), limit: int
) -> list[Unit]:
    """Return units in the order of the eye, behind `after` (rank, unit); state may also be `stale`."""
    values = {"kind": kind, "state": state, "find": find, "rank": after[0], "unit": after[1], "limit": limit}
    cursor.execute(_UNITS_PAGE, values)
    return [Unit(*row) for row in cursor.fetchall()]


def units_of(cursor: Cursor, kinds: list[str]) -> list[Unit]:
    """Return every unit of the given kinds, by name."""
    cursor.execute(_OF_KIND, {"kinds": kinds})
    return [Unit(*row) for row in cursor.fetchall()]


def counts(cursor: Cursor) -> dict[str, dict[str, int]]:
    """Return how many units there are by kind and state, `stale` counted as a state of its own."""
    cursor.execute(_COUNTS)
    found: dict[str, dict[str, int]] = {}
    for kind, state, count in cursor.fetchall():
        found.setdefault(kind, {})[state] = count
    return found


def error_groups(cursor: Cursor, limit: int) -> list[ErrorGroup]:
    """Return the newest errors grouped by cause, the group with the newest error first."""
    cursor.execute(_ERROR_GROUPS, {"limit": limit})
    return [ErrorGroup(*row) for row in cursor.fetchall()]


def units_of_error(cursor: Cursor, fingerprint: str) -> list[str]:
    """Return the units that the newest errors of one cause befell."""
    cursor.execute(_UNITS_OF_ERROR, {"fingerprint": fingerprint})
    return [unit for (unit,) in cursor.fetchall()]


def errors_since(cursor: Cursor, seconds: int) -> dict[str, int]:
    """Return how many errors of each class there were in the last `seconds`."""
    cursor.execute(_ERRORS_SINCE, {"seconds": seconds})
    return dict(cursor.fetchall())


def history(cursor: Cursor, limit: int, unit: str | None = None) -> list[Event]:
    """Return the newest changes of state, of all units or of one."""
    where = sql.SQL("true") if unit is None else sql.SQL("unit = %(unit)s")
    cursor.execute(sql.SQL(_HISTORY).format(unit=where), {"limit": limit, "unit": unit})
    return [Event(*row) for row in cursor.fetchall()]
