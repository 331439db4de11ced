"""Seeding: say what is wanted, and enqueue the windows that are missing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.client import instruments
from fademoe.clock import DAY_MS, LATEST_MS, Window, ceil_to, floor_to
from fademoe.errors import ConfigError, RetryLater
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import Effort, compute_closed_until_ms, measure
from fademoe.feeds.symbols import describe_unknown
from fademoe.jobs.archive_plan import (
    ArchiveState,
    PlannedPeriod,
    enqueue_periods,
    join_periods,
    load_state,
    split_gaps,
)
from fademoe.jobs.plan import (
    FeedState,
    Gap,
    Planned,
    enqueue_requested,
    plan_gaps,
    promote_windows,
    subtract_queued,
)
from fademoe.metrics import list_stored, name_perpspec
from fademoe.queue.ids import LIVE, list_exchange_queues, list_window_queues
from fademoe.queue.states import read_windows_in_queues
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.settings import ALL_SYMBOLS
from fademoe.store import coverage
from fademoe.store.coverage import EXPIRED_REASONS, Series


@dataclass(frozen=True, kw_only=True)
class SeedRequest:
    """What a user wants: metrics of symbols on exchanges, from `since_ms` until `until_ms` (None: for ever).

    `with_dead`: all symbols are also those of contracts that have ended, if they lived in the range. `are_followed`:
    the symbols are those that the settings follow; the request did not name them.
    """

    exchanges: Sequence[Exchange]
    metrics: Sequence[str]
    symbols: Sequence[str]
    since_ms: int
    until_ms: int | None
    with_dead: bool = False
    are_followed: bool = False


@dataclass(frozen=True, kw_only=True)
class SeedPlan:
    """What a SeedRequest comes to.

    `requested`: what of each series is available by now. `planned`: the windows to fetch. `notes`: what is not.
    `queued`: the windows of these series that waited for REST already, with their feeds and what they take.
    `unplanned`: exchanges of which nothing is requested, as their contracts are not known.
    `periods`: what comes from files of archives. `offered`: what would come from files that are not allowed. `ends`:
    until when series of contracts that have ended are wanted.
    """

    requested: Mapping[Series, Window] = field(default_factory=dict)
    planned: Sequence[Planned] = ()
    notes: Sequence[str] = ()
    queued: Sequence[tuple[RestFeed, Effort]] = ()
    periods: Sequence[PlannedPeriod] = ()
    offered: Sequence[PlannedPeriod] = ()
    ends: Mapping[Series, int] = field(default_factory=dict)
    unplanned: Sequence[str] = ()


def make_plan(services: Services, request: SeedRequest) -> SeedPlan:
    """Work out a request; nothing is stored or enqueued.

    Raises ConfigError when a symbol that a user named is on none of the exchanges, or no data are available.
    """
    notes: list[str] = []
    plans: list[SeedPlan] = []
    unplanned: list[str] = []
    contracts: dict[str, dict[str, dict[str, Instrument]]] = {}
    for exchange in request.exchanges:
        try:
            contracts[exchange.name] = instruments.ensure(exchange, services.rest, services.database)
        except RetryLater as error:
            if tuple(request.symbols) == ALL_SYMBOLS:
                unplanned.append(exchange.name)
                notes.append(f"nothing of {exchange.name} is requested, its list is not known yet: seed again: {error}")
            else:
                notes.append(f"the list of {exchange.name} is not known yet, its jobs will wait: {error}")
    if len(contracts) == len(request.exchanges) and not request.are_followed:
        _refuse_unknown(request, {symbol for by_code in contracts.values() for of in by_code.values() for symbol in of})
    for exchange in request.exchanges:
        by_code = contracts.get(exchange.name, {})
        plans += [_plan_code(services, request, exchange, code, by_code.get(code)) for code in exchange.codes]
    notes += [note for plan in plans for note in plan.notes]
    if not any(plan.requested for plan in plans):
        raise ConfigError("; ".join(["no data available for this request", *notes]))
    return SeedPlan(
        requested={series: window for plan in plans for series, window in plan.requested.items()},
        planned=[item for plan in plans for item in plan.planned],
        notes=notes,
        queued=[item for plan in plans for item in plan.queued],
        periods=join_periods(item for plan in plans for item in plan.periods),
        offered=join_periods(item for plan in plans for item in plan.offered),
        ends={series: end_ms for plan in plans for series, end_ms in plan.ends.items()},
        unplanned=unplanned,
    )


def carry_out(services: Services, request: SeedRequest, plan: SeedPlan) -> int:
    """Store what is wanted and enqueue the planned windows; return how many were new to the queues."""
    services.database.run(partial(_want, request, plan))
    new = enqueue_periods(services, plan.periods, at_front=True)
    for exchange in request.exchanges:
        sources = exchange.list_perpspecs()
        requested = {series: window for series, window in plan.requested.items() if series.source in sources}
        promote_windows(services.redis, exchange, requested)
        planned = [item for item in plan.planned if item.task.series.source in sources]
        new += enqueue_requested(services.redis, exchange, planned)
    return new


def _want(request: SeedRequest, plan: SeedPlan, cursor: Cursor) -> None:
    """Store what is wanted; what was absent because REST does not keep it is missing again where files have it."""
    by_end: dict[int | None, list[Series]] = {}
    for series in sorted(plan.requested):
        ends = [end_ms for end_ms in (request.until_ms, plan.ends.get(series)) if end_ms is not None]
        by_end.setdefault(min(ends, default=None), []).append(series)
    for until_ms, of_end in by_end.items():
        coverage.want(cursor, of_end, request.since_ms, until_ms)
    for item in plan.periods:
        if item.effort is None:
            for source in registry.list_dataset_sources(item.task.series.source):
                series = Series(source, item.task.series.symbol)
                if series in plan.requested:
                    coverage.uncover_absent(cursor, series, item.task.window, EXPIRED_REASONS)


@wrap_job
def fill(
    context: JobContext, source: str, symbols: Sequence[str], start_ms: int | None, end_ms: int | None
) -> dict[str, int]:
    """Enqueue what some series miss of a window, or of all that is wanted, as requested work."""
    services = context.services
    exchange, code, metric = registry.find_by_source(source)
    feed = exchange.find_rest_feed(metric)
    if feed is None:
        return {"enqueued": 0, "moved": 0}
    time_ms = services.clocks.now_ms(exchange)
    window = Window(0, time_ms)
    if start_ms is not None and end_ms is not None:
        window = Window(start_ms, min(end_ms, time_ms))
    kept = services.settings.clip_to_kept([window], time_ms)
    if not kept:
        return {"enqueued": 0, "moved": 0}
    window = kept[0]
    with services.database.open_transaction() as cursor:
        gaps = [
            (series, Window(max(gap.start_ms, window.start_ms), min(gap.end_ms, window.end_ms)))
            for series, gap in coverage.find_gaps(cursor, source, window.end_ms, symbols)
        ]
    state = FeedState(
        exchange=exchange,
        feed=feed,
        now_ms=time_ms,
        queued=read_windows_in_queues(services.redis, list_window_queues(exchange.name)),
        instruments=instruments.load_contracts(exchange, services.database)[code],
    )
    archive = load_state(services, exchange, code)
    periods, rest = split_gaps(archive, feed, subtract_queued(gaps, state.queued) if archive else gaps)
    enqueued = enqueue_periods(services, join_periods(periods), at_front=True)
    moved = promote_windows(services.redis, exchange, {Series(source, symbol): window for symbol in symbols})
    enqueued += enqueue_requested(services.redis, exchange, plan_gaps(state, rest))
    return {"enqueued": enqueued, "moved": moved}


def _plan_code(
    services: Services,
    request: SeedRequest,
    exchange: Exchange,
    code: str,
    contracts: Mapping[str, Instrument] | None,
) -> SeedPlan:
    """Plan every metric and symbol of one exchange code; `contracts`: by symbol, None where the list is not known."""
    time_ms = services.clocks.estimate_now_ms(exchange)
    queued = read_windows_in_queues(services.redis, list_window_queues(exchange.name))
    by_rest = read_windows_in_queues(services.redis, (*list_exchange_queues(exchange.name), LIVE))
    symbols, notes = _choose_symbols(request, exchange, contracts, time_ms)
    requested: dict[Series, Window] = {}
    planned: list[Planned] = []
    waiting: list[tuple[RestFeed, Effort]] = []
    periods: list[PlannedPeriod] = []
    offered: list[PlannedPeriod] = []
    ends: dict[Series, int] = {}
    archive = load_state(services, exchange, code, is_allowed_only=False)
    for metric in request.metrics:
        feed = exchange.find_rest_feed(metric)
        if feed is None:
            notes.append(f"{exchange.name} has no history of {metric}")
            continue
        served = [symbol for symbol in symbols if not contracts or feed.serves(contracts[symbol])]
        unserved = sorted(set(symbols) - set(served))
        if unserved:
            notes.append(f"{exchange.name} has no {metric} of {', '.join(unserved)} in coins ({code})")
        state = FeedState(exchange=exchange, feed=feed, now_ms=time_ms, queued=queued, instruments=contracts or {})
        series = [Series(name_perpspec(code, metric), symbol) for symbol in served]
        until_ms = min(compute_closed_until_ms(feed, time_ms), request.until_ms or time_ms)
        start_ms = floor_to(request.since_ms, feed.interval_ms)
        ends |= _find_ends(series, contracts or {}, Window(start_ms, time_ms))
        for end_ms, of_end in _group_by_end(series, ends, until_ms).items():
            if start_ms >= end_ms:
                continue
            of_feed = _plan_feed(services, state, archive, of_end, Window(start_ms, end_ms))
            requested |= of_feed.requested
            planned += of_feed.planned
            waiting += [(feed, measure(feed, [window])) for each in of_end for window in by_rest.get(each, ())]
            periods += of_feed.periods
            offered += of_feed.offered
    return SeedPlan(
        requested=requested,
        planned=planned,
        notes=notes,
        queued=waiting,
        periods=periods,
        offered=offered,
        ends={series: end_ms for series, end_ms in ends.items() if series in requested},
    )


def _find_ends(series: Iterable[Series], contracts: Mapping[str, Instrument], window: Window) -> dict[Series, int]:
    """Return until when the series of contracts that ended are wanted; `window`: from the wish's begin up to now."""
    found = {each: _find_end_ms(contracts.get(each.symbol), window.end_ms) for each in series}
    return {each: end_ms for each, end_ms in found.items() if end_ms is not None and end_ms > window.start_ms}


