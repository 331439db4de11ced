"""The audit: fetches what is stored again, compares value by value, corrects, and records every correction."""

from dataclasses import asdict, dataclass

from rq import Retry

from fademoe.clock import DAY_MS, SECOND_MS, Window, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.feeds.paging import endpoint_shares
from fademoe.jobs.fetch import fetch
from fademoe.jobs.work import Work, ask_exchange_time, describe_window, make_work, run_job
from fademoe.metrics import Row, perpspec
from fademoe.queue.enqueue import enqueue_audits
from fademoe.queue.ids import Task
from fademoe.runtime.job_context import JobContext, as_job
from fademoe.store import corrections, coverage
from fademoe.store.coverage import Covered, Series
from fademoe.store.status import State, Tracked
from fademoe.store.writer import Batch


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """What an audit counted in one series: rows equal, corrected, added because they were missing, and not upstream."""

    source: str
    symbol: str
    equal: int
    corrected: int
    missing: int
    extra: int

    def describe(self) -> str:
        """Return the counts as messages show them."""
        return f"{self.equal} equal, {self.corrected} corrected, {self.missing} missing, {self.extra} extra"


def audit(context: JobContext, series: Series, window: Window) -> AuditResult:
    """Compare the covered part of a window with the exchange and correct what differs.

    Rows which the exchange does not have (any more) are counted as extra and kept. Raises SourceError, StoreError or
    Stopped; then nothing was changed.
    """
    work = make_work(context, _unit_of(context, series), series, window)
    services, feed = context.services, work.feed
    with services.database.transaction() as cursor:
        covered = coverage.covered(cursor, series, window)
    rows: dict[int, Row] = {}
    answered: list[Window] = []
    for endpoint, windows in endpoint_shares(feed, covered, [], ask_exchange_time(work)):
        fetched = fetch(endpoint, work.instrument, windows, work.client)
        if fetched.failed is not None:
            raise fetched.failed
        rows.update(fetched.rows)
        answered += fetched.answered
    with services.database.transaction() as cursor:
        stored = corrections.stored_rows(cursor, series, feed.metric, feed.interval, answered)
        changes = corrections.differences(feed.metric, stored, rows)
        corrections.correct(cursor, series, changes)
    added = _add_missing(work, rows, stored)
    changed = len({change.ts for change in changes})
    return AuditResult(
        source=series.source,
        symbol=series.symbol,
        equal=len(rows.keys() & stored.keys()) - changed,
        corrected=changed,
        missing=added,
        extra=len(stored.keys() - rows.keys()),
    )


def _unit_of(context: JobContext, series: Series) -> Tracked:
    return Tracked(
        database=context.services.database,
        unit=f"audit {series.source} {series.symbol}",
        source=series.source,
        symbol=series.symbol,
        interval_s=DAY_MS // SECOND_MS,
    )


def _add_missing(work: Work, rows: dict[int, Row], stored: corrections.Stored) -> int:
    """Store rows that the exchange has and the store does not; return how many."""
    times = sorted(rows.keys() - stored.keys())
    if not times:
        return 0
    batch = Batch(work.feed.metric, work.feed.interval, [(work.series, rows[ts]) for ts in times])
    answers = [Covered(work.series, [Window(ts, ts + work.feed.interval_ms) for ts in times])]
    new = work.services.writer.write([batch], answers)
    with work.services.database.transaction() as cursor:
        corrections.record_missing(cursor, work.series, times)
    return new


@as_job
def audit_window(context: JobContext, source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Audit one window as a job of the exchange's queue; its failures are handled as those of a backfill."""
    series, window = Series(source, symbol), Window(start_ms, end_ms)
    unit = _unit_of(context, series)

    def work() -> dict[str, int]:
        result = audit(context, series, window)
        unit.report(State.DONE, f"{describe_window(window)}: {result.describe()}")
        return {name: value for name, value in asdict(result).items() if isinstance(value, int)}

    return run_job(context, unit, work)


@as_job
def enqueue_nightly(context: JobContext) -> dict[str, int]:
    """Enqueue an audit of the last whole UTC day for every series that has rows in it; once a day."""
    services = context.services
    end_ms = floor_to(now_ms(), DAY_MS)
    window = Window(end_ms - DAY_MS, end_ms)
    counts = {}
    for exchange in registry.enabled(services.settings):
        sources = {perpspec(code, feed.metric) for code in exchange.codes for feed in exchange.rest_feeds}
        with services.database.transaction() as cursor:
            covered = [each for source in sorted(sources) for each in coverage.series_within(cursor, source, window)]
        tasks = [Task(series, window) for series in covered]
        counts[exchange.name] = enqueue_audits(services.redis, exchange.name, tasks)
    return counts
