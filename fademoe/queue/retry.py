"""Failed jobs, and retries: how one is requeued by command, page or API alike, and when a clock was set."""

import logging
from collections.abc import Iterable
from math import ceil

from redis import Redis
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry
from rq.serializers import JSONSerializer

from fademoe.queue.enqueue import ABANDONED_JOB_RETRY, FAILED_KEPT_S, promote
from fademoe.queue.ids import get_requested_queue, parse_exchange
from fademoe.queue.states import connect_queue

log = logging.getLogger(__name__)

FAILURES = "failures"  # key of Job.meta: attempts since the last new row
DELAY_S = "delay_s"  # key of Job.meta: the delay before the next run
ENDLESS = 1_000_000_000  # retries of rq: waiting for an exchange uses up no attempt
CLAMPED_AFTER_S = 30.0  # retries that are due sooner are left alone


def requeue_failed(redis: Redis, name: str, job_ids: Iterable[str]) -> int:
    """Put failed jobs back into their exchange's queue of requested work, with no attempt used; return how many."""
    registry = FailedJobRegistry(queue=connect_queue(redis, name))
    requeued = 0
    for job_id in job_ids:
        try:
            job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
            if job.meta.pop(FAILURES, None):
                job.save_meta()
            job.retries_left = ABANDONED_JOB_RETRY.max
            registry.requeue(job, at_front=True)  # saves the rest of the job
            redis.persist(job.key)  # it had expired with its failure
        except (NoSuchJobError, InvalidJobOperation):
            log.info("job %s is not failed any more", job_id)
        else:
            requeued += 1
            exchange = parse_exchange(name)
            if exchange is not None:
                promote(redis, [name], [job_id], get_requested_queue(exchange))
    return requeued


def clamp_retries(redis: Redis, name: str, now_s: float) -> int:
    """Bring retries of a queue forward that are due later than their delay from `now_s` on; return how many.

    rq notes when a retry is due by the clock of the host that ran the job. That clock may have been ahead of ours, or
    ours was set back since.
    """
    scheduled = ScheduledJobRegistry(queue=connect_queue(redis, name))
    late: list[tuple[bytes, float]] = redis.zrangebyscore(  # type: ignore[assignment]
        scheduled.key, now_s + CLAMPED_AFTER_S, "+inf", withscores=True
    )
    jobs = Job.fetch_many([job_id.decode() for job_id, _ in late], connection=redis, serializer=JSONSerializer)
    due_s = {
        job.id: ceil(now_s + job.meta[DELAY_S])
        for job, (_, at_s) in zip(jobs, late, strict=True)
        if job is not None and DELAY_S in job.meta and at_s > ceil(now_s + job.meta[DELAY_S])
    }
    if due_s:
        redis.zadd(scheduled.key, due_s, xx=True)
    return len(due_s)


def clamp_kept(redis: Redis, name: str, now_s: float) -> int:
    """Bring forward the end of what a queue keeps of jobs that have ended, and drop what is gone; return how many.

    rq notes until when by the clock of the host that ran the job, as it does for retries.
    """
    queue, latest_s = connect_queue(redis, name), now_s + FAILED_KEPT_S
    count = 0
    for registry in (FailedJobRegistry(queue=queue), FinishedJobRegistry(queue=queue)):
        late: list[bytes] = redis.zrangebyscore(  # type: ignore[assignment]
            registry.key, latest_s + CLAMPED_AFTER_S, "+inf"
        )
        for job_id in late:
            if redis.exists(Job.key_for(job_id.decode())):
                redis.zadd(registry.key, {job_id: latest_s}, xx=True)
            else:
                redis.zrem(registry.key, job_id)
        count += len(late)
    return count
