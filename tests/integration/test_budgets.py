"""The shared budgets, on a real Redis."""

import multiprocessing
import random
import threading
import time
from dataclasses import replace

import pytest
from redis import Redis

from fademoe.client.rate_limit import usage
from fademoe.client.rate_limit.budgets import Budgets, Grant
from fademoe.errors import BudgetSpent, RetryLater
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.limits import Budget
from fademoe.signals import Stopped, StopSignal

SPAWN = multiprocessing.get_context("spawn")
MADE_UP = replace(next(iter(registry.load_exchanges().values())), rest_feeds=(), poll_feeds=(), terms_feeds=())
SLIDING = replace(MADE_UP, budgets=(Budget(name="weight", limit=60, period_ms=1000, jitter_ms=20),))
SLOW = replace(MADE_UP, budgets=(Budget(name="weight", limit=10, period_ms=4000, jitter_ms=0),))
ALIGNED = replace(
    MADE_UP, budgets=(Budget(name="weight", limit=60, period_ms=1000, jitter_ms=100, aligned=True, used_header="X"),)
)
MINUTE = replace(
    MADE_UP, budgets=(Budget(name="weight", limit=600, period_ms=60_000, jitter_ms=0, aligned=True, used_header="X"),)
)
KINDS = {"sliding": SLIDING, "aligned": ALIGNED}  # a process is told the name


def budgets(url: str, *egress: str) -> Budgets:
    return Budgets(Redis.from_url(url), egress or ("here",), StopSignal())


def spend(url: str, kind: str, seconds: float, live: bool, found, seed: int) -> None:
    """Send requests of one to five units again and again, at times with a pause; report (arrival, cost) of each.

    Each is on its way for up to 0.2 s, and arrives, by Redis's clock, at some time between.
    """
    mine, dice, redis = budgets(url), random.Random(seed), Redis.from_url(url)
    until = time.monotonic() + seconds
    grants = []
    while time.monotonic() < until:
        cost = dice.randint(1, 5)
        grant = mine.take(KINDS[kind], "weight", cost, live=live, max_wait_s=10)
        time.sleep(dice.random() * dice.choice((0.0, 0.01, 0.1)))
        seconds_now, micros = redis.time()
        grants.append((seconds_now * 1000 + micros / 1000, cost))
        time.sleep(dice.random() * dice.choice((0.0, 0.01, 0.1)))
        mine.release(grant)
        if dice.random() < 0.02:
            time.sleep(0.3)
    found.put(grants)


def used(url: str) -> int:
    """Return the units in use of the one budget that was used."""
    [budget] = usage.list_budget_uses(Redis.from_url(url))
    return budget.used


def take(mine: Budgets, exchange: Exchange, cost: int, *, live: bool = False, max_wait_s: float = 0) -> Grant:
    """Send a request that is answered at once."""
    grant = mine.take(exchange, "weight", cost, live=live, max_wait_s=max_wait_s)
    mine.release(grant)
    return grant


def spend_together(url: str, kind: str, seconds: float, lanes: list[bool]) -> list[list[tuple[float, int]]]:
    """Let a process for each lane (live or not) spend; return the grants of each, the live ones first."""
    found = {live: SPAWN.Queue() for live in (True, False)}
    spenders = [
        SPAWN.Process(target=spend, args=(url, kind, seconds, live, found[live], seed))
        for seed, live in enumerate(lanes)
    ]
    for spender in spenders:
        spender.start()
    grants = [found[live].get(timeout=seconds + 30) for live in sorted(lanes, reverse=True)]
    for spender in spenders:
        spender.join(10)
    return grants


def fill(url: str, exchange: Exchange) -> None:
    """Take what is available at once, and one unit more: the next request is queued."""
    mine = budgets(url)
    with pytest.raises(BudgetSpent):
        for _ in range(1000):
            take(mine, exchange, 1)


