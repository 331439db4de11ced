"""What the system does for itself: enqueue what is missing, refresh the exchanges' lists, make partitions, clean up."""

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts import records
from fademoe.backtest.chunks import remove_ended
from fademoe.client import instruments
from fademoe.clock import DAY_MS, MINUTE_MS, Window, ceil_to, floor_to, now_ms, to_iso
from fademoe.errors import BudgetSpent, RetryLater, SourceError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import compute_due_until_ms
from fademoe.jobs.archive_plan import PlannedPeriod, enqueue_periods, join_periods, load_state, split_gaps
from fademoe.jobs.plan import FeedState, Planned, enqueue_planned, plan_gaps, subtract_queued
from fademoe.metrics import name_perpspec
from fademoe.queue.enqueue import drop_imports
from fademoe.queue.enqueue import enqueue_rechecks as queue_rechecks
from fademoe.queue.ids import Task, list_window_queues
from fademoe.queue.states import read_windows_in_queues
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.store import arrivals, coverage, files, hours, status
from fademoe.store.connection import MAINTENANCE_LOCK_TIMEOUT_S
from fademoe.store.coverage import MISSED_LIVE, Absence, Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.status import State

log = logging.getLogger(__name__)

PARTITIONS_AHEAD_MS = 40 * DAY_MS
INSTRUMENTS_INTERVAL_S = 3600
MAINTENANCE_INTERVAL_S = 3600
MAX_CLOCKS_APART_MS = DAY_MS + MINUTE_MS  # a day, and what measuring takes
MAX_RECHECKS = 200  # of one perpspec in a reconcile run
HELD_BACK_MS = 10 * MINUTE_MS  # a stream may store a due row so much later, after PostgreSQL was away


@wrap_job
def reconcile(context: JobContext) -> dict[str, int]:
    """Enqueue what is missing, as a job; see `enqueue_missing`."""
    return enqueue_missing(context.services)


def enqueue_missing(services: Services) -> dict[str, int]:
    """Enqueue every window that is wanted, missing and in no queue; return how many per exchange.

    The system's self-repair: after a lost Redis, a killed worker or a broken stream it re-enqueues the work. Two of
    them at once do no harm: a window's id can be queued once.
    """
    counts = {}
    dropped = drop_imports(services.redis, registry.select_archives(services.settings))
    if dropped:
        log.info("reconcile: %d jobs of archives that are not allowed any more removed", dropped)
    for exchange in registry.select_enabled(services.settings):
        with services.stop.allow_interrupt():
            services.clocks.estimate_now_ms(exchange)  # asked once: what follows is judged by it
        want_followed(services, exchange)
        planned, periods = plan_missing(services, exchange)
        counts[exchange.name] = enqueue_planned(services.redis, planned) + enqueue_periods(services, periods)
        if counts[exchange.name]:
            log.info("reconcile: %d windows of %s enqueued", counts[exchange.name], exchange.name)
        mark_unrecoverable(services, exchange)
        follow_listings(services, exchange)
        enqueue_rechecks(services, exchange)
    return counts


def follow_listings(services: Services, exchange: Exchange) -> None:
    """Want a delisted contract's series until a day after its end, and again from a new listing on."""
    for code, contracts in instruments.load_contracts(exchange, services.database).items():
        ends_before_ms = services.clocks.now_ms(exchange) - DAY_MS
        series = {
            Series(name_perpspec(code, metric), symbol): contract
            for symbol, contract in contracts.items()
            for metric in exchange.list_metrics()
        }
        services.database.run(partial(_follow_lives, series, ends_before_ms))


def _follow_lives(contracts: Mapping[Series, Instrument], ends_before_ms: int, cursor: Cursor) -> None:
    for series, contract in contracts.items():
        if contract.delisted_ms is None:
            coverage.resume_wanted(cursor, series, floor_to(contract.listed_ms or 0, MINUTE_MS))
        elif contract.delisted_ms <= ends_before_ms:
            coverage.end_wanted(cursor, series, ceil_to(contract.delisted_ms, DAY_MS) + DAY_MS)


