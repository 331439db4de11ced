"""Everything that the web changes. Each change says in perp_status_history what was done."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from psycopg2.extensions import cursor as Cursor
from rq import Queue
from rq.exceptions import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from fademoe.clock import Window, now_ms, to_iso
from fademoe.errors import StoreError
from fademoe.store.connection import Database
from fademoe.store.coverage import Series, want
from fademoe.supervisord.client import SupervisorClient
from fademoe.web.model.alerts import ACKNOWLEDGED
from fademoe.web.model.queues import redis_errors
from fademoe.web.model.services import Services

log = logging.getLogger(__name__)

UPKEEP = "upkeep"
RECONCILE = "fademoe.jobs.maintenance.reconcile"
RECONCILE_ID = "chore-reconcile"  # as the scheduler names it: asked for twice it runs once
RECONCILE_S = 300
ACKNOWLEDGED_S = 86_400


def pause(services: Services) -> str:
    """Tell every worker to take no job; return what was done, in words."""
    with redis_errors(services.redis):
        suspend(services.redis)
    return _recorded(services, "pause", "workers paused: what runs ends, nothing new begins")


def go_on(services: Services) -> str:
    """Let the workers take jobs again."""
    with redis_errors(services.redis):
        resume(services.redis)
    return _recorded(services, "resume", "workers go on")


def switch_off(services: Services) -> str:
    """Pause the workers and stop the streams; what cannot be done is said, the rest is done all the same."""
    with redis_errors(services.redis):
        suspend(services.redis)
    try:
        stopped = SupervisorClient(services.settings.run_dir).stop_streams()
        words = f"streams stopped: {', '.join(stopped) or 'none ran'}"
    except StoreError as error:
        words = f"the streams could not be stopped: {error}"
    return _recorded(services, "DB APIs off", f"workers paused; {words}")


def switch_on(services: Services) -> str:
    """Let the workers go on and start the streams."""
    with redis_errors(services.redis):
        resume(services.redis)
    try:
        started = SupervisorClient(services.settings.run_dir).start_streams()
        words = f"streams started: {', '.join(started) or 'all ran'}"
    except StoreError as error:
        words = f"the streams could not be started: {error}"
    return _recorded(services, "DB APIs on", f"workers go on; {words}")


def fill(services: Services, series: Sequence[Series], window: Window | None) -> str:
    """Want a range of some series (None: only what is wanted already) and have the missing windows enqueued now."""
    named = f"{len(series)} series" if len(series) != 1 else f"{series[0].source} {series[0].symbol}"
    edge_ms = services.settings.retained_from_ms(now_ms())
    if window is not None and edge_ms is not None and window.start_ms < edge_ms:
        window = Window(edge_ms, max(window.end_ms, edge_ms))
        named += f" from {to_iso(edge_ms)} on, the edge of FADEMOE_RETENTION_DAYS"
    with _transaction(services) as cursor:
        if window is not None and window.start_ms < window.end_ms:
            want(cursor, series, window.start_ms, window.end_ms)
        _record(cursor, "fill", f"asked to fill {named}" + (f" {window.start_ms}..{window.end_ms}" if window else ""))
    enqueued = _reconcile(services)
    return f"filling {named}: the missing windows are enqueued {'now' if enqueued else 'by the look that is under way'}"


def retry(services: Services, queue: str, jobs: Sequence[str], *, whole: str) -> str:
    """Put failed jobs back into their queue, with fresh attempts; `whole` names them for the record."""
    again = 0
    with redis_errors(services.redis):
        registry = Queue(queue, connection=services.redis, serializer=JSONSerializer).failed_job_registry
        for job_id in jobs:
            try:
                job = Job.fetch(job_id, connection=services.redis, serializer=JSONSerializer)
                if job.meta.pop("failures", None):
                    job.save_meta()
                registry.requeue(job)
            except (NoSuchJobError, InvalidJobOperation):
                log.info("job %s is not among the failed ones any more", job_id)
            else:
                again += 1
    return _recorded(services, "retry", f"{again} of {len(jobs)} failed jobs of {queue} queued again ({whole})")


def acknowledge(services: Services, alert: str, text: str) -> str:
    """Take note of an alert: for a day it is shown among the known ones."""
    with redis_errors(services.redis):
        services.redis.set(f"{ACKNOWLEDGED}{alert}", 1, ex=ACKNOWLEDGED_S)
    return _recorded(services, "acknowledge", f"acknowledged for a day: {text}")


def _reconcile(services: Services) -> bool:
    """Enqueue the look for what is missing; return False when one waits or runs already."""
    with redis_errors(services.redis):
        try:
            Queue(UPKEEP, connection=services.redis, serializer=JSONSerializer).enqueue(
                RECONCILE,
                job_id=RECONCILE_ID,
                unique=True,
                result_ttl=0,
                failure_ttl=1,
                job_timeout=RECONCILE_S,
                description="reconcile, asked for in the web",
            )
        except DuplicateJobError:
            return False
    return True


def _recorded(services: Services, action: str, words: str) -> str:
    """Record what was done in Redis or supervisord; when the database is away the log has to do."""
    try:
        with _transaction(services) as cursor:
            _record(cursor, action, words)
    except StoreError as error:
        log.warning("web %s: %s (not in the history: %s)", action, words, error)
        return f"{words}; the database is away, so the history does not say so"
    return words


def _record(cursor: Cursor, action: str, words: str) -> None:
    cursor.execute(
        "INSERT INTO perp_status_history (unit, state, message) VALUES (%s, 'done', %s)", (f"web {action}", words[:500])
    )


@contextmanager
def _transaction(services: Services) -> Iterator[Cursor]:
    """Yield a cursor that may write, on a connection of its own: changes are rare."""
    database = Database(services.settings.postgres_url, "fademoe web change")
    try:
        with database.transaction() as cursor:
            yield cursor
    finally:
        database.close()
