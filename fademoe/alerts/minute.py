"""One closed minute: every rule in force is evaluated for every contract, in the caller's transaction.

The live program and the replay go through here, so that what a replay says, a live run does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fademoe.alerts.conditions import Condition
from fademoe.alerts.ids import make_transition_id
from fademoe.alerts.language import compile_text
from fademoe.alerts.messages import Transition
from fademoe.alerts.records import StoredRule
from fademoe.alerts.rules import Rule
from fademoe.alerts.state_machine import Instance, Reason, State, Step
from fademoe.clock import to_iso
from fademoe.evaluation import Place, WatchResult

States = Mapping[int, Mapping[Place, Instance]]  # of the rules by id: the instances that are not idle
Results = Mapping[int, WatchResult]  # of the rules with expressions by id


@dataclass(kw_only=True)
class Outcome:
    """What a minute changed: transitions with the channels of their rule, and the instances that are new or differ."""

    transitions: list[tuple[Transition, tuple[str, ...]]] = field(default_factory=list)
    changed: dict[tuple[int, str, str], Instance] = field(default_factory=dict)
    instances: int = 0


def evaluate_minute(
    minute: int,
    rules: Sequence[StoredRule],
    states: States,
    results: Results,
    conditions: Sequence[Condition] | None = (),
) -> Outcome:
    """Return what the rules of a minute (in force, or ending with it) change; `states` stay as they are.

    `conditions`: what is wrong with the data in that minute, None when not read: the data rules are unknown then.
    """
    outcome = Outcome()
    for stored in rules:
        held = states.get(stored.id, {})
        if not stored.is_evaluated(minute):
            for place, instance in held.items():
                _withdraw(outcome, minute, stored, place, instance, None, stored.end_reason)
        elif stored.rule.data:
            _evaluate_data(outcome, minute, stored, held, conditions)
        else:
            _evaluate_rule(outcome, minute, stored, held, results[stored.id])
    outcome.transitions.sort(key=lambda pair: (pair[0].rule, pair[0].code, pair[0].symbol))  # stable within a place
    return outcome


def merge_states(states: States, changed: Mapping[tuple[int, str, str], Instance]) -> dict[int, dict[Place, Instance]]:
    """Return the states after a minute; idle instances are left out."""
    merged = {rule: dict(of_rule) for rule, of_rule in states.items()}
    for (rule, code, symbol), instance in changed.items():
        if instance.is_idle:
            merged.get(rule, {}).pop((code, symbol), None)
        else:
            merged.setdefault(rule, {})[code, symbol] = instance
    return {rule: of_rule for rule, of_rule in merged.items() if of_rule}


def _evaluate_rule(
    outcome: Outcome, minute: int, stored: StoredRule, held: Mapping[Place, Instance], result: WatchResult
) -> None:
    rule = stored.rule
    outcome.instances += len(result.places)
    clears = result.clear if result.clear is not None else [None] * len(result.places)
    for place, expr, clear in zip(result.places, result.expr, clears, strict=True):
        before = held.get(place)
        if before is None and expr is False:
            continue  # idle, and stays so: by far the most
        instance = replace(before) if before else Instance()
        steps = instance.evaluate(rule.timing, minute, expr, clear, has_clear=bool(rule.clear))
        if instance != before:
            outcome.changed[stored.id, *place] = instance
        for step in steps:
            _add(outcome, minute, rule, place, step, *_write(rule, place, step, minute, result))
    for place in held.keys() - set(result.places):
        _withdraw(outcome, minute, stored, place, held[place], result, Reason.DELISTED)


def _evaluate_data(
    outcome: Outcome,
    minute: int,
    stored: StoredRule,
    held: Mapping[Place, Instance],
    conditions: Sequence[Condition] | None,
) -> None:
    rule = stored.rule
    found = {(one.code, one.symbol): one for one in conditions or () if one.kind == rule.data}
    for place in sorted(held.keys() | found.keys()):
        outcome.instances += 1
        before = held.get(place)
        instance = replace(before) if before else Instance()
        result = None if conditions is None else place in found
        steps = instance.evaluate(rule.timing, minute, result, None, has_clear=False)
        if instance != before:
            outcome.changed[stored.id, *place] = instance
        message = found[place].message if place in found else f"{rule.data}: over"
        for step in steps:
            _add(outcome, minute, rule, place, step, message, {})


def _withdraw(
    outcome: Outcome,
    minute: int,
    stored: StoredRule,
    place: Place,
    before: Instance,
    result: WatchResult | None,
    reason: Reason,
) -> None:
    instance = replace(before)
    for step in instance.withdraw(minute, reason):
        message, values = ("", {}) if result is None else _write(stored.rule, place, step, minute, result)
        _add(outcome, minute, stored.rule, place, step, message, values)
    outcome.changed[stored.id, *place] = instance


def _write(
    rule: Rule, place: Place, step: Step, minute: int, result: WatchResult
) -> tuple[str, Mapping[str, str | None]]:
    """Return the message and the values of a transition."""
    code, symbol = place
    words = {"symbol": symbol, "code": code, "rule": rule.name, "severity": rule.severity}
    words |= {"state": str(step.state), "minute": to_iso(minute)}
    return result.fill(compile_text(rule.message), place, words), result.read_values(place)


def _add(
    outcome: Outcome,
    minute: int,
    rule: Rule,
    place: Place,
    step: Step,
    message: str,
    values: Mapping[str, str | None],
) -> None:
    code, symbol = place
    transition = Transition(
        id=make_transition_id(rule.name, rule.version, code, symbol, minute, str(step.state)),
        rule=rule.name,
        version=rule.version,
        code=code,
        symbol=symbol,
        minute=minute,
        state=str(step.state),
        since=step.since,
        reason=str(step.reason),
        severity=rule.severity,
        message=message or f"{rule.name}: {step.state if step.state is not State.INACTIVE else 'no longer pending'}",
        values=values,
    )
    outcome.transitions.append((transition, rule.channels))
