"""What the jobs of one window share: the series' exchange, feed and contract, requests for pages, failure policies."""

import logging
import math
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple, TypeVar

from redis.exceptions import RedisError
from rq import Retry

from fademoe.client import instruments
from fademoe.clock import SECOND_MS, Window, monotonic_s, now_ms, to_iso
from fademoe.errors import BudgetSpent, Refused, RetryLater, SourceError, StoreError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import Page, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.queue.dequeue import OPPORTUNISTIC_WAIT_S, begin_wait_s, list_ready_queues
from fademoe.queue.ids import LIVE, get_requested_queue, is_requested, list_exchange_queues
from fademoe.queue.pauses import list_budgets_of, pause_budget
from fademoe.queue.retry import DELAY_S, FAILURES, fail_without_retry
from fademoe.runtime.job_context import JobContext
from fademoe.runtime.services import Services
from fademoe.signals import Stopped
from fademoe.store.coverage import RUNS_APART_S, Series
from fademoe.store.status import State, Tracked

log = logging.getLogger(__name__)

Result = TypeVar("Result")

FIRST_EMPTY_MS = "first_empty_ms"  # key of Job.meta: when a run first got an empty page
ENDLESS = 1_000_000_000  # retries of rq: waiting for an exchange uses up no attempt
ATTEMPTS = 5  # other failures without one new row in between, then the window is paused for a day
FIRST_FAILURE_S = 8  # delay after the first failure; each one doubles it: two minutes in all
STORE_AWAY_S = 10
PAUSED_INTERVAL_S = 3600  # a unit that waits reports again when it goes on
RUN_S = 40.0  # then what is done is stored and the rest is requeued: other exchanges get their turn
# How long a later request of a run waits for its rate limit: while another exchange has work and units, and otherwise.
YIELDING_WAIT_S = 1.0
PATIENT_WAIT_S = 10.0
LOOK_EVERY_S = 0.5  # at what others have to do


class TimeUp(RetryLater):
    """The run has worked long enough, or others go first; the rest of its window is requeued."""


class NoUnits(BudgetSpent):
    """The rate limit has no units for a run to begin; its window stays queued until it has."""


def has_requested_work(services: Services) -> bool:
    """Return whether a window that a person requested is ready for a worker."""
    enabled = [exchange.name for exchange in registry.select_enabled(services.settings)]
    return bool(list_ready_queues(services.redis, [get_requested_queue(name) for name in enabled]))


def has_other_work(services: Services, queue: str) -> bool:
    """Return whether another exchange's queue than `queue` has work and units; False outside a worker, for ""."""
    enabled = [exchange.name for exchange in registry.select_enabled(services.settings)]
    others = [name for name in list_exchange_queues(*enabled) if name != queue]
    return bool(queue and list_ready_queues(services.redis, others))


@dataclass(kw_only=True)
class FeedClient:
    """Sends one run's requests for pages, from any of its threads.

    The first request decides whether the run begins: it does not wait for a rate limit that others use up. The run ends
    early when requested work is ready and it is not requested itself, or when it would wait for its rate limit, with no
    other thread at work, while another queue has work and units.
    """

    services: Services
    exchange: Exchange
    queue: str
    deadline_s: float
    on_begin: Callable[[], None]
    has_begun: bool = False
    next_look_s: float = 0.0
    threads_at_work: int = 0
    lock: Lock = field(default_factory=Lock)

    @property
    def is_live(self) -> bool:
        """Whether it may displace other work at the rate limit."""
        return self.queue == LIVE

    def get(self, feed: RestFeed, page: Page, *, opportunistic: bool = False) -> Json:
        """Return the decoded answer; raise TimeUp when the run is to end."""
        if monotonic_s() > self.deadline_s:
            raise TimeUp("this run has used its time", retry_after_s=0)
        if opportunistic:
            return self._send(feed, page, OPPORTUNISTIC_WAIT_S)
        if not self.has_begun:
            return self._begin(feed, page)
        self._yield_to_requested()
        try:
            return self._send(feed, page, YIELDING_WAIT_S)
        except BudgetSpent:
            if not self.threads_at_work and self._has_others():
                raise TimeUp("another queue has work and units", retry_after_s=0) from None
        return self._send(feed, page, PATIENT_WAIT_S)

    def _begin(self, feed: RestFeed, page: Page) -> Json:
        try:
            answer = self._send(feed, page, begin_wait_s(self.queue))
        except BudgetSpent as error:
            raise NoUnits(str(error), retry_after_s=error.retry_after_s, exchange=error.exchange) from error
        self.has_begun = True
        self.on_begin()
        return answer

    def _send(self, feed: RestFeed, page: Page, max_wait_s: float) -> Json:
        with self.lock:
            self.threads_at_work += 1
        try:
            with self.services.stop.allow_interrupt():
                return self.services.rest.send(
                    self.exchange,
                    feed.make_request(page),
                    budget=feed.budget,
                    cost=feed.paging.compute_cost(page.limit),
                    live=self.is_live,
                    max_wait_s=max_wait_s,
                )
        except BudgetSpent as error:
            pause_budget(self.services.redis, self.exchange.name, feed.budget, error.retry_after_s)
            raise
        finally:
            with self.lock:
                self.threads_at_work -= 1

    def _yield_to_requested(self) -> None:
        """Raise TimeUp when requested work is ready and this run is work of the system."""
        if not self.queue or self.is_live or is_requested(self.queue) or monotonic_s() < self.next_look_s:
            return
        self.next_look_s = monotonic_s() + LOOK_EVERY_S
        if has_requested_work(self.services):
            raise TimeUp("requested work goes first", retry_after_s=0)

    def _has_others(self) -> bool:
        return not self.is_live and has_other_work(self.services, self.queue)

    def allow_interrupt(self) -> AbstractContextManager[None]:
        """Let a stop raise Stopped in the block."""
        return self.services.stop.allow_interrupt()


