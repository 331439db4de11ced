"""What is due and missing, and why: the question that a user asks, answered from coverage and queues alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fademoe.client import instruments
from fademoe.clock import Window
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import compute_due_until_ms
from fademoe.metrics import name_perpspec
from fademoe.queue.ids import list_window_queues
from fademoe.queue.states import list_tasks, read_job_states
from fademoe.runtime.services import Services
from fademoe.store import coverage
from fademoe.store.coverage import Series

TO_BE_ENQUEUED = "to be enqueued within a minute"
NO_HISTORY = "missed live, and the exchange keeps no history of it"
NOT_LISTED = "the exchange does not list it"
NOT_IN_COINS = "not available in coins"
DISABLED = "exchange disabled by FADEMOE_EXCHANGES"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A range that is wanted, due and missing, and what becomes of it."""

    series: Series
    window: Window
    why: str


def find_gaps(
    services: Services, exchange: Exchange, code: str, metric: str, symbols: Sequence[str] | None
) -> list[Gap]:
    """Return the gaps of a perpspec, by symbol and ascending; rows are due as `compute_due_until_ms` says."""
    until_ms = compute_due_until_ms(exchange, metric, services.clocks.now_ms(exchange))
    with services.database.open_transaction() as cursor:
        gaps = coverage.find_gaps(cursor, name_perpspec(code, metric), until_ms, symbols)
    feed = exchange.find_rest_feed(metric)
    if feed is None:
        return [Gap(series=series, window=window, why=NO_HISTORY) for series, window in gaps]
    if not gaps:
        return []
    if exchange not in registry.select_enabled(services.settings):
        return [Gap(series=series, window=window, why=DISABLED) for series, window in gaps]
    contracts = instruments.load_contracts(exchange, services.database)[code]
    states = _window_states(services, exchange)
    return [
        Gap(series=series, window=window, why=_explain(series, window, feed, contracts, states))
        for series, window in gaps
    ]


def _window_states(services: Services, exchange: Exchange) -> dict[Series, list[tuple[Window, str]]]:
    """Return what the queues do about each series."""
    states: dict[Series, list[tuple[Window, str]]] = {}
    for name in list_window_queues(exchange.name):
        for job_id, state in read_job_states(services.redis, name).items():
            for task in list_tasks(job_id):
                states.setdefault(task.series, []).append((task.window, state))
    return states


def _explain(
    series: Series,
    window: Window,
    feed: RestFeed,
    contracts: Mapping[str, Instrument],
    states: Mapping[Series, Sequence[tuple[Window, str]]],
) -> str:
    """Return why a gap is there: the states of the jobs that overlap it, or why there can be none."""
    instrument = contracts.get(series.symbol)
    if contracts and instrument is None:
        return NOT_LISTED
    if instrument is not None and not feed.serves(instrument):
        return NOT_IN_COINS
    overlapping = {
        state
        for job_window, state in states.get(series, ())
        if job_window.start_ms < window.end_ms and job_window.end_ms > window.start_ms
    }
    return ", ".join(sorted(overlapping)) or TO_BE_ENQUEUED
