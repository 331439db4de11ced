"""Keeps `perp_metadata` in step with the exchanges' own lists, and answers which contract a symbol is."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from fademoe.client.rest import RestClient
from fademoe.clock import LATEST_MS, now_ms
from fademoe.errors import BadPayload
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.reading import Unreadable, read_elements
from fademoe.feeds.request import Request
from fademoe.metrics import perpspec
from fademoe.settings import ALL_SYMBOLS
from fademoe.store import coverage, status
from fademoe.store import instruments as store
from fademoe.store.connection import Database
from fademoe.store.coverage import Series

log = logging.getLogger(__name__)

MOST_PAGES = 500
LONGEST_WAIT_S = 20.0  # for the budget: the next try is an hour away


def refresh(exchange: Exchange, rest: RestClient, database: Database) -> int:
    """Fetch the exchange's list and store it; return how many contracts it has.

    A contract that is stored and not in the list any more is delisted from now on. What is absent for the reason that
    a contract did not live is doubted where the list says now that it does: a new one, one listed again or earlier.
    Raises RetryLater when the exchange cannot be reached, BadPayload when the list is not one.
    """
    feed = exchange.instruments
    found: list[Instrument] = []
    unreadable: list[Unreadable] = []
    following: Request | None = feed.request
    asked: list[Request] = []
    while following is not None:
        request = following
        asked.append(request)
        body = rest.send(exchange, request, budget=feed.budget, cost=feed.cost, live=True, max_wait_s=LONGEST_WAIT_S)
        try:
            elements = read_elements(feed.items(body), feed.parse)
            found += elements.readable
            unreadable += elements.unreadable
            following = feed.next_page(body, request)
            if not found and following is None:
                raise BadPayload("a list without any contract")
            if following in asked or len(asked) >= MOST_PAGES:
                raise BadPayload(f"a list without an end: it goes on after {len(asked)} pages")
        except BadPayload as error:
            error.locate(exchange.name, str(request), body)
            raise
    listed = list({(each.code, each.name): each for each in found}.values())  # one may move from page to page
    with database.transaction() as cursor:
        before = store.listed_before(cursor, exchange.codes)
        read = {(instrument.code, instrument.name) for instrument in listed}
        listed += [before[key] for key in _named_in(unreadable, before) if key not in read]
        listed = told_apart(listed, before.values())
        store.save(cursor, listed)
        gone = store.retire_others(cursor, listed, now_ms())
        revived = [each for each in listed if before and _has_more_life(each, before.get((each.code, each.name)))]
        coverage.invalidate_listing_absences(
            cursor, [Series(perpspec(each.code, m), each.symbol) for each in revived for m in exchange.metrics()]
        )
    log.info("%s lists %d contracts", exchange.name, len(listed))
    for element in unreadable:
        left_out = element.error(exchange.name, feed.path)
        log.warning("%s: a contract is left out: %s", exchange.name, left_out)
        status.record_error(database, f"instruments {exchange.name}", left_out)
    if gone:
        log.warning("%s does not list %s any more", exchange.name, ", ".join(gone))
    return len(listed)


def _named_in(unreadable: Sequence[Unreadable], before: Mapping[tuple[str, str], Instrument]) -> list[tuple[str, str]]:
    """Return the keys (code, name) of the stored contracts that unreadable elements name: they stay as they are."""
    members = [element.element.values() for element in unreadable if isinstance(element.element, dict)]
    names = {value for values in members for value in values if isinstance(value, str)}
    return [(code, name) for code, name in before if name in names]


def told_apart(listed: Collection[Instrument], before: Iterable[Instrument]) -> list[Instrument]:
    """Give a multiplied contract a symbol of its own where the exchange trades its plain coin as well.

    1000CAT beside CAT is another coin; by itself it is 1000 CAT. A plain contract that was listed `before` counts.
    """
    plain = {(each.code, each.symbol): each for each in (*before, *listed) if each.multiplier == 1}
    return [
        replace(each, symbol=f"{each.multiplier}{each.symbol}")
        if each.multiplier > 1 and _overlap(each, plain.get((each.code, each.symbol)))
        else each
        for each in listed
    ]


def _overlap(one: Instrument, other: Instrument | None) -> bool:
    """Tell whether two contracts lived at the same time."""
    if other is None:
        return False
    return max(one.listed_ms or 0, other.listed_ms or 0) < min(_end_ms(one), _end_ms(other))


def _end_ms(instrument: Instrument) -> int:
    return instrument.delisted_ms or LATEST_MS


def _has_more_life(now: Instrument, before: Instrument | None) -> bool:
    """Tell whether a contract is new, was listed earlier than was known, or lives on."""
    if before is None:
        return True
    return (now.listed_ms or 0) < (before.listed_ms or 0) or _end_ms(now) > max(_end_ms(before), now_ms())


def known(exchange: Exchange, database: Database) -> dict[str, dict[str, Instrument]]:
    """Return the stored contracts: exchange code -> symbol -> instrument; empty before the first refresh."""
    with database.transaction() as cursor:
        return {code: store.by_symbol(cursor, code) for code in exchange.codes}


def find(database: Database, code: str, symbol: str) -> Instrument | None:
    """Return the stored contract of one symbol, None where none is known."""
    with database.transaction() as cursor:
        return store.by_symbol(cursor, code, symbol).get(symbol)


def ensure(exchange: Exchange, rest: RestClient, database: Database) -> dict[str, dict[str, Instrument]]:
    """Return the stored contracts, fetched now if there are none; raise RetryLater when they cannot be had."""
    found = known(exchange, database)
    if not any(found.values()):
        refresh(exchange, rest, database)
        found = known(exchange, database)
    return found


def followed(
    contracts: Mapping[str, Mapping[str, Instrument]], symbols: Sequence[str], time_ms: int
) -> list[Instrument]:
    """Return the contracts (see `known`) of the symbols that the settings choose, as far as they trade at a time.

    A topic of what does not trade yet is refused, and asked for again by nobody.
    """
    return [
        instrument
        for by_symbol in contracts.values()
        for symbol, instrument in by_symbol.items()
        if symbols == ALL_SYMBOLS or symbol in symbols
        if (instrument.listed_ms or time_ms) <= time_ms < (instrument.delisted_ms or time_ms + 1)
    ]
