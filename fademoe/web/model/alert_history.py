"""Transitions of alert rules, with what became of them on their channels."""

from collections.abc import Iterable, Sequence

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts.outbox import Delivery, list_deliveries
from fademoe.alerts.records import StoredTransition
from fademoe.web.model.answer import Answer


class DeliveryInfo(Answer):
    """What became of a transition on a channel; `error` of the newest attempt, empty when it was delivered."""

    channel: str
    state: str
    attempts: int
    last_ms: int | None
    error: str


class TransitionInfo(Answer):
    """One transition; `minute` is the start of its minute, `since` of the one that it ends."""

    id: str
    rule: str
    version: str
    code: str
    symbol: str
    minute: int
    state: str
    since: int | None
    reason: str
    severity: str
    message: str
    values: dict[str, str | None]
    at_ms: int
    deliveries: list[DeliveryInfo]


class TransitionList(Answer):
    """Transitions, newest first."""

    transitions: list[TransitionInfo]
    next: str | None


def describe_transitions(cursor: Cursor, found: Sequence[StoredTransition]) -> list[TransitionInfo]:
    """Return transitions with what became of them on their channels."""
    deliveries = list_deliveries(cursor, [stored.transition.id for stored in found])
    return [
        TransitionInfo(
            id=one.id,
            rule=one.rule,
            version=one.version,
            code=one.code,
            symbol=one.symbol,
            minute=one.minute,
            state=one.state,
            since=one.since,
            reason=one.reason,
            severity=one.severity,
            message=one.message,
            values=dict(one.values),
            at_ms=at_ms,
            deliveries=describe_deliveries(deliveries.get(one.id, ())),
        )
        for one, at_ms in found
    ]


def describe_deliveries(deliveries: Iterable[Delivery]) -> list[DeliveryInfo]:
    """Return deliveries as pages and API show them."""
    return [
        DeliveryInfo(channel=one.channel, state=one.state, attempts=one.attempts, last_ms=one.last_ms, error=one.error)
        for one in deliveries
    ]
