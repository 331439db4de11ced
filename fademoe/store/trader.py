"""Paper accounts in the database: what they are, their states, ledgers, switches and reconciliations."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.account.numbers import format_decimal
from fademoe.account.state import Account
from fademoe.clock import DAY_MS, Window
from fademoe.store.coverage import Series
from fademoe.store.queries import load_queries

SQL = load_queries("trader")
END_MS = 2**62
ON, OFF, RESET = "on", "off", "reset"


class TraderAccount(NamedTuple):
    """A paper account. `cursor` is the next minute to step; `trip` says why it is off by itself, None while it is not.

    `state` is JSON text: the account, the attributes of the strategy, and what its kill switches watch.
    """

    name: str
    plan: dict[str, Any]
    settings: dict[str, Any]
    made_ms: int
    since: int
    cursor: int
    state: str
    trip: str | None
    trip_kind: str | None


class Event(NamedTuple):
    """From `minute` on the account was off, or on again."""

    minute: int
    is_off: bool
    reason: str


class Action(NamedTuple):
    """What a person did; `account` is None for the switch of all accounts."""

    account: str | None
    action: str
    reason: str
    at_ms: int


class StoredMinute(NamedTuple):
    """The end of a minute that was stepped; `missing` are the series that were not there yet."""

    ts: int
    equity: str
    cash: str
    missing: list[str]


class Reconciliation(NamedTuple):
    """A day compared with a backtest of it over today's rows, up to `until`."""

    day: int
    until: int
    is_equal: bool
    differences: list[dict[str, Any]]
    curve: list[list[float]]  # minute, equity as it was, equity of the backtest
    at_ms: int


class Correction(NamedTuple):
    """A value that was changed after it had been stored."""

    source: str
    symbol: str
    ts: int
    column: str
    old: str | None
    new: str | None
    reason: str


class Progress(NamedTuple):
    """What some minutes did to an account, to be stored at once."""

    name: str
    expected_cursor: int
    cursor: int
    state: str
    ledger: Sequence[Sequence[Any]]
    minutes: Sequence[tuple[int, str, str, list[str]]]
    days: Sequence[tuple[int, str]]
    events: Sequence[Event]
    decisions: Sequence[tuple[int, str, Any]]
    trip: str | None = None
    trip_kind: str | None = None


def add(
    cursor: Cursor, name: str, plan: Mapping[str, Any], settings: Mapping[str, Any], since: int, state: str
) -> bool:
    """Add an account; return False when there is one of that name."""
    values = {"name": name, "plan": json.dumps(plan), "settings": json.dumps(settings), "since": since, "state": state}
    cursor.execute(SQL["add"], values)
    return cursor.fetchone() is not None


def remove(cursor: Cursor, name: str) -> bool:
    """Delete an account with all that it did; return whether there was one."""
    cursor.execute(SQL["remove"], {"name": name})
    return cursor.fetchone() is not None


def list_accounts(cursor: Cursor) -> list[TraderAccount]:
    """Return all accounts by name."""
    cursor.execute(SQL["accounts"], {"name": None})
    return [TraderAccount(*row) for row in cursor.fetchall()]


def find_account(cursor: Cursor, name: str) -> TraderAccount | None:
    """Return an account, None where there is none of that name."""
    cursor.execute(SQL["accounts"], {"name": name})
    row = cursor.fetchone()
    return None if row is None else TraderAccount(*row)


def list_cursors(cursor: Cursor) -> dict[str, tuple[int, str | None, str | None]]:
    """Return (cursor, trip, kind of the trip) of each account."""
    cursor.execute(SQL["cursors"])
    return {name: (at, trip, kind) for name, at, trip, kind in cursor.fetchall()}


def save(cursor: Cursor, done: Progress) -> bool:
    """Store what some minutes did; return False, and store nothing, when the account has moved on or is gone."""
    cursor.execute(SQL["lock"], {"name": done.name})
    row = cursor.fetchone()
    if row is None or row[0] != done.expected_cursor:
        return False
    if done.ledger:
        execute_values(cursor, SQL["add_ledger"], [(done.name, *each) for each in done.ledger], page_size=1_000)
    if done.minutes:
        execute_values(cursor, SQL["add_minutes"], [(done.name, *each) for each in done.minutes], page_size=1_000)
    if done.days:
        execute_values(cursor, SQL["add_days"], [(done.name, *each) for each in done.days])
    if done.decisions:
        rows = [(done.name, minute, symbol, json.dumps(orders)) for minute, symbol, orders in done.decisions]
        execute_values(cursor, SQL["add_decisions"], rows, page_size=1_000)
    for event in done.events:
        cursor.execute(SQL["add_event"], {"name": done.name, **event._asdict()})
    values = {"name": done.name, "cursor": done.cursor, "state": done.state}
    cursor.execute(SQL["move"], {**values, "trip": done.trip, "trip_kind": done.trip_kind})
    return True


