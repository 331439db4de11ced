"""A round of requests: what one failed task costs the others, and how far the round counts as requested."""

from types import SimpleNamespace

import pytest

from fademoe.cli.environment import load_settings
from fademoe.errors import BadPayload, BudgetSpent, Refused, RetryLater
from fademoe.jobs.rounds import request_all
from fademoe.queue.ids import LIVE
from fademoe.signals import StopSignal

TASKS = range(200)
FAILING = 40
DOWN = RetryLater("HTTP 503", retry_after_s=5, http_status=503)
SPENT = BudgetSpent("closed for an hour", retry_after_s=3600)


class Exchange:
    """Answers each task with a row of its number, after errors that are listed by task; counts what it was asked."""

    def __init__(self, errors):
        self.errors = {task: list(listed) for task, listed in errors.items()}
        self.asked = []

    def request(self, task, max_wait_s):
        self.asked.append(task)
        errors = self.errors.get(task)
        if errors:
            raise errors.pop(0)
        return [task], []


def run(exchange, threads=4):
    services = SimpleNamespace(stop=StopSignal(), settings=load_settings({}))
    return request_all(services, TASKS, exchange.request, queue=LIVE, threads=threads, run_s=60, max_wait_s=1)


def test_an_answer_that_fails_once_costs_nothing():
    """It ended the round: the open interest of all other contracts was lost for that minute."""
    exchange = Exchange({FAILING: [DOWN]})
    outcome = run(exchange)
    assert sorted(outcome.rows) == list(TASKS)
    assert outcome.requested == len(TASKS)
    assert outcome.failed is None
    assert exchange.asked.count(FAILING) == 2


def test_a_task_that_fails_twice_is_abandoned_and_costs_no_other():
    exchange = Exchange({FAILING: [DOWN] * 9})
    outcome = run(exchange)
    assert len(outcome.rows) == len(TASKS) - 1
    assert outcome.requested == len(TASKS)
    assert outcome.failed is DOWN
    assert exchange.asked.count(FAILING) == 2


@pytest.mark.parametrize("error", [BadPayload("odd"), Refused("unknown symbol")])
def test_what_a_second_request_would_not_change_is_asked_once(error):
    exchange = Exchange({FAILING: [error]})
    outcome = run(exchange)
    assert len(outcome.rows) == len(TASKS) - 1
    assert outcome.failed is error
    assert exchange.asked.count(FAILING) == 1


def test_a_closed_exchange_ends_the_round_and_says_what_closed_it():
    banned = RetryLater("banned", retry_after_s=3600, http_status=418)
    exchange = Exchange({FAILING: [banned], FAILING + 1: [SPENT] * 2})
    outcome = run(exchange, threads=1)
    assert outcome.requested == len(outcome.rows) == FAILING, "the next round goes on there"
    assert outcome.failed is SPENT
    assert outcome.errors == [banned]
    assert exchange.asked[-1] == FAILING + 1
