"""What the units are doing and what went wrong: perp_status, its history, perp_errors."""

from collections.abc import Sequence

from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from fademoe.store.queries import load_queries
from fademoe.store.status import COUNTED_TOGETHER

SQL = load_queries("read_status")
MAX_GROUPED_ERRORS = 5_000  # groups are made of so many newest errors


class Unit(Struct, frozen=True, forbid_unknown_fields=True):
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


class ErrorGroup(Struct, frozen=True, forbid_unknown_fields=True):
    """Errors of one cause: how many, and the newest row of them as a sample."""

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


class Event(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of perp_status_history."""

    id: int
    at_ms: int
    unit: str
    state: str
    message: str


def list_units(
    cursor: Cursor,
    *,
    kinds: Sequence[str] = (),
    state: str = "",
    find: str = "",
    after: tuple[int, str] = (-1, ""),
    limit: int | None = None,
) -> list[Unit]:
    """Return units, most urgent first, behind `after` (rank, unit).

    `kinds` empty: all; `state` may also be `stale`; `find` is a part of the name; `limit` None: all.
    """
    values = {
        "kinds": list(kinds) or None,
        "state": state,
        "find": find,
        "rank": after[0],
        "unit": after[1],
        "limit": limit,
    }
    cursor.execute(SQL["units"], values)
    return [Unit(*row) for row in cursor.fetchall()]


def count_units(cursor: Cursor) -> dict[str, dict[str, int]]:
    """Return how many units there are by kind and state, `stale` counted as a state of its own."""
    cursor.execute(SQL["counts"])
    counts: dict[str, dict[str, int]] = {}
    for kind, state, count in cursor.fetchall():
        counts.setdefault(kind, {})[state] = count
    return counts


def list_error_groups(cursor: Cursor, limit: int) -> list[ErrorGroup]:
    """Return the newest errors grouped by cause, the group with the newest error first."""
    cursor.execute(SQL["error_groups"], {"limit": limit, "errors": MAX_GROUPED_ERRORS})
    return [ErrorGroup(*row) for row in cursor.fetchall()]


def list_units_of_error(cursor: Cursor, fingerprint: str) -> list[str]:
    """Return the units that recorded the newest errors of one cause."""
    cursor.execute(SQL["units_of_error"], {"fingerprint": fingerprint, "errors": MAX_GROUPED_ERRORS})
    return [unit for (unit,) in cursor.fetchall()]


def count_errors_since(cursor: Cursor, seconds: int) -> dict[str, int]:
    """Return how many errors of each class there were in the last `seconds`."""
    cursor.execute(SQL["errors_since"], {"seconds": seconds, "together": COUNTED_TOGETHER})
    return dict(cursor.fetchall())


def list_history(cursor: Cursor, limit: int, unit: str | None = None) -> list[Event]:
    """Return the newest changes of state, newest first, of all units or of one."""
    name = "history" if unit is None else "history_of_unit"
    cursor.execute(SQL[name], {"limit": limit, "unit": unit})
    return [Event(*row) for row in cursor.fetchall()]
