"""Turns what is missing into windows to fetch: never the open bar, newest first, no wider than a job should be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis import Redis

from fademoe.clock import DAY_MS, HOUR_MS, Window, floor_to, split, subtract
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument, active_period
from fademoe.feeds.paging import group_gaps, pages
from fademoe.queue import jobs as queues
from fademoe.queue.jobs import LIVE, Task
from fademoe.store.coverage import Series

LIVE_MS = 3 * HOUR_MS  # a gap this young goes to the live queue: a stream missed it


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A window to fetch, with what it takes at most: requests, units of the feed's budget, rows."""

    task: Task
    queue: str
    is_young: bool  # what keeps up with the present goes before the past
    requests: int
    cost: int
    rows: int
    expires_ms: int | None  # how soon its oldest row is no longer kept by the exchange; None: never
    perishes_ms: int | None  # the same of the oldest row that its series misses


def ripe(feed: RestFeed, gaps: Iterable[tuple[Series, Window]], until_ms: int) -> list[tuple[Series, Window]]:
    """Leave out the gaps at the newest end that are on their way: a stream brings them, or the wait saves requests.

    Those of a feed that gathers its gaps wait for each other, wherever they are.
    """
    gaps = list(gaps)
    due = [
        (series, gap)
        for series, gap in gaps
        if gap.end_ms < until_ms - feed.paging.coalesce_ms or gap.end_ms - gap.start_ms > feed.latency.live_edge_ms
    ]
    asked = {series for series, _ in due}
    return [(series, gap) for series, gap in gaps if series in asked] if feed.paging.coalesce_ms else due


def left(
    gaps: Iterable[tuple[Series, Window]], taken: Mapping[Series, Sequence[Window]]
) -> list[tuple[Series, Window]]:
    """Return what of gaps is in no queue."""
    return [(series, piece) for series, gap in gaps for piece in subtract(gap, taken.get(series, ()))]


def plan(
    exchange: Exchange,
    feed: RestFeed,
    gaps: Iterable[tuple[Series, Window]],
    taken: Mapping[Series, Sequence[Window]],
    instruments: Mapping[str, Instrument],
    now_ms: int,
) -> list[Planned]:
    """Return the windows that close `gaps` and are not in `taken`; `now_ms` is the exchange's time.

    What the exchange does not list or serve is passed over. Without any instruments all is planned as it is: the
    exchange's list is not known, the jobs will look.
    """
    planned: list[Planned] = []
    by_series: dict[Series, list[Window]] = {}
    for series, gap in gaps:
        by_series.setdefault(series, []).append(gap)
    for series in sorted(by_series):
        instrument = instruments.get(series.symbol)
        if instruments and (instrument is None or not feed.serves(instrument)):
            continue
        oldest_ms = min(gap.start_ms for gap in by_series[series])
        free = [gap for _, gap in left([(series, gap) for gap in by_series[series]], taken)]
        planned += [
            _planned(exchange, feed, Task(series, window), instrument, (now_ms, oldest_ms))
            for group in group_gaps(feed, free)
            for window in split(Window(group[0].start_ms, group[-1].end_ms), feed.paging.window_ms)
        ]
    return planned


def _planned(
    exchange: Exchange, feed: RestFeed, task: Task, instrument: Instrument | None, times: tuple[int, int]
) -> Planned:
    """Work out a window; `times`: now, and the oldest moment that its series misses."""
    window, (now_ms, oldest_ms) = task.window, times
    alive = active_period(instrument, window) if instrument else window
    kept_from_ms = now_ms - feed.retention.requested_ms if feed.retention.requested_ms is not None else 0
    start_ms = max(window.start_ms, floor_to(alive.start_ms, DAY_MS), floor_to(kept_from_ms, feed.interval_ms))
    spans = pages(feed, Window(start_ms, alive.end_ms))
    rows = [-(-(span.end_ms - span.start_ms) // feed.interval_ms) for span in spans]
    streamed = any(channel.metric == feed.metric for channel in exchange.stream_feeds)
    is_young = window.start_ms >= now_ms - LIVE_MS
    return Planned(
        task=task,
        queue=LIVE if is_young and streamed else exchange.name,
        is_young=is_young,
        requests=len(spans),
        cost=sum(feed.paging.cost(count) for count in rows),
        rows=sum(rows),
        expires_ms=None if feed.retention.certain_ms is None else window.start_ms + feed.retention.certain_ms - now_ms,
        perishes_ms=None if feed.retention.certain_ms is None else oldest_ms + feed.retention.certain_ms - now_ms,
    )


def ordered(planned: Iterable[Planned]) -> list[Planned]:
    """Return windows in the order in which they are to be fetched.

    First what is hours old at most. Then what the exchange drops within a day, the soonest first. Then what perishes at
    all, the series first of which a row is lost soonest. Then the rest. Newest first within each, symbol after symbol.
    """
    return sorted(planned, key=_priority)


def _priority(item: Planned) -> tuple[int, int, int, Series]:
    newest_first, series = -item.task.window.start_ms, item.task.series
    if item.is_young:
        return 0, 0, newest_first, series
    if item.expires_ms is None or item.perishes_ms is None:
        return 3, 0, newest_first, series
    if item.expires_ms < DAY_MS:
        return 1, item.expires_ms, newest_first, series
    return 2, floor_to(item.perishes_ms, DAY_MS), newest_first, series


def enqueue(redis: Redis, planned: Sequence[Planned]) -> int:
    """Enqueue planned windows in their order, what cannot wait in front of all that does; return how many were new."""
    new = 0
    for item in reversed(ordered(item for item in planned if _is_urgent(item))):
        new += queues.enqueue(redis, item.queue, [item.task], at_front=True)
    for item in ordered(item for item in planned if not _is_urgent(item)):
        new += queues.enqueue(redis, item.queue, [item.task])
    return new


def _is_urgent(item: Planned) -> bool:
    """Tell whether a window perishes, or keeps up with the present in a queue where others do not."""
    return item.perishes_ms is not None or (item.is_young and item.queue != LIVE)
