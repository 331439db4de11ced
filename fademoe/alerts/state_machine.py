"""The states of an alert: a pure function of one minute's results. docs/alerts.md says what each state means.

    inactive ──true──> pending ──true `for` + 1 minutes──> firing ──over `keep_firing_for` + 1 minutes──> resolved
        ^                 │ false                                                                            │
        └─────────────────┴──────────────────────────── after `cooldown` ────────────────────────────────────┘

An unknown result holds the state. The 16th unknown minute in a row is told once, and so is the next known one.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from fademoe.clock import MINUTE_MS

UNKNOWN_TOLD_AT = 16  # the first unknown minute and fifteen more

Truth = bool | None  # None: unknown


class State(StrEnum):
    """The states of an instance, and the words of transitions."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"
    UNKNOWN = "unknown"  # of a transition only: the state that is held stays
    KNOWN = "known"  # of a transition only


class Reason(StrEnum):
    """Why an alert resolved other than by its expression."""

    NONE = ""
    DELISTED = "delisted"
    CHANGED = "changed"
    REMOVED = "removed"


class Timing(NamedTuple):
    """The durations of a rule, in whole minutes."""

    pending: int = 0  # `for`
    keep: int = 0  # `keep_firing_for`
    cooldown: int = 0


class Step(NamedTuple):
    """One transition of an instance; `since` is the minute of the one that it ends (firing, unknown), or None."""

    state: State
    since: int | None = None
    reason: Reason = Reason.NONE


@dataclass(slots=True)
class Instance:
    """The state of a rule for one symbol of one exchange's code. Minutes are ms of their start."""

    state: State = State.INACTIVE
    since: int | None = None  # the minute in which the state began
    counted: int = 0  # minutes that were true (pending) or over (firing)
    unknown: int = 0  # unknown minutes in a row
    unknown_since: int | None = None  # the minute in which `unknown` was told, None when it was not

    @property
    def is_idle(self) -> bool:
        """Whether it is as an instance that was never evaluated."""
        return self.state is State.INACTIVE and not self.unknown

    def evaluate(self, timing: Timing, minute: int, expr: Truth, clear: Truth, *, has_clear: bool) -> list[Step]:
        """Change the state by the results of `minute` and return the transitions, in order.

        `clear` counts only when the rule has one (`has_clear`). Call it once for every minute, in order.
        """
        if self.state is State.RESOLVED:
            if minute < (self.since or 0) + timing.cooldown * MINUTE_MS:
                return []
            self._enter(State.INACTIVE, minute)
        result = self._judge_end(expr, clear, has_clear=has_clear) if self.state is State.FIRING else expr
        if result is None:
            return self._hold(minute)
        steps = self._end_unknown()
        if self.state is State.FIRING:
            return steps + self._evaluate_firing(timing, minute, is_over=result)
        return steps + self._evaluate_quiet(timing, minute, is_true=result)

    def withdraw(self, minute: int, reason: Reason) -> list[Step]:
        """Return the transitions when nothing is evaluated any more: what fires resolves, what is pending ends."""
        steps: list[Step] = []
        if self.state is State.FIRING:
            steps = [Step(State.RESOLVED, self.since, reason)]
        elif self.state is State.PENDING:
            steps = [Step(State.INACTIVE, self.since, reason)]
        if self.unknown_since is not None:
            steps.insert(0, Step(State.KNOWN, self.unknown_since, reason))
        self._enter(State.INACTIVE, minute)
        self.unknown, self.unknown_since = 0, None
        return steps

    @staticmethod
    def _judge_end(expr: Truth, clear: Truth, *, has_clear: bool) -> Truth:
        """Return whether a firing minute is over; None where it neither counts nor resets."""
        if not has_clear:
            return None if expr is None else not expr
        return False if expr is True else clear

    def _evaluate_firing(self, timing: Timing, minute: int, *, is_over: bool) -> list[Step]:
        self.counted = self.counted + 1 if is_over else 0
        if self.counted <= timing.keep:
            return []
        began = self.since
        self._enter(State.RESOLVED, minute)
        return [Step(State.RESOLVED, began)]

    def _evaluate_quiet(self, timing: Timing, minute: int, *, is_true: bool) -> list[Step]:
        if not is_true:
            if self.state is State.INACTIVE:
                return []
            began = self.since
            self._enter(State.INACTIVE, minute)
            return [Step(State.INACTIVE, began)]
        counted = self.counted + 1
        if counted > timing.pending:
            self._enter(State.FIRING, minute)
            return [Step(State.FIRING)]
        is_new = self.state is State.INACTIVE
        if is_new:
            self._enter(State.PENDING, minute)
        self.counted = counted
        return [Step(State.PENDING)] if is_new else []

    def _hold(self, minute: int) -> list[Step]:
        self.unknown += 1
        if self.unknown != UNKNOWN_TOLD_AT:
            return []
        self.unknown_since = minute
        return [Step(State.UNKNOWN)]

    def _end_unknown(self) -> list[Step]:
        told_since, self.unknown, self.unknown_since = self.unknown_since, 0, None
        return [] if told_since is None else [Step(State.KNOWN, told_since)]

    def _enter(self, state: State, minute: int) -> None:
        self.state, self.since, self.counted = state, minute, 0
