"""The exchanges' clocks: what is closed, and what is not yet, is judged by the time of whoever sends the rows.

An exchange is asked for its time once a minute by any process of a machine. What is kept, in Redis, is its distance
from a clock of this machine that never jumps: so the host's own time may be wrong, or be set right, without effect.
"""

import logging
from contextlib import suppress
from statistics import median_low

from redis import Redis
from redis.exceptions import RedisError

from fademoe.client.rest import RestClient
from fademoe.clock import MINUTE_MS, boot_id, now_ms, steady_ms
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.feeds.exchange import Exchange

log = logging.getLogger(__name__)

ASK_MS = MINUTE_MS
KEPT_S = 24 * 3600
OFF_MS = 5_000  # a host whose clock is further off is told so


class ExchangeClocks:
    """The exchanges' clocks as the processes of this machine know them."""

    def __init__(self, redis: Redis, rest: RestClient) -> None:
        """Share what is known through Redis."""
        self._redis = redis
        self._rest = rest
        self._key = f"clocks:{boot_id()}"
        self._known: dict[str, tuple[int, int]] = {}  # exchange -> (its time - steady time, steady time when asked)

    def now_ms(self, exchange: Exchange) -> int:
        """Return the exchange's time as far as it is known, without asking it; in doubt the host's.

        An exchange that does not tell its time is taken to have that of the others.
        """
        self._read()
        known = self._known.get(exchange.name)
        if known is not None:
            return steady_ms() + known[0]
        others = [distance for distance, _ in self._known.values()]
        return steady_ms() + median_low(others) if others and exchange.clock is None else now_ms()

    def ask(self, exchange: Exchange, *, live: bool) -> int:
        """Return the exchange's time, asked for when nobody here did so within a minute.

        Raises RetryLater when the exchange cannot be reached.
        """
        clock = exchange.clock
        self._read()
        known = self._known.get(exchange.name)
        if clock is None or (known is not None and steady_ms() - known[1] < ASK_MS):
            return self.now_ms(exchange)
        try:
            body = self._rest.send(exchange, clock.request, budget=clock.budget, cost=clock.cost, live=live)
            # too small by the way back, so that no bar is taken for closed too soon
            known = (clock.parse(body) - steady_ms(), steady_ms())
        except (Refused, BadPayload) as error:
            log.warning("%s does not tell its time: %s", exchange.name, error)
        else:
            self._known[exchange.name] = known
            with suppress(RedisError):
                self._redis.hset(self._key, exchange.name, f"{known[0]} {known[1]}")
                self._redis.expire(self._key, KEPT_S)
        return self.now_ms(exchange)

    def best_ms(self, exchange: Exchange) -> int:
        """Return the exchange's time, asked for if it can be reached, else as far as it is known."""
        try:
            return self.ask(exchange, live=True)
        except RetryLater as error:
            log.info("%s is not asked for its time: %s", exchange.name, error)
            return self.now_ms(exchange)

    def host_behind_ms(self, exchange: Exchange) -> int:
        """Return how far this host's clock is behind the exchange's; negative: ahead of it."""
        return self.now_ms(exchange) - now_ms()

    def _read(self) -> None:
        """Take over what other processes have asked; without Redis what this one knows has to do."""
        with suppress(RedisError):
            for name, value in self._redis.hgetall(self._key).items():
                distance, asked = map(int, value.split())
                self._known[name.decode() if isinstance(name, bytes) else name] = (distance, asked)


def off(behind_ms: int) -> str:
    """Say how far a host's clock is off; nothing while it is near enough."""
    if abs(behind_ms) <= OFF_MS:
        return ""
    way = "behind" if behind_ms > 0 else "ahead of"
    return f"this host's clock is {abs(behind_ms) / 1000:.0f} s {way} the exchange's; bars are judged by the exchange's"
