"""What closing gaps will take, before anybody asks for it: windows, requests, minutes. No request is made."""

from collections.abc import Iterable
from typing import NamedTuple

from fademoe.clock import MINUTE_MS, Window, floor_to, split
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed

REQUEST_MS = 150  # how long one request and the storing of its rows take when no budget holds it back


class Estimate(NamedTuple):
    """What it takes at most; `reason` says why nothing can be fetched."""

    windows: int = 0
    requests: int = 0
    rows: int = 0
    minutes: float = 0.0
    lost: int = 0  # windows of which the exchange has forgotten a part
    reason: str | None = None


def estimate(source: str, gaps: Iterable[Window], now_ms: int, workers: int) -> Estimate:
    """Return what it takes to close gaps of one perpspec."""
    try:
        exchange, _, metric = registry.by_source(source)
    except ConfigError as error:
        return Estimate(reason=str(error))
    feed = exchange.rest_feed(metric)
    if feed is None:
        return Estimate(reason=f"{exchange.title} has no history of {metric}: it comes from the stream alone")
    closed_ms = floor_to(now_ms - feed.latency.settle_ms, feed.interval_ms)
    closed = [Window(gap.start_ms, min(gap.end_ms, closed_ms)) for gap in gaps if gap.start_ms < closed_ms]
    windows = [window for gap in closed for window in split(gap, feed.paging.window_ms)]
    rows = [-(-(window.end_ms - window.start_ms) // feed.interval_ms) for window in windows]
    requests = sum(-(-count // feed.paging.rows) for count in rows)
    oldest_ms = now_ms - feed.retention.requested_ms if feed.retention.requested_ms else 0
    return Estimate(
        windows=len(windows),
        requests=requests,
        rows=sum(rows),
        minutes=_minutes(exchange, feed, rows, workers),
        lost=sum(window.start_ms < oldest_ms for window in windows),
    )


def _minutes(exchange: Exchange, feed: RestFeed, rows: list[int], workers: int) -> float:
    """Return the time by the exchange's budget or by the workers, whichever is longer."""
    budget = exchange.budget(feed.budget)
    full = feed.paging.cost(feed.paging.rows)
    cost = sum(
        (count // feed.paging.rows) * full + (feed.paging.cost(rest) if (rest := count % feed.paging.rows) else 0)
        for count in rows
    )
    requests = sum(-(-count // feed.paging.rows) for count in rows)
    by_budget_ms = cost * budget.span_ms / budget.limit
    by_workers_ms = requests * REQUEST_MS / max(1, workers)
    return max(by_budget_ms, by_workers_ms) / MINUTE_MS
