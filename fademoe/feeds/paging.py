"""The geometry of pages: which spans single requests ask for, what is retained upstream, until when rows are due."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fademoe.clock import MINUTE_MS, Window, ceil_to, floor_to, merge, split, subtract
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed

EXPIRY_MS = 5 * MINUTE_MS  # what expires so soon counts as expired
FETCH_MS = 2 * MINUTE_MS  # from the moment a row may be requested until it is stored: a reconcile run and a job
LIVE_EDGE_MS = 5 * MINUTE_MS  # the same for rows of streams and polls


class Effort(NamedTuple):
    """What it takes to fetch some windows of one feed, at most."""

    requests: int
    cost: int  # units of the feed's rate limit
    rows: int


class PageParts(NamedTuple):
    """The span of one request, and the parts of it that are requested."""

    span: Window
    parts: list[Window]


def group_gaps(feed: RestFeed, windows: Sequence[Window]) -> list[list[Window]]:
    """Put ascending windows together that one job asks for by one request."""
    return group_on_pages(feed, windows) if feed.paging.coalesce_ms else [[window] for window in windows]


def group_on_pages(feed: RestFeed, windows: Sequence[Window]) -> list[list[Window]]:
    """Put ascending windows together that lie on one page."""
    groups: list[list[Window]] = []
    for window in windows:
        if groups and window.end_ms - groups[-1][0].start_ms <= feed.page_span_ms:
            groups[-1].append(window)
        else:
            groups.append([window])
    return groups


def list_pages(feed: RestFeed, windows: Sequence[Window]) -> list[PageParts]:
    """Return the requests that ascending windows take, oldest first.

    Windows of a dense feed that lie on one page share a request; those of a sparse feed where gaps are coalesced.
    """
    groups = group_gaps(feed, windows) if feed.sparse else group_on_pages(feed, windows)
    return [
        PageParts(page, [Window(max(page.start_ms, gap.start_ms), min(page.end_ms, gap.end_ms)) for gap in group])
        for group in groups
        for page in split_into_pages(feed, Window(group[0].start_ms, group[-1].end_ms))
    ]


def split_into_portions(feed: RestFeed, windows: Sequence[Window], most_pages: int) -> Iterator[list[Window]]:
    """Sort ascending windows into portions that take so many requests at most."""
    pages = list_pages(feed, windows)
    for first in range(0, len(pages), most_pages):
        yield merge(part for page in pages[first : first + most_pages] for part in page.parts)


def split_into_pages(feed: RestFeed, window: Window) -> list[Window]:
    """Cut a window into the spans of single pages, oldest first."""
    span_ms = feed.page_span_ms
    starts = range(window.start_ms, window.end_ms, span_ms)
    return [Window(start_ms, min(start_ms + span_ms, window.end_ms)) for start_ms in starts]


def group_windows(feed: RestFeed, gaps: Sequence[Window]) -> list[Window]:
    """Return the windows of jobs that close ascending gaps of one series, oldest first."""
    return [
        window
        for group in group_gaps(feed, gaps)
        for window in split(Window(group[0].start_ms, group[-1].end_ms), feed.paging.window_ms)
    ]


def measure(feed: RestFeed, windows: Iterable[Window]) -> Effort:
    """Return what fetching windows takes; empty ones take nothing."""
    spans = Counter[int]()  # of pages: all but the last one of a window are alike
    for window in windows:
        whole, rest_ms = divmod(max(0, window.end_ms - window.start_ms), feed.page_span_ms)
        spans[feed.page_span_ms] += whole
        spans[rest_ms] += bool(rest_ms)
    rows = {-(-span_ms // feed.interval_ms): count for span_ms, count in spans.items()}
    costs = (feed.paging.compute_cost(each) * count for each, count in rows.items() if count)
    return Effort(spans.total(), sum(costs), sum(each * count for each, count in rows.items()))


def compute_retained_from_ms(feed: RestFeed, exchange_now_ms: int) -> int:
    """Return the first ts that the exchange certainly retains, a little late; 0 where it retains everything."""
    if feed.retention.certain_ms is None:
        return 0
    return ceil_to(exchange_now_ms - feed.retention.certain_ms + EXPIRY_MS, feed.interval_ms)


def compute_requested_from_ms(feed: RestFeed, exchange_now_ms: int) -> int:
    """Return the first ts that the exchange may retain, so that is requested; 0 where it retains everything."""
    if feed.retention.requested_ms is None:
        return 0
    return ceil_to(exchange_now_ms - feed.retention.requested_ms + EXPIRY_MS, feed.interval_ms)


def compute_closed_until_ms(feed: RestFeed, exchange_now_ms: int) -> int:
    """Return the end of the newest row that can be requested at the exchange's time: it is closed and settled."""
    return floor_to(exchange_now_ms - (feed.recent or feed).latency.settle_ms, feed.interval_ms)


def clip_to_closed(feed: RestFeed, windows: Iterable[Window], exchange_now_ms: int) -> list[Window]:
    """Return what of windows is closed."""
    until_ms = compute_closed_until_ms(feed, exchange_now_ms)
    return [Window(w.start_ms, min(w.end_ms, until_ms)) for w in windows if w.start_ms < until_ms]


def compute_due_until_ms(exchange: Exchange, metric: str, exchange_now_ms: int) -> int:
    """Return the time up to which rows of a metric are due, by the exchange's time: what is not covered then is late.

    A metric with history is due once its rows have closed, the live edge is old enough to be requested (`live_edge_ms`,
    `coalesce_ms`) and FETCH_MS have passed. A metric without is due LIVE_EDGE_MS after its minute.
    """
    feed = exchange.find_rest_feed(metric)
    if feed is None:
        return floor_to(exchange_now_ms, MINUTE_MS) - LIVE_EDGE_MS
    return (
        compute_closed_until_ms(feed, exchange_now_ms)
        - max(feed.latency.live_edge_ms, feed.paging.coalesce_ms)
        - FETCH_MS
    )


def split_by_endpoint(
    feed: RestFeed, windows: Sequence[Window], settled: Sequence[Window], exchange_now_ms: int
) -> list[tuple[RestFeed, list[Window]]]:
    """Return each endpoint of a feed with the closed parts of `windows`, less `settled`, that it is requested for."""
    left = [part for window in clip_to_closed(feed, windows, exchange_now_ms) for part in subtract(window, settled)]
    if feed.recent is None:
        return [(feed, left)]
    edge_ms = floor_to(exchange_now_ms - feed.recent_ms, feed.interval_ms)
    older = [Window(w.start_ms, min(w.end_ms, edge_ms)) for w in left if w.start_ms < edge_ms]
    younger = [Window(max(w.start_ms, edge_ms), w.end_ms) for w in left if w.end_ms > edge_ms]
    return [(feed, older), (feed.recent, younger)]
