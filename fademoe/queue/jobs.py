"""RQ as FadeMoe uses it: one queue per exchange, `live` and `upkeep`; jobs are named by their arguments."""

import logging
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from redis import Redis
from rq import Queue, Retry, get_current_job
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
LOOK_AGAIN_S = 0.5  # a worker needs milliseconds from taking a job to starting it


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


def put(redis: Redis, name: str, job_id: str, function: str, args: tuple[Any, ...], **options: Any) -> bool:
    """Enqueue a job unless one of its name waits, runs or rests; return whether it is new.

    A worker that is killed between taking a job and starting it leaves a name behind that nobody works on: rq would
    refuse it for ever. It is made anew.
    """
    target = queue(redis, name)
    for _ in range(2):
        try:
            target.enqueue(function, args=args, job_id=job_id, unique=True, **options)
        except DuplicateJobError:
            if not _is_lost(redis, job_id):
                return False
            log.warning("job %s was lost by a worker that died: it is made anew", job_id)
            redis.delete(Job.key_for(job_id))
        else:
            return True
    return False


def enqueue(redis: Redis, name: str, tasks: Iterable[Task], *, at_front: bool = False) -> int:
    """Enqueue the windows that are not waiting, running or resting already; return how many were new."""
    return sum(
        put(
            redis,
            name,
            task.job_id,
            BACKFILL,
            (*task.series, *task.window),
            at_front=at_front,
            result_ttl=0,
            failure_ttl=REST_S,
            job_timeout=JOB_TIMEOUT_S,
            retry=DESERTED,
            description=f"{task.series.source} {task.series.symbol}",
        )
        for task in tasks
    )


def enqueue_once(redis: Redis, name: str, function: str, calls: Iterable[tuple[str, Series, Window]]) -> int:
    """Enqueue a function for (prefix of the job's name, series, window), each at most once a day; return how many."""
    return sum(
        put(
            redis,
            name,
            f"{prefix}-{Task(series, window).job_id.removeprefix(PREFIX)}",
            function,
            (*series, *window),
            result_ttl=REST_S,
            failure_ttl=REST_S,
            job_timeout=JOB_TIMEOUT_S,
            retry=DESERTED,
            description=f"{prefix} {series.source} {series.symbol}",
        )
        for prefix, series, window in calls
    )


def states(redis: Redis, name: str) -> dict[str, str]:
    """Return what every job of a queue does, by its name: waiting, running or resting after a failure."""
    target = queue(redis, name)
    found = dict.fromkeys(FailedJobRegistry(queue=target).get_job_ids(cleanup=True), "resting after failures")
    found |= dict.fromkeys(ScheduledJobRegistry(queue=target).get_job_ids(cleanup=False), "waiting for its next try")
    found |= dict.fromkeys([*target.get_job_ids(), *target.intermediate_queue.get_job_ids()], "waiting in its queue")
    running = StartedJobRegistry(queue=target).get_job_and_execution_ids(cleanup=False)
    return found | {job_id: "running" for job_id, _ in running}


def taken(redis: Redis, names: Iterable[str]) -> dict[Series, list[Window]]:
    """Return the windows that wait, run or rest after a failure, per series."""
    found: dict[Series, list[Window]] = {}
    for name in names:
        for task in filter(None, map(Task.from_job_id, sorted(states(redis, name)))):
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
    registry = FailedJobRegistry(queue=queue(redis, name))
    woken = 0
    for task in tasks:
        if registry.remove(task.job_id):
            redis.delete(Job.key_for(task.job_id))
            woken += enqueue(redis, name, [task])
    return woken


class Reaper:
    """Gives back the jobs of workers that died with their work horses; rq itself looks every few minutes only."""

    def __init__(self, redis: Redis, names: Iterable[str]) -> None:
        """Look after the queues called `names`."""
        self._queues = [queue(redis, name) for name in names]
        self._on_the_way: set[str] = set()  # taken from their queue and not started, at the last look

    def reap(self) -> int:
        """Return how many jobs were given back."""
        return sum(self._reap_started(target) for target in self._queues) + self._reap_taken()

    def _reap_started(self, target: Queue) -> int:
        """Give back the started jobs whose lease has ended, and those that were not even begun."""
        registry = StartedJobRegistry(queue=target)
        expired = registry.get_expired_job_ids()
        registry.cleanup()
        for job_id in expired:
            _give_back(target, job_id)
        for job_id, _ in registry.get_job_and_execution_ids(cleanup=False):
            if not Job.exists(job_id, connection=target.connection):
                target.connection.zrem(registry.key, *_executions(registry, job_id))
        return len(expired)

    def _reap_taken(self) -> int:
        """Give back the jobs that were on the way from queue to worker at this look and at the one before."""
        before, self._on_the_way, given_back = self._on_the_way, set(), 0
        for target in self._queues:
            started = StartedJobRegistry(queue=target).get_job_ids(cleanup=False)
            for job_id in set(target.intermediate_queue.get_job_ids()) - set(started):
                if job_id in before:
                    target.intermediate_queue.remove(job_id)
                    given_back += _give_back(target, job_id)
                else:
                    self._on_the_way.add(job_id)
        return given_back


def rest() -> None:
    """Let the job at hand rest when it now raises: the retries it has are for work horses that were killed."""
    job = get_current_job()
    if job is not None:
        job.retries_left = 0


def is_waiting(redis: Redis, task: Task) -> bool:
    """Return whether a window waits in a queue, runs, or is scheduled."""
    if not Job.exists(task.job_id, connection=redis):
        return False
    status = Job.fetch(task.job_id, connection=redis, serializer=JSONSerializer).get_status()
    return status in (JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED)


def _give_back(target: Queue, job_id: str) -> bool:
    """Queue a job again that is in no queue and no registry; return whether it was so."""
    if not target.connection.hexists(Job.key_for(job_id), "origin") or _is_held(target, job_id):
        return False
    target.enqueue_job(Job.fetch(job_id, connection=target.connection, serializer=JSONSerializer))
    return True


def _is_lost(redis: Redis, job_id: str) -> bool:
    """Return whether a job exists of which no queue and no registry knows, now and half a second later."""
    origin = redis.hget(Job.key_for(job_id), "origin")
    target = queue(redis, str(as_text(origin))) if origin else None  # without: the last breath of a job that is gone
    if target is not None and _is_held(target, job_id):
        return False
    time.sleep(LOOK_AGAIN_S)
    return target is None or not _is_held(target, job_id)


def _is_held(target: Queue, job_id: str) -> bool:
    """Return whether a queue or one of its registries knows a job."""
    with target.connection.pipeline(transaction=True) as pipeline:
        pipeline.lpos(target.key, job_id)
        pipeline.lpos(target.intermediate_queue_key, job_id)
        for registry in (target.scheduled_job_registry, target.failed_job_registry, target.finished_job_registry):
            pipeline.zscore(registry.key, job_id)
        pipeline.zrange(target.started_job_registry.key, 0, -1)
        *places, started = pipeline.execute()
    running = any(str(as_text(key)).startswith(f"{job_id}:") for key in started)
    return running or any(place is not None for place in places)


def _executions(registry: StartedJobRegistry, job_id: str) -> list[str]:
    keys = [str(as_text(key)) for key in registry.connection.zrange(registry.key, 0, -1)]
    return [key for key in keys if key.startswith(f"{job_id}:")]
