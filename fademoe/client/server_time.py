"""The exchanges' clocks: what is closed, and what is not yet, is judged by the time of the exchange.

Any process of a machine asks an exchange for its time once a minute. What is kept is the distance from a clock of this
machine that never jumps (clock_offsets.py), so the host's own time may be wrong, or be set right, without effect.
"""

import logging
from statistics import median_low
from typing import NamedTuple

from fademoe.client.clock_offsets import ClockOffsets
from fademoe.client.rest import RestClient
from fademoe.clock import MINUTE_MS, now_ms, steady_ms
from fademoe.errors import BadPayload, BudgetSpent, Refused, RetryLater
from fademoe.feeds.exchange import ClockFeed, Exchange

log = logging.getLogger(__name__)

ASK_EVERY_MS = MINUTE_MS
MAX_SKEW_MS = 5_000  # a host whose clock is further off is reported
MAX_STEP_MS = 5_000  # of an exchange's clock between two answers; a longer one counts when a second answer confirms it

SERVER_ERRORS = 500  # HTTP codes from here on


class Reading(NamedTuple):
    """A time that an exchange has sent between two moments of the steady clock."""

    server_ms: int
    sent_ms: int
    received_ms: int

    @property
    def low_ms(self) -> int:
        """Return the least distance of the exchange's clock from the steady one."""
        return self.server_ms - self.received_ms

    def agrees_with(self, offset_ms: int) -> bool:
        """Return whether the exchange's clock may be so far from the steady one, give or take MAX_STEP_MS."""
        return self.low_ms - MAX_STEP_MS <= offset_ms <= self.server_ms - self.sent_ms + MAX_STEP_MS


class ExchangeClocks:
    """The exchanges' clocks as the processes of this machine know them."""

    def __init__(self, offsets: ClockOffsets, rest: RestClient) -> None:
        """Share the measured offsets through Redis."""
        self._offsets = offsets
        self._rest = rest

    def now_ms(self, exchange: Exchange) -> int:
        """Return the exchange's time as far as it is known, without asking it; otherwise the host's.

        An exchange that does not tell its time is taken to have that of the others.
        """
        server_ms = self._offsets.read_server_now_ms(exchange.name)
        if server_ms is not None:
            return server_ms
        others = [offset.ms for offset in self._offsets.read_all().values()]
        return steady_ms() + median_low(others) if others and exchange.clock is None else now_ms()

    def list_known_ms(self) -> list[int]:
        """Return the times of the exchanges whose time is known, ascending, in ms."""
        return sorted(steady_ms() + offset.ms for offset in self._offsets.read_all().values())

    def ask(self, exchange: Exchange, *, live: bool) -> int:
        """Return the exchange's time, requested when no process of this machine did so within a minute.

        One answer that is far off what is known (at first: what this host's clock shows) is odd, and counts only when a
        second one agrees: otherwise bars that are open would be taken for closed. Where that endpoint alone fails, the
        time counts that is known. Raises RetryLater when the exchange cannot be reached.
        """
        clock, offset = exchange.clock, self._offsets.get(exchange.name)
        if clock is None or (offset is not None and steady_ms() - offset.measured_ms < ASK_EVERY_MS):
            return self.now_ms(exchange)
        try:
            known_ms = now_ms() - steady_ms() if offset is None else offset.ms
            reading = self._read_surely(exchange, clock, known_ms, live=live)
            self._offsets.add_measurement(exchange.name, *reading)
        except (Refused, BadPayload) as error:
            log.warning("%s does not tell its time: %s", exchange.name, error)
        except RetryLater as error:
            if not self._fails_alone(exchange, clock, error, live=live):
                raise
            log.info("%s does not tell its time: %s", exchange.name, error)
        return self.now_ms(exchange)

    def _fails_alone(self, exchange: Exchange, clock: ClockFeed, error: RetryLater, *, live: bool) -> bool:
        """Return whether the endpoint of the time is paused by itself; after a failed answer that shows at once."""
        if isinstance(error, BudgetSpent):
            return bool(error.path)
        if (error.http_status or 0) < SERVER_ERRORS:
            return False
        try:
            self._read(exchange, clock, live=live)
        except BudgetSpent as spent:
            return bool(spent.path)
        except (Refused, BadPayload, RetryLater):
            pass
        return False

    def _read_surely(self, exchange: Exchange, clock: ClockFeed, known_ms: int, *, live: bool) -> Reading:
        """Ask an exchange for its time, twice where it is far off what is known; if these two differ, that stays."""
        first = self._read(exchange, clock, live=live)
        if first.agrees_with(known_ms):
            return first
        second = self._read(exchange, clock, live=live)
        if second.agrees_with(first.low_ms) or second.agrees_with(known_ms):
            return second
        log.warning("%s tells two times that differ: %d and %d", exchange.name, first.server_ms, second.server_ms)
        return Reading(second.received_ms + known_ms, second.received_ms, second.received_ms)

    def _read(self, exchange: Exchange, clock: ClockFeed, *, live: bool) -> Reading:
        """Ask an exchange for its time."""
        answer = self._rest.send_timed(exchange, clock.request, budget=clock.budget, cost=clock.cost, live=live)
        return Reading(clock.parse(answer.body), answer.sent_ms, answer.received_ms)

    def estimate_now_ms(self, exchange: Exchange) -> int:
        """Return the exchange's time, asked for if it can be reached, else as far as it is known."""
        try:
            return self.ask(exchange, live=True)
        except RetryLater as error:
            log.info("%s is not asked for its time: %s", exchange.name, error)
            return self.now_ms(exchange)


def describe_clock_skew(behind_ms: int) -> str:
    """Say by how much a host's clock is off; "" while it is near enough. Negative: it is ahead of the exchange's."""
    if abs(behind_ms) <= MAX_SKEW_MS:
        return ""
    side = "behind" if behind_ms > 0 else "ahead of"
    return (
        f"this host's clock is {abs(behind_ms) / 1000:.0f} s {side} the exchange's; bars are judged by the exchange's"
    )
