"""Exhausted rate limits, as the queue knows them: jobs that need one stay queued, and no worker waits with them.

A job whose request would wait too long for its rate limit notes for how long. The note is a key that expires then, so
it depends on no host's clock; where Redis's own clock was set back, it is void. It holds for the hosts with the same
names of egress addresses: others may have units.
"""

from collections.abc import Iterable, Mapping, Sequence

from redis import Redis

from fademoe.clock import SECOND_MS
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.metrics import name_perpspec

MAX_PAUSE_S = 3600.0  # then it is tried again, whatever was noted
SHORT_PAUSE_MS = 2_000  # a longer one is a closure by the exchange, which does not end with a job

Budget = tuple[str, str]  # exchange, name of one of its rate limits, or a path whose requests fail


def pause_budget(redis: Redis, egress: Sequence[str], exchange: str, budget: str, for_s: float) -> None:
    """Note that a rate limit is exhausted or closed for that long at all of these addresses."""
    for_ms = round(min(for_s, MAX_PAUSE_S) * SECOND_MS)
    if for_ms > 0:
        redis.set(_key(egress, exchange, budget), for_ms, px=for_ms)


def resume_budget(redis: Redis, egress: Sequence[str], exchange: str, budget: str) -> None:
    """Remove a short pause: the job that used the rate limit has ended."""
    key = _key(egress, exchange, budget)
    for_ms, left_ms = redis.get(key), redis.pttl(key)
    if left_ms <= SHORT_PAUSE_MS or _is_stale(for_ms, left_ms):
        redis.delete(key)


def read_pauses(redis: Redis, egress: Sequence[str]) -> dict[Budget, float]:
    """Return for how many more seconds each rate limit of a history is exhausted at all of these addresses."""
    budgets = [
        (exchange.name, name)
        for exchange in registry.load_exchanges().values()
        for name in sorted({name for feed in exchange.rest_feeds for name in list_budgets_of(exchange, feed.metric)})
    ]
    with redis.pipeline(transaction=False) as pipeline:
        for exchange, budget in budgets:
            pipeline.get(_key(egress, exchange, budget))
            pipeline.pttl(_key(egress, exchange, budget))
        noted = pipeline.execute()
    return {
        budget: left_ms / SECOND_MS
        for budget, for_ms, left_ms in zip(budgets, noted[::2], noted[1::2], strict=True)
        if left_ms > 0 and not _is_stale(for_ms, left_ms)
    }


def _is_stale(for_ms: bytes | str | None, left_ms: int) -> bool:
    """Return whether a pause is to last longer than it was noted for: Redis's clock was set back."""
    return for_ms is not None and left_ms > int(for_ms)


def list_paused_sources(pauses: Mapping[Budget, float], exchanges: Iterable[str], wait_s: float) -> list[str]:
    """Return the perpspecs of exchanges whose windows would wait longer than `wait_s` for a rate limit."""
    return [
        source
        for name in exchanges
        for source, budgets in _budgets_by_source(registry.load_exchanges()[name]).items()
        if any(pauses.get((name, budget), 0.0) > wait_s for budget in budgets)
    ]


def list_budgets_of(exchange: Exchange, metric: str) -> set[str]:
    """Return the rate limits that the history of a metric uses, and its paths."""
    feed = exchange.find_rest_feed(metric)
    endpoints = [each for each in (feed, feed.recent) if each is not None] if feed else []
    return {name for each in endpoints for name in (each.budget, each.path)}


def _budgets_by_source(exchange: Exchange) -> dict[str, set[str]]:
    return {
        name_perpspec(code, feed.metric): list_budgets_of(exchange, feed.metric)
        for code in exchange.codes
        for feed in exchange.rest_feeds
    }


def _key(egress: Sequence[str], exchange: str, budget: str) -> str:
    return f"paused:{exchange}:{budget}:{','.join(sorted(egress))}"
