"""A page read column by column gives the very rows that row by row gives, and refuses what row by row refuses."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fademoe.errors import BadPayload
from fademoe.feeds import registry
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.reading import read_elements

START_MS = 1_790_000_040_000
FEEDS = {
    exchange.name: feed
    for exchange in registry.load_exchanges().values()
    for feed in exchange.rest_feeds
    if feed.parse_all is not None
}
INSTRUMENTS = [
    Instrument(exchange="any", code="any", name="BTCUSDT", symbol="BTC"),
    Instrument(exchange="any", code="any", name="1000PEPEUSDT", symbol="PEPE", multiplier=1000),
]


def text(units: int, decimals: int) -> str:
    return f"{Decimal(units).scaleb(-decimals):f}"


@st.composite
def bars(draw: st.DrawFn) -> list[str]:
    """Open, high, low, close, volume, quote volume, taker volume; most of them right."""
    decimals = draw(st.integers(min_value=0, max_value=6))
    low = draw(st.integers(min_value=0, max_value=10**7))
    spread = draw(st.integers(min_value=-1, max_value=50))
    inner = [low + draw(st.integers(min_value=0, max_value=max(0, spread))) for _ in range(2)]
    prices = [text(units, decimals) for units in (inner[0], low + spread, low, inner[1])]
    volumes = [text(draw(st.integers(min_value=0, max_value=10**9)), 3) for _ in range(3)]
    values = prices + volumes
    if draw(st.integers(min_value=0, max_value=9)) == 0:
        values[draw(st.integers(min_value=0, max_value=6))] = draw(
            st.sampled_from(["", "-1", "1e3", "nan", "1,2", "."])
        )
    return values


def item_of(exchange: str, number: int, values: list[str]) -> list[object]:
    o, h, l, c, v, quote, taker = values  # noqa: E741
    ts = START_MS + number * 60_000
    if exchange == "binance":
        return [ts, o, h, l, c, v, ts + 59_999, quote, number, taker, quote, "0"]
    if exchange == "bybit":
        return [str(ts), o, h, l, c, v, quote]
    return [str(ts), o, h, l, c, v, v, quote, "1"]


@pytest.mark.parametrize("exchange", sorted(FEEDS))
@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.symbol)
@given(pages=st.lists(bars(), max_size=6))
def test_column_by_column_and_row_by_row_agree(exchange, instrument, pages):
    feed = FEEDS[exchange]
    items = [item_of(exchange, number, values) for number, values in enumerate(pages)]

    def read(item):
        return feed.parse(item, instrument)

    try:
        at_once = feed.parse_all(items, instrument=instrument)
    except BadPayload:
        return  # they are read one by one then
    assert at_once == read_elements(items, read).readable
    assert len(at_once) == len(items)


@pytest.mark.parametrize("exchange", sorted(FEEDS))
@pytest.mark.parametrize("place", range(12))
@pytest.mark.parametrize("odd", [None, 7, "", "x", True, 1.5, [], {}])
def test_an_odd_value_anywhere_is_not_read_at_once(exchange, place, odd):
    feed = FEEDS[exchange]
    good = item_of(exchange, 0, ["2.5", "3.5", "1.5", "2.0", "10", "20", "5"])
    bad = item_of(exchange, 1, ["2.5", "3.5", "1.5", "2.0", "10", "20", "5"])
    if place >= len(bad):
        return
    bad[place] = odd
    try:
        rows = feed.parse_all([good, bad], instrument=INSTRUMENTS[0])
    except BadPayload:
        return
    assert rows == [feed.parse(item, INSTRUMENTS[0]) for item in (good, bad)]


def test_all_exchanges_with_full_pages_read_them_at_once():
    assert {"binance", "bybit", "okx"} <= set(FEEDS)
