"""The scheduler: one process that enqueues the upkeep, moves retries that are due and reaps jobs of the dead.

rq's own CronScheduler pickles its jobs and cannot keep one from being queued twice, so the loop is ours; what it
enqueues, promotes and reaps are rq's own jobs and registries.
"""

import logging
import time

from redis.exceptions import RedisError
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from fademoe.clock import SECOND_MS, monotonic_s, now_ms, to_host_s
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.queue.chores import CHORES, Chore, drop_foreign_chores, enqueue_chore, make_hours_chore
from fademoe.queue.ids import ARCHIVES, LIVE, NOTIFY, SHARED_QUEUES, list_exchange_queues
from fademoe.queue.reaper import Reaper
from fademoe.queue.retry import clamp_kept, clamp_retries
from fademoe.runtime.services import Services
from fademoe.store.status import State, Tracked

log = logging.getLogger(__name__)

TICK_S = 1.0  # longest interval of checks
SHORTEST_PAUSE_S = 0.05
REAP_S = 5.0
HEARTBEAT_S = 10.0
POLL_AT_S = 20.0  # of each minute: the streams' rows of the one before are stored then
UNIT = "scheduler"


def run(services: Services) -> None:
    """Schedule until SIGTERM; while Redis or PostgreSQL is away, keep trying."""
    names = (*list_exchange_queues(*registry.list_names()), *SHARED_QUEUES, NOTIFY)
    exchange_chores = [*_poll_chores(services), *_terms_chores(services), *_hours_chores(services)]
    chores = [*CHORES, *exchange_chores, *_archive_chores(services)]
    due = {chore.job_id: 0.0 for chore in chores}
    reaper = Reaper(services.redis, names)
    unit = Tracked(database=services.database, unit=UNIT, interval_s=int(HEARTBEAT_S))
    reap_at = heartbeat_at = 0.0
    log.info("scheduler starts for the queues %s", ", ".join(names))
    pause_s = TICK_S
    while not services.stop.wait(pause_s):
        now = monotonic_s()
        try:
            _promote(services, names)
            if now >= reap_at:
                reap_at = now + REAP_S
                drop_foreign_chores(services.redis, chores)
                _clamp(services, names)
                requeued = reaper.reap()
                if requeued:
                    log.info("%d jobs of dead workers requeued", requeued)
            for chore in chores:
                if now >= due[chore.job_id]:
                    if not enqueue_chore(services.redis, chore):
                        log.debug("%s is queued or running already", chore.job_id)
                    due[chore.job_id] = monotonic_s() + chore.compute_pause_s(now_ms() / SECOND_MS)
            pause_s = min(TICK_S, max(SHORTEST_PAUSE_S, to_host_s(min(due.values()) - monotonic_s())))
        except RedisError as error:
            log.warning("Redis is away: %s", error)
            services.stop.wait(2.0)
        if now >= heartbeat_at:
            heartbeat_at = now + HEARTBEAT_S
            unit.report(State.RUNNING, f"{len(chores)} chores, {len(names)} queues")
    unit.report(State.STOPPED, "stopped")
    log.info("scheduler stopped")


def _poll_chores(services: Services) -> list[Chore]:
    """Return one chore for each feed of current values of the enabled exchanges, those of one request first.

    A feed that waits for its share of a small budget does so in the exchange's own queue, in front of the backfill. The
    newest rows of a metric that a stream brings are few, and others wait for them: they are live work.
    """
    feeds = [
        (exchange, feed) for exchange in registry.select_enabled(services.settings) for feed in exchange.poll_feeds
    ]
    newest = [
        (exchange, feed) for exchange in registry.select_enabled(services.settings) for feed in exchange.rest_feeds
    ]
    return [
        Chore(
            function="fademoe.jobs.polls.poll",
            every_s=feed.every_ms / SECOND_MS,
            arguments=(exchange.name, feed.metric),
            queue=LIVE if feed.share is None else exchange.name,
            timeout_s=feed.every_ms // SECOND_MS + 60,
            at_s=POLL_AT_S,
        )
        for exchange, feed in sorted(feeds, key=lambda pair: pair[1].batch is not None)
    ] + [
        Chore(
            function="fademoe.jobs.newest.poll_newest",
            every_s=60,
            arguments=(exchange.name, feed.metric),
            queue=LIVE if _is_streamed(exchange, feed.metric) else exchange.name,
            timeout_s=120,
            at_s=feed.newest.at_s,
            is_urgent=_is_streamed(exchange, feed.metric),
        )
        for exchange, feed in newest
        if feed.newest
    ]


def _is_streamed(exchange: Exchange, metric: str) -> bool:
    return any(stream.metric == metric for stream in exchange.stream_feeds)


def _terms_chores(services: Services) -> list[Chore]:
    """Return one chore for each enabled exchange that tells terms beside its list of contracts."""
    return [
        Chore(
            function="fademoe.jobs.terms.refresh_terms",
            every_s=3600,
            arguments=(exchange.name,),
            queue=exchange.name,
        )
        for exchange in registry.select_enabled(services.settings)
        if exchange.terms_feeds
    ]


def _archive_chores(services: Services) -> list[Chore]:
    """Return one chore for each archive that may be used and has a listing: lives that only it knows."""
    return [
        Chore(
            function="fademoe.jobs.dead.find_dead",
            every_s=86_400,
            arguments=(name,),
            queue=ARCHIVES,
            timeout_s=3 * 3600,
        )
        for name, archive in registry.select_archives(services.settings).items()
        if archive.list_url and name in {exchange.name for exchange in registry.select_enabled(services.settings)}
    ]


def _hours_chores(services: Services) -> list[Chore]:
    """Return the chore that makes hours, in the queue of the first enabled exchange: any worker serves it."""
    return [make_hours_chore(exchange.name) for exchange in registry.select_enabled(services.settings)[:1]]


def _clamp(services: Services, names: tuple[str, ...]) -> None:
    """Bring forward retries that the clock of a host would hold back; rq goes by the host's clock."""
    clamped = sum(clamp_retries(services.redis, name, time.time()) for name in names)
    if clamped:
        log.warning("%d retries were due too late: a clock was set, or is ahead of this host's", clamped)
    kept = sum(clamp_kept(services.redis, name, time.time()) for name in names)
    if kept:
        log.warning("%d jobs that have ended were kept for too long: a clock was ahead of this host's", kept)


def _promote(services: Services, names: tuple[str, ...]) -> None:
    """Move jobs whose retry is due from the scheduled registry into their queue."""
    mover = RQScheduler(list(names), connection=services.redis, serializer=JSONSerializer)
    mover.prepare_registries(names)
    mover.enqueue_scheduled_jobs()