@dataclass(frozen=True, kw_only=True)
class Work:
    """One run of a window's job."""

    services: Services
    exchange: Exchange
    feed: RestFeed
    instrument: Instrument
    series: Series
    window: Window
    unit: Tracked
    client: FeedClient
    context: JobContext
    kind: str

    @property
    def is_second_run(self) -> bool:
        """Whether a run at least RUNS_APART_S ago got an empty page in this window."""
        noted_ms = self.context.read_meta(FIRST_EMPTY_MS)
        return 0 < noted_ms <= now_ms() - RUNS_APART_S * SECOND_MS

    def note_empty_page(self) -> None:
        """Note that this run got an empty page, unless one before did."""
        if not self.context.read_meta(FIRST_EMPTY_MS):
            self.context.write_meta(FIRST_EMPTY_MS, now_ms())


def make_work(context: JobContext, unit: Tracked, series: Series, window: Window, kind: str) -> Work:
    """Look up exchange, feed and contract of a series; raise Refused when there is none.

    `kind`: the kind of work, as absences remember it.
    """
    services = context.services
    exchange, code, metric = registry.find_by_source(series.source)
    feed = exchange.find_rest_feed(metric)
    if feed is None:
        raise Refused(f"{exchange.name} has no history of {metric}", exchange=exchange.name)
    instrument = _find_instrument(services, exchange, code, metric, series.symbol)
    if not feed.serves(instrument):
        raise Refused(f"{exchange.name} has no {metric} of {series.symbol} in coins", exchange=exchange.name)
    return Work(
        services=services,
        exchange=exchange,
        feed=feed,
        instrument=instrument,
        series=series,
        window=window,
        unit=unit,
        context=context,
        kind=kind,
        client=FeedClient(
            services=services,
            exchange=exchange,
            queue=context.queue,
            deadline_s=monotonic_s() + RUN_S if context.job else math.inf,  # commands take their time
            on_begin=lambda: unit.report(State.RUNNING, f"fetching {describe_window(window)}"),
        ),
    )


def ask_exchange_time(work: Work) -> int:
    """Return the exchange's time in ms; raise RetryLater when it cannot be had."""
    with _pausing(work.services, work.exchange, work.feed.metric), work.services.stop.allow_interrupt():
        return work.services.clocks.ask(work.exchange, live=work.client.is_live)


@contextmanager
def _pausing(services: Services, exchange: Exchange, metric: str) -> Iterator[None]:
    """Let the windows of a metric stay queued while a request that they all begin with has no units."""
    try:
        yield
    except BudgetSpent as error:
        for budget in list_budgets_of(exchange, metric):
            pause_budget(services.redis, exchange.name, budget, error.retry_after_s)
        raise NoUnits(str(error), retry_after_s=error.retry_after_s, exchange=error.exchange) from error


def _find_instrument(services: Services, exchange: Exchange, code: str, metric: str, symbol: str) -> Instrument:
    """Return the contract of a symbol; the exchange's list is fetched when it is not known."""
    instrument = instruments.find(services.database, code, symbol)
    if instrument is None:
        with _pausing(services, exchange, metric), services.stop.allow_interrupt():
            instruments.refresh(exchange, services.rest, services.database)
        instrument = instruments.find(services.database, code, symbol)
    if instrument is None:
        raise Refused(f"{exchange.name} does not list {symbol}", exchange=exchange.name)
    return instrument


def describe_window(window: Window) -> str:
    """Return a window as messages show it."""
    return f"{to_iso(window.start_ms)} to {to_iso(window.end_ms)}"


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
        fail_without_retry(context.job)
        raise error
    message = f"waits {following.delay_s} s: {error}" if following.delay_s else f"waits: {error}"
    if policy.counts_attempt:
        message = f"attempt {attempts} of {ATTEMPTS}, again in {following.delay_s} s: {error}"
    log.log(logging.INFO if policy.state is None else logging.WARNING, "%s %s", unit.unit, message)
    if policy.state is not None:
        unit.report(policy.state, message, interval_s=PAUSED_INTERVAL_S)
    context.write_meta(DELAY_S, following.delay_s)
    return Retry(max=ENDLESS, interval=following.delay_s, enqueue_at_front=True)
