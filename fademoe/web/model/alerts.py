"""What needs attention, as alerts. Each is derived from the stored state when read, so it ends with its cause."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence

import msgspec
import redis

from fademoe.alerts.conditions import group_late, is_disk_nearly_full, is_drift, is_faulty
from fademoe.client.rate_limit.usage import BudgetUse, Outage
from fademoe.errors import StoreError
from fademoe.queue.workload import collects_data
from fademoe.store.read import status as read_status
from fademoe.store.read.completeness import PerpspecLag
from fademoe.web.model.answer import Answer
from fademoe.web.model.format import format_age, format_bytes, format_duration, group_digits
from fademoe.web.model.services import Services, convert_redis_errors
from fademoe.web.model.summary import Queued, Summary

ACKNOWLEDGED = "web:acknowledged:"  # prefix of the keys in Redis
PROGRAM_ADVICE = "See its log; supervisorctl -c conf/supervisord.conf status says whether it runs."


class Alert(Answer):
    """One alert: what is wrong, what to do, and the page that shows it."""

    id: str
    kind: str
    title: str
    text: str
    advice: str
    href: str
    acknowledged: bool = False


class Alerts(Answer):
    """The alerts, acknowledged ones last."""

    alerts: list[Alert]


def list_alerts(services: Services, summary: Summary) -> Alerts:
    """Return the alerts of a summary."""
    alerts = [*_check_servers(summary), *_check_disk(services), *_check_stored(summary), *_check_queued(summary)]
    try:
        acknowledged = find_acknowledged(services.redis, [alert.id for alert in alerts])
    except StoreError:  # an alert says so already
        acknowledged = set()
    marked = [msgspec.structs.replace(alert, acknowledged=alert.id in acknowledged) for alert in alerts]
    return Alerts(alerts=sorted(marked, key=lambda alert: alert.acknowledged))


def find_acknowledged(connection: redis.Redis, alerts: Sequence[str]) -> set[str]:
    """Return which alerts and cards, by their ids, were acknowledged within a day."""
    if not alerts:
        return set()
    with convert_redis_errors(connection):
        values = connection.mget([f"{ACKNOWLEDGED}{alert}" for alert in alerts])
    return {alert for alert, value in zip(alerts, values, strict=True) if value}


def _check_servers(summary: Summary) -> Iterator[Alert]:
    if summary.stored is None:
        advice = "Nothing is stored until it answers; streams keep their rows in memory."
        yield _alert("server", "The database is unavailable", summary.stored_reason or "", advice, "/health")
    if summary.queued is None:
        advice = "No request is sent until it answers, because it holds the rate limits."
        yield _alert("server", "Redis is unavailable", summary.queued_reason or "", advice, "/health")


def _check_disk(services: Services) -> Iterator[Alert]:
    home = services.settings.home
    if services.settings.database_url or not home.exists():
        return
    usage = shutil.disk_usage(home)
    if is_disk_nearly_full(usage.free, usage.total):
        text = f"{format_bytes(usage.free)} of {format_bytes(usage.total)} are free on the disk of {home}"
        yield _alert("disk", "The disk is nearly full", text, "Set FADEMOE_RETENTION_DAYS, or free space.", "/schema")


def _check_stored(summary: Summary) -> Iterator[Alert]:
    if summary.stored is None:
        return
    advice = "See its log. Meanwhile the missing rows are fetched as history."
    yield from _check_units("stream", summary.stored.streams, advice)
    yield from _check_units("program", summary.stored.programs, PROGRAM_ADVICE)
    yield from _check_lags(summary.stored.lags, summary.queued)
    yield from _check_drift(summary.stored.errors)


def _check_units(kind: str, units: list[read_status.Unit], advice: str) -> Iterator[Alert]:
    for unit in filter(is_faulty, units):
        state = "stale" if unit.stale else "in error"
        text = f"State {unit.state}, last heartbeat {format_age(unit.heartbeat_ms)}: {unit.message}"
        yield _alert(kind, f"{unit.unit} is {state}", text, advice, f"/?kind={unit.kind}")


def _check_lags(lags: list[PerpspecLag], queued: Queued | None) -> Iterator[Alert]:
    """Yield an alert for each exchange with late series and no job in its queue: these gaps grow."""
    busy = {queue.name for queue in queued.queues if queue.queued or queue.started or queue.scheduled} if queued else ()
    for exchange, behind in group_late(lags, busy).items():
        parts = (f"{lag.source}: {lag.behind} of {lag.series}, up to {format_duration(lag.lag_ms)}" for lag in behind)
        text = f"Series are behind, and no job is queued for them – {'; '.join(parts)}"
        advice = "Check that workers and scheduler run. Failed jobs are retried only on request."
        yield _alert("gap", f"{exchange} falls behind", text, advice, f"/coverage?perpspec={behind[0].source}")


def _check_drift(groups: list[read_status.ErrorGroup]) -> Iterator[Alert]:
    for group in groups:
        if is_drift(group):
            text = f"{group_digits(group.errors)} times, last {format_age(group.last_ms)}: {group.message}"
            advice = "Answers differ from the exchange's documentation and are not stored. The parser needs an update."
            title = f"{group.exchange or group.unit} changed its answers"
            yield _alert("drift", title, text, advice, "/#errors", group.fingerprint)


def _check_queued(summary: Summary) -> Iterator[Alert]:
    if summary.queued is None:
        return
    for budget in summary.queued.budgets:
        if budget.closed_until_ms is not None:
            yield _describe_closed(budget, summary.at_ms)
    for outage in summary.queued.outages:
        yield _describe_outage(outage)
    if all(worker.stale for worker in summary.queued.workers if collects_data(worker.name)):
        advice = "Start them: supervisorctl -c conf/supervisord.conf start all."
        yield _alert("workers", "No worker is running", "The queues are not processed.", advice, "/queues")
    failed = sum(queue.failed for queue in summary.queued.queues)
    if failed:
        text, advice = (
            f"{group_digits(failed)} jobs failed.",
            "They stay failed for a day; retry them once the cause is gone.",
        )
        yield _alert("failed", "Jobs have failed", text, advice, "/queues#failed")


def _describe_closed(budget: BudgetUse, at_ms: int) -> Alert:
    left = format_duration((budget.closed_until_ms or at_ms) - at_ms)
    why = f": {budget.closed_why}" if budget.closed_why else ""
    return _alert(
        "ban",
        f"{budget.exchange} closed its {budget.name} budget",
        f"No request is sent from {budget.egress} for another {left}{why}",
        "Requests resume by themselves. Where the reason names a setting, correct it.",
        "/limits",
    )


def _describe_outage(outage: Outage) -> Alert:
    return _alert(
        "outage",
        f"{outage.failing} does not answer {outage.egress}",
        f"{outage.failures} requests in a row failed since {format_age(outage.since_ms)}: {outage.reason}",
        "Requests resume by themselves, after growing pauses. If other addresses get answers, check this one.",
        "/limits",
    )


def _alert(kind: str, title: str, text: str, advice: str, href: str, subject: str = "") -> Alert:
    """Return an alert whose id depends on kind, title and `subject`, so that it stays acknowledged while it lasts."""
    name = hashlib.sha256(f"{kind} {title} {subject}".encode()).hexdigest()[:16]
    return Alert(id=name, kind=kind, title=title, text=text, advice=advice, href=href)
