"""The histories of Acme Post."""

from acme_post.bars import parse_bar
from fademoe.clock import MINUTE_MS
from fademoe.feeds.history import Page, Paging, RestFeed, Retention
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.rows import check_name
from fademoe.feeds.values import exact, member, number, records, to_ms
from fademoe.metrics import Funding

BARS = 500  # rows of an answer
KEPT_BARS = 5000


def candle_body(page: Page) -> Json:
    """Ask for bars; both ends belong to the range."""
    span = {"startTime": page.start_ms, "endTime": page.end_ms - 1}
    return {"type": "candleSnapshot", "req": {"coin": page.instrument.name, "interval": "1m", **span}}


def funding_body(page: Page) -> Json:
    """Ask for settlements; both ends belong to the range."""
    span = {"startTime": page.start_ms, "endTime": page.end_ms - 1}
    return {"type": "fundingHistory", "coin": page.instrument.name, **span}


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read a settlement; they come every hour.

    {"coin": "BTC", "fundingRate": -0.0000125, "time": 1767225600000}
    """
    check_name(member(item, "coin"), instrument)
    return Funding(to_ms(member(item, "time")), number(exact(member(item, "fundingRate"))), 1)


HISTORY = (
    RestFeed(
        metric="ohlcv",
        path="/info",
        budget="weight",
        body=candle_body,
        items=lambda answer, page: records(answer),
        parse=parse_bar,
        source="made up",
        paging=Paging(costs=((60, 20), (BARS, 28))),
        retention=Retention(certain_ms=KEPT_BARS * MINUTE_MS),
    ),
    RestFeed(
        metric="fr",
        path="/info",
        budget="weight",
        body=funding_body,
        items=lambda answer, page: records(answer),
        parse=parse_funding,
        source="made up",
        paging=Paging(costs=((BARS, 20),)),
        interval="settlement",
        interval_ms=5 * MINUTE_MS,  # far finer than settlements come: a page never holds more than an answer
        sparse=True,
    ),
)
