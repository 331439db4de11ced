"""What is wanted and missing, and why: the question that a user asks, answered from coverage and queues alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fademoe.client import instruments
from fademoe.clock import MINUTE_MS, Window, floor_to
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import closed_until_ms
from fademoe.jobs.plan import ripe
from fademoe.metrics import perpspec
from fademoe.queue import jobs as queues
from fademoe.queue.jobs import LIVE, Task
from fademoe.runtime.context import Context
from fademoe.store import coverage
from fademoe.store.coverage import Series

LIVE_EDGE_MS = 3 * MINUTE_MS  # of a metric without history: younger minutes are on their way
SOON = "to be enqueued within a minute"
NO_HISTORY = "missed live, and the exchange keeps no history of it"
NOT_LISTED = "the exchange does not list it"
OTHER_UNIT = "the exchange has it in a unit only that cannot be stored"
LEFT_OUT = "FADEMOE_EXCHANGES leaves the exchange out"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A range that is wanted and missing, and what becomes of it."""

    series: Series
    window: Window
    why: str


def find(context: Context, exchange: Exchange, code: str, metric: str, symbols: Sequence[str] | None) -> list[Gap]:
    """Return the gaps of a perpspec, by symbol and ascending; newest minutes that are on their way are none yet."""
    feed, now = exchange.rest_feed(metric), context.clocks.now_ms(exchange)
    until_ms = closed_until_ms(feed, now) if feed else floor_to(now, MINUTE_MS) - LIVE_EDGE_MS
    with context.database.transaction() as cursor:
        found = coverage.gaps(cursor, perpspec(code, metric), until_ms, symbols)
    if feed is None:
        return [Gap(series=series, window=window, why=NO_HISTORY) for series, window in found]
    found = ripe(feed, found, until_ms)
    if not found:
        return []
    known = instruments.known(exchange, context.database)[code]
    enabled = exchange in registry.enabled(context.settings)
    at_work = _at_work(context, exchange) if enabled else {}
    return [
        Gap(series=series, window=window, why=_why(series, window, feed, known, at_work) if enabled else LEFT_OUT)
        for series, window in found
    ]


def _at_work(context: Context, exchange: Exchange) -> dict[Series, list[tuple[Window, str]]]:
    """Return what the queues do about each series."""
    found: dict[Series, list[tuple[Window, str]]] = {}
    for name in (exchange.name, LIVE):
        for job_id, state in queues.states(context.redis, name).items():
            task = Task.from_job_id(job_id)
            if task is not None:
                found.setdefault(task.series, []).append((task.window, state))
    return found


def _why(
    series: Series,
    window: Window,
    feed: RestFeed,
    known: Mapping[str, Instrument],
    at_work: Mapping[Series, Sequence[tuple[Window, str]]],
) -> str:
    instrument = known.get(series.symbol)
    if known and instrument is None:
        return NOT_LISTED
    if instrument is not None and not feed.serves(instrument):
        return OTHER_UNIT
    states = {
        state
        for busy, state in at_work.get(series, ())
        if busy.start_ms < window.end_ms and busy.end_ms > window.start_ms
    }
    return ", ".join(sorted(states)) or SOON
