"""Enqueueing: each job once, named by its arguments."""

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from importlib import resources
from typing import Any

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from fademoe.clock import DAY_MS, SECOND_MS, Window
from fademoe.feeds import registry
from fademoe.queue.ids import (
    ARCHIVES,
    AUDIT,
    IMPORT,
    NOTIFY,
    RECHECK,
    REIMPORT,
    RESEARCH,
    Task,
    get_requested_queue,
    make_job_id,
    parse_job_id,
)
from fademoe.queue.reaper import forget_lost_executions
from fademoe.queue.states import RUNNING, connect_queue, is_held, read_job_states

log = logging.getLogger(__name__)

BACKFILL_FUNCTION = "fademoe.jobs.backfill.backfill"
FILL_FUNCTION = "fademoe.jobs.seed.fill"
RECHECK_FUNCTION = "fademoe.jobs.backfill.recheck"
RESEARCH_FUNCTION = "fademoe.jobs.research.run_backtest"
CHUNK_FUNCTION = "fademoe.jobs.research.run_chunk"
RESEARCH_TIMEOUT_S = 24 * 3600
AUDIT_FUNCTION = "fademoe.jobs.audit.audit_window"
NOTIFY_FUNCTION = "fademoe.jobs.notify.deliver"
NOTIFY_TIMEOUT_S = 60
IMPORT_FUNCTION = "fademoe.jobs.archive.import_period"
REIMPORT_FUNCTION = "fademoe.jobs.archive.reimport_file"
IMPORT_TIMEOUT_S = 900  # a month of files of days takes minutes at ten files a second
WINDOW_TIMEOUT_S = 300  # a run gives its window back after a minute
FAILED_KEPT_S = DAY_MS // SECOND_MS  # how long a failed window is paused before it is enqueued again
_MOVE = resources.files("fademoe.queue").joinpath("move.lua").read_text(encoding="utf-8")
ABANDONED_JOB_RETRY = Retry(max=20)  # for a job whose worker and work horse were both killed


def put(redis: Redis, name: str, job_id: str, function: str, args: tuple[Any, ...], **options: Any) -> bool:
    """Enqueue a job unless one of its id is queued, running, scheduled or failed; return whether it was enqueued.

    rq refuses an id whose job hash exists. A hash that no queue and no registry refers to was left behind by a flush or
    a killed worker; it is deleted and the job is enqueued.
    """
    target = connect_queue(redis, name)
    try:
        target.enqueue(function, args=args, job_id=job_id, unique=True, **options)
    except DuplicateJobError:
        if is_held(redis, job_id):
            return False
        log.warning("job %s was lost by a worker that was killed: it is enqueued again", job_id)
        redis.delete(Job.key_for(job_id))
        return put(redis, name, job_id, function, args, **options)
    return True


def enqueue_windows(redis: Redis, name: str, tasks: Iterable[Task], *, at_front: bool = False) -> int:
    """Enqueue backfill windows; return how many were not queued, running, scheduled or failed before."""
    return sum(
        put(
            redis,
            name,
            task.job_id,
            BACKFILL_FUNCTION,
            (*task.series, *task.window),
            at_front=at_front,
            result_ttl=0,
            failure_ttl=FAILED_KEPT_S,
            job_timeout=WINDOW_TIMEOUT_S,
            retry=ABANDONED_JOB_RETRY,
            description=f"{task.series.source} {task.series.symbol}",
        )
        for task in tasks
    )


def enqueue_notify(redis: Redis, channel: str) -> bool:
    """Enqueue the delivery of what is due on a channel; return False when it is queued or running already."""
    return put(
        redis,
        NOTIFY,
        f"notify-{channel}",
        NOTIFY_FUNCTION,
        (channel,),
        result_ttl=0,
        failure_ttl=1,
        job_timeout=NOTIFY_TIMEOUT_S,
        retry=ABANDONED_JOB_RETRY,
        description=f"notify {channel}",
    )


def promote(redis: Redis, names: Iterable[str], job_ids: Iterable[str], to: str) -> int:
    """Move jobs that wait in queues to the front of another one, the last of them foremost; return how many waited."""
    target, move = connect_queue(redis, to), redis.register_script(_MOVE)
    sources = [connect_queue(redis, name) for name in names if name != to]
    return sum(
        int(move(keys=[source.key, target.key, Job.key_for(job_id)], args=[job_id, to]))
        for job_id in job_ids
        for source in sources
    )


def enqueue_fill(redis: Redis, exchange: str, source: str, symbols: Sequence[str], window: Window | None) -> bool:
    """Enqueue the planning of what some series of a perpspec miss; return False when the same is queued already.

    `window`: what is to be filled; None: all that is wanted.
    """
    arguments = (source, sorted(symbols), *(window or (None, None)))
    digest = hashlib.sha256(repr(arguments).encode()).hexdigest()[:16]
    return put(
        redis,
        get_requested_queue(exchange),
        f"fill-{digest}",
        FILL_FUNCTION,
        arguments,
        at_front=True,
        result_ttl=0,
        failure_ttl=1,
        job_timeout=WINDOW_TIMEOUT_S,
        description=f"fill {source}",
    )


