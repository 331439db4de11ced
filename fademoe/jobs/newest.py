"""The newest minutes that no stream brought: a job per metric and minute, one short page per contract."""

from collections.abc import Callable, Sequence

from rq import Retry

from fademoe.clock import SECOND_MS, Window, ceil_to, floor_to, merge, to_host_s
from fademoe.errors import SourceError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import Newest, Page, RestFeed
from fademoe.feeds.instrument import Instrument, clip_to_listing
from fademoe.jobs import newest_settlements, polls
from fademoe.jobs.fetch import read_page
from fademoe.jobs.linking import link_following
from fademoe.jobs.rounds import Answer, Round, Task, request_all
from fademoe.metrics import Row, name_perpspec
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.signals import Stopped
from fademoe.store import coverage, status
from fademoe.store.coverage import Covered, Series
from fademoe.store.writer import Batch, group_rows

EVERY_MS = 60 * SECOND_MS
RUN_S = 25.0  # of a round: its worker is one that the windows of all exchanges share
BUDGET_WAIT_S = 3.0  # of one request
MAX_SETTLE_WAIT_MS = 5 * SECOND_MS  # a host's clock that is farther ahead is reported
THREADS = 4

Wanted = tuple[Instrument, list[Window]]  # a contract and what of its newest rows is missing, ascending


@wrap_job
def poll_newest(context: JobContext, exchange_name: str, metric: str) -> dict[str, int] | Retry:
    """Request the newest missing rows of a metric for every followed contract and store them.

    The contracts that wait longest come first. Of what was requested only the rows count: a minute without one stays
    missing, and is requested again as a gap. Of settlements, see jobs/newest_settlements.py. A round that would wait
    for its budget while other exchanges or a person have work returns a Retry: it goes on a little later.
    """
    services, exchange = context.services, registry.load_exchanges()[exchange_name]
    feed = exchange.find_rest_feed(metric)
    if feed is None or feed.newest is None:
        raise ValueError(f"{exchange_name} declares no newest rows of {metric}")
    with status.Tracked(
        database=services.database, unit=f"poll {exchange.name} {metric}", interval_s=EVERY_MS // SECOND_MS
    ) as tracked:
        with services.stop.allow_interrupt():
            time_ms = services.clocks.estimate_now_ms(exchange)
        followed = polls.list_followed(services, exchange, feed, time_ms)
        polls.want(services, feed, followed, time_ms)
        if feed.newest.grid_ms:
            outcome, answers, count = _request_settlements(
                services, exchange, feed, feed.newest, followed, time_ms, context.queue
            )
        else:
            time_ms = _wait_until_settled(services, exchange, feed, feed.newest, time_ms)
            wanted = _plan(services, feed, feed.newest, followed, time_ms)
            endpoint = feed.recent or feed
            outcome = _request_all(
                services,
                wanted,
                lambda task, wait_s: _request(services, exchange, endpoint, task, wait_s),
                context.queue,
            )
            answers, count = _prove(feed, outcome.rows), len(wanted)
        for error in outcome.errors:
            tracked.record(error)
        new = 0
        if outcome.rows or answers:
            new = services.writer.write([Batch(feed.metric, feed.interval, group_rows(outcome.rows))], answers)
        stored = {series for series, _ in outcome.rows}
        for answer in answers:
            if answer.series in stored:
                link_following(services.database, feed, answer.series, answer.windows)
        message = f"{new} new rows, {outcome.requested} of {count} contracts requested"
        goes_on = polls.begin_another_run(context, outcome.failed)
        polls.report(tracked, message, new, None if goes_on else outcome.failed)
    if goes_on:
        return polls.go_on_later()
    return {"rows": new, "requested": outcome.requested}


def _request_settlements(
    services: Services,
    exchange: Exchange,
    feed: RestFeed,
    newest: Newest,
    followed: Sequence[Instrument],
    time_ms: int,
    queue: str,
) -> tuple[Round, list[Covered], int]:
    """Ask for settlements that may be new; return the round, what is known then, and how many contracts lack one."""
    candidates = newest_settlements.plan(services, feed, newest, followed, time_ms)
    wanted = [each for each in candidates if each.may_be_new(newest, time_ms)]
    if newest.together is None:
        outcome = _request_all(
            services,
            wanted,
            lambda each, wait_s: newest_settlements.request_one(services, exchange, feed, newest, each, wait_s),
            queue,
        )
    else:
        outcome = Round()
        try:
            if wanted:
                for rows, errors in newest_settlements.request_together(
                    services, exchange, feed, newest, wanted, BUDGET_WAIT_S
                ):
                    outcome.rows += rows
                    outcome.errors += errors
                outcome.requested = len(wanted)
        except (SourceError, Stopped) as error:
            outcome.failed = error
    return outcome, newest_settlements.list_answers(newest, candidates), len(wanted)


