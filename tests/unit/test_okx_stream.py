"""What a connection makes of OKX's messages; no socket is opened."""

import json

import pytest

from fademoe.client.instruments import disambiguate_symbols
from fademoe.clock import MINUTE_MS
from fademoe.exchanges.okx import EXCHANGE
from fademoe.exchanges.okx.instruments import parse_instrument
from fademoe.feeds.instrument import Instrument
from fademoe.streams.intake import MAX_AHEAD_MS
from fademoe.streams.minutes import GRACE_MS
from fademoe.streams.subscriptions import CONFIRM_S, MAX_ATTEMPTS
from tests.support import lines

START = 1_788_480_000_000
BTC = Instrument(exchange="okx", code="okx", name="BTC-USDT-SWAP", symbol="BTC", contract_value="0.01")
ETH = Instrument(exchange="okx", code="okx", name="ETH-USDT-SWAP", symbol="ETH", contract_value="0.1")
ALL = "liquidation-orders:SWAP"
OTHER = {"instId": "BTC-USD-SWAP", "instType": "SWAP", "details": [{"side": "?"}]}  # inverse: nobody reads it


class Line(lines.Line):
    """A connection to OKX with both sockets' topics, which were all requested in the first second."""

    def __init__(self):
        super().__init__(EXCHANGE.sockets[0], lines.topics_of(EXCHANGE.stream_feeds, [BTC, ETH]), START)
        self.send()

    def hear_one(self, message):
        """Take a message; return the errors that it makes."""
        self.hear(message)
        return " ".join(self.errors())

    def take(self, channel, *data, **argument):
        return self.hear_one({"arg": {"channel": channel, **(argument or {"instId": BTC.name})}, "data": list(data)})

    def acknowledge(self, topic):
        channel, _, what = topic.partition(":")
        name = "instType" if what == "SWAP" else "instId"
        assert self.hear_one({"event": "subscribe", "arg": {"channel": channel, name: what}, "connId": "a"}) == ""

    def rows(self, minutes, *, has_event=True):
        """Let so many minutes pass with data and an event of another contract; return what is to be stored."""
        self.now_ms = START + minutes * MINUTE_MS + GRACE_MS
        self.take("funding-rate")
        if has_event:
            self.take("liquidation-orders", OTHER, instType="SWAP")
        return sorted(super().rows(minutes), key=lambda row: row[2])


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
    line.now_ms = START + MINUTE_MS - MAX_AHEAD_MS - 1
    assert "not over" in line.take("candle1m", candle(START))
    line.now_ms = START + MINUTE_MS
    assert line.take("candle1m", candle(START)) == ""
    assert line.rows(1) == [("okx-ohlcv", "BTC", 0, ("2", "3", "1", "2", "1", "2", None, None))]


def test_a_bad_bar_costs_no_other_bar_of_its_message(line):
    line.now_ms += 5 * MINUTE_MS
    assert "NaN" in line.take("candle1m", candle(START), candle(START + MINUTE_MS, _6="NaN"))
    assert [(source, ts) for source, _, ts, _ in line.rows(6)] == [("okx-ohlcv", 0)]


def test_liquidations_are_claimed_only_from_the_ack_of_their_topic_on(line):
    line.acknowledge("open-interest:BTC-USDT-SWAP")
    assert line.rows(4, has_event=False) == []
    line.send()
    line.acknowledge(ALL)
    line.now_ms = START + 5 * MINUTE_MS
    line.take("liquidation-orders", liquidated(BTC, (line.now_ms, "2")), instType="SWAP")
    assert line.rows(6) == [("okx-lq", "BTC", 5, ("2.00", "0")), ("okx-lq", "ETH", 5, None)]


def test_liquidations_that_are_refused_are_never_claimed(line):
    text = "Subscribe failed, wrong URL or channel: liquidation-orders,instType:SWAP doesn't exist."
    assert "fault" in line.hear_one({"event": "error", "code": "60018", "msg": text, "connId": "a"})
    assert line.rows(9, has_event=False) == []


def test_liquidations_that_are_acknowledged_and_silent_are_not_claimed(line):
    """Only an event, of whatever contract, proves that they were watched."""
    line.acknowledge(ALL)
    assert line.rows(3, has_event=False) == []
    assert len(line.rows(5)) == 2 * 5
    assert line.rows(8, has_event=False) == []


