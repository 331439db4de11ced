"""Budgets in Redis, one per (exchange, name, egress): every request takes its cost before it is sent."""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from math import ceil, floor
from typing import Any

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import RedisError

from fademoe.client.rate_limit.keys import ANY_EGRESS, make_budget_key, make_outage_key, make_units_key
from fademoe.clock import get_pace, read_boot_id, steady_ms, to_host_s
from fademoe.errors import BudgetSpent, RetryLater
from fademoe.feeds.limits import Budget, Limited
from fademoe.signals import Stopped, StopSignal

log = logging.getLogger(__name__)

REDIS_AWAY_S = 5.0
MAX_QUEUE_DELAY_MS = 10_000  # a queued request keeps its place while it is delayed no longer than that
LATE_MS = 25  # a request so late for its slot does not delay the one of that slot a window later
PACE_MARGIN = 1.01  # of the pace of a share: never more than the share on average
WINDOW_MARGIN = 1.1  # of a share, what one sliding window may hold: units in flight are in use longer than a window
REFUSED, GRANTED, QUEUED = 0, 1, 2  # first number of the result of take.lua
NO_OUTAGE, EXCHANGE_OUTAGE, PATH_OUTAGE = 0, 1, 2  # last number of it, where it is refused


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Units that were taken: of this budget and egress, counted at `at_ms` of the budget's clock.

    `sequence` is the scripts' own. `failures`: requests to the exchange from this egress that failed in a row before,
    `redis_ms`: when this one was granted, to the microsecond, `path`: where it goes, all three for
    `Budgets.note_failure` and `note_success`.
    """

    exchange: str
    budget: Budget
    egress: str
    cost: int
    at_ms: int
    sequence: int
    failures: int
    redis_ms: float
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a share of a budget allows: `capacity` units in one window, `unit_ms` from one unit to the next."""

    capacity: int
    unit_ms: float

    @classmethod
    def compute(cls, budget: Budget, share: float) -> "Allowance":
        """Return what a share (above 0, at most 1) of the limit allows.

        Aligned windows hold the share exactly. Of sliding ones the pace alone holds it: a unit is in use for longer
        than a window, from its sending until a window after its answer.
        """
        allowed = budget.limit * share
        tightest_ms = (budget.span_ms + LATE_MS) / budget.limit
        if budget.aligned:
            return cls(capacity=max(1, floor(allowed)), unit_ms=tightest_ms / share)
        capacity = min(budget.limit, ceil(allowed * WINDOW_MARGIN) + 1)
        return cls(capacity=capacity, unit_ms=max(tightest_ms, budget.period_ms * PACE_MARGIN / allowed))


@dataclass(frozen=True, kw_only=True)
class _Demand:
    """What take.lua is asked for, again while it waits: its arguments before and behind the longest wait."""

    exchange: str
    budget: Budget
    path: str
    arguments: tuple[int | float, ...]
    limits: tuple[int | float, ...]


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """The result of take.lua; `rest`: what stands behind its first three numbers."""

    state: int
    place: int
    number: int
    rest: list[Any]


