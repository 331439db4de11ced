"""What follows an error of a window's job: a table of policies, by the class of the error."""

import logging
import random
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from redis.exceptions import RedisError
from rq import Retry

from fademoe.errors import BudgetSpent, Refused, RetryLater, SourceError, StoreError
from fademoe.jobs.feed_client import NoUnits, TimeUp
from fademoe.queue.retry import DELAY_S, ENDLESS, FAILURES
from fademoe.runtime.job_context import JobContext
from fademoe.signals import Stopped
from fademoe.store.status import State, Tracked

log = logging.getLogger(__name__)

Result = TypeVar("Result")

ATTEMPTS = 5  # other failures without one new row in between, then the window is paused for a day
FIRST_FAILURE_S = 8  # delay after the first failure; each one doubles it: two minutes in all
STORE_AWAY_S = 10
PAUSED_INTERVAL_S = 3600  # a unit that waits reports again when it goes on


class Policy(NamedTuple):
    """What a job does after an error.

    `delay_s(error, attempts)`: until the next run, 0 for at once. `counts_attempt`: the last of ATTEMPTS fails the job.
    `state`: what the unit's status becomes, None to leave it. `is_recorded`: whether the error goes to perp_errors.
    """

    delay_s: Callable[[Exception, int], float]
    counts_attempt: bool = False
    state: State | None = None
    is_recorded: bool = False


class RunAgain(NamedTuple):
    """The job runs again after `delay_s`; 0: as soon as a worker takes it from the front of its queue."""

    delay_s: int


class Fail(NamedTuple):
    """The job fails, and is enqueued again a day later."""


def _at_once(error: Exception, attempts: int) -> float:
    return 0


def _requested_delay_s(error: Exception, attempts: int) -> float:
    """Return the delay that the exchange asks for, a little longer, so that not all come back together."""
    return max(1.0, getattr(error, "retry_after_s", 0.0) * random.uniform(1.0, 1.2))


def _doubled_delay_s(error: Exception, attempts: int) -> float:
    return float(FIRST_FAILURE_S << (attempts - 1))


POLICIES: dict[type[BaseException], Policy] = {
    Stopped: Policy(_at_once),
    TimeUp: Policy(_at_once),
    NoUnits: Policy(_at_once),
    BudgetSpent: Policy(_at_once, state=State.WAITING),
    RetryLater: Policy(_requested_delay_s, state=State.WAITING, is_recorded=True),
    StoreError: Policy(lambda error, attempts: STORE_AWAY_S),
    RedisError: Policy(lambda error, attempts: STORE_AWAY_S),
    Exception: Policy(_doubled_delay_s, counts_attempt=True, state=State.WAITING, is_recorded=True),
}


def find_policy(error: Exception) -> Policy:
    """Return the policy of the nearest class of an error."""
    return next(POLICIES[each] for each in type(error).__mro__ if each in POLICIES)


def decide_next_run(error: Exception, attempts: int) -> RunAgain | Fail:
    """Return what follows an error; `attempts`: how many runs have failed since the last new row, this one included."""
    policy = find_policy(error)
    if isinstance(error, Refused) or (policy.counts_attempt and attempts >= ATTEMPTS):
        return Fail()
    return RunAgain(round(policy.delay_s(error, attempts)))


def run_job(context: JobContext, unit: Tracked, work: Callable[[], Result]) -> Result | Retry:
    """Return what a window's job gives, or when it runs again after an error; see `handle_failure`.

    This is the worker's edge: our own mistakes are retried as an exchange's are.
    """
    try:
        return work()
    except (SourceError, Stopped, StoreError, RedisError) as error:
        return handle_failure(context, unit, error)
    except Exception as error:
        log.exception("%s failed", unit.unit)
        return handle_failure(context, unit, error)


def handle_failure(context: JobContext, unit: Tracked, error: Exception) -> Retry:
    """Report an error of a window's job, record it, and return when rq runs the job again.

    Raises `error` when the job fails: the exchange refuses it, or ATTEMPTS runs failed.
    """
    policy = find_policy(error)
    attempts = context.count_failure(FAILURES) if policy.counts_attempt else 0
    following = decide_next_run(error, attempts)
    if policy.is_recorded and not (isinstance(error, RetryLater) and error.http_status is None):
        unit.record(error)
    if isinstance(following, Fail):
        unit.report(State.ERROR, str(error), interval_s=PAUSED_INTERVAL_S)
        raise error
    message = f"waits {following.delay_s} s: {error}" if following.delay_s else f"waits: {error}"
    if policy.counts_attempt:
        message = f"attempt {attempts} of {ATTEMPTS}, again in {following.delay_s} s: {error}"
    log.log(logging.INFO if policy.state is None else logging.WARNING, "%s %s", unit.unit, message)
    if policy.state is not None:
        unit.report(policy.state, message, interval_s=max(PAUSED_INTERVAL_S, following.delay_s))
    context.write_meta(DELAY_S, following.delay_s)
    return Retry(max=ENDLESS, interval=following.delay_s, enqueue_at_front=True)
