"""Acme Post's endpoints of histories and of current values."""

from collections.abc import Sequence

from fademoe.clock import MINUTE_MS
from fademoe.errors import BadPayload
from fademoe.feeds.history import Page, Paging, RestFeed, Retention
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.rows import check_candle, check_name, to_coin_price, to_coins
from fademoe.feeds.values import get_element, get_member, read_count, read_number, read_records, read_rows_of, to_ms
from fademoe.metrics import Candle, Funding, OpenInterest

MOST_ROWS = 500  # of an answer
KEPT_BARS = 5000


def candle_body(page: Page) -> Json:
    """Ask for bars; both ends belong to the range."""
    span = {"startTime": page.start_ms, "endTime": page.end_ms - 1}
    return {"type": "candleSnapshot", "req": {"coin": page.instrument.name, "interval": "1m", **span}}


def funding_body(page: Page) -> Json:
    """Ask for settlements; both ends belong to the range."""
    span = {"startTime": page.start_ms, "endTime": page.end_ms - 1}
    return {"type": "fundingHistory", "coin": page.instrument.name, **span}


def parse_bar(item: Json, instrument: Instrument) -> Candle:
    """Read a bar; it does not say whether it is closed, and has no quote volume.

    {"t": 1767225600000, "s": "kPEPE", "i": "1m", "o": 0.01170, "h": 0.01183, "l": 0.01170, "c": 0.01180,
     "v": 52600.5, "n": 42}
    """
    check_name(get_member(item, "s"), instrument)
    opened, high, low, close = (to_coin_price(get_member(item, name), instrument) for name in "ohlc")
    check_candle(opened, high, low, close)
    volume = to_coins(get_member(item, "v"), instrument)
    return Candle(
        to_ms(get_member(item, "t")), opened, high, low, close, volume, None, read_count(get_member(item, "n"))
    )


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read a settlement; they come every hour.

    {"coin": "BTC", "fundingRate": -0.0000125, "time": 1767225600000}
    """
    check_name(get_member(item, "coin"), instrument)
    return Funding(to_ms(get_member(item, "time")), read_number(get_member(item, "fundingRate")), 1)


def context_items(answer: Json) -> Sequence[Json]:
    """Join the contracts with their values, which come in the same order, and with the time of the answer.

    [{"universe": [{"name": "BTC", ...}]}, [{"openInterest": 688.110}], 1767225605123]
    """
    contracts, contexts = read_rows_of(get_element(answer, 0), "universe"), read_records(get_element(answer, 1))
    if len(contracts) != len(contexts):
        raise BadPayload(f"{len(contexts)} values for {len(contracts)} contracts")
    time_ms = to_ms(get_element(answer, 2))
    return [
        {"name": get_member(contract, "name"), "openInterest": get_member(context, "openInterest"), "time": time_ms}
        for contract, context in zip(contracts, contexts, strict=True)
    ]


def parse_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read an open interest, in units of the contract."""
    return OpenInterest(to_ms(item["time"]), to_coins(item["openInterest"], instrument))


REST_FEEDS = (
    RestFeed(
        metric="ohlcv",
        path="/info",
        budget="weight",
        body=candle_body,
        items=lambda answer, page: read_records(answer),
        parse=parse_bar,
        source="made up",
        paging=Paging(costs=((60, 20), (MOST_ROWS, 28))),
        retention=Retention(certain_ms=KEPT_BARS * MINUTE_MS),
    ),
    RestFeed(
        metric="fr",
        path="/info",
        budget="weight",
        body=funding_body,
        items=lambda answer, page: read_records(answer),
        parse=parse_funding,
        source="made up",
        paging=Paging(costs=((MOST_ROWS, 20),)),
        interval="settlement",
        interval_ms=5 * MINUTE_MS,  # far finer than settlements come: a page never holds more than an answer
        sparse=True,
    ),
)
POLL_FEEDS = (
    PollFeed(
        metric="oi",
        path="/info",
        budget="weight",
        cost=20,
        body=lambda instruments: {"type": "metaAndAssetCtxs"},
        items=context_items,
        name="name",
        parse=parse_interest,
        source="made up",
    ),
)
