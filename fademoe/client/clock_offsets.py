"""How far the exchanges' clocks are from this machine's steady clock, shared by its processes through Redis."""

from contextlib import suppress
from typing import NamedTuple

from redis import Redis
from redis.exceptions import RedisError
from rq.utils import as_text

from fademoe.clock import DAY_MS, SECOND_MS, read_boot_id, steady_ms

KEEP_S = 30 * DAY_MS // SECOND_MS
READ_EVERY_MS = SECOND_MS


class Offset(NamedTuple):
    """`ms`: an exchange's time minus the steady time, never too large; `measured_ms`: the steady time it is of."""

    ms: int
    measured_ms: int


class ClockOffsets:
    """The offsets of all exchanges. Without Redis those that this process has read or set before are used."""

    def __init__(self, redis: Redis) -> None:
        """Read nothing yet."""
        self._redis = redis
        self._key = f"clocks:{read_boot_id()}"
        self._offsets: dict[str, Offset] = {}
        self._read_ms: int | None = None

    def get(self, exchange: str) -> Offset | None:
        """Return the offset of an exchange's clock, at most a second old; None where it was not requested."""
        return self.read_all().get(exchange)

    def read_all(self) -> dict[str, Offset]:
        """Return the offset of each exchange whose time is known."""
        now = steady_ms()
        if self._read_ms is None or now - self._read_ms >= READ_EVERY_MS:
            self._read_ms = now
            with suppress(RedisError):
                for name, value in self._redis.hgetall(self._key).items():
                    self._offsets[as_text(name)] = Offset(*map(int, value.split()))
        return self._offsets

    def read_server_now_ms(self, exchange: str) -> int | None:
        """Return the exchange's time; None where it is not known."""
        offset = self.get(exchange)
        return None if offset is None else steady_ms() + offset.ms

    def add_measurement(self, exchange: str, server_ms: int, sent_ms: int, received_ms: int) -> None:
        """Store a time that an exchange has sent between two moments of the steady clock.

        Its distance is between `server_ms - received_ms` and `server_ms - sent_ms`. The lower bound counts, so that no
        bar is taken for closed too soon; a better one from before stays while this answer does not contradict it.
        """
        low, high, known = server_ms - received_ms, server_ms - sent_ms, self.get(exchange)
        best = max(low, known.ms) if known is not None and known.ms <= high else low
        offset = Offset(best, received_ms)
        self._offsets[exchange] = offset
        with suppress(RedisError):
            self._redis.hset(self._key, exchange, f"{offset.ms} {offset.measured_ms}")
            self._redis.expire(self._key, KEEP_S)