class Budgets:
    """The budgets of this process's egress addresses. Fails closed: no request without Redis. For any thread."""

    def __init__(
        self,
        redis: Redis,
        egress: Sequence[str],
        stop: StopSignal,
        *,
        share: Callable[[str], float] = lambda exchange: 1.0,
        server_now_ms: Callable[[str], int | None] = lambda exchange: None,
    ) -> None:
        """Use the budgets of the addresses named in `egress`; waits end when `stop` is requested.

        `share(exchange)`: the part of each limit that is used. `server_now_ms(exchange)`: the exchange's time for
        aligned windows, None where it is not known.
        """
        self._redis = redis
        self._egress = tuple(egress)
        self._stop = stop
        self._share = share
        self._server_now_ms = server_now_ms
        self._take = _register(redis, "take.lua")
        self._on_response = _register(redis, "on_response.lua")
        self._close = _register(redis, "close.lua")
        self._outage = _register(redis, "outage.lua")

    def take(
        self,
        exchange: Limited,
        name: str,
        cost: int,
        *,
        live: bool,
        max_wait_s: float,
        path: str = "",
        avoid: Sequence[str] = (),
    ) -> Grant:
        """Take `cost` units at the address where they are due first, sleeping until then, `max_wait_s` at most.

        Live work that comes meanwhile goes ahead, and a short closure delays: the place in the queue is kept for
        MAX_QUEUE_DELAY_MS. Addresses of `avoid` are not used. `path`: of the request, where failures of one path say
        nothing of the others. Raises BudgetSpent when the units are due later, or the budget is closed or the exchange
        or the path paused for longer, RetryLater when Redis is away, ValueError when `cost` could never be granted,
        Stopped when the process is to end.
        """
        budget, share = exchange.get_budget(name), self._share(exchange.name)
        if not 0 < cost <= budget.limit:
            raise ValueError(f"{exchange.name} {name}: a cost of {cost} is not within the limit of {budget.limit}")
        usable = [address for address in self._egress if address not in avoid]
        places = random.sample(usable, len(usable))  # so that equally free ones take turns
        allowance = Allowance.compute(budget, share)
        demand = _Demand(
            exchange=exchange.name,
            budget=budget,
            path=path,
            arguments=(cost, max(allowance.capacity, cost), allowance.unit_ms, *_window(budget), int(live)),
            limits=(budget.limit, share),
        )
        longest_ms = round(max_wait_s * 1000)
        try:
            egress, answer = self._ask_first(demand, places, longest_ms)
            answer = self._wait_in_queue(demand, egress, answer, max(longest_ms, MAX_QUEUE_DELAY_MS))
        except RedisError as error:
            raise _redis_away(exchange.name, error) from error
        if answer.state == REFUSED:
            raise _spent(exchange.name, name, answer.number / 1000, int(answer.rest[0]), path)
        sequence, failures, redis_ms = answer.rest
        return Grant(
            exchange=exchange.name,
            budget=budget,
            egress=egress,
            cost=cost,
            at_ms=answer.number,
            sequence=int(sequence),
            failures=int(failures),
            redis_ms=float(redis_ms),
            path=path,
        )

    def _ask_first(self, demand: "_Demand", places: Sequence[str], longest_ms: int) -> tuple[str, "_Answer"]:
        """Ask one address, then all of them where that one is not free at once; return which answered, and what."""
        if len(places) > 1:
            answer = self._ask(demand, places[:1], 0)
            if answer.state == GRANTED:
                return places[0], answer
        answer = self._ask(demand, places, longest_ms)
        return places[answer.place - 1], answer

    def _wait_in_queue(self, demand: "_Demand", egress: str, answer: "_Answer", longest_ms: int) -> "_Answer":
        """Sleep and ask again with the ticket for as long as the answer is a place in the queue."""
        while answer.state == QUEUED:
            if self._stop.wait(to_host_s(answer.number / 1000)):
                raise Stopped
            answer = self._ask(demand, [egress], longest_ms, answer.rest)
        return answer

    def _ask(
        self, demand: "_Demand", places: Sequence[str], longest_ms: int, ticket: Sequence[str | int | float] = ()
    ) -> "_Answer":
        keys = _keys(demand.exchange, demand.budget, demand.path, places)
        arguments = [*demand.arguments, longest_ms, *demand.limits, *ticket]
        state, place, number, *rest = self._run(self._take, demand.exchange, keys, arguments)
        return _Answer(state=state, place=place, number=number, rest=rest)

    def release(self, grant: Grant, server_count: int | None = None) -> None:
        """Start the window of granted units: the request has its answer, or will not get one.

        `server_count`: the exchange's own count of the current window, from the answer. It is taken over where others
        use more than is left to them. A count above the limit is taken for the limit: an absurd one must not close the
        budget for years.
        """
        budget = grant.budget
        keys = _pair(_key(grant.exchange, budget, grant.egress))
        arguments: list[int | float] = [grant.cost, grant.sequence, *_window(budget)]
        if server_count is not None:
            allowance = Allowance.compute(budget, self._share(grant.exchange))
            count = min(server_count, budget.limit)
            arguments += [count, grant.at_ms, allowance.unit_ms, budget.limit - allowance.capacity]
        try:
            foreign = self._run(self._on_response, grant.exchange, keys, arguments)
        except RedisError as error:
            log.warning("an answer of %s was not noted, its units count a little longer: %s", grant.exchange, error)
            return
        if foreign:
            log.info("%s %s: another program used %d units of this address", grant.exchange, budget.name, foreign)

    def close(self, exchange: Limited, names: Sequence[str], egress: str, for_s: float, reason: str) -> None:
        """Close budgets for all processes behind an address for `for_s` seconds; a later end that is set stays."""
        budgets = [exchange.get_budget(name) for name in names]
        keys = [key for budget in budgets for key in _pair(_key(exchange.name, budget, egress))]
        periods = [budget.period_ms if budget.aligned else "" for budget in budgets]
        try:
            self._run(self._close, exchange.name, keys, [round(for_s * 1000), reason, *periods])
        except RedisError as error:
            raise _redis_away(exchange.name, error) from error
        log.warning("%s: budgets %s closed for %.0f s: %s", exchange.name, ", ".join(names), for_s, reason)

    def note_failure(self, grant: Grant, reason: str, *, answered: bool = False) -> float:
        """Count a request without a usable answer; return the pause at that egress that begins, in s.

        After some failures in a row no process that uses this Redis sends the exchange a request for a growing pause.
        Where it `answered`, and only requests for the grant's path fail, the pause is that path's.
        """
        path = grant.path if answered else ""
        try:
            pause_ms = self._run(self._outage, grant.exchange, _outage_keys(grant), [1, grant.redis_ms, reason, path])
        except RedisError as error:
            log.warning("a failure of %s was not noted: %s", grant.exchange, error)
            return 0.0
        pause_s = float(pause_ms) / 1000
        if pause_s:
            what = f"{grant.exchange} {path}".strip()
            log.warning("%s is not asked from %s for %.0f s: %s", what, grant.egress, pause_s, reason)
        return pause_s

    def note_success(self, grant: Grant) -> None:
        """Note that the exchange answers again where requests had failed before."""
        if not grant.failures:
            return
        try:
            self._run(self._outage, grant.exchange, _outage_keys(grant), [0, grant.redis_ms, "", ""])
        except RedisError as error:
            log.warning("an answer of %s was not noted, it is asked a little later: %s", grant.exchange, error)

    def compute_window_left_s(self, exchange: str, budget: Budget) -> float:
        """Return the seconds until the budget's aligned window turns, by the exchange's clock, else by Redis's."""
        now = self._server_now_ms(exchange)
        if now is None:
            seconds, micros = self._redis.time()
            now = get_pace().apply(seconds * 1000 + micros // 1000)
        return (budget.period_ms - now % budget.period_ms) / 1000

    def _run(self, script: Script, exchange: str, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any:
        server_ms = self._server_now_ms(exchange)
        clocks: list[str | int | float] = [
            read_boot_id(),
            steady_ms(),
            "" if server_ms is None else server_ms,
            *get_pace(),
        ]
        return script(keys=keys, args=[*clocks, *arguments])


def _window(budget: Budget) -> list[int]:
    return [budget.period_ms, budget.jitter_ms, int(budget.aligned)]


def _key(exchange: str, budget: Budget, egress: str) -> str:
    return make_budget_key(exchange, budget.name, ANY_EGRESS if budget.per_key else egress)


def _pair(key: str) -> list[str]:
    return [key, make_units_key(key)]


def _keys(exchange: str, budget: Budget, path: str, places: Sequence[str]) -> list[str]:
    """Return the keys of each place: hash, units in use, outages of the exchange and of the path."""
    return [
        key
        for place in places
        for key in (
            *_pair(_key(exchange, budget, place)),
            make_outage_key(exchange, place),
            make_outage_key(exchange, place, path),
        )
    ]


def _outage_keys(grant: Grant) -> list[str]:
    return [make_outage_key(grant.exchange, grant.egress), make_outage_key(grant.exchange, grant.egress, grant.path)]


def _spent(exchange: str, name: str, wait_s: float, outage: int, path: str) -> BudgetSpent:
    if outage == NO_OUTAGE:
        message = f"the {name} budget of {exchange} is spent or closed for {wait_s:.1f} s"
        return BudgetSpent(message, retry_after_s=wait_s, exchange=exchange)
    failing = path if outage == PATH_OUTAGE else ""
    message = f"{f'{exchange} {failing}'.strip()} does not answer: it is asked again in {wait_s:.1f} s"
    return BudgetSpent(message, retry_after_s=wait_s, exchange=exchange, path=failing)


def _redis_away(exchange: str, error: RedisError) -> RetryLater:
    return RetryLater(
        f"Redis is away, so nothing is sent to {exchange}: {error}", retry_after_s=REDIS_AWAY_S, exchange=exchange
    )


def _register(redis: Redis, name: str) -> Script:
    """Register a script; it begins with what all of them share."""
    return redis.register_script(read_script("state.lua") + read_script(name))


def read_script(name: str) -> str:
    """Return the text of a script."""
    return resources.files("fademoe.client.rate_limit").joinpath(name).read_text(encoding="utf-8")
