"""The audit: fetches what is stored again, compares value by value, corrects, and records every correction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from psycopg2.extensions import cursor as Cursor
from rq import Retry

from fademoe.clock import DAY_MS, LATEST_MS, SECOND_MS, Window, floor_to, split, subtract, to_iso
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.paging import compute_requested_from_ms, compute_retained_from_ms, split_by_endpoint
from fademoe.jobs.failures import run_job
from fademoe.jobs.feed_client import TimeUp
from fademoe.jobs.fetch import fetch
from fademoe.jobs.linking import link_following
from fademoe.jobs.window_run import Work, ask_exchange_time, describe_window, make_work
from fademoe.metrics import Row, name_perpspec
from fademoe.queue.enqueue import enqueue_audits
from fademoe.queue.ids import Task
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.store import corrections, coverage, status
from fademoe.store.arrivals import Origin, Way
from fademoe.store.coverage import Covered, Series
from fademoe.store.status import State, Tracked
from fademoe.store.writer import Batch, store_rows

COUNTS = ("equal", "corrected", "missing", "extra", "expired")
AUDITED = "audited"  # key of Job.meta: the end of each portion that was audited, and its counts
MAX_DAYS = 30  # audited afterwards when the host was off


@dataclass(frozen=True)
class AuditResult:
    """What an audit counted in one series: rows equal, corrected, added because they were missing, and not upstream.

    `expired`: rows that cannot be compared, for the exchange does not keep them so long.
    """

    source: str
    symbol: str
    equal: int = 0
    corrected: int = 0
    missing: int = 0
    extra: int = 0
    expired: int = 0

    def describe(self) -> str:
        """Return the counts as messages show them."""
        expired = f", {self.expired} older than the exchange keeps" if self.expired else ""
        return f"{self.equal} equal, {self.corrected} corrected, {self.missing} missing, {self.extra} extra{expired}"


def audit(context: JobContext, series: Series, window: Window) -> AuditResult:
    """Compare the covered part of a window with the exchange and correct what differs, portion by portion.

    Rows which the exchange does not have (any more) are kept. They are counted as extra, and as expired where they are
    older than what the exchange certainly keeps; what it does not keep at all is not requested. Raises SourceError,
    StoreError or Stopped; what was compared before is corrected, and the next run of a job goes on after it.
    """
    work = make_work(context, _unit_of(context, series), series, window, "audit")
    with context.services.database.open_transaction() as cursor:
        covered = coverage.find_covered(cursor, series, window)
    time_ms = ask_exchange_time(work)
    before = context.read_notes(AUDITED)
    done = Window(0, max((end_ms for end_ms, *_ in before), default=0))
    results = [AuditResult(series.source, series.symbol, *counts) for _, *counts in before]
    for portion in work.split_into_portions([part for each in covered for part in subtract(each, [done])]):
        try:
            result = _audit_portion(work, portion, time_ms)
        except TimeUp:
            if len(results) == len(before):
                work.note_cut_short()
            raise
        results.append(result)
        context.add_notes(AUDITED, [[portion[-1].end_ms, *(getattr(result, name) for name in COUNTS)]])
    return add_results(results or [AuditResult(series.source, series.symbol)])


def _audit_portion(work: Work, covered: Sequence[Window], time_ms: int) -> AuditResult:
    """Audit a portion as a whole, or change nothing."""
    feed, writer = work.feed, work.services.writer
    expired, retained_ms = Window(0, compute_requested_from_ms(feed, time_ms)), compute_retained_from_ms(feed, time_ms)
    rows: dict[int, Row] = {}
    answered = [Window(w.start_ms, min(w.end_ms, expired.end_ms)) for w in covered if w.start_ms < expired.end_ms]
    for endpoint, windows in split_by_endpoint(feed, covered, [expired], time_ms):
        fetched = fetch(endpoint, work.instrument, windows, work.client)
        is_gone = work.is_gone(fetched.failed, time_ms)
        if fetched.failed is not None and not is_gone:
            raise fetched.failed
        retained_ms = LATEST_MS if is_gone else retained_ms
        rows.update(fetched.rows)
        answered += windows if is_gone else fetched.answered
    writer.make_room(rows)
    stored, changed, added = work.services.database.run(partial(_store, work, rows, answered))
    if added:
        link_following(work.services.database, feed, work.series, answered)
    gone = stored.keys() - rows.keys()
    return AuditResult(
        *work.series,
        equal=len(rows.keys() & stored.keys()) - changed,
        corrected=changed,
        missing=added,
        extra=sum(ts >= retained_ms for ts in gone),
        expired=sum(ts < retained_ms for ts in gone),
    )


def audit_range(context: JobContext, series: Series, window: Window) -> Iterator[tuple[Window, AuditResult]]:
    """Audit a long window part by part, oldest first; yield each part with its result."""
    exchange, _, metric = registry.find_by_source(series.source)
    feed = exchange.find_rest_feed(metric)
    for part in split(window, feed.paging.window_ms if feed else DAY_MS):
        yield part, audit(context, series, part)


def add_results(results: Sequence[AuditResult]) -> AuditResult:
    """Return the sums of results of one series."""
    sums = {name: sum(getattr(result, name) for result in results) for name in COUNTS}
    return replace(results[0], **sums)


def _unit_of(context: JobContext, series: Series) -> Tracked:
    return Tracked(
        database=context.services.database,
        unit=f"audit {series.source} {series.symbol}",
        source=series.source,
        symbol=series.symbol,
        interval_s=DAY_MS // SECOND_MS,
    )


def _store(
    work: Work, rows: Mapping[int, Row], answered: Sequence[Window], cursor: Cursor
) -> tuple[corrections.Stored, int, int]:
    """Correct what differs and store what is missing, in the caller's transaction.

    Returns the rows that were stored before, how many of them were corrected, and how many were added. A row that takes
    the place of a live sample is neither.
    """
    series, feed = work.series, work.feed
    stored = corrections.read_stored_rows(cursor, series, feed.metric, feed.interval, answered)
    changes = corrections.find_differences(feed.metric, stored, rows)
    corrections.correct(cursor, series, feed.interval, changes)
    times = sorted(rows.keys() - stored.keys())
    missing = sorted(set(times) - corrections.read_stored_times(cursor, series, times))
    if times:
        batch = Batch(feed.metric, feed.interval, {series: [rows[ts] for ts in times]})
        answer = Covered(series, [Window(ts, ts + feed.interval_ms) for ts in times], interval_ms=feed.interval_ms)
        corrections.record_missing(cursor, series, missing)
        store_rows(cursor, [batch], [answer], Origin(Way.AUDIT))
    return stored, len({change.ts for change in changes}), len(missing)


@wrap_job
def audit_window(context: JobContext, source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Audit one window as a job of the exchange's queue; its failures are handled as those of a backfill."""
    series, window = Series(source, symbol), Window(start_ms, end_ms)
    unit = _unit_of(context, series)

    def work() -> dict[str, int]:
        result = audit(context, series, window)
        unit.report(State.DONE, f"{describe_window(window)}: {result.describe()}")
        return {name: value for name, value in asdict(result).items() if isinstance(value, int)}

    return run_job(context, unit, work)


