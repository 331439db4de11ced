"""Failed jobs: how one is requeued, by command, page or API alike."""

import logging
from collections.abc import Iterable

from redis import Redis
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from fademoe.queue.enqueue import ABANDONED_JOB_RETRY, promote
from fademoe.queue.ids import get_requested_queue, parse_exchange
from fademoe.queue.states import connect_queue

log = logging.getLogger(__name__)

FAILURES = "failures"  # key of Job.meta: attempts since the last new row


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
        except (NoSuchJobError, InvalidJobOperation):
            log.info("job %s is not failed any more", job_id)
        else:
            requeued += 1
            exchange = parse_exchange(name)
            if exchange is not None:
                promote(redis, [name], [job_id], get_requested_queue(exchange))
    return requeued


def fail_without_retry(job: Job | None) -> None:
    """Let a job fail for good when it raises: ABANDONED_JOB_RETRY is for work horses that were killed."""
    if job is not None:
        job.retries_left = 0
