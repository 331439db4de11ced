"""The limiter while a clock is set back or ahead, with a share of the limits, and while an exchange fails.

Redis's clock is moved for the scripts alone: what they read of it is shifted by a key that a test sets.
"""

import threading
import time

import pytest
from redis import Redis

from fademoe.client.rate_limit import budgets as module
from fademoe.client.rate_limit import usage
from fademoe.client.rate_limit.budgets import Allowance, Budgets, read_script
from fademoe.client.rate_limit.keys import make_budget_key
from fademoe.errors import BudgetSpent
from fademoe.feeds.limits import Budget
from fademoe.signals import StopSignal
from tests.integration.test_budgets import ALIGNED, MADE_UP, SLIDING, SLOW, take

SHIFT = "test:clock"
TIME = "redis.call('TIME')"
SHIFTED = f"(function() local t = {TIME}; t[1] = t[1] + (redis.call('GET', '{SHIFT}') or 0); return t end)()"
STEPS = [sign * seconds for seconds in (90, 600, 3600, 86_400) for sign in (-1, 1)]


class Limiter(Budgets):
    """Budgets on a Redis whose clock, and whose exchange's clock, can be set."""

    def __init__(self, redis: Redis, share: float = 1.0, server_ahead_ms: int | None = None) -> None:
        self.server_ahead_ms = server_ahead_ms
        self._connection = redis
        super().__init__(
            redis, ["here"], StopSignal(), share=lambda exchange: share, server_now_ms=lambda exchange: self.server_ms()
        )

    def server_ms(self) -> int | None:
        return None if self.server_ahead_ms is None else module.steady_ms() + 1_700_000_000_000 + self.server_ahead_ms

    def set_clock(self, seconds: int) -> None:
        self._connection.set(SHIFT, seconds)


@pytest.fixture(autouse=True)
def _shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_script", lambda name: read_script(name).replace(TIME, SHIFTED))


def spend_all(limiter: Budgets, exchange) -> int:
    """Take single units until none is left at once; return how many there were."""
    for number in range(1000):
        try:
            take(limiter, exchange, 1)
        except BudgetSpent:
            return number
    raise AssertionError("there is no end to it")


def refused_s(limiter: Budgets, exchange, cost: int = 1) -> float:
    """Return how long a request is put off; it must be."""
    with pytest.raises(BudgetSpent) as raised:
        take(limiter, exchange, cost)
    return raised.value.retry_after_s


@pytest.mark.parametrize("step_s", STEPS)
@pytest.mark.parametrize("exchange", [SLOW, ALIGNED], ids=["sliding", "aligned"])
def test_a_step_of_redis_clock_frees_no_unit_and_blocks_none(redis_url, exchange, step_s):
    """The fault: set back by an hour it stood still for an hour; set ahead it forgot what was in use."""
    limiter, budget = Limiter(Redis.from_url(redis_url)), exchange.get_budget("weight")
    take(limiter, exchange, budget.limit)
    begin_s = time.monotonic()
    limiter.set_clock(step_s)
    wait_s = refused_s(limiter, exchange, budget.limit)
    assert 0 < wait_s <= 2.5 * budget.span_ms / 1000
    take(limiter, exchange, budget.limit, max_wait_s=wait_s + 2)
    assert time.monotonic() - begin_s > (0 if budget.aligned else 0.9 * budget.period_ms / 1000)


@pytest.mark.parametrize("step_s", STEPS)
def test_a_step_of_redis_clock_does_not_matter_where_the_exchange_tells_its_time(redis_url, step_s):
    """Aligned windows are the exchange's."""
    limiter = Limiter(Redis.from_url(redis_url), server_ahead_ms=0)
    take(limiter, ALIGNED, 60)
    limiter.set_clock(step_s)
    assert 0 < refused_s(limiter, ALIGNED, 60) < 2.5


@pytest.mark.parametrize("step_s", STEPS)
def test_a_step_of_the_exchanges_clock_is_followed(redis_url, step_s):
    """The exchange's own clock may be set, too."""
    limiter = Limiter(Redis.from_url(redis_url), server_ahead_ms=0)
    take(limiter, ALIGNED, 60)
    limiter.server_ahead_ms = step_s * 1000 + 300
    assert 0 < refused_s(limiter, ALIGNED, 60) < 3.5
    take(limiter, ALIGNED, 60, max_wait_s=4)


@pytest.mark.parametrize("step_s", STEPS)
def test_a_closure_lasts_as_long_as_before_the_step(redis_url, step_s):
    limiter = Limiter(Redis.from_url(redis_url))
    limiter.close(SLIDING, ("weight",), "here", 30, "HTTP 429")
    limiter.set_clock(step_s)
    assert 28 < refused_s(limiter, SLIDING) <= 30
    [budget] = usage.list_budget_uses(Redis.from_url(redis_url))
    assert 28_000 < budget.closed_until_ms - time.time() * 1000 <= 30_000


def test_after_a_reboot_with_a_clock_that_was_set_back_a_closure_is_no_longer_than_before(redis_url, monkeypatch):
    """Nobody is left who knows the time between; a machine that came back from a snapshot."""
    limiter = Limiter(Redis.from_url(redis_url))
    limiter.close(SLIDING, ("weight",), "here", 30, "HTTP 429")
    limiter.set_clock(-86_400)
    monkeypatch.setattr(module, "read_boot_id", lambda: "another run of the machine")
    assert 0 < refused_s(limiter, SLIDING) <= 30