def reset(cursor: Cursor, name: str, kind: str | None = None) -> bool:
    """Take back a trip, of one kind or of any; return whether there is such an account."""
    cursor.execute(SQL["reset"], {"name": name, "kind": kind})
    return cursor.fetchone() is not None


def add_action(cursor: Cursor, name: str | None, action: str, reason: str) -> None:
    """Record what a person did; ON and OFF without a name are the switch of all accounts."""
    cursor.execute(SQL["add_action"], {"name": name, "action": action, "reason": reason})


def list_actions(cursor: Cursor, name: str | None, limit: int) -> list[Action]:
    """Return the newest actions of an account and of the switch of all; of everything without a name."""
    cursor.execute(SQL["actions"], {"name": name, "limit": limit})
    return [Action(*row) for row in cursor.fetchall()]


def is_on(cursor: Cursor) -> bool:
    """Return whether the switch of all accounts is on; it is until it is switched off."""
    cursor.execute(SQL["is_on"])
    row = cursor.fetchone()
    return True if row is None else bool(row[0])


def list_events(cursor: Cursor, name: str, window: Window) -> list[Event]:
    """Return when an account went off and on within a window."""
    cursor.execute(SQL["events"], {"name": name, "since": window.start_ms, "until": window.end_ms})
    return [Event(*row) for row in cursor.fetchall()]


def read_ledger(
    cursor: Cursor, name: str, after: int, limit: int, window: Window | None = None
) -> list[tuple[Any, ...]]:
    """Return the rows of a ledger behind the number `after`, in the order of LEDGER_COLUMNS, decimals as text.

    With a window, only those of its minutes.
    """
    since, until = window or (0, END_MS)
    values = {"name": name, "after": after, "limit": limit, "since": since, "until": until}
    cursor.execute(SQL["ledger"], values)
    return cursor.fetchall()


def read_newest_ledger(cursor: Cursor, name: str, limit: int) -> list[tuple[Any, ...]]:
    """Return the newest rows of a ledger, the newest first."""
    cursor.execute(SQL["newest_ledger"], {"name": name, "limit": limit})
    return cursor.fetchall()


def read_equity(cursor: Cursor, name: str, after: int, limit: int) -> list[tuple[Any, ...]]:
    """Return (ts, equity, cash) behind the time `after`, decimals as text."""
    cursor.execute(SQL["equity"], {"name": name, "after": after, "limit": limit})
    return cursor.fetchall()


def list_minutes(cursor: Cursor, name: str, window: Window) -> list[StoredMinute]:
    """Return the minutes of a window that were stepped."""
    cursor.execute(SQL["minutes"], {"name": name, "since": window.start_ms, "until": window.end_ms})
    return [StoredMinute(*row) for row in cursor.fetchall()]


def find_day(cursor: Cursor, name: str, day: int) -> str | None:
    """Return the state before the first minute of a day."""
    cursor.execute(SQL["day"], {"name": name, "day": day})
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def list_decisions(cursor: Cursor, name: str, limit: int) -> list[tuple[int, str, Any]]:
    """Return the newest decisions: minute, symbol, orders."""
    cursor.execute(SQL["decisions"], {"name": name, "limit": limit})
    return cursor.fetchall()


def save_reconciliation(
    cursor: Cursor,
    name: str,
    day: int,
    until: int,
    differences: Sequence[Mapping[str, Any]],
    curve: Sequence[Sequence[float]],
) -> None:
    """Store what came of a reconciliation; an earlier one of the same day is replaced."""
    values = {"name": name, "day": day, "until": until, "is_equal": not differences}
    texts = {"differences": json.dumps(differences), "curve": json.dumps(curve)}
    cursor.execute(SQL["save_reconciliation"], values | texts)


