"""What needs somebody, as cards: each is computed when read from what is stored, so it ends when its cause does."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import redis

from fademoe.clock import HOUR_MS
from fademoe.errors import StoreError
from fademoe.store.read import status as read_status
from fademoe.store.read.coverage import PerpspecLag
from fademoe.web.model.format import ago, duration, grouped, size
from fademoe.web.model.queues import BudgetUse, redis_errors
from fademoe.web.model.services import Services
from fademoe.web.model.summary import Queued, Summary

FREE_LEAST_SHARE = 0.1
FREE_LEAST_BYTES = 5_000_000_000
GAP_MS = HOUR_MS  # by then a look every minute should have found it
DRIFT_CLASS = "BadPayload"
ACKNOWLEDGED = "web:acknowledged:"  # prefix of the keys in Redis


class Alert(NamedTuple):
    """One card: what it is about, the sentence, what to do, where to look."""

    id: str
    kind: str
    title: str
    text: str
    advice: str
    href: str
    acknowledged: bool = False


def alerts(services: Services, summary: Summary) -> list[Alert]:
    """Return the alerts, those that nobody took note of first."""
    found = [*_servers(summary), *_disk(services), *_from_database(summary), *_from_redis(summary)]
    try:
        known = acknowledged(services.redis, [alert.id for alert in found])
    except StoreError:  # the card about Redis says so
        known = set()
    marked = [alert._replace(acknowledged=alert.id in known) for alert in found]
    return sorted(marked, key=lambda alert: alert.acknowledged)


def acknowledged(connection: redis.Redis, alerts: Sequence[str]) -> set[str]:
    """Return which of these alerts somebody has taken note of."""
    if not alerts:
        return set()
    with redis_errors(connection):
        found = connection.mget([f"{ACKNOWLEDGED}{alert}" for alert in alerts])
    return {alert for alert, value in zip(alerts, found, strict=True) if value}


def _servers(summary: Summary) -> Iterator[Alert]:
    if summary.stored is None:
        text, advice = (
            summary.stored_reason or "",
            "Nothing is stored while it is away; streams keep minutes in memory.",
        )
        yield _alert("server", "The database is away", text, advice, "/health")
    if summary.queued is None:
        text, advice = summary.queued_reason or "", "No request is sent while it is away: the rate limits live there."
        yield _alert("server", "Redis is away", text, advice, "/health")


def _disk(services: Services) -> Iterator[Alert]:
    home = services.settings.home
    if services.settings.database_url or not home.exists():
        return
    used = shutil.disk_usage(home)
    if used.free < FREE_LEAST_BYTES or used.free < used.total * FREE_LEAST_SHARE:
        text = f"{size(used.free)} of {size(used.total)} are free where {home} is"
        yield _alert("disk", "The disk is nearly full", text, "Set FADEMOE_RETENTION_DAYS, or make room.", "/schema")


def _from_database(summary: Summary) -> Iterator[Alert]:
    if summary.stored is None:
        return
    for unit in summary.stored.streams:
        if unit.stale or unit.state == "error":
            text = f"{unit.unit} says {unit.state}, and was last heard {ago(unit.heartbeat_ms)}: {unit.message}"
            advice = "Its log says why; what it misses is fetched as history meanwhile."
            yield _alert(
                "stream", f"{unit.unit} is {'stale' if unit.stale else 'in error'}", text, advice, "/?kind=stream"
            )
    yield from _gaps(summary.stored.lags, summary.queued)
    yield from _drift(summary.stored.errors)


def _gaps(lags: list[PerpspecLag], queued: Queued | None) -> Iterator[Alert]:
    """Yield one card for each exchange with series behind on which nobody works: those gaps grow."""
    at_work = (
        {queue.name for queue in queued.queues if queue.queued or queue.started or queue.scheduled} if queued else ()
    )
    late: dict[str, list[PerpspecLag]] = {}
    for lag in lags:
        exchange = lag.exchange or lag.source
        if lag.behind and lag.lag_ms is not None and lag.lag_ms > GAP_MS and exchange not in at_work:
            late.setdefault(exchange, []).append(lag)
    for exchange, behind in late.items():
        words = (f"{lag.source}: {lag.behind} of {lag.series}, up to {duration(lag.lag_ms)}" for lag in behind)
        text = f"Nobody works on what is missing – {'; '.join(words)}"
        advice = "Are the workers and the scheduler running? Failed windows rest until somebody retries them."
        yield _alert("gap", f"{exchange} falls behind", text, advice, f"/coverage?perpspec={behind[0].source}")


def _drift(groups: list[read_status.ErrorGroup]) -> Iterator[Alert]:
    for group in groups:
        if group.error_class == DRIFT_CLASS:
            text = f"{grouped(group.errors)} times, last {ago(group.last_ms)}: {group.message}"
            advice = "An answer is not what the exchange documents; nothing of it is stored. The parser needs a look."
            title = f"{group.exchange or group.unit} changed its answers"
            yield _alert("drift", title, text, advice, "/#errors", group.fingerprint)


def _from_redis(summary: Summary) -> Iterator[Alert]:
    if summary.queued is None:
        return
    for budget in summary.queued.budgets:
        if budget.closed_until_ms is not None:
            yield _closed(budget, summary.at_ms)
    if not any(not worker.stale for worker in summary.queued.workers):
        advice = "Start them: supervisorctl -c conf/supervisord.conf start all."
        yield _alert("workers", "No worker is running", "Nobody works on the queues.", advice, "/queues")
    failed = sum(queue.failed for queue in summary.queued.queues)
    if failed:
        advice = "They rest for a day; retry them when their cause is gone."
        yield _alert(
            "failed", "Jobs have failed", f"{grouped(failed)} windows could not be fetched.", advice, "/queues#failed"
        )


def _closed(budget: BudgetUse, at_ms: int) -> Alert:
    left = duration((budget.closed_until_ms or at_ms) - at_ms)
    why = f": {budget.closed_why}" if budget.closed_why else ""
    return _alert(
        "ban",
        f"{budget.exchange} closed its {budget.name} budget",
        f"For another {left} nothing is sent from {budget.egress}{why}",
        "Nothing needs to be done: the queue goes on by itself when it opens.",
        "/limits",
    )


def _alert(kind: str, title: str, text: str, advice: str, href: str, of: str = "") -> Alert:
    name = hashlib.sha256(f"{kind} {title} {of}".encode()).hexdigest()[:16]
    return Alert(name, kind, title, text, advice, href)
