"""The audit: fetches what is stored again, compares value by value, corrects, and records every correction."""

import logging
from dataclasses import asdict, dataclass

from rq import Retry

from fademoe.clock import DAY_MS, Window, floor_to, now_ms, to_iso
from fademoe.errors import RetryLater, SourceError, StoreError
from fademoe.feeds import registry
from fademoe.jobs.backfill import ENDLESS, Work, exchange_now_ms, make_work, shares
from fademoe.jobs.fetch import fetch
from fademoe.metrics import Row, perpspec
from fademoe.queue import jobs as queues
from fademoe.runtime import context as contexts
from fademoe.runtime.context import Context
from fademoe.signals import Stopped
from fademoe.store import corrections, coverage, status
from fademoe.store.coverage import Covered, Series
from fademoe.store.status import Report, State
from fademoe.store.writer import Batch

log = logging.getLogger(__name__)

FUNCTION = "fademoe.jobs.audit.audit_window"
DAY_S = DAY_MS // 1000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an audit found in one series: rows equal, corrected, added because they were missing, and not upstream."""

    source: str
    symbol: str
    equal: int
    corrected: int
    missing: int
    extra: int


def audit(context: Context, series: Series, window: Window) -> Verdict:
    """Compare the covered part of a window with the exchange and correct what differs.

    Rows which the exchange does not have (any more) are counted as extra and kept. Raises SourceError, StoreError or
    Stopped; then nothing was changed.
    """
    work = make_work(context, series, window)
    feed = work.feed
    with context.database.transaction() as cursor:
        covered = coverage.covered(cursor, series, window)
    rows: dict[int, Row] = {}
    answered: list[Window] = []
    for part, windows in shares(feed, covered, [], exchange_now_ms(work)):
        fetched = fetch(part, work.instrument, windows, work.getter(part))
        if fetched.failed is not None:
            raise fetched.failed
        rows.update(fetched.rows)
        answered += fetched.answered
    with context.database.transaction() as cursor:
        stored = corrections.stored_rows(cursor, series, feed.metric, feed.interval, answered)
        changes = corrections.differences(feed.metric, stored, rows)
        corrections.correct(cursor, series, changes)
    added = _add_missing(work, rows, stored)
    changed = len({change.ts for change in changes})
    return Verdict(
        source=series.source,
        symbol=series.symbol,
        equal=len(rows.keys() & stored.keys()) - changed,
        corrected=changed,
        missing=added,
        extra=len(stored.keys() - rows.keys()),
    )


def _add_missing(work: Work, rows: dict[int, Row], stored: corrections.Stored) -> int:
    """Store rows that the exchange has and we do not; return how many."""
    times = sorted(rows.keys() - stored.keys())
    if not times:
        return 0
    batch = Batch(work.feed.metric, work.feed.interval, [(work.series, rows[ts]) for ts in times])
    answers = [Covered(work.series, [Window(ts, ts + work.feed.interval_ms) for ts in times])]
    new = work.context.writer.write([batch], answers)
    with work.context.database.transaction() as cursor:
        corrections.record_missing(cursor, work.series, times)
    return new


def audit_window(source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Audit one window as a job of the exchange's queue; waits for the exchange without using up attempts."""
    context = contexts.current()
    context.stop.install()
    unit = f"audit {source} {symbol}"
    try:
        verdict = audit(context, Series(source, symbol), Window(start_ms, end_ms))
    except Stopped:
        return Retry(max=ENDLESS)
    except RetryLater as error:
        return Retry(max=ENDLESS, interval=max(1, round(error.retry_after_s)))
    except StoreError:
        return Retry(max=ENDLESS, interval=10)
    except SourceError as error:
        status.record_error(context.database, unit, error)
        status.report(
            context.database,
            Report(unit=unit, state=State.ERROR, message=str(error), source=source, symbol=symbol, interval_s=DAY_S),
        )
        queues.rest()
        raise
    message = f"{to_iso(start_ms)} to {to_iso(end_ms)}: {verdict.equal} equal, {verdict.corrected} corrected,"
    message += f" {verdict.missing} missing, {verdict.extra} extra"
    status.report(
        context.database,
        Report(unit=unit, state=State.DONE, message=message, source=source, symbol=symbol, interval_s=DAY_S),
    )
    return {name: value for name, value in asdict(verdict).items() if isinstance(value, int)}


def nightly() -> dict[str, int]:
    """Enqueue an audit of the last whole UTC day for every series that has rows in it; once a day."""
    context = contexts.current()
    end_ms = floor_to(now_ms(), DAY_MS)
    window = Window(end_ms - DAY_MS, end_ms)
    found = {}
    for exchange in registry.enabled(context.settings):
        sources = {perpspec(code, feed.metric) for code in exchange.codes for feed in exchange.rest_feeds}
        with context.database.transaction() as cursor:
            series = [one for source in sorted(sources) for one in coverage.series_within(cursor, source, window)]
        found[exchange.name] = queues.enqueue_once(
            context.redis, exchange.name, FUNCTION, [("au", one, window) for one in series]
        )
    return found
