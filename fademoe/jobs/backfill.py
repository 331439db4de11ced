"""The backfill job: one window of one series, fetched, checked, stored with its coverage. Idempotent.

A window is done portion by portion, each stored before the next one is begun. A run that is cut short leaves the rest
to the next run of its job, which goes on there.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from rq import Retry

from fademoe.clock import (
    DAY_MS,
    LATEST_MS,
    MINUTE_MS,
    SECOND_MS,
    Window,
    ceil_to,
    floor_to,
    merge,
    subtract,
)
from fademoe.errors import BadPayload, RetryLater, SourceError
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument, clip_to_listing
from fademoe.feeds.paging import compute_requested_from_ms, compute_retained_from_ms, split_by_endpoint
from fademoe.jobs.failures import run_job
from fademoe.jobs.feed_client import TimeUp
from fademoe.jobs.fetch import YOUNG_HOLE_MS, Fetched, fetch, request_holes_again
from fademoe.jobs.linking import link_following
from fademoe.jobs.silences import find_silences
from fademoe.jobs.window_run import Work, ask_exchange_time, describe_window, make_work
from fademoe.metrics import Row
from fademoe.queue.pauses import list_budgets_of, resume_budget
from fademoe.queue.retry import FAILURES
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.signals import Stopped
from fademoe.store import coverage, status
from fademoe.store import instruments as store
from fademoe.store.coverage import (
    CONFIRMED_CHECKS,
    DELISTED,
    ENDED,
    EXPIRED,
    NO_ROW,
    NOT_LISTED_YET,
    Absence,
    Covered,
    Series,
)
from fademoe.store.status import State, Tracked
from fademoe.store.writer import Batch

log = logging.getLogger(__name__)

HELPERS = 7  # threads that fetch pages beside the job's own
RECHECK = "recheck"
MIN_REST_S, MAX_REST_S = 120, DAY_MS // SECOND_MS  # of a window with unreadable rows
MIN_UNCONFIRMED_ROWS = 60  # an empty answer for fewer rows is a small hole


class EmptyAnswer(RetryLater):
    """Whole pages are empty inside a contract's life, or a silence is doubtful: a second run has to confirm it."""


class Stored(NamedTuple):
    """What a run stored: new rows, rows that are absent upstream, the error that ended it early.

    `unreadable`: elements of answers that could not be read. `unconfirmed`: what was answered empty, not yet confirmed
    by a second run.
    """

    rows: int = 0
    absent: int = 0
    failed: SourceError | Stopped | None = None
    unreadable: int = 0
    unconfirmed: tuple[Window, ...] = ()

    def add(self, other: "Stored") -> "Stored":
        """Return both together, with the error of the other one."""
        return Stored(
            self.rows + other.rows,
            self.absent + other.absent,
            other.failed,
            self.unreadable + other.unreadable,
            self.unconfirmed + other.unconfirmed,
        )


@wrap_job
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