def enqueue_audits(redis: Redis, name: str, tasks: Iterable[Task]) -> int:
    """Enqueue audits of windows, each at most once a day; return how many were enqueued."""
    return sum(
        put(
            redis,
            name,
            make_job_id(AUDIT, task),
            AUDIT_FUNCTION,
            (*task.series, *task.window),
            result_ttl=FAILED_KEPT_S,
            failure_ttl=FAILED_KEPT_S,
            job_timeout=WINDOW_TIMEOUT_S,
            retry=ABANDONED_JOB_RETRY,
            description=f"audit {task.series.source} {task.series.symbol}",
        )
        for task in tasks
    )


def enqueue_rechecks(redis: Redis, name: str, tasks: Iterable[Task]) -> int:
    """Enqueue windows whose absences are requested again; return how many were enqueued."""
    return sum(
        put(
            redis,
            name,
            make_job_id(RECHECK, task),
            RECHECK_FUNCTION,
            (*task.series, *task.window),
            result_ttl=0,
            failure_ttl=FAILED_KEPT_S,
            job_timeout=WINDOW_TIMEOUT_S,
            retry=ABANDONED_JOB_RETRY,
            description=f"recheck {task.series.source} {task.series.symbol}",
        )
        for task in tasks
    )


def enqueue_imports(redis: Redis, tasks: Iterable[Task], *, kind: str = IMPORT, at_front: bool = False) -> int:
    """Enqueue periods of archives, or with kind REIMPORT files that were rewritten; return how many were enqueued."""
    return sum(
        put(
            redis,
            ARCHIVES,
            make_job_id(kind, task),
            IMPORT_FUNCTION if kind == IMPORT else REIMPORT_FUNCTION,
            (*task.series, *task.window),
            at_front=at_front,
            result_ttl=0,
            failure_ttl=FAILED_KEPT_S,
            job_timeout=IMPORT_TIMEOUT_S,
            retry=ABANDONED_JOB_RETRY,
            description=f"archive {task.series.source} {task.series.symbol}",
        )
        for task in tasks
    )


def drop_imports(redis: Redis, allowed: Collection[str]) -> int:
    """Remove what waits for archives of exchanges that are not in `allowed`; return how many jobs. Running ones go on.

    No worker serves them any more, and their windows would never be fetched otherwise.
    """
    dropped = 0
    codes = {code for name in allowed for code in registry.load_exchanges()[name].codes}
    for job_id, state in read_job_states(redis, ARCHIVES).items():
        kind, task = parse_job_id(job_id)
        if task is None or kind not in (IMPORT, REIMPORT) or state == RUNNING:
            continue
        if task.series.source.rpartition("-")[0] not in codes:
            forget_lost_executions(redis, job_id)
            with suppress(NoSuchJobError):
                Job.fetch(job_id, connection=redis, serializer=JSONSerializer).delete()
                dropped += 1
    return dropped


def enqueue_backtest(redis: Redis, run_id: str, title: str) -> bool:
    """Enqueue a run of the backtester; return False when it is queued already."""
    return put(
        redis,
        RESEARCH,
        make_backtest_id(run_id),
        RESEARCH_FUNCTION,
        (run_id,),
        result_ttl=0,
        failure_ttl=FAILED_KEPT_S,
        job_timeout=RESEARCH_TIMEOUT_S,
        retry=ABANDONED_JOB_RETRY,
        description=f"backtest {title}",
    )


def enqueue_chunk(redis: Redis, run_id: str, data: str, number: int, title: str) -> bool:
    """Enqueue a chunk of a sweep over the rows with the hash `data`; return False when it is queued already."""
    return put(
        redis,
        RESEARCH,
        f"{make_backtest_id(run_id)}-{data[:12]}-{number}",
        CHUNK_FUNCTION,
        (run_id, data, number),
        result_ttl=0,
        failure_ttl=FAILED_KEPT_S,
        job_timeout=RESEARCH_TIMEOUT_S,
        retry=ABANDONED_JOB_RETRY,
        description=f"backtest {title}, chunk {number}",
    )


def make_backtest_id(run_id: str) -> str:
    """Return the id of the job of a run."""
    return f"bt-{run_id}"


def cancel_waiting(redis: Redis, name: str, job_id: str) -> bool:
    """Remove a job that waits in a queue; return whether it did. A running one goes on."""
    removed = bool(redis.lrem(Queue(name, connection=redis, serializer=JSONSerializer).key, 1, job_id))
    if removed:
        redis.delete(Job.key_for(job_id))
    return removed
