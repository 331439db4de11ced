"""What is sent to a REST endpoint."""

from dataclasses import replace

from fademoe.feeds.exchange import ClockFeed
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.request import Request
from tests.unit.test_fetch import FEED

PAGE = Page(
    instrument=Instrument(exchange="acme", code="acm", name="BTC", symbol="BTC"),
    start_ms=60_000,
    end_ms=120_000,
    limit=1,
)


def test_a_feed_with_parameters_alone_sends_a_get():
    request = FEED.make_request(PAGE)
    assert (request.method, request.json) == ("GET", None)
    assert str(request) == "/v1/premium?from=60000&to=119999&limit=1"


def test_a_feed_with_a_body_sends_a_post():
    feed = replace(FEED, params=lambda page: {}, body=lambda page: {"type": "bars", "coin": page.instrument.name})
    request = feed.make_request(PAGE)
    assert (request.method, request.json) == ("POST", {"type": "bars", "coin": "BTC"})
    assert str(request) == '/v1/premium {"type":"bars","coin":"BTC"}'


def test_an_endpoint_without_either_is_its_path():
    assert ClockFeed(path="/time", budget="ip", parse=int).request == Request(path="/time")
