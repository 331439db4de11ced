"""The backfill job: one window of one series, fetched, checked, stored with its coverage. Idempotent."""

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rq import Retry

from fademoe.clock import DAY_MS, Window, ceil_to, floor_to, merge, split
from fademoe.errors import BadPayload, SourceError
from fademoe.feeds.paging import endpoint_shares, requested_from_ms, retained_from_ms
from fademoe.jobs.fetch import confirm_holes, fetch
from fademoe.jobs.work import TimeUp, Work, ask_exchange_time, describe_window, make_work, run_job
from fademoe.metrics import Row
from fademoe.queue.pauses import budgets_of, resume_budget
from fademoe.queue.retry import FAILURES
from fademoe.runtime.job_context import JobContext, as_job
from fademoe.signals import Stopped
from fademoe.store import coverage, status
from fademoe.store.coverage import DELISTED, NOT_LISTED_YET, Absence, Covered, Series
from fademoe.store.status import State, Tracked
from fademoe.store.writer import Batch

log = logging.getLogger(__name__)

HELPERS = 7  # threads that fetch pages beside the job's own
NO_ROW = "the exchange has no row"
EXPIRED = "expired: older than the exchange keeps"


class Stored(NamedTuple):
    """What a run stored: new rows, rows that are absent upstream, and the error that ended it early."""

    rows: int = 0
    absent: int = 0
    failed: SourceError | Stopped | None = None


@as_job
def backfill(context: JobContext, source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Fetch what is missing of [start_ms, end_ms) of a series and store it with its coverage.

    Returns counts, or a Retry: at once after SIGTERM, later when the exchange or a server is away. Raises the last
    error after five failures; the window then stays in the failed registry for a day.
    """
    series, window = Series(source, symbol), Window(start_ms, end_ms)

    def work() -> dict[str, int]:
        stored = run_window(context, series, window)
        log.info("%s %s: %d rows, %d absent", source, symbol, stored.rows, stored.absent)
        return {"rows": stored.rows, "absent": stored.absent}

    return run_job(context, _unit_of(context, series), work)


def _unit_of(context: JobContext, series: Series) -> Tracked:
    return Tracked(
        database=context.services.database,
        unit=status.backfill_unit(*series),
        source=series.source,
        symbol=series.symbol,
    )


def run_window(context: JobContext, series: Series, window: Window) -> Stored:
    """Do the work of one window; raise SourceError, StoreError or Stopped with everything answered stored."""
    unit = _unit_of(context, series)
    with context.services.database.transaction() as cursor:
        missing = coverage.missing(cursor, series, window)
    if not missing:
        return Stored()
    work = make_work(context, unit, series, window)
    stored = _fetch_and_store(work, missing)
    if stored.failed is None or isinstance(stored.failed, TimeUp):
        for budget in budgets_of(work.exchange, work.feed.metric):
            resume_budget(context.services.redis, work.exchange.name, budget)
    if stored.rows:
        context.clear_failures(FAILURES)
    if stored.failed is not None:
        if stored.rows:
            unit.report(State.RUNNING, f"{describe_window(window)}: {stored.rows} rows so far", new_rows=stored.rows)
        raise stored.failed
    partial = f", partial: {stored.absent} absent upstream" if stored.absent else ""
    message = f"{describe_window(window)}: {stored.rows} new rows{partial}"
    unit.report(State.DONE, message, new_rows=stored.rows, last_ts=window.end_ms)
    return stored


def _fetch_and_store(work: Work, missing: Sequence[Window]) -> Stored:
    """Fetch and store windows portion by portion, until one fails."""
    time_ms = ask_exchange_time(work)
    total = Stored()
    for portion in _portions(missing, work.feed.paging.window_ms):
        stored = _fetch_portion(work, portion, time_ms)
        total = Stored(total.rows + stored.rows, total.absent + stored.absent, stored.failed)
        if stored.failed is not None:
            break
    return total


def _portions(missing: Sequence[Window], max_ms: int) -> Iterator[list[Window]]:
    """Sort windows into portions of `max_ms` at most: the memory that a job takes is that of a portion."""
    portion: list[Window] = []
    room_ms = max_ms
    for part in (part for window in missing for part in split(window, max_ms)):
        length_ms = part.end_ms - part.start_ms
        if portion and length_ms > room_ms:
            yield portion
            portion, room_ms = [], max_ms
        portion.append(part)
        room_ms -= length_ms
    if portion:
        yield portion


def _fetch_portion(work: Work, missing: Sequence[Window], time_ms: int) -> Stored:
    """Fetch windows, store their rows and coverage in one transaction."""
    feed = work.feed
    absences = _unavailable(work, missing, time_ms)
    answered = [absence.window for absence in absences]
    rows: dict[int, Row] = {}
    failed = None
    for endpoint, windows in endpoint_shares(feed, missing, answered, time_ms):
        fetched = fetch(endpoint, work.instrument, windows, work.client, helpers=HELPERS)
        fetched = confirm_holes(endpoint, work.instrument, fetched, time_ms, work.client, helpers=HELPERS)
        _record_unreadable(work, fetched.errors)
        retained_ms = retained_from_ms(endpoint, time_ms)
        absences += [Absence(hole, NO_ROW if hole.end_ms > retained_ms else EXPIRED) for hole in fetched.absent]
        answered += fetched.answered
        rows.update(fetched.rows)
        failed = fetched.failed
        if failed:
            break
    new = 0
    if answered:
        batch = Batch(feed.metric, feed.interval, [(work.series, rows[ts]) for ts in sorted(rows)])
        new = work.services.writer.write([batch], [Covered(work.series, merge(answered), absences)])
    absent_ms = sum(absence.window.end_ms - absence.window.start_ms for absence in absences)
    return Stored(new, absent_ms // feed.interval_ms, failed)


def _record_unreadable(work: Work, errors: Sequence[BadPayload]) -> None:
    """Record each unreadable element once; a page that holds one is requested twice."""
    for error in {error.body: error for error in errors}.values():
        log.warning("%s %s: %s", *work.series, error)
        work.unit.record(error)


def _unavailable(work: Work, missing: Sequence[Window], time_ms: int) -> list[Absence]:
    """Return what of `missing` need not be requested: before the listing, after the end, older than what is kept."""
    # lists err by hours, so the whole day of the listing is requested
    listed_ms = floor_to(work.instrument.listed_ms or 0, DAY_MS)
    first_ms, reason = max((listed_ms, NOT_LISTED_YET), (requested_from_ms(work.feed, time_ms), EXPIRED))
    absences = [Absence(Window(w.start_ms, min(w.end_ms, first_ms)), reason) for w in missing if w.start_ms < first_ms]
    if work.instrument.delisted_ms is not None:
        last_ms = ceil_to(work.instrument.delisted_ms, DAY_MS)
        past = [w for w in missing if w.end_ms > last_ms and max(w.start_ms, first_ms) < w.end_ms]
        absences += [Absence(Window(max(w.start_ms, first_ms, last_ms), w.end_ms), DELISTED) for w in past]
    return absences
