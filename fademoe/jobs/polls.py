"""Current values by REST: one job per feed and round, for every followed contract; a sample is its minute's row."""

import json
import logging
from collections.abc import Sequence

from fademoe.client import instruments
from fademoe.clock import SECOND_MS, Window, monotonic_s
from fademoe.errors import BadPayload, Refused, SourceError, StoreError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.reading import read_elements
from fademoe.metrics import METRICS, Row, perpspec
from fademoe.runtime import context as contexts
from fademoe.runtime.context import Context
from fademoe.signals import Stopped
from fademoe.store import coverage, status
from fademoe.store.coverage import Covered, Series
from fademoe.store.status import Report, State
from fademoe.store.writer import Batch

log = logging.getLogger(__name__)

WAIT_S = 10.0  # for the budget of one request
STREAM_FIRST_MS = 15 * SECOND_MS  # by then a stream has stored its row of a minute
HELD_S = 600  # samples that nobody fetched so long are forgotten

Sample = tuple[Series, Row]


def poll(exchange_name: str, metric: str) -> dict[str, int]:
    """Ask once for the current value of a metric for every followed instrument and store the samples.

    What one round cannot get (the budget, a broken answer) is missing; the next round is the next interval's.
    """
    context = contexts.current()
    context.stop.install()
    exchange = registry.exchanges()[exchange_name]
    feed = next(feed for feed in exchange.poll_feeds if feed.metric == metric)
    unit = f"poll {exchange.name} {metric}"
    with context.stop.breakable():
        time_ms = context.clocks.best_ms(exchange)
    followed = _followed(context, exchange, feed, time_ms)
    _want(context, feed, followed, time_ms)
    rows, asked, trouble = _ask_all(context, exchange, feed, followed)
    is_streamed = any(channel.metric == metric for channel in exchange.stream_feeds)
    due_ms = context.clocks.now_ms(exchange) - (STREAM_FIRST_MS if is_streamed else 0)
    rows = _hold_until_due(context, unit, feed, rows, due_ms)
    new = _store(context, feed, rows)
    _say(context, unit, feed, f"{new} new rows, {asked} of {len(followed)} contracts asked", new, trouble)
    return {"rows": new, "asked": asked}


def _ask_all(
    context: Context, exchange: Exchange, feed: PollFeed, followed: Sequence[Instrument]
) -> tuple[list[Sample], int, SourceError | Stopped | None]:
    """Return the samples of a round, how many contracts were asked for, and what ended it early.

    A round that could not ask for all of them, by its share or for want of time, is gone on with by the next one.
    """
    key, redis = f"poll:{exchange.name}:{feed.metric}:next", context.redis
    first = int(redis.get(key) or 0) % max(1, len(followed))
    turn = [*followed[first:], *followed[:first]][: feed.share]
    rows: list[Sample] = []
    unreadable: list[BadPayload] = []
    asked, trouble = 0, None
    deadline_s = monotonic_s() + feed.every_ms / SECOND_MS
    size = feed.batch or max(1, len(turn))
    for at in range(0, len(turn), size):
        if monotonic_s() > deadline_s:
            break
        batch = turn[at : at + size]
        try:
            samples, errors = _ask(context, exchange, feed, batch)
            rows += samples
            unreadable += errors
        except (SourceError, Stopped) as error:
            trouble = error
            if not isinstance(error, BadPayload | Refused):  # these are about one contract, the next one may be fine
                break
        asked += len(batch)
    redis.set(key, (first + asked) % max(1, len(followed)), ex=HELD_S)
    _record(context, f"poll {exchange.name} {feed.metric}", unreadable)
    return rows, asked, trouble


def _followed(context: Context, exchange: Exchange, feed: PollFeed, time_ms: int) -> list[Instrument]:
    """Return the contracts that trade, are wanted and have the metric."""
    with context.stop.breakable():
        contracts = instruments.ensure(exchange, context.rest, context.database)
    return [each for each in instruments.followed(contracts, context.settings.symbols, time_ms) if feed.serves(each)]


