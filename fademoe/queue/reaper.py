"""Recovery of jobs whose worker died together with its work horse.

The keys of rq that hold a job of queue Q, and what moves it:

    rq:queue:Q (list) --worker takes it--> rq:queue:Q:intermediate (list) --work horse starts--> rq:wip:Q (sorted set:
        ^                                                                                         job:execution -> end
        |                                                                                         of its lease)
        +---- scheduler, when due ---- rq:scheduled:Q <---- retry with a delay -----------------------+
        +---- retry without a delay ------------------------------------------------------------------+
        +---- requeue_failed --------- rq:failed:Q <------- failure for good --------------------------+
        +---- Reaper: the execution is gone, or in `intermediate` in two checks in a row --------------+

The hash rq:execution:JOB:EXECUTION of a running job expires by Redis's own clock unless its worker renews the lease.
The sorted set rq:executions:JOB lists those of a job, and expires a minute later.
The hash rq:job:ID has the arguments and `origin`, the name of the queue.
"""

from collections.abc import Iterable

from redis import Redis
from rq import Queue
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import as_text

from fademoe.queue.states import connect_queue, is_held

ENDED = 0  # as the end of a lease


class Reaper:
    """Requeues jobs whose worker has died. Call `reap` every few seconds."""

    def __init__(self, redis: Redis, names: Iterable[str]) -> None:
        """Look after the queues called `names`."""
        self._queues = [connect_queue(redis, name) for name in names]
        self._taken_before: set[str] = set()  # in `intermediate` and not started at the last check

    def reap(self) -> int:
        """Return how many jobs were requeued."""
        return sum(self._reap_started(target) for target in self._queues) + self._reap_taken()

    def _reap_started(self, target: Queue) -> int:
        """Requeue started jobs whose lease has ended; drop leases of jobs that do not exist."""
        registry = StartedJobRegistry(queue=target)
        _mark_ended(registry)
        expired = registry.get_expired_job_ids(ENDED)
        registry.cleanup(ENDED)
        for job_id in expired:
            _requeue(target, job_id)
        for job_id, _ in registry.get_job_and_execution_ids(cleanup=False):
            if not Job.exists(job_id, connection=target.connection):
                target.connection.zrem(registry.key, *_leases(registry, job_id))
        return len(expired)

    def _reap_taken(self) -> int:
        """Requeue jobs that were taken and not started both at this check and at the one before."""
        before, self._taken_before, requeued = self._taken_before, set(), 0
        for target in self._queues:
            started = StartedJobRegistry(queue=target).get_job_ids(cleanup=False)
            for job_id in set(target.intermediate_queue.get_job_ids()) - set(started):
                if job_id in before:
                    target.intermediate_queue.remove(job_id)
                    requeued += _requeue(target, job_id)
                else:
                    self._taken_before.add(job_id)
        return requeued


def forget_lost_executions(redis: Redis, job_id: str) -> None:
    """Drop those executions of a job whose hash has expired: rq can delete no job that still lists one.

    A worker that dies leaves them behind, and so does one that took its job at the moment of a flush.
    """
    listed = ExecutionRegistry(job_id, redis)
    for execution_id in listed.get_execution_ids():
        execution = Execution(execution_id, job_id, redis)
        if not redis.hexists(execution.key, "created_at"):  # a late heartbeat recreates the hash, without it
            listed.remove(execution, redis)


def _requeue(target: Queue, job_id: str) -> bool:
    """Queue a job that no queue and no registry refers to; return whether it was so."""
    if not target.connection.hexists(Job.key_for(job_id), "origin") or is_held(target.connection, job_id):
        return False
    target.enqueue_job(Job.fetch(job_id, connection=target.connection, serializer=JSONSerializer))
    return True


def _mark_ended(registry: StartedJobRegistry) -> None:
    """Set the end of leases to ENDED whose execution is gone: Redis drops that when no worker renews it.

    The end as a worker wrote it is by the clock of the worker's host, which may differ from ours.
    """
    leases = _leases(registry)
    with registry.connection.pipeline(transaction=False) as pipeline:
        for lease in leases:
            pipeline.exists(Execution.from_composite_key(lease, registry.connection).key)
        ended = [lease for lease, is_there in zip(leases, pipeline.execute(), strict=True) if not is_there]
    if ended:
        registry.connection.zadd(registry.key, dict.fromkeys(ended, ENDED), xx=True)


def _leases(registry: StartedJobRegistry, job_id: str = "") -> list[str]:
    keys = [str(as_text(key)) for key in registry.connection.zrange(registry.key, 0, -1)]
    return [key for key in keys if not job_id or key.startswith(f"{job_id}:")]
