"""OKX's list of swaps, and its clock."""

from dataclasses import replace

from fademoe.feeds.exchange import ClockFeed, InstrumentsFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.rows import read_kind, read_optional_kind, read_time
from fademoe.feeds.symbols import split_multiplier
from fademoe.feeds.terms import make_terms, read_term
from fademoe.feeds.values import get_element, get_member, multiply, read_price, read_rows_of, read_text, to_ms


def parse_instrument(item: Json) -> Instrument | None:
    """Read a contract of the list of swaps: linear ones in USDT on crypto.

    {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "uly": "BTC-USDT", "ctType": "linear",
     "ctVal": "0.01", "ctMult": "1", "ctValCcy": "BTC", "settleCcy": "USDT", "baseCcy": "", "instCategory": "1",
     "state": "live", "listTime": "1573557408000", "expTime": "", "tickSz": "0.1", "lotSz": "0.01"}

    An announced contract is nearly blank until minutes before its listing. instCategory (1 is crypto) came in 2026,
    instFamily after 2022; without ctMult, which is 1 for all, or expTime a contract is what it is with them. A delisted
    contract vanishes, or is expired as on the channel; expTime announces it.
    """
    *kind, state = read_kind(item, "instType", "ctType", "settleCcy", "state")
    sizes_and_start = (get_member(item, "ctVal"), item.get("ctMult", "1"), get_member(item, "listTime"))
    is_followed = (
        kind == ["SWAP", "linear", "USDT"]
        and read_optional_kind(item, "instCategory", "1") == "1"
        and state not in ("test", "expired")
        and not (state == "preopen" and "" in sizes_and_start)
    )
    if not is_followed:
        return None
    family = read_text(item.get("instFamily") or get_member(item, "uly"))
    symbol, multiplier = split_multiplier(read_text(family.partition("-")[0]))
    expiry = item.get("expTime")
    size, contract_multiplier, listed = sizes_and_start
    contract_value = multiply(read_price(size), read_price(contract_multiplier), str(multiplier))
    lot = read_term(item, "lotSz")
    return Instrument(
        exchange="okx",
        code="okx",
        name=read_text(get_member(item, "instId")),
        symbol=symbol.upper(),
        multiplier=multiplier,
        contract_value=contract_value,
        listed_ms=to_ms(listed),
        delisted_ms=None if expiry in (None, "") else to_ms(expiry),
        terms=replace(
            make_terms(multiplier, tick=read_term(item, "tickSz"), lot=None),
            lot=None if lot is None else multiply(lot, contract_value),
        ),
    )


def read_announced(item: Json) -> int | None:
    """Return when a contract will be listed that is nearly blank yet: it is complete five minutes before."""
    is_blank = isinstance(item, dict) and item.get("state") == "preopen" and item.get("ctVal") == ""
    return read_time(item, "listTime") if is_blank else None


INSTRUMENTS = InstrumentsFeed(
    path="/api/v5/public/instruments",
    budget="instruments",
    params={"instType": "SWAP"},
    items=lambda answer: read_rows_of(answer, "data"),
    parse=parse_instrument,
    name_member="instId",
    has_ended=lambda item: item.get("state") == "expired",
    read_announced=read_announced,
    source="OKX API guide, mirrored 2026-08-22: Get instruments",
)
CLOCK = ClockFeed(  # {"code": "0", "msg": "", "data": [{"ts": "1597026383085"}]}
    path="/api/v5/public/time",
    budget="time",
    parse=lambda answer: to_ms(get_member(get_element(read_rows_of(answer, "data"), 0), "ts")),
)