def list_reconciliations(cursor: Cursor, name: str, limit: int) -> list[Reconciliation]:
    """Return the newest reconciliations."""
    cursor.execute(SQL["reconciliations"], {"name": name, "limit": limit})
    return [Reconciliation(*row) for row in cursor.fetchall()]


def list_reconciled_days(cursor: Cursor, name: str, first: int) -> set[int]:
    """Return the days from `first` on that were reconciled up to their end."""
    cursor.execute(SQL["reconciled_days"], {"name": name, "first": first, "length": DAY_MS})
    return {day for (day,) in cursor.fetchall()}


def describe_reconciliation(found: Reconciliation, differences: int | None = None) -> dict[str, Any]:
    """Return a reconciliation with so many of its differences, None: all, as values that JSON can hold."""
    return {
        "day": found.day,
        "until": found.until,
        "equal": found.is_equal,
        "differences": found.differences[:differences],
    }


def find_wanted(cursor: Cursor, series: Collection[Series], at_ms: int) -> set[Series]:
    """Return those of some series that are wanted at a time."""
    sources, symbols = [each.source for each in series], [each.symbol for each in series]
    cursor.execute(SQL["wanted"], {"sources": sources, "symbols": symbols, "at": at_ms})
    return {Series(source, symbol) for source, symbol in cursor.fetchall()}


def find_covered_until(cursor: Cursor, begins: Mapping[Series, int]) -> dict[Series, int | None]:
    """Return until when each series is covered without a gap from its time on; None: not even then.

    What lies before a series was wanted first counts as covered.
    """
    sources, symbols = [each.source for each in begins], [each.symbol for each in begins]
    values = {"sources": sources, "symbols": symbols, "begins": list(begins.values())}
    cursor.execute(SQL["covered_until"], values)
    return {Series(source, symbol): until for source, symbol, until in cursor.fetchall()}


def find_heartbeat_age(cursor: Cursor, exchange: str) -> float | None:
    """Return how many seconds ago the collector of an exchange said that it works; None: never."""
    cursor.execute(SQL["heartbeat_age"], {"unit": f"stream {exchange}"})
    row = cursor.fetchone()
    return None if row is None else row[0]


def list_changes(
    cursor: Cursor, sources: Sequence[str], symbols: Sequence[str], window: Window, limit: int
) -> list[Correction]:
    """Return the values of some series that were changed after they had been stored."""
    values = {"sources": list(sources), "symbols": list(symbols), "since": window.start_ms, "until": window.end_ms}
    cursor.execute(SQL["changed"], {**values, "limit": limit})
    return [Correction(*row) for row in cursor.fetchall()]


def summarise(stored: TraderAccount) -> dict[str, Any]:
    """Return an account for a list, as values that JSON can hold."""
    content = json.loads(stored.state)
    account = Account.from_json(content["account"])
    return {
        "name": stored.name,
        "since": stored.since,
        "cursor": stored.cursor,
        "strategy": stored.plan["strategy"]["name"],
        "exchange": stored.plan["exchange"],
        "symbols": stored.plan["symbols"],
        "equity": format_decimal(account.equity),
        "cash": format_decimal(account.cash),
        "state": f"off: {stored.trip}" if stored.trip else "off" if content["is_off"] else "on",
        "trip": stored.trip,
    }


def describe(cursor: Cursor, stored: TraderAccount) -> dict[str, Any]:
    """Return an account with positions, orders, events and reconciliations, as values that JSON can hold."""
    content = json.loads(stored.state)["account"]
    path = Path(stored.settings["path"]) if stored.settings["path"] else None
    events = list_events(cursor, stored.name, Window(stored.since, stored.cursor + 1))
    return summarise(stored) | {
        "params": stored.plan["params"],
        "positions": [
            {"symbol": symbol, "quantity": held[0], "entry": held[1], "price": held[2]}
            for symbol, held in content["positions"].items()
        ],
        "resting": [
            {"symbol": symbol, "kind": "stop" if order[0] else "limit", "quantity": order[1], "price": order[2]}
            for symbol, orders in content["resting"].items()
            for order in orders
        ],
        "on_the_way": content["on_the_way"],
        "settings": stored.settings,
        "file": str(path or ""),
        "file_differs": path is not None and not _holds(path, stored.plan["strategy"]["text"]),
        "events": [event._asdict() for event in events[-50:]],
        "reconciliations": [
            describe_reconciliation(each, differences=20) for each in list_reconciliations(cursor, stored.name, 10)
        ],
    }


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except OSError:
        return False
