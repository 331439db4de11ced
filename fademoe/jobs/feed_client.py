"""Requests of one run of a window's job for pages: when the run begins, waits for a rate limit, and gives way."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

from fademoe.clock import monotonic_s, to_host_s
from fademoe.errors import BudgetSpent, RetryLater
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import Page, RestFeed
from fademoe.feeds.instrument import Json
from fademoe.queue.dequeue import OPPORTUNISTIC_WAIT_S, compute_begin_wait_s, list_ready_queues
from fademoe.queue.ids import LIVE, get_requested_queue, is_requested, list_exchange_queues, parse_exchange
from fademoe.queue.pauses import pause_budget
from fademoe.runtime.services import Services

Result = TypeVar("Result")

# How long a later request of a run waits for its rate limit: per wait, then it checks whether others go first; in all.
YIELDING_WAIT_S = 1.0
BLOCKING_WAIT_S = 10.0
SHORTEST_PAUSE_S = 0.05
REQUESTED_POLL_S = 0.5  # interval of checks for requested work


class TimeUp(RetryLater):
    """The run has worked long enough, or others go first; the rest of its window is requeued."""


class NoUnits(BudgetSpent):
    """The rate limit has no units for a run to begin; its window stays queued until it has."""


def has_requested_work(services: Services) -> bool:
    """Return whether a window that a person requested is ready for a worker."""
    enabled = [exchange.name for exchange in registry.select_enabled(services.settings)]
    return bool(
        list_ready_queues(services.redis, services.egress_names, [get_requested_queue(name) for name in enabled])
    )


def has_other_work(services: Services, queue: str) -> bool:
    """Return whether work that a run of `queue` gives way to has units: another exchange's, or requested work.

    The system's own work of the same exchange waits for the same rate limits. False outside a worker, for "", and for
    live work, which gives way to nothing.
    """
    if queue in ("", LIVE):
        return False
    enabled = [exchange.name for exchange in registry.select_enabled(services.settings)]
    mine = {queue, parse_exchange(queue)}
    others = [name for name in list_exchange_queues(*enabled) if name not in mine]
    return bool(list_ready_queues(services.redis, services.egress_names, others))


def send_blocking(services: Services, queue: str, send: Callable[[float], Result], wait_s: float) -> Result:
    """Return what `send(longest wait)` gives for a job of a queue; it may wait for its rate limit, up to `wait_s`.

    While another exchange has work and units it does not wait: BudgetSpent is raised.
    """
    try:
        return send(OPPORTUNISTIC_WAIT_S)
    except BudgetSpent:
        if has_other_work(services, queue):
            raise
    return send(wait_s)


@dataclass(kw_only=True)
class FeedClient:
    """Sends one run's requests for pages, from any of its threads.

    The first request decides whether the run begins: it does not wait for a rate limit that others use up. The run ends
    early when requested work is ready and it is not requested itself, or when it would wait for its rate limit, with no
    other thread at work, while other work has units (`has_other_work`) and it `gives_way`.
    """

    services: Services
    exchange: Exchange
    queue: str
    deadline_s: float
    on_begin: Callable[[], None]
    gives_way: bool = True
    has_begun: bool = False
    next_poll_s: float = 0.0
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
        last_s, slice_s = monotonic_s() + BLOCKING_WAIT_S, max(YIELDING_WAIT_S, compute_begin_wait_s(self.queue))
        while True:
            self._yield_to_requested()
            try:
                return self._send(feed, page, slice_s)  # no shorter than runs that begin
            except BudgetSpent as error:
                if self.gives_way and not self.threads_at_work and has_other_work(self.services, self.queue):
                    raise TimeUp("other work has units", retry_after_s=0) from None
                if monotonic_s() + error.retry_after_s > last_s:
                    raise
                self._pause(error.retry_after_s - slice_s)

    def _begin(self, feed: RestFeed, page: Page) -> Json:
        try:
            answer = self._send(feed, page, compute_begin_wait_s(self.queue))
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
            services, what = self.services, error.path or feed.budget
            pause_budget(services.redis, services.egress_names, self.exchange.name, what, error.retry_after_s)
            raise
        finally:
            with self.lock:
                self.threads_at_work -= 1

    def _pause(self, for_s: float) -> None:
        """Wait until the rate limit may have units, but not past the next check for requested work."""
        with self.allow_interrupt():
            self.services.stop.wait(to_host_s(min(max(for_s, SHORTEST_PAUSE_S), REQUESTED_POLL_S)))

    def _yield_to_requested(self) -> None:
        """Raise TimeUp when requested work is ready and this run is work of the system."""
        if not self.queue or self.is_live or is_requested(self.queue) or monotonic_s() < self.next_poll_s:
            return
        self.next_poll_s = monotonic_s() + REQUESTED_POLL_S
        if has_requested_work(self.services):
            raise TimeUp("requested work goes first", retry_after_s=0)

    def allow_interrupt(self) -> AbstractContextManager[None]:
        """Let a stop raise Stopped in the block."""
        return self.services.stop.allow_interrupt()
