"""The state of the whole system in one object: what the status box, /api/system-summary and /health are made of."""

from typing import NamedTuple

from fademoe.clock import now_ms
from fademoe.feeds import registry
from fademoe.settings import Settings
from fademoe.store.read import coverage as read_coverage
from fademoe.store.read import status as read_status
from fademoe.web.model import queues
from fademoe.web.model.services import Services, attempt

LINES = 50  # of recent status and of recent errors
ERROR_SECONDS = 3_600


class Stored(NamedTuple):
    """What PostgreSQL says."""

    streams: list[read_status.Unit]
    counts: dict[str, dict[str, int]]
    recent: list[read_status.Event]
    errors: list[read_status.ErrorGroup]
    errors_last_hour: dict[str, int]
    lags: list[read_coverage.PerpspecLag]


class Queued(NamedTuple):
    """What Redis says."""

    workers: list[queues.WorkerState]
    queues: list[queues.QueueState]
    budgets: list[queues.BudgetUse]
    paused: bool


class Summary(NamedTuple):
    """Both sides; a side that cannot be read is None and its reason says why."""

    at_ms: int
    simulated: bool
    stored: Stored | None
    stored_reason: str | None
    queued: Queued | None
    queued_reason: str | None


def summarise(services: Services) -> Summary:
    """Read the state of everything; a server that is away leaves its side empty instead of failing."""
    stored, stored_reason = attempt(lambda: _stored(services))
    queued, queued_reason = attempt(lambda: _queued(services))
    return Summary(now_ms(), services.settings.is_simulated, stored, stored_reason, queued, queued_reason)


def queue_names(settings: Settings) -> list[str]:
    """Return the queues that should exist: one per exchange in use and the shared ones."""
    return [*(exchange.name for exchange in registry.enabled(settings)), *queues.SHARED_QUEUES]


def health(services: Services) -> dict[str, object]:
    """Return what is needed to answer anything: a word on each server, `ok` or why not."""
    _, database = attempt(lambda: _ask_database(services))
    _, queue = attempt(lambda: _ask_redis(services))
    return {
        "live": True,
        "ready": database is None and queue is None,
        "database": database or "ok",
        "redis": queue or "ok",
        "simulated": services.settings.is_simulated,
    }


def totals(services: Services) -> list[read_coverage.PerpspecTotal]:
    """Read how complete every perpspec is; empty when the database is away."""

    def read() -> list[read_coverage.PerpspecTotal]:
        with services.reader.read() as cursor:
            return read_coverage.list_totals(cursor, now_ms())

    return attempt(read)[0] or []


def as_json(services: Services, summary: Summary) -> dict[str, object]:
    """Return the summary as the API sends it."""
    stored, queued = summary.stored, summary.queued
    return {
        "at": summary.at_ms,
        "simulated": summary.simulated,
        "database": summary.stored_reason or "ok",
        "redis": summary.queued_reason or "ok",
        "streams": [unit._asdict() for unit in stored.streams] if stored else None,
        "workers": [queues.as_dict(worker) for worker in queued.workers] if queued else None,
        "paused": queued.paused if queued else None,
        "queues": [queues.as_dict(queue) for queue in queued.queues] if queued else None,
        "budgets": [queues.as_dict(budget) for budget in queued.budgets] if queued else None,
        "units": stored.counts if stored else None,
        "coverage": [total._asdict() for total in totals(services)] if stored else None,
        "recent_status": [event._asdict() for event in stored.recent] if stored else None,
        "recent_errors": [group._asdict() for group in stored.errors] if stored else None,
        "errors_last_hour": stored.errors_last_hour if stored else None,
    }


def _stored(services: Services) -> Stored:
    with services.reader.read() as cursor:
        return Stored(
            streams=read_status.list_units(cursor, kinds=["stream"]),
            counts=read_status.count_units(cursor),
            recent=read_status.list_history(cursor, LINES),
            errors=read_status.list_error_groups(cursor, LINES),
            errors_last_hour=read_status.count_errors_since(cursor, ERROR_SECONDS),
            lags=read_coverage.list_lags(cursor, now_ms()),
        )


def _queued(services: Services) -> Queued:
    found = queues.queues(services.redis, queue_names(services.settings))
    services.samples.add(now_ms(), ((queue.name, queue.depth) for queue in found))
    return Queued(
        workers=queues.workers(services.redis),
        queues=found,
        budgets=queues.budgets(services.redis),
        paused=queues.is_paused(services.redis),
    )


def _ask_database(services: Services) -> None:
    with services.reader.read() as cursor:
        cursor.execute("SELECT 1 FROM perpspec_schema LIMIT 1")


def _ask_redis(services: Services) -> None:
    with queues.redis_errors(services.redis):
        services.redis.ping()