@wrap_job
def enqueue_nightly(context: JobContext) -> dict[str, int]:
    """Enqueue the audits of whole UTC days, by each exchange's time; see `enqueue_days`. Return how many per exchange.

    A host whose clock is ahead would note days as audited that have not come yet.
    """
    services = context.services
    counts = {}
    for exchange in registry.select_enabled(services.settings):
        with services.stop.allow_interrupt():
            time_ms = services.clocks.estimate_now_ms(exchange)
        counts[exchange.name] = enqueue_days(services, exchange, floor_to(time_ms, DAY_MS))
    return counts


def enqueue_days(services: Services, exchange: Exchange, end_ms: int) -> int:
    """Enqueue an audit of each day before `end_ms` that was not enqueued yet, for every series that has rows in it.

    The status of `audits <exchange>` remembers the last day, so days while the host was off are made up for, up to
    MAX_DAYS of them. One that has not come yet was noted by a clock that was ahead: the newest day is audited then.
    Returns how many audits were enqueued.
    """
    unit = f"audits {exchange.name}"
    with status.Tracked(database=services.database, unit=unit, interval_s=DAY_MS // SECOND_MS) as tracked:
        first_ms = status.read_last_ts(services.database, unit)
        if first_ms is None or first_ms > end_ms:
            first_ms = end_ms - DAY_MS
        days = [
            Window(start_ms, start_ms + DAY_MS)
            for start_ms in range(max(first_ms, end_ms - MAX_DAYS * DAY_MS), end_ms, DAY_MS)
        ]
        count = sum(_enqueue_day(services, exchange, day) for day in days)
        if days:
            tracked.report(State.DONE, f"{count} series until {to_iso(end_ms)}", last_ts=end_ms)
    return count


def _enqueue_day(services: Services, exchange: Exchange, day: Window) -> int:
    sources = {name_perpspec(code, feed.metric) for code in exchange.codes for feed in exchange.rest_feeds}
    with services.database.open_transaction() as cursor:
        covered = [each for source in sorted(sources) for each in coverage.list_series_within(cursor, source, day)]
    return enqueue_audits(services.redis, exchange.name, [Task(series, day) for series in covered])
