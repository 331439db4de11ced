"""Enqueueing: each job once, named by its arguments."""

import logging
from collections.abc import Iterable
from typing import Any

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from fademoe.clock import DAY_MS, SECOND_MS
from fademoe.queue.ids import AUDIT, Task, job_id
from fademoe.queue.states import connect_queue, is_held

log = logging.getLogger(__name__)

BACKFILL_FUNCTION = "fademoe.jobs.backfill.backfill"
AUDIT_FUNCTION = "fademoe.jobs.audit.audit_window"
WINDOW_TIMEOUT_S = 300  # a run gives its window back after a minute
FAILED_KEPT_S = DAY_MS // SECOND_MS  # how long a failed window is paused before it is enqueued again
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


def enqueue_audits(redis: Redis, name: str, tasks: Iterable[Task]) -> int:
    """Enqueue audits of windows, each at most once a day; return how many were enqueued."""
    return sum(
        put(
            redis,
            name,
            job_id(AUDIT, task),
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


def cancel_waiting(redis: Redis, name: str, job_id: str) -> bool:
    """Remove a job that waits in a queue; return whether it did. A running one goes on."""
    removed = bool(redis.lrem(Queue(name, connection=redis, serializer=JSONSerializer).key, 1, job_id))
    if removed:
        redis.delete(Job.key_for(job_id))
    return removed
