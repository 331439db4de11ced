"""Keeps the stored lives of contracts in step with the exchanges' own lists, and finds the contract of a symbol."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import chain, count

from psycopg2.extensions import cursor as Cursor

from fademoe.client import lives
from fademoe.client.rest import RestClient
from fademoe.clock import DAY_MS, LATEST_MS, MINUTE_MS
from fademoe.errors import BadPayload
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.instrument import NO_TERMS, Instrument, Json
from fademoe.feeds.reading import Unreadable, read_elements
from fademoe.feeds.request import Request
from fademoe.feeds.symbols import find_power_of_ten, split_multiplier
from fademoe.feeds.terms import rescale_terms
from fademoe.feeds.values import read_amount, read_text
from fademoe.metrics import name_perpspec
from fademoe.settings import ALL_SYMBOLS
from fademoe.store import coverage, status
from fademoe.store import instruments as store
from fademoe.store.connection import Database
from fademoe.store.coverage import Series
from fademoe.store.instruments import Key, get_key

log = logging.getLogger(__name__)

MAX_PAGES = 500
MAX_WAIT_S = 20.0  # for the budget
MAX_VANISHED = 3  # contracts, or MAX_VANISHED_SHARE of those that trade: more at once are half a list
MAX_VANISHED_SHARE = 0.02
MASS_DELISTING_MS = DAY_MS  # after so long, what vanished at once counts as delisted
NEW_MS = DAY_MS  # a contract that was listed since is wanted from its listing on
LISTING_NEAR_MS = 30 * MINUTE_MS


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """What a refresh did: contracts on the list, those that are delisted now, those missing, and remarks for people.

    `trading`: how many traded by what was stored before. `changed`: those that stay although the list has them as
    another kind. `doubled`: those that it has twice, and not alike. `announced_ms`: when those will be listed that have
    no details yet. `is_partial`: so many are missing at once that the list is not accepted.
    """

    listed: int
    delisted: Sequence[str] = ()
    missing: Sequence[str] = ()
    trading: int = 0
    remarks: Sequence[str] = ()
    changed: Sequence[str] = ()
    doubled: Sequence[str] = ()
    announced_ms: Sequence[int] = ()
    is_partial: bool = False

    @property
    def message(self) -> str:
        """Say it in one line."""
        missing = [f"not on the list: {', '.join(self.missing[:5])}"] if self.missing else []
        return "; ".join([f"{self.listed} contracts", *missing, *self.remarks])


@dataclass(frozen=True, kw_only=True)
class _List:
    """An exchange's list of contracts as it was at `now_ms`.

    `read`: those that it has once, or alike. `doubled`: the keys of those that it has twice, and not alike.
    `unreadable`: the elements that could not be read. `items`: all elements as they were sent.
    """

    read: Sequence[Instrument]
    doubled: Collection[Key]
    unreadable: Sequence[Unreadable]
    items: Sequence[Json]
    now_ms: int


def refresh(exchange: Exchange, rest: RestClient, database: Database) -> Refreshed:
    """Fetch the exchange's list of contracts and store it.

    A contract that is listed again after its end begins another life: under its symbol where it is the same coin, under
    another one where it is not (see `lives`). A contract that two lists in a row lack, or show as ended without saying
    when, is delisted from the first of them on. When many vanish at once, the list is taken for a part of itself:
    nothing is delisted before a day of such lists, and an error is recorded. Nor is it while an element is unreadable
    that names no stored contract, for it may be one of those that are missing. One that trades and is on the list as a
    kind that is not followed stays as it is, and an error is recorded; so does one that the list has twice with other
    values, and a new one is left out then. Absences that only the list was the reason for are invalidated where it
    shows a longer life now. Raises RetryLater when the exchange cannot be reached, BadPayload when the list is not one.
    """
    answer = _fetch_list(exchange, rest)
    relisted = lives.judge_relisted(exchange, rest, database, answer.read, answer.now_ms)
    refreshed = database.run(partial(_store_list, exchange, answer, relisted))
    _record(exchange, database, refreshed, answer.unreadable)
    return refreshed


def _store_list(exchange: Exchange, answer: _List, relisted: Mapping[Key, bool], cursor: Cursor) -> Refreshed:
    """Store a list of contracts; `relisted` tells of those that begin another life whether they are the same coin."""
    now_ms = answer.now_ms
    stored_lives = store.read_lives(cursor, exchange.codes)
    stored = {get_key(instrument): instrument for instrument in stored_lives}
    trading = [key for key, instrument in stored.items() if _end_ms(instrument) > now_ms]
    named = [_named_in(element, stored) for element in answer.unreadable]
    by_key = _combine(exchange, answer, stored, chain.from_iterable(named))
    changed = _find_changed_kinds(exchange, answer.items, [key for key in trading if key not in by_key])
    by_key |= {key: stored[key] for key in changed}
    by_key = lives.count_lives(by_key, stored, relisted, now_ms)
    listed = disambiguate_symbols(by_key.values(), stored_lives)
    store.save(cursor, listed)
    store.save_terms(cursor, [each for each in listed if each.terms != NO_TERMS], now_ms)
    missing = [key for key in trading if key not in by_key]
    is_partial = _is_partial(by_key, missing, trading)
    is_suspect = is_partial or not all(named)
    delisted = store.retire_missing(cursor, missing, now_ms, now_ms - MASS_DELISTING_MS if is_suspect else now_ms)
    if stored:
        revived = [each for each in listed if _lives_longer(each, stored.get(get_key(each)), now_ms)]
        coverage.invalidate_listing_absences(cursor, _list_series(exchange, revived))
    return Refreshed(
        listed=len(listed),
        delisted=delisted,
        missing=sorted({name for _, name in missing} - set(delisted)),
        trading=len(trading),
        remarks=_describe_symbols(listed, by_key, stored),
        is_partial=is_partial,
        changed=sorted({name for _, name in changed}),
        doubled=sorted({name for _, name in answer.doubled}),
        announced_ms=sorted({ms for item in answer.items if (ms := exchange.instruments.read_announced(item))}),
    )


def _combine(
    exchange: Exchange, answer: _List, stored: Mapping[Key, Instrument], unreadable: Iterable[Key]
) -> dict[Key, Instrument]:
    """Return the contracts of a list by their keys; those that it has twice or `unreadable` are as they are stored."""
    by_key = {key: stored[key] for key in unreadable}
    by_key |= {get_key(instrument): instrument for instrument in answer.read}
    by_key |= {key: stored[key] for key in answer.doubled if key in stored}
    return _end_untold(exchange, answer.items, by_key, stored, answer.now_ms)


def _list_series(exchange: Exchange, contracts: Iterable[Instrument]) -> list[Series]:
    """Return the series of all metrics of contracts."""
    metrics = exchange.list_metrics()
    return [Series(name_perpspec(each.code, metric), each.symbol) for each in contracts for metric in metrics]


def _is_partial(listed: Collection[Key], missing: Sequence[Key], trading: Sequence[Key]) -> bool:
    """Return whether a list is taken for a part of itself: it lacks many that trade, or all of a code."""
    codes = {code for code, _ in listed}
    most = max(MAX_VANISHED, MAX_VANISHED_SHARE * len(trading))
    return len(missing) > most or any(code not in codes for code, _ in missing)


def _fetch_list(exchange: Exchange, rest: RestClient) -> _List:
    """Fetch all pages of the list."""
    feed = exchange.instruments
    instruments: list[Instrument] = []
    unreadable: list[Unreadable] = []
    every: list[Json] = []
    request: Request | None = feed.request
    requested: list[Request] = []
    while request is not None:
        requested.append(request)
        body = rest.send(exchange, request, budget=feed.budget, cost=feed.cost, live=True, max_wait_s=MAX_WAIT_S)
        try:
            items = feed.items(body)
            elements = read_elements(items, partial(_read_contract, exchange))
            every += items
            instruments += elements.readable
            unreadable += elements.unreadable
            next_request = feed.next_page(body, request)
            if not instruments and next_request is None:
                raise BadPayload("a list without any contract")
            if next_request in requested or len(requested) >= MAX_PAGES:
                raise BadPayload(f"a list without an end: it goes on after {len(requested)} pages")
        except BadPayload as error:
            error.locate(exchange.name, str(request), body)
            raise
        request = next_request
    read, doubled = _split_doubled(instruments)
    now_ms = rest.read_server_now_ms(exchange)
    return _List(read=read, doubled=doubled, unreadable=unreadable, items=every, now_ms=now_ms)


def _read_contract(exchange: Exchange, item: Json) -> Instrument | None:
    """Return a contract of the list; raise BadPayload where nothing of it could be stored: it costs no other one."""
    try:
        contract = exchange.instruments.parse(item)
        if contract is None:
            return None
        find_power_of_ten(contract.multiplier)
    except ValueError as error:
        raise BadPayload(str(error)) from error
    read_amount(contract.contract_value)
    read_text(contract.symbol)
    if contract.exchange != exchange.name or contract.code not in exchange.codes:
        raise BadPayload(f"{contract.name} is of {contract.exchange} and {contract.code}, not of {exchange.name}")
    return contract


def _split_doubled(read: Sequence[Instrument]) -> tuple[list[Instrument], set[Key]]:
    """Return the contracts that are on a list once, or alike, and the keys of those that are on it twice and differ."""
    last = {get_key(each): each for each in read}
    doubled = {get_key(each) for each in read if last[get_key(each)] != each}
    return [each for key, each in last.items() if key not in doubled], doubled


def _find_changed_kinds(exchange: Exchange, items: Sequence[Json], absent: Collection[Key]) -> list[Key]:
    """Return those of the contracts `absent` from what was read that are on the list all the same and have not ended.

    The exchange has changed their kind, or how it names kinds: that is no delisting.
    """
    feed, names = exchange.instruments, {name for _, name in absent}
    listed = [item for item in items if isinstance(item, dict) and str(item.get(feed.name_member)) in names]
    lives_on = {item[feed.name_member] for item in listed if not feed.has_ended(item)}
    return [(code, name) for code, name in absent if name in lives_on]


def _end_untold(
    exchange: Exchange,
    items: Sequence[Json],
    by_key: Mapping[Key, Instrument],
    stored: Mapping[Key, Instrument],
    now_ms: int,
) -> dict[Key, Instrument]:
    """Return the contracts without those that the list shows as ended and does not say when: they are as if missing.

    One of them that is stored as ended stays as it is, and one that is not stored has ended by now.
    """
    feed = exchange.instruments
    ended = {str(item.get(feed.name_member)) for item in items if isinstance(item, dict) and feed.has_ended(item)}
    found = dict(by_key)
    for key in [key for key, each in by_key.items() if each.delisted_ms is None and each.name in ended]:
        before = stored.get(key, replace(by_key[key], delisted_ms=now_ms))
        if _end_ms(before) > now_ms:
            del found[key]
        else:
            found[key] = before
    return found


def _record(exchange: Exchange, database: Database, refreshed: Refreshed, unreadable: Sequence[Unreadable]) -> None:
    """Log what a refresh did; store as errors what needs an operator."""
    log.info("%s lists %d contracts", exchange.name, refreshed.listed)
    for remark in refreshed.remarks:
        log.warning("%s: %s", exchange.name, remark)
    if refreshed.delisted:
        log.warning("%s does not list %s any more", exchange.name, ", ".join(refreshed.delisted))
    path = exchange.instruments.path
    errors = [element.make_error(exchange.name, path) for element in unreadable]
    if refreshed.is_partial:
        names = ", ".join(refreshed.missing)
        error = BadPayload(
            f"{len(refreshed.missing)} of {refreshed.trading} contracts vanished at once: the old list stays"
        )
        error.locate(exchange.name, path, names)
        errors.append(error)
    for name in refreshed.changed:
        error = BadPayload(f"{name} is listed as a kind of contract that is not followed: it stays as it was")
        error.locate(exchange.name, path, name)
        errors.append(error)
    for name in refreshed.doubled:
        error = BadPayload(f"{name} is on the list twice, and not alike: it stays as it was")
        error.locate(exchange.name, path, name)
        errors.append(error)
    for error in errors:
        log.warning("%s: list of contracts: %s", exchange.name, error)
        status.record_error(database, f"instruments {exchange.name}", error)


def _named_in(unreadable: Unreadable, stored: Mapping[Key, Instrument]) -> list[Key]:
    """Return the keys of the stored contracts that an unreadable element names: they stay as they are."""
    members = unreadable.element.values() if isinstance(unreadable.element, dict) else ()
    names = {value for value in members if isinstance(value, str)}
    return [(code, name) for code, name in stored if name in names]


def disambiguate_symbols(listed: Iterable[Instrument], stored: Collection[Instrument]) -> list[Instrument]:
    """Return the listed contracts with symbols that no two contracts have at the same time.

    A stored contract keeps its symbol and multiplier, so that a series never changes its meaning. A new one whose
    symbol belongs to another contract while both live gets another symbol: its multiplier in front of the coin
    (1000CAT beside CAT), else a number behind it (CAT_2 beside 1000CATUSDT, which is stored as CAT). Of new contracts
    on one coin the one with the smallest multiplier comes first. A contract that is known to be of another coin
    (`is_other_coin`) never gets a symbol that another one has or had.
    """
    kept = {get_key(instrument): instrument for instrument in sorted(stored, key=lambda each: each.life)}
    owners: dict[tuple[str, str], list[Instrument]] = {}
    for instrument in sorted(stored, key=_rank_owner):
        rivals = owners.setdefault((instrument.code, instrument.symbol), [])
        if any(_overlap(instrument, rival) for rival in rivals):
            if kept.get(get_key(instrument)) is instrument:
                del kept[get_key(instrument)]  # two were stored under one symbol: the other one keeps it
        else:
            rivals.append(instrument)
    named = []
    for instrument in sorted(listed, key=lambda each: (each.multiplier, each.listed_ms or 0, each.name)):
        before = kept.get(get_key(instrument))
        if before is not None and not instrument.is_other_coin:
            named.append(_with_meaning_of(instrument, before))
            continue
        for symbol in _candidates(instrument):
            rivals = owners.setdefault((instrument.code, symbol), [])
            if not any(instrument.is_other_coin or _overlap(instrument, rival) for rival in rivals):
                break
        named.append(replace(instrument, symbol=symbol, is_other_coin=False))
        rivals.append(named[-1])
    return named


def _candidates(instrument: Instrument) -> Iterable[str]:
    """Return symbols for a contract, the best one first."""
    multiplied = [f"{instrument.multiplier}{instrument.symbol}"] if instrument.multiplier > 1 else []
    return chain([instrument.symbol], multiplied, (f"{instrument.symbol}_{number}" for number in count(2)))


def _rank_owner(instrument: Instrument) -> tuple[int, int, str]:
    """Sort stored contracts of one symbol: the one that trades, or was listed last, owns it (see store.by_symbol)."""
    return -_end_ms(instrument), -(instrument.listed_ms or 0), instrument.name


def _with_meaning_of(instrument: Instrument, stored: Instrument) -> Instrument:
    """Return a contract with the symbol and the unit under which it is stored."""
    if instrument.multiplier != stored.multiplier:
        coins = Decimal(instrument.contract_value) * stored.multiplier / instrument.multiplier
        power = find_power_of_ten(instrument.multiplier) - find_power_of_ten(stored.multiplier)
        terms = rescale_terms(instrument.terms, power)
        instrument = replace(instrument, multiplier=stored.multiplier, contract_value=f"{coins:f}", terms=terms)
    return replace(instrument, symbol=stored.symbol)


def _describe_symbols(
    listed: Sequence[Instrument], by_key: Mapping[Key, Instrument], stored: Mapping[Key, Instrument]
) -> list[str]:
    """Say which contracts are stored under another symbol than their coin's, once, when that is decided."""
    remarks = []
    for instrument in listed:
        key, coin = get_key(instrument), by_key[get_key(instrument)].symbol
        is_new = key not in stored or stored[key].life < instrument.life
        if instrument.symbol not in (coin, coin if is_new else stored[key].symbol):
            remarks.append(f"{instrument.name} is stored as {instrument.symbol}: {coin} is another contract")
    return remarks


