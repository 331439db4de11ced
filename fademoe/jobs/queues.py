"""RQ as FadeMoe uses it: one queue per exchange, `live` and `upkeep`; jobs are named by their arguments."""

import logging
from collections.abc import Iterable
from typing import NamedTuple

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, ScheduledJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import as_text

from fademoe.clock import DAY_MS, SECOND_MS, Window
from fademoe.store.coverage import Series

log = logging.getLogger(__name__)

LIVE = "live"
UPKEEP = "upkeep"
BACKFILL = "fademoe.jobs.backfill.backfill"
JOB_TIMEOUT_S = 300  # a window gives itself back to the queue after a minute
REST_S = DAY_MS // SECOND_MS  # how long a failed window rests before it is asked for again
DESERTED = Retry(max=20)  # for windows whose worker and work horse were both killed
PREFIX = "bf-"


class Task(NamedTuple):
    """A backfill job's arguments."""

    series: Series
    window: Window

    @property
    def job_id(self) -> str:
        """Name of the job; letters, digits, _ and - only."""
        symbol = self.series.symbol
        coded = symbol if symbol.isascii() and symbol.isalnum() else f"-{symbol.encode().hex()}"
        return f"{PREFIX}{self.series.source}_{coded}_{self.window.start_ms}_{self.window.end_ms}"

    @classmethod
    def from_job_id(cls, job_id: str) -> "Task | None":
        """Read a job's name back; None for other jobs."""
        source, _, rest = job_id.removeprefix(PREFIX).partition("_")
        parts = rest.rsplit("_", 2)
        if not job_id.startswith(PREFIX) or len(parts) != 3:
            return None
        symbol = bytes.fromhex(parts[0][1:]).decode() if parts[0].startswith("-") else parts[0]
        return cls(Series(source, symbol), Window(int(parts[1]), int(parts[2])))


def queue(redis: Redis, name: str) -> Queue:
    """Return a queue that speaks JSON."""
    return Queue(name, connection=redis, serializer=JSONSerializer)


def enqueue(redis: Redis, name: str, tasks: Iterable[Task], *, at_front: bool = False) -> int:
    """Enqueue the windows that are not waiting, running or resting already; return how many were new."""
    target = queue(redis, name)
    new = 0
    for task in tasks:
        try:
            target.enqueue(
                BACKFILL,
                args=(*task.series, *task.window),
                job_id=task.job_id,
                unique=True,
                at_front=at_front,
                result_ttl=0,
                failure_ttl=REST_S,
                job_timeout=JOB_TIMEOUT_S,
                retry=DESERTED,
                description=f"{task.series.source} {task.series.symbol}",
            )
        except DuplicateJobError:
            continue
        new += 1
    return new


def enqueue_once(redis: Redis, name: str, function: str, calls: Iterable[tuple[str, Series, Window]]) -> int:
    """Enqueue a function for (prefix of the job's name, series, window), each at most once a day; return how many."""
    target = queue(redis, name)
    new = 0
    for prefix, series, window in calls:
        job_id = f"{prefix}-{Task(series, window).job_id.removeprefix(PREFIX)}"
        try:
            target.enqueue(
                function,
                args=(*series, *window),
                job_id=job_id,
                unique=True,
                result_ttl=REST_S,
                failure_ttl=REST_S,
                job_timeout=JOB_TIMEOUT_S,
                retry=DESERTED,
                description=f"{prefix} {series.source} {series.symbol}",
            )
        except DuplicateJobError:
            continue
        new += 1
    return new


def depth(redis: Redis, name: str) -> int:
    """Return how many jobs of a queue wait or are scheduled; 1 at least."""
    target = queue(redis, name)
    return max(1, int(target.count) + int(ScheduledJobRegistry(queue=target).get_job_count(cleanup=False)))


def taken(redis: Redis, names: Iterable[str]) -> dict[Series, list[Window]]:
    """Return the windows that wait, run or rest after a failure, per series."""
    found: dict[Series, list[Window]] = {}
    for name in names:
        target = queue(redis, name)
        ids = set(target.get_job_ids())
        ids |= set(ScheduledJobRegistry(queue=target).get_job_ids(cleanup=False))
        ids |= set(FailedJobRegistry(queue=target).get_job_ids(cleanup=True))
        ids |= {job_id for job_id, _ in StartedJobRegistry(queue=target).get_job_and_execution_ids(cleanup=False)}
        for task in filter(None, map(Task.from_job_id, sorted(ids))):
            found.setdefault(task.series, []).append(task.window)
    return found


def failed(redis: Redis, names: Iterable[str]) -> list[Task]:
    """Return the windows that rest after a failure."""
    tasks = []
    for name in names:
        for job_id in FailedJobRegistry(queue=queue(redis, name)).get_job_ids(cleanup=True):
            task = Task.from_job_id(job_id)
            if task:
                tasks.append(task)
    return tasks


def wake(redis: Redis, name: str, tasks: Iterable[Task]) -> int:
    """Put windows that rest after a failure back into the queue, with fresh attempts; return how many."""
    target = queue(redis, name)
    registry = FailedJobRegistry(queue=target)
    woken = 0
    for task in tasks:
        if task.job_id in registry.get_job_ids(cleanup=False):
            registry.remove(task.job_id, delete_job=True)
            woken += enqueue(redis, name, [task])
    return woken


def reap(redis: Redis, names: Iterable[str]) -> int:
    """Give back the jobs whose worker and work horse died; drop ids whose job is gone. Return how many were touched.

    A started job whose lease ended is abandoned (rq runs this itself only every few minutes).
    """
    touched = 0
    for name in names:
        target = queue(redis, name)
        registry = StartedJobRegistry(queue=target)
        before = registry.get_job_count(cleanup=False)
        registry.cleanup()
        touched += before - registry.get_job_count(cleanup=False)
        for job_id, _ in registry.get_job_and_execution_ids(cleanup=False):
            if not Job.exists(job_id, connection=redis):
                registry.connection.zrem(registry.key, *_executions(registry, job_id))
                touched += 1
    return touched


def is_waiting(redis: Redis, task: Task) -> bool:
    """Return whether a window waits in a queue, runs, or is scheduled."""
    if not Job.exists(task.job_id, connection=redis):
        return False
    status = Job.fetch(task.job_id, connection=redis, serializer=JSONSerializer).get_status()
    return status in (JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED)


def _executions(registry: StartedJobRegistry, job_id: str) -> list[str]:
    keys = [str(as_text(key)) for key in registry.connection.zrange(registry.key, 0, -1)]
    return [key for key in keys if key.startswith(f"{job_id}:")]
