"""Current values by REST: one job per feed and round, for every followed contract; a sample is its minute's row."""

import json
from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor
from rq import Retry

from fademoe.client import instruments
from fademoe.clock import MINUTE_MS, SECOND_MS, Window, to_iso
from fademoe.errors import BadPayload, BudgetSpent, SourceError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.reading import read_elements
from fademoe.jobs.feed_client import TimeUp
from fademoe.jobs.rounds import Answer, Round, request_all
from fademoe.metrics import METRICS, Row, name_perpspec
from fademoe.queue.retry import DELAY_S, ENDLESS
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.signals import Stopped
from fademoe.store import coverage, status
from fademoe.store.arrivals import LIVE
from fademoe.store.coverage import Covered, Series
from fademoe.store.status import State, Tracked
from fademoe.store.writer import Batch, group_rows

BUDGET_WAIT_S = 10.0  # of one request
THREADS = 4  # of a round without a share, which waits for answers otherwise
# A feed with a share runs in the queue of its exchange. While another exchange has work and units its worker does not
# wait: the round goes on a little later.
SHARED_WAIT_S = 3.0
SHARED_RUN_S = 20.0
CONTINUE_AFTER_S = 3  # delay of the run that does the rest
MAX_RUNS = 12  # of a round
LEFT, RUNS = "left", "runs"  # keys of Job.meta: how many contracts the round has left, how many runs it had
STREAM_FIRST_MS = 15 * SECOND_MS  # by then a stream has stored its row of a minute
HELD_S = 3600  # samples that are not stored so long are dropped
MAX_AHEAD_MS = MINUTE_MS  # of the exchange's clock, what a sample's own time may be
MAX_AHEAD_UNKNOWN_MS = HELD_S * SECOND_MS  # where the exchange does not tell its time

Sample = tuple[Series, Row]