def _group_by_end(series: Iterable[Series], ends: Mapping[Series, int], until_ms: int) -> dict[int, list[Series]]:
    """Return the series by the end of what is wanted of them, `until_ms` at the latest."""
    groups: dict[int, list[Series]] = {}
    for each in series:
        groups.setdefault(min(until_ms, ends.get(each, until_ms)), []).append(each)
    return groups


def _find_end_ms(instrument: Instrument | None, time_ms: int) -> int | None:
    """Return until when a contract that has ended is wanted: to the end of the day after its end; None: it trades."""
    if instrument is None or instrument.delisted_ms is None or instrument.delisted_ms > time_ms:
        return None
    return ceil_to(instrument.delisted_ms, DAY_MS) + DAY_MS


def _plan_feed(
    services: Services, state: FeedState, archive: ArchiveState | None, series: Sequence[Series], window: Window
) -> SeedPlan:
    """Plan a closed window of some series of one feed.

    The live edge of a series that is wanted without an end is left to its stream.
    """
    gaps: list[Gap] = []
    expired: list[Gap] = []
    with services.database.open_transaction() as cursor:
        endless = coverage.list_symbols_wanted_without_end(cursor, series[0].source)
        for each in series:
            gaps += [(each, gap) for gap in coverage.find_missing(cursor, each, window)]
            if archive is not None:
                expired += [(each, gap) for gap in coverage.find_absent(cursor, each, window, EXPIRED_REASONS)]
    unqueued = subtract_queued([*gaps, *expired], state.queued)
    periods, rest = split_gaps(archive, state.feed, unqueued)
    is_allowed = state.exchange.name in registry.select_archives(services.settings)
    if is_allowed and archive is not None:
        gaps = [
            (each, gap)
            for each, gap in rest
            if not any(each == other and gone.start_ms <= gap.start_ms < gone.end_ms for other, gone in expired)
        ]
    planned = [
        *plan_gaps(state, [(each, gap) for each, gap in gaps if each.symbol in endless]),
        *plan_gaps(state, [(each, gap) for each, gap in gaps if each.symbol not in endless], with_live_edge=True),
    ]
    edge_ms = _live_edge_ms(state.feed, state.now_ms)
    busy = {item.task.series for item in planned}
    if is_allowed:
        busy |= {each for each in series if any(item.task.series.symbol == each.symbol for item in periods)}
    requested = {
        each: Window(window.start_ms, max(window.start_ms, min(window.end_ms, edge_ms)))
        if each.symbol in endless and each not in busy
        else window
        for each in series
    }
    return SeedPlan(
        requested=requested,
        planned=planned,
        periods=periods if is_allowed else (),
        offered=() if is_allowed else periods,
    )


