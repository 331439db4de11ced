"""Bybit's list of contracts (instruments-info): one status at a time, sorted by name, in pages with a cursor."""

import re
from urllib.parse import quote

import orjson

from fademoe.simulator.clock import HOUR_MS
from fademoe.simulator.decimals import to_fixed
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.market import Market
from fademoe.simulator.market.noise import draw_number

DELIVERING_MS = HOUR_MS // 2  # an ended contract is Delivering for this time, then Closed
STATUSES = ("PreLaunch", "Trading", "Delivering", "Closed")
_CURSOR = re.compile(r"first=[^&]+&last=([^&]+)")


def find_status(instrument: Instrument, now_ms: int) -> str:
    """Return the status in the list."""
    if now_ms < instrument.listed_ms:
        return "PreLaunch"
    if instrument.is_trading(now_ms):
        return "Trading"
    return "Delivering" if now_ms < (instrument.delisted_ms or 0) + DELIVERING_MS else "Closed"


def cut_list(rows: list[tuple[str, bytes]], limit: int, cursor: str, *, is_trading: bool) -> tuple[list[bytes], str]:
    """Return a page of (name, row) pairs and the percent-encoded cursor of the next one, "" after the last page.

    Lists of other statuses than Trading have a cursor on their last page too; it leads to an empty page, as in the
    example of the documentation. Raises ValueError for an invalid cursor.
    """
    start = 0
    if cursor:
        match = _CURSOR.fullmatch(cursor)
        if not match:
            raise ValueError(cursor)
        start = sum(name <= match[1] for name, _ in rows)
    page_rows = rows[start : start + limit]
    is_last = start + limit >= len(rows)
    if not page_rows or (is_last and is_trading):
        return [row for _, row in page_rows], ""
    return [row for _, row in page_rows], quote(f"first={page_rows[0][0]}&last={page_rows[-1][0]}", safe="")


def find_base_coin(instrument: Instrument) -> str:
    """Return the base coin with its multiplier: 1000PEPE, SHIB1000."""
    return instrument.name.split("-")[0].removesuffix("PERP").removesuffix(instrument.quote)


def encode_contract(market: Market, instrument: Instrument, now_ms: int) -> bytes:
    """Encode one contract with the fields of 2026; symbolType marks commodities and stocks."""
    is_perpetual = instrument.kind != "dated"
    step = to_fixed(1, instrument.lot_decimals)
    tick = to_fixed(instrument.tick, instrument.price_decimals)
    hours = market.funding.find_hours(instrument, now_ms) if is_perpetual else 0
    is_new = now_ms < instrument.listed_ms
    return orjson.dumps(
        {
            "symbol": instrument.name,
            "symbolId": draw_number(market.seed, "symbol id", instrument.key) % 5_000,
            "contractType": "LinearPerpetual" if is_perpetual else "LinearFutures",
            "status": find_status(instrument, now_ms),
            "baseCoin": find_base_coin(instrument),
            "quoteCoin": instrument.quote,
            "launchTime": str(instrument.list_time_ms),
            "deliveryTime": str(instrument.delisted_ms or 0),
            "deliveryFeeRate": "" if is_perpetual else "0",
            "priceScale": str(instrument.price_decimals),
            "leverageFilter": {"minLeverage": "1", "maxLeverage": "25.00", "leverageStep": "0.01"},
            "priceFilter": {"minPrice": tick, "maxPrice": "1999999.80", "tickSize": tick},
            "lotSizeFilter": {
                "maxOrderQty": "100000",
                "minOrderQty": step,
                "qtyStep": step,
                "postOnlyMaxOrderQty": "100000",
                "maxMktOrderQty": "50000",
                "minNotionalValue": "5",
            },
            "unifiedMarginTrade": True,
            "fundingInterval": hours * 60,
            "settleCoin": instrument.quote,
            "copyTrading": "both",
            "upperFundingRate": "0.00375",
            "lowerFundingRate": "-0.00375",
            "isPreListing": is_new,
            "preListingInfo": {"curAuctionPhase": "NotStarted", "phases": []} if is_new else None,
            "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
            "symbolType": "commodity" if instrument.kind == "tradfi" else "",
        }
    )
