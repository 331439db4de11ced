"""When a row of perp_data is known: `known_at = ts + span + lag`, of the declarations of the feeds.

`span` is the interval of a row that stands for a range of time (bars, minute sums), 0 of one that stands for an instant
(samples, settlements). `lag` is what our collector needs on a healthy host. An expression, a backtest and a question
"as of" read no row before it is known.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from fademoe.clock import MINUTE_MS, SECOND_MS, floor_to
from fademoe.errors import ConfigError
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.registry import find_by_source
from fademoe.feeds.stream import StreamFeed
from fademoe.metrics import INTERVALS_MS, METRICS, Instant, name_perpspec

RECONCILE_PAUSE_MS = MINUTE_MS  # gaps are looked for once a minute
NEWEST_ROUND_MS = 25 * SECOND_MS  # of the job that requests newest rows once a minute (jobs/newest.py)
MARGIN_MS = 30 * SECOND_MS  # for waiting in the queue, the request and the commit
BARS = "ohlcv"  # the metric of the one exception, see `Lag.at_minute_end`


class Lag(NamedTuple):
    """How long after the end of its span a row of a source and an interval is known.

    `at_minute_end`: an expression that is evaluated at the end of minute T may read the row of T itself: candles of an
    exchange that streams them. This is the one declared idealisation.
    """

    source: str
    interval: str
    span_ms: int
    lag_ms: int
    why: str
    at_minute_end: bool = False

    def compute_known_ms(self, ts: int) -> int:
        """Return the time, in ms, from which the row of `ts` is known."""
        return ts + self.span_ms + self.lag_ms

    def find_last_known(self, at_ms: int, grid_ms: int) -> int:
        """Return the newest multiple of `grid_ms` whose row is known at `at_ms`, by this lag.

        With `at_minute_end` the row whose span ends at `at_ms` counts as known. Expressions use it with
        at_ms = T + 60 s.
        """
        lag_ms = 0 if self.at_minute_end else self.lag_ms
        return floor_to(at_ms - self.span_ms - lag_ms, grid_ms)


def list_lags(exchange: Exchange) -> list[Lag]:
    """Return the lag of each source and interval that the feeds of an exchange write, in the order of its perpspecs."""
    return [
        lag
        for code in exchange.codes
        for metric in exchange.list_metrics()
        for lag in _list_of_metric(exchange, code, metric)
    ]


@cache
def find_lags(source: str) -> tuple[Lag, ...]:
    """Return the lags of a perpspec, one for each interval, the slowest last; raise ConfigError for an unknown one."""
    exchange, code, metric = find_by_source(source)
    return tuple(sorted(_list_of_metric(exchange, code, metric), key=lambda lag: lag.lag_ms))


def find_lag(source: str, interval: str) -> Lag:
    """Return the lag of the rows of a perpspec with that interval; raise ConfigError where no feed writes any."""
    lags = {lag.interval: lag for lag in find_lags(source)}
    if interval not in lags:
        raise ConfigError(f"{source} has no rows of interval {interval!r}: valid are {', '.join(lags)}")
    return lags[interval]


def list_intervals(sources: Iterable[str]) -> list[str]:
    """Return the intervals of the rows of perpspecs, by their slowest lags: that of the rows known last at the end."""
    slowest: dict[str, int] = {}
    for lag in (lag for source in sources for lag in find_lags(source)):
        slowest[lag.interval] = max(lag.lag_ms, slowest.get(lag.interval, 0))
    return sorted(slowest, key=slowest.__getitem__)


def compute_known_ms(source: str, interval: str, ts: int) -> int:
    """Return the time, in ms, from which the row of a perpspec, interval and ts is known."""
    return find_lag(source, interval).compute_known_ms(ts)


def _list_of_metric(exchange: Exchange, code: str, metric: str) -> list[Lag]:
    """Return the lag of each interval of a metric: of the feed that brings a row first and brings every row.

    A poll with a share asks for each contract in turn, so that many rows come from the history alone.
    """
    streams = [feed for feed in exchange.stream_feeds if feed.metric == metric]
    polls = [feed for feed in exchange.poll_feeds if feed.metric == metric]
    histories = [feed for feed in exchange.rest_feeds if feed.metric == metric]
    whole: list[StreamFeed | PollFeed] = [*streams, *(feed for feed in polls if feed.share is None)]
    partial: list[StreamFeed | PollFeed] = [feed for feed in polls if feed.share is not None]
    stated = [(feed.interval, _state_of_history(feed)) for feed in histories]
    by_interval: dict[str, tuple[int, str]] = {}
    for choices in (_state(whole), stated, _state(partial)):  # the first that has an interval
        for interval in dict.fromkeys(interval for interval, _ in choices):
            by_interval.setdefault(interval, min(lag for other, lag in choices if other == interval))
    at_minute_end = metric == BARS and bool(streams)
    source = name_perpspec(code, metric)
    return [
        Lag(source, interval, _compute_span_ms(metric, interval), lag_ms, why, at_minute_end)
        for interval, (lag_ms, why) in by_interval.items()
    ]


def _state(feeds: Sequence[StreamFeed | PollFeed]) -> list[tuple[str, tuple[int, str]]]:
    return [(feed.interval, (feed.lag_ms, f"{feed.lag_why}; {feed.source}")) for feed in feeds]


def _state_of_history(feed: RestFeed) -> tuple[int, str]:
    """Return the lag of a history and its reason.

    A gap at the live edge is requested when it is longer than the feed's edge: so long waits the first row of it. What
    is requested is settled, the next check of gaps is up to a minute away, and the request takes its time.
    """
    if feed.lag_ms is not None:
        return feed.lag_ms, f"{feed.lag_why}; {feed.source}"
    newest_lag_ms = NEWEST_ROUND_MS + int(feed.newest.at_s * SECOND_MS) if feed.newest else 0
    if feed.newest and feed.newest.grid_ms:
        why = f"requested {feed.newest.at_s:g} s after it and every minute until it is there, in rounds of up to 25 s"
        return newest_lag_ms + MINUTE_MS, f"{why}: by the second one; {feed.source}"
    if feed.newest:
        why = f"requested {feed.newest.at_s:g} s into the next minute, in a round of up to 25 s"
        return newest_lag_ms, f"{why}; {feed.source}"
    edge_ms = max(feed.latency.live_edge_ms, feed.paging.coalesce_ms)
    held_rows = edge_ms // feed.interval_ms + (METRICS[feed.metric].instant is Instant.MOMENT)
    lag_ms = held_rows * feed.interval_ms + feed.latency.settle_ms + RECONCILE_PAUSE_MS + MARGIN_MS
    why = (
        f"by REST: up to {held_rows * feed.interval_ms // SECOND_MS} s until enough rows are requested together,"
        f" {feed.latency.settle_ms // SECOND_MS} s to settle, {RECONCILE_PAUSE_MS // SECOND_MS} s between two checks,"
        f" {MARGIN_MS // SECOND_MS} s margin; {feed.source}"
    )
    return lag_ms, why


def _compute_span_ms(metric: str, interval: str) -> int:
    return 0 if METRICS[metric].instant is Instant.MOMENT else INTERVALS_MS.get(interval, 0)
