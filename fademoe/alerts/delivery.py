"""What is sent when: order, age, silences and retries, as pure functions. `outbox` asks them about stored groups."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fademoe.alerts.state_machine import State
from fademoe.clock import MINUTE_MS, SECOND_MS

MAX_PAUSE_S = 60


class Fate(StrEnum):
    """What became of a transition on a channel, or of a group."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    TOO_OLD = "too old"
    SILENCED = "silenced"
    UNNEEDED = "unneeded"  # the end of something that was never sent


@dataclass(frozen=True, kw_only=True)
class Item:
    """One transition on one channel; `began` is the fate there of the transition that it ends (None: it ends none)."""

    transition: str
    code: str
    symbol: str
    state: str
    is_silenced: bool = False
    began: Fate | None = None

    @property
    def subject(self) -> tuple[str, str]:
        """Whose order counts."""
        return self.code, self.symbol

    @property
    def is_end(self) -> bool:
        """Whether it ends what a transition before it began."""
        return self.state in (State.RESOLVED, State.KNOWN)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The transitions of one rule in one minute on one channel. `attempts` 0: not closed, so items may still leave."""

    id: int
    rule: str
    minute: int
    due_ms: int
    attempts: int
    items: Sequence[Item]


def compute_pause_s(attempts: int, retry_after_s: float | None = None) -> float:
    """Return the seconds from a failed attempt, the `attempts`-th, to the next: 1, 2, 4 … 60, or what was asked for."""
    pause_s = float(min(MAX_PAUSE_S, 2 ** min(attempts - 1, 10)))
    return pause_s if retry_after_s is None else max(retry_after_s, 1.0)


def is_too_old(minute: int, max_age_ms: int, now_ms: int) -> bool:
    """Return whether a transition is older than its channel's max_age; its age counts from the end of its minute."""
    return now_ms - (minute + MINUTE_MS) > max_age_ms


def decide(item: Item, minute: int, max_age_ms: int, now_ms: int) -> Fate:
    """Return what becomes of a transition: WAITING when it is to be sent.

    An end is sent at any age, and in a silence, when its begin was delivered: the receiver would take the alert as open
    for ever. It is not sent when its begin was not.
    """
    if item.is_end and item.began is not None:
        return Fate.WAITING if item.began in (Fate.DELIVERED, Fate.WAITING) else Fate.UNNEEDED
    if item.is_silenced:
        return Fate.SILENCED
    return Fate.TOO_OLD if is_too_old(minute, max_age_ms, now_ms) else Fate.WAITING


def is_kept(group: Group, max_age_ms: int, now_ms: int) -> bool:
    """Return whether a closed group is tried again: all that it holds, or nothing, since its bytes may not change.

    An end whose begin was delivered keeps it for ever.
    """
    return any(decide(item, group.minute, max_age_ms, now_ms) is Fate.WAITING for item in group.items)


def select_ready(groups: Iterable[Group], now_ms: int) -> list[Group]:
    """Return the groups of one channel that may be tried now: due, and behind no earlier one about the same subject.

    `groups`: all that are waiting, in any order. Of one rule, the earlier minute comes first for each code and symbol.
    """
    ready: list[Group] = []
    held: set[tuple[str, str, str]] = set()
    for group in sorted(groups, key=lambda group: (group.minute, group.id)):
        subjects = {(group.rule, *item.subject) for item in group.items}
        if group.due_ms <= now_ms and not subjects & held:
            ready.append(group)
        held |= subjects
    return ready


def compute_due_ms(evaluated_ms: int, group_wait_ms: int) -> int:
    """Return when a group may be tried first."""
    return evaluated_ms + group_wait_ms


def compute_next_ms(now_ms: int, attempts: int, retry_after_s: float | None) -> int:
    """Return when a group whose attempt failed may be tried again."""
    return now_ms + round(compute_pause_s(attempts, retry_after_s) * SECOND_MS)
