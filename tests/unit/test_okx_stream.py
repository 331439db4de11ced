"""What a connection makes of OKX's messages; no socket is opened."""

import json

import pytest

from fademoe.clock import MINUTE_MS
from fademoe.exchanges.okx import EXCHANGE
from fademoe.feeds.instrument import Instrument
from fademoe.metrics import perpspec
from fademoe.signals import StopSignal
from fademoe.store.coverage import Series
from fademoe.streams.address import Address
from fademoe.streams.buffer import Buffer
from fademoe.streams.connection import AHEAD_MS, Connection
from fademoe.streams.minutes import GRACE_MS, Route

ADDRESS = Address(url="wss://x/ws", resolve=lambda: "wss://x/ws")
START = 1_788_480_000_000
BTC = Instrument(exchange="okx", code="okx", name="BTC-USDT-SWAP", symbol="BTC", contract_value="0.01")
ETH = Instrument(exchange="okx", code="okx", name="ETH-USDT-SWAP", symbol="ETH", contract_value="0.1")
ALL = "liquidation-orders:SWAP"


class Line:
    """A connection to OKX with both sockets' topics, and a clock of its own."""

    def __init__(self):
        topics = {}
        for feed in EXCHANGE.stream_feeds:
            for each in (BTC, ETH):
                found = topics.setdefault(feed.topic(each), {}).setdefault(feed, {})
                series = Series(perpspec("okx", feed.metric), each.symbol)
                found[each.name if feed.name else ""] = Route(feed, series, each)
        self.now_ms = START
        self.buffer = Buffer()
        arguments = (self.buffer, StopSignal(), lambda: self.now_ms)
        self.connection = Connection(EXCHANGE.sockets[0], ADDRESS, topics, *arguments)
        self.connection._unconfirmed = dict.fromkeys(topics, 0.0)

    def hear(self, message):
        """Take a message; return what there is to complain of."""
        self.connection._alive_ms = self.now_ms
        self.connection.take(json.dumps(message).encode())
        return " ".join(str(error) for _, error in self.buffer.take_faults())

    def take(self, channel, *data, **argument):
        return self.hear({"arg": {"channel": channel, **(argument or {"instId": BTC.name})}, "data": list(data)})

    def acknowledge(self, topic):
        channel, _, what = topic.partition(":")
        name = "instType" if what == "SWAP" else "instId"
        assert self.hear({"event": "subscribe", "arg": {"channel": channel, name: what}, "connId": "a"}) == ""

    def rows(self, minutes):
        """Let so many minutes pass; return (source, symbol, minute, values) of what is to be stored."""
        self.now_ms = START + minutes * MINUTE_MS + GRACE_MS
        self.connection._alive_ms = self.now_ms
        items = self.buffer.take() + self.connection._minutes.close(self.now_ms, self.now_ms)
        return [(*i.series, (i.ts - START) // MINUTE_MS, i.row and i.row[1:]) for i in items]


@pytest.fixture
def line():
    return Line()


def candle(ts, **change):
    row = [str(ts), "2", "3", "1", "2", "100", "1", "2", "1"]
    for index, value in change.items():
        row[int(index[1:])] = value
    return row


def liquidated(instrument, *details):
    made = [{"bkPx": "100", "side": "sell", "posSide": "net", "sz": sz, "ts": str(ts)} for ts, sz in details]
    return {"instId": instrument.name, "instType": "SWAP", "details": made}


def test_a_bar_that_is_not_over_is_no_row(line):
    line.now_ms = START + MINUTE_MS - AHEAD_MS - 1
    assert "not over" in line.take("candle1m", candle(START))
    line.now_ms = START + MINUTE_MS
    assert line.take("candle1m", candle(START)) == ""
    assert line.rows(1) == [("okx-ohlcv", "BTC", 0, ("2", "3", "1", "2", "1", "2", None, None))]


def test_a_bad_bar_costs_no_other_bar_of_its_message(line):
    """Fault 10."""
    line.now_ms += 5 * MINUTE_MS
    assert "NaN" in line.take("candle1m", candle(START), candle(START + MINUTE_MS, _6="NaN"))
    assert [(source, ts) for source, _, ts, _ in line.rows(6)] == [("okx-ohlcv", 0)]


def test_liquidations_are_claimed_only_from_the_ack_of_their_topic_on(line):
    assert line.rows(2) == []
    line.acknowledge("open-interest:BTC-USDT-SWAP")
    assert line.rows(4) == []
    line.acknowledge(ALL)
    line.now_ms = START + 5 * MINUTE_MS
    line.take("liquidation-orders", liquidated(BTC, (line.now_ms, "2")), instType="SWAP")
    assert line.rows(6) == [("okx-lq", "BTC", 5, ("2.00", "0")), ("okx-lq", "ETH", 5, None)]


def test_liquidations_that_are_refused_are_never_claimed(line):
    line.connection._asked = [[*line.connection.topics]]
    text = "Subscribe failed, wrong URL or channel: liquidation-orders,instType:SWAP doesn't exist."
    assert "fault" in line.hear({"event": "error", "code": "60018", "msg": text, "connId": "a"})
    assert line.rows(9) == []


def test_liquidations_that_cannot_be_read_cost_the_minute_of_their_contract(line):
    line.acknowledge(ALL)
    line.now_ms += MINUTE_MS + 10_000
    events = [liquidated(BTC, (line.now_ms, "1")), liquidated(ETH, (1, "1"))]
    assert "not a time" in line.take("liquidation-orders", *events, instType="SWAP")
    assert [row[1:3] for row in line.rows(3)] == [("BTC", 0), ("ETH", 0), ("BTC", 1), ("BTC", 2), ("ETH", 2)]


def test_details_of_several_contracts_and_minutes_are_sorted(line):
    line.acknowledge(ALL)
    other = {"instId": "BTC-USD-SWAP", "instType": "SWAP", "details": [{"side": "?"}]}  # inverse: nobody reads it
    events = liquidated(BTC, (START + MINUTE_MS + 1, "1"), (START + 1, "3"), (START + 2, "4"))
    line.now_ms += MINUTE_MS + 1
    line.take("liquidation-orders", other, events, liquidated(ETH, (START + 1, "5")), instType="SWAP")
    line.take("liquidation-orders", liquidated(BTC, (START + 1, "3")), instType="SWAP")  # once more
    assert line.rows(2) == [
        ("okx-lq", "BTC", 0, ("7.00", "0")), ("okx-lq", "ETH", 0, ("50.0", "0")),
        ("okx-lq", "BTC", 1, ("1.00", "0")), ("okx-lq", "ETH", 1, None),
    ]  # fmt: skip


def test_where_no_topic_is_ever_confirmed_all_are_believed_to_be_served(line):
    line.connection._ask_for_unconfirmed(100.0)
    assert line.connection._waiting == []
    assert [row[1:] for row in line.rows(2)] == [("BTC", 1, None), ("ETH", 1, None)]


def test_what_is_not_confirmed_is_asked_for_again_in_smaller_requests(line):
    connection = line.connection
    line.acknowledge(ALL)
    rest = [topic for topic in connection.topics if topic != ALL]
    connection._ask_for_unconfirmed(100.0)
    assert connection._waiting == [rest]
    connection._waiting, connection._unconfirmed = [], dict.fromkeys(rest, 100.0)
    connection._ask_for_unconfirmed(101.0)
    assert connection._waiting == []
    connection._ask_for_unconfirmed(200.0)
    assert connection._waiting == [[topic] for topic in rest]
    connection._waiting, connection._unconfirmed = [], dict.fromkeys(rest, 200.0)
    connection._ask_for_unconfirmed(300.0)
    assert connection._waiting == []
    assert ["6 topics are not confirmed" in str(error) for _, error in line.buffer.take_faults()] == [True]


def test_every_request_of_a_full_socket_fits_the_limits():
    socket = EXCHANGE.sockets[0]
    requests = socket.topics_per_socket / socket.topics_per_request * 2 + socket.topics_per_socket / 10
    assert requests + socket.topics_per_request < 480, "an hour's requests on one connection, all asked for three times"
    text = socket.subscribe([f"funding-rate:{'币' * 20}{n}-USDT-SWAP" for n in range(socket.topics_per_request)], 1)
    assert len(json.dumps(text).encode()) < 65_536
