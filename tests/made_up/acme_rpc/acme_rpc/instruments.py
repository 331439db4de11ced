"""The contracts and the clock of Acme RPC."""

from acme_rpc.answers import read_result
from fademoe.feeds.exchange import ClockFeed, InstrumentsFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.values import get_member, read_records, read_text, to_ms


def parse_instrument(item: Json) -> Instrument | None:
    """Read a contract: perpetuals in USDC.

    {"instrument_name": "BTC_USDC-PERPETUAL", "base_currency": "BTC", "settlement_period": "perpetual",
     "quote_currency": "USDC", "creation_timestamp": 1650000000000}
    """
    kind = (get_member(item, "settlement_period"), get_member(item, "quote_currency"))
    if kind != ("perpetual", "USDC"):
        return None
    return Instrument(
        exchange="acmerpc",
        code="acr",
        name=read_text(get_member(item, "instrument_name")),
        symbol=read_text(get_member(item, "base_currency")),
        listed_ms=to_ms(get_member(item, "creation_timestamp")),
    )


INSTRUMENTS = InstrumentsFeed(
    path="/api/v2/public/get_instruments",
    budget="public",
    params={"currency": "any", "kind": "future"},
    items=lambda answer: read_records(read_result(answer)),
    parse=parse_instrument,
    source="made up",
)
CLOCK = ClockFeed(path="/api/v2/public/get_time", budget="public", parse=lambda answer: to_ms(read_result(answer)))