@pytest.mark.parametrize("lanes", ([False] * 4, [True, False, False, False]), ids=("backfill", "with live"))
def test_in_no_window_is_more_than_the_limit_sent(redis_url, lanes):
    grants = sorted(grant for each in spend_together(redis_url, "sliding", 3.0, lanes) for grant in each)
    budget = SLIDING.get_budget("weight")
    for first, _ in grants:
        within = sum(cost for at_ms, cost in grants if first <= at_ms < first + budget.period_ms)
        assert within <= budget.limit
    assert grants[-1][0] - grants[0][0] > 2 * budget.period_ms


@pytest.mark.parametrize("lanes", ([False] * 4, [True, False, False, False]), ids=("backfill", "with live"))
def test_in_no_aligned_window_is_more_than_the_limit_even_when_requests_cross_its_edges(redis_url, lanes):
    grants = [grant for each in spend_together(redis_url, "aligned", 3.0, lanes) for grant in each]
    budget = ALIGNED.get_budget("weight")
    windows = {int(at_ms // budget.period_ms) for at_ms, _ in grants}
    for window in windows:
        for off_ms in (-budget.jitter_ms + 1, 0, budget.jitter_ms - 1):  # so far may the exchange's clock be off
            assert sum(c for at_ms, c in grants if (at_ms + off_ms) // budget.period_ms == window) <= budget.limit
    assert len(windows) > 2


def test_a_unit_is_in_use_until_a_window_after_its_answer(redis_url):
    mine = budgets(redis_url)
    late = mine.take(SLIDING, "weight", 60, live=False, max_wait_s=0)
    time.sleep(1.5)
    with pytest.raises(BudgetSpent):
        take(mine, SLIDING, 1)
    mine.release(late)
    with pytest.raises(BudgetSpent) as raised:
        take(mine, SLIDING, 1)
    assert 0.5 < raised.value.retry_after_s <= 1.1
    take(mine, SLIDING, 1, max_wait_s=2)


def test_live_work_has_its_share_while_backfill_takes_all_it_gets(redis_url):
    live, *others = spend_together(redis_url, "sliding", 4.0, [True, *[False] * 5])
    begin_ms, end_ms = live[0][0], live[-1][0]
    units = [sum(cost for at_ms, cost in grants if begin_ms <= at_ms <= end_ms) for grants in (live, *others)]
    # one of six, and it asks for no more than one page at a time: a sixth would be its part without a share
    assert units[0] > 1.2 * sum(units) / len(units)


def test_first_come_first_served(redis_url):
    fill(redis_url, SLIDING)
    grants = {}

    def wait_for_turn(number: int) -> None:
        grants[number] = take(budgets(redis_url), SLIDING, 3, max_wait_s=10).at_ms

    queue = [threading.Thread(target=wait_for_turn, args=(number,)) for number in range(30)]
    for waiting in queue:
        waiting.start()
        time.sleep(0.05)
    for waiting in queue:
        waiting.join(20)
    order = sorted(grants, key=lambda number: grants[number])
    # a thread may sleep too long for its turn, and is served when it comes
    assert all(abs(order.index(number) - number) <= 2 for number in range(30))


def test_a_wait_longer_than_allowed_takes_nothing(redis_url):
    mine = budgets(redis_url)
    take(mine, SLOW, 5)
    for _ in range(50):
        with pytest.raises(BudgetSpent) as raised:
            take(mine, SLOW, 5, max_wait_s=0.1)
        assert 0 < raised.value.retry_after_s <= 5
    take(mine, SLOW, 5, max_wait_s=5)


def test_a_request_that_leaves_the_queue_has_used_nothing(redis_url):
    take(budgets(redis_url), SLOW, 5)
    stop = StopSignal()
    leaving = Budgets(Redis.from_url(redis_url), ["here"], stop)
    threading.Timer(0.2, stop._event.set).start()
    sent = used(redis_url)
    with pytest.raises(Stopped):
        take(leaving, SLOW, 5, max_wait_s=20)
    assert used(redis_url) == sent


def test_live_work_goes_ahead_of_the_queue(redis_url):
    take(budgets(redis_url), SLOW, 2)
    begin_s = time.monotonic()
    waiting = threading.Thread(target=lambda: take(budgets(redis_url), SLOW, 1, max_wait_s=20), daemon=True)
    waiting.start()
    take(budgets(redis_url), SLOW, 1, live=True)
    waiting.join(0.1)
    assert waiting.is_alive()
    waiting.join(20)
    assert time.monotonic() - begin_s > 0.6  # its own turn came after 0.4 s, behind the live request


def test_a_closed_budget_is_closed_for_everyone_behind_the_egress(redis_url):
    budgets(redis_url).close(SLIDING, ("weight",), "here", 30, "429")
    budgets(redis_url).close(SLIDING, ("weight",), "here", 1, "a shorter pause does not end a longer one")
    for live in (True, False):
        with pytest.raises(BudgetSpent) as raised:
            take(budgets(redis_url), SLIDING, 1, live=live, max_wait_s=5)
        assert 25 < raised.value.retry_after_s <= 30
    take(budgets(redis_url, "elsewhere"), SLIDING, 1)


@pytest.mark.parametrize("live", (False, True))
def test_a_budget_that_closes_while_one_waits_is_not_used(redis_url, live):
    mine = budgets(redis_url)
    take(mine, SLOW, 10)  # the window is full for four seconds
    closing = threading.Timer(0.3, lambda: budgets(redis_url).close(SLOW, ("weight",), "here", 60, "banned"))
    closing.start()
    with pytest.raises(BudgetSpent) as raised:
        take(mine, SLOW, 1, live=live, max_wait_s=20)
    assert raised.value.retry_after_s > 30
    closing.join()


def test_after_a_closure_all_are_served_one_after_the_other(redis_url):
    budgets(redis_url).close(SLIDING, ("weight",), "here", 1, "429")
    grants = []
    queue = [
        threading.Thread(target=lambda: grants.append(take(budgets(redis_url), SLIDING, 5, max_wait_s=9).at_ms))
        for _ in range(6)
    ]
    for waiting in queue:
        waiting.start()
    for waiting in queue:
        waiting.join(20)
    assert len(grants) == 6
    assert max(grants) - min(grants) > 250  # five times 5 units are 430 ms, and a thread may come late for its turn


def test_the_exchanges_own_count_is_taken_over(redis_url):
    mine = budgets(redis_url)
    while (
        not 6 < mine.compute_window_left_s(MINUTE.name, MINUTE.get_budget("weight")) < 54
    ):  # near the turn it may be the count of either
        time.sleep(0.5)
    grant = take(mine, MINUTE, 2)
    mine.release(grant, 302)
    with pytest.raises(BudgetSpent) as raised:
        take(mine, MINUTE, 2, max_wait_s=1)
    assert raised.value.retry_after_s > 20  # 300 units of 600 a minute take half of one, less what can be caught up
    mine.release(grant, 302)
    with pytest.raises(BudgetSpent) as again:
        take(mine, MINUTE, 2, max_wait_s=1)
    assert again.value.retry_after_s <= raised.value.retry_after_s


def test_without_redis_nothing_is_sent():
    away = Budgets(Redis.from_url("unix:///nowhere/redis.sock"), ["here"], StopSignal())
    with pytest.raises(RetryLater, match="Redis is away"):
        take(away, SLIDING, 1)


def test_a_cost_above_the_limit_is_a_mistake_of_the_table(redis_url):
    with pytest.raises(ValueError, match="limit"):
        take(budgets(redis_url), SLIDING, 61)


def test_two_addresses_have_a_budget_each(redis_url):
    both = budgets(redis_url, "one", "two")
    granted = [take(both, SLOW, 10).egress for _ in range(2)]
    assert sorted(granted) == ["one", "two"]
    with pytest.raises(BudgetSpent):
        take(both, SLOW, 1)


def test_a_wait_goes_to_the_address_where_it_is_shortest(redis_url):
    both = budgets(redis_url, "one", "two")
    both.close(SLOW, ("weight",), "one", 60, "429")
    assert {take(both, SLOW, 1, max_wait_s=2).egress for _ in range(4)} == {"two"}
