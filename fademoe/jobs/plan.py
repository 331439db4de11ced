"""Turns what is missing into windows to fetch: never the open bar, newest first, no wider than a job should be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis import Redis

from fademoe.clock import DAY_MS, HOUR_MS, Window, floor_to, subtract
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument, clip_to_listing
from fademoe.feeds.paging import Effort, compute_closed_until_ms, group_windows, measure
from fademoe.queue.enqueue import enqueue_windows, promote
from fademoe.queue.ids import LIVE, Task, get_requested_queue, list_window_queues
from fademoe.queue.states import read_windows_in_queues
from fademoe.store.coverage import Series

LIVE_MS = 3 * HOUR_MS  # a gap this young goes to the live queue: a stream missed it

Gap = tuple[Series, Window]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A window to fetch, and what it takes at most."""

    task: Task
    feed: RestFeed
    queue: str
    is_young: bool  # what keeps up with the present goes before the past
    effort: Effort
    window_ttl_ms: int | None  # until the exchange drops its oldest row; None: never
    series_ttl_ms: int | None  # the same of the oldest row that its series misses


@dataclass(frozen=True, kw_only=True)
class FeedState:
    """What planning the gaps of one feed depends on.

    `now_ms` is the exchange's time. `queued`: the windows of each series that are in the queues. `instruments`: the
    contracts by symbol; empty when the exchange's list is not known, then everything is planned: the jobs will look.
    """

    exchange: Exchange
    feed: RestFeed
    now_ms: int
    queued: Mapping[Series, Sequence[Window]]
    instruments: Mapping[str, Instrument]


def plan_gaps(state: FeedState, gaps: Iterable[Gap], *, with_live_edge: bool = False) -> list[Planned]:
    """Return the windows that close gaps of a feed and are in no queue.

    Rows that have not closed are left out, contracts that the exchange does not list or serve too, and gaps at the live
    edge (see `select_due_gaps`) unless `with_live_edge`.
    """
    until_ms = compute_closed_until_ms(state.feed, state.now_ms)
    closed = [(series, Window(gap.start_ms, min(gap.end_ms, until_ms))) for series, gap in gaps]
    unqueued = subtract_queued([(series, gap) for series, gap in closed if gap.start_ms < gap.end_ms], state.queued)
    if not with_live_edge:
        unqueued = select_due_gaps(state.feed, unqueued, until_ms)
    oldest_ms = {series: gap.start_ms for series, gap in sorted(closed, reverse=True)}
    by_series: dict[Series, list[Window]] = {}
    for series, gap in sorted(unqueued):
        by_series.setdefault(series, []).append(gap)
    return [
        _plan_window(state, Task(series, window), oldest_ms[series])
        for series, of_series in by_series.items()
        if _is_served(state, series.symbol)
        for window in group_windows(state.feed, of_series)
    ]


def select_due_gaps(feed: RestFeed, gaps: Iterable[Gap], until_ms: int) -> list[Gap]:
    """Drop gaps at the live edge that a stream will fill or that are cheaper to batch.

    `until_ms`: the end of the newest closed row. Where a feed coalesces its gaps, all gaps of a series wait until one
    of them is due.
    """
    gaps = list(gaps)
    due = [
        (series, gap)
        for series, gap in gaps
        if gap.end_ms < until_ms - feed.paging.coalesce_ms or gap.end_ms - gap.start_ms > feed.latency.live_edge_ms
    ]
    with_due = {series for series, _ in due}
    return [(series, gap) for series, gap in gaps if series in with_due] if feed.paging.coalesce_ms else due


def subtract_queued(gaps: Iterable[Gap], queued: Mapping[Series, Sequence[Window]]) -> list[Gap]:
    """Return what of gaps is in no queue."""
    return [(series, part) for series, gap in gaps for part in subtract(gap, queued.get(series, ()))]


def _is_served(state: FeedState, symbol: str) -> bool:
    instrument = state.instruments.get(symbol)
    return not state.instruments or (instrument is not None and state.feed.serves(instrument))


