"""The queues and workers as rq knows them, and the budgets of the exchanges: read from Redis, nothing is changed."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import NamedTuple

import redis
from redis.client import Pipeline
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.suspension import is_suspended
from rq.utils import as_text, str_to_date

from fademoe.clock import SECOND_MS, now_ms
from fademoe.errors import StoreError
from fademoe.settings import mask_url

SHARED_QUEUES = ("live", "upkeep")
# rq: a worker at work sends heartbeats every 30 s, an idle one every 405 s; its key expires 60 s after it is due.
BUSY_STALE_S = 90
IDLE_STALE_S = 480
BUDGET_KEYS = "budget:line2:*"  # hashes, each beside a sorted set held:line2:* (fademoe/limits/take.lua)
BUDGET_SCAN = 1_000


class QueueState(NamedTuple):
    """Counts of one queue; `oldest_ms` is when the job at its head was queued."""

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
        """Jobs that come back to the queue by themselves: at their time, or after another job."""
        return self.scheduled + self.deferred

    @property
    def depth(self) -> int:
        """Jobs that are still to be done."""
        return self.queued + self.started + self.later

    @property
    def waits_ms(self) -> int:
        """How long the job at the head has waited."""
        return max(0, now_ms() - self.oldest_ms) if self.oldest_ms else 0


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """One rq worker and what it does."""

    name: str
    state: str
    stale: bool
    queues: list[str] = field(default_factory=list)
    job: str | None = None
    heartbeat_ms: int | None = None
    since_ms: int | None = None
    pid: int | None = None
    host: str | None = None
    done: int = 0
    failed: int = 0
    working_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BudgetUse:
    """One rate limit of an exchange for one egress address.

    `used` is our own count of the running window of the clock, or of the last `period_ms` where the exchange counts so;
    `server_used` is the exchange's. `closed_until_ms` lies in the future while nobody may ask.
    """

    exchange: str
    name: str
    egress: str
    limit: int | None
    period_ms: int | None
    used: int
    server_used: int | None
    closed_until_ms: int | None
    closed_why: str | None
    waits_ms: int  # until all who stand in line have sent: how full it is, as time


class _SeenWorker(Worker):
    """A worker as others see it; unlike rq's own, reading it does not lengthen the timeout of the connection."""

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        return connection


@contextmanager
def redis_errors(connection: redis.Redis) -> Iterator[None]:
    """Turn the errors of Redis into StoreError with its address."""
    try:
        yield
    except redis.RedisError as error:
        raise StoreError(f"Redis at {_address(connection)}: {error}") from error


def queues(connection: redis.Redis, expected: Iterable[str]) -> list[QueueState]:
    """Return the state of the expected queues and of all others that rq knows, by name."""
    with redis_errors(connection):
        known = {queue.name for queue in Queue.all(connection=connection, serializer=JSONSerializer)}
        names = sorted(known | set(expected))
        with connection.pipeline(transaction=False) as pipeline:
            for name in names:
                _ask_queue(pipeline, Queue(name, connection=connection, serializer=JSONSerializer))
            found = pipeline.execute()
            each = len(found) // max(1, len(names))
            states = [(name, *found[number * each : (number + 1) * each]) for number, name in enumerate(names)]
            for _, _, head, *_ in states:
                pipeline.hget(Job.key_for(as_text(head[0]) if head else ""), "enqueued_at")
            queued_at = pipeline.execute()
    return [
        QueueState._make([name, queued, *counts, _ms(str_to_date(at)) if at else None])
        for (name, queued, _, *counts), at in zip(states, queued_at, strict=True)
    ]


def workers(connection: redis.Redis) -> list[WorkerState]:
    """Return every worker that rq knows, by name."""
    with redis_errors(connection):
        found = _SeenWorker.all(connection=connection, serializer=JSONSerializer)
        return sorted(map(_worker_state, found), key=lambda worker: worker.name)


def is_paused(connection: redis.Redis) -> bool:
    """Return whether all workers are told to take no job."""
    with redis_errors(connection):
        return bool(is_suspended(connection))


def budgets(connection: redis.Redis) -> list[BudgetUse]:
    """Return the budgets that somebody has used, by exchange, name and egress."""
    with redis_errors(connection):
        keys = sorted(connection.scan_iter(BUDGET_KEYS, count=BUDGET_SCAN))
        with connection.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
                pipeline.zcount(key.replace(b"budget:", b"held:", 1), now_ms(), "+inf")
            found = pipeline.execute()
    now = now_ms()
    read = zip(keys, found[::2], found[1::2], strict=True)
    return [_budget(key.decode(), values, held, now) for key, values, held in read]


def as_dict(state: QueueState | WorkerState | BudgetUse) -> dict[str, object]:
    """Return a state as members of a JSON object."""
    return state._asdict() if isinstance(state, QueueState) else asdict(state)


def _ask_queue(pipeline: Pipeline, queue: Queue) -> None:
    """Ask for a queue's length, its head, and its registries in the order of QueueState."""
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


def _worker_state(worker: Worker) -> WorkerState:
    heartbeat_ms, state = _ms(worker.last_heartbeat), str(worker.get_state())
    silent_ms = now_ms() - (heartbeat_ms or 0)
    return WorkerState(
        name=worker.name,
        state=state,
        stale=silent_ms > (BUSY_STALE_S if state == "busy" else IDLE_STALE_S) * SECOND_MS,
        queues=[queue.name for queue in worker.queues],
        job=worker.get_current_job_id(),
        heartbeat_ms=heartbeat_ms,
        since_ms=_ms(worker.birth_date),
        pid=worker.pid,
        host=worker.hostname,
        done=worker.successful_job_count,
        failed=worker.failed_job_count,
        working_s=round(worker.total_working_time, 1),
    )


def _budget(key: str, values: dict[bytes, bytes], held: int, now: int) -> BudgetUse:
    """Read one hash, beside the units held; a count of a period that is over counts as nothing used."""
    exchange, name, egress = (*key.split(":", 4)[2:], "", "", "")[:3]
    period_ms = _whole(values.get(b"period_ms"))
    window = None if period_ms is None else now // period_ms
    is_servers = _whole(values.get(b"server_window")) in (None, window)
    closed_until_ms = _whole(values.get(b"closed_until"))
    is_closed = closed_until_ms is not None and closed_until_ms > now
    return BudgetUse(
        exchange=exchange,
        name=name,
        egress=egress,
        limit=_whole(values.get(b"limit")),
        period_ms=period_ms,
        used=_used(values, window) if b"window" in values else held,
        server_used=_whole(values.get(b"server_used")) if is_servers else None,
        closed_until_ms=closed_until_ms if is_closed else None,
        closed_why=values.get(b"closed_why", b"").decode(errors="replace") if is_closed else None,
        waits_ms=max(0, (_whole(values.get(b"tat")) or now) - now),
    )


def _used(values: dict[bytes, bytes], window: int | None) -> int:
    """Return the count of an aligned window; shortly before the next one begins, that one is the newest."""
    newest = _whole(values.get(b"window"))
    if newest is None or window is None or not newest - 1 <= window <= newest:
        return 0
    return _whole(values.get(b"used" if window == newest else b"used_before")) or 0


def _whole(value: bytes | None) -> int | None:
    try:
        return None if value is None else int(float(value))
    except ValueError:
        return None


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * SECOND_MS)


def _address(connection: redis.Redis) -> str:
    given = connection.connection_pool.connection_kwargs
    if "path" in given:
        return f"unix://{given['path']}"
    return mask_url(f"redis://{given.get('host')}:{given.get('port')}/{given.get('db') or 0}")
