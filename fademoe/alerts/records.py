"""Rules, states and transitions as they are stored; each function works in the caller's transaction."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.alerts.messages import Transition
from fademoe.alerts.rules import Channel, Rule, RuleFile, Silence, check_match, describe_rule, restore_rule
from fademoe.alerts.state_machine import Instance, Reason, State
from fademoe.clock import DAY_MS, LATEST_MS
from fademoe.errors import FadeMoeError
from fademoe.evaluation import Place
from fademoe.store.connection import Database
from fademoe.store.queries import load_queries

SQL = load_queries("alerts")
KEPT_MS = 100 * DAY_MS  # a replay goes back 90 days
RULES_LOCK = 7_226_154  # advisory lock: one apply, or one minute, at a time


class RuleConflict(FadeMoeError):
    """A rule or a channel belongs to another file."""


@dataclass(frozen=True, kw_only=True)
class StoredRule:
    """A rule with the minutes in which it is in force: from `first_minute` to before `end_minute` (None: still)."""

    id: int
    file: str
    first_minute: int
    rule: Rule
    end_minute: int | None = None
    end_reason: Reason = Reason.NONE

    def is_evaluated(self, minute: int) -> bool:
        """Return whether it is in force in a minute."""
        return self.first_minute <= minute and (self.end_minute is None or minute < self.end_minute)


class MinuteRecord(NamedTuple):
    """A minute that was evaluated live: rows stored by `evaluated_ms` were seen."""

    minute: int
    evaluated_ms: int
    instances: int
    took_ms: int
    late: list[str]


class StoredTransition(NamedTuple):
    """A transition and when it was stored, in ms."""

    transition: Transition
    at_ms: int


class StoredSilence(NamedTuple):
    """A silence with its id and the file that owns it, "" for one made by command or page."""

    id: int
    file: str
    silence: Silence


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What an apply changes, names sorted; `altered`: only message, severity or channels differ, so states go on."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    silences: int = 0


def lock_rules(cursor: Cursor) -> None:
    """Let no other transaction apply rules or evaluate a minute until this one ends."""
    cursor.execute(SQL["lock_rules"], {"lock": RULES_LOCK})


def apply_file(cursor: Cursor, file: str, content: RuleFile, minute: int, *, keeps_silences: bool = False) -> Changes:
    """Make the rules, channels and silences of `file` what `content` says, from `minute` on; return what changed.

    Raises RuleConflict, before anything is changed, when a name belongs to another file.
    """
    lock_rules(cursor)
    in_force = list_rules(cursor)
    _refuse_foreign(file, content, in_force, list_channels(cursor))
    own = {stored.rule.name: stored for stored in in_force if stored.file == file}
    wanted = {rule.name: rule for rule in content.rules}
    sorted_out: dict[str, list[str]] = {key: [] for key in ("added", "changed", "altered", "removed", "unchanged")}
    for name in sorted(own.keys() | wanted.keys()):
        sorted_out[_apply_rule(cursor, file, own.get(name), wanted.get(name), minute)].append(name)
    for channel in content.channels:
        values = {"name": channel.name, "file": file, "url": channel.url, "secret": channel.secret}
        values |= {"group_wait_ms": channel.group_wait_ms, "max_age_ms": channel.max_age_ms}  # type: ignore[dict-item]
        cursor.execute(SQL["save_channel"], values)
    cursor.execute(SQL["retire_channels"], {"file": file, "kept": [channel.name for channel in content.channels]})
    cursor.execute(SQL["drop_retired_channels"])
    if not keeps_silences:
        cursor.execute(SQL["drop_silences"], {"file": file})
    for silence in content.silences:
        add_silence(cursor, silence, file)
    return Changes(
        **{key: tuple(names) for key, names in sorted_out.items()},
        channels=tuple(channel.name for channel in content.channels),
        silences=len(content.silences),
    )


def replace_rule(rule: Rule, *, channels: tuple[str, ...]) -> Rule:
    """Return a rule with other channels."""
    return replace(rule, channels=channels)


def was_applied(cursor: Cursor, file: str) -> bool:
    """Return whether a file ever had a rule."""
    cursor.execute(SQL["was_applied"], {"file": file})
    return cursor.fetchone() is not None


def list_rules(cursor: Cursor, minute: int | None = None) -> list[StoredRule]:
    """Return the rules in force now; with `minute` those in force then, and those that end with it."""
    if minute is None:
        cursor.execute(SQL["rules_in_force"])
        return [
            StoredRule(id=id_, file=file, first_minute=first, rule=restore_rule(spec))
            for id_, file, first, spec in cursor.fetchall()
        ]
    cursor.execute(SQL["rules_of_minute"], {"minute": minute})
    return [_restore(row) for row in cursor.fetchall()]


def list_versions(cursor: Cursor, name: str, version: str) -> list[StoredRule]:
    """Return the periods in which a version of a rule was in force, oldest first."""
    cursor.execute(SQL["rules_since"], {"name": name, "version": version})
    return [_restore(row) for row in cursor.fetchall()]


def list_channels(cursor: Cursor) -> dict[str, tuple[Channel, str]]:
    """Return each channel with the file that owns it, by name."""
    return _read_channels(cursor, is_retired=False)


def list_retired_channels(cursor: Cursor) -> dict[str, Channel]:
    """Return the channels that no file has any more, and that are still to be told of an end, by name."""
    return {name: channel for name, (channel, _) in _read_channels(cursor, is_retired=True).items()}


def _read_channels(cursor: Cursor, *, is_retired: bool) -> dict[str, tuple[Channel, str]]:
    cursor.execute(SQL["channels"], {"retired": is_retired})
    return {
        name: (Channel(name=name, url=url, secret=secret, group_wait_ms=wait, max_age_ms=age), file)
        for name, file, url, secret, wait, age in cursor.fetchall()
    }


def list_silences(cursor: Cursor, after_ms: int) -> list[StoredSilence]:
    """Return the silences that end after a time."""
    cursor.execute(SQL["silences"], {"after": after_ms})
    return [
        StoredSilence(id_, file, Silence(match=match, until_ms=min(until, LATEST_MS)))
        for id_, file, match, until in cursor.fetchall()
    ]


def make_silence(cursor: Cursor, match: Mapping[str, str], until_ms: int) -> Silence:
    """Return a silence of what the rules in force may find; raise MatchError for any other `match`."""
    return Silence(match=check_match(match, [stored.rule for stored in list_rules(cursor)]), until_ms=until_ms)


def add_silence(cursor: Cursor, silence: Silence, file: str = "") -> int:
    """Store a silence; return its id."""
    values = {"file": file, "match": json.dumps(dict(silence.match)), "until_ms": silence.until_ms}
    cursor.execute(SQL["add_silence"], values)
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def end_silence(cursor: Cursor, silence: int, now_ms: int) -> bool:
    """End a silence now; return whether there is one of that id."""
    cursor.execute(SQL["end_silence"], {"id": silence, "now": now_ms})
    return cursor.fetchone() is not None


def read_cursor(cursor: Cursor) -> int | None:
    """Return the next minute to evaluate, None when none was ever."""
    cursor.execute(SQL["read_cursor"])
    row = cursor.fetchone()
    return int(row[0]) if row else None


def lock_cursor(cursor: Cursor) -> int | None:
    """Return the next minute to evaluate; other transactions cannot move the cursor before this one ends."""
    cursor.execute(SQL["lock_cursor"])
    row = cursor.fetchone()
    return int(row[0]) if row else None


def move_cursor(cursor: Cursor, minute: int) -> None:
    """Store the next minute to evaluate."""
    cursor.execute(SQL["move_cursor"], {"minute": minute})


def record_minute(cursor: Cursor, done: MinuteRecord) -> None:
    """Record that a minute was evaluated."""
    cursor.execute(SQL["record_minute"], done._asdict())


def list_minutes(cursor: Cursor, start_ms: int, end_ms: int) -> list[MinuteRecord]:
    """Return the minutes of a range that were evaluated live, oldest first."""
    cursor.execute(SQL["minutes"], {"start": start_ms, "end": end_ms})
    return [MinuteRecord(*row) for row in cursor.fetchall()]


def find_newest_minute(cursor: Cursor) -> MinuteRecord | None:
    """Return the minute that was evaluated last."""
    cursor.execute(SQL["newest_minute"])
    row = cursor.fetchone()
    return MinuteRecord(*row) if row else None


def read_states(cursor: Cursor) -> dict[int, dict[Place, Instance]]:
    """Return the instances that are not idle, by rule and place."""
    cursor.execute(SQL["states"])
    states: dict[int, dict[Place, Instance]] = {}
    for rule, code, symbol, *values in cursor.fetchall():
        states.setdefault(rule, {})[code, symbol] = restore_instance(values)
    return states


def save_states(cursor: Cursor, changed: Mapping[tuple[int, str, str], Instance]) -> None:
    """Store instances as they are now; idle ones are deleted."""
    rows = [(*key, *describe_instance(instance)) for key, instance in sorted(changed.items()) if not instance.is_idle]
    if rows:
        execute_values(cursor, SQL["save_states"], rows, page_size=1_000)
    idle = [key for key, instance in sorted(changed.items()) if instance.is_idle]
    if idle:
        rules, codes, symbols = (list(column) for column in zip(*idle, strict=True))
        cursor.execute(SQL["drop_states"], {"rules": rules, "codes": codes, "symbols": symbols})


def save_snapshots(cursor: Cursor, minute: int, states: Mapping[int, Mapping[Place, Instance]]) -> None:
    """Store the states of rules before `minute` is evaluated."""
    rows = [
        (rule, minute, json.dumps([[*place, *describe_instance(one)] for place, one in sorted(of_rule.items())]))
        for rule, of_rule in sorted(states.items())
    ]
    if rows:
        execute_values(cursor, SQL["save_snapshots"], rows)


def find_snapshot(cursor: Cursor, rule: int, minute: int) -> tuple[int, dict[Place, Instance]] | None:
    """Return (minute, the states before it) of the newest snapshot of a rule at or before a minute."""
    cursor.execute(SQL["newest_snapshot"], {"rule": rule, "minute": minute})
    row = cursor.fetchone()
    if row is None:
        return None
    return row[0], {(code, symbol): restore_instance(values) for code, symbol, *values in row[1]}


def describe_instance(instance: Instance) -> tuple[str, int | None, int, int, int | None]:
    """Return an instance as values of a row."""
    state = str(instance.state)
    return state, instance.since, instance.counted, instance.unknown, instance.unknown_since


def restore_instance(values: Sequence[Any]) -> Instance:
    """Return the instance of a row."""
    state, since, counted, unknown, unknown_since = values
    return Instance(State(state), since, counted, unknown, unknown_since)


def add_transitions(cursor: Cursor, transitions: Iterable[Transition]) -> None:
    """Store transitions; one that is stored already stays as it is."""
    rows = [
        (
            one.id,
            one.rule,
            one.version,
            one.code,
            one.symbol,
            one.minute,
            one.state,
            one.since,
            one.reason,
            one.severity,
            one.message,
            json.dumps(dict(one.values), ensure_ascii=False),
        )
        for one in transitions
    ]
    if rows:
        execute_values(cursor, SQL["add_transitions"], rows, page_size=1_000)


def list_transitions(
    cursor: Cursor,
    *,
    start_ms: int,
    end_ms: int,
    limit: int,
    rule: str = "",
    code: str = "",
    symbol: str = "",
    before: tuple[int, str] | None = None,
) -> list[StoredTransition]:
    """Return transitions of a range of minutes, newest first, behind `before` (minute, id); "" stands for all.

    A coin may be in lower case.
    """
    values = {"start": start_ms, "end": end_ms, "limit": limit, "rule": rule, "code": code, "symbol": symbol}
    minute, id_ = before or (None, None)
    cursor.execute(SQL["transitions"], values | {"before_minute": minute, "before_id": id_})
    return [StoredTransition(restore_transition(row), row[12]) for row in cursor.fetchall()]


def find_last_transitions(cursor: Cursor, since: int) -> dict[tuple[str, str, str], StoredTransition]:
    """Return the newest transition of each rule, code and symbol that had one since a minute."""
    cursor.execute(SQL["last_transitions"], {"since": since})
    return {(row[1], row[3], row[4]): StoredTransition(restore_transition(row), row[12]) for row in cursor.fetchall()}


def forget_old(database: Database, now_ms: int) -> None:
    """Delete attempts and snapshots that are older than KEPT_MS, and retired channels; transitions are kept."""

    def forget(cursor: Cursor) -> None:
        cursor.execute(SQL["forget_attempts"], {"before": now_ms - KEPT_MS})
        cursor.execute(SQL["forget_snapshots"], {"before": now_ms - KEPT_MS})
        cursor.execute(SQL["drop_retired_channels"])

    database.run(forget)


def restore_transition(row: Sequence[Any]) -> Transition:
    """Return the transition of a row of perp_transitions."""
    return Transition(
        id=row[0],
        rule=row[1],
        version=row[2],
        code=row[3],
        symbol=row[4],
        minute=row[5],
        state=row[6],
        since=row[7],
        reason=row[8],
        severity=row[9],
        message=row[10],
        values=row[11],
    )


def _restore(row: Sequence[Any]) -> StoredRule:
    id_, file, first, end, reason, spec = row
    rule = restore_rule(spec)
    return StoredRule(id=id_, file=file, first_minute=first, end_minute=end, end_reason=Reason(reason), rule=rule)


def _refuse_foreign(
    file: str, content: RuleFile, rules: Sequence[StoredRule], channels: Mapping[str, tuple[Channel, str]]
) -> None:
    owners = {stored.rule.name: stored.file for stored in rules}
    foreign = [
        f"rule {rule.name} belongs to {owners[rule.name]}"
        for rule in content.rules
        if owners.get(rule.name, file) != file
    ]
    foreign += [
        f"channel {channel.name} belongs to {channels[channel.name][1]}"
        for channel in content.channels
        if channel.name in channels and channels[channel.name][1] != file
    ]
    if foreign:
        raise RuleConflict(f"{file}: {'; '.join(foreign)}: choose another name, or remove it there first")


def _apply_rule(cursor: Cursor, file: str, old: StoredRule | None, new: Rule | None, minute: int) -> str:
    """Bring one rule up to date; return the word for what was done."""
    if old is not None and new == old.rule:
        return "unchanged"
    if old is not None and new is not None and new.version == old.rule.version:
        cursor.execute(SQL["change_rule"], {"id": old.id, "spec": json.dumps(describe_rule(new))})
        return "altered"
    if old is not None:
        reason = Reason.REMOVED if new is None else Reason.CHANGED
        cursor.execute(SQL["end_rule"], {"id": old.id, "minute": minute, "reason": str(reason)})
    if new is not None:
        spec = json.dumps(describe_rule(new))
        values = {"name": new.name, "file": file, "version": new.version, "spec": spec, "minute": minute}
        cursor.execute(SQL["begin_rule"], values)
    return "removed" if new is None else "added" if old is None else "changed"
