"""Failed jobs, grouped by their error; and the jobs of one series. Reads only."""

from collections.abc import Iterable, Iterator

import redis
from rq import Queue
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.utils import as_text

from fademoe.clock import SECOND_MS, Window
from fademoe.queue.ids import Task, make_series_prefix
from fademoe.store.coverage import Series
from fademoe.store.status import fingerprint_message
from fademoe.web.model.answer import Answer
from fademoe.web.model.services import convert_redis_errors

MAX_GROUPED = 300  # failed jobs of each queue that a page groups
MAX_GROUPED_FOR_RETRY = 5_000  # the same when a group is retried
MAX_IDS = 50_000  # queued ids searched for the jobs of a series
BATCH = 500
MAX_MESSAGE = 300


class FailedGroup(Answer):
    """Failed jobs of one queue with the same error, numbers aside; `job`, `description`, `trace` are of the newest."""

    queue: str
    fingerprint: str
    error: str
    job: str
    description: str
    newest_ms: int | None
    trace: str
    count: int


class SeriesJob(Answer):
    """One job of a series."""

    queue: str
    state: str
    id: str
    window: Window


def group_failed(connection: redis.Redis, names: Iterable[str], newest: int = MAX_GROUPED) -> list[FailedGroup]:
    """Return the `newest` failed jobs of each queue by error, the largest group first."""
    groups = []
    for (queue, fingerprint), jobs in _group(connection, names, newest).items():
        job, trace = jobs[0]
        group = FailedGroup(
            queue=queue,
            fingerprint=fingerprint,
            error=_error_line(trace),
            job=job.id,
            description=job.description or "",
            newest_ms=int(job.ended_at.timestamp() * SECOND_MS) if job.ended_at else None,
            trace=trace,
            count=len(jobs),
        )
        groups.append(group)
    return sorted(groups, key=lambda group: -group.count)


def find_group(connection: redis.Redis, queue: str, fingerprint: str) -> tuple[list[str], str]:
    """Return the ids of the failed jobs of a group and its error, ([], "") when there is none."""
    jobs = _group(connection, [queue], MAX_GROUPED_FOR_RETRY).get((queue, fingerprint), [])
    return [job.id for job, _ in jobs], _error_line(jobs[0][1]) if jobs else ""


def find_failed_of_series(
    connection: redis.Redis, names: Iterable[str], series: Iterable[Series]
) -> dict[str, list[str]]:
    """Return the ids of the failed jobs of some series by queue; queues without one are left out."""
    chosen = set(series)
    failed = {name: [job for job in list_failed(connection, name) if _series_of(job) in chosen] for name in names}
    return {name: jobs for name, jobs in failed.items() if jobs}


def list_jobs(connection: redis.Redis, names: Iterable[str], source: str, symbol: str) -> list[SeriesJob]:
    """Return the jobs of a series that are in any of the queues, the oldest window first."""
    prefix = make_series_prefix(Series(source, symbol))  # most ids are of other series, and reading them takes longer
    jobs: list[SeriesJob] = []
    with convert_redis_errors(connection):
        for name in names:
            queue = Queue(name, connection=connection, serializer=JSONSerializer)
            ids = {
                "queued": queue.get_job_ids(0, MAX_IDS),
                "running": queue.started_job_registry.get_job_ids(cleanup=False),
                "waiting": queue.scheduled_job_registry.get_job_ids(cleanup=False),
                "failed": queue.failed_job_registry.get_job_ids(cleanup=False),
            }
            for state, of_state in ids.items():
                tasks = ((job_id, Task.parse(job_id)) for job_id in of_state if job_id.startswith(f"{prefix}_"))
                jobs += [
                    SeriesJob(queue=name, state=state, id=job_id, window=task.window) for job_id, task in tasks if task
                ]
    return sorted(jobs, key=lambda job: job.window)


def list_failed(connection: redis.Redis, name: str) -> list[str]:
    """Return the ids of all failed jobs of a queue, the newest first."""
    with convert_redis_errors(connection):
        return _list_newest(connection, name, 0)


def _group(connection: redis.Redis, names: Iterable[str], newest: int) -> dict[tuple[str, str], list[tuple[Job, str]]]:
    """Return (job, trace) of the newest failed jobs by (queue, fingerprint), the newest first."""
    groups: dict[tuple[str, str], list[tuple[Job, str]]] = {}
    with convert_redis_errors(connection):
        for name in names:
            for job, trace in _read_failed(connection, name, newest):
                groups.setdefault((name, fingerprint_message(name, _error_line(trace))), []).append((job, trace))
    return groups


def _series_of(job_id: str) -> Series | None:
    task = Task.parse(job_id)
    return task.series if task else None


def _list_newest(connection: redis.Redis, name: str, newest: int) -> list[str]:
    registry = Queue(name, connection=connection, serializer=JSONSerializer).failed_job_registry
    return [as_text(job_id) for job_id in connection.zrevrange(registry.key, 0, newest - 1)]


def _read_failed(connection: redis.Redis, name: str, newest: int) -> Iterator[tuple[Job, str]]:
    """Yield failed jobs with their traces, a batch of them in two round trips."""
    ids = _list_newest(connection, name, newest)
    for start in range(0, len(ids), BATCH):
        fetched = Job.fetch_many(ids[start : start + BATCH], connection=connection, serializer=JSONSerializer)
        jobs = [job for job in fetched if job is not None]
        with connection.pipeline(transaction=False) as pipeline:
            for job in jobs:
                pipeline.xrevrange(Result.get_key(job.id), count=1)
            for job, entries in zip(jobs, pipeline.execute(), strict=True):
                yield job, _read_trace(job, entries)


def _read_trace(job: Job, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> str:
    """Return the traceback in the newest entry of a job's results, as rq stores it."""
    if not entries:
        return ""
    entry_id, fields = entries[0]
    result = Result.restore(job.id, entry_id.decode(), fields, connection=job.connection, serializer=JSONSerializer)
    return result.exc_string or ""


def _error_line(trace: str) -> str:
    """Return the last line of a traceback: class and message of the error."""
    return (trace.strip().splitlines() or ["no traceback was kept"])[-1][:MAX_MESSAGE]