@wrap_job
def recheck(context: JobContext, source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Request again what is absent without proof in [start_ms, end_ms) and due: rows that came are stored."""
    series, window = Series(source, symbol), Window(start_ms, end_ms)

    def work() -> dict[str, int]:
        with context.services.database.open_transaction() as cursor:
            absent = coverage.find_unproven(cursor, series, window)
        stored = _run(context, series, window, merge(absent), RECHECK)
        return {"rows": stored.rows, "absent": stored.absent}

    return run_job(context, _unit_of(context, series), work)


def _unit_of(context: JobContext, series: Series) -> Tracked:
    return Tracked(
        database=context.services.database,
        unit=status.name_backfill_unit(*series),
        source=series.source,
        symbol=series.symbol,
    )


def run_window(context: JobContext, series: Series, window: Window) -> Stored:
    """Do the work of one window; raise SourceError, StoreError or Stopped with everything answered stored."""
    with context.services.database.open_transaction() as cursor:
        missing = coverage.find_missing(cursor, series, window)
    return _run(context, series, window, missing, "backfill")


def _run(context: JobContext, series: Series, window: Window, requested: Sequence[Window], kind: str) -> Stored:
    """Fetch and store parts of a window, and report it."""
    unit = _unit_of(context, series)
    if not requested:
        return Stored()
    work = make_work(context, unit, series, window, kind)
    stored = _fetch_and_store(work, requested)
    if stored.failed is None or isinstance(stored.failed, TimeUp):
        services = context.services
        for budget in list_budgets_of(work.exchange, work.feed.metric):
            resume_budget(services.redis, services.egress_names, work.exchange.name, budget)
    if stored.rows:
        context.clear_failures(FAILURES)
    if stored.failed is not None:
        if stored.rows:
            unit.report(State.RUNNING, f"{describe_window(window)}: {stored.rows} rows so far", new_rows=stored.rows)
        raise stored.failed
    if stored.unreadable and not stored.rows:
        _hold_back(work)
    partial = f", partial: {stored.absent} absent upstream" if stored.absent else ""
    message = f"{describe_window(window)}: {stored.rows} new rows{partial}"
    unit.report(State.DONE, message, new_rows=stored.rows, last_ts=window.end_ms)
    return stored


def _fetch_and_store(work: Work, missing: Sequence[Window]) -> Stored:
    """Fetch and store windows portion by portion, until one fails: what a short run has done is done.

    What an earlier run got an empty answer for is left out until it may be requested again. It, and what this run found
    empty and unconfirmed, end the run with EmptyAnswer after all else is stored.
    """
    time_ms = ask_exchange_time(work)
    _, waiting = work.list_empty()
    absences = _unavailable(work, missing, time_ms)
    settled = [absence.window for absence in absences]
    if settled:
        _store(work, {}, settled, absences)
    total = Stored(absent=_count(work.feed, absences))
    requested = [part for window in missing for part in subtract(window, [*settled, *waiting])]
    for portion in work.split_into_portions(requested):
        total = total.add(_fetch_portion(work, portion, time_ms))
        if total.failed is not None:
            if isinstance(total.failed, TimeUp) and not (total.rows or total.absent or total.unconfirmed):
                work.note_cut_short()
            return total
    unconfirmed = merge([*waiting, *total.unconfirmed])
    if unconfirmed:
        spans = ", ".join(map(describe_window, unconfirmed))
        failed = EmptyAnswer(f"an empty answer for {spans} is requested again", retry_after_s=work.measure_rest_s())
        total = total._replace(failed=failed)
    return total


def _fetch_portion(work: Work, missing: Sequence[Window], time_ms: int) -> Stored:
    """Fetch windows, store their rows and coverage in one transaction."""
    feed = work.feed
    absences: list[Absence] = []
    answered: list[Window] = []
    rows: dict[int, Row] = {}
    unconfirmed: list[Window] = []
    failed, unreadable = None, 0
    for endpoint, windows in split_by_endpoint(feed, missing, [], time_ms):
        fetched = fetch(endpoint, work.instrument, windows, work.client, helpers=HELPERS)
        fetched = request_holes_again(endpoint, work.instrument, fetched, time_ms, work.client, helpers=HELPERS)
        _record_unreadable(work, fetched.errors)
        unreadable += len(fetched.errors)
        young = Window(floor_to(time_ms - YOUNG_HOLE_MS, endpoint.interval_ms), LATEST_MS)
        judged = [part for window in windows for part in subtract(window, [young])]
        new_absences, empty = _judge(work, endpoint, judged, fetched, time_ms)
        absences += new_absences
        answered += [part for window in fetched.answered for part in subtract(window, empty)]
        unconfirmed += empty
        rows.update(fetched.rows)
        failed = fetched.failed
        if work.is_gone(failed, time_ms):
            gone, failed = [part for window in windows for part in subtract(window, fetched.answered)], None
            absences += _judge_gone(work.instrument, gone, fetched.rows)
            answered += gone
        if failed:
            break
    new = _store(work, rows, answered, absences) if answered or rows else 0
    work.note_empty(unconfirmed)
    return Stored(new, _count(feed, absences), failed, unreadable, tuple(unconfirmed))


def _store(work: Work, rows: Mapping[int, Row], answered: Sequence[Window], absences: Sequence[Absence]) -> int:
    """Store rows with what they and absences cover, in one transaction; return how many were new.

    Rows of a sparse feed beside one that is unreadable cover nothing: which row is missing is not known.
    """
    batch = Batch(work.feed.metric, work.feed.interval, {work.series: [rows[ts] for ts in sorted(rows)]})
    answer = Covered(work.series, merge(answered), absences, work.feed.interval_ms, work.kind)
    new = work.services.writer.write([batch], [answer] if answered else [])
    if new or work.feed.sparse:  # what was not known to lie between two rows may be known now
        link_following(work.services.database, work.feed, work.series, answer.windows)
    return new


def _count(feed: RestFeed, absences: Sequence[Absence]) -> int:
    """Return how many rows are absent."""
    return sum(absence.window.end_ms - absence.window.start_ms for absence in absences) // feed.interval_ms


def _judge(
    work: Work, endpoint: RestFeed, requested: Sequence[Window], fetched: Fetched, time_ms: int
) -> tuple[list[Absence], list[Window]]:
    """Return (absent, unconfirmed) of the ranges that an endpoint has no rows for.

    An empty page is confirmed by the second run that got it empty, and by a recheck; so is a silence of a sparse feed
    that is doubtful, which is a fact then. What follows the contract's end and its last row is absent here as it is
    where it was never requested.
    """
    empty_before, _ = work.list_empty()
    silences = [] if work.kind == RECHECK else find_silences(work, endpoint, requested, fetched, time_ms)
    silences = [part for silence in silences for part in subtract(silence, empty_before)]
    retained_ms = compute_retained_from_ms(endpoint, time_ms)
    expired = [part for hole in fetched.absent if hole.end_ms <= retained_ms for part in subtract(hole, silences)]
    retained = [hole for hole in fetched.absent if hole.end_ms > retained_ms]
    unproven = [part for hole in retained for part in subtract(hole, [_find_ended(work.instrument, fetched.rows)])]
    ended = [part for hole in retained for part in subtract(hole, unproven)]
    once = [part for hole in unproven for part in subtract(hole, empty_before)]
    twice = [part for hole in unproven for part in subtract(hole, once)]
    unconfirmed = [] if work.kind == RECHECK else _empty_pages(work, endpoint, requested, once)
    absences = [Absence(hole, EXPIRED) for hole in expired]
    absences += [Absence(hole, DELISTED) for hole in ended]
    absences += [Absence(hole, NO_ROW) for hole in once if hole not in unconfirmed]
    absences += [Absence(hole, NO_ROW, CONFIRMED_CHECKS) for hole in twice]
    return absences, merge([*unconfirmed, *silences])


def _judge_gone(instrument: Instrument, gone: Sequence[Window], rows: Iterable[int]) -> list[Absence]:
    """Return ranges absent that an exchange does not serve since the contract's end: an archive may have them."""
    before = [part for each in gone for part in subtract(each, [_find_ended(instrument, rows)])]
    after = [part for each in gone for part in subtract(each, before)]
    return [*(Absence(part, ENDED) for part in before), *(Absence(part, DELISTED) for part in after)]


def _find_ended(instrument: Instrument, rows: Iterable[int]) -> Window:
    """Return the time after a contract's end and the last of `rows`; it is empty while no end is known."""
    if instrument.delisted_ms is None:
        return Window(LATEST_MS, LATEST_MS)
    return Window(max(ceil_to(instrument.delisted_ms, MINUTE_MS), max(rows, default=0) + 1), LATEST_MS)


def _empty_pages(work: Work, endpoint: RestFeed, requested: Sequence[Window], holes: Sequence[Window]) -> list[Window]:
    """Return the holes inside the contract's life that are as long as a page, or all that was requested.

    Of a sparse feed each hole is one: several of its rows are due in it.
    """
    whole_ms = min([endpoint.page_span_ms, *(window.end_ms - window.start_ms for window in requested)])
    least_ms = max(whole_ms, MIN_UNCONFIRMED_ROWS * endpoint.interval_ms)
    alive = [clip_to_listing(work.instrument, hole) for hole in holes]
    return [
        hole
        for hole, part in zip(holes, alive, strict=True)
        if part.end_ms - part.start_ms >= least_ms or (endpoint.sparse and part.start_ms < part.end_ms)
    ]


def _hold_back(work: Work) -> None:
    """Hold back a window that gave nothing but unreadable rows, each time for twice as long, within bounds.

    Without it reconcile would enqueue such rows every minute for as long as the exchange sends them so.
    """
    with work.services.database.open_transaction() as cursor:
        missing = coverage.find_missing(cursor, work.series, work.window)
    if missing:
        key, redis = f"unreadable:{':'.join(work.series)}:{work.window.start_ms}", work.services.redis
        runs = int(redis.incr(key))
        redis.expire(key, 2 * MAX_REST_S)
        work.context.keep_finished(min(MIN_REST_S << min(runs - 1, 16), MAX_REST_S))


def _record_unreadable(work: Work, errors: Sequence[BadPayload]) -> None:
    """Record each unreadable element once; a page that holds one is requested twice."""
    for error in {error.body: error for error in errors}.values():
        log.warning("%s %s: %s", *work.series, error)
        work.unit.record(error)


def _unavailable(work: Work, missing: Sequence[Window], time_ms: int) -> list[Absence]:
    """Return what of `missing` need not be requested: before the listing, after the end, older than what is kept.

    The lives of the contract's name that are of another coin are never requested for this one.
    """
    requested_ms = compute_requested_from_ms(work.feed, time_ms)
    with work.services.database.open_transaction() as cursor:
        lives = store.read_lives_of(cursor, work.instrument)
    own = [life for life in lives if life.symbol == work.instrument.symbol] or [work.instrument]
    earlier = [life for life in lives if life.life < own[0].life]
    is_last = own[-1].life == max(life.life for life in (*lives, own[-1]))
    others_end_ms = max((ceil_to(life.delisted_ms or 0, MINUTE_MS) for life in earlier), default=0)
    # lists err by hours, so the whole day of the listing is requested
    listed_ms = max(floor_to(own[0].listed_ms or 0, DAY_MS), others_end_ms)
    is_early = any(window.start_ms < listed_ms for window in missing)
    if is_early and not earlier and _traded_before(work, listed_ms, requested_ms, time_ms):
        listed_ms = 0
    first_ms, reason = max((listed_ms, NOT_LISTED_YET), (requested_ms, EXPIRED))
    absences = [Absence(Window(w.start_ms, min(w.end_ms, first_ms)), reason) for w in missing if w.start_ms < first_ms]
    for life, following in zip_longest(own, own[1:]):
        if life.delisted_ms is None:
            continue
        last_ms = ceil_to(life.delisted_ms, DAY_MS if following or is_last else MINUTE_MS)
        until_ms = floor_to(following.listed_ms or 0, DAY_MS) if following else LATEST_MS
        past = Window(max(last_ms, first_ms), until_ms)
        parts = [Window(max(w.start_ms, past.start_ms), min(w.end_ms, past.end_ms)) for w in missing]
        absences += [Absence(part, DELISTED) for part in parts if part.start_ms < part.end_ms]
    return absences


def _traded_before(work: Work, listed_ms: int, requested_ms: int, time_ms: int) -> bool:
    """Return whether the exchange has rows before the listing that it names: one question per series.

    Lists name a later time than the first trades, and that of the newest of several listings. A series that has ranges
    absent for this reason was asked about before.
    """
    before = Window(max(requested_ms, listed_ms - work.feed.page_span_ms), listed_ms)
    if before.start_ms >= before.end_ms:
        return False
    with work.services.database.open_transaction() as cursor:
        if coverage.has_absence(cursor, work.series, NOT_LISTED_YET):
            return False
    fetched = fetch(work.feed, work.instrument, [before], work.client)
    if fetched.failed is not None and not work.is_gone(fetched.failed, time_ms):
        raise fetched.failed
    return bool(fetched.rows)
