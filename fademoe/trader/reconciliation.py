"""A day of an account again: from its state at the first minute, over today's rows, compared row by row."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from psycopg2.extensions import cursor as Cursor

from fademoe.account.ledger import LedgerRow
from fademoe.backtest.plan import Plan
from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms, to_iso
from fademoe.errors import ConfigError
from fademoe.store import trader as store
from fademoe.store.backtests import LEDGER_COLUMNS
from fademoe.store.connection import Database
from fademoe.store.read.snapshot import take_snapshot
from fademoe.store.trader import Event, Reconciliation, StoredMinute
from fademoe.trader.accounts import PaperAccount, restore
from fademoe.trader.loading import MarketReader, list_needed
from fademoe.trader.minutes import Stepped, step_minutes
from fademoe.trader.switches import TraderSettings, Trip

FAILED = "failed"
LEDGER = "ledger"
ROWS_MOST = 1_000_000
CAUSES_MOST = 100
CURVE_MOST = 500
LOOK_BACK_MS = 31 * DAY_MS  # how far corrections before the day may have been read by the strategy


def reconcile(database: Database, reading: Database, name: str, day: int) -> Reconciliation:
    """Step a day of an account again and store how it compares; `day` is its first instant, in ms.

    The day may be the running one: then up to the minute that was stepped last. The account itself is not changed.
    Raises ConfigError when there is no such account, or it did not live on that day, and StrategyFailed.
    """
    with reading.open_transaction() as cursor:
        take_snapshot(cursor)
        stored = store.find_account(cursor, name)
        if stored is None:
            raise ConfigError(f"there is no account {name!r}: fademoe trader list names them")
        plan = Plan.from_json(stored.plan)
        window = Window(max(day, plan.since), min(day + DAY_MS, stored.cursor))
        state = store.find_day(cursor, name, window.start_ms)
        if window.start_ms >= window.end_ms or state is None:
            raise ConfigError(f"{name} stepped no minute on {to_iso(day)[:10]}: it began at {to_iso(plan.since)}")
        settings = TraderSettings.from_json(stored.settings)
        paper = restore(name, plan, settings, window.start_ms, state)
        events = {event.minute: event for event in store.list_events(cursor, name, window)}
        ledger = store.read_ledger(cursor, name, 0, ROWS_MOST, window)
        minutes = store.list_minutes(cursor, name, window)
        around = MarketReader(cursor).surround(plan, window.start_ms, window.end_ms)
        done = step_minutes(paper, around, window.end_ms, find_event=partial(_find_event, events), check=_check)
        differences = _compare(ledger, minutes, done)
        if differences:
            first = min(each["ts"] for each in differences)
            causes = [*_list_ends(around.lives, differences), *_find_causes(cursor, paper, minutes, first)]
            differences[0]["causes"] = causes[:CAUSES_MOST] or ["no late row and no correction is recorded"]
        curve = _thin(minutes, done)
    database.run(lambda cursor: store.save_reconciliation(cursor, name, day, window.end_ms, differences, curve))
    return Reconciliation(day, window.end_ms, not differences, differences, curve, now_ms())


def save_failed_reconciliation(cursor: Cursor, name: str, day: int, reason: str) -> None:
    """Store that a whole day of an account cannot be stepped again, and why."""
    failed = {"what": FAILED, "ts": day, "was": None, "is": None, "causes": [f"it cannot be stepped again: {reason}"]}
    store.save_reconciliation(cursor, name, day, day + DAY_MS, [failed], [])


def _find_event(events: dict[int, Event], ts: int, is_off: bool) -> Event | None:  # noqa: FBT001 - of step_minutes
    return events.get(ts)


def _check(paper: PaperAccount, ts: int, rows: Sequence[LedgerRow]) -> Trip | None:
    return None  # what tripped then is among the events


def _compare(ledger: Sequence[tuple[Any, ...]], minutes: Sequence[StoredMinute], done: Stepped) -> list[dict[str, Any]]:
    """Return the rows of the ledger and then the first minute of the equity that are not as they were stored."""
    again = [tuple(row.to_texts().values()) for row in done.ledger]
    differences = []
    for place in range(max(len(ledger), len(again))):
        was = tuple(ledger[place]) if place < len(ledger) else None
        now = again[place] if place < len(again) else None
        if was != now:
            differences.append(
                {
                    "what": LEDGER,
                    "ts": int((was or now or (0, 0))[1] or 0),
                    "was": None if was is None else dict(zip(LEDGER_COLUMNS, was, strict=True)),
                    "is": None if now is None else dict(zip(LEDGER_COLUMNS, now, strict=True)),
                }
            )
    for stored, stepped in zip(minutes, done.minutes, strict=True):
        if (stored.ts, stored.equity, stored.cash) != stepped:
            differences.append({"what": "equity", "ts": stored.ts, "was": stored.equity, "is": stepped[1]})
            break
    return differences


def _thin(minutes: Sequence[StoredMinute], done: Stepped) -> list[list[float]]:
    """Return at most CURVE_MOST minutes of both equities, the last one among them."""
    every = -(-len(minutes) // CURVE_MOST)
    pairs = list(zip(minutes, done.minutes, strict=True))
    chosen = pairs[::-every][::-1] if pairs else []
    return [[stored.ts, float(stored.equity), float(again[1])] for stored, again in chosen]


def _list_ends(lives: Mapping[str, Sequence[Window]], differences: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the ends of contracts that came before a row of theirs that differs: an end may become known late."""
    first_ms: dict[str, int] = {}
    for each in differences:
        for row in (each["was"], each["is"]) if each["what"] == LEDGER else ():
            if row is not None:
                first_ms[row["symbol"]] = min(row["ts"], first_ms.get(row["symbol"], row["ts"]))
    return [
        f"end: the contract of {symbol} ended at {to_iso(life.end_ms)}; it may have become known later"
        for symbol, ts in sorted(first_ms.items())
        for life in lives[symbol]
        if ts - LOOK_BACK_MS <= floor_to(life.end_ms, MINUTE_MS) <= ts
    ]


def _find_causes(cursor: Cursor, paper: PaperAccount, minutes: Sequence[StoredMinute], first_ms: int) -> list[str]:
    """Name the rows that came late, and the values that were changed, before the first difference."""
    late = [
        f"late: {series} was not there when {to_iso(minute.ts)} was stepped"
        for minute in minutes
        if minute.ts <= first_ms
        for series in minute.missing
    ]
    read_series = {*list_needed(paper.plan), *(series for series, _ in paper.reads)}
    changes = store.list_changes(
        cursor,
        sorted({series.source for series in read_series}),
        sorted({series.symbol for series in read_series}),
        Window(minutes[0].ts - LOOK_BACK_MS, first_ms + MINUTE_MS),
        CAUSES_MOST,
    )
    changed = [
        f"{each.reason or 'correction'}: {each.source} {each.symbol} {to_iso(each.ts)} {each.column}"
        f" {each.old} -> {each.new}"
        for each in changes
    ]
    return [*late[:CAUSES_MOST], *changed]
