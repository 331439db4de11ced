"""One run of a window's job: the exchange, feed and contract of its series, and what it reports to."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fademoe.client import instruments
from fademoe.clock import LATEST_MS, SECOND_MS, Window, monotonic_s, now_ms, to_iso
from fademoe.errors import BudgetSpent, Refused
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import split_into_portions
from fademoe.jobs.feed_client import FeedClient, NoUnits
from fademoe.queue.pauses import list_budgets_of, pause_budget
from fademoe.runtime.job_context import JobContext
from fademoe.runtime.services import Services
from fademoe.store.coverage import RUNS_APART_S, Series
from fademoe.store.status import State, Tracked

EMPTY = "empty"  # key of Job.meta: begin and end of what a run got an empty answer for, and when
CUT_SHORT = "cut_short"  # key of Job.meta: how many runs were cut short before anything of theirs was stored
PORTION_PAGES = 30  # a window of most feeds: its helpers are never idle at the edge of a portion
RUN_S = 40.0  # then what is done is stored and the rest is requeued: other exchanges get their turn


@dataclass(frozen=True, kw_only=True)
class Work:
    """One run of a window's job."""

    services: Services
    exchange: Exchange
    feed: RestFeed
    instrument: Instrument
    series: Series
    window: Window
    unit: Tracked
    client: FeedClient
    context: JobContext
    kind: str

    def split_into_portions(self, windows: Sequence[Window]) -> Iterator[list[Window]]:
        """Sort ascending windows into portions, each of which is done and stored before the next is begun.

        A portion has half as many pages after each run that was cut short before anything of it was stored, so that one
        of the next runs gets something done, however short they are. Of a sparse feed it has not: what is due in a hole
        may be due in no part of it.
        """
        halvings = 0 if self.feed.sparse else self.context.read_meta(CUT_SHORT)
        most_pages = max(1, PORTION_PAGES >> halvings)
        return split_into_portions(self.feed, windows, most_pages)

    def note_cut_short(self) -> None:
        """Note that this run was cut short before anything of it was stored."""
        self.context.count_failure(CUT_SHORT)

    def list_empty(self) -> tuple[list[Window], list[Window]]:
        """Return what runs got an empty answer for: at least RUNS_APART_S ago, so it is to be asked again, and since.

        Outside a worker nothing is known of other runs.
        """
        again_ms = now_ms() - RUNS_APART_S * SECOND_MS
        notes = [(Window(start_ms, end_ms), noted_ms) for start_ms, end_ms, noted_ms in self.context.read_notes(EMPTY)]
        due = [window for window, noted_ms in notes if noted_ms <= again_ms]
        return due, [window for window, noted_ms in notes if noted_ms > again_ms]

    def note_empty(self, windows: Sequence[Window]) -> None:
        """Note what this run got an empty answer for."""
        self.context.add_notes(EMPTY, [(*window, now_ms()) for window in windows])

    def is_gone(self, error: BaseException | None, time_ms: int) -> bool:
        """Return whether a request failed because the exchange does not serve the contract any more since its end."""
        is_unknown = isinstance(error, Refused) and error.is_unknown_contract
        return is_unknown and (self.instrument.delisted_ms or LATEST_MS) <= time_ms

    def measure_rest_s(self) -> float:
        """Return how long it takes until all that was answered empty may be requested again."""
        newest_ms = max((noted_ms for _, _, noted_ms in self.context.read_notes(EMPTY)), default=now_ms())
        return RUNS_APART_S + min(newest_ms - now_ms(), 0) / SECOND_MS


def make_work(context: JobContext, unit: Tracked, series: Series, window: Window, kind: str) -> Work:
    """Look up exchange, feed and contract of a series; raise Refused when there is none.

    `kind`: the kind of work, as absences remember it.
    """
    services = context.services
    exchange, code, metric = registry.find_by_source(series.source)
    feed = exchange.find_rest_feed(metric)
    if feed is None:
        raise Refused(f"{exchange.name} has no history of {metric}", exchange=exchange.name)
    instrument = _find_instrument(services, exchange, code, metric, series.symbol)
    if not feed.serves(instrument):
        raise Refused(f"{exchange.name} has no {metric} of {series.symbol} in coins", exchange=exchange.name)
    return Work(
        services=services,
        exchange=exchange,
        feed=feed,
        instrument=instrument,
        series=series,
        window=window,
        unit=unit,
        context=context,
        kind=kind,
        client=FeedClient(
            services=services,
            exchange=exchange,
            queue=context.queue,
            deadline_s=monotonic_s() + RUN_S if context.job else math.inf,  # commands take their time
            on_begin=lambda: unit.report(State.RUNNING, f"fetching {describe_window(window)}"),
            gives_way=not context.read_meta(CUT_SHORT),  # or it might never get to what follows its first page
        ),
    )


def ask_exchange_time(work: Work) -> int:
    """Return the exchange's time in ms; raise RetryLater when it cannot be fetched."""
    with _pausing(work.services, work.exchange, work.feed.metric), work.services.stop.allow_interrupt():
        return work.services.clocks.ask(work.exchange, live=work.client.is_live)


@contextmanager
def _pausing(services: Services, exchange: Exchange, metric: str) -> Iterator[None]:
    """Let the windows of a metric stay queued while a request that they all begin with has no units."""
    try:
        yield
    except BudgetSpent as error:
        for budget in list_budgets_of(exchange, metric):
            pause_budget(services.redis, services.egress_names, exchange.name, budget, error.retry_after_s)
        raise NoUnits(str(error), retry_after_s=error.retry_after_s, exchange=error.exchange) from error


def _find_instrument(services: Services, exchange: Exchange, code: str, metric: str, symbol: str) -> Instrument:
    """Return the contract of a symbol; the exchange's list is fetched when it is not known."""
    instrument = instruments.find(services.database, code, symbol)
    if instrument is None:
        with _pausing(services, exchange, metric), services.stop.allow_interrupt():
            instruments.refresh(exchange, services.rest, services.database)
        instrument = instruments.find(services.database, code, symbol)
    if instrument is None:
        raise Refused(f"{exchange.name} does not list {symbol}", exchange=exchange.name)
    return instrument


def describe_window(window: Window) -> str:
    """Return a window as messages show it."""
    return f"{to_iso(window.start_ms)} to {to_iso(window.end_ms)}"