def _want(context: Context, feed: PollFeed, followed: Sequence[Instrument], time_ms: int) -> None:
    series = [Series(perpspec(instrument.code, feed.metric), instrument.symbol) for instrument in followed]
    if series:
        with context.database.transaction() as cursor:
            coverage.want(cursor, series, METRICS[feed.metric].stamp(time_ms, feed.interval_ms), None)


def _ask(
    context: Context, exchange: Exchange, feed: PollFeed, batch: Sequence[Instrument]
) -> tuple[list[Sample], list[BadPayload]]:
    """Return the samples of one request, each with the ts its metric declares, and an error for each unreadable one."""
    request = feed.request(batch)
    cost = feed.cost * len(batch) if feed.batch else feed.cost
    with context.stop.breakable():
        body = context.rest.send(exchange, request, budget=feed.budget, cost=cost, live=True, max_wait_s=WAIT_S)
    by_name = {instrument.name: instrument for instrument in batch}

    def read(item: Json) -> Sample | None:
        name = feed.instrument_name(item)
        instrument = by_name.get(name)
        if instrument is None and feed.batch:
            raise BadPayload(f"{name} was not requested")
        row = feed.parse(item, instrument) if instrument else None
        if instrument is None or row is None:
            return None
        series = Series(perpspec(instrument.code, feed.metric), instrument.symbol)
        return series, row._replace(ts=METRICS[feed.metric].stamp(row.ts, feed.interval_ms))

    try:
        elements = read_elements(feed.items(body), read)
    except BadPayload as error:
        error.locate(exchange.name, str(request), body)
        raise
    return elements.readable, elements.errors(exchange.name, str(request))


def _record(context: Context, unit: str, errors: Sequence[BadPayload]) -> None:
    """Record the samples that were unreadable; PostgreSQL may be away."""
    try:
        for error in errors:
            status.record_error(context.database, unit, error)
    except StoreError as error:
        log.warning("%s: %d unreadable samples could not be recorded: %s", unit, len(errors), error)


def _hold_until_due(context: Context, unit: str, feed: PollFeed, rows: Sequence[Sample], due_ms: int) -> list[Sample]:
    """Hold samples back while their row can still change; return those that are over at `due_ms`.

    Of several samples of a row the newest one is kept. Where a stream has the metric, its rows come first: a stored row
    is not overwritten, and the last sample of a minute that a stream saw is the better one.
    """
    key, metric = f"{unit}:held".replace(" ", ":"), METRICS[feed.metric]
    before = json.loads(context.redis.get(key) or "[]")
    samples = [*((Series(*series), metric.row_type._make(row)) for series, row in before), *rows]
    held = {(series, row.ts): (series, row) for series, row in samples}.values()
    is_due = {sample: metric.over_ms(sample[1].ts, feed.interval_ms) <= due_ms for sample in held}
    context.redis.set(key, json.dumps([sample for sample in held if not is_due[sample]]), ex=HELD_S)
    return [sample for sample in held if is_due[sample]]


def _store(context: Context, feed: PollFeed, rows: Sequence[Sample]) -> int:
    if not rows:
        return 0
    answers = [Covered(series, [Window(row.ts, row.ts + feed.interval_ms)]) for series, row in rows]
    return context.writer.write([Batch(feed.metric, feed.interval, rows)], answers)


def _say(
    context: Context, unit: str, feed: PollFeed, message: str, new: int, trouble: SourceError | Stopped | None
) -> None:
    state = State.DONE
    if isinstance(trouble, SourceError):
        state, message = State.WAITING, f"{message}: {trouble}"
    try:
        if isinstance(trouble, SourceError) and trouble.http_status is not None:
            status.record_error(context.database, unit, trouble)
        interval_s = feed.every_ms // 1000
        status.report(
            context.database, Report(unit=unit, state=state, message=message, new_rows=new, interval_s=interval_s)
        )
    except StoreError as error:
        log.warning("%s: its status could not be stored: %s", unit, error)