def enqueue_rechecks(services: Services, exchange: Exchange) -> int:
    """Enqueue the windows whose absences without proof are to be requested again; return how many."""
    new = 0
    for code in exchange.codes:
        for feed in exchange.rest_feeds:
            with services.database.open_transaction() as cursor:
                windows = coverage.list_rechecks(
                    cursor, name_perpspec(code, feed.metric), feed.paging.window_ms, MAX_RECHECKS
                )
            new += queue_rechecks(services.redis, exchange.name, itertools.starmap(Task, windows))
    return new


def want_followed(services: Services, exchange: Exchange) -> None:
    """Declare what followed contracts want, from now or from their listing on, of metrics that come as history only.

    Streams and polls declare it for their own. An exchange without streams is not followed live.
    """
    live = {stream.metric for stream in exchange.stream_feeds} | {feed.metric for feed in exchange.poll_feeds}
    history_only = [feed for feed in exchange.rest_feeds if exchange.sockets and feed.metric not in live]
    stored, time_ms = instruments.load_contracts(exchange, services.database), services.clocks.now_ms(exchange)
    followed = instruments.select_followed(stored, services.settings.symbols, time_ms)
    for feed in history_only:
        starts = instruments.group_by_start(filter(feed.serves, followed), time_ms)
        services.database.run(partial(_want_from, feed, starts))


def _want_from(feed: RestFeed, starts: Mapping[int, Sequence[Instrument]], cursor: Cursor) -> None:
    for start_ms, contracts in starts.items():
        series = [Series(name_perpspec(each.code, feed.metric), each.symbol) for each in contracts]
        coverage.want(cursor, series, floor_to(start_ms, feed.interval_ms), None)


def plan_missing(services: Services, exchange: Exchange) -> tuple[list[Planned], list[PlannedPeriod]]:
    """Return what of an exchange is wanted, missing and in no queue: windows for REST, periods of its archive."""
    queued = read_windows_in_queues(services.redis, list_window_queues(exchange.name))
    contracts = instruments.load_contracts(exchange, services.database)
    time_ms = services.clocks.now_ms(exchange)
    clip = services.settings.clip_to_kept
    planned: list[Planned] = []
    periods: list[PlannedPeriod] = []
    for code in exchange.codes:
        archive = load_state(services, exchange, code)
        for feed in exchange.rest_feeds:
            with services.database.open_transaction() as cursor:
                gaps = coverage.find_gaps(cursor, name_perpspec(code, feed.metric), time_ms)
            state = FeedState(exchange=exchange, feed=feed, now_ms=time_ms, queued=queued, instruments=contracts[code])
            missing = [(series, part) for series, gap in gaps for part in clip([gap], time_ms)]
            of_files, rest = split_gaps(archive, feed, subtract_queued(missing, queued) if archive else missing)
            periods += of_files
            planned += plan_gaps(state, rest)
    return planned, join_periods(periods)


def mark_unrecoverable(services: Services, exchange: Exchange) -> None:
    """Enter as absent what a stream or a poll missed of a metric without history: it cannot be fetched any more."""
    time_ms = services.clocks.now_ms(exchange)
    for code in exchange.codes:
        for metric in exchange.list_metrics():
            if exchange.find_rest_feed(metric) is not None:
                continue
            until_ms = compute_due_until_ms(exchange, metric, time_ms) - HELD_BACK_MS
            missed: dict[Series, list[Window]] = {}
            with services.database.open_transaction() as cursor:
                for series, gap in coverage.find_gaps(cursor, name_perpspec(code, metric), until_ms):
                    missed.setdefault(series, []).append(gap)
            answers = [
                Covered(series, gaps, [Absence(gap, MISSED_LIVE) for gap in gaps]) for series, gaps in missed.items()
            ]
            if answers:
                services.writer.write([], answers)
                log.info("%s-%s: what was missed of %d series cannot be fetched", code, metric, len(answers))


@wrap_job
def refresh_instruments(context: JobContext) -> dict[str, int]:
    """Fetch every exchange's list of contracts; an exchange that cannot be reached keeps its old one."""
    return _refresh(context.services, registry.select_enabled(context.services.settings))


@wrap_job
def refresh_changing_instruments(context: JobContext) -> dict[str, int]:
    """Fetch the lists of contracts that are about to change: a listing is near, or a contract has vanished."""
    services = context.services
    changing = [
        exchange
        for exchange in registry.select_enabled(services.settings)
        if instruments.is_changing(
            exchange, services.database, services.clocks.now_ms(exchange), _read_announced(services, exchange)
        )
    ]
    return _refresh(services, changing)


