"""The program `alerts`: evaluates every closed minute once and in order, and hands what is due to the notify worker."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from psycopg2.extensions import cursor as Cursor
from redis import Redis
from redis.exceptions import RedisError

from fademoe.alerts import records
from fademoe.alerts.conditions import Condition, read_conditions
from fademoe.alerts.language import compile_condition, compile_text
from fademoe.alerts.minute import Outcome, evaluate_minute, merge_states
from fademoe.alerts.outbox import list_due, write_outbox
from fademoe.alerts.records import MinuteRecord, StoredRule
from fademoe.alerts.rules import ALL
from fademoe.alerts.state_machine import Instance
from fademoe.clock import HOUR_MS, MINUTE_MS, SECOND_MS, floor_to, monotonic_s, now_ms, to_host_s, to_iso
from fademoe.errors import StoreError
from fademoe.evaluation import EVALUATED_WITHIN_MS, LiveEngine, Place, Watch
from fademoe.expressions import ExpressionError
from fademoe.queue.enqueue import enqueue_notify
from fademoe.settings import Settings
from fademoe.signals import Stopped, StopSignal
from fademoe.store.connection import Database
from fademoe.store.status import State, Tracked

log = logging.getLogger(__name__)

UNIT = "alerts"
HEARTBEAT_S = 10
COMPLETE_POLL_S = 0.1  # interval of checks whether a minute is complete
ENQUEUE_S = 0.5  # interval of checks whether something is due
AWAY_S = 1.0  # between two tries while a server is away
CONDITIONS_HOLD_MS = (
    2 * MINUTE_MS
)  # the data of a minute that ended longer ago are not read: its data rules are unknown


LONGEST_WAIT_MS = EVALUATED_WITHIN_MS - MINUTE_MS  # after the end of a minute


@dataclass
class _Running:
    """The engine, and the rules with expressions that it evaluates: their ids and messages."""

    rules: tuple[tuple[int, str], ...]
    engine: LiveEngine


class AlertsProgram:
    """Evaluates minutes until a stop is requested."""

    def __init__(self, settings: Settings, database: Database, redis: Redis, stop: StopSignal) -> None:
        """Remember what to work with; nothing is read yet."""
        self._settings = settings
        self._database = database
        self._redis = redis
        self._stop = stop
        self._states: tuple[int, dict[int, dict[Place, Instance]]] | None = None  # before a minute
        self._running: _Running | None = None
        self._prepared: int | None = None  # the minute for which the engine has the rules
        self._has_data = False  # whether any rule watches the data themselves
        self._minute: int | None = None  # the next one, None: not known
        self._recovered: int | None = None  # the minute before which late series were looked at again
        self._unreadable: dict[int, str] = {}  # rules that use words which the language lacks by now: id -> name
        self._redis_error = ""
        self._away_since_ms = 0  # since when PostgreSQL is away, 0 while it is not

    def run(self) -> None:
        """Work until SIGTERM; while PostgreSQL or Redis is away, keep trying."""
        unit = Tracked(database=self._database, unit=UNIT, interval_s=HEARTBEAT_S)
        heartbeat_at_s = enqueue_at_s = pause_s = 0.0
        while not self._stop.wait(to_host_s(pause_s)):
            pause_s = COMPLETE_POLL_S
            try:
                with self._stop.allow_interrupt():  # a minute may take long: it is evaluated again after a start
                    is_evaluated = self.evaluate_next()
                if is_evaluated:
                    enqueue_at_s = pause_s = 0.0
                if monotonic_s() >= enqueue_at_s:
                    enqueue_at_s = monotonic_s() + ENQUEUE_S
                    self.enqueue_due()
            except Stopped:
                break
            except StoreError as error:
                log.warning("%s", error)
                self._away_since_ms = self._away_since_ms or now_ms()
                self._forget()
                pause_s = AWAY_S
            if monotonic_s() >= heartbeat_at_s:
                heartbeat_at_s = monotonic_s() + HEARTBEAT_S
                unit.report(State.RUNNING, self._describe())
        unit.report(State.STOPPED, "stopped")

    def evaluate_next(self) -> bool:
        """Evaluate the next minute if it is time; return whether it was."""
        now = now_ms()
        if self._minute is None:
            self._minute = self._database.run(partial(_begin, now=now))
        minute = self._minute
        if self._running is not None and self._recovered != minute and now >= minute + LONGEST_WAIT_MS:
            self._recovered, engine = minute, self._running.engine
            self._database.run(lambda cursor: engine.note_recovered(cursor, minute - MINUTE_MS))
        if now < minute + MINUTE_MS:
            return False
        if self._prepared != minute:
            rules = self._database.run(lambda cursor: records.list_rules(cursor, minute))
            if not rules:
                self._minute = self._database.run(partial(_skip, now=now))
                return False
            self._note_unreadable(rules)
            self._prepared, self._has_data = minute, any(one.rule.data for one in rules)
            self._database.run(lambda cursor: self._prepare(cursor, rules, minute))
        if now < minute + MINUTE_MS + LONGEST_WAIT_MS and self._database.run(self._is_missing):
            return False
        self._evaluate(minute)
        self._minute, self._prepared = minute + MINUTE_MS, None
        return True

    def _note_unreadable(self, rules: Sequence[StoredRule]) -> None:
        """Note which rules cannot be read any more, and say so once of each."""
        noted, self._unreadable = self._unreadable, {}
        for one in rules:
            try:
                _compile(one)
            except ExpressionError as error:
                self._unreadable[one.id] = one.rule.name
                if one.id not in noted:
                    log.error("rule %s is not evaluated, apply it again or remove it: %s", one.rule.name, error)

    def _is_missing(self, cursor: Cursor) -> bool:
        """Return whether the next minute has to wait for a series."""
        if self._running is None or self._minute is None:
            return False
        return bool(self._running.engine.list_missing(cursor, self._minute))

    def _prepare(self, cursor: Cursor, rules: Sequence[StoredRule], minute: int) -> LiveEngine:
        """Return the engine for the rules of a minute: the one that runs, or a new one when they have changed."""
        expressed = [
            one for one in rules if not one.rule.data and one.is_evaluated(minute) and one.id not in self._unreadable
        ]
        key = tuple((one.id, one.rule.message) for one in expressed)
        if self._running is None or self._running.rules != key:
            before = records.list_minutes(cursor, minute - MINUTE_MS, minute)
            seen_ms = before[0].evaluated_ms if before else None
            self._running = _Running(key, LiveEngine([make_watch(one) for one in expressed], seen_ms))
        return self._running.engine

    def _evaluate(self, minute: int) -> None:
        started_s = monotonic_s()

        def work(cursor: Cursor) -> Outcome | None:
            records.lock_rules(cursor)
            if records.lock_cursor(cursor) != minute:
                return None  # another process has evaluated it
            rules = records.list_rules(cursor, minute)
            self._note_unreadable(rules)
            rules = [one for one in rules if one.id not in self._unreadable or not one.is_evaluated(minute)]
            states = self._read_states(cursor, minute)
            if minute % HOUR_MS == 0:
                in_force = {one.id: states.get(one.id, {}) for one in rules if one.first_minute < minute}
                records.save_snapshots(cursor, minute, in_force)
            evaluated = self._prepare(cursor, rules, minute).evaluate(cursor, minute)
            results = {int(result.watch.key): result for result in evaluated.results}
            outcome = evaluate_minute(minute, rules, states, results, conditions)
            records.add_transitions(cursor, (transition for transition, _ in outcome.transitions))
            silences = records.list_silences(cursor, minute)
            write_outbox(cursor, outcome.transitions, silences, evaluated.evaluated_ms)
            records.save_states(cursor, outcome.changed)
            took_ms = round((monotonic_s() - started_s) * SECOND_MS)
            done = (minute, evaluated.evaluated_ms, outcome.instances, took_ms, list(evaluated.late))
            records.record_minute(cursor, MinuteRecord(*done))
            records.move_cursor(cursor, minute + MINUTE_MS)
            return outcome

        conditions = self._read_conditions(minute)
        outcome = self._database.run(work)
        if outcome is None:
            self._forget()
            return
        before = self._states[1] if self._states and self._states[0] == minute else {}
        self._states = (minute + MINUTE_MS, merge_states(before, outcome.changed) if outcome.changed else before)
        for transition, _ in outcome.transitions:
            log.info("%s %s %s: %s", transition.rule, transition.code, transition.symbol, transition.state)

    def _read_states(self, cursor: Cursor, minute: int) -> dict[int, dict[Place, Instance]]:
        if self._states is None or self._states[0] != minute:
            self._states = (minute, records.read_states(cursor))
        return self._states[1]

    def _read_conditions(self, minute: int) -> list[Condition] | None:
        """Return what is wrong with the data, None for a minute that is long over or without such rules."""
        if not self._has_data or now_ms() - (minute + MINUTE_MS) > CONDITIONS_HOLD_MS:
            return None
        found = read_conditions(self._settings, self._database, self._redis)
        if self._away_since_ms:
            since = to_iso(floor_to(self._away_since_ms, SECOND_MS))
            found.append(Condition("server", "", "database", f"the database was unavailable since {since}"))
            self._away_since_ms = 0
        return found

    def enqueue_due(self) -> None:
        """Enqueue a job for every channel on which something is due; what Redis loses is enqueued again."""
        now = now_ms()
        due = [one.channel for one in self._database.run(list_due) if one.due_ms <= now]
        try:
            for channel in due:
                enqueue_notify(self._redis, channel)
        except RedisError as error:
            if str(error) != self._redis_error:
                log.warning("Redis is away, nothing is sent: %s", error)
            self._redis_error = str(error)
        else:
            self._redis_error = ""

    def _forget(self) -> None:
        self._states = self._running = self._minute = self._prepared = None

    def _describe(self) -> str:
        if self._minute is None:
            return "waits for the database"
        active = sum(map(len, self._states[1].values())) if self._states else 0
        unreadable = ", ".join(sorted(self._unreadable.values()))
        left_out = f", not evaluated because of unknown words: {unreadable}" if unreadable else ""
        return f"next minute {to_iso(self._minute)}, {active} active{left_out}"


def _compile(stored: StoredRule) -> None:
    """Raise ExpressionError where a rule in force has words that left the language: those of an exchange, say."""
    if not stored.rule.data:
        make_watch(stored)


def make_watch(stored: StoredRule) -> Watch:
    """Return a rule with an expression as the engine takes it; its key is the id of the stored rule."""
    rule = stored.rule
    clear = compile_condition(rule.clear) if rule.clear else None
    symbols = None if rule.symbols == ALL else rule.symbols
    message_parts = compile_text(rule.message).expressions
    return Watch(stored.id, compile_condition(rule.expr), clear, rule.codes, symbols, message_parts)


def _begin(cursor: Cursor, now: int) -> int:
    minute = records.read_cursor(cursor)
    return _skip(cursor, now) if minute is None else minute


def _skip(cursor: Cursor, now: int) -> int:
    """Move the cursor to the minute at hand, because no rule was in force before it; return it."""
    records.lock_rules(cursor)
    minute = floor_to(now, MINUTE_MS)
    first = min((stored.first_minute for stored in records.list_rules(cursor)), default=minute)
    minute = min(minute, first)
    records.move_cursor(cursor, minute)
    return minute
