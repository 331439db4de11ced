"""The history of Acme RPC."""

from collections.abc import Sequence

from acme_rpc.answers import read_result
from fademoe.errors import BadPayload
from fademoe.feeds.history import Page, Paging, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.request import Params
from fademoe.feeds.rows import check_candle
from fademoe.feeds.values import get_element, read_amount, read_price, read_rows_of, to_ms
from fademoe.metrics import Candle

BARS = 1000  # rows of an answer
COLUMNS = ("ticks", "open", "high", "low", "close", "volume", "cost")


def chart_params(page: Page) -> Params:
    """Ask for bars; both ends belong to the range."""
    return {
        "instrument_name": page.instrument.name,
        "start_timestamp": page.start_ms,
        "end_timestamp": page.end_ms - 1,
        "resolution": 1,
    }


def chart_items(answer: Json, page: Page) -> Sequence[Json]:
    """Turn the columns of an answer into rows.

    {"result": {"status": "ok", "ticks": [1767225600000], "open": [97000.5], "high": [97000.5], "low": [97000.1],
                "close": [97000.25], "volume": [12.5], "cost": [1212503.125]}}
    """
    columns = [read_rows_of(read_result(answer), name) for name in COLUMNS]
    if len({len(column) for column in columns}) != 1:
        raise BadPayload("the columns of a chart differ in length")
    return [list(row) for row in zip(*columns, strict=True)]


def parse_bar(item: Json, instrument: Instrument) -> Candle:
    """Read a bar: begin, open, high, low, close, volume in coins, cost in USDC."""
    opened, high, low, close = (read_price(get_element(item, at)) for at in range(1, 5))
    check_candle(opened, high, low, close)
    volume, cost = (read_amount(get_element(item, at)) for at in (5, 6))
    return Candle(to_ms(get_element(item, 0)), opened, high, low, close, volume, cost)


REST_FEEDS = (
    RestFeed(
        metric="ohlcv",
        path="/api/v2/public/get_tradingview_chart_data",
        budget="public",
        params=chart_params,
        items=chart_items,
        parse=parse_bar,
        source="made up",
        paging=Paging(costs=((BARS, 1),)),
    ),
)