def _live_edge_ms(feed: RestFeed, exchange_now_ms: int) -> int:
    """Return the begin of the live edge, whose rows come by themselves."""
    return compute_closed_until_ms(feed, exchange_now_ms) - feed.latency.live_edge_ms


def _choose_symbols(
    request: SeedRequest, exchange: Exchange, contracts: Mapping[str, Instrument] | None, time_ms: int
) -> tuple[list[str], list[str]]:
    """Return the requested symbols that the exchange lists (all where its list is unknown), and notes on the others."""
    if tuple(request.symbols) == ALL_SYMBOLS:
        ends_after_ms = request.since_ms if request.with_dead else time_ms
        chosen = [
            symbol for symbol, each in (contracts or {}).items() if (each.delisted_ms or LATEST_MS) > ends_after_ms
        ]
        return sorted(chosen), []
    if contracts is None:
        return list(request.symbols), []
    unlisted = [symbol for symbol in request.symbols if symbol not in contracts]
    notes = [f"{exchange.name} does not list {', '.join(unlisted)}"] if unlisted else []
    return [symbol for symbol in request.symbols if symbol in contracts], notes


def _refuse_unknown(request: SeedRequest, listed: set[str]) -> None:
    """Raise ConfigError for symbols that none of the exchanges lists."""
    if tuple(request.symbols) == ALL_SYMBOLS:
        return
    unknown = [symbol for symbol in request.symbols if symbol not in listed]
    if unknown:
        raise ConfigError(describe_unknown(unknown, listed, [exchange.name for exchange in request.exchanges]))


def list_metric_names() -> list[str]:
    """Return the metrics that can be requested."""
    return list(list_stored())
