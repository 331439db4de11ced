"""The geometry of pages: which spans single requests ask for, and until when rows are due."""

from collections.abc import Sequence

from fademoe.clock import MINUTE_MS, Window, ceil_to, floor_to
from fademoe.feeds.history import RestFeed

EXPIRY_MS = 5 * MINUTE_MS  # what expires so soon counts as expired


def group_gaps(feed: RestFeed, windows: Sequence[Window]) -> list[list[Window]]:
    """Put windows together that one request can answer, where that saves any; they are ascending."""
    found: list[list[Window]] = []
    for window in windows:
        if found and feed.paging.coalesce_ms and window.end_ms - found[-1][0].start_ms <= feed.page_span_ms:
            found[-1].append(window)
        else:
            found.append([window])
    return found


def pages(feed: RestFeed, window: Window) -> list[Window]:
    """Cut a window into the spans of single pages, oldest first."""
    span_ms = feed.page_span_ms
    starts = range(window.start_ms, window.end_ms, span_ms)
    return [Window(start_ms, min(start_ms + span_ms, window.end_ms)) for start_ms in starts]


def retained_from_ms(feed: RestFeed, exchange_now_ms: int) -> int:
    """Return the first ts that the exchange keeps for certain, and a little longer; 0 where it keeps everything."""
    if feed.retention.certain_ms is None:
        return 0
    return ceil_to(exchange_now_ms - feed.retention.certain_ms + EXPIRY_MS, feed.interval_ms)


def closed_until_ms(feed: RestFeed, now_ms: int) -> int:
    """Return the end of the newest row that a feed can be asked for at `now_ms`, the exchange's time."""
    return floor_to(now_ms - (feed.recent or feed).latency.settle_ms, feed.interval_ms)
