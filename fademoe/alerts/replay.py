"""What a rule would have done: the same minutes, the same code, on what live evaluation saw."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts import records
from fademoe.alerts.language import compile_condition
from fademoe.alerts.messages import Transition
from fademoe.alerts.minute import evaluate_minute, merge_states
from fademoe.alerts.program import make_watch
from fademoe.alerts.records import StoredRule
from fademoe.alerts.rules import Rule
from fademoe.alerts.state_machine import Instance
from fademoe.clock import LATEST_MS, MINUTE_MS, Window, floor_to, get_pace, monotonic_s
from fademoe.evaluation import Place, replay
from fademoe.evaluation.tables import name_source
from fademoe.expressions import print_value
from fademoe.expressions.numbers import compute_change
from fademoe.store.queries import load_queries

SQL = load_queries("alerts")
AFTER_MINUTES = (5, 15, 60)
UNSTORED = 0  # id of a rule that is only tried

After = dict[str, Decimal | None]  # 5m, 15m, 60m -> relative change of the close
States = Mapping[int, Mapping[Place, Instance]]


class Replayed(NamedTuple):
    """A transition, and what the price did afterwards."""

    transition: Transition
    after: After


class Difference(NamedTuple):
    """A transition that full knowledge would have added (`is_added`) or left out."""

    transition: Transition
    is_added: bool


class Replay(NamedTuple):
    """What a rule did in the minutes of [since, until)."""

    rule: Rule
    window: Window
    transitions: list[Replayed]
    late: list[Difference]


class Trial(NamedTuple):
    """What a rule that is only tried did for one contract in [since, reached), and its state there."""

    transitions: list[Replayed]
    reached: int
    instance: Instance


def replay_rule(cursor: Cursor, rule: Rule, window: Window) -> Replay:
    """Replay a rule over the minutes of a window, whole minutes; it begins with live's states where live evaluated it.

    `late`: what all rows that are stored by now would have changed.
    """
    stored, begin, states = _find_start(cursor, rule, window.start_ms)
    minutes = records.list_minutes(cursor, begin, window.end_ms)
    evaluated = {one.minute: one.evaluated_ms for one in minutes}
    seen, *_ = _run(cursor, stored, states, Window(begin, window.end_ms), evaluated)
    found = [one for one in seen if one.minute >= window.start_ms]
    late: list[Difference] = []
    if evaluated:
        whole, *_ = _run(cursor, stored, states, Window(begin, window.end_ms), evaluated, knows_all=True)
        late = _compare(found, [one for one in whole if one.minute >= window.start_ms])
    return Replay(rule, window, _look_ahead(cursor, found), late)


def try_rule(cursor: Cursor, rule: Rule, place: Place, window: Window, instance: Instance, for_s: float) -> Trial:
    """Evaluate a rule of one contract over a window for at most `for_s` seconds, from a state on.

    Minutes before the first row of what it needs are passed over. Call it again with the state to go on.
    """
    stored = StoredRule(id=UNSTORED, file="", first_minute=0, rule=rule)
    begin = min(max(window.start_ms, _find_first(cursor, rule, place)), window.end_ms)
    deadline_s = monotonic_s() + for_s * get_pace().speed
    states: States = {UNSTORED: {place: instance}}
    found, reached, states = _run(cursor, stored, states, Window(begin, window.end_ms), {}, deadline_s)
    after = states.get(UNSTORED, {}).get(place, Instance())
    return Trial(_look_ahead(cursor, found), reached, after)


def _find_first(cursor: Cursor, rule: Rule, place: Place) -> int:
    """Return the minute of the first row of any series that a rule reads for a contract; a far one without any."""
    code, symbol = place
    needs = compile_condition(rule.expr).needs.columns
    sources = sorted({name_source(need.code or code, need.measure.metric) for need in needs})
    cursor.execute(SQL["first_covered"], {"sources": sources, "symbol": symbol})
    (first,) = cursor.fetchone() or (None,)
    return LATEST_MS if first is None else floor_to(first, MINUTE_MS)


def describe_replay(replayed: Replay) -> dict[str, object]:
    """Return a replay as JSON values: decimals as strings, times in ms."""

    def describe(one: Transition) -> dict[str, object]:
        return {"id": one.id, "code": one.code, "symbol": one.symbol, "minute": one.minute, "state": one.state}

    return {
        "rule": replayed.rule.name,
        "version": replayed.rule.version,
        "since": replayed.window.start_ms,
        "until": replayed.window.end_ms,
        "transitions": [
            describe(one)
            | {"values": dict(one.values), "after": {name: print_value(change) for name, change in after.items()}}
            for one, after in replayed.transitions
        ],
        "late": [
            describe(change.transition) | {"change": "added" if change.is_added else "left out"}
            for change in replayed.late
        ],
    }


def _find_start(cursor: Cursor, rule: Rule, since: int) -> tuple[StoredRule, int, States]:
    """Return the rule as stored, the minute to begin at, and the states before it: live's, else none."""
    for period in records.list_versions(cursor, rule.name, rule.version):
        if not period.is_evaluated(since):
            continue
        snapshot = records.find_snapshot(cursor, period.id, since)
        begin, states = snapshot or (period.first_minute, {})
        return StoredRule(id=period.id, file="", first_minute=0, rule=rule), begin, {period.id: states}
    return StoredRule(id=UNSTORED, file="", first_minute=0, rule=rule), since, {}


