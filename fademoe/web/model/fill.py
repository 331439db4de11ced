"""What filling would take, worked out before it is requested. Sends no request and changes nothing."""

from collections import Counter
from collections.abc import Sequence

import msgspec
from psycopg2.extensions import cursor as Cursor
from redis import Redis

from fademoe.clock import Window, split, subtract
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.feeds.estimate import estimate_s
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.paging import Effort, clip_to_closed, compute_requested_from_ms, measure
from fademoe.feeds.symbols import describe_unknown
from fademoe.settings import Settings
from fademoe.store.instruments import read_by_symbol
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import completeness as read_completeness
from fademoe.web.model.answer import Answer
from fademoe.web.model.catalog import find_perpspec
from fademoe.web.model.limits import read_delays_s
from fademoe.web.problem import Problem


class FillPlan(Answer):
    """How many series lack rows, and what fetching them takes at most; `reason` says why nothing can be fetched.

    `lost` windows reach back further than the exchange keeps rows.
    """

    perpspec: str
    series: int
    windows: int = 0
    requests: int = 0
    rows: int = 0
    minutes: float = 0.0
    lost: int = 0
    reason: str | None = None


def list_gaps(
    cursor: Cursor, name: str, symbols: tuple[str, ...], window: Window | None, now_ms: int
) -> list[list[Window]]:
    """Return by series of a perpspec what is wanted and missing, or what a whole window lacks.

    `symbols` empty: all of the perpspec.
    """
    spec = find_perpspec(cursor, name)
    chosen = sorted(symbols or read_catalog.list_symbols(cursor, spec.name))
    ranges = read_completeness.list_ranges(cursor, [(spec.name, symbol) for symbol in chosen], now_ms)
    return [_find_gaps(ranges.get((spec.name, symbol)), window) for symbol in chosen]


def plan_gaps(source: str, gaps: list[list[Window]], *, now_ms: int, settings: Settings, redis: Redis) -> FillPlan:
    """Return what fetching the gaps of some series of a perpspec takes."""
    exchange, feed, reason = find_history(source, settings)
    plan = FillPlan(perpspec=source, series=sum(map(bool, gaps)), reason=reason)
    if exchange is None or feed is None:
        return plan
    kept = settings.clip_to_kept((gap for of_series in gaps for gap in of_series), now_ms)
    oldest_ms = compute_requested_from_ms(feed, now_ms)
    windows, lost, effort = 0, 0, Effort(0, 0, 0)
    for gap, count in Counter(clip_to_closed(feed, kept, now_ms)).items():  # most series lack the same
        parts = list(split(gap, feed.paging.window_ms))
        windows += len(parts) * count
        lost += sum(part.start_ms < oldest_ms for part in parts) * count
        effort = Effort(*(total + each * count for total, each in zip(effort, measure(feed, parts), strict=True)))
    share = settings.get_limit_share(exchange.name)
    delays_s = read_delays_s(redis, exchange.name)
    seconds = estimate_s(exchange, [(feed, effort)], share=share, workers=settings.workers, delays_s=delays_s)
    return msgspec.structs.replace(
        plan,
        windows=windows,
        requests=effort.requests,
        rows=effort.rows,
        minutes=seconds / 60,
        lost=lost,
    )


def find_history(source: str, settings: Settings) -> tuple[Exchange | None, RestFeed | None, str | None]:
    """Return the exchange and the history feed of a perpspec; the feed is None for the reason given."""
    try:
        exchange, _, metric = registry.find_by_source(source)
    except ConfigError as error:
        return None, None, str(error)
    if reason := registry.explain_disabled(exchange, settings):
        return exchange, None, f"{reason}, so {source} is not fetched"
    feed = exchange.find_rest_feed(metric)
    return (
        exchange,
        feed,
        None if feed else f"{exchange.title} has no history of {metric}: it comes from the stream alone",
    )


def check_fillable(cursor: Cursor, source: str, symbols: Sequence[str], settings: Settings) -> None:
    """Raise the 400 or 409 that says why nothing can be fetched of a perpspec, or of one of the symbols given.

    The contracts of an exchange are known after its first list; before that every symbol is accepted.
    """
    exchange, feed, reason = find_history(source, settings)
    if exchange is None or feed is None:
        raise Problem(400 if registry.find_parts(source) else 409, reason or "")
    _, code, metric = registry.find_by_source(source)
    contracts = read_by_symbol(cursor, code) if symbols else {}
    if contracts and (unknown := [symbol for symbol in symbols if symbol not in contracts]):
        raise Problem(400, describe_unknown(unknown, contracts, [exchange.name]), parameter="symbol")
    if unserved := [symbol for symbol in symbols if symbol in contracts and not feed.serves(contracts[symbol])]:
        raise Problem(400, f"{exchange.name} has no {metric} of {', '.join(unserved)} in coins", parameter="symbol")


def _find_gaps(ranges: read_completeness.SeriesRanges | None, window: Window | None) -> list[Window]:
    if window is None:
        return ranges.missing if ranges else []
    return subtract(window, ranges.covered if ranges else [])
