"""How long fetching takes: the one estimate that the seed command and the fill preview show."""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from fademoe.clock import SECOND_MS
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.paging import Effort

REQUEST_S = 0.15  # one request and the storing of its rows, where no rate limit holds it back
START_S = 1.0  # until a worker takes the first window


def estimate_s(
    exchange: Exchange,
    efforts: Iterable[tuple[RestFeed, Effort]],
    *,
    share: Decimal,
    workers: int,
    delays_s: Mapping[str, float],
) -> float:
    """Return the seconds until all `efforts` of an exchange are done, 0 when there is nothing to do.

    The slowest rate limit decides, or the workers where they take longer. `efforts` include those of windows that are
    queued before. `share`: the part of each rate limit that is used (FADEMOE_LIMIT_SHARE). `delays_s`: by rate limit,
    the seconds until it takes a new request, where it is closed or others wait for it.
    """
    cost: dict[str, int] = {}
    requests = 0
    for feed, effort in efforts:
        cost[feed.budget] = cost.get(feed.budget, 0) + effort.cost
        requests += effort.requests
    if not requests:
        return 0.0
    budgets = {name: exchange.get_budget(name) for name in cost}
    by_limits_s = max(
        delays_s.get(name, 0.0) + units * budgets[name].span_ms / (max(1, int(budgets[name].limit * share)) * SECOND_MS)
        for name, units in cost.items()
    )
    return START_S + max(by_limits_s, requests * REQUEST_S / max(1, workers))
