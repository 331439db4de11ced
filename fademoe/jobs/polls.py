"""Current values by REST: one job per feed and round, for every followed contract; a sample is its minute's row."""

import logging
from collections.abc import Iterator, Sequence

from fademoe import context as contexts
from fademoe import instruments
from fademoe.clock import Window, floor_to, monotonic_s, now_ms
from fademoe.context import Context
from fademoe.errors import BadPayload, SourceError, StoreError
from fademoe.feeds import registry
from fademoe.feeds.spec import Exchange, Instrument, PollFeed
from fademoe.metrics import Row, perpspec
from fademoe.settings import ALL_SYMBOLS
from fademoe.stop import Stopped
from fademoe.store import coverage, status
from fademoe.store.coverage import Covered, Series
from fademoe.store.status import Report, State
from fademoe.store.writer import Batch

log = logging.getLogger(__name__)

WAIT_S = 10.0  # for the budget of one request


def poll(exchange_name: str, metric: str) -> dict[str, int]:
    """Ask once for the current value of a metric for every followed instrument and store the samples.

    What one round cannot get (the budget, a broken answer) is missing; the next round is the next interval's.
    """
    context = contexts.current()
    context.stop.install()
    exchange = registry.exchanges()[exchange_name]
    feed = next(feed for feed in exchange.poll_feeds if feed.metric == metric)
    unit = f"poll {exchange.name} {metric}"
    followed = _followed(context, exchange)
    _want(context, feed, followed)
    rows: list[tuple[Series, Row]] = []
    trouble: SourceError | Stopped | None = None
    deadline_s = monotonic_s() + feed.every_ms / 1000
    for batch in _batches(followed, feed.batch):
        if monotonic_s() > deadline_s:
            break
        try:
            rows += _ask(context, exchange, feed, batch)
        except (SourceError, Stopped) as error:
            trouble = error
            if not isinstance(error, BadPayload):
                break
    new = _store(context, feed, rows)
    _say(context, unit, feed, new, len(followed), trouble)
    return {"rows": new, "asked": len(followed)}


def _followed(context: Context, exchange: Exchange) -> list[Instrument]:
    """Return the contracts that trade and are wanted."""
    chosen, now = context.settings.symbols, now_ms()
    with context.stop.breakable():
        by_code = instruments.ensure(exchange, context.rest, context.database)
    return [
        instrument
        for contracts in by_code.values()
        for symbol, instrument in contracts.items()
        if (chosen == ALL_SYMBOLS or symbol in chosen) and (instrument.delisted_ms or now + 1) > now
    ]


def _want(context: Context, feed: PollFeed, followed: Sequence[Instrument]) -> None:
    series = [Series(perpspec(instrument.code, feed.metric), instrument.symbol) for instrument in followed]
    if series:
        with context.database.transaction() as cursor:
            coverage.want(cursor, series, floor_to(now_ms(), feed.interval_ms), None)


def _batches(followed: Sequence[Instrument], size: int) -> Iterator[Sequence[Instrument]]:
    for at in range(0, len(followed), size):
        yield followed[at : at + size]


def _ask(context: Context, exchange: Exchange, feed: PollFeed, batch: Sequence[Instrument]) -> list[tuple[Series, Row]]:
    """Return the samples of one request, each stamped with its interval."""
    with context.stop.breakable():
        body = context.rest.get(
            exchange,
            feed.path,
            feed.params(batch),
            budget=feed.budget,
            cost=feed.cost * len(batch),
            live=True,
            max_wait_s=WAIT_S,
        )
    by_name = {instrument.name: instrument for instrument in batch}
    found = []
    for name, item in feed.items(body):
        instrument = by_name.get(name)
        row = feed.parse(item, instrument) if instrument else None
        if instrument and row is not None:
            series = Series(perpspec(instrument.code, feed.metric), instrument.symbol)
            found.append((series, row._replace(ts=floor_to(row.ts, feed.interval_ms))))
    return found


def _store(context: Context, feed: PollFeed, rows: Sequence[tuple[Series, Row]]) -> int:
    if not rows:
        return 0
    answers = [Covered(series, [Window(row.ts, row.ts + feed.interval_ms)]) for series, row in rows]
    return context.writer.write([Batch(feed.metric, feed.interval, rows)], answers)


def _say(
    context: Context, unit: str, feed: PollFeed, new: int, asked: int, trouble: SourceError | Stopped | None
) -> None:
    state, message = State.DONE, f"{new} new rows of {asked} contracts"
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
