"""What the limiter keeps in Redis, for people to look at: how much of each budget is used, what is closed, and why.

Reads only. The pages, the API and Prometheus get their numbers here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from redis import Redis

from fademoe.client.rate_limit.keys import ALGORITHM, make_units_key, split_key
from fademoe.clock import DAY_MS, SECOND_MS, now_ms, read_boot_id, steady_ms

SCAN_COUNT = 1_000
MAX_SHOWN_MS = 3 * DAY_MS  # nothing is closed for longer, whatever stands in Redis

Fields = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class BudgetUse:
    """One rate limit of an exchange for one egress address.

    `used` is our own count of the running window of the clock, or of the last `period_ms` where the exchange counts so;
    `server_used` is the exchange's. `limit` is the exchange's, `allowed` the share of it that is ours.
    `closed_until_ms`, by this host's clock, lies in the future while no request may be sent.
    """

    exchange: str
    name: str
    egress: str
    limit: int | None
    allowed: float | None
    period_ms: int | None
    used: int
    server_used: int | None
    closed_until_ms: int | None
    closed_why: str | None
    waits_ms: int  # until all queued requests are sent

    @property
    def used_share(self) -> float | None:
        """What is used of what we may use; None while that is not known."""
        return max(self.used, self.server_used or 0) / self.allowed if self.allowed else None


@dataclass(frozen=True, kw_only=True)
class Outage:
    """An exchange that does not answer one egress address: the last requests from it failed, `failures` in a row.

    `path`: where only requests for that path fail; else "". Times are by this host's clock. Nothing is sent until
    `resumes_ms`, then a single request probes it.
    """

    exchange: str
    path: str
    egress: str
    failures: int
    since_ms: int
    resumes_ms: int
    reason: str

    @property
    def failing(self) -> str:
        """What fails, as messages name it: the exchange, and the path where it is one."""
        return f"{self.exchange} {self.path}".strip()


def list_budget_uses(redis: Redis) -> list[BudgetUse]:
    """Return the budgets that were used, by exchange, name and egress; raise RedisError without Redis."""
    keys = _keys(redis, "budget")
    with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        hashes = [_decoded(values) for values in pipeline.execute()]
        for key, fields in zip(keys, hashes, strict=True):
            pipeline.zcount(make_units_key(key), _budget_now_ms(fields), "+inf")
        in_use = pipeline.execute()
    return [_usage(key, fields, units) for key, fields, units in zip(keys, hashes, in_use, strict=True)]


def read_delays_s(redis: Redis, exchange: str) -> dict[str, float]:
    """Return by budget of an exchange the seconds until it takes a new request; raise RedisError without Redis.

    It is closed, or requests that came before wait for it; of several egress addresses the first one to be free counts.
    """
    delays_s: dict[str, float] = {}
    for budget in list_budget_uses(redis):
        if budget.exchange == exchange:
            closed_ms = 0 if budget.closed_until_ms is None else budget.closed_until_ms - now_ms()
            delay_s = max(0, closed_ms, budget.waits_ms) / SECOND_MS
            delays_s[budget.name] = min(delay_s, delays_s.get(budget.name, delay_s))
    return delays_s


def list_outages(redis: Redis) -> list[Outage]:
    """Return the exchanges that do not answer an address now, by both, and the paths that fail of others.

    Raises RedisError without Redis.
    """
    keys = [*_keys(redis, "outage"), *_keys(redis, "path-outage")]
    with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        hashes = [_decoded(values) for values in pipeline.execute()]
    outages = [
        _outage(key, fields) for key, fields in zip(keys, hashes, strict=True) if _whole(fields.get("paused_at"))
    ]
    whole = {(outage.exchange, outage.egress) for outage in outages if not outage.path}
    return [outage for outage in outages if not outage.path or (outage.exchange, outage.egress) not in whole]


def _keys(redis: Redis, kind: str) -> list[str]:
    return sorted(key.decode() for key in redis.scan_iter(f"{kind}:{ALGORITHM}:*", count=SCAN_COUNT))


def _usage(key: str, fields: Fields, units: int) -> BudgetUse:
    """Read one hash, beside the units in use; a count of a period that is over counts as nothing used."""
    exchange, name, egress = split_key(key)
    now = _budget_now_ms(fields)
    limit, period_ms = _whole(fields.get("limit")), _whole(fields.get("period_ms"))
    window = now // period_ms if period_ms else None
    server_window = _whole(fields.get("server_window"))
    closed_ms = min((_whole(fields.get("closed_until")) or now) - now, MAX_SHOWN_MS)
    return BudgetUse(
        exchange=exchange,
        name=name,
        egress=egress,
        limit=limit,
        allowed=None if limit is None else _allowed(limit, fields),
        period_ms=period_ms,
        used=_used(fields, window) if "window" in fields else units,
        server_used=_whole(fields.get("server_used")) if server_window in (None, window) else None,
        closed_until_ms=now_ms() + closed_ms if closed_ms > 0 else None,
        closed_why=fields.get("closed_why") if closed_ms > 0 else None,
        waits_ms=max(0, (_whole(fields.get("next_slot")) or now) - now),
    )


def _outage(key: str, fields: Fields) -> Outage:
    exchange, *path, egress = split_key(key)
    ahead_ms = now_ms() - _budget_now_ms(fields)  # of this host's clock before that of the times in the hash
    return Outage(
        exchange=exchange,
        path="".join(path),
        egress=egress,
        failures=_whole(fields.get("failures")) or 0,
        since_ms=min(now_ms(), (_whole(fields.get("since")) or 0) + ahead_ms),
        resumes_ms=(_whole(fields.get("resumes_at")) or 0) + ahead_ms,
        reason=fields.get("reason", ""),
    )


def _budget_now_ms(fields: Fields) -> int:
    """Return the time by the clock of a hash (see state.lua), from what was written last."""
    at, steady = _whole(fields.get("at")), _whole(fields.get("at_steady"))
    if at is None or steady is None:
        return now_ms()
    return at + steady_ms() - steady if fields.get("at_machine") == read_boot_id() else max(at, now_ms())


def _used(fields: Fields, window: int | None) -> int:
    """Return the count of an aligned window; shortly before the next one begins, that one is the newest."""
    newest = _whole(fields.get("window"))
    if newest is None or window is None or not newest - 1 <= window <= newest:
        return 0
    return _whole(fields.get("used" if window == newest else "used_before")) or 0


def _allowed(limit: int, fields: Fields) -> float:
    """Return our share of a limit, with one digit behind the point where it is no whole number."""
    try:
        allowed = round(limit * float(fields.get("share", "1")), 1)
    except ValueError:
        return limit
    return int(allowed) if allowed.is_integer() else allowed


def _whole(text: str | None) -> int | None:
    try:
        return None if text is None else int(float(text))
    except (ValueError, OverflowError):
        return None


def _decoded(values: Mapping[bytes, bytes]) -> Fields:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in values.items()}
