"""Contracts that are listed again: another life, of the same coin or of another one that was given the ticker.

No list says which. A contract that comes back within a month at a comparable price is the same coin; otherwise it is
taken for another one, as two coins must never be in one series. Which it is is decided once, when the new life trades.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from psycopg2.extensions import cursor as Cursor

from fademoe.client.rest import RestClient
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to
from fademoe.errors import BadPayload, Refused, SourceError
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.reading import read_elements
from fademoe.metrics import Candle, name_perpspec
from fademoe.store import instruments as store
from fademoe.store.connection import Database
from fademoe.store.instruments import Key, get_key

log = logging.getLogger(__name__)

CANDLES = "ohlcv"
SAME_COIN_MS = 30 * DAY_MS  # a longer pause is taken for the end of the coin
MAX_PRICE_FACTOR = 3  # between the last price of a life and the first one of the next
UNDECIDED_MS = DAY_MS  # how long a new life waits for its first price
PRICE_RANGE_MS = 2 * HOUR_MS  # around the pause, for a price
MAX_WAIT_S = 10.0  # for the budget


def begins_life(listed: Instrument, stored: Instrument | None, now_ms: int) -> bool:
    """Return whether a listed contract is another life of a stored one: that one ended before this one was listed."""
    if stored is None or stored.delisted_ms is None or listed.listed_ms is None:
        return False
    is_over = listed.delisted_ms is not None and listed.delisted_ms <= stored.delisted_ms
    return stored.delisted_ms <= now_ms and listed.listed_ms >= stored.delisted_ms and not is_over


def judge_relisted(
    exchange: Exchange, rest: RestClient, database: Database, listed: Iterable[Instrument], now_ms: int
) -> dict[Key, bool]:
    """Return for each contract that begins another life whether it is the same coin; undecided ones are left out."""
    by_key = {get_key(each): each for each in listed}
    if not by_key:
        return {}
    with database.open_transaction() as cursor:
        stored = store.read_by_key(cursor, exchange.codes)
    verdicts = {}
    for key, instrument in by_key.items():
        before = stored.get(key)
        if before is not None and begins_life(instrument, before, now_ms):
            verdict = _is_same_coin(exchange, rest, database, before, instrument, now_ms)
            if verdict is not None:
                verdicts[key] = verdict
    return verdicts


def count_lives(
    listed: Mapping[Key, Instrument], stored: Mapping[Key, Instrument], relisted: Mapping[Key, bool], now_ms: int
) -> dict[Key, Instrument]:
    """Return the listed contracts with their life; one whose coin is undecided stays as it is stored."""
    counted = {}
    for key, instrument in listed.items():
        before = stored.get(key)
        if before is None:
            counted[key] = instrument
        elif not begins_life(instrument, before, now_ms):
            counted[key] = replace(instrument, life=before.life)
        elif key in relisted:
            counted[key] = replace(instrument, life=before.life + 1, is_other_coin=not relisted[key])
        else:
            counted[key] = before
    return counted


def is_same_coin(
    exchange: Exchange, rest: RestClient, before: Instrument, last_price: str, after: Instrument, now_ms: int
) -> bool:
    """Return whether two lives are of one coin, by the last price of the one and the first price of the other.

    Where the exchange has no such price they are not. Raises RetryLater while it does not answer.
    """
    ended_ms, listed_ms = before.delisted_ms or 0, after.listed_ms or 0
    if listed_ms - ended_ms > SAME_COIN_MS:
        return False
    try:
        new = _request_price(exchange, rest, after, _find_first_minutes(listed_ms, now_ms), 0)
    except (Refused, BadPayload) as error:
        log.info("%s: no price of %s: %s", exchange.name, after.name, error)
        return False
    return new is not None and _are_near(new, Decimal(last_price))


def _are_near(one: Decimal, other: Decimal) -> bool:
    return 1 / Decimal(MAX_PRICE_FACTOR) <= one / other <= MAX_PRICE_FACTOR


def _is_same_coin(
    exchange: Exchange, rest: RestClient, database: Database, before: Instrument, after: Instrument, now_ms: int
) -> bool | None:
    """Return whether two lives are of one coin, None while that cannot be told."""
    ended_ms, listed_ms = before.delisted_ms or 0, after.listed_ms or 0
    if listed_ms - ended_ms > SAME_COIN_MS:
        return False
    if listed_ms + 2 * MINUTE_MS > now_ms:
        return None
    last_ms = floor_to(ended_ms, MINUTE_MS)
    new = _read_price(exchange, rest, after, _find_first_minutes(listed_ms, now_ms), 0)
    old = _read_stored_price(database, before, last_ms) or _read_price(
        exchange, rest, before, Window(last_ms - PRICE_RANGE_MS, last_ms), -1
    )
    if new is None or old is None:
        return None if now_ms - listed_ms < UNDECIDED_MS else False
    # prices are per coin by the multipliers of the two lists
    is_same = _are_near(new, old)
    log.info(
        "%s %s is listed again at %s after %s: %s", exchange.name, after.name, new, old, "same" if is_same else "other"
    )
    return is_same


def _find_first_minutes(listed_ms: int, now_ms: int) -> Window:
    """Return the minutes behind a listing in which its first price is looked for."""
    first_ms = floor_to(listed_ms, MINUTE_MS)
    return Window(first_ms, min(first_ms + PRICE_RANGE_MS, floor_to(now_ms, MINUTE_MS)))


def _read_price(
    exchange: Exchange, rest: RestClient, instrument: Instrument, window: Window, position: int
) -> Decimal | None:
    """Do what `_request_price` does; None, too, where the exchange does not answer."""
    try:
        return _request_price(exchange, rest, instrument, window, position)
    except SourceError as error:  # the list must not wait for it: the next one asks again
        log.info("%s: no price of %s: %s", exchange.name, instrument.name, error)
        return None


def _request_price(
    exchange: Exchange, rest: RestClient, instrument: Instrument, window: Window, position: int
) -> Decimal | None:
    """Return the open of the first candle of a window, or the close of the last one; None where there is none.

    Raises SourceError where the exchange does not answer.
    """
    feed = exchange.find_rest_feed(CANDLES)
    if feed is None:
        return None
    limit = min(feed.paging.rows, (window.end_ms - window.start_ms) // MINUTE_MS)
    page = Page(instrument=instrument, start_ms=window.start_ms, end_ms=window.end_ms, limit=max(1, limit))
    cost = feed.paging.compute_cost(page.limit)
    body = rest.send(exchange, feed.make_request(page), budget=feed.budget, cost=cost, live=True, max_wait_s=MAX_WAIT_S)
    rows = read_elements(feed.items(body, page), lambda item: feed.parse(item, instrument)).readable
    candles = sorted(row for row in rows if isinstance(row, Candle) and window.start_ms <= row.ts < window.end_ms)
    if not candles:
        return None
    return Decimal(candles[0].o if position == 0 else candles[-1].c)


def _read_stored_price(database: Database, instrument: Instrument, before_ms: int) -> Decimal | None:
    """Return the last stored close of a contract's series before an instant, None where none is near."""

    def read(cursor: Cursor) -> Decimal | None:
        source = name_perpspec(instrument.code, CANDLES)
        return store.read_last_close(cursor, source, instrument.symbol, Window(before_ms - DAY_MS, before_ms))

    return database.run(read)
