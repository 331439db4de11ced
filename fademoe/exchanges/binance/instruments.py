"""Binance's list of contracts, and its clock."""

from fademoe.clock import LATEST_MS
from fademoe.feeds.exchange import ClockFeed, InstrumentsFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.rows import read_kind, read_optional_kind
from fademoe.feeds.symbols import split_multiplier
from fademoe.feeds.terms import find_filter, make_terms, read_term
from fademoe.feeds.values import get_member, read_rows_of, read_text, to_ms


def parse_instrument(item: Json) -> Instrument | None:
    """Read a contract of exchangeInfo: crypto perpetuals quoted in USDT, delisted ones with their time.

    {"symbol": "1000PEPEUSDT", "contractType": "PERPETUAL", "status": "TRADING", "baseAsset": "1000PEPE",
     "quoteAsset": "USDT", "underlyingType": "COIN", "onboardDate": 1683270000000, "deliveryDate": 4133404800000,
     "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.0000001"}, {"filterType": "LOT_SIZE", "stepSize": "1"},
                 {"filterType": "MIN_NOTIONAL", "notional": "5"}]}

    Left out: TRADIFI_PERPETUAL and other underlyings than COIN, dated futures, USDC quotes.
    A contract that is announced (PENDING_TRADING) has its onboardDate in the future.
    deliveryDate says when a contract is or was delisted, whatever its status; times after 2100 are for "never".
    """
    contract_type, quote = read_kind(item, "contractType", "quoteAsset")
    is_followed = (
        contract_type in ("PERPETUAL", "PERPETUAL_DELIVERING")
        and quote == "USDT"
        and read_optional_kind(item, "underlyingType", "COIN") == "COIN"
    )
    if not is_followed:
        return None
    symbol, multiplier = split_multiplier(read_text(get_member(item, "baseAsset")))
    delivery = get_member(item, "deliveryDate")
    return Instrument(
        exchange="binance",
        code="bin",
        name=read_text(get_member(item, "symbol")),
        symbol=symbol.upper(),
        multiplier=multiplier,
        listed_ms=to_ms(get_member(item, "onboardDate")),
        delisted_ms=None if type(delivery) is int and delivery >= LATEST_MS else to_ms(delivery),
        terms=make_terms(
            multiplier,
            tick=read_term(find_filter(item, "PRICE_FILTER"), "tickSize"),
            lot=read_term(find_filter(item, "LOT_SIZE"), "stepSize"),
            min_notional=read_term(find_filter(item, "MIN_NOTIONAL"), "notional"),
        ),
    )


INSTRUMENTS = InstrumentsFeed(
    path="/fapi/v1/exchangeInfo",
    budget="weight",
    items=lambda answer: read_rows_of(answer, "symbols"),
    parse=parse_instrument,
    has_ended=lambda item: item.get("status") in ("SETTLING", "CLOSE"),
    source="developers.binance.com, read 2026-05-28: Exchange Information",
)
CLOCK = ClockFeed(  # {"serverTime": 1499827319559}
    path="/fapi/v1/time",
    budget="weight",
    parse=lambda answer: to_ms(get_member(answer, "serverTime")),
)
