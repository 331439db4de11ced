"""Budgets in Redis: whoever sends a request takes its cost first, from one bucket per (exchange, budget, egress)."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from redis import Redis
from redis.exceptions import RedisError

from fademoe.errors import BudgetSpent, RetryLater
from fademoe.feeds.spec import Budget, Exchange
from fademoe.stop import Stopped, StopSignal

log = logging.getLogger(__name__)

PREFIX = "budget:gcra1"  # names the algorithm: another one uses another key
ANY_EGRESS = "any"  # in the name of a budget that all addresses share
REDIS_AWAY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Units that were taken: for this budget and egress, counted at `slot_ms` of Redis's clock."""

    exchange: str
    budget: Budget
    egress: str
    slot_ms: int


class Budgets:
    """The budgets of this process's egress addresses. Fails closed: without Redis nobody sends."""

    def __init__(self, redis: Redis, egress: Sequence[str], stop: StopSignal) -> None:
        """Use the budgets of the addresses named in `egress`; waits end when `stop` is requested."""
        self._redis = redis
        self._egress = tuple(egress)
        self._stop = stop
        self._take = redis.register_script(_script("take.lua"))
        self._close = redis.register_script(_script("close.lua"))
        self._correct = redis.register_script(_script("correct.lua"))

    def take(self, exchange: Exchange, name: str, cost: int, *, live: bool, max_wait_s: float) -> Grant:
        """Take `cost` units at the address where they are due first, sleeping until then, `max_wait_s` at most.

        Raises BudgetSpent when they are due later or the budget is closed for longer, RetryLater when Redis is away,
        ValueError when `cost` could never be granted, Stopped when the process is to end.
        """
        budget = exchange.budget(name)
        if cost > budget.burst:
            raise ValueError(f"{exchange.name} {name}: a cost of {cost} is above the burst of {budget.burst}")
        try:
            egress, granted, wait_ms, slot_ms = self._reserve(
                exchange, budget, cost, round(max_wait_s * 1000), live=live
            )
            if granted and wait_ms:
                if self._stop.wait(wait_ms / 1000):
                    raise Stopped
                closed_s = self._closed_for_s(_key(exchange.name, budget, egress))
                if closed_s > 0:
                    granted, wait_ms = False, round(closed_s * 1000)
        except RedisError as error:
            raise _redis_away(exchange, error) from error
        if not granted:
            raise BudgetSpent(
                f"the {name} budget of {exchange.name} is spent or closed for {wait_ms / 1000:.1f} s",
                retry_after_s=wait_ms / 1000,
                exchange=exchange.name,
            )
        return Grant(exchange=exchange.name, budget=budget, egress=egress, slot_ms=slot_ms)

    def _reserve(
        self, exchange: Exchange, budget: Budget, cost: int, longest_ms: int, *, live: bool
    ) -> tuple[str, bool, int, int]:
        """Return (egress, granted, wait_ms, slot_ms): at once where one is free, else where the wait is shortest."""
        waits: dict[str, int] = {}
        for egress in random.sample(self._egress, len(self._egress)):
            key = _key(exchange.name, budget, egress)
            patience_ms = longest_ms if len(self._egress) == 1 else 0
            granted, wait_ms, slot_ms = self._take(keys=[key], args=_arguments(cost, budget, patience_ms, live=live))
            if granted:
                return egress, True, wait_ms, slot_ms
            waits[egress] = wait_ms
        egress = min(waits, key=lambda name: waits[name])
        if len(waits) == 1 or waits[egress] > longest_ms:
            return egress, False, waits[egress], 0
        key = _key(exchange.name, budget, egress)
        granted, wait_ms, slot_ms = self._take(keys=[key], args=_arguments(cost, budget, longest_ms, live=live))
        return egress, bool(granted), wait_ms, slot_ms

    def correct(self, grant: Grant, server_count: int) -> None:
        """Take over the exchange's own count of the current window when it is above ours."""
        budget = grant.budget
        arguments = [server_count, grant.slot_ms, budget.limit, budget.period_ms, budget.burst, budget.burst]
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
        """Return the seconds until the budget's clock-aligned window turns, by Redis's clock."""
        return (budget.period_ms - self._now_ms() % budget.period_ms) / 1000

    def _closed_for_s(self, key: str) -> float:
        until = self._redis.hget(key, "closed_until")
        return 0.0 if until is None else (int(until) - self._now_ms()) / 1000

    def _now_ms(self) -> float:
        seconds, micros = self._redis.time()
        return float(seconds * 1000 + micros / 1000)


def _key(exchange: str, budget: Budget, egress: str) -> str:
    return f"{PREFIX}:{exchange}:{budget.name}:{ANY_EGRESS if budget.per_key else egress}"


def _arguments(cost: int, budget: Budget, longest_ms: int, *, live: bool) -> list[int]:
    return [cost, budget.limit, budget.period_ms, budget.burst, budget.burst, int(live), longest_ms]


def _redis_away(exchange: Exchange, error: RedisError) -> RetryLater:
    return RetryLater(
        f"Redis is away, so nothing is sent to {exchange.name}: {error}",
        retry_after_s=REDIS_AWAY_S,
        exchange=exchange.name,
    )


def _script(name: str) -> str:
    return resources.files("fademoe.limits").joinpath(name).read_text(encoding="utf-8")
