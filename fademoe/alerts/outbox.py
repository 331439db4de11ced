"""The outbox: what is to be sent is stored with the transitions, and every attempt is recorded.

At least once: a process that dies after a message was sent and before that was recorded sends it again, with the same
`webhook-id` and the same bytes.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.alerts.channels import Message, Outcome
from fademoe.alerts.delivery import (
    Fate,
    Group,
    Item,
    compute_due_ms,
    compute_next_ms,
    compute_pause_s,
    decide,
    is_kept,
    select_ready,
)
from fademoe.alerts.ids import make_webhook_id
from fademoe.alerts.messages import SENT_STATES, Transition, make_body
from fademoe.alerts.records import StoredSilence, list_channels, list_retired_channels, restore_transition
from fademoe.alerts.rules import Channel
from fademoe.clock import SECOND_MS, monotonic_s, now_ms
from fademoe.store.connection import Database
from fademoe.store.queries import load_queries

log = logging.getLogger(__name__)

SQL = load_queries("alerts")
CHANNEL_LOCKS = 7_226_155  # first key of the advisory locks, one for each channel
MAX_GROUPS = 1_000  # of a channel that are looked at together
TOO_MANY = 429  # the status of a receiver that takes no other message either for the time being
ANSWERED_S = 15.0  # an attempt that has not ended by then was interrupted

Send = Callable[[str, str, Message, int], Outcome]


class Due(NamedTuple):
    """A channel with something to send, and when."""

    channel: str
    due_ms: int


class Delivery(NamedTuple):
    """What became of a transition on a channel; `last_ms` and `error` are of the newest attempt."""

    channel: str
    state: str
    attempts: int
    due_ms: int
    last_ms: int | None
    error: str


def list_deliveries(cursor: Cursor, transitions: Sequence[str]) -> dict[str, list[Delivery]]:
    """Return what became of transitions, by their ids."""
    if not transitions:
        return {}
    cursor.execute(SQL["deliveries_of"], {"transitions": list(transitions)})
    found: dict[str, list[Delivery]] = {}
    for transition, channel, state, attempts, due_ms, error, last_ms in cursor.fetchall():
        delivery = Delivery(channel, state, attempts, due_ms, last_ms, error or "")
        found.setdefault(transition, []).append(delivery)
    return found


def write_outbox(
    cursor: Cursor,
    transitions: Iterable[tuple[Transition, Sequence[str]]],
    silences: Sequence[StoredSilence],
    evaluated_ms: int,
) -> None:
    """Store what is to be sent of transitions, each with the names of its rule's channels.

    One group for each channel, rule and minute. What a silence covers is stored as silenced. An end goes to the
    channels of its begin too, which the rule, or any file, may not name any more.
    """
    sent = [(one, names) for one, names in transitions if one.state in SENT_STATES]
    channels = {name: channel for name, (channel, _) in list_channels(cursor).items()}
    known = channels | list_retired_channels(cursor)
    begun_on = _find_channels_of_begin(cursor, [one for one, _ in sent])
    wanted = [
        (channel, one.rule, one.minute, one)
        for one, names in sent
        for channel in channels.keys() & set(names) | known.keys() & begun_on.get(one.id, set())
    ]
    wanted.sort(key=lambda row: (*row[:3], row[3].id))
    rows = []
    for (name, rule, minute), of_group in groupby(wanted, key=lambda row: row[:3]):
        due_ms = compute_due_ms(evaluated_ms, known[name].group_wait_ms)
        cursor.execute(SQL["add_delivery"], {"channel": name, "rule": rule, "minute": minute, "due_ms": due_ms})
        (delivery,) = cursor.fetchone() or (0,)
        rows += [(one.id, name, delivery, _is_silenced(one, silences)) for *_, one in of_group]
    if rows:
        execute_values(cursor, SQL["add_outbox"], rows, page_size=1_000)


def _find_channels_of_begin(cursor: Cursor, transitions: Iterable[Transition]) -> dict[str, set[str]]:
    """Return the channels that were, or will be, told of what transitions end, by the ids of these."""
    ends = {begin: one.id for one in transitions if (begin := one.begin_id)}
    found: dict[str, set[str]] = {}
    if ends:
        states = [str(Fate.DELIVERED), str(Fate.WAITING)]
        cursor.execute(SQL["channels_of_begin"], {"transitions": list(ends), "states": states})
        for begin, channel in cursor.fetchall():
            found.setdefault(ends[begin], set()).add(channel)
    return found


def list_due(cursor: Cursor, channel: str | None = None) -> list[Due]:
    """Return the channels, or the one, that have something waiting, with the time at which the first of it is due.

    Nothing is due on a channel before the end of the pause of a message that was one too many.
    """
    cursor.execute(SQL["waiting_channels"], {"channel": channel, "too_many": TOO_MANY})
    return [Due(name, max(due_ms, held_ms or due_ms)) for name, due_ms, held_ms in cursor.fetchall()]


def deliver(database: Database, name: str, web_url: str, send: Send, *, for_s: float) -> int:
    """Send what is due on a channel, for at most `for_s` seconds; return how many attempts were made.

    Nothing is done while another process delivers to the channel. Raises StoreError when PostgreSQL is away.
    """
    key = {"space": CHANNEL_LOCKS, "channel": name}
    if not database.run(lambda cursor: _fetch_value(cursor, "lock_channel", key)):
        return 0
    try:
        return _deliver(database, name, web_url, send, monotonic_s() + for_s)
    finally:
        database.run(lambda cursor: cursor.execute(SQL["unlock_channel"], key))


def _deliver(database: Database, name: str, web_url: str, send: Send, end_s: float) -> int:
    attempts = 0
    while True:
        channel = database.run(lambda cursor: _find_channel(cursor, name))
        if channel is None:
            return attempts
        groups = database.run(lambda cursor: _settle(cursor, channel))  # noqa: B023
        due = database.run(lambda cursor: list_due(cursor, name))
        ready = select_ready(groups, now_ms())
        if not ready or any(one.due_ms > now_ms() for one in due):
            return attempts
        for group in ready:
            if monotonic_s() >= end_s:
                return attempts
            attempts += 1
            if _attempt(database, channel, group, web_url, send).status in (None, TOO_MANY):
                return attempts  # the receiver takes nothing now: the job ends, and a later one goes on


def _find_channel(cursor: Cursor, name: str) -> Channel | None:
    cursor.execute(SQL["settle_orphans"], {"now": now_ms()})
    channel, _ = list_channels(cursor).get(name, (None, ""))
    return channel or list_retired_channels(cursor).get(name)


def _settle(cursor: Cursor, channel: Channel) -> list[Group]:
    """Settle what is not to be sent any more; return the groups of the channel that wait."""
    while True:
        groups = _read_groups(cursor, channel.name)
        settled = [_settle_group(cursor, group, channel) for group in groups]
        if not any(settled):
            return groups


def _settle_group(cursor: Cursor, group: Group, channel: Channel) -> bool:
    """Settle the items of a group that are not to be sent, and the group when nothing is left; tell whether any were.

    A closed group is kept whole or settled whole.
    """
    now = now_ms()
    if group.attempts:
        if is_kept(group, channel.max_age_ms, now):
            return False
        fates = dict.fromkeys((item.transition for item in group.items), Fate.TOO_OLD)
    else:
        decided = {item.transition: decide(item, group.minute, channel.max_age_ms, now) for item in group.items}
        fates = {transition: fate for transition, fate in decided.items() if fate is not Fate.WAITING}
    for fate in set(fates.values()):
        transitions = [transition for transition, of_item in fates.items() if of_item is fate]
        values = {"delivery": group.id, "state": str(fate), "transitions": transitions}
        cursor.execute(SQL["settle_items"], values)
    if fates and len(fates) == len(group.items):
        state = min(fates.values())
        cursor.execute(SQL["settle_delivery"], {"id": group.id, "state": str(state), "now": now})
    return bool(fates)


def _attempt(database: Database, channel: Channel, group: Group, web_url: str, send: Send) -> Outcome:
    """Send a group once and record how that ended."""
    started_ms, started_s = now_ms(), monotonic_s()
    number, message = database.run(lambda cursor: _begin(cursor, channel, group, web_url, started_ms))
    outcome = send(channel.url, channel.secret, message, started_ms)
    took_ms = round((monotonic_s() - started_s) * SECOND_MS)
    attempt: dict[str, Any] = {"delivery": group.id, "number": number, "at_ms": started_ms, "took_ms": took_ms}
    attempt |= {"status": outcome.status, "error": outcome.error}

    def record(cursor: Cursor) -> None:
        cursor.execute(SQL["record_attempt"], attempt)
        if outcome.is_delivered:
            items = [item.transition for item in group.items]
            values = {"delivery": group.id, "state": str(Fate.DELIVERED), "transitions": items}
            cursor.execute(SQL["settle_items"], values)
            values = {"id": group.id, "state": str(Fate.DELIVERED), "now": now_ms()}
            cursor.execute(SQL["settle_delivery"], values)
        else:
            due_ms = compute_next_ms(now_ms(), number, outcome.retry_after_s)
            cursor.execute(SQL["postpone"], {"id": group.id, "due_ms": due_ms})

    database.run(record)
    if not outcome.is_delivered:
        log.warning("channel %s, attempt %d for rule %s: %s", channel.name, number, group.rule, outcome.error)
    return outcome


def _begin(cursor: Cursor, channel: Channel, group: Group, web_url: str, at_ms: int) -> tuple[int, Message]:
    """Count an attempt; close the group before its first one. Return the attempt's number and the message."""
    cursor.execute(SQL["transitions_of_delivery"], {"delivery": group.id})
    transitions = [restore_transition(row) for row in cursor.fetchall()]
    body = make_body(channel.name, transitions, web_url)
    webhook_id = make_webhook_id(channel.name, [one.id for one in transitions])
    values: dict[str, Any] = {"id": group.id, "webhook_id": webhook_id, "body": body.decode()}
    cursor.execute(SQL["close_delivery"], values)
    due_ms = at_ms + round((ANSWERED_S + compute_pause_s(group.attempts + 1)) * SECOND_MS)
    number = int(_fetch_value(cursor, "begin_attempt", {"id": group.id, "due_ms": due_ms}))
    cursor.execute(SQL["read_message"], {"id": group.id})
    webhook_id, text = cursor.fetchone() or (webhook_id, body.decode())
    return number, Message(webhook_id=webhook_id, body=text.encode(), transitions=transitions)


def _read_groups(cursor: Cursor, channel: str) -> list[Group]:
    cursor.execute(SQL["waiting_groups"], {"channel": channel, "limit": MAX_GROUPS})
    groups = []
    for head, rows in groupby(cursor.fetchall(), key=lambda row: row[:5]):
        items = [
            Item(
                transition=transition,
                code=code,
                symbol=symbol,
                state=state,
                is_silenced=silenced,
                began=None if began is None else Fate(began),
            )
            for *_, transition, code, symbol, state, silenced, began in rows
        ]
        id_, rule, minute, due_ms, attempts = head
        groups.append(Group(id=id_, rule=rule, minute=minute, due_ms=due_ms, attempts=attempts, items=items))
    return groups


def _is_silenced(transition: Transition, silences: Sequence[StoredSilence]) -> bool:
    labels = {
        "rule": transition.rule,
        "code": transition.code,
        "symbol": transition.symbol,
        "severity": transition.severity,
    }
    return any(stored.silence.covers(transition.minute, labels) for stored in silences)


def _fetch_value(cursor: Cursor, name: str, values: Mapping[str, object]) -> Any:
    cursor.execute(SQL[name], values)
    row = cursor.fetchone()
    return None if row is None else row[0]
