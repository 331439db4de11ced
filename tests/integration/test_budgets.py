"""The shared buckets, on a real Redis."""

import multiprocessing
import time
from dataclasses import replace

import pytest
from redis import Redis

from fademoe.errors import RetryLater
from fademoe.feeds import registry
from fademoe.feeds.spec import Budget
from fademoe.limits.budgets import Budgets
from fademoe.stop import StopSignal

BINANCE = registry.exchanges()["binance"]
SMALL = replace(
    BINANCE,
    rest_feeds=(),
    poll_feeds=(),
    budgets=(Budget(name="weight", limit=60, period_ms=1000, burst=6, used_header="X"),),
)


def budgets(url: str, *egress: str) -> Budgets:
    return Budgets(Redis.from_url(url), egress or ("here",), StopSignal())


def spend(url: str, seconds: float, live: bool, found) -> None:
    """Take two units again and again; report when each was granted."""
    mine = budgets(url)
    until = time.monotonic() + seconds
    times = []
    while time.monotonic() < until:
        grant = mine.take(SMALL, "weight", 2, live=live, max_wait_s=5)
        times.append(grant.slot_ms)
    found.put(times)


def test_processes_together_never_pass_the_limit_and_use_most_of_it(redis_url):
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    spenders = [context.Process(target=spend, args=(redis_url, 4.0, n == 0, found)) for n in range(4)]
    for spender in spenders:
        spender.start()
    times = sorted(ts for _ in spenders for ts in found.get(timeout=30))
    for spender in spenders:
        spender.join(10)
    most = max(sum(2 for other in times if ts <= other < ts + 1000) for ts in times)
    assert most <= 60
    span_s = (times[-1] - times[0]) / 1000
    assert len(times) * 2 / span_s > 0.75 * 60


def test_a_wait_longer_than_allowed_takes_nothing(redis_url):
    mine = budgets(redis_url)
    for _ in range(3):
        mine.take(SMALL, "weight", 2, live=False, max_wait_s=0)
    for _ in range(50):
        with pytest.raises(RetryLater) as raised:
            mine.take(SMALL, "weight", 6, live=False, max_wait_s=0)
        assert 0 < raised.value.retry_after_s < 0.5
    time.sleep(0.2)
    mine.take(SMALL, "weight", 6, live=False, max_wait_s=0)


def test_live_work_goes_before_what_waits(redis_url):
    mine = budgets(redis_url)
    with pytest.raises(RetryLater):
        for _ in range(20):
            mine.take(SMALL, "weight", 2, live=False, max_wait_s=0)
    mine.take(SMALL, "weight", 2, live=True, max_wait_s=0)


def test_a_closed_budget_is_closed_for_everyone_behind_the_egress(redis_url):
    budgets(redis_url).close(SMALL, ("weight",), "here", 30, "429")
    budgets(redis_url).close(SMALL, ("weight",), "here", 1, "a shorter pause does not end a longer one")
    with pytest.raises(RetryLater) as raised:
        budgets(redis_url).take(SMALL, "weight", 1, live=True, max_wait_s=5)
    assert 25 < raised.value.retry_after_s <= 30
    budgets(redis_url, "elsewhere").take(SMALL, "weight", 1, live=False, max_wait_s=0)


def test_a_budget_that_closes_while_one_waits_is_not_used(redis_url):
    mine = budgets(redis_url)
    for _ in range(3):
        mine.take(SMALL, "weight", 2, live=False, max_wait_s=0)
    waiter = budgets(redis_url)
    closer = multiprocessing.get_context("spawn").Process(target=close_soon, args=(redis_url,))
    closer.start()
    with pytest.raises(RetryLater):
        for _ in range(200):
            waiter.take(SMALL, "weight", 6, live=False, max_wait_s=5)
    closer.join(10)


def close_soon(url: str) -> None:
    time.sleep(0.5)
    budgets(url).close(SMALL, ("weight",), "here", 60, "banned")


def test_the_exchanges_own_count_is_taken_over(redis_url):
    aligned = replace(SMALL, budgets=(Budget(name="weight", limit=600, period_ms=60_000, burst=20, used_header="X"),))
    mine = budgets(redis_url)
    if mine.until_turn_s(aligned.budget("weight")) < 2:
        time.sleep(2.1)
    grant = mine.take(aligned, "weight", 2, live=False, max_wait_s=0)
    mine.correct(grant, 302)
    with pytest.raises(RetryLater) as raised:
        mine.take(aligned, "weight", 2, live=False, max_wait_s=1)
    assert raised.value.retry_after_s > 20
    mine.correct(grant, 302)
    with pytest.raises(RetryLater) as again:
        mine.take(aligned, "weight", 2, live=False, max_wait_s=1)
    assert again.value.retry_after_s <= raised.value.retry_after_s


def test_without_redis_nothing_is_sent():
    away = Budgets(Redis.from_url("unix:///nowhere/redis.sock"), ["here"], StopSignal())
    with pytest.raises(RetryLater, match="Redis is away"):
        away.take(SMALL, "weight", 1, live=False, max_wait_s=0)


def test_a_cost_above_the_burst_is_a_mistake_of_the_table(redis_url):
    with pytest.raises(ValueError, match="burst"):
        budgets(redis_url).take(SMALL, "weight", 7, live=False, max_wait_s=0)


def test_two_addresses_have_a_budget_each(redis_url):
    both = budgets(redis_url, "one", "two")
    granted = [both.take(SMALL, "weight", 6, live=False, max_wait_s=0).egress for _ in range(2)]
    assert sorted(granted) == ["one", "two"]
    with pytest.raises(RetryLater):
        both.take(SMALL, "weight", 6, live=False, max_wait_s=0)
    waited = both.take(SMALL, "weight", 2, live=False, max_wait_s=1)
    assert waited.egress in ("one", "two")
