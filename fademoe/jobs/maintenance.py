"""What the system does for itself: enqueue what is missing, refresh the exchanges' lists, make partitions, forget."""

import logging
from collections.abc import Mapping, Sequence

from fademoe.client import instruments
from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.errors import BudgetSpent, RetryLater, SourceError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import closed_until_ms
from fademoe.jobs.plan import Planned, enqueue, left, plan, ripe
from fademoe.metrics import perpspec
from fademoe.queue import jobs as queues
from fademoe.queue.jobs import LIVE
from fademoe.runtime import context as contexts
from fademoe.runtime.context import Context
from fademoe.store import coverage, status
from fademoe.store.coverage import Absence, Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.status import Report, State

log = logging.getLogger(__name__)

AHEAD_MS = 40 * DAY_MS  # partitions are there before rows need them
HOUR_S = 3600
MISSED = "missed live: the exchange keeps no history of it"
MISSED_MS = 15 * MINUTE_MS  # by then a stream has stored what it held back


def reconcile() -> dict[str, int]:
    """Enqueue every window that is wanted, not covered, and neither queued nor running nor resting.

    The system's self-repair: after a lost Redis, a killed worker or a broken stream it makes the work anew. Two of
    them at once do no harm: a window's name can be queued once.
    """
    context = contexts.current()
    found = {}
    for exchange in registry.enabled(context.settings):
        context.clocks.best_ms(exchange)  # asked once: what follows is judged by it
        want_followed(context, exchange)
        planned = plan_missing(context, exchange)
        new = enqueue(context.redis, planned)
        if new:
            log.info("reconcile: %d windows of %s enqueued", new, exchange.name)
        found[exchange.name] = new
        give_up_missed(context, exchange)
    return found


def want_followed(context: Context, exchange: Exchange) -> None:
    """Declare that followed contracts want, from now on, the metrics whose newest rows come by their history only.

    Streams and polls declare it for their own. An exchange without streams is not followed live.
    """
    others = {channel.metric for channel in exchange.stream_feeds} | {feed.metric for feed in exchange.poll_feeds}
    alone = [feed for feed in exchange.rest_feeds if exchange.sockets and feed.metric not in others]
    contracts, time_ms = instruments.known(exchange, context.database), context.clocks.now_ms(exchange)
    followed = instruments.followed(contracts, context.settings.symbols, time_ms)
    for feed in alone:
        series = [Series(perpspec(each.code, feed.metric), each.symbol) for each in followed if feed.serves(each)]
        if series:
            with context.database.transaction() as cursor:
                coverage.want(cursor, series, floor_to(time_ms, feed.interval_ms), None)


def plan_missing(context: Context, exchange: Exchange) -> list[Planned]:
    """Return the windows of an exchange that are wanted, missing and in no queue."""
    taken = queues.taken(context.redis, (exchange.name, LIVE))
    known = instruments.known(exchange, context.database)
    planned: list[Planned] = []
    for code in exchange.codes:
        for feed in exchange.rest_feeds:
            planned += _plan_feed(context, exchange, feed, code, known[code], taken)
    return planned


def _plan_feed(
    context: Context,
    exchange: Exchange,
    feed: RestFeed,
    code: str,
    known: Mapping[str, Instrument],
    taken: Mapping[Series, Sequence[Window]],
) -> list[Planned]:
    now = context.clocks.now_ms(exchange)
    until_ms = closed_until_ms(feed, now)
    with context.database.transaction() as cursor:
        gaps = coverage.gaps(cursor, perpspec(code, feed.metric), until_ms)
    edge_ms = context.settings.retained_from_ms(now) or 0  # what is older would be dropped as soon as it is stored
    gaps = [(series, Window(max(gap.start_ms, edge_ms), gap.end_ms)) for series, gap in gaps if gap.end_ms > edge_ms]
    return plan(exchange, feed, ripe(feed, left(gaps, taken), until_ms), taken, known, now)


def give_up_missed(context: Context, exchange: Exchange) -> None:
    """Enter as absent what a stream or a poll missed of a metric without history: nobody can fetch it any more."""
    until_ms = floor_to(context.clocks.now_ms(exchange), MINUTE_MS) - MISSED_MS
    for code in exchange.codes:
        for metric in exchange.metrics():
            if exchange.rest_feed(metric) is not None:
                continue
            missed: dict[Series, list[Window]] = {}
            with context.database.transaction() as cursor:
                for series, gap in coverage.gaps(cursor, perpspec(code, metric), until_ms):
                    missed.setdefault(series, []).append(gap)
            answers = [Covered(series, gaps, [Absence(gap, MISSED) for gap in gaps]) for series, gaps in missed.items()]
            if answers:
                context.writer.write([], answers)
                log.info("%s-%s: what was missed of %d series is given up", code, metric, len(answers))


def refresh_instruments() -> dict[str, int]:
    """Fetch every exchange's list of contracts; an exchange that cannot be reached keeps its old one."""
    context = contexts.current()
    found = {}
    for exchange in registry.enabled(context.settings):
        unit = f"instruments {exchange.name}"
        try:
            found[exchange.name] = instruments.refresh(exchange, context.rest, context.database)
        except SourceError as error:
            state = State.WAITING if isinstance(error, RetryLater) else State.ERROR
            if not isinstance(error, BudgetSpent):
                status.record_error(context.database, unit, error)
            status.report(context.database, Report(unit=unit, state=state, message=str(error), interval_s=HOUR_S))
        else:
            message = f"{found[exchange.name]} contracts"
            status.report(context.database, Report(unit=unit, state=State.DONE, message=message, interval_s=HOUR_S))
    return found


def keep_house() -> None:
    """Make the partitions of the coming month, drop what retention lets go, forget old errors and history."""
    context = contexts.current()
    now = now_ms()
    Partitions(context.database).ensure(Window(now, now + AHEAD_MS))
    status.forget_old(context.database)
    edge_ms = context.settings.retained_from_ms(now)
    if edge_ms is not None:
        kept_from_ms = Partitions(context.database).drop_before(edge_ms)
        with context.database.transaction() as cursor:
            coverage.forget_before(cursor, edge_ms, kept_from_ms)
