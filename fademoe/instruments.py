"""Keeps `perp_metadata` in step with the exchanges' own lists, and answers which contract a symbol is."""

import logging
from collections.abc import Mapping, Sequence

from fademoe.clock import now_ms
from fademoe.errors import BadPayload
from fademoe.feeds.spec import Exchange, Instrument
from fademoe.rest import RestClient
from fademoe.settings import ALL_SYMBOLS
from fademoe.store import instruments as store
from fademoe.store.pool import Database

log = logging.getLogger(__name__)

MOST_PAGES = 500
LONGEST_WAIT_S = 20.0  # for the budget: the next try is an hour away


def refresh(exchange: Exchange, rest: RestClient, database: Database) -> int:
    """Fetch the exchange's list and store it; return how many contracts it has.

    A contract that is stored and not in the list any more is delisted from now on.
    Raises RetryLater when the exchange cannot be reached, BadPayload when the list is not one.
    """
    feed = exchange.instruments
    found: list[Instrument] = []
    following: Mapping[str, str | int] | None = feed.params
    asked: list[Mapping[str, str | int]] = []
    while following is not None:
        params = following
        asked.append(params)
        body = rest.get(
            exchange, feed.path, params, budget=feed.budget, cost=feed.cost, live=True, max_wait_s=LONGEST_WAIT_S
        )
        try:
            found += feed.parse(body)
            following = feed.following(body, params)
            if not found and following is None:
                raise BadPayload("a list without any contract")
            if following in asked or len(asked) >= MOST_PAGES:
                raise BadPayload(f"a list without an end: it goes on after {len(asked)} pages")
        except BadPayload as error:
            error.locate(exchange.name, f"{feed.path} {dict(params)}", body)
            raise
    listed = list({(each.code, each.name): each for each in found}.values())  # one may move from page to page
    with database.transaction() as cursor:
        store.save(cursor, listed)
        gone = store.retire_others(cursor, listed, now_ms())
    log.info("%s lists %d contracts", exchange.name, len(listed))
    if gone:
        log.warning("%s does not list %s any more", exchange.name, ", ".join(gone))
    return len(listed)


def known(exchange: Exchange, database: Database) -> dict[str, dict[str, Instrument]]:
    """Return the stored contracts: exchange code -> symbol -> instrument; empty before the first refresh."""
    with database.transaction() as cursor:
        return {code: store.by_symbol(cursor, code) for code in exchange.codes}


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
