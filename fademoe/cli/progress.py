"""Waits for a backfill with a progress bar, then sums it up by perpspec."""

from collections import Counter
from collections.abc import Mapping, Sequence

import click
from redis.exceptions import RedisError
from tqdm import tqdm

from fademoe.cli.table import format_table
from fademoe.clock import MINUTE_MS, Window, monotonic_s
from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.queue.ids import list_window_queues
from fademoe.queue.states import (
    FAILED,
    QUEUED,
    RUNNING,
    SCHEDULED,
    UNREADABLE,
    list_scheduled_after,
    list_tasks,
    read_job_states,
)
from fademoe.queue.workload import read_workload
from fademoe.runtime.services import Services
from fademoe.store import certificate, coverage, status
from fademoe.store.coverage import Series

POLL_INTERVAL_S = 1.0
MAX_PRINTED_ERRORS = 20
STALL_TIMEOUT_S = 180.0  # without any progress or a worker that could make some, the rest is not expected any more
# For a job's next attempt. An empty answer is requested again after ten minutes, and most bans are over by then; the
# file of an archive that may still come is asked for hours later.
LONGEST_WAIT_S = 1200.0
LATE = "late"  # the state of a job whose next attempt is after LONGEST_WAIT_S

Gaps = Mapping[Series, Sequence[Window]]
States = Mapping[Series, Sequence[str]]  # of the jobs of a series


def wait_until_covered(services: Services, requested: Mapping[Series, Window], exchanges: Sequence[Exchange]) -> bool:
    """Show progress until every requested range is covered or no more progress is expected; return whether all is.

    No more is expected when only windows are left that are paused after repeated failures, or when for STALL_TIMEOUT_S
    there is no progress, and no worker or no job whose turn comes within LONGEST_WAIT_S.
    Waits for PostgreSQL or Redis when one of them is away.
    """
    total = sum(window.end_ms - window.start_ms for window in requested.values()) // MINUTE_MS
    queue_names = list_window_queues(*(exchange.name for exchange in exchanges))
    progressed_s, previous = monotonic_s(), -1
    with tqdm(total=total, unit="min", unit_scale=True, dynamic_ncols=True, smoothing=0.1) as bar:
        while True:
            try:
                gaps = _find_gaps(services, requested)
                states = _find_states(services, gaps, queue_names)
                has_worker = read_workload(services.redis, queue_names).has_worker
            except (StoreError, RedisError):
                progressed_s = monotonic_s()  # nothing progresses meanwhile
                services.stop.wait(POLL_INTERVAL_S)
                continue
            missing = sum(gap.end_ms - gap.start_ms for windows in gaps.values() for gap in windows) // MINUTE_MS
            bar.n = total - missing
            bar.set_postfix_str(_describe(states, has_worker=has_worker))  # refreshes the bar, too
            if missing != previous or (has_worker and _count_waiting(states)):
                progressed_s, previous = monotonic_s(), missing
            is_stalled = monotonic_s() - progressed_s > STALL_TIMEOUT_S
            if not gaps or _have_failed(gaps, states) or is_stalled:
                break
            services.stop.wait(POLL_INTERVAL_S)
    _print_summary(services, requested, gaps)
    return not gaps


def _find_gaps(services: Services, requested: Mapping[Series, Window]) -> dict[Series, list[Window]]:
    """Return the missing ranges of each series that has any."""
    with services.database.open_transaction() as cursor:
        gaps = {series: coverage.find_missing(cursor, series, window) for series, window in requested.items()}
    return {series: windows for series, windows in gaps.items() if windows}


def _find_states(services: Services, gaps: Gaps, queue_names: Sequence[str]) -> States:
    """Return the states of the jobs of each incomplete series; one without a job is enqueued within a minute."""
    states: dict[Series, list[str]] = {}
    for name in queue_names:
        late = list_scheduled_after(services.redis, name, LONGEST_WAIT_S)
        for job_id, state in read_job_states(services.redis, name).items():
            for task in list_tasks(job_id):
                if task.series in gaps:
                    states.setdefault(task.series, []).append(LATE if job_id in late else state)
    return states


def _have_failed(gaps: Gaps, states: States) -> bool:
    """Return whether every incomplete series has failed or unreadable windows and none that waits or runs."""
    return all(series in states and set(states[series]) <= {FAILED, UNREADABLE} for series in gaps)


def _count_waiting(states: States) -> Counter[str]:
    """Return how many jobs run, are queued or wait for their next attempt, by state; LATE ones are left out."""
    counts = Counter(state for of_series in states.values() for state in of_series)
    return Counter({state: counts[state] for state in (RUNNING, QUEUED, SCHEDULED) if counts[state]})


def _describe(states: States, *, has_worker: bool) -> str:
    """Return what the progress bar says of the jobs that are left."""
    waiting = ", ".join(f"{count} {state}" for state, count in _count_waiting(states).items())
    return waiting if has_worker else f"no worker runs; {waiting}".rstrip("; ")


def _print_summary(services: Services, requested: Mapping[Series, Window], gaps: Gaps) -> None:
    """Print rows stored, rows absent upstream, rows missing, and series in error, per perpspec."""
    rows, errors = [], []
    with services.database.open_transaction() as cursor:
        for source in dict.fromkeys(series.source for series in requested):
            windows = {series: window for series, window in requested.items() if series.source == source}
            exchange, _, metric = registry.find_by_source(source)
            feed = exchange.find_rest_feed(metric)
            step_ms = feed.interval_ms if feed else MINUTE_MS
            stored = sum(certificate.count_rows(cursor, series, window) for series, window in windows.items())
            absent = (
                sum(coverage.count_absent_ms(cursor, series, window) for series, window in windows.items()) // step_ms
            )
            missing = sum(gap.end_ms - gap.start_ms for series in windows for gap in gaps.get(series, ())) // step_ms
            failed = status.list_failed_backfills(cursor, source, [symbol for _, symbol in windows])
            errors += [f"error: {source} {symbol}: {message}" for symbol, message in failed]
            rows.append((source, len(windows), stored, absent, missing, len(failed)))
    click.echo(format_table(("perpspec", "series", "rows", "absent", "missing", "errors"), rows))
    for line in errors[:MAX_PRINTED_ERRORS]:
        click.echo(line)
