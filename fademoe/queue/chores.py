"""Chores: functions that the system calls for itself at intervals, each queued at most once."""

from collections.abc import Iterable
from dataclasses import dataclass

from redis import Redis
from rq.job import Job
from rq.utils import as_text

from fademoe.queue.enqueue import ABANDONED_JOB_RETRY, cancel_waiting, put
from fademoe.queue.ids import LIVE, UPKEEP
from fademoe.queue.states import connect_queue

CHORE_PREFIX = "chore-"
RECONCILE_AT_S = 30.0  # of each minute: by then streams and polls have stored the minute before

HOURS_AT_S = 50.0  # of each minute: what reconcile enqueued is under way then


@dataclass(frozen=True, kw_only=True)
class Chore:
    """A function that runs every `every_s` seconds, and once at the start; `at_s`: at that second of the period.

    `is_urgent`: it goes before the other live work.
    """

    function: str
    every_s: float
    arguments: tuple[str, ...] = ()
    queue: str = UPKEEP
    timeout_s: int = 300
    at_s: float | None = None
    is_urgent: bool = False

    @property
    def job_id(self) -> str:
        """Id of the job; letters, digits, `_` and `-` only."""
        return CHORE_PREFIX + "-".join((self.function.rpartition(".")[2], *self.arguments))

    def compute_pause_s(self, now_s: float) -> float:
        """Return the seconds from `now_s`, by the host's clock, until it is due again."""
        return self.every_s - (0.0 if self.at_s is None else (now_s - self.at_s) % self.every_s)


RECONCILE = Chore(function="fademoe.jobs.reconcile.reconcile", every_s=60, at_s=RECONCILE_AT_S)
CHORES = (
    Chore(function="fademoe.jobs.maintenance.refresh_instruments", every_s=3600),
    Chore(function="fademoe.jobs.maintenance.refresh_changing_instruments", every_s=300),
    Chore(function="fademoe.jobs.maintenance.run_maintenance", every_s=3600),
    RECONCILE,
    Chore(function="fademoe.jobs.audit.enqueue_nightly", every_s=3600),
)


def make_hours_chore(queue: str) -> Chore:
    """Return the chore that makes hours, in a queue of the workers: it takes too long to be in the way of live work."""
    return Chore(function="fademoe.jobs.hours.refresh_hours", every_s=60, at_s=HOURS_AT_S, queue=queue)


def enqueue_chore(redis: Redis, chore: Chore) -> bool:
    """Enqueue a chore; return False when it is queued or running already."""
    return put(
        redis,
        chore.queue,
        chore.job_id,
        chore.function,
        chore.arguments,
        at_front=chore.is_urgent or chore.queue not in (LIVE, UPKEEP),
        result_ttl=0,
        failure_ttl=1,
        job_timeout=chore.timeout_s,
        retry=ABANDONED_JOB_RETRY,
        description=chore.job_id,
    )


def drop_foreign_chores(redis: Redis, chores: Iterable[Chore]) -> int:
    """Remove waiting chores whose function this version does not have, or that wait in another queue; return how many.

    An upgrade, or other exchanges, may find them in Redis: they would block the chore of the same id, in a queue that
    no worker may ever serve.
    """
    functions = {chore.function for chore in CHORES}
    target = connect_queue(redis, UPKEEP)
    foreign = [
        job.id for job in target.get_jobs() if job.id.startswith(CHORE_PREFIX) and job.func_name not in functions
    ]
    dropped = sum(cancel_waiting(redis, UPKEEP, job_id) for job_id in foreign)
    for chore in chores:
        origin = redis.hget(Job.key_for(chore.job_id), "origin")
        if origin is not None and (name := str(as_text(origin))) != chore.queue:
            dropped += cancel_waiting(redis, name, chore.job_id)
    return dropped
