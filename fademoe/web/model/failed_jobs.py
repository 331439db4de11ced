"""Jobs that failed, grouped by what they say; and the jobs of one series."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import redis
from rq import Queue
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.utils import as_text

from fademoe.clock import SECOND_MS, Window
from fademoe.store.coverage import Series
from fademoe.web.model.queues import redis_errors

NEWEST = 300  # failed jobs looked at of each queue for a page
GROUP_MOST = 5_000  # failed jobs looked at when all of a group are wanted
IDS_MOST = 50_000  # queued ids looked through for the jobs of a series
BATCH = 500
MESSAGE_LENGTH = 300

_NUMBERS = re.compile(r"[0-9]+")


@dataclass(frozen=True, kw_only=True)
class FailedGroup:
    """Failed jobs of one queue with the same error, numbers aside; the newest one is the sample."""

    queue: str
    fingerprint: str
    error: str
    job: str
    description: str
    newest_ms: int | None
    trace: str
    jobs: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SeriesJob:
    """One window of a series that waits, runs or has failed."""

    queue: str
    state: str
    id: str
    window: Window


def failed_groups(connection: redis.Redis, names: Iterable[str], newest: int = NEWEST) -> list[FailedGroup]:
    """Return the `newest` failed jobs of each queue by error, the largest group first."""
    found: dict[tuple[str, str], FailedGroup] = {}
    with redis_errors(connection):
        for name in names:
            for job, trace in _failed_jobs(connection, name, newest):
                error = (trace.strip().splitlines() or ["no trace was kept"])[-1][:MESSAGE_LENGTH]
                key = (name, _NUMBERS.sub("#", error))
                if key not in found:
                    found[key] = FailedGroup(
                        queue=name,
                        fingerprint=_fingerprint(*key),
                        error=error,
                        job=job.id,
                        description=job.description or "",
                        newest_ms=int(job.ended_at.timestamp() * SECOND_MS) if job.ended_at else None,
                        trace=trace,
                    )
                found[key].jobs.append(job.id)
    return sorted(found.values(), key=lambda group: -len(group.jobs))


def failed_of(connection: redis.Redis, names: Iterable[str], series: Iterable[Series]) -> dict[str, list[str]]:
    """Return the failed windows of some series by queue."""
    wanted = {_prefix(one.source, one.symbol) for one in series}
    found: dict[str, list[str]] = {}
    for name in names:
        jobs = [job_id for job_id in failed_ids(connection, name) if job_id.rsplit("_", 2)[0] in wanted]
        if jobs:
            found[name] = jobs
    return found


def series_jobs(connection: redis.Redis, names: Iterable[str], source: str, symbol: str) -> list[SeriesJob]:
    """Return the windows of a series that are in any queue, oldest first."""
    name_of_job = re.compile(rf"{re.escape(_prefix(source, symbol))}_([0-9]+)_([0-9]+)")
    found: list[SeriesJob] = []
    with redis_errors(connection):
        for name in names:
            queue = Queue(name, connection=connection, serializer=JSONSerializer)
            ids = {
                "queued": queue.get_job_ids(0, IDS_MOST),
                "running": queue.started_job_registry.get_job_ids(cleanup=False),
                "waiting": queue.scheduled_job_registry.get_job_ids(cleanup=False),
                "failed": queue.failed_job_registry.get_job_ids(cleanup=False),
            }
            for state, of_state in ids.items():
                for job_id in of_state:
                    match = name_of_job.fullmatch(job_id)
                    if match:
                        window = Window(int(match[1]), int(match[2]))
                        found.append(SeriesJob(queue=name, state=state, id=job_id, window=window))
    return sorted(found, key=lambda job: job.window)


def failed_ids(connection: redis.Redis, name: str) -> list[str]:
    """Return the ids of all failed jobs of a queue, the newest first."""
    with redis_errors(connection):
        return _newest_ids(connection, name, 0)


def _prefix(source: str, symbol: str) -> str:
    """Return how the names of a series' jobs begin, as the engine makes them."""
    coded = symbol if symbol.isascii() and symbol.isalnum() else f"-{symbol.encode().hex()}"
    return f"bf-{source}_{coded}"


def _newest_ids(connection: redis.Redis, name: str, newest: int) -> list[str]:
    registry = Queue(name, connection=connection, serializer=JSONSerializer).failed_job_registry
    return [as_text(job_id) for job_id in connection.zrevrange(registry.key, 0, newest - 1)]


def _failed_jobs(connection: redis.Redis, name: str, newest: int) -> Iterator[tuple[Job, str]]:
    """Yield failed jobs with their traces, a batch of them in two round trips."""
    ids = _newest_ids(connection, name, newest)
    for begin in range(0, len(ids), BATCH):
        fetched = Job.fetch_many(ids[begin : begin + BATCH], connection=connection, serializer=JSONSerializer)
        jobs = [job for job in fetched if job is not None]
        with connection.pipeline(transaction=False) as pipeline:
            for job in jobs:
                pipeline.xrevrange(Result.get_key(job.id), count=1)
            for job, entries in zip(jobs, pipeline.execute(), strict=True):
                yield job, _trace(job, entries)


def _trace(job: Job, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> str:
    """Return the traceback in the newest entry of a job's results, as rq stores it."""
    if not entries:
        return ""
    entry_id, fields = entries[0]
    result = Result.restore(job.id, entry_id.decode(), fields, connection=job.connection, serializer=JSONSerializer)
    return result.exc_string or ""


def _fingerprint(queue: str, error: str) -> str:
    return hashlib.sha256(f"{queue} {error}".encode()).hexdigest()[:12]