@pytest.mark.parametrize("step_s", STEPS)
@pytest.mark.parametrize("live", [False, True])
def test_who_waits_while_the_clock_is_set_is_served_in_time(redis_url, step_s, live):
    """A place in the queue moves with the clock."""
    limiter = Limiter(Redis.from_url(redis_url))
    take(limiter, SLIDING, 60)
    setting = threading.Timer(0.3, lambda: limiter.set_clock(step_s))
    begin_s = time.monotonic()
    setting.start()
    take(limiter, SLIDING, 60, live=live, max_wait_s=10)
    setting.join()
    assert 0.9 < time.monotonic() - begin_s < 8


def test_a_share_of_a_limit_is_used_and_no_more(redis_url):
    """The fault: everything of a limit was taken, and a trader's own program on the same address was starved."""
    limiter = Limiter(Redis.from_url(redis_url), share=0.5)
    spend_all(limiter, SLIDING)
    begin_s, units = time.monotonic(), 0
    while time.monotonic() - begin_s < 6:
        take(limiter, SLIDING, 1, max_wait_s=2)
        units += 1
    share = units / (time.monotonic() - begin_s) / SLIDING.get_budget("weight").limit
    assert 0.4 <= share <= 0.505
    [budget] = usage.list_budget_uses(Redis.from_url(redis_url))
    assert (budget.limit, budget.allowed) == (60, 30)
    assert budget.used <= 0.6 * budget.limit


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("limit", [5, 20, 600, 2400])
def test_the_pace_of_a_share_is_within_a_few_percent_of_it(share, limit):
    for aligned in (True, False):
        budget = Budget(name="x", limit=limit, period_ms=60_000, jitter_ms=400, aligned=aligned)
        allowance = Allowance.compute(budget, share)
        used = budget.period_ms / allowance.unit_ms / limit
        assert 0.96 * share <= used <= share
        assert allowance.capacity <= (max(1, share * limit) if aligned else min(limit, 1.1 * share * limit + 2))


def test_others_may_use_what_is_left_to_them(redis_url):
    """With half of a limit for us, half of it is theirs, and counts as ours only beyond that."""
    minute = SLIDING.__class__(
        **{
            **vars(MADE_UP),
            "rest_feeds": (),
            "poll_feeds": (),
            "budgets": (
                Budget(name="weight", limit=600, period_ms=60_000, jitter_ms=0, aligned=True, used_header="X"),
            ),
        }
    )
    limiter = Limiter(Redis.from_url(redis_url), share=0.5, server_ahead_ms=0)
    while not 6 < limiter.compute_window_left_s(minute.name, minute.get_budget("weight")) < 54:
        limiter.server_ahead_ms += 10_000
    grant = take(limiter, minute, 10)
    limiter.release(grant, 310)
    assert used(redis_url) == 10
    limiter.release(grant, 410)
    limiter.release(grant, 410)
    assert used(redis_url) == 110
    limiter.release(grant, 10**15)
    with pytest.raises(BudgetSpent) as raised:
        take(limiter, minute, 10)
    assert raised.value.retry_after_s < 61, "an absurd count closes the budget for no longer than a window"


def used(redis_url: str) -> int:
    redis = Redis.from_url(redis_url)
    return int(float(redis.hget(make_budget_key(MADE_UP.name, "weight", "here"), "used")))


def fail(limiter: Budgets, times: int) -> float:
    """Let requests fail one after the other; return the pause that the last one brings."""
    pause_s = 0.0
    for _ in range(times):
        grant = limiter.take(SLIDING, "weight", 1, live=False, max_wait_s=3)
        limiter.release(grant)
        pause_s = limiter.note_failure(grant, "HTTP 503")
    return pause_s


def test_failures_in_a_row_pause_the_exchange_for_everybody_and_one_probe_ends_it(redis_url):
    """The fault: every window went on asking an exchange in maintenance, with all of the budget."""
    redis = Redis.from_url(redis_url)
    limiter, other = Limiter(redis), Limiter(redis)
    assert fail(limiter, 3) == 0
    assert fail(limiter, 1) == 5
    assert 4 < refused_s(other, SLIDING) <= 5
    limiter.set_clock(0)
    redis.hset("outage:slots1:" + SLIDING.name + ":here", "resumes_at", "1")
    probe = other.take(SLIDING, "weight", 1, live=False, max_wait_s=0)
    assert 0 < refused_s(limiter, SLIDING) <= 2
    other.release(probe)
    assert other.note_failure(probe, "HTTP 503") == 10
    assert [outage.failures for outage in usage.list_outages(redis)] == [5]
    redis.hset("outage:slots1:" + SLIDING.name + ":here", "resumes_at", "1")
    probe = other.take(SLIDING, "weight", 1, live=False, max_wait_s=0)
    other.release(probe)
    other.note_success(probe)
    assert usage.list_outages(redis) == []
    take(limiter, SLIDING, 1)


def test_pauses_grow_to_five_minutes(redis_url):
    redis = Redis.from_url(redis_url)
    limiter = Limiter(redis)
    pauses = [fail(limiter, 4)]
    for _ in range(8):
        redis.hset("outage:slots1:" + SLIDING.name + ":here", "resumes_at", "1")
        pauses.append(fail(limiter, 1))
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_requests_that_fail_together_are_one_step_of_the_pause(redis_url):
    """What was in flight when the pause began says nothing new."""
    limiter = Limiter(Redis.from_url(redis_url))
    grants = [limiter.take(SLIDING, "weight", 1, live=False, max_wait_s=1) for _ in range(30)]
    pauses = [limiter.note_failure(grant, "HTTP 503") for grant in grants]
    assert sum(pauses) == 5
