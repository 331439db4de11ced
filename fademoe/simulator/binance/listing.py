"""Binance's list of contracts (exchangeInfo), its funding parameters, and the COIN-M rows among them."""

import orjson

from fademoe.simulator.decimals import to_fixed
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.market import Market
from fademoe.simulator.market.noise import draw_number

NEVER_MS = 4_133_404_800_000
COIN_MARGINED = ("BTCUSD_PERP", "ETHUSD_PERP", "BTCUSD_261225")
ORDER_TYPES = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"]
ORDER_LIMITS = [
    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
]
ASSETS = [
    {"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"},
    {"asset": "BTC", "marginAvailable": True, "autoAssetExchange": "-0.10000000"},
]


def find_status(instrument: Instrument, now_ms: int) -> str:
    """Return the status in exchangeInfo."""
    if now_ms < instrument.listed_ms:
        return "PENDING_TRADING"
    return "TRADING" if instrument.is_trading(now_ms) else "SETTLING"


def find_contract_type(instrument: Instrument, now_ms: int) -> str:
    """Return the contract type; a dated contract that ends within 95 days is the current quarter's."""
    if instrument.kind == "tradfi":
        return "TRADIFI_PERPETUAL"
    if instrument.kind == "dated":
        end_ms = instrument.delisted_ms or now_ms
        return "CURRENT_QUARTER" if end_ms - now_ms < 95 * 86_400_000 else "NEXT_QUARTER"
    return "PERPETUAL"


def encode_exchange_info(instruments: list[Instrument], now_ms: int, weight_limit: int) -> bytes:
    """Encode the body of exchangeInfo, with the request weight allowed per minute."""
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_limit}
    return orjson.dumps(
        {
            "timezone": "UTC",
            "serverTime": now_ms,
            "futuresType": "U_MARGINED",
            "rateLimits": [weight, *ORDER_LIMITS],
            "exchangeFilters": [],
            "assets": ASSETS,
            "symbols": [describe_symbol(instrument, now_ms) for instrument in instruments],
        }
    )


def describe_symbol(instrument: Instrument, now_ms: int) -> dict[str, object]:
    """Return one contract with all keys of the recording of 2026-10-07."""
    is_coin = instrument.coin.kind != "tradfi"
    base = find_base_asset(instrument)
    return {
        "symbol": instrument.name,
        "pair": base + instrument.quote,
        "contractType": find_contract_type(instrument, now_ms),
        "deliveryDate": instrument.delisted_ms or NEVER_MS,
        "onboardDate": instrument.list_time_ms,
        "status": find_status(instrument, now_ms),
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": base,
        "quoteAsset": instrument.quote,
        "marginAsset": instrument.quote,
        "pricePrecision": instrument.price_decimals,
        "quantityPrecision": instrument.lot_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN" if is_coin else "COMMODITY",
        "underlyingSubType": ["Crypto"] if is_coin else ["TradFi"],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": _filters(instrument),
        "orderTypes": ORDER_TYPES,
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "permissionSets": ["GRID", "COPY", "DCA", "PSB"],
    }


def find_base_asset(instrument: Instrument) -> str:
    """Return the base asset with its multiplier: 1000PEPE."""
    return instrument.name.split("_")[0].removesuffix(instrument.quote)


def encode_funding_info(market: Market, now_ms: int) -> bytes:
    """Encode the body of fundingInfo: contracts with interval or caps other than the default, some of COIN-M too.

    `updateTime` is null for about one row in fifteen.
    """
    rows = []
    for instrument in market.world.list_instruments("binance"):
        hours = market.funding.find_hours(instrument, now_ms)
        dice = draw_number(market.seed, "funding info", instrument.key)
        if instrument.kind == "dated" or (hours == 8 and dice % 2 and instrument.coin.name != "BTC"):
            continue
        cap = "0.00300" if instrument.coin.name == "BTC" else "0.02000000"
        changed_ms = None if instrument.coin.name == "BTC" or dice % 15 == 0 else instrument.listed_ms + dice % 10**9
        rows.append(_funding_row(instrument.name, cap, hours, changed_ms))
    rows += [_funding_row(name, "0.00300", 8, None) for name in COIN_MARGINED[:2]]
    return orjson.dumps(rows)


def _funding_row(symbol: str, cap: str, hours: int, changed_ms: int | None) -> dict[str, object]:
    """Build a row of fundingInfo."""
    return {
        "symbol": symbol,
        "adjustedFundingRateCap": cap,
        "adjustedFundingRateFloor": f"-{cap}",
        "fundingIntervalHours": hours,
        "disclaimer": changed_ms is None,
        "updateTime": changed_ms,
    }


def _filters(instrument: Instrument) -> list[dict[str, object]]:
    """Build the order filters; collectors read tick and step from them."""
    step = to_fixed(1, instrument.lot_decimals)
    tick = to_fixed(instrument.tick, instrument.price_decimals)
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "4529764", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000000", "stepSize": step},
        {"filterType": "MARKET_LOT_SIZE", "minQty": step, "maxQty": "100000", "stepSize": step},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
        {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]
