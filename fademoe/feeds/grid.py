"""The grid of a perpspec's rows: what a certificate counts."""

from collections.abc import Callable
from typing import NamedTuple

from fademoe.clock import MINUTE_MS
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.paging import compute_due_until_ms
from fademoe.feeds.registry import find_by_source, find_parts
from fademoe.metrics import INTERVALS_MS


class Grid(NamedTuple):
    """The metric of a perpspec, the distance of its rows in ms, and whether an interval may have none."""

    metric: str
    interval_ms: int
    is_sparse: bool


def find_grid(source: str) -> Grid:
    """Return the grid of a perpspec, stored or derived; raise ConfigError that names the valid ones."""
    parts = find_parts(source)
    if parts:
        metric = parts[0].metric
        is_sparse = any(find_grid(name).is_sparse for part in parts for name in part.inputs)
        return Grid(metric.name, INTERVALS_MS.get(metric.interval, MINUTE_MS), is_sparse)
    exchange, _, name = find_by_source(source)
    feed = exchange.find_rest_feed(name)
    return Grid(name, feed.interval_ms, feed.sparse) if feed else Grid(name, MINUTE_MS, is_sparse=True)


def compute_due_until_ms_of(source: str, read_now_ms: Callable[[Exchange], int]) -> int:
    """Return until when rows of a perpspec are due; those of a derived one when its inputs' are.

    `read_now_ms` tells the time of an exchange. Raises ConfigError that names the valid perpspecs for any other one.
    """
    inputs = {name for part in find_parts(source) for name in part.inputs}
    if inputs:
        return min(compute_due_until_ms_of(name, read_now_ms) for name in inputs)
    exchange, _, metric = find_by_source(source)
    return compute_due_until_ms(exchange, metric, read_now_ms(exchange))
