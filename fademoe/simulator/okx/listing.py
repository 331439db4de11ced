"""OKX's list of contracts: announced ones without details, suspended and expiring ones, and other kinds of swaps."""

import orjson

from fademoe.simulator.clock import DAY_MINUTES, MINUTE_MS
from fademoe.simulator.decimals import to_fixed
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.market import Market
from fademoe.simulator.market.noise import draw_number

DETAILED_MS = 5 * MINUTE_MS  # time before its listing at which an announced contract gets its details
CRYPTO, STOCK, COMMODITY = "1", "3", "4"
BLANKS = (
    *("alias", "auctionEndTime", "baseCcy", "contTdSwTime", "ctMult", "ctType", "ctVal", "ctValCcy", "expTime"),
    *("instCategory", "instFamily", "lever", "lotSz", "maxLmtSz", "maxMktSz", "minSz", "openType", "optType"),
    *("preMktSwTime", "quoteCcy", "ruleType", "settleCcy", "stk", "tickSz", "uly"),
)


def encode_instruments(market: Market, kind: str, now_ms: int) -> bytes:
    """Encode the contracts of one instType, SWAP or FUTURES; delisted ones are left out."""
    rows = []
    for instrument in market.world.list_instruments("okx"):
        is_gone = instrument.delisted_ms is not None and now_ms >= instrument.delisted_ms
        if not is_gone and (instrument.kind == "dated") == (kind == "FUTURES"):
            rows.append(_row(market, instrument, kind, now_ms))
    if kind == "SWAP":
        rows += _others(rows[0])
    return orjson.dumps(rows)


def encode_announcement(market: Market, instruments: list[Instrument], now_ms: int) -> bytes:
    """Return the message of the channel of instruments about some swaps."""
    rows = [_row(market, instrument, "SWAP", now_ms) for instrument in instruments]
    return orjson.dumps({"arg": {"channel": "instruments", "instType": "SWAP"}, "data": rows})


def is_known(instrument: Instrument, now_ms: int) -> bool:
    """Tell whether a contract has its details, so that it can be subscribed to."""
    return now_ms >= instrument.listed_ms - DETAILED_MS


def _row(market: Market, instrument: Instrument, kind: str, now_ms: int) -> dict[str, object]:
    """Build the entry of one contract."""
    row: dict[str, object] = dict.fromkeys(BLANKS, "")
    row |= {"instId": instrument.name, "instType": kind, "listTime": str(instrument.list_time_ms)}
    row |= {"futureSettlement": False, "instIdCode": None, "state": _state(market, instrument, now_ms), "upcChg": []}
    if not is_known(instrument, now_ms):
        return row
    family = f"{instrument.coin.name}-{instrument.quote}"
    step = to_fixed(1, instrument.lot_decimals)
    unit_shift = instrument.unit_shift + instrument.value_shift
    return row | {
        "ctMult": "1",
        "ctType": "linear",
        "ctVal": to_fixed(10 ** max(0, unit_shift), 0) if unit_shift >= 0 else to_fixed(1, -unit_shift),
        "ctValCcy": instrument.coin.name,
        "expTime": str(instrument.delisted_ms) if instrument.delisted_ms else "",
        "groupId": "1",  # a member that no client knows
        "instCategory": COMMODITY if instrument.kind == "tradfi" else CRYPTO,
        "instFamily": family,
        "instIdCode": draw_number(market.seed, "code", instrument.key) % 1_000_000,
        "lever": "100",
        "lotSz": step,
        "minSz": step,
        "openType": "call_auction",
        "ruleType": "normal",
        "settleCcy": instrument.quote,
        "tickSz": to_fixed(instrument.tick, instrument.price_decimals),
        "uly": family,
    }


def _state(market: Market, instrument: Instrument, now_ms: int) -> str:
    """Return the state: all contracts are suspended during maintenance."""
    if now_ms < instrument.listed_ms:
        return "preopen"
    day, minute = divmod(now_ms // MINUTE_MS, DAY_MINUTES)
    return "suspend" if minute in market.holes.maintenance("okx", day) else "live"


def _others(like: dict[str, object]) -> list[dict[str, object]]:
    """Build swaps that are no linear USDT contracts on crypto; no endpoint serves them here."""
    inverse = {"ctType": "inverse", "ctVal": "100", "ctValCcy": "USD", "settleCcy": "BTC"}
    return [
        like | {"instId": "BTC-USD-SWAP", "instFamily": "BTC-USD", "uly": "BTC-USD"} | inverse,
        like | {"instId": "BTC-USD_UM-SWAP", "instFamily": "BTC-USD_UM", "uly": "BTC-USD", "settleCcy": "USD"},
        like | {"instId": "TSLA-USDT-SWAP", "instFamily": "TSLA-USDT", "uly": "TSLA-USDT", "instCategory": STOCK},
        like | {"instId": "FAKE-USDT-SWAP", "instFamily": "FAKE-USDT", "uly": "FAKE-USDT", "state": "test"},
    ]
