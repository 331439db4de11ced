"""Keeps `perp_metadata` in step with the exchanges' own lists, and answers which contract a symbol is."""

import logging
from collections.abc import Mapping

from fademoe.feeds.spec import Exchange, Instrument
from fademoe.rest import RestClient
from fademoe.store import instruments as store
from fademoe.store.pool import Database

log = logging.getLogger(__name__)


def refresh(exchange: Exchange, rest: RestClient, database: Database) -> int:
    """Fetch the exchange's list and store it; return how many contracts it has.

    Raises RetryLater when the exchange cannot be reached, BadPayload when the list is not one.
    """
    feed = exchange.instruments
    found: list[Instrument] = []
    params: Mapping[str, str | int] | None = feed.params
    while params is not None:
        body = rest.get(exchange, feed.path, params, budget=feed.budget, cost=feed.cost, live=True)
        found += feed.parse(body)
        params = feed.following(body)
    with database.transaction() as cursor:
        store.save(cursor, found)
    log.info("%s lists %d contracts", exchange.name, len(found))
    return len(found)


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
