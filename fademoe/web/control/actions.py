"""Everything that the web changes. Each change is recorded in perp_status_history."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

from psycopg2.extensions import cursor as Cursor
from rq.suspension import resume, suspend

from fademoe.clock import Window, now_ms, to_iso
from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.queue.enqueue import enqueue_fill
from fademoe.queue.retry import requeue_failed
from fademoe.store.coverage import Series, want
from fademoe.store.status import record_action
from fademoe.supervisord.client import SupervisorClient
from fademoe.web.model.alerts import ACKNOWLEDGED
from fademoe.web.model.services import Services, convert_redis_errors, run_change

log = logging.getLogger(__name__)

ACKNOWLEDGED_S = 86_400
ENQUEUED = "the missing windows are enqueued now"
ENQUEUED_BY_OTHER = "the same request is queued already"


def pause_workers(services: Services) -> str:
    """Let the workers take no further job; return in words what was done."""
    with convert_redis_errors(services.redis):
        suspend(services.redis)
    return _record_best_effort(services, "pause", "workers paused: running jobs end, no new one begins")


def resume_workers(services: Services) -> str:
    """Let the workers take jobs again; return in words what was done."""
    with convert_redis_errors(services.redis):
        resume(services.redis)
    return _record_best_effort(services, "resume", "workers resumed")


def switch_off(services: Services) -> str:
    """Pause the workers and stop the streams, also when only one of them is possible; return what was done."""
    with convert_redis_errors(services.redis):
        suspend(services.redis)
    streams = _change_streams("stopped", SupervisorClient(services.settings.run_dir).stop_streams, "none was running")
    return _record_best_effort(services, "DB APIs off", f"workers paused; {streams}")


def switch_on(services: Services) -> str:
    """Resume the workers and start the streams, also when only one of them is possible; return what was done."""
    with convert_redis_errors(services.redis):
        resume(services.redis)
    streams = _change_streams("started", SupervisorClient(services.settings.run_dir).start_streams, "all were running")
    return _record_best_effort(services, "DB APIs on", f"workers resumed; {streams}")


def fill(services: Services, series: Sequence[Series], window: Window | None) -> str:
    """Request a range of some series (None: only what is requested already) and enqueue what is missing.

    The range begins no earlier than FADEMOE_RETENTION_DAYS keeps rows.
    """
    subject = f"{len(series)} series" if len(series) != 1 else f"{series[0].source} {series[0].symbol}"
    oldest_ms = services.settings.compute_kept_from_ms(now_ms())
    if window is not None and oldest_ms is not None and window.start_ms < oldest_ms:
        window = Window(oldest_ms, max(window.end_ms, oldest_ms))
        subject += f" from {to_iso(oldest_ms)} on, the limit of FADEMOE_RETENTION_DAYS"

    def want_window(cursor: Cursor) -> None:
        if window is not None and window.start_ms < window.end_ms:
            want(cursor, series, window.start_ms, window.end_ms)
        _record("fill", f"fill of {subject}" + (f" {window.start_ms}..{window.end_ms}" if window else ""), cursor)

    run_change(services, want_window)
    return f"filling {subject}: {ENQUEUED if _enqueue_fill(services, series, window) else ENQUEUED_BY_OTHER}"


def retry(services: Services, queue: str, jobs: Sequence[str], subject: str) -> str:
    """Put failed jobs back into their queue, with fresh attempts; `subject` names them in the record."""
    with convert_redis_errors(services.redis):
        requeued = requeue_failed(services.redis, queue, jobs)
    done = f"{requeued} of {len(jobs)} failed jobs of {queue} queued again ({subject})"
    return _record_best_effort(services, "retry", done)


def acknowledge(services: Services, alert: str, title: str) -> str:
    """Mark an alert as acknowledged for a day; return in words what was done."""
    with convert_redis_errors(services.redis):
        services.redis.set(f"{ACKNOWLEDGED}{alert}", 1, ex=ACKNOWLEDGED_S)
    return _record_best_effort(services, "acknowledge", f"acknowledged for a day: {title}")


def _change_streams(done: str, change: Callable[[], list[str]], nothing: str) -> str:
    """Stop or start the streams; return in words which, or why it was not possible."""
    try:
        return f"streams {done}: {', '.join(change()) or nothing}"
    except StoreError as error:
        return f"the streams could not be {done}: {error}"


def _enqueue_fill(services: Services, series: Sequence[Series], window: Window | None) -> bool:
    """Enqueue the planning of what series miss; return False when all of it is queued already."""
    symbols: dict[str, list[str]] = {}
    for source, symbol in series:
        symbols.setdefault(source, []).append(symbol)
    with convert_redis_errors(services.redis):
        enqueued = [
            enqueue_fill(services.redis, registry.find_by_source(source)[0].name, source, of_source, window)
            for source, of_source in symbols.items()
        ]
    return any(enqueued)


def _record_best_effort(services: Services, action: str, done: str) -> str:
    """Record what was done outside the database; when that is unavailable, log it. Return it in words."""
    try:
        run_change(services, partial(_record, action, done))
    except StoreError as error:
        log.warning("web %s: %s (not in the history: %s)", action, done, error)
        return f"{done}; not in the history, because the database is unavailable"
    return done


def _record(action: str, done: str, cursor: Cursor) -> None:
    record_action(cursor, f"web {action}", done)