@wrap_job
def poll(context: JobContext, exchange_name: str, metric: str) -> dict[str, int] | Retry:
    """Request the current value of a metric once for every followed instrument and store the samples.

    What one round cannot get (the budget, a broken answer) is missing; the next round is the next interval's. A round
    with a share that would wait for its budget while others have work returns a Retry: it goes on a little later.
    """
    services, exchange = context.services, registry.load_exchanges()[exchange_name]
    feed = next(feed for feed in exchange.poll_feeds if feed.metric == metric)
    unit = f"poll {exchange.name} {metric}"
    with status.Tracked(database=services.database, unit=unit, interval_s=feed.every_ms // SECOND_MS) as tracked:
        with services.stop.allow_interrupt():
            time_ms = services.clocks.estimate_now_ms(exchange)
        followed = list_followed(services, exchange, feed, time_ms)
        want(services, feed, followed, time_ms)
        most = None if feed.share is None else context.read_meta(LEFT) or feed.share
        outcome = _request_all(services, exchange, feed, followed, most, context.queue)
        for error in outcome.errors:
            tracked.record(error)
        is_streamed = any(stream.metric == metric for stream in exchange.stream_feeds)
        due_ms = services.clocks.now_ms(exchange) - (STREAM_FIRST_MS if is_streamed else 0)
        samples, held = _hold_until_due(services, unit, feed, outcome.rows, due_ms)
        new = _store(services, feed, samples)
        _keep_held(services, unit, held)
        message = f"{new} new rows, {outcome.requested} of {len(followed)} contracts requested"
        goes_on = most is not None and _goes_on(context, outcome, min(most, len(followed)))
        report(tracked, message, new, None if goes_on else outcome.failed)
    if goes_on:
        return go_on_later()
    return {"rows": new, "requested": outcome.requested}


def _goes_on(context: JobContext, outcome: Round, most: int) -> bool:
    """Return whether a round of `most` contracts that its budget ended goes on, and note in the job what is left."""
    if outcome.requested >= most or not begin_another_run(context, outcome.failed):
        return False
    context.write_meta(LEFT, most - outcome.requested)
    return True


def begin_another_run(context: JobContext, failed: Exception | None) -> bool:
    """Return whether a round that gave way to others has another run, soon, and note that in the job.

    Where the exchange cannot be asked for longer than all runs take, the next round is soon enough.
    """
    runs = context.read_meta(RUNS) + 1
    if context.job is None or not isinstance(failed, BudgetSpent | TimeUp) or runs >= MAX_RUNS:
        return False
    if failed.retry_after_s > MAX_RUNS * CONTINUE_AFTER_S:
        return False
    for key, value in ((RUNS, runs), (DELAY_S, CONTINUE_AFTER_S)):
        context.write_meta(key, value)
    return True


def go_on_later() -> Retry:
    """Return what the job of a round with another run returns."""
    return Retry(max=ENDLESS, interval=CONTINUE_AFTER_S, enqueue_at_front=True)


def _request_all(
    services: Services,
    exchange: Exchange,
    feed: PollFeed,
    followed: Sequence[Instrument],
    most: int | None,
    queue: str,
) -> Round:
    """Request a round's samples, of `most` contracts at most, for a job of a queue.

    A round that could not request all contracts, by its share or for want of time, is continued by the next one.
    One with a share ends early when work that a person requested is ready.
    """
    key, redis = f"poll:{exchange.name}:{feed.metric}:next", services.redis
    first = int(redis.get(key) or 0) % max(1, len(followed))
    turn = [*followed[first:], *followed[:first]][:most]
    size = feed.batch or max(1, len(turn))
    batches = [turn[at : at + size] for at in range(0, len(turn), size)]
    is_shared = feed.share is not None
    outcome = request_all(
        services,
        batches,
        lambda batch, wait_s: _request_batch(services, exchange, feed, batch, wait_s),
        queue=queue,
        threads=1 if is_shared else THREADS,
        run_s=SHARED_RUN_S if is_shared else feed.every_ms / SECOND_MS,
        max_wait_s=SHARED_WAIT_S if is_shared else BUDGET_WAIT_S,
    )
    outcome.requested = min(outcome.requested * size, len(turn))
    redis.set(key, (first + outcome.requested) % max(1, len(followed)), ex=HELD_S)
    return outcome


def list_followed(services: Services, exchange: Exchange, feed: PollFeed | RestFeed, time_ms: int) -> list[Instrument]:
    """Return the contracts that trade, are wanted and have the metric."""
    with services.stop.allow_interrupt():
        contracts = instruments.ensure(exchange, services.rest, services.database)
    followed = instruments.select_followed(contracts, services.settings.symbols, time_ms)
    return [instrument for instrument in followed if feed.serves(instrument)]


def want(services: Services, feed: PollFeed | RestFeed, followed: Sequence[Instrument], time_ms: int) -> None:
    """Want the metric of the contracts from now or from their listing on."""

    def save(cursor: Cursor) -> None:
        for start_ms, contracts in instruments.group_by_start(followed, time_ms).items():
            series = [Series(name_perpspec(each.code, feed.metric), each.symbol) for each in contracts]
            coverage.want(cursor, series, METRICS[feed.metric].stamp(start_ms, feed.interval_ms), None)

    services.database.run(save)


def _request_batch(
    services: Services, exchange: Exchange, feed: PollFeed, batch: Sequence[Instrument], max_wait_s: float
) -> Answer:
    """Return the samples of one request, each with the ts its metric declares, and an error for each unreadable one.

    So is one of a time to come, and of two of one contract that differ both are.
    """
    request = feed.make_request(batch)
    cost = feed.cost * len(batch) if feed.batch else feed.cost
    body = services.rest.send(exchange, request, budget=feed.budget, cost=cost, live=True, max_wait_s=max_wait_s)
    by_name = {instrument.name: instrument for instrument in batch}
    answered_ms = services.clocks.now_ms(exchange)
    latest_ms = answered_ms + (MAX_AHEAD_MS if exchange.clock else MAX_AHEAD_UNKNOWN_MS)

    def read(item: Json) -> Sample | None:
        name = feed.read_instrument_name(item)
        instrument = by_name.get(name)
        if instrument is None and feed.batch:
            raise BadPayload(f"{name} was not requested")
        row = feed.parse_at(item, instrument, answered_ms) if instrument else None
        if instrument is None or row is None:
            return None
        if row.ts > latest_ms:
            raise BadPayload(f"the sample of {name} is of {to_iso(row.ts)}, which is still to come")
        series = Series(name_perpspec(instrument.code, feed.metric), instrument.symbol)
        return series, row._replace(ts=METRICS[feed.metric].stamp(row.ts, feed.interval_ms))

    try:
        elements = read_elements(feed.items(body), read)
    except BadPayload as error:
        error.locate(exchange.name, str(request), body)
        raise
    samples, errors = _distinct(elements.readable)
    for differing in errors:
        differing.locate(exchange.name, str(request), body)
    return samples, [*elements.make_errors(exchange.name, str(request)), *errors]


def _distinct(samples: Sequence[Sample]) -> tuple[list[Sample], list[BadPayload]]:
    """Return the samples of one answer, each once, without those of one series that differ; an error for each such."""
    last = dict(samples)
    differing = {series for series, row in samples if last[series] != row}
    errors = [BadPayload(f"two samples of {series.source} {series.symbol} differ") for series in sorted(differing)]
    return [(series, row) for series, row in last.items() if series not in differing], errors


def _hold_until_due(
    services: Services, unit: str, feed: PollFeed, samples: Sequence[Sample], due_ms: int
) -> tuple[list[Sample], list[Sample]]:
    """Hold samples until they are stored; return those that are over at `due_ms`, and those that can still change.

    Of several samples of a row the newest one is kept. Where a stream has the metric, its rows come first: a stored row
    is not overwritten, and the last sample of a minute that a stream saw is the better one.
    """
    metric = METRICS[feed.metric]
    before = json.loads(services.redis.get(_held_key(unit)) or "[]")
    every = [*((Series(*series), metric.row_type._make(row)) for series, row in before), *samples]
    newest = list({(series, row.ts): (series, row) for series, row in every}.values())
    _keep_held(services, unit, newest)
    is_due = {sample: metric.compute_final_ms(sample[1].ts, feed.interval_ms) <= due_ms for sample in newest}
    return [sample for sample in newest if is_due[sample]], [sample for sample in newest if not is_due[sample]]


def _keep_held(services: Services, unit: str, samples: Sequence[Sample]) -> None:
    services.redis.set(_held_key(unit), json.dumps(samples), ex=HELD_S)


def _held_key(unit: str) -> str:
    return f"{unit}:held".replace(" ", ":")


def _store(services: Services, feed: PollFeed, samples: Sequence[Sample]) -> int:
    if not samples:
        return 0
    answers = [Covered(series, [Window(row.ts, row.ts + feed.interval_ms)]) for series, row in samples]
    return services.writer.write([Batch(feed.metric, feed.interval, group_rows(samples))], answers, LIVE)


def report(tracked: Tracked, message: str, new: int, failed: SourceError | Stopped | None) -> None:
    """Report a round; what ended it early is recorded where the exchange answered."""
    state = State.DONE
    if isinstance(failed, SourceError):
        state, message = State.WAITING, f"{message}: {failed}"
        if failed.http_status is not None:
            tracked.record(failed)
    tracked.report(state, message, new_rows=new)
