"""The backfill job: one window of one series, fetched, checked, stored with its coverage. Idempotent."""

import logging
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, repeat

from redis.exceptions import RedisError
from rq import Retry, get_current_job

from fademoe.client import instruments
from fademoe.client.rest import MAX_WAIT_S
from fademoe.clock import DAY_MS, Window, ceil_to, floor_to, merge, monotonic_s, split, subtract, to_iso
from fademoe.errors import BadPayload, BudgetSpent, Refused, RetryLater, SourceError, StoreError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.paging import EXPIRY_MS, retained_from_ms
from fademoe.feeds.request import Request
from fademoe.jobs.fetch import Get, Helpers, confirm_holes, fetch
from fademoe.metrics import Row
from fademoe.queue import jobs as queues
from fademoe.queue.jobs import LIVE
from fademoe.runtime import context as contexts
from fademoe.runtime.context import Context
from fademoe.signals import Stopped
from fademoe.store import coverage, status
from fademoe.store.coverage import DELISTED, NOT_LISTED_YET, Absence, Covered, Series
from fademoe.store.status import Report, State
from fademoe.store.writer import Batch

log = logging.getLogger(__name__)

ENDLESS = 1_000_000_000  # waiting for an exchange uses up no attempt
ATTEMPTS = 5  # other failures without one new row in between, then the window rests
FAILED_S = 4  # the first pause after a failure is twice that, and each one twice the one before: two minutes in all
STORE_AWAY_S = 10
HELPERS = 7  # threads that fetch pages beside the job's own
SPARE_S = 0.25  # units due within that time are to spare: whoever has work for them may use them beside its own turn
# In line for a budget a run waits SPARE_S to begin, for where others use it up already this worker is of more use
# elsewhere; live work waits MAX_WAIT_S. To go on both wait longer.
GO_ON_S = 10.0
WORK_S = 40.0  # then what is done is stored and the rest goes back to the queue: others get their turn
NO_ROW = "the exchange has no row"
EXPIRED = "expired: older than the exchange keeps"


@dataclass(frozen=True, kw_only=True)
class Work:
    """One run of the job."""

    context: Context
    exchange: Exchange
    feed: RestFeed
    instrument: Instrument
    series: Series
    window: Window
    live: bool
    deadline_s: float

    @property
    def unit(self) -> str:
        """Name of the series' status row."""
        return status.backfill_unit(*self.series)

    def getter(self, feed: RestFeed, *, max_wait_s: float | None = None, breakable: bool = True) -> Get:
        """Return what asks the exchange within the feed's budget; it raises TimeUp when this run's time is up.

        `max_wait_s`: how long a request may wait for the budget, instead of as long as a run may. `breakable`: SIGTERM
        may break it off; for the main thread only.
        """
        begin_s = MAX_WAIT_S if self.live else SPARE_S
        waits_s = chain([begin_s], repeat(GO_ON_S)) if max_wait_s is None else repeat(max_wait_s)

        def get(request: Request, cost: int) -> Json:
            if monotonic_s() > self.deadline_s:
                raise TimeUp("this run's time is up", retry_after_s=0)
            with self.context.stop.breakable() if breakable else nullcontext():
                return self.context.rest.send(
                    self.exchange,
                    request,
                    budget=feed.budget,
                    cost=cost,
                    live=self.live,
                    max_wait_s=next(waits_s),
                )

        return get

    def helpers(self, feed: RestFeed, pool: Executor) -> Helpers:
        """Return the threads that fetch pages of the feed beside this one."""
        return Helpers(
            pool=pool,
            most=HELPERS,
            hurried=self.getter(feed, max_wait_s=SPARE_S, breakable=False),
            patient=self.getter(feed, max_wait_s=GO_ON_S, breakable=False),
            breakable=self.context.stop.breakable,
        )


class TimeUp(RetryLater):
    """The run has worked long enough; the rest of its window goes back to the queue."""