def _refresh(services: Services, exchanges: Sequence[Exchange]) -> dict[str, int]:
    counts = {}
    for exchange in exchanges:
        unit = f"instruments {exchange.name}"
        with status.track(services.database, unit, interval_s=INSTRUMENTS_INTERVAL_S) as tracked:
            try:
                with services.stop.allow_interrupt():
                    refreshed = instruments.refresh(exchange, services.rest, services.database)
            except SourceError as error:
                if not isinstance(error, BudgetSpent):
                    tracked.record(error)
                tracked.report(State.WAITING if isinstance(error, RetryLater) else State.ERROR, str(error))
            else:
                counts[exchange.name] = refreshed.listed
                announced = json.dumps(list(refreshed.announced_ms))
                services.redis.set(_announced_key(exchange), announced, ex=2 * INSTRUMENTS_INTERVAL_S)
                tracked.report(State.ERROR if refreshed.is_partial else State.DONE, refreshed.message)
    return counts


def _read_announced(services: Services, exchange: Exchange) -> list[int]:
    """Return when contracts will be listed that the newest list had without their details."""
    return list(json.loads(services.redis.get(_announced_key(exchange)) or "[]"))


def _announced_key(exchange: Exchange) -> str:
    return f"instruments:{exchange.name}:announced"


@wrap_job
def run_maintenance(context: JobContext) -> None:
    """Make the partitions of the coming month, drop what retention lets go, delete old errors and history."""
    services = context.services
    with status.track(services.database, "maintenance", interval_s=MAINTENANCE_INTERVAL_S) as tracked:
        Partitions(services.database).ensure(Window(now_ms(), now_ms() + PARTITIONS_AHEAD_MS))
        status.forget_old(services.database)
        records.forget_old(services.database, now_ms())
        services.archive_client.sweep()
        remove_ended(services.database, services.settings.home)
        refusal = "" if services.settings.retention_days is None else drop_expired(services)
        tracked.report(State.ERROR if refusal else State.DONE, refusal or "partitions are made, old data are dropped")


def drop_expired(services: Services) -> str:
    """Drop the rows that FADEMOE_RETENTION_DAYS lets go; return why nothing was dropped, "" when it was done.

    The earliest of the host's and the exchanges' clocks counts, so that a clock that is ahead deletes nothing too soon.
    While they differ by more than MAX_CLOCKS_APART_MS, or no exchange tells its time, nothing is dropped. Rows are
    dropped after nothing claims them any more, so a run that ends in between, as at a month that is read for long,
    leaves no range that is covered without its rows.
    """
    for exchange in registry.select_enabled(services.settings):
        with services.stop.allow_interrupt():
            services.clocks.estimate_now_ms(exchange)
    times = services.clocks.list_known_ms()
    if not times:
        return "retention waits: no exchange tells its time"
    earliest_ms, latest_ms = min(now_ms(), times[0]), max(now_ms(), times[-1])
    if latest_ms - earliest_ms > MAX_CLOCKS_APART_MS:
        return (
            f"retention waits: the clocks of this host ({to_iso(now_ms())}) and of the exchanges"
            f" ({to_iso(times[0])} to {to_iso(times[-1])}) differ by more than a day"
        )
    edge_ms = services.settings.compute_kept_from_ms(earliest_ms)
    if edge_ms is not None:
        partitions = Partitions(services.database)
        _forget_before(services, edge_ms, partitions.find_kept_from_ms(edge_ms))
        _forget_before(services, edge_ms, partitions.drop_before(edge_ms))  # what a job stored meanwhile
    return ""


def _forget_before(services: Services, wanted_from_ms: int, kept_from_ms: int) -> None:
    """Want nothing older than `wanted_from_ms`, and claim nothing of rows before `kept_from_ms`."""

    def forget(cursor: Cursor) -> None:
        arrivals.forget_before(cursor, kept_from_ms)
        coverage.forget_before(cursor, wanted_from_ms, kept_from_ms)
        files.forget_before(cursor, kept_from_ms)
        hours.forget_before(cursor, kept_from_ms)

    services.database.run(forget, lock_timeout_s=MAINTENANCE_LOCK_TIMEOUT_S)
