"""What every job does: queued, running, scheduled, failed or unreadable."""

import time
from collections.abc import Iterable

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry, ScheduledJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import as_text, parse_composite_key

from fademoe.clock import Window, to_host_s
from fademoe.feeds import registry
from fademoe.queue.ids import BACKFILL, IMPORT, REIMPORT, Task, parse_job_id
from fademoe.store.coverage import Series

FAILED = "paused after repeated failures"
UNREADABLE = "unreadable in the exchange's answer, requested again later"
SCHEDULED = "waiting for its next attempt"
QUEUED = "queued"
RUNNING = "running"


def connect_queue(redis: Redis, name: str) -> Queue:
    """Return the queue of that name, with JSON as its serializer."""
    return Queue(name, connection=redis, serializer=JSONSerializer)


def read_job_states(redis: Redis, name: str) -> dict[str, str]:
    """Return the state of every job of a queue by its id: FAILED, UNREADABLE, SCHEDULED, QUEUED or RUNNING."""
    target = connect_queue(redis, name)
    kept = [target.finished_job_registry.key, target.failed_job_registry.key]
    with redis.pipeline(transaction=True) as pipeline:  # at one moment: a job that moves on meanwhile is in one place
        for key in kept:
            pipeline.zremrangebyscore(key, 0, time.time())  # as rq does it; what is over holds no job back
        for key in kept:
            pipeline.zrange(key, 0, -1)
        pipeline.zrange(target.scheduled_job_registry.key, 0, -1)
        pipeline.lrange(target.key, 0, -1)
        pipeline.lrange(target.intermediate_queue_key, 0, -1)
        pipeline.zrange(target.started_job_registry.key, 0, -1)
        found = pipeline.execute()[len(kept) :]
    *waiting, started = ([str(as_text(each)) for each in ids] for ids in found)
    states: dict[str, str] = {}
    for state, job_ids in zip((UNREADABLE, FAILED, SCHEDULED, QUEUED, QUEUED), waiting, strict=True):
        states |= dict.fromkeys(job_ids, state)
    return states | {parse_composite_key(lease)[0]: RUNNING for lease in started}


def list_scheduled_after(redis: Redis, name: str, delay_s: float) -> set[str]:
    """Return the ids of the jobs of a queue whose next attempt is more than `delay_s` away."""
    scheduled = ScheduledJobRegistry(queue=connect_queue(redis, name))
    edge_s = time.time() + to_host_s(delay_s)
    return {str(as_text(job_id)) for job_id in redis.zrangebyscore(scheduled.key, f"({edge_s}", "+inf")}


def read_windows_in_queues(redis: Redis, names: Iterable[str]) -> dict[Series, list[Window]]:
    """Return the windows that are queued, running, scheduled, failed or unreadable, per series."""
    windows: dict[Series, list[Window]] = {}
    for name in names:
        for task in (task for job_id in sorted(read_job_states(redis, name)) for task in list_tasks(job_id)):
            windows.setdefault(task.series, []).append(task.window)
    return windows


def list_tasks(job_id: str) -> list[Task]:
    """Return the windows of series that a job fills: one, or those of all metrics of an archive's dataset."""
    kind, task = parse_job_id(job_id)
    if task is None or kind not in (BACKFILL, IMPORT):
        return []
    if kind == BACKFILL:
        return [task]
    sources = registry.list_dataset_sources(task.series.source)
    return [Task(Series(source, task.series.symbol), task.window) for source in sources]


def list_failed_jobs(redis: Redis, names: Iterable[str]) -> list[tuple[str, Task]]:
    """Return the jobs that are paused after repeated failures, those of archives too, with what they work on."""
    found = []
    for name in names:
        for job_id in FailedJobRegistry(queue=connect_queue(redis, name)).get_job_ids(cleanup=True):
            kind, task = parse_job_id(job_id)
            if task is not None and kind in (BACKFILL, IMPORT, REIMPORT):
                found.append((job_id, task))
    return found


def is_held(redis: Redis, job_id: str) -> bool:
    """Return whether a queue or one of its registries refers to a job."""
    origin = redis.hget(Job.key_for(job_id), "origin")
    if not origin:  # a heartbeat of a worker recreated the hash after a flush
        return False
    target = connect_queue(redis, str(as_text(origin)))
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.lpos(target.key, job_id)
        pipeline.lpos(target.intermediate_queue_key, job_id)
        for registry in (target.scheduled_job_registry, target.failed_job_registry, target.finished_job_registry):
            pipeline.zscore(registry.key, job_id)
        pipeline.zrange(target.started_job_registry.key, 0, -1)
        *places, started = pipeline.execute()
    is_running = any(str(as_text(key)).startswith(f"{job_id}:") for key in started)
    return is_running or any(place is not None for place in places)
