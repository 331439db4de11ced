"""Budgets in Redis: whoever sends a request takes its cost first, from one budget per (exchange, name, egress)."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from redis import Redis
from redis.exceptions import RedisError

from fademoe.errors import BudgetSpent, RetryLater
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.limits import Budget
from fademoe.signals import Stopped, StopSignal

log = logging.getLogger(__name__)

ALGORITHM = "line2"  # in the names of the keys: another one uses other keys
ANY_EGRESS = "any"  # in the name of a budget that all addresses share
REDIS_AWAY_S = 5.0
STAY_MS = 10_000  # who stands in line is put off that long, at most, before the place is given up
REFUSED, GRANTED, IN_LINE = 0, 1, 2  # first number of the result of take.lua


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Units that were taken: of this budget and egress, counted at `at_ms` of Redis's clock. `mark` is the script's."""

    exchange: str
    budget: Budget
    egress: str
    cost: int
    at_ms: int
    mark: int


class Budgets:
    """The budgets of this process's egress addresses. Fails closed: without Redis nobody sends. For any thread."""

    def __init__(self, redis: Redis, egress: Sequence[str], stop: StopSignal) -> None:
        """Use the budgets of the addresses named in `egress`; waits end when `stop` is requested."""
        self._redis = redis
        self._egress = tuple(egress)
        self._stop = stop
        self._take = redis.register_script(_script("take.lua"))
        self._landed = redis.register_script(_script("landed.lua"))
        self._close = redis.register_script(_script("close.lua"))
        self._correct = redis.register_script(_script("correct.lua"))

    def take(self, exchange: Exchange, name: str, cost: int, *, live: bool, max_wait_s: float) -> Grant:
        """Take `cost` units at the address where they are due first, sleeping until then, `max_wait_s` at most.

        Live work that comes meanwhile goes ahead, and a short closure puts off: the place in line is kept for ten
        seconds. Raises BudgetSpent when the units are due later or the budget is closed for longer, RetryLater when
        Redis is away, ValueError when `cost` could never be granted, Stopped when the process is to end.
        """
        budget = exchange.budget(name)
        if not 0 < cost <= budget.limit:
            raise ValueError(f"{exchange.name} {name}: a cost of {cost} is not within the limit of {budget.limit}")
        places = random.sample(self._egress, len(self._egress))  # so that equally free ones take turns
        longest_ms = round(max_wait_s * 1000)
        arguments = [cost, budget.limit, budget.period_ms, budget.jitter_ms, int(budget.aligned), int(live), longest_ms]
        try:
            state, place, number, *ticket = self._take(keys=_keys(exchange, budget, places), args=arguments)
            egress = places[place - 1]
            arguments[-1] = max(longest_ms, STAY_MS)
            while state == IN_LINE:
                if self._stop.wait(number / 1000):
                    raise Stopped
                state, _, number, *ticket = self._take(
                    keys=_keys(exchange, budget, [egress]), args=[*arguments, *ticket]
                )
        except RedisError as error:
            raise _redis_away(exchange, error) from error
        if state == REFUSED:
            raise BudgetSpent(
                f"the {name} budget of {exchange.name} is spent or closed for {number / 1000:.1f} s",
                retry_after_s=number / 1000,
                exchange=exchange.name,
            )
        mark = int(ticket[0])
        return Grant(exchange=exchange.name, budget=budget, egress=egress, cost=cost, at_ms=number, mark=mark)

    def landed(self, grant: Grant) -> None:
        """Note that a request has its answer, or will not get one: from now on its units grow old."""
        budget = grant.budget
        arguments = [grant.cost, grant.mark, budget.period_ms, budget.jitter_ms, int(budget.aligned)]
        try:
            self._landed(keys=_pair(_key(grant.exchange, budget, grant.egress)), args=arguments)
        except RedisError as error:
            log.warning("an answer of %s was not noted, its units count a little longer: %s", grant.exchange, error)

    def correct(self, grant: Grant, server_count: int) -> None:
        """Take over the exchange's own count of the current window when it is above ours."""
        budget = grant.budget
        arguments = [server_count, grant.at_ms, budget.limit, budget.period_ms, budget.jitter_ms]
        try:
            foreign = self._correct(keys=[_key(grant.exchange, budget, grant.egress)], args=arguments)
        except RedisError as error:
            log.warning("the count of %s %s was not corrected: %s", grant.exchange, budget.name, error)
            return
        if foreign:
            log.info("%s %s: another program used %d units of this address", grant.exchange, budget.name, foreign)

    def close(self, exchange: Exchange, names: Sequence[str], egress: str, for_s: float, reason: str) -> None:
        """Close budgets for everyone behind an address for `for_s` seconds; a later end that is set stays."""
        keys = [_key(exchange.name, exchange.budget(name), egress) for name in names]
        try:
            self._close(keys=keys, args=[round(for_s * 1000), reason])
        except RedisError as error:
            raise _redis_away(exchange, error) from error
        log.warning("%s: budgets %s closed for %.0f s: %s", exchange.name, ", ".join(names), for_s, reason)

    def until_turn_s(self, budget: Budget) -> float:
        """Return the seconds until the budget's aligned window turns, by Redis's clock."""
        seconds, micros = self._redis.time()
        return float(budget.period_ms - (seconds * 1000 + micros / 1000) % budget.period_ms) / 1000


def _key(exchange: str, budget: Budget, egress: str) -> str:
    return f"budget:{ALGORITHM}:{exchange}:{budget.name}:{ANY_EGRESS if budget.per_key else egress}"


def _keys(exchange: Exchange, budget: Budget, places: Sequence[str]) -> list[str]:
    """Return the keys of the hash and the sorted set of each place."""
    return [key for place in places for key in _pair(_key(exchange.name, budget, place))]


def _pair(key: str) -> list[str]:
    return [key, f"held{key.removeprefix('budget')}"]


def _redis_away(exchange: Exchange, error: RedisError) -> RetryLater:
    return RetryLater(
        f"Redis is away, so nothing is sent to {exchange.name}: {error}",
        retry_after_s=REDIS_AWAY_S,
        exchange=exchange.name,
    )


def _script(name: str) -> str:
    return resources.files("fademoe.client.rate_limit").joinpath(name).read_text(encoding="utf-8")
