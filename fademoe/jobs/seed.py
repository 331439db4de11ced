"""Seeding: say what is wanted, and enqueue the windows that are missing."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

from fademoe.client import instruments
from fademoe.clock import Window, floor_to
from fademoe.errors import ConfigError, RetryLater
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import closed_until_ms
from fademoe.jobs.plan import Planned, enqueue, left, plan, ripe
from fademoe.metrics import METRICS, perpspec
from fademoe.queue import jobs as queues
from fademoe.queue.jobs import LIVE
from fademoe.runtime.context import Context
from fademoe.settings import ALL_SYMBOLS
from fademoe.store import coverage
from fademoe.store.coverage import Series


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a user wants: metrics of symbols on exchanges, from `since_ms` until `until_ms` (None: for ever)."""

    exchanges: Sequence[Exchange]
    metrics: Sequence[str]
    symbols: Sequence[str]
    since_ms: int
    until_ms: int | None


@dataclass(kw_only=True)
class SeedPlan:
    """What an Ask comes to: the series it wants, the windows to fetch, and what it cannot have."""

    asked: dict[Series, Window] = field(default_factory=dict)  # what of each series can be had by now
    planned: list[Planned] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    waiting: int = 0  # windows that were queued already


def make_plan(context: Context, ask: Ask) -> SeedPlan:
    """Work out an Ask; nothing is stored or enqueued.

    Raises ConfigError when a symbol is on none of the exchanges, or nothing can be had.
    """
    result = SeedPlan()
    listed: set[str] = set()
    complete = True
    for exchange in ask.exchanges:
        by_code, known = _contracts(context, exchange, result)
        complete &= known
        listed |= {symbol for contracts in by_code.values() for symbol in contracts}
        for code in exchange.codes:
            _plan_code(context, ask, exchange, code, by_code[code] if known else None, result)
    if complete:
        _refuse_unknown(ask, listed)
    if not result.asked:
        raise ConfigError("; ".join(["nothing can be had", *result.notes]))
    return result


def carry_out(context: Context, ask: Ask, result: SeedPlan) -> int:
    """Store what is wanted and enqueue the planned windows; return how many were new to the queues."""
    with context.database.transaction() as cursor:
        coverage.want(cursor, sorted(result.asked), ask.since_ms, ask.until_ms)
    return enqueue(context.redis, result.planned)


def _plan_code(
    context: Context,
    ask: Ask,
    exchange: Exchange,
    code: str,
    contracts: dict[str, Instrument] | None,
    result: SeedPlan,
) -> None:
    """Plan every metric and symbol of one exchange code into `result`."""
    now = context.clocks.best_ms(exchange)
    symbols = _chosen(ask, exchange, contracts, result)
    taken = queues.taken(context.redis, (exchange.name, LIVE))
    for metric in ask.metrics:
        feed = exchange.rest_feed(metric)
        if feed is None:
            result.notes.append(f"{exchange.name} has no history of {metric}")
            continue
        until_ms = min(closed_until_ms(feed, now), ask.until_ms or now)
        window = Window(floor_to(ask.since_ms, feed.interval_ms), until_ms)
        if window.start_ms >= window.end_ms:
            continue
        source = perpspec(code, metric)
        unserved = [symbol for symbol in symbols if contracts and not feed.serves(contracts[symbol])]
        if unserved:
            result.notes.append(f"{exchange.name} has no {metric} of {', '.join(unserved)} in coins ({code})")
        gaps = []
        with context.database.transaction() as cursor:
            followed = coverage.wanted_without_end(cursor, source)
            for symbol in symbols:
                if symbol in unserved:
                    continue
                series = Series(source, symbol)
                missing = [(series, gap) for gap in coverage.missing(cursor, series, window)]
                if symbol in followed:  # its newest minutes come by themselves
                    missing = ripe(feed, left(missing, taken), closed_until_ms(feed, now))
                by_itself_ms = feed.latency.live_edge_ms if symbol in followed and not missing else 0
                end_ms = min(until_ms, closed_until_ms(feed, now) - by_itself_ms)
                result.asked[series] = Window(window.start_ms, max(window.start_ms, end_ms))
                gaps += missing
        planned = plan(exchange, feed, gaps, taken, contracts or {}, now)
        result.planned += planned
        result.waiting += sum(len(taken.get(Series(source, symbol), ())) for symbol in symbols)


def _contracts(context: Context, exchange: Exchange, result: SeedPlan) -> tuple[dict[str, dict[str, Instrument]], bool]:
    """Return the exchange's contracts per code, and whether its list is known."""
    try:
        return instruments.ensure(exchange, context.rest, context.database), True
    except RetryLater as error:
        result.notes.append(f"the list of {exchange.name} is not known yet, its jobs will wait: {error}")
        return {code: {} for code in exchange.codes}, False


def _chosen(ask: Ask, exchange: Exchange, contracts: dict[str, Instrument] | None, result: SeedPlan) -> list[str]:
    """Return the symbols of the Ask that the exchange lists, all of them when its list is not known."""
    if tuple(ask.symbols) == ALL_SYMBOLS:
        return sorted(contracts or ())
    if contracts is None:
        return list(ask.symbols)
    absent = [symbol for symbol in ask.symbols if symbol not in contracts]
    if absent:
        result.notes.append(f"{exchange.name} does not list {', '.join(absent)}")
    return [symbol for symbol in ask.symbols if symbol in contracts]


def _refuse_unknown(ask: Ask, listed: set[str]) -> None:
    """Raise ConfigError for symbols that none of the exchanges lists."""
    if tuple(ask.symbols) == ALL_SYMBOLS:
        return
    unknown = [symbol for symbol in ask.symbols if symbol not in listed]
    if unknown:
        close = difflib.get_close_matches(unknown[0], sorted(listed), n=5, cutoff=0.5)
        names = [exchange.name for exchange in ask.exchanges]
        hint = f"close are {', '.join(close)}; " if close else ""
        raise ConfigError(
            f"unknown symbol {', '.join(unknown)}: {hint}valid are the {len(listed)} symbols of"
            f" {', '.join(names)}, such as {', '.join(sorted(listed)[:5])} (all: fademoe symbols)"
        )


def metric_names() -> list[str]:
    """Return the metrics that can be asked for."""
    return list(METRICS)
