"""Reconcile: compare what is wanted with what is covered and queued, and enqueue the rest; every minute."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.client import instruments
from fademoe.clock import DAY_MS, MINUTE_MS, Window, ceil_to, floor_to
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import compute_due_until_ms
from fademoe.jobs.archive_plan import (
    ArchiveState,
    PlannedPeriod,
    enqueue_periods,
    join_periods,
    load_state,
    split_gaps,
)
from fademoe.jobs.archive_target import cut, overlap
from fademoe.jobs.plan import FeedState, Planned, enqueue_planned, plan_gaps, subtract_queued
from fademoe.metrics import name_perpspec
from fademoe.queue.enqueue import drop_imports
from fademoe.queue.enqueue import enqueue_rechecks as queue_rechecks
from fademoe.queue.ids import Task, list_window_queues
from fademoe.queue.states import read_windows_in_queues
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.store import coverage
from fademoe.store.coverage import EXPIRED_REASONS, MISSED_LIVE, NO_ROW, Absence, Covered, Series

log = logging.getLogger(__name__)

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
    """Return what of an exchange is wanted, missing and in no queue: windows for REST, periods of its archive.

    What REST did not serve any more of an ended contract counts as missing, from when on the archive may have it.
    """
    queued = read_windows_in_queues(services.redis, list_window_queues(exchange.name))
    contracts = instruments.load_contracts(exchange, services.database)
    time_ms = services.clocks.now_ms(exchange)
    clip = services.settings.clip_to_kept
    planned: list[Planned] = []
    periods: list[PlannedPeriod] = []
    for code in exchange.codes:
        archive = load_state(services, exchange, code)
        for feed in exchange.rest_feeds:
            state = FeedState(exchange=exchange, feed=feed, now_ms=time_ms, queued=queued, instruments=contracts[code])
            if archive is not None:
                _uncover_unserved(services, archive, state)
            with services.database.open_transaction() as cursor:
                gaps = coverage.find_gaps(cursor, name_perpspec(code, feed.metric), time_ms)
            missing = [(series, part) for series, gap in gaps for part in clip([gap], time_ms)]
            of_files, rest = split_gaps(archive, feed, subtract_queued(missing, queued) if archive else missing)
            periods += of_files
            planned += plan_gaps(state, rest)
    return planned, join_periods(periods)


def _uncover_unserved(services: Services, archive: ArchiveState, state: FeedState) -> None:
    """Make missing again what REST did not serve of contracts that are off the list, where files may have it by now.

    REST says that it has none any more, or answers without rows. Without settlements it may be right.
    """
    feed, clip = state.feed, services.settings.clip_to_kept
    if archive.archive.find_dataset(feed.metric) is None:
        return
    spans = {
        symbol: [span for life, span in archive.list_spans(symbol) if (life.name, life.life) in archive.unlisted]
        for symbol in archive.lives
    }
    source, symbols = name_perpspec(archive.code, feed.metric), sorted(symbol for symbol in spans if spans[symbol])
    reasons = EXPIRED_REASONS if feed.sparse else (*EXPIRED_REASONS, NO_ROW)
    with services.database.open_transaction() as cursor:
        absent = coverage.find_wanted_absent(cursor, source, symbols, reasons)
    parts = [(series, cut(gap, span)) for series, gap in absent for span in spans[series.symbol] if overlap(gap, span)]
    kept = [(series, part) for series, gap in parts for part in clip([gap], state.now_ms)]
    periods, _ = split_gaps(archive, feed, kept)

    def uncover(cursor: Cursor) -> None:
        for item in periods:
            coverage.uncover_absent(cursor, Series(source, item.task.series.symbol), item.task.window, reasons)

    if periods:
        services.database.run(uncover)


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