def _run(
    cursor: Cursor,
    stored: StoredRule,
    states: States,
    window: Window,
    evaluated: Mapping[int, int],
    deadline_s: float | None = None,
    *,
    knows_all: bool = False,
) -> tuple[list[Transition], int, States]:
    """Return the transitions of a rule in the minutes of a window, the end of what was evaluated, the states there."""
    transitions: list[Transition] = []
    reached = window.start_ms
    minutes = replay(cursor, [make_watch(stored)], window.start_ms, window.end_ms, evaluated, knows_all=knows_all)
    for minute in minutes:
        reached = minute.minute + MINUTE_MS
        (result,) = minute.results
        if stored.id in states or result.expr.count(False) < len(result.expr):  # else nothing changes: nearly always
            outcome = evaluate_minute(minute.minute, [stored], states, {stored.id: result})
            transitions += [transition for transition, _ in outcome.transitions]
            if outcome.changed:
                states = merge_states(states, outcome.changed)
        if deadline_s is not None and monotonic_s() >= deadline_s:
            break
    return transitions, reached, states


def _compare(seen: list[Transition], whole: list[Transition]) -> list[Difference]:
    before, after = {one.id for one in seen}, {one.id for one in whole}
    changes = [Difference(one, is_added=True) for one in whole if one.id not in before]
    changes += [Difference(one, is_added=False) for one in seen if one.id not in after]
    return sorted(changes, key=lambda change: (change.transition.minute, change.transition.id))


def _look_ahead(cursor: Cursor, transitions: list[Transition]) -> list[Replayed]:
    """Add to each transition the relative change of the close in the minutes after it."""
    closes = dict(_read_closes(cursor, transitions))

    def find(one: Transition, minutes: int) -> Decimal | None:
        now = closes.get((one.code, one.symbol, one.minute))
        then = closes.get((one.code, one.symbol, one.minute + minutes * MINUTE_MS))
        return compute_change(then, now)

    return [Replayed(one, {f"{minutes}m": find(one, minutes) for minutes in AFTER_MINUTES}) for one in transitions]


def _read_closes(cursor: Cursor, transitions: list[Transition]) -> Iterator[tuple[tuple[str, str, int], Decimal]]:
    wanted = sorted(
        {
            (f"{one.code}-ohlcv", one.symbol, one.minute + minutes * MINUTE_MS)
            for one in transitions
            for minutes in (0, *AFTER_MINUTES)
        }
    )
    if wanted:
        sources, symbols, times = (list(column) for column in zip(*wanted, strict=True))
        cursor.execute(SQL["closes"], {"sources": sources, "symbols": symbols, "times": times})
        for source, symbol, ts, close in cursor.fetchall():
            yield (source.removesuffix("-ohlcv"), symbol, ts), Decimal(close)
