"""Bybit's list of contracts, and its clock."""

from dataclasses import replace
from urllib.parse import unquote

from fademoe.feeds.exchange import ClockFeed, InstrumentsFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.request import Params, Request
from fademoe.feeds.rows import read_kind
from fademoe.feeds.symbols import split_multiplier
from fademoe.feeds.terms import make_terms, read_term, to_hours
from fademoe.feeds.values import get_member, read_rows_of, read_text, to_ms

LIST: Params = {"category": "linear", "limit": 1000}
NEXT_STATUS = {"Trading": "Closed", "Closed": "Delivering", "Delivering": None}  # of the contracts to list
CRYPTO_TYPES = (None, "", "innovation", "adventure")  # the others: stock, forex, commodity, and whatever comes next


def parse_instrument(item: Json) -> Instrument | None:
    """Read a contract of instruments-info: crypto perpetuals settled in USDT, delisted ones with their time.

    {"symbol": "1000BTTUSDT", "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "1000BTT",
     "quoteCoin": "USDT", "settleCoin": "USDT", "launchTime": "1645769298000", "deliveryTime": "0", "symbolType": "",
     "priceFilter": {"tickSize": "0.0000001"}, "fundingInterval": 480,
     "lotSizeFilter": {"qtyStep": "100", "minNotionalValue": "5"}}

    Left out: dated futures, USDC contracts, TradFi (by symbolType, which 2023's rows lack), pre-market contracts.
    """
    contract_type, settle, status = read_kind(item, "contractType", "settleCoin", "status")
    is_followed = (
        contract_type == "LinearPerpetual"
        and settle == "USDT"
        and item.get("symbolType") in CRYPTO_TYPES
        and status in NEXT_STATUS
    )
    if not is_followed:
        return None
    symbol, multiplier = split_multiplier(read_text(get_member(item, "baseCoin")))
    return Instrument(
        exchange="bybit",
        code="byb",
        name=read_text(get_member(item, "symbol")),
        symbol=symbol.upper(),
        multiplier=multiplier,
        listed_ms=_optional_ms(item.get("launchTime")),
        delisted_ms=_optional_ms(item.get("deliveryTime")),
        terms=make_terms(
            multiplier,
            tick=read_term(item, "priceFilter", "tickSize"),
            lot=read_term(item, "lotSizeFilter", "qtyStep"),
            min_notional=read_term(item, "lotSizeFilter", "minNotionalValue"),
            hours=to_hours(item.get("fundingInterval")),
        ),
    )


def get_next_page(answer: Json, request: Request) -> Request | None:
    """Return the request after a page of instruments-info: its cursor, else the next status, None after the last.

    A short page may carry a cursor to nothing, so an empty page ends its status too, and so does one that a cursor
    leads back to. The cursor comes percent-encoded, and is encoded again when sent.
    """
    result = get_member(answer, "result")
    contracts, sent = read_rows_of(result, "list"), result.get("nextPageCursor")
    cursor = unquote(read_text(sent)) if sent else ""
    status = str(request.params["status"])
    if contracts and cursor and cursor != request.params.get("cursor"):
        return replace(request, params={**LIST, "status": status, "cursor": cursor})
    next_status = NEXT_STATUS[status]
    return replace(request, params={**LIST, "status": next_status}) if next_status else None


def _optional_ms(value: Json) -> int | None:
    return None if value in (None, "", "0") else to_ms(value)


INSTRUMENTS = InstrumentsFeed(
    path="/v5/market/instruments-info",
    budget="ip",
    params={**LIST, "status": "Trading"},
    items=lambda answer: read_rows_of(get_member(answer, "result"), "list"),
    parse=parse_instrument,
    has_ended=lambda item: item.get("status") in ("Closed", "Delivering"),
    next_page=get_next_page,
    source="bybit-exchange.github.io/docs/v5, read 2026-07-24: Get Instruments Info",
)
CLOCK = ClockFeed(  # {"retCode": 0, "retMsg": "OK", "result": {...}, "time": 1688639403423}
    path="/v5/market/time",
    budget="ip",
    parse=lambda answer: to_ms(get_member(answer, "time")),
)
