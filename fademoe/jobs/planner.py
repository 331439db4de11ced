"""Turns what is missing into windows to fetch: never the open bar, newest first, no wider than a job should be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis import Redis

from fademoe.clock import DAY_MS, HOUR_MS, Window, floor_to, split, subtract
from fademoe.feeds.spec import Exchange, Instrument, RestFeed, life
from fademoe.jobs import queues
from fademoe.jobs.fetch import pages
from fademoe.jobs.queues import LIVE, Task
from fademoe.store.coverage import Series

LIVE_MS = 3 * HOUR_MS  # a gap this young goes to the live queue: a stream missed it


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A window to fetch, with what it takes at most: requests, units of the feed's budget, rows."""

    task: Task
    queue: str
    requests: int
    cost: int
    rows: int
    expires_ms: int | None  # how soon its oldest row is no longer kept by the exchange; None: never


def last_closed_ms(feed: RestFeed, now_ms: int) -> int:
    """Return the end of the newest row that a feed can be asked for."""
    return floor_to(now_ms - (feed.recent or feed).settle_ms, feed.interval_ms)


def plan(
    exchange: Exchange,
    feed: RestFeed,
    gaps: Iterable[tuple[Series, Window]],
    taken: Mapping[Series, Sequence[Window]],
    instruments: Mapping[str, Instrument],
    now_ms: int,
) -> list[Planned]:
    """Return the windows that close `gaps` and are not in `taken`: symbol by symbol, newest first.

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
        free = [left for gap in by_series[series] for left in subtract(gap, taken.get(series, ()))]
        windows = [window for gap in free for window in split(gap, feed.window_ms)]
        planned += [
            _planned(exchange, feed, Task(series, window), instrument, now_ms)
            for window in sorted(windows, reverse=True)
        ]
    return planned


def _planned(exchange: Exchange, feed: RestFeed, task: Task, instrument: Instrument | None, now_ms: int) -> Planned:
    window = task.window
    alive = life(instrument, window) if instrument else window
    kept_from_ms = now_ms - feed.asked_ms if feed.asked_ms is not None else 0
    start_ms = max(window.start_ms, floor_to(alive.start_ms, DAY_MS), floor_to(kept_from_ms, feed.interval_ms))
    spans = pages(feed, Window(start_ms, alive.end_ms))
    rows = [-(-(span.end_ms - span.start_ms) // feed.interval_ms) for span in spans]
    streamed = any(channel.metric == feed.metric for channel in exchange.stream_feeds)
    young = streamed and window.start_ms >= now_ms - LIVE_MS
    return Planned(
        task=task,
        queue=LIVE if young else exchange.name,
        requests=len(spans),
        cost=sum(feed.cost(count) for count in rows),
        rows=sum(rows),
        expires_ms=None if feed.history_ms is None else window.start_ms + feed.history_ms - now_ms,
    )


def enqueue(redis: Redis, planned: Sequence[Planned]) -> int:
    """Enqueue planned windows, what perishes within a day in front of everything; return how many were new."""
    new = 0
    urgent = [item for item in planned if item.expires_ms is not None and item.expires_ms < DAY_MS]
    for item in sorted(urgent, key=lambda item: item.expires_ms or 0, reverse=True):
        new += queues.enqueue(redis, item.queue, [item.task], at_front=True)
    lasting = [item for item in planned if item.expires_ms is None or item.expires_ms >= DAY_MS]
    for name in dict.fromkeys(item.queue for item in lasting):
        new += queues.enqueue(redis, name, [item.task for item in lasting if item.queue == name])
    return new
