"""What closing gaps will take, before anybody asks for it: windows, requests, minutes. No request is made."""

from collections.abc import Iterable
from typing import NamedTuple

from fademoe.clock import MINUTE_MS, SECOND_MS, Window, split
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.feeds.estimate import estimate_s
from fademoe.feeds.paging import closed_part, measure, requested_from_ms
from fademoe.settings import Settings


class Estimate(NamedTuple):
    """What it takes at most; `reason` says why nothing can be fetched."""

    windows: int = 0
    requests: int = 0
    rows: int = 0
    minutes: float = 0.0
    lost: int = 0  # windows of which the exchange has forgotten a part
    reason: str | None = None


def estimate(source: str, gaps: Iterable[Window], now_ms: int, settings: Settings) -> Estimate:
    """Return what it takes to close gaps of one perpspec."""
    try:
        exchange, _, metric = registry.by_source(source)
    except ConfigError as error:
        return Estimate(reason=str(error))
    feed = exchange.rest_feed(metric)
    if feed is None:
        return Estimate(reason=f"{exchange.title} has no history of {metric}: it comes from the stream alone")
    windows = [window for gap in closed_part(feed, gaps, now_ms) for window in split(gap, feed.paging.window_ms)]
    effort = measure(feed, windows)
    share = settings.limit_share(exchange.name)
    return Estimate(
        windows=len(windows),
        requests=effort.requests,
        rows=effort.rows,
        minutes=estimate_s(exchange, [(feed, effort)], share=share, workers=settings.workers) * SECOND_MS / MINUTE_MS,
        lost=sum(window.start_ms < requested_from_ms(feed, now_ms) for window in windows),
    )
