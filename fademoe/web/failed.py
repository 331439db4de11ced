"""Jobs that failed, grouped by what they say; and the jobs of one series."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text

from fademoe.clock import SECOND_MS, Window
from fademoe.web.queues import redis_errors

NEWEST = 300  # failed jobs looked at of each queue
IDS_MOST = 50_000  # queued ids looked through for the jobs of a series
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


def failed_groups(connection: redis.Redis, names: Iterable[str]) -> list[FailedGroup]:
    """Return the newest failed jobs of the queues by error, the largest group first."""
    found: dict[tuple[str, str], FailedGroup] = {}
    with redis_errors(connection):
        for name in names:
            for job in _failed_jobs(connection, name):
                trace = _trace(job)
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


def series_jobs(connection: redis.Redis, names: Iterable[str], source: str, symbol: str) -> list[SeriesJob]:
    """Return the windows of a series that are in any queue, oldest first."""
    coded = symbol if symbol.isascii() and symbol.isalnum() else f"-{symbol.encode().hex()}"
    name_of_job = re.compile(
        rf"bf-{re.escape(source)}_{re.escape(coded)}_([0-9]+)_([0-9]+)"
    )  # as the engine names them
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


def _failed_jobs(connection: redis.Redis, name: str) -> list[Job]:
    registry = Queue(name, connection=connection, serializer=JSONSerializer).failed_job_registry
    ids = [as_text(job_id) for job_id in connection.zrevrange(registry.key, 0, NEWEST - 1)]
    jobs = Job.fetch_many(ids, connection=connection, serializer=JSONSerializer)
    return [job for job in jobs if job is not None]


def _trace(job: Job) -> str:
    result = job.latest_result()
    return (result.exc_string or "") if result else ""


def _fingerprint(queue: str, error: str) -> str:
    return hashlib.sha256(f"{queue} {error}".encode()).hexdigest()[:12]
