"""Queues and workers as rq knows them. Reads only: rq's own methods would remove expired jobs on the way."""

from collections.abc import Iterable
from datetime import datetime

import redis
from redis.client import Pipeline
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.suspension import is_suspended
from rq.utils import as_text, str_to_date

from fademoe.clock import SECOND_MS, now_ms
from fademoe.queue.workload import is_stale
from fademoe.web.model.answer import Answer
from fademoe.web.model.failed_jobs import MAX_GROUPED, FailedGroup, group_failed
from fademoe.web.model.queue_rates import Rate
from fademoe.web.model.services import Services, convert_redis_errors


class QueueState(Answer):
    """Counts of the jobs of one queue; `oldest_ms` is when the job at its head was queued."""

    name: str
    queued: int
    started: int
    scheduled: int
    deferred: int
    failed: int
    finished: int
    oldest_ms: int | None

    @property
    def later(self) -> int:
        """Jobs that enter the queue later: at their time, or after another job."""
        return self.scheduled + self.deferred

    @property
    def depth(self) -> int:
        """Jobs that are neither finished nor failed."""
        return self.queued + self.started + self.later

    @property
    def waits_ms(self) -> int:
        """How long the job at the head has waited."""
        return max(0, now_ms() - self.oldest_ms) if self.oldest_ms else 0


class QueueReport(QueueState):
    """A queue with its rate, None while that is not known yet."""

    rate: Rate | None


class WorkerState(Answer):
    """One rq worker; `job` is the id of the job that it runs."""

    name: str
    state: str
    stale: bool
    queues: list[str]
    job: str | None
    heartbeat_ms: int | None
    since_ms: int | None
    pid: int | None
    host: str | None
    done: int
    failed: int
    working_s: float


class Queues(Answer):
    """Queues, workers, and failed jobs by error: of the newest `grouped_most` of each queue."""

    paused: bool
    queues: list[QueueReport]
    workers: list[WorkerState]
    failed: list[FailedGroup]
    grouped_most: int


class _ObservedWorker(Worker):
    """A worker that is only read: rq's own would lengthen the timeout of the connection."""

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        return connection


def read_queues(services: Services, names: Iterable[str]) -> Queues:
    """Return all queues, the expected `names` among them, the workers and the failed jobs."""
    queues = list_queues(services, names)
    return Queues(
        paused=is_paused(services.redis),
        queues=[
            QueueReport(**{name: getattr(queue, name) for name in QueueState.__struct_fields__}, rate=rate)
            for queue, rate in ((queue, services.queue_rates.find_rate(queue.name)) for queue in queues)
        ],
        workers=list_workers(services.redis),
        failed=group_failed(services.redis, [queue.name for queue in queues if queue.failed]),
        grouped_most=MAX_GROUPED,
    )


def list_queues(services: Services, expected: Iterable[str]) -> list[QueueState]:
    """Return the queues that rq knows or that are expected, by name; add their depths to the readings of the rates."""
    connection = services.redis
    with convert_redis_errors(connection):
        names = sorted({*_list_names(connection), *expected})
        with connection.pipeline(transaction=False) as pipeline:
            for name in names:
                _request_counts(pipeline, Queue(name, connection=connection, serializer=JSONSerializer))
            replies = pipeline.execute()
            per_queue = len(replies) // max(1, len(names))
            counts = [replies[number * per_queue :][:per_queue] for number in range(len(names))]
            for _, head, *_ in counts:
                pipeline.hget(Job.key_for(as_text(head[0]) if head else ""), "enqueued_at")
            queued_at = pipeline.execute()
    queues = [_queue_state(*values) for values in zip(names, counts, queued_at, strict=True)]
    services.queue_rates.add(now_ms(), ((queue.name, queue.depth) for queue in queues))
    return queues


def list_workers(connection: redis.Redis) -> list[WorkerState]:
    """Return every worker that rq knows, by name."""
    with convert_redis_errors(connection):
        workers = _ObservedWorker.all(connection=connection, serializer=JSONSerializer)
        return sorted(map(_worker_state, workers), key=lambda worker: worker.name)


def is_paused(connection: redis.Redis) -> bool:
    """Return whether the workers are paused."""
    with convert_redis_errors(connection):
        return bool(is_suspended(connection))


def _list_names(connection: redis.Redis) -> list[str]:
    return [queue.name for queue in Queue.all(connection=connection, serializer=JSONSerializer)]


def _request_counts(pipeline: Pipeline, queue: Queue) -> None:
    """Request a queue's length, its head, and the sizes of its registries in the order of QueueState."""
    pipeline.llen(queue.key)
    pipeline.lrange(queue.key, 0, 0)
    for registry in (
        queue.started_job_registry,
        queue.scheduled_job_registry,
        queue.deferred_job_registry,
        queue.failed_job_registry,
        queue.finished_job_registry,
    ):
        pipeline.zcard(registry.key)


def _queue_state(name: str, counts: list[int], queued_at: bytes | None) -> QueueState:
    queued, _, started, scheduled, deferred, failed, finished = counts
    return QueueState(
        name=name,
        queued=queued,
        started=started,
        scheduled=scheduled,
        deferred=deferred,
        failed=failed,
        finished=finished,
        oldest_ms=_to_ms(str_to_date(queued_at)) if queued_at else None,
    )


def _worker_state(worker: Worker) -> WorkerState:
    heartbeat_ms, state = _to_ms(worker.last_heartbeat), str(worker.get_state())
    return WorkerState(
        name=worker.name,
        state=state,
        stale=is_stale(state, heartbeat_ms),
        queues=[queue.name for queue in worker.queues],
        job=worker.get_current_job_id(),
        heartbeat_ms=heartbeat_ms,
        since_ms=_to_ms(worker.birth_date),
        pid=worker.pid,
        host=worker.hostname,
        done=worker.successful_job_count,
        failed=worker.failed_job_count,
        working_s=round(worker.total_working_time, 1),
    )


def _to_ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * SECOND_MS)