def backfill(source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Fetch what is missing of [start_ms, end_ms) of a series and store it with its coverage.

    Returns counts, or a Retry: at once after SIGTERM, later when the exchange or a server is away. Raises what is
    left after five failures; the window then rests in the failed registry.
    """
    context = contexts.current()
    series = Series(source, symbol)
    unit = status.backfill_unit(source, symbol)
    context.stop.install()
    try:
        result = run(context, series, Window(start_ms, end_ms))
    except Stopped:
        log.info("%s gives its window back: this worker stops", unit)
        return Retry(max=ENDLESS)
    except TimeUp:
        return Retry(max=ENDLESS)
    except BudgetSpent as error:
        return _after_budget(context, series, error)
    except (StoreError, RedisError) as error:
        log.warning("%s waits: %s", unit, error)
        return Retry(max=ENDLESS, interval=STORE_AWAY_S)
    except SourceError as error:
        return _after_failure(context, series, error)
    except Exception as error:  # the worker's edge: a mistake of ours is tried again as an exchange's is
        log.exception("%s failed", unit)
        return _after_failure(context, series, error)
    log.info("%s %s..%s done: %s", unit, to_iso(start_ms), to_iso(end_ms), result)
    return result


def make_work(context: Context, series: Series, window: Window) -> Work:
    """Look up exchange, feed and contract of a series; raise Refused when there is none."""
    exchange, code, metric = registry.by_source(series.source)
    feed = exchange.rest_feed(metric)
    if feed is None:
        raise Refused(f"{exchange.name} has no history of {metric}", exchange=exchange.name)
    instrument = _instrument(context, exchange, code, series.symbol)
    if not feed.serves(instrument):
        raise Refused(f"{exchange.name} has no {metric} of {series.symbol} in coins", exchange=exchange.name)
    job = get_current_job()
    return Work(
        context=context,
        exchange=exchange,
        feed=feed,
        instrument=instrument,
        series=series,
        window=window,
        live=job is not None and job.origin == LIVE,
        deadline_s=monotonic_s() + WORK_S,
    )


def run(context: Context, series: Series, window: Window) -> dict[str, int]:
    """Do the work of one window; raise SourceError, StoreError or Stopped with everything answered stored."""
    with context.database.transaction() as cursor:
        missing = coverage.missing(cursor, series, window)
    if not missing:
        return {"rows": 0, "absent": 0}
    work = make_work(context, series, window)
    _say(work, State.RUNNING, f"fetching {_span(window)}")
    rows, absent = _fetch_and_store(work, missing)
    message = f"{_span(window)}: {rows} new rows" + (f", partial: {absent} absent upstream" if absent else "")
    _say(work, State.DONE, message, rows, window.end_ms)
    return {"rows": rows, "absent": absent}


def _fetch_and_store(work: Work, missing: list[Window]) -> tuple[int, int]:
    """Return (new rows, absent rows); what was answered before an error is stored, then the error is raised."""
    time_ms = exchange_now_ms(work)
    new = absent = 0
    pool = ThreadPoolExecutor(HELPERS)
    try:
        for portion in _portions(missing, work.feed.paging.window_ms):
            stored, gone, failed = _fetch_portion(work, portion, time_ms, pool)
            new, absent = new + stored, absent + gone
            if failed is not None:
                if new:
                    _say(work, State.RUNNING, f"{_span(work.window)}: {new} rows so far", new)
                raise failed
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return new, absent


def _portions(missing: Sequence[Window], most_ms: int) -> Iterator[list[Window]]:
    """Sort windows into portions of `most_ms` at most: the memory that a job takes is that of a portion."""
    portion: list[Window] = []
    room_ms = most_ms
    for part in (part for window in missing for part in split(window, most_ms)):
        length_ms = part.end_ms - part.start_ms
        if portion and length_ms > room_ms:
            yield portion
            portion, room_ms = [], most_ms
        portion.append(part)
        room_ms -= length_ms
    if portion:
        yield portion


def _fetch_portion(
    work: Work, missing: list[Window], time_ms: int, pool: Executor
) -> tuple[int, int, SourceError | Stopped | None]:
    """Fetch and store windows; return (new rows, absent rows, what ended it early)."""
    feed = work.feed
    absences = _unavailable(work, missing, time_ms)
    answered = [absence.window for absence in absences]
    rows: dict[int, Row] = {}
    failed = None
    for part, windows in shares(feed, missing, answered, time_ms):
        get, helpers = work.getter(part), work.helpers(part, pool)
        fetched = fetch(part, work.instrument, windows, get, helpers)
        holes = confirm_holes(part, work.instrument, fetched, time_ms, get, helpers)
        _record_unreadable(work, fetched.errors)
        kept_ms = retained_from_ms(part, time_ms)
        absences += [Absence(hole, NO_ROW if hole.end_ms > kept_ms else EXPIRED) for hole in holes]
        answered += fetched.answered
        rows.update(fetched.rows)
        failed = failed or fetched.failed
        if failed:
            break
    new = 0
    if answered:
        batch = Batch(feed.metric, feed.interval, [(work.series, rows[ts]) for ts in sorted(rows)])
        new = work.context.writer.write([batch], [Covered(work.series, merge(answered), absences)])
    if rows:
        _forget_failures()
    return new, sum(a.window.end_ms - a.window.start_ms for a in absences) // feed.interval_ms, failed


def _record_unreadable(work: Work, errors: Sequence[BadPayload]) -> None:
    """Record each unreadable element once; a page that holds one is asked for twice."""
    for error in {error.body: error for error in errors}.values():
        log.warning("%s: %s", work.unit, error)
        status.record_error(work.context.database, work.unit, error)


def _forget_failures() -> None:
    """Count this job's failures anew: it came further, so it is not always the same that fails."""
    job = get_current_job()
    if job and job.meta.pop("failures", 0):
        job.save_meta()


def _unavailable(work: Work, missing: list[Window], time_ms: int) -> list[Absence]:
    """Return what of `missing` need not be asked for: before the listing, after the end, older than what is kept."""
    # lists err by hours, so the whole day of the listing is asked for
    listed_ms = floor_to(work.instrument.listed_ms or 0, DAY_MS)
    kept_ms = 0
    if work.feed.retention.requested_ms is not None:
        kept_ms = ceil_to(time_ms - work.feed.retention.requested_ms + EXPIRY_MS, work.feed.interval_ms)
    first_ms, reason = max((listed_ms, NOT_LISTED_YET), (kept_ms, EXPIRED))
    found = [Absence(Window(w.start_ms, min(w.end_ms, first_ms)), reason) for w in missing if w.start_ms < first_ms]
    if work.instrument.delisted_ms is not None:
        last_ms = ceil_to(work.instrument.delisted_ms, DAY_MS)
        past = [w for w in missing if w.end_ms > last_ms and max(w.start_ms, first_ms) < w.end_ms]
        found += [Absence(Window(max(w.start_ms, first_ms, last_ms), w.end_ms), DELISTED) for w in past]
    return found


def shares(
    feed: RestFeed, missing: list[Window], settled: list[Window], time_ms: int
) -> list[tuple[RestFeed, list[Window]]]:
    """Return each endpoint of the feed with the closed windows it is to be asked for."""
    closed_ms = floor_to(time_ms - (feed.recent or feed).latency.settle_ms, feed.interval_ms)
    left = [part for w in missing for part in subtract(Window(w.start_ms, min(w.end_ms, closed_ms)), settled)]
    if feed.recent is None:
        return [(feed, left)]
    edge_ms = floor_to(time_ms - feed.recent_ms, feed.interval_ms)
    older = [Window(w.start_ms, min(w.end_ms, edge_ms)) for w in left if w.start_ms < edge_ms]
    younger = [Window(max(w.start_ms, edge_ms), w.end_ms) for w in left if w.end_ms > edge_ms]
    return [(feed, older), (feed.recent, younger)]


def exchange_now_ms(work: Work) -> int:
    """Return the exchange's time; raise RetryLater when it cannot be had."""
    with work.context.stop.breakable():
        return work.context.clocks.ask(work.exchange, live=work.live)


def _instrument(context: Context, exchange: Exchange, code: str, symbol: str) -> Instrument:
    """Return the contract of a symbol, looked up at the exchange when it is not known."""
    found = instruments.find(context.database, code, symbol)
    if found is None:
        with context.stop.breakable():
            instruments.refresh(exchange, context.rest, context.database)
        found = instruments.find(context.database, code, symbol)
    if found is None:
        raise Refused(f"{exchange.name} does not list {symbol}", exchange=exchange.name)
    return found


def _after_budget(context: Context, series: Series, error: BudgetSpent) -> Retry:
    """Say that the series waits, and decide when the job runs again: behind all others, or when the budget opens.

    Where the line is full this worker pauses: the next job may want the same budget, and nobody is to ask all the time.
    """
    wait_s = max(1.0, error.retry_after_s * random.uniform(1.0, 1.2))
    _say_why(context, series, State.WAITING, f"waits {wait_s:.0f} s: {error}")
    if error.retry_after_s > GO_ON_S:
        return Retry(max=ENDLESS, interval=round(wait_s))
    context.stop.wait(MAX_WAIT_S)
    return Retry(max=ENDLESS)


def _after_failure(context: Context, series: Series, error: Exception) -> Retry:
    """Say that the series waits, or that it is in error, and decide when the job runs again.

    Raises `error` when the window is to rest: the exchange refuses it, or five runs failed.
    """
    unit = status.backfill_unit(*series)
    job = get_current_job()
    failures = 0
    if isinstance(error, RetryLater):
        wait_s = max(1, round(error.retry_after_s * random.uniform(1.0, 1.2)))
        news, resting = f"waits {wait_s} s: {error}", False
    else:
        failures = int(job.meta.get("failures", 0)) + 1 if job else ATTEMPTS
        resting = failures >= ATTEMPTS or isinstance(error, Refused)
        wait_s = FAILED_S * 2**failures
        news = f"{error}" if resting else f"attempt {failures} of {ATTEMPTS}, again in {wait_s} s: {error}"
    try:
        if not isinstance(error, RetryLater) or error.http_status is not None:
            status.record_error(context.database, unit, error)
    except StoreError as away:
        log.warning("%s: its error could not be stored: %s", unit, away)
    _say_why(context, series, State.ERROR if resting else State.WAITING, news)
    if resting:
        queues.rest()
        raise error
    if job and failures:
        job.meta["failures"] = failures
        job.save_meta()
    return Retry(max=ENDLESS, interval=wait_s)


def _say_why(context: Context, series: Series, state: State, news: str) -> None:
    """Report a unit that does not go on now; PostgreSQL may be away."""
    unit = status.backfill_unit(*series)
    log.warning("%s %s", unit, news)
    try:
        status.report(
            context.database,
            Report(unit=unit, state=state, message=news, source=series.source, symbol=series.symbol, interval_s=3600),
        )
    except StoreError as away:
        log.warning("%s: its status could not be stored: %s", unit, away)


def _say(work: Work, state: State, message: str, new_rows: int = 0, last_ts: int | None = None) -> None:
    status.report(
        work.context.database,
        Report(
            unit=work.unit,
            state=state,
            message=message,
            source=work.series.source,
            symbol=work.series.symbol,
            new_rows=new_rows,
            last_ts=last_ts,
            interval_s=60,
        ),
    )


def _span(window: Window) -> str:
    return f"{to_iso(window.start_ms)} to {to_iso(window.end_ms)}"
