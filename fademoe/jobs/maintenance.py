"""Upkeep: refresh the exchanges' lists of contracts, make partitions, delete what is old."""

import json
from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts import records
from fademoe.backtest.chunks import remove_ended
from fademoe.client import instruments
from fademoe.clock import DAY_MS, MINUTE_MS, Window, now_ms, to_iso
from fademoe.errors import BudgetSpent, RetryLater, SourceError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.store import arrivals, coverage, files, hours, status
from fademoe.store.connection import MAINTENANCE_LOCK_TIMEOUT_S
from fademoe.store.partitions import Partitions
from fademoe.store.status import State

PARTITIONS_AHEAD_MS = 40 * DAY_MS
INSTRUMENTS_INTERVAL_S = 3600
MAINTENANCE_INTERVAL_S = 3600
MAX_CLOCKS_APART_MS = DAY_MS + MINUTE_MS  # a day, and what measuring takes


@wrap_job
def refresh_instruments(context: JobContext) -> dict[str, int]:
    """Fetch every exchange's list of contracts; an exchange that cannot be reached keeps its old one."""
    return _refresh(context.services, registry.select_enabled(context.services.settings))


@wrap_job
def refresh_changing_instruments(context: JobContext) -> dict[str, int]:
    """Fetch the lists of contracts that are about to change: a listing is near, or a contract has vanished."""
    services = context.services
    changing = [
        exchange
        for exchange in registry.select_enabled(services.settings)
        if instruments.is_changing(
            exchange, services.database, services.clocks.now_ms(exchange), _read_announced(services, exchange)
        )
    ]
    return _refresh(services, changing)


def _refresh(services: Services, exchanges: Sequence[Exchange]) -> dict[str, int]:
    counts = {}
    for exchange in exchanges:
        unit = f"instruments {exchange.name}"
        with status.Tracked(database=services.database, unit=unit, interval_s=INSTRUMENTS_INTERVAL_S) as tracked:
            try:
                with services.stop.allow_interrupt():
                    refreshed = instruments.refresh(exchange, services.rest, services.database)
            except SourceError as error:
                if not isinstance(error, BudgetSpent):
                    tracked.record(error)
                tracked.report(State.WAITING if isinstance(error, RetryLater) else State.ERROR, str(error))
            else:
                counts[exchange.name] = refreshed.listed
                announced = json.dumps(list(refreshed.announced_ms))
                services.redis.set(_announced_key(exchange), announced, ex=2 * INSTRUMENTS_INTERVAL_S)
                tracked.report(State.ERROR if refreshed.is_partial else State.DONE, refreshed.message)
    return counts


def _read_announced(services: Services, exchange: Exchange) -> list[int]:
    """Return when contracts will be listed that the newest list had without their details."""
    return list(json.loads(services.redis.get(_announced_key(exchange)) or "[]"))


def _announced_key(exchange: Exchange) -> str:
    return f"instruments:{exchange.name}:announced"


@wrap_job
def run_maintenance(context: JobContext) -> None:
    """Make the partitions of the coming month, drop what retention lets go, delete old errors and history."""
    services = context.services
    with status.Tracked(database=services.database, unit="maintenance", interval_s=MAINTENANCE_INTERVAL_S) as tracked:
        Partitions(services.database).ensure(Window(now_ms(), now_ms() + PARTITIONS_AHEAD_MS))
        status.forget_old(services.database)
        records.forget_old(services.database, now_ms())
        services.archive_client.sweep()
        remove_ended(services.database, services.settings.home)
        refusal = "" if services.settings.retention_days is None else drop_expired(services)
        tracked.report(State.ERROR if refusal else State.DONE, refusal or "partitions are made, old data are dropped")


def drop_expired(services: Services) -> str:
    """Drop the rows that FADEMOE_RETENTION_DAYS lets go; return why nothing was dropped, "" when it was done.

    The earliest of the host's and the exchanges' clocks counts, so that a clock that is ahead deletes nothing too soon.
    While they differ by more than MAX_CLOCKS_APART_MS, or no exchange tells its time, nothing is dropped. Rows are
    dropped after nothing claims them any more, so a run that ends in between, as at a month that is read for long,
    leaves no range that is covered without its rows.
    """
    for exchange in registry.select_enabled(services.settings):
        with services.stop.allow_interrupt():
            services.clocks.estimate_now_ms(exchange)
    times = services.clocks.list_known_ms()
    if not times:
        return "retention waits: no exchange tells its time"
    earliest_ms, latest_ms = min(now_ms(), times[0]), max(now_ms(), times[-1])
    if latest_ms - earliest_ms > MAX_CLOCKS_APART_MS:
        return (
            f"retention waits: the clocks of this host ({to_iso(now_ms())}) and of the exchanges"
            f" ({to_iso(times[0])} to {to_iso(times[-1])}) differ by more than a day"
        )
    edge_ms = services.settings.compute_kept_from_ms(earliest_ms)
    if edge_ms is not None:
        partitions = Partitions(services.database)
        _forget_before(services, edge_ms, partitions.find_kept_from_ms(edge_ms))
        _forget_before(services, edge_ms, partitions.drop_before(edge_ms))  # what a job stored meanwhile
    return ""


def _forget_before(services: Services, wanted_from_ms: int, kept_from_ms: int) -> None:
    """Want nothing older than `wanted_from_ms`, and claim nothing of rows before `kept_from_ms`."""

    def forget(cursor: Cursor) -> None:
        arrivals.forget_before(cursor, kept_from_ms)
        coverage.forget_before(cursor, wanted_from_ms, kept_from_ms)
        files.forget_before(cursor, kept_from_ms)
        hours.forget_before(cursor, kept_from_ms)

    services.database.run(forget, lock_timeout_s=MAINTENANCE_LOCK_TIMEOUT_S)
