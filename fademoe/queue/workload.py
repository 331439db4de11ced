"""How many jobs wait, run and have failed, and whether a worker runs: reads only."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from redis import Redis
from rq.utils import as_text, str_to_date
from rq.worker import Worker

from fademoe.clock import SECOND_MS, now_ms
from fademoe.queue.states import connect_queue

# rq: a busy worker sends heartbeats every 30 s, an idle one every 405 s; its key expires 60 s after a missed one.
BUSY_STALE_S = 90
IDLE_STALE_S = 480
OTHERS = ("notify.", "research.")  # names of workers that fetch nothing


class Workload(NamedTuple):
    """The jobs of some queues: which have any that wait or run, and how many failed; whether a worker is alive."""

    busy: frozenset[str]
    failed: int
    has_worker: bool


def read_workload(redis: Redis, names: Iterable[str]) -> Workload:
    """Return the workload of queues; raise RedisError without Redis."""
    names = list(names)
    with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            queue = connect_queue(redis, name)
            pipeline.llen(queue.key)
            pipeline.zcard(queue.started_job_registry.key)
            pipeline.zcard(queue.scheduled_job_registry.key)
            pipeline.zcard(queue.failed_job_registry.key)
        counts = pipeline.execute()
    of_queue = {name: counts[4 * number : 4 * number + 4] for number, name in enumerate(names)}
    return Workload(
        busy=frozenset(name for name, values in of_queue.items() if any(values[:3])),
        failed=sum(values[3] for values in of_queue.values()),
        has_worker=_has_worker(redis),
    )


def is_stale(state: str, heartbeat_ms: int | None) -> bool:
    """Return whether a worker in a state has been silent for too long."""
    silent_ms = now_ms() - (heartbeat_ms or 0)
    return silent_ms > (BUSY_STALE_S if state == "busy" else IDLE_STALE_S) * SECOND_MS


def collects_data(worker: str) -> bool:
    """Return whether a worker, by its name or key, works for the collection of data."""
    return not worker.rpartition(":")[2].startswith(OTHERS)


def has_research_worker(redis: Redis) -> bool:
    """Return whether a worker of backtests and sweeps is alive; raise RedisError without Redis."""
    return _has_worker(redis, lambda worker: worker.rpartition(":")[2].startswith("research."))


def _has_worker(redis: Redis, is_meant: Callable[[str], bool] = collects_data) -> bool:
    keys = [key for key in redis.smembers(Worker.redis_workers_keys) if is_meant(str(as_text(key)))]
    with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hmget(key, "state", "last_heartbeat")
        rows = pipeline.execute()
    for state, heartbeat in rows:
        if heartbeat:
            heartbeat_ms = int(str_to_date(heartbeat).timestamp() * SECOND_MS)
            if not is_stale(str(as_text(state or b"")), heartbeat_ms):
                return True
    return False