def _overlap(one: Instrument, other: Instrument) -> bool:
    """Return whether two contracts live at the same time."""
    return max(one.listed_ms or 0, other.listed_ms or 0) < min(_end_ms(one), _end_ms(other))


def _end_ms(instrument: Instrument) -> int:
    return instrument.delisted_ms or LATEST_MS


def _lives_longer(instrument: Instrument, stored: Instrument | None, now_ms: int) -> bool:
    """Return whether a contract is new, was listed earlier than was known, or lives on."""
    if stored is None:
        return True
    is_older = (instrument.listed_ms or 0) < (stored.listed_ms or 0)
    return is_older or _end_ms(instrument) > max(_end_ms(stored), now_ms)


def is_changing(exchange: Exchange, database: Database, time_ms: int, announced_ms: Iterable[int] = ()) -> bool:
    """Return whether the list should be fetched more often: near a listing, and while a contract is missing.

    `announced_ms`: when contracts will be listed that are not stored, as their details are not known yet.
    """
    with database.open_transaction() as cursor:
        stored, missing = store.read_by_key(cursor, exchange.codes), store.count_missing(cursor, exchange.codes)
    listings = chain((each.listed_ms or 0 for each in stored.values()), announced_ms)
    return missing > 0 or any(abs(listed_ms - time_ms) < LISTING_NEAR_MS for listed_ms in listings)


