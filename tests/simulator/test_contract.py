"""Run the contract test class for FadeMoe's exchanges, with payloads of the simulator and recorded messages."""

import json
import re
from pathlib import Path

import pytest

from fademoe.clock import HOUR_MS, floor_to
from fademoe.exchanges.binance import EXCHANGE as BINANCE
from fademoe.exchanges.bybit import EXCHANGE as BYBIT
from fademoe.exchanges.coinalyze import EXCHANGE as COINALYZE
from fademoe.exchanges.okx import EXCHANGE as OKX
from fademoe.feeds import registry
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.values import decode
from fademoe.testing.contract import DECLARED, ExchangeContract
from fademoe.testing.readers import read_contracts
from fademoe.testing.samples import Sample, make_message_reader, make_sample

RECORDINGS = Path(__file__).parent.parent / "recordings"
SPANS = {"settlement": 160, "1h": 5}  # rows of a page that has some
LIQUIDATIONS = 300  # the same for minutes, few of which have any
CLOSED = {"x": True, "confirm": True, "E": 4_000_000_000_000}  # a candle that is closed, in a message after its end
NAMES = re.compile(r"[A-Z0-9]+-USDT-SWAP|[A-Z0-9]+USDT")


class SimulatedContract(ExchangeContract):
    """The contract, with the payloads of a running simulator."""

    @pytest.fixture(autouse=True)
    def use_simulator(self, sim):
        sim.session.headers["api_key"] = "k"
        self.sim = sim

    def ask(self, request):
        response = self.sim.get(request.path, **request.params)
        assert response.status_code == 200, response.text
        return decode(response.content)

    def list_contracts(self):
        return read_contracts(self.exchange, self.ask(self.exchange.instruments.request))

    def list_samples(self):
        exchange, listed = self.exchange, self.ask(self.exchange.instruments.request)
        contracts = {contract.name: contract for contract in read_contracts(exchange, listed)}
        pepe = next(
            contract
            for contract in contracts.values()
            if (contract.code, contract.symbol) == (exchange.codes[0], "PEPE")
        )
        samples = [make_sample(exchange, "instruments", shorten_lists(listed), contracts)]
        if exchange.clock:
            samples.append(make_sample(exchange, "clock", self.ask(exchange.clock.request), contracts))
        for feed in exchange.rest_feeds:
            for kind, part in (("history", feed), ("recent", feed.recent)):
                if part:
                    payload = self.ask(part.make_request(self.page(part, pepe)))
                    samples.append(make_sample(exchange, f"{kind} {feed.metric}", payload, contracts, pepe))
        for feed in exchange.poll_feeds:
            payload = shorten_lists(self.ask(feed.make_request([pepe])))
            samples.append(make_sample(exchange, f"poll {feed.metric}", payload, contracts))
        return samples + list_recorded_messages(exchange)

    def page(self, feed, instrument):
        end_ms = floor_to(self.sim.now_ms() - (feed.recent_ms or HOUR_MS), HOUR_MS)
        count = LIQUIDATIONS if feed.metric == "lq" else SPANS.get(feed.interval, 3)
        return Page(instrument=instrument, start_ms=end_ms - count * feed.interval_ms, end_ms=end_ms, limit=count)


class TestBinance(SimulatedContract):
    exchange = BINANCE


class TestBybit(SimulatedContract):
    exchange = BYBIT


class TestOkx(SimulatedContract):
    exchange = OKX


class TestCoinalyze(SimulatedContract):
    exchange = COINALYZE


def test_every_exchange_is_tested():
    tested = {contract.exchange.name for contract in SimulatedContract.__subclasses__()}
    assert tested == set(registry.list_names())


def shorten_lists(body):
    """Return a payload whose lists have at most two elements."""
    if isinstance(body, list):
        return body[:2]
    return {name: shorten_lists(value) if isinstance(value, list | dict) else value for name, value in body.items()}


def list_recorded_messages(exchange):
    """Return the recorded messages of each feed and contract with rows."""
    samples = []
    for path in sorted((RECORDINGS / exchange.name).glob("ws_*.json")):
        for recording in json.loads(path.read_text(encoding="utf-8"))[:4]:
            message = close_candles(recording["payload"])
            for feed in exchange.stream_feeds:
                for name in sorted(set(NAMES.findall(json.dumps(message)))):
                    instrument = Instrument(exchange=exchange.name, code=exchange.codes[0], name=name, symbol="X")
                    read = make_message_reader(exchange, feed, instrument)
                    if has_rows(read, message):
                        title = f"stream {feed.metric}"
                        samples.append(Sample(title=title, payload=message, read=read, metric=feed.metric))
    return samples


def has_rows(read, message):
    try:
        return bool(read(message))
    except DECLARED:
        return False


def close_candles(message: object):
    """Return a message in which every candle is the closed one of its minute."""
    if isinstance(message, list):
        candle = len(message) == 9 and isinstance(message[8], str)
        return [*message[:8], "1"] if candle else [close_candles(item) for item in message]
    if isinstance(message, dict):
        return {key: CLOSED.get(key, close_candles(value)) for key, value in message.items()}
    return message
