"""What is wrong with the data and the system itself: what the rules with `data` watch, and the alerts page shows."""

import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor
from redis import Redis
from redis.exceptions import RedisError

from fademoe.client.rate_limit import usage
from fademoe.clock import HOUR_MS, MINUTE_MS, SECOND_MS, now_ms
from fademoe.feeds import registry
from fademoe.queue.ids import SHARED_QUEUES, list_exchange_queues, parse_exchange
from fademoe.queue.workload import read_workload
from fademoe.settings import Settings
from fademoe.store.connection import Database
from fademoe.store.read import completeness as read_completeness
from fademoe.store.read import status as read_status

MIN_FREE_SHARE = 0.1
MIN_FREE_BYTES = 5_000_000_000
MAX_LAG_MS = HOUR_MS  # reconcile runs every minute, so an older gap has a cause
DRIFT_CLASS = "BadPayload"
MAX_ERROR_GROUPS = 50
STREAM = "stream"  # the kind of the units of streams
ALERTS = "alerts"
PROGRAMS = ("scheduler", ALERTS, "trader")  # units of the programs that run one at a time, and their kinds


class Condition(NamedTuple):
    """Something that is wrong now. `code` and `symbol` name what it is about, "" where that is the whole system."""

    kind: str
    code: str
    symbol: str
    message: str


def is_disk_nearly_full(free_bytes: int, total_bytes: int) -> bool:
    """Return whether a disk has too little room."""
    return free_bytes < MIN_FREE_BYTES or free_bytes < total_bytes * MIN_FREE_SHARE


def is_faulty(unit: read_status.Unit) -> bool:
    """Return whether a stream or a program needs attention."""
    return unit.stale or unit.state == "error"


def list_streams(cursor: Cursor, settings: Settings) -> list[read_status.Unit]:
    """Return the streams of the enabled exchanges that have reported."""
    expected = [f"{STREAM} {exchange.name}" for exchange in registry.select_enabled(settings) if exchange.stream_feeds]
    return [unit for unit in read_status.list_units(cursor, kinds=[STREAM]) if unit.unit in expected]


def list_programs(cursor: Cursor) -> list[read_status.Unit]:
    """Return the programs that have reported, beside streams and workers."""
    return read_status.list_units(cursor, kinds=PROGRAMS)


def list_enabled_lags(cursor: Cursor, settings: Settings) -> list[read_completeness.PerpspecLag]:
    """Return how late the perpspecs of the enabled exchanges are: what is left out does not go on."""
    enabled = [exchange.name for exchange in registry.select_enabled(settings)]
    return [lag for lag in read_completeness.list_lags(cursor, now_ms()) if lag.exchange in enabled]


def group_late(
    lags: Iterable[read_completeness.PerpspecLag], busy: Collection[str]
) -> dict[str, list[read_completeness.PerpspecLag]]:
    """Return, by exchange, the perpspecs that are late and for which no job is queued: these gaps grow.

    `busy`: the queues with jobs; an exchange has one for what was requested, too.
    """
    working = {parse_exchange(queue) for queue in busy}
    late: dict[str, list[read_completeness.PerpspecLag]] = {}
    for lag in lags:
        exchange = lag.exchange or lag.source
        if lag.behind and lag.lag_ms is not None and lag.lag_ms > MAX_LAG_MS and exchange not in working:
            late.setdefault(exchange, []).append(lag)
    return late


def is_drift(group: read_status.ErrorGroup) -> bool:
    """Return whether errors say that an exchange changed its answers."""
    return group.error_class == DRIFT_CLASS


def read_conditions(settings: Settings, database: Database, redis: Redis) -> list[Condition]:
    """Return what is wrong now; raise StoreError when PostgreSQL is away.

    The alerts program asks, so it is none of the programs that may be silent.
    """
    found = [*_check_disk(settings), *database.run(lambda cursor: _read_stored(cursor, settings))]
    enabled = [exchange.name for exchange in registry.select_enabled(settings)]
    lags = database.run(lambda cursor: list_enabled_lags(cursor, settings))
    try:
        work = read_workload(redis, [*list_exchange_queues(*enabled), *SHARED_QUEUES])
        found += _check_limits(redis)
    except RedisError as error:
        return [*found, Condition("server", "", "redis", f"Redis is unavailable: {error}")]
    if not work.has_worker:
        found.append(Condition("workers", "", "", "no worker is running: the queues are not processed"))
    if work.failed:
        found.append(Condition("failed", "", "", f"{work.failed} jobs failed"))
    return found + [
        _describe_late(exchange, of_exchange) for exchange, of_exchange in group_late(lags, work.busy).items()
    ]


def _check_disk(settings: Settings) -> Iterator[Condition]:
    home = settings.home
    if settings.database_url or not home.exists():
        return
    disk = shutil.disk_usage(Path(home))
    if is_disk_nearly_full(disk.free, disk.total):
        share = 100 * disk.free / disk.total
        yield Condition("disk", "", "", f"{share:.0f} % of the disk of {home} are free")


def _read_stored(cursor: Cursor, settings: Settings) -> list[Condition]:
    groups = read_status.list_error_groups(cursor, MAX_ERROR_GROUPS)
    found = [
        Condition("program", "", unit.unit, _describe_faulty(unit))
        for unit in list_programs(cursor)
        if is_faulty(unit) and unit.unit != ALERTS
    ]
    found += [
        Condition("stream", _find_code(unit.unit.partition(" ")[2]), "", _describe_faulty(unit))
        for unit in list_streams(cursor, settings)
        if is_faulty(unit)
    ]
    for group in filter(is_drift, groups):
        subject = group.exchange or group.unit
        message = f"{subject} changed its answers, {group.errors} times: {group.message}"
        found.append(Condition("drift", _find_code(subject), group.fingerprint, message))
    return found


def _describe_faulty(unit: read_status.Unit) -> str:
    silent_s = (now_ms() - unit.heartbeat_ms) // SECOND_MS
    state = "stale" if unit.stale else "in error"
    return f"{unit.unit} is {state}, last heartbeat {silent_s} s ago: {unit.message}"


def _check_limits(redis: Redis) -> Iterator[Condition]:
    for budget in usage.list_budget_uses(redis):
        if budget.closed_until_ms is not None:
            left_s = max(0, budget.closed_until_ms - now_ms()) // SECOND_MS
            message = f"{budget.exchange} closed its {budget.name} budget for another {left_s} s: {budget.closed_why}"
            yield Condition("ban", _find_code(budget.exchange), f"{budget.name} {budget.egress}", message)
    for outage in usage.list_outages(redis):
        message = (
            f"{outage.failing} does not answer {outage.egress}, {outage.failures} requests failed: {outage.reason}"
        )
        subject = f"{outage.path} {outage.egress}".strip()
        yield Condition("outage", _find_code(outage.exchange), subject, message)


def _describe_late(exchange: str, behind: Sequence[read_completeness.PerpspecLag]) -> Condition:
    parts = (f"{lag.source}: {lag.behind} of {lag.series}, {(lag.lag_ms or 0) // MINUTE_MS} min" for lag in behind)
    message = f"series of {exchange} are behind and no job is queued for them: {'; '.join(parts)}"
    return Condition("gap", _find_code(exchange), "", message)


def _find_code(exchange: str) -> str:
    """Return the code of an exchange, its name where it has several or is unknown."""
    table = registry.load_exchanges().get(exchange)
    return table.codes[0] if table and len(table.codes) == 1 else exchange