def find_wanted_from_ms(instrument: Instrument, time_ms: int) -> int:
    """Return from when on a followed contract is wanted: from its listing where it is new, otherwise from `time_ms`."""
    listed_ms = instrument.listed_ms
    return listed_ms if listed_ms is not None and 0 <= time_ms - listed_ms < NEW_MS else time_ms


def group_by_start(instruments: Iterable[Instrument], time_ms: int) -> dict[int, list[Instrument]]:
    """Sort contracts by the time from which on they are wanted (see `find_wanted_from_ms`)."""
    groups: dict[int, list[Instrument]] = {}
    for instrument in instruments:
        groups.setdefault(find_wanted_from_ms(instrument, time_ms), []).append(instrument)
    return groups


def load_contracts(exchange: Exchange, database: Database) -> dict[str, dict[str, Instrument]]:
    """Return the stored contracts: exchange code -> symbol -> instrument; empty before the first refresh."""
    with database.open_transaction() as cursor:
        return {code: store.read_by_symbol(cursor, code) for code in exchange.codes}


def find(database: Database, code: str, symbol: str) -> Instrument | None:
    """Return the stored contract of one symbol, None where none is known."""
    with database.open_transaction() as cursor:
        return store.read_by_symbol(cursor, code, symbol).get(symbol)


