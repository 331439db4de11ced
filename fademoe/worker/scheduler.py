"""The scheduler: one process that enqueues the upkeep, moves retries that are due and reaps jobs of the dead.

rq's own CronScheduler pickles its jobs and cannot keep one from being queued twice, so the loop is ours; what it
enqueues, promotes and reaps are rq's own jobs and registries.
"""

import logging
from dataclasses import dataclass

from redis.exceptions import RedisError
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from fademoe.clock import SECOND_MS, monotonic_s, now_ms
from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.queue import jobs as queues
from fademoe.queue.jobs import LIVE, UPKEEP
from fademoe.runtime.context import Context
from fademoe.store import status
from fademoe.store.status import Report, State

log = logging.getLogger(__name__)

TICK_S = 1.0
REAP_S = 5.0
HEARTBEAT_S = 10.0
POLL_AT_S = 20.0  # of each minute: the streams' rows of the one before are stored then
RECONCILE_AT_S = 30.0  # and the polls' too: what is missing of the minute before that one will not come by itself
UNIT = "scheduler"


@dataclass(frozen=True, kw_only=True)
class Chore:
    """A function that runs every `every_s` seconds, and once at the start; `at_s`: at that second of the period."""

    function: str
    every_s: float
    arguments: tuple[str, ...] = ()
    queue: str = UPKEEP
    timeout_s: int = 300
    at_s: float | None = None

    @property
    def job_id(self) -> str:
        """Name of the job; letters, digits, _ and - only."""
        return "-".join(("chore", self.function.rpartition(".")[2], *self.arguments))

    def pause_s(self, now_s: float) -> float:
        """Return the seconds from `now_s`, by the host's clock, until it is due again."""
        return self.every_s - (0.0 if self.at_s is None else (now_s - self.at_s) % self.every_s)


CHORES = (
    Chore(function="fademoe.jobs.maintenance.refresh_instruments", every_s=3600),
    Chore(function="fademoe.jobs.maintenance.keep_house", every_s=3600),
    Chore(function="fademoe.jobs.maintenance.reconcile", every_s=60, at_s=RECONCILE_AT_S),
    Chore(function="fademoe.jobs.audit.nightly", every_s=3600),
)


def run(context: Context) -> None:
    """Schedule until SIGTERM; while Redis or PostgreSQL is away, keep trying."""
    names = (*registry.names(), LIVE, UPKEEP)
    chores = [*CHORES, *_polls(context)]
    due = {chore.job_id: 0.0 for chore in chores}
    reaper = queues.Reaper(context.redis, names)
    reap_at = heartbeat_at = 0.0
    log.info("scheduler starts for the queues %s", ", ".join(names))
    while not context.stop.wait(TICK_S):
        now = monotonic_s()
        try:
            _promote(context, names)
            if now >= reap_at:
                reap_at = now + REAP_S
                touched = reaper.reap()
                if touched:
                    log.info("%d jobs of dead workers given back", touched)
            for chore in chores:
                if now >= due[chore.job_id]:
                    due[chore.job_id] = now + chore.pause_s(now_ms() / SECOND_MS)
                    _enqueue(context, chore)
        except RedisError as error:
            log.warning("Redis is away: %s", error)
            context.stop.wait(2.0)
        if now >= heartbeat_at:
            heartbeat_at = now + HEARTBEAT_S
            _say(context, State.RUNNING, f"{len(chores)} chores, {len(names)} queues")
    _say(context, State.STOPPED, "stopped")
    log.info("scheduler stopped")


def _polls(context: Context) -> list[Chore]:
    """Return one chore for each feed of current values of the enabled exchanges, those of one request first.

    A feed that waits for its share of a small budget does so in the exchange's own queue, in front of the backfill.
    """
    feeds = [(exchange, feed) for exchange in registry.enabled(context.settings) for feed in exchange.poll_feeds]
    return [
        Chore(
            function="fademoe.jobs.polls.poll",
            every_s=feed.every_ms / SECOND_MS,
            arguments=(exchange.name, feed.metric),
            queue=LIVE if feed.share is None else exchange.name,
            timeout_s=feed.every_ms // SECOND_MS + 60,
            at_s=POLL_AT_S,
        )
        for exchange, feed in sorted(feeds, key=lambda found: found[1].batch is not None)
    ]


def _promote(context: Context, names: tuple[str, ...]) -> None:
    """Move jobs whose retry is due from the scheduled registry into their queue."""
    mover = RQScheduler(list(names), connection=context.redis, serializer=JSONSerializer)
    mover.prepare_registries(names)
    mover.enqueue_scheduled_jobs()


def _enqueue(context: Context, chore: Chore) -> None:
    """Enqueue a chore unless it waits or runs already."""
    new = queues.put(
        context.redis,
        chore.queue,
        chore.job_id,
        chore.function,
        chore.arguments,
        at_front=chore.queue not in (LIVE, UPKEEP),
        result_ttl=0,
        failure_ttl=1,
        job_timeout=chore.timeout_s,
        description=chore.job_id,
    )
    if not new:
        log.debug("%s is still under way", chore.job_id)


def _say(context: Context, state: State, message: str) -> None:
    try:
        status.report(context.database, Report(unit=UNIT, state=state, message=message, interval_s=int(HEARTBEAT_S)))
    except StoreError as error:
        log.warning("the scheduler's status could not be stored: %s", error)