def test_frames_about_connections_are_passed_over_and_an_upgrade_renews(line):
    assert line.hear_one({"event": "channel-conn-count", "channel": "candle1m", "connCount": "2", "connId": "a"}) == ""
    assert line.hear_one({"event": "notice", "code": "1", "msg": "for information", "connId": "a"}) == ""
    assert not line.connection.health.is_aged
    assert line.hear_one({"event": "notice", "code": "64008", "msg": "upgrade", "connId": "a"}) == ""
    assert line.connection.health.is_aged
    assert "fault" in line.hear_one({"event": "channel-conn-count-error", "channel": "x", "connCount": "30"})


def test_a_refusal_that_names_no_topic_voids_its_request(line):
    line.acknowledge("open-interest:BTC-USDT-SWAP")
    assert "fault" in line.hear_one({"event": "error", "code": "60012", "msg": "Illegal request", "id": "1"})
    sizes = []
    for _ in range(5):
        line.now_ms += 1_000
        sizes += [len(json.loads(text)["args"]) for text in line.send()]
    assert sorted(sizes) == [3, 4]


def test_a_liquidation_without_a_side_of_the_position_has_that_of_its_order(line):
    made = liquidated(BTC, (START + 500, "2"))
    del made["details"][0]["posSide"]
    line.acknowledge(ALL)
    assert line.take("liquidation-orders", made, instType="SWAP") == ""
    assert ("okx-lq", "BTC", 0, ("2.00", "0")) in line.rows(1)


def test_liquidations_are_read_by_the_terms_of_their_time(line):
    """The size of a contract changes in the middle of a minute."""
    line.acknowledge(ALL)
    line.now_ms += MINUTE_MS + 10_000
    line.take("liquidation-orders", liquidated(BTC, (line.now_ms, "1")), instType="SWAP")
    line.now_ms += 10_000
    listed = {"instType": "SWAP", "instId": BTC.name, "instFamily": "BTC-USDT", "ctType": "linear", "ctMult": "1"}
    listed |= {"settleCcy": "USDT", "state": "live", "listTime": "1573557408000", "expTime": ""}
    assert line.take("instruments", listed | {"ctVal": "0.010"}, {"instId": 5}, instType="SWAP") == ""
    assert not line.connection.health.contracts_changed
    assert line.take("instruments", listed | {"ctVal": "0.1"}, instType="SWAP") == ""
    assert line.connection.health.contracts_changed
    early_ms, late_ms = line.now_ms - 1, line.now_ms + 1
    line.take("liquidation-orders", liquidated(BTC, (early_ms, "2"), (late_ms, "5")), instType="SWAP")
    assert [row[3] for row in line.rows(2) if row[1:3] == ("BTC", 1)] == [("53.00", "0")]


def test_liquidations_that_cannot_be_read_cost_the_minute_of_their_contract(line):
    line.acknowledge(ALL)
    line.now_ms += MINUTE_MS + 10_000
    events = [liquidated(BTC, (line.now_ms, "1")), liquidated(ETH, (1, "1"))]
    assert "not a time" in line.take("liquidation-orders", *events, instType="SWAP")
    assert [row[1:3] for row in line.rows(3)] == [("BTC", 0), ("ETH", 0), ("BTC", 1), ("BTC", 2), ("ETH", 2)]


def test_details_of_several_contracts_and_minutes_are_sorted(line):
    line.acknowledge(ALL)
    events = liquidated(BTC, (START + MINUTE_MS + 1, "1"), (START + 1, "3"), (START + 2, "4"))
    line.now_ms += MINUTE_MS + 1
    line.take("liquidation-orders", OTHER, events, liquidated(ETH, (START + 1, "5")), instType="SWAP")
    line.take("liquidation-orders", liquidated(BTC, (START + 1, "3")), instType="SWAP")  # once more
    assert line.rows(2) == [
        ("okx-lq", "BTC", 0, ("7.00", "0")),
        ("okx-lq", "ETH", 0, ("50.0", "0")),
        ("okx-lq", "BTC", 1, ("1.00", "0")),
        ("okx-lq", "ETH", 1, None),
    ]


def test_where_no_topic_is_ever_confirmed_all_count_as_served(line):
    line.now_ms += 6_000
    line.hear(b"pong")
    line.check()
    assert line.send() == []
    assert [row[1:] for row in line.rows(2)] == [("BTC", 1, None), ("ETH", 1, None)]


