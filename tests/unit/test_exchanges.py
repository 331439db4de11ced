"""Contract of every exchange's table."""

from urllib.parse import urlsplit

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.feeds import registry
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument

EXCHANGES = list(registry.exchanges().values())
FEEDS = [
    pytest.param(exchange, feed, id=f"{exchange.name}-{feed.metric}")
    for exchange in EXCHANGES
    for feed in exchange.rest_feeds
]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name)
def test_addresses_are_scheme_and_host(exchange):
    for url, schemes in ((exchange.rest_url, ("https",)), (exchange.stream_url or "wss://none", ("wss",))):
        parts = urlsplit(url)
        assert parts.scheme in schemes
        assert not parts.path


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name)
def test_every_cost_fits_its_budget(exchange):
    for feed in exchange.rest_feeds:
        assert feed.paging.cost(feed.paging.rows) <= exchange.budget(feed.budget).limit
    if exchange.clock:
        assert exchange.clock.cost <= exchange.budget(exchange.clock.budget).limit
    assert exchange.instruments.cost <= exchange.budget(exchange.instruments.budget).limit


@pytest.mark.parametrize(("exchange", "feed"), FEEDS)
def test_a_page_asks_for_no_time_outside_of_it(exchange, feed):
    start_ms = 1_767_225_600_000
    instrument = Instrument(exchange=exchange.name, code=exchange.codes[0], name="BTCUSDT", symbol="BTC")
    end_ms = start_ms + feed.page_span_ms
    page = Page(instrument=instrument, start_ms=start_ms, end_ms=end_ms, limit=feed.paging.rows)
    params = feed.params(page)
    times = [int(value) for value in params.values() if str(value).isdigit() and int(value) > 10**9]
    assert times
    for time in times:
        ms = time if time > 10**12 else time * 1000
        assert start_ms - (8 * HOUR_MS + 1 if feed.sparse else 1) <= ms <= end_ms + feed.interval_ms
    assert feed.paging.window_ms % feed.interval_ms == 0
    assert DAY_MS % feed.interval_ms == 0 or feed.sparse
    assert feed.latency.settle_ms >= 2000, "bars may change for two seconds after their close"
    assert feed.interval_ms >= MINUTE_MS