def _find_settle_ms(feed: RestFeed, newest: Newest) -> int:
    """Return how long after its end a row is requested."""
    return (feed.recent or feed).latency.settle_ms if newest.settle_ms is None else newest.settle_ms


def _wait_until_settled(services: Services, exchange: Exchange, feed: RestFeed, newest: Newest, time_ms: int) -> int:
    """Wait for the newest row where it settles in a moment; return the exchange's time then.

    The job is enqueued by the host's clock, which may be seconds ahead of the exchange's.
    """
    settles_ms = floor_to(time_ms, feed.interval_ms) + _find_settle_ms(feed, newest)
    if not 0 < settles_ms - time_ms <= MAX_SETTLE_WAIT_MS:
        return time_ms
    services.stop.wait(to_host_s((settles_ms - time_ms) / SECOND_MS))
    return services.clocks.now_ms(exchange)


def _plan(
    services: Services, feed: RestFeed, newest: Newest, followed: Sequence[Instrument], time_ms: int
) -> list[Wanted]:
    """Return what each contract lacks of its newest rows, those first that lack them longest."""
    until_ms = floor_to(time_ms - _find_settle_ms(feed, newest), feed.interval_ms)
    first_ms = until_ms - newest.rows * feed.interval_ms
    by_series = {Series(name_perpspec(each.code, feed.metric), each.symbol): each for each in followed}
    missing: dict[Series, list[Window]] = {}
    with services.database.open_transaction() as cursor:
        for source in {series.source for series in by_series}:
            for series, gap in coverage.find_gaps(cursor, source, until_ms):
                if series in by_series and gap.end_ms > first_ms:
                    part = Window(max(gap.start_ms, first_ms), gap.end_ms)
                    part = clip_to_listing(by_series[series], part)  # a contract is listed amid a minute
                    part = Window(floor_to(part.start_ms, feed.interval_ms), ceil_to(part.end_ms, feed.interval_ms))
                    if part.start_ms < part.end_ms:
                        missing.setdefault(series, []).append(part)
    return sorted(
        ((by_series[series], parts) for series, parts in missing.items()),
        key=lambda pair: (pair[1][0].start_ms, pair[0].name),
    )


def _request_all(
    services: Services, wanted: Sequence[Task], request: Callable[[Task, float], Answer], queue: str
) -> Round:
    return request_all(services, wanted, request, queue=queue, threads=THREADS, run_s=RUN_S, max_wait_s=BUDGET_WAIT_S)


def _request(services: Services, exchange: Exchange, feed: RestFeed, wanted: Wanted, max_wait_s: float) -> Answer:
    """Return the missing rows of one contract, by one request, and an error for each unreadable element."""
    instrument, missing = wanted
    window = Window(missing[0].start_ms, missing[-1].end_ms)
    count = min(feed.paging.rows, (window.end_ms - window.start_ms) // feed.interval_ms)
    page = Page(instrument=instrument, start_ms=window.start_ms, end_ms=window.end_ms, limit=count)
    request = feed.make_request(page)
    body = services.rest.send(
        exchange,
        request,
        budget=feed.budget,
        cost=feed.paging.compute_cost(count),
        live=True,
        max_wait_s=max_wait_s,
    )
    rows, errors = read_page(feed, page, request, body)
    series = Series(name_perpspec(instrument.code, feed.metric), instrument.symbol)
    lacked = [row for row in rows if any(part.start_ms <= row.ts < part.end_ms for part in missing)]
    return [(series, row) for row in lacked], errors


def _prove(feed: RestFeed, rows: Sequence[tuple[Series, Row]]) -> list[Covered]:
    """Return what rows prove, each its own interval."""
    spans: dict[Series, list[Window]] = {}
    for series, row in rows:
        spans.setdefault(series, []).append(Window(row.ts, row.ts + feed.interval_ms))
    return [Covered(series, merge(windows)) for series, windows in spans.items()]