def test_what_is_not_confirmed_is_asked_for_again_in_smaller_requests_and_then_abandoned(line):
    line.acknowledge(ALL)
    sizes = []
    for _ in range(2 + MAX_ATTEMPTS):
        line.now_ms += int(CONFIRM_S * 1000) + 1
        line.hear(b"pong")
        line.check()
        sent = []
        while text := line.connection.take_request(line.now_s + len(sent)):
            sent.append(text)
        sizes.append(sorted(len(json.loads(text)["args"]) for text in sent))
        line.now_ms += len(sent) * 1000
    assert sizes[:3] == [[3, 4], [1, 2, 2, 2], [1] * 7]
    assert any("topics are not confirmed" in error for error in line.errors())


def test_every_request_of_a_full_socket_fits_the_limits():
    socket = EXCHANGE.sockets[0]
    requests = socket.topics_per_socket / socket.topics_per_request * 2 + socket.topics_per_socket / 10
    assert requests + socket.topics_per_request < 480, "an hour's requests on one connection, all asked for three times"
    text = socket.subscribe([f"funding-rate:{'币' * 20}{n}-USDT-SWAP" for n in range(socket.topics_per_request)], 1)
    assert len(json.dumps(text).encode()) < 65_536


def test_contracts_that_cannot_be_read_cost_no_liquidations(line):
    line.acknowledge(ALL)
    line.now_ms += MINUTE_MS
    assert "unreadable" in line.take("instruments", *({"instId": number} for number in range(3)), instType="SWAP")
    assert [row[1:] for row in line.rows(2)] == [("BTC", 0, None), ("ETH", 0, None), ("BTC", 1, None), ("ETH", 1, None)]


def push(line, name, *details):
    """Hear liquidations of a contract."""
    data = [{"instType": "SWAP", "instId": name, "details": list(details)}]
    line.hear({"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": data})


def liquidate(ts, price="2"):
    return {"bkPx": price, "side": "sell", "posSide": "long", "sz": "1", "ts": str(ts)}


def follow(*contracts):
    """Return a connection that serves contracts since the minute before START."""
    line = lines.Line(EXCHANGE.sockets[0], lines.topics_of(EXCHANGE.stream_feeds, contracts), START - MINUTE_MS)
    for _ in range(10):
        line.now_ms += 500
        for text in line.send():
            for argument in json.loads(text)["args"]:
                line.hear({"event": "subscribe", "arg": argument, "connId": "a"})
    return line


def take_minute(line, contract):
    """Let the minute of START end on a connection that is alive; return the sums of liquidations by symbol."""
    line.now_ms = START + MINUTE_MS + 2 * GRACE_MS
    push(line, contract.name, liquidate(line.now_ms))
    rate = {"instId": contract.name, "fundingRate": "0.1", "premium": "0.1", "ts": str(line.now_ms)}
    line.hear({"arg": {"channel": "funding-rate", "instId": contract.name}, "data": [rate]})
    line.check()
    items = [item for item in line.buffer.take() if item.series.source == "okx-lq" and item.ts == START]
    return {item.series.symbol: item.row for item in items}


def test_the_channel_of_contracts_keeps_the_unit_under_which_a_contract_is_stored():
    """CAT is stored as 1000CAT; the channel's contract is read as CAT with a thousandfold size."""
    listed = {
        "instType": "SWAP",
        "instId": "1000CAT-USDT-SWAP",
        "instFamily": "1000CAT-USDT",
        "uly": "1000CAT-USDT",
        "ctType": "linear",
        "ctVal": "10",
        "ctMult": "1",
        "settleCcy": "USDT",
        "instCategory": "1",
        "state": "live",
        "listTime": "1573557408000",
        "expTime": "",
        "tickSz": "0.1",
        "lotSz": "1",
    }
    stored = Instrument(
        exchange="okx",
        code="okx",
        name="1000CAT-USDT-SWAP",
        symbol="1000CAT",
        contract_value="10",
        listed_ms=1573557408000,
    )
    (followed,) = disambiguate_symbols([parse_instrument(listed)], [stored])
    assert (followed.multiplier, followed.contract_value) == (1, "10")
    line = follow(followed)
    line.hear({"arg": {"channel": "instruments", "instType": "SWAP"}, "data": [listed]})
    line.now_ms = START + 30_000
    push(line, followed.name, liquidate(line.now_ms))
    assert take_minute(line, followed)["1000CAT"].lql == "20"  # one contract of ten coins at 2 USDT


def test_one_odd_detail_costs_its_contract_only():
    line = follow(BTC, ETH)
    line.now_ms = START + 30_000
    push(line, ETH.name, liquidate(START + 29_000))
    push(line, BTC.name, None)
    assert set(take_minute(line, ETH)) == {"ETH"}
