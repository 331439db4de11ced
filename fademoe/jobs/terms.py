"""Terms that the lists of contracts do not tell: tiers of margin, funding intervals."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fademoe.client import instruments
from fademoe.clock import monotonic_s, now_ms
from fademoe.errors import BadPayload, Refused, SourceError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange, TermsFeed
from fademoe.feeds.instrument import NO_TERMS, Instrument, Json
from fademoe.feeds.request import Request
from fademoe.jobs.feed_client import has_requested_work
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.settings import ALL_SYMBOLS
from fademoe.signals import Stopped
from fademoe.store import instruments as store
from fademoe.store import status
from fademoe.store.status import State

EVERY_S = 3600
TIMEOUT_S = 300
RUN_S = 60.0  # of one run; the next one goes on where it ended
BUDGET_WAIT_S = 10.0  # of one request
MOST_ERRORS = 5  # recorded by one run
NEXT_KEPT_S = 2 * EVERY_S
VANISHED_KEPT_S = 7 * 86_400


@dataclass(kw_only=True)
class TermsResult:
    """What a feed answers: contracts with their terms, what could not be read, and what ended it early."""

    contracts: list[Instrument] = field(default_factory=list)
    errors: list[BadPayload | Refused] = field(default_factory=list)
    failed: SourceError | Stopped | None = None


@wrap_job
def refresh_terms(context: JobContext, exchange_name: str) -> dict[str, int]:
    """Request the terms of contracts that trade, and store those that have changed with the time of the answer.

    Only of contracts that are followed or have series: the terms of others are not needed.
    What cannot be read of one contract is an error and leaves its terms as they were.
    """
    services, exchange = context.services, registry.load_exchanges()[exchange_name]
    unit = f"terms {exchange.name}"
    count = 0
    with status.Tracked(database=services.database, unit=unit, interval_s=EVERY_S) as tracked:
        with services.stop.allow_interrupt():
            contracts = instruments.ensure(exchange, services.rest, services.database)
        time_ms = services.clocks.now_ms(exchange)
        trading = instruments.select_followed(contracts, ALL_SYMBOLS, time_ms)
        if services.settings.symbols != ALL_SYMBOLS:
            chosen = {*services.settings.symbols, *_list_stored_symbols(services, exchange)}
            trading = [each for each in trading if each.symbol in chosen]
        messages, failed = [], None
        for feed in exchange.terms_feeds:
            result = _request(services, exchange, feed, trading)
            at_ms = services.clocks.now_ms(exchange)
            services.database.run(lambda cursor: store.save_terms(cursor, result.contracts, at_ms, feed.path))  # noqa: B023
            for error in result.errors[:MOST_ERRORS]:
                tracked.record(error)
            count += len(result.contracts)
            messages.append(f"{feed.path}: {len(result.contracts)} of {len(trading)} contracts")
            failed = failed or result.failed
        message = "; ".join(messages)
        if isinstance(failed, SourceError):
            tracked.report(State.WAITING, f"{message}: {failed}")
        else:
            tracked.report(State.DONE, message)
    return {"contracts": count}


def _list_stored_symbols(services: Services, exchange: Exchange) -> set[str]:
    """Return the symbols of which the exchange has series."""
    with services.database.open_transaction() as cursor:
        return store.list_symbols_of(cursor, exchange.list_perpspecs())


def _request(services: Services, exchange: Exchange, feed: TermsFeed, trading: Sequence[Instrument]) -> TermsResult:
    """Request the terms of contracts; a run that takes too long, or gives way to requested work, is continued later."""
    if feed.is_for_all:
        return _request_some(services, exchange, feed, trading[:1], trading)
    key = f"terms:{exchange.name}:{feed.path}:next"
    first = int(services.redis.get(key) or 0) % max(1, len(trading))
    turn, result, deadline_s, requested = [*trading[first:], *trading[:first]], TermsResult(), monotonic_s() + RUN_S, 0
    for instrument in turn:
        if monotonic_s() > deadline_s or result.failed is not None or (requested and has_requested_work(services)):
            break
        answer = _request_some(services, exchange, feed, [instrument], [instrument])
        result.contracts += answer.contracts
        result.errors += answer.errors
        result.failed = answer.failed
        requested += 1
    services.redis.set(key, (first + requested) % max(1, len(trading)), ex=NEXT_KEPT_S)
    return result


def _request_some(
    services: Services,
    exchange: Exchange,
    feed: TermsFeed,
    requested: Sequence[Instrument],
    concerned: Sequence[Instrument],
) -> TermsResult:
    """Return what one request, for the contract in `requested`, answers for some contracts."""
    if not requested:
        return TermsResult()
    request = feed.make_request(requested[0])
    try:
        with services.stop.allow_interrupt():
            body = services.rest.send(
                exchange, request, budget=feed.budget, cost=feed.cost, live=False, max_wait_s=BUDGET_WAIT_S
            )
        by_name = _group_by_contract(exchange, feed, request, body)
    except (Refused, BadPayload) as error:
        return TermsResult(errors=[error])
    except (SourceError, Stopped) as error:
        return TermsResult(failed=error)
    result = TermsResult()
    for instrument in concerned:
        items = by_name.get(instrument.name, [])
        try:
            terms = feed.parse(items, instrument) if items else NO_TERMS
        except BadPayload as error:
            error.locate(exchange.name, str(request), items)
            result.errors.append(error)
            continue
        if terms != NO_TERMS:
            result.contracts.append(replace(instrument, terms=terms))
    if feed.unnamed != NO_TERMS:
        try:
            unnamed = _confirm_unnamed(
                services, exchange, feed, [each for each in concerned if each.name not in by_name]
            )
        except BadPayload as error:
            error.locate(exchange.name, str(request), body)
            result.errors.append(error)
        else:
            result.contracts += [replace(instrument, terms=feed.unnamed) for instrument in unnamed]
    return result


def _group_by_contract(exchange: Exchange, feed: TermsFeed, request: Request, body: Json) -> dict[object, list[Json]]:
    """Return the elements of an answer by the name of their contract; raise BadPayload when it is no such list."""
    by_name: dict[object, list[Json]] = {}
    try:
        for item in feed.items(body):
            by_name.setdefault(feed.name(item), []).append(item)
        if feed.is_for_all and not by_name:
            raise BadPayload("a list without any contract")
    except (BadPayload, TypeError) as error:
        bad = error if isinstance(error, BadPayload) else BadPayload(str(error))
        bad.locate(exchange.name, str(request), body)
        raise bad from None
    return by_name


def _confirm_unnamed(
    services: Services, exchange: Exchange, feed: TermsFeed, unnamed: Sequence[Instrument]
) -> list[Instrument]:
    """Return those of the contracts that an answer does not name that have the terms `feed.unnamed`.

    One that had another funding interval has to be missing from two answers in a row. Raises BadPayload where many have
    vanished at once, until that is so for MASS_DELISTING_MS: the answer may be a part of the list.
    """
    with services.database.open_transaction() as cursor:
        hours = store.read_funding_hours(cursor, exchange.codes)
    usual = feed.unnamed.funding_hours
    vanished = {each.name for each in unnamed if hours.get(store.get_key(each), usual) != usual}
    key = f"terms:{exchange.name}:{feed.path}:vanished"
    before, since_key = set(json.loads(services.redis.get(key) or "[]")), f"{key}:since"
    if len(vanished) <= instruments.MAX_VANISHED:
        services.redis.delete(since_key)
    else:
        services.redis.set(since_key, now_ms(), nx=True, ex=VANISHED_KEPT_S)
        if now_ms() - int(services.redis.get(since_key) or now_ms()) < instruments.MASS_DELISTING_MS:
            raise BadPayload(f"{len(vanished)} contracts vanished at once: their terms stay")
        before = vanished
    services.redis.set(key, json.dumps(sorted(vanished)), ex=NEXT_KEPT_S)
    return [each for each in unnamed if each.name in before or each.name not in vanished]
