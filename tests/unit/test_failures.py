"""What a window's job does after an error."""

import pytest

from fademoe.errors import BadPayload, BudgetSpent, Refused, RetryLater, StoreError
from fademoe.jobs.failures import ATTEMPTS, Fail, RunAgain, decide_next_run, find_policy
from fademoe.jobs.feed_client import TimeUp
from fademoe.signals import Stopped
from fademoe.store.status import State


def test_the_delay_doubles_with_each_attempt_and_the_last_one_fails():
    delays = [decide_next_run(BadPayload("odd"), attempts) for attempts in range(1, ATTEMPTS)]
    assert delays == [RunAgain(8), RunAgain(16), RunAgain(32), RunAgain(64)]
    assert decide_next_run(BadPayload("odd"), ATTEMPTS) == Fail()
    assert decide_next_run(ZeroDivisionError(), ATTEMPTS) == Fail()


def test_a_refusal_fails_at_once():
    assert decide_next_run(Refused("unknown symbol"), 1) == Fail()


@pytest.mark.parametrize("error", [Stopped(), TimeUp("done", retry_after_s=0), BudgetSpent("line", retry_after_s=3)])
def test_a_run_that_only_ended_runs_again_as_soon_as_its_turn_comes(error):
    assert decide_next_run(error, 0) == RunAgain(0)


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (RetryLater("down", retry_after_s=20), 20, 24),
        (RetryLater("now", retry_after_s=0), 1, 1),
        (BudgetSpent("banned", retry_after_s=600), 0, 0),
        (StoreError("away"), 10, 10),
    ],
)
def test_waiting_uses_up_no_attempt(error, least, most):
    assert not find_policy(error).counts_attempt
    following = decide_next_run(error, 0)
    assert least <= following.delay_s <= most


def test_our_own_mistakes_are_recorded_and_retried_like_those_of_an_exchange():
    assert find_policy(ZeroDivisionError()) is find_policy(BadPayload("odd"))
    assert find_policy(ZeroDivisionError()).is_recorded
    assert find_policy(RetryLater("down", retry_after_s=1)).state is State.WAITING
