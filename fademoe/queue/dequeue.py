"""Which job a worker takes: requested ones first, and none whose rate limit is exhausted."""

import time
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import Any, ClassVar

from redis import Redis
from rq import Queue
from rq.exceptions import DequeueTimeout, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.suspension import is_suspended
from rq.utils import as_text

from fademoe.clock import monotonic_s
from fademoe.feeds import registry
from fademoe.queue.ids import ARCHIVES, LIVE, is_requested, parse_exchange
from fademoe.queue.pauses import list_paused_sources, read_pauses
from fademoe.queue.states import connect_queue

IDLE_POLL_S = 0.15  # poll interval while no job is ready
MAX_DEPTH = 5_000  # ids of a queue that are looked at for one whose rate limit has units
# How long the first request of a window may wait for its rate limit. Opportunistic: use spare units only if they are
# available within 250 ms, because another exchange may have work and units.
OPPORTUNISTIC_WAIT_S = 0.25
PRIORITY_WAIT_S = 2.0  # of live and requested windows


def compute_begin_wait_s(queue: str) -> float:
    """Return how long the first request of a job of a queue may wait for its rate limit."""
    return PRIORITY_WAIT_S if queue == LIVE or is_requested(queue) else OPPORTUNISTIC_WAIT_S


def list_ready_queues(redis: Redis, egress: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the queues that have a job whose rate limit has units at one of the addresses."""
    pauses = read_pauses(redis, egress)
    return [name for name in names if _find(redis, name, pauses, take=False) is not None]


def take_job(redis: Redis, egress: Sequence[str], names: Iterable[str]) -> tuple[str, str] | None:
    """Take the next job, requested ones first, otherwise in the order of `names`; return (queue, job id).

    The job is in the intermediate queue then, until its work horse starts. None when no job is ready.
    """
    pauses = read_pauses(redis, egress)
    for name in sorted(names, key=lambda name: not is_requested(name)):
        job_id = _find(redis, name, pauses, take=True)
        if job_id is not None:
            return name, job_id
    return None


class ReadyQueue(Queue):
    """A queue of rq from which workers take the jobs that are ready; see `make_queue_class`."""

    egress: ClassVar[Sequence[str]]  # names of the addresses from which its worker sends
    on_idle: ClassVar[Callable[[], None]] = lambda: None  # called again and again while no job is ready

    @classmethod
    def dequeue_any(
        cls, queues: Iterable[Queue], timeout: int | None, connection: Redis, **_: Any
    ) -> tuple[Job, Queue] | None:
        """Wait for a ready job of any queue and return it; raise DequeueTimeout after `timeout` seconds.

        Without a timeout return None when no job is ready. While the workers are paused none is taken.
        """
        by_name = {queue.name: queue for queue in queues}
        deadline_s = monotonic_s() + (timeout or 0)
        while True:
            taken = None if is_suspended(connection) else take_job(connection, cls.egress, by_name)
            if taken is not None:
                name, job_id = taken
                try:
                    return Job.fetch(job_id, connection=connection, serializer=JSONSerializer), by_name[name]
                except NoSuchJobError:
                    connection.lrem(by_name[name].intermediate_queue_key, 1, job_id)
            elif timeout is None:
                return None
            elif monotonic_s() >= deadline_s:
                raise DequeueTimeout(timeout, ", ".join(by_name))
            else:
                cls.on_idle()
                time.sleep(IDLE_POLL_S)


def make_queue_class(egress: Sequence[str]) -> type[ReadyQueue]:
    """Return the class of the queues of a worker that sends from these addresses."""
    return type("ReadyQueue", (ReadyQueue,), {"egress": egress})


def _find(redis: Redis, name: str, pauses: dict[tuple[str, str], float], *, take: bool) -> str | None:
    """Return the first ready job of a queue, and take it out if `take`."""
    exchange = parse_exchange(name)
    exchanges = [exchange] if exchange else list(registry.list_names())
    passed_over = (
        [] if name == ARCHIVES or not pauses else list_paused_sources(pauses, exchanges, compute_begin_wait_s(name))
    )
    queue = connect_queue(redis, name)
    keys = [queue.key, queue.intermediate_queue_key]
    job_id = redis.register_script(_TAKE)(keys=keys, args=[int(take), MAX_DEPTH, *passed_over])
    return None if job_id is None else str(as_text(job_id))


_TAKE = resources.files("fademoe.queue").joinpath("take.lua").read_text(encoding="utf-8")