def ensure(exchange: Exchange, rest: RestClient, database: Database) -> dict[str, dict[str, Instrument]]:
    """Return the stored contracts, fetched now if there are none; raise RetryLater when they cannot be fetched."""
    contracts = load_contracts(exchange, database)
    if not any(contracts.values()):
        refresh(exchange, rest, database)
        contracts = load_contracts(exchange, database)
    return contracts


def describe_unlisted(contracts: Mapping[str, Mapping[str, Instrument]], symbols: Sequence[str]) -> str:
    """Return the chosen symbols that no contract (see `load_contracts`) has, for people; "" when there is none.

    A contract's base, such as 1000PEPE, is named with the coin under which it is stored.
    """
    known = {symbol for by_symbol in contracts.values() for symbol in by_symbol}
    unlisted = [] if symbols == ALL_SYMBOLS else [symbol for symbol in symbols if symbol not in known]
    coins = [split_multiplier(symbol)[0] for symbol in unlisted]
    return ", ".join(
        f"{symbol} ({coin} is meant)" if coin in known else symbol for symbol, coin in zip(unlisted, coins, strict=True)
    )


def select_followed(
    contracts: Mapping[str, Mapping[str, Instrument]], symbols: Sequence[str], time_ms: int
) -> list[Instrument]:
    """Return the contracts (see `load_contracts`) of the chosen symbols that trade at `time_ms`.

    Those that do not trade yet are left out: an exchange refuses their topics.
    """
    return [
        instrument
        for by_symbol in contracts.values()
        for symbol, instrument in by_symbol.items()
        if symbols == ALL_SYMBOLS or symbol in symbols
        if (instrument.listed_ms or time_ms) <= time_ms < (instrument.delisted_ms or time_ms + 1)
    ]