def _plan_window(state: FeedState, task: Task, oldest_ms: int) -> Planned:
    """Plan one window; `oldest_ms`: the oldest moment that its series misses."""
    feed, window, now_ms = state.feed, task.window, state.now_ms
    is_streamed = any(stream.metric == feed.metric for stream in state.exchange.stream_feeds)
    is_young = window.start_ms >= now_ms - LIVE_MS
    certain_ms = feed.retention.certain_ms
    return Planned(
        task=task,
        feed=feed,
        queue=LIVE if is_young and is_streamed else state.exchange.name,
        is_young=is_young,
        effort=measure(feed, [clip_to_available(feed, window, state.instruments.get(task.series.symbol), now_ms)]),
        window_ttl_ms=None if certain_ms is None else window.start_ms + certain_ms - now_ms,
        series_ttl_ms=None if certain_ms is None else oldest_ms + certain_ms - now_ms,
    )


def clip_to_available(feed: RestFeed, window: Window, instrument: Instrument | None, now_ms: int) -> Window:
    """Return the part of a window that will be requested: within the contract's life and the retention."""
    active = clip_to_listing(instrument, window) if instrument else window
    requested_ms = feed.retention.requested_ms
    retained_ms = floor_to(now_ms - requested_ms, feed.interval_ms) if requested_ms is not None else 0
    return Window(max(window.start_ms, floor_to(active.start_ms, DAY_MS), retained_ms), active.end_ms)


def sort_by_priority(planned: Iterable[Planned]) -> list[Planned]:
    """Return windows in the order in which they are to be fetched.

    First what is hours old at most. Then what the exchange drops within a day, the soonest first. Then data with
    limited upstream retention, shortest remaining retention first. Then the rest. Newest first within each, symbol
    after symbol.
    """
    return sorted(planned, key=_priority)


def _priority(item: Planned) -> tuple[int, int, int, Series]:
    newest_first, series = -item.task.window.start_ms, item.task.series
    if item.is_young:
        return 0, 0, newest_first, series
    if item.window_ttl_ms is None or item.series_ttl_ms is None:
        return 3, 0, newest_first, series
    if item.window_ttl_ms < DAY_MS:
        return 1, item.window_ttl_ms, newest_first, series
    return 2, floor_to(item.series_ttl_ms, DAY_MS), newest_first, series


def enqueue_planned(redis: Redis, planned: Sequence[Planned]) -> int:
    """Enqueue planned windows in their order, urgent ones in front of all that wait; return how many were new."""
    new = 0
    for item in reversed(sort_by_priority(item for item in planned if _is_urgent(item))):
        new += enqueue_windows(redis, item.queue, [item.task], at_front=True)
    for item in sort_by_priority(item for item in planned if not _is_urgent(item)):
        new += enqueue_windows(redis, item.queue, [item.task])
    return new


def enqueue_requested(redis: Redis, exchange: Exchange, planned: Sequence[Planned]) -> int:
    """Enqueue windows that a person asked for, in front of what was requested before; return how many were new."""
    queue = get_requested_queue(exchange.name)
    return sum(
        enqueue_windows(redis, queue, [item.task], at_front=True) for item in reversed(sort_by_priority(planned))
    )


def promote_windows(redis: Redis, exchange: Exchange, requested: Mapping[Series, Window]) -> int:
    """Move the waiting windows that overlap requested ones to the requested queue; return how many."""
    names = list_window_queues(exchange.name)
    tasks = [
        Task(series, window)
        for series, windows in read_windows_in_queues(redis, names).items()
        if series in requested
        for window in windows
        if window.start_ms < requested[series].end_ms and window.end_ms > requested[series].start_ms
    ]
    oldest_first = sorted(tasks, key=lambda task: task.window)
    return promote(redis, names, [task.job_id for task in oldest_first], get_requested_queue(exchange.name))


def _is_urgent(item: Planned) -> bool:
    """Return whether upstream drops a window some day, or it keeps up with the present in a queue of old ones."""
    return item.series_ttl_ms is not None or (item.is_young and item.queue != LIVE)
