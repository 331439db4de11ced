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
    f"{exchange.name} {feed.metric}": feed
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
    if draw(st.booleans()):  # as Bybit sends them: 30710 beside 30709.9
        prices = [price.rstrip("0").rstrip(".") if "." in price else price for price in prices]
    volumes = [text(draw(st.integers(min_value=0, max_value=10**9)), 3) for _ in range(3)]
    values = prices + volumes
    if draw(st.integers(min_value=0, max_value=9)) == 0:
        values[draw(st.integers(min_value=0, max_value=6))] = draw(
            st.sampled_from(["", "-1", "1e3", "nan", "1,2", "."])
        )
    return values


def item_of(name: str, number: int, values: list[str]) -> list[object]:
    """Return a row as the exchange of a feed sends it; the mark price has no volumes."""
    exchange, metric = name.split()
    o, h, l, c, v, quote, taker = values  # noqa: E741
    ts = START_MS + number * 60_000
    if metric == "mark":
        v = quote = taker = "0"
    if exchange == "binance":
        return [ts, o, h, l, c, v, ts + 59_999, quote, number, taker, quote, "0"]
    if metric == "mark":
        return [str(ts), o, h, l, c] if exchange == "bybit" else [str(ts), o, h, l, c, "1"]
    if exchange == "bybit":
        return [str(ts), o, h, l, c, v, quote]
    return [str(ts), o, h, l, c, v, v, quote, "1"]


@pytest.mark.parametrize("name", sorted(FEEDS))
@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.symbol)
@given(pages=st.lists(bars(), max_size=6))
def test_column_by_column_and_row_by_row_agree(name, instrument, pages):
    feed = FEEDS[name]
    items = [item_of(name, number, values) for number, values in enumerate(pages)]

    def read(item):
        return feed.parse(item, instrument)

    try:
        at_once = feed.parse_all(items, instrument=instrument)
    except BadPayload:
        return  # they are read one by one then
    assert at_once == read_elements(items, read).readable
    assert len(at_once) == len(items)


@pytest.mark.parametrize("name", sorted(FEEDS))
@pytest.mark.parametrize(
    ("prices", "is_candle"),
    [
        (("30709.9", "30710.5", "30709", "30710"), True),
        (("9.99", "10.01", "9.9", "10"), True),  # of unequal length before the point
        (("30710.1", "30710.5", "30710.2", "30710.1"), False),
        (("30701", "30709.9", "30700", "30710"), False),
        (("9.95", "9.99", "9.9", "10"), False),
    ],
)
def test_prices_of_unequal_length_are_compared_as_numbers(name, prices, is_candle):
    feed = FEEDS[name]
    item = item_of(name, 0, [*prices, "10", "20", "5"])
    if is_candle:
        assert feed.parse_all([item], instrument=INSTRUMENTS[0]) == [feed.parse(item, INSTRUMENTS[0])]
        return
    with pytest.raises(BadPayload):
        feed.parse_all([item], instrument=INSTRUMENTS[0])


@pytest.mark.parametrize("name", sorted(FEEDS))
def test_an_odd_value_anywhere_is_not_read_at_once(name):
    feed = FEEDS[name]
    good = item_of(name, 0, ["2.5", "3.5", "1.5", "2.0", "10", "20", "5"])
    for place in range(len(good)):
        for odd in (None, 7, "", "x", True, 1.5, [], {}):
            bad = item_of(name, 1, ["2.5", "3.5", "1.5", "2.0", "10", "20", "5"])
            bad[place] = odd
            try:
                rows = feed.parse_all([good, bad], instrument=INSTRUMENTS[0])
            except BadPayload:
                continue
            assert rows == [feed.parse(item, INSTRUMENTS[0]) for item in (good, bad)]


def test_all_exchanges_with_full_pages_read_them_at_once():
    assert {f"{name} {metric}" for name in ("binance", "bybit", "okx") for metric in ("ohlcv", "mark")} == set(FEEDS)
