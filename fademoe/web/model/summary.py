"""The state of the whole system: what the status tiles, the alerts, /api/system-summary and /health show."""

from typing import NamedTuple

from fademoe.alerts.conditions import list_enabled_lags, list_programs, list_streams
from fademoe.client.rate_limit.usage import BudgetUse, Outage
from fademoe.clock import now_ms
from fademoe.feeds import registry
from fademoe.queue.ids import SHARED_QUEUES, list_exchange_queues
from fademoe.settings import Settings
from fademoe.store.read import completeness as read_completeness
from fademoe.store.read import status as read_status
from fademoe.web.model.answer import Answer
from fademoe.web.model.limits import list_budgets, list_outages
from fademoe.web.model.queues import QueueState, WorkerState, is_paused, list_queues, list_workers
from fademoe.web.model.services import Services, attempt, convert_redis_errors

RECENT = 50  # of recent status and of recent errors
ERROR_WINDOW_S = 3_600
OK = "ok"


class Stored(NamedTuple):
    """What PostgreSQL holds."""

    streams: list[read_status.Unit]  # of the exchanges that are enabled
    programs: list[read_status.Unit]
    counts: dict[str, dict[str, int]]
    recent: list[read_status.Event]
    errors: list[read_status.ErrorGroup]
    errors_last_hour: dict[str, int]
    lags: list[read_completeness.PerpspecLag]  # of the exchanges that are enabled


class Queued(NamedTuple):
    """What Redis holds."""

    workers: list[WorkerState]
    queues: list[QueueState]
    budgets: list[BudgetUse]
    outages: list[Outage]
    paused: bool


class Summary(NamedTuple):
    """Both servers; one that is unavailable is None, and its reason says why."""

    at_ms: int
    simulated: bool
    stored: Stored | None
    stored_reason: str | None
    queued: Queued | None
    queued_reason: str | None


class Health(Answer):
    """Whether the system can answer: each server is `ok`, or the reason why it is not."""

    live: bool
    ready: bool
    database: str
    redis: str
    simulated: bool


class SystemSummary(Answer):
    """The state of the system; members of a server that is unavailable are null."""

    at: int
    simulated: bool
    database: str
    redis: str
    streams: list[read_status.Unit] | None
    workers: list[WorkerState] | None
    paused: bool | None
    queues: list[QueueState] | None
    budgets: list[BudgetUse] | None
    units: dict[str, dict[str, int]] | None
    coverage: list[read_completeness.PerpspecTotal] | None
    recent_status: list[read_status.Event] | None
    recent_errors: list[read_status.ErrorGroup] | None
    errors_last_hour: dict[str, int] | None


def summarise(services: Services) -> Summary:
    """Read the state of both servers."""
    stored, stored_reason = attempt(lambda: _read_stored(services))
    queued, queued_reason = attempt(lambda: _read_queued(services))
    return Summary(now_ms(), services.settings.is_simulated, stored, stored_reason, queued, queued_reason)


def list_queue_names(settings: Settings) -> list[str]:
    """Return the queues that should exist: two per enabled exchange and the shared ones."""
    return [*list_exchange_queues(*(exchange.name for exchange in registry.select_enabled(settings))), *SHARED_QUEUES]


def check_health(services: Services) -> Health:
    """Return whether both servers answer."""
    _, database = attempt(lambda: _check_database(services))
    _, queue = attempt(lambda: _check_redis(services))
    return Health(
        live=True,
        ready=database is None and queue is None,
        database=database or OK,
        redis=queue or OK,
        simulated=services.settings.is_simulated,
    )


def read_totals(services: Services) -> list[read_completeness.PerpspecTotal]:
    """Return how complete every perpspec is; empty when the database is unavailable."""

    def read() -> list[read_completeness.PerpspecTotal]:
        with services.reader.read() as cursor:
            return read_completeness.list_totals(cursor, now_ms())

    return attempt(read)[0] or []


def describe_system(services: Services, summary: Summary) -> SystemSummary:
    """Return a summary as the API sends it, with the coverage of every perpspec."""
    stored, queued = summary.stored, summary.queued
    return SystemSummary(
        at=summary.at_ms,
        simulated=summary.simulated,
        database=summary.stored_reason or OK,
        redis=summary.queued_reason or OK,
        streams=stored.streams if stored else None,
        workers=queued.workers if queued else None,
        paused=queued.paused if queued else None,
        queues=queued.queues if queued else None,
        budgets=queued.budgets if queued else None,
        units=stored.counts if stored else None,
        coverage=read_totals(services) if stored else None,
        recent_status=stored.recent if stored else None,
        recent_errors=stored.errors if stored else None,
        errors_last_hour=stored.errors_last_hour if stored else None,
    )


def _read_stored(services: Services) -> Stored:
    with services.reader.read() as cursor:
        return Stored(
            streams=list_streams(cursor, services.settings),
            programs=list_programs(cursor),
            counts=read_status.count_units(cursor),
            recent=read_status.list_history(cursor, RECENT),
            errors=read_status.list_error_groups(cursor, RECENT),
            errors_last_hour=read_status.count_errors_since(cursor, ERROR_WINDOW_S),
            lags=list_enabled_lags(cursor, services.settings),
        )


def _read_queued(services: Services) -> Queued:
    return Queued(
        workers=list_workers(services.redis),
        queues=list_queues(services, list_queue_names(services.settings)),
        budgets=list_budgets(services.redis),
        outages=list_outages(services.redis),
        paused=is_paused(services.redis),
    )


def _check_database(services: Services) -> None:
    with services.reader.read() as cursor:
        cursor.execute("SELECT 1 FROM perpspec_schema LIMIT 1")


def _check_redis(services: Services) -> None:
    with convert_redis_errors(services.redis):
        services.redis.ping()
