"""What a connection makes of its frames, good and bad; no socket is opened."""

import json
from dataclasses import replace

import pytest

from fademoe.clock import MINUTE_MS
from fademoe.errors import BadPayload
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.values import member, price, records, to_ms
from fademoe.metrics import Liquidations, Premium
from fademoe.signals import StopSignal
from fademoe.store.coverage import Series
from fademoe.streams import connection as connections
from fademoe.streams.address import Address
from fademoe.streams.buffer import Buffer
from fademoe.streams.connection import Broken, Connection
from fademoe.streams.minutes import GRACE_MS, Route

ADDRESS = Address(url="wss://x/ws", resolve=lambda: "wss://x/ws")
START = 1_767_225_600_000
END = START + MINUTE_MS
BTC, ETH = (Instrument(exchange="acme", code="acm", name=name, symbol=name) for name in ("BTC", "ETH"))


def route_frame(message):
    if "refused" in message:
        return Frame(topic=message["refused"], fault="unknown topic")
    if "heartbeat" in message:
        return Frame(reply="pong")
    return Frame(topic=member(message, "topic"), data=member(message, "data"), partial="partial" in message)


SOCKET = Socket(
    name="s",
    path="/ws",
    subscribe=lambda topics, number: json.dumps(topics),
    route=route_frame,
    topics_per_socket=10,
    topics_per_request=10,
    request_pause_s=0,
)
FEED = StreamFeed(
    metric="pfr",
    socket="s",
    topic=lambda instrument: f"premium.{instrument.name}",
    items=records,
    parse=lambda item, instrument: Premium(to_ms(member(item, "ts")), price(member(item, "p"))),
    source="made up",
)
LAST = replace(
    FEED,
    reduce=Reduce.LAST,
    merged=True,
    items=lambda data: [data],
    parse=lambda data, instrument: Premium(to_ms(member(data, "ts")), price(member(data, "p"))),
)
SUM = replace(
    FEED,
    metric="lq",
    reduce=Reduce.SUM,
    name="name",
    parse=lambda item, instrument: Liquidations(to_ms(item["ts"]), price(item["usd"]), "0"),
)


class Line:
    """A connection that is given frames, at a time that is set."""

    def __init__(self, *feeds):
        self.now_ms = START
        topic = {feed: self.routes(feed) for feed in feeds}
        self.buffer = Buffer()
        self.connection = Connection(SOCKET, ADDRESS, {"all": topic}, self.buffer, StopSignal(), lambda: self.now_ms)
        self.connection._minutes.watch_from(START)

    @staticmethod
    def routes(feed):
        found = {each.name: Route(feed, Series(f"acm-{feed.metric}", each.name), each) for each in (BTC, ETH)}
        return found if feed.name else {"": found["BTC"]}

    def take(self, *frames, at=1_000):
        self.now_ms = self.connection._alive_ms = START + at
        for frame in frames:
            self.connection.take(frame if isinstance(frame, bytes) else json.dumps({"topic": "all", **frame}).encode())

    def rows(self):
        """Return the rows of the first minute, and the number of errors."""
        self.now_ms = END + GRACE_MS
        self.buffer.put(self.connection._minutes.close(END + GRACE_MS, END))
        items = [item for item in self.buffer.take() if item.ts == START]
        return {item.series.symbol: item.row and item.row[1] for item in items}, len(self.buffer.take_faults())


def event(name, usd, ts=START + 500):
    return {"name": name, "ts": ts, "usd": usd}


def test_an_event_that_cannot_be_read_costs_the_sum_of_its_contract_only():
    line = Line(SUM)
    line.take({"data": [event("BTC", "1"), event("ETH", "2")]}, {"data": [event("BTC", "NaN"), event("ETH", "3")]})
    assert line.rows() == ({"ETH": "5"}, 1)


@pytest.mark.parametrize("frame", [b"<html>", b'{"topic":"all"', b'{"a":NaN}', b'{"data":[]}', {"data": {}}])
def test_a_frame_that_cannot_be_read_costs_the_sums_of_its_minute(frame):
    line = Line(SUM)
    line.take({"data": [event("BTC", "1")]}, frame)
    assert line.rows() == ({}, 1)


def test_a_refused_topic_is_not_taken_for_a_quiet_one():
    line = Line(SUM)
    line.connection._asked = [["all"]]
    line.take({"refused": "all"})
    assert line.rows() == ({}, 1)


@pytest.mark.parametrize("is_continuous", [True, False])
def test_where_topics_always_have_data_only_data_prove_that_a_minute_was_watched(is_continuous):
    line = Line(replace(SUM, continuous=is_continuous))
    line.now_ms = line.connection._alive_ms = END + GRACE_MS  # a pong came
    line.connection._look(10.0, 0.0)
    assert [item.ts for item in line.buffer.take()] == [START] * 2 * (not is_continuous)
    line.take({"data": []}, at=MINUTE_MS + GRACE_MS)
    line.connection._look(10.0, 0.0)
    assert [item.ts for item in line.buffer.take()] == [START] * 2 * is_continuous


def test_changes_are_merged_and_nothing_is_known_before_a_snapshot_or_after_a_lost_frame():
    line = Line(LAST)
    line.take({"data": {"p": "1", "ts": START + 1}, "partial": 1})
    assert line.rows() == ({}, 0)
    line.take({"data": {"p": "2", "ts": START + 2}}, {"data": {"ts": START + 3}, "partial": 1})
    assert line.rows() == ({"BTC": "2"}, 0)
    line = Line(LAST)
    line.take({"data": {"p": "2", "ts": START + 2}}, b"{", {"data": {"ts": START + 3}, "partial": 1})
    assert line.rows() == ({}, 1)
    line.connection._look(30.0, 0.0)
    with pytest.raises(Broken, match="could not be read"):
        line.connection._look(61.0, 0.0)


def test_one_feed_of_a_topic_does_not_suffer_for_the_other():
    line = Line(LAST, replace(LAST, metric="ppr", parse=lambda data, instrument: [Premium(START, price(data["x"]))]))
    line.take({"data": {"p": "2", "ts": START + 2, "x": "-1"}})
    assert line.rows() == ({"BTC": "2"}, 1)


def test_a_bar_off_the_grid_is_bad_and_errors_of_one_cause_are_told_once_a_minute():
    line = Line(FEED)
    line.take(*({"data": [{"ts": START + 1, "p": "1"}]} for _ in range(20)), at=MINUTE_MS)
    line.take({"data": [{"ts": START, "p": "3"}]}, at=MINUTE_MS)
    assert line.rows() == ({"BTC": "3"}, 1)


def test_the_patience_with_a_topic_that_often_has_nothing_to_say_doubles():
    line = Line(FEED)
    waits, now_s = [], 1000.0
    for _ in range(8):
        line.connection._heard["all"] = now_s
        waited_s = 0
        while waited_s < 10_000:
            waited_s += 10
            line.connection.health.last_data_s = line.connection._alive_s = now_s + waited_s
            try:
                line.connection._look(now_s + waited_s, now_s)
            except Broken:
                break
        waits.append(waited_s)
        now_s += waited_s
    assert waits == [190, 370, 730, 1450, 2890, 5770, 5770, 5770]


def test_a_topic_that_never_has_data_is_given_up_after_three_sessions():
    line = Line(FEED)
    for session in range(3):
        line.connection.health.last_data_s = line.connection._alive_s = 1000.0
        if session < connections.HOPELESS:
            with pytest.raises(Broken, match="silent"):
                line.connection._look(1000.0, 0.0)
    line.connection._look(1000.0, 0.0)
    (fault,) = [error for _, error in line.buffer.take_faults()]
    assert isinstance(fault, BadPayload)
    assert "never has data" in str(fault)


def test_a_socket_on_which_nothing_but_pongs_come_is_given_up():
    bars = Line(replace(FEED, continuous=False))
    bars.connection._alive_s, bars.connection.health.last_data_s = 500.0, 320.0
    bars.connection._look(500.0, 0.0)
    with pytest.raises(Broken, match="no data for 180 s"):
        bars.connection._look(501.0, 0.0)
    events = Line(replace(SUM, continuous=False))  # where hours may pass without one
    events.connection._alive_s = 500.0
    events.connection._look(501.0, 0.0)
    with pytest.raises(Broken, match="no sign of life"):
        events.connection._look(600.0, 0.0)


def test_a_connection_that_is_to_be_cut_soon_asks_for_another_one():
    line = Line(FEED)
    line.connection.socket = replace(SOCKET, renew_after_s=100)
    line.connection._alive_s = line.connection.health.last_data_s = 100.0
    line.connection._look(100.0, 0.0)
    assert not line.connection.health.aged
    line.connection._look(101.0, 0.0)
    assert line.connection.health.aged


# heartbeats and bars without a mark of their end


BAR = replace(FEED, reduce=Reduce.BAR)


def bar(price, minute=0):
    return {"data": [{"ts": START + minute * MINUTE_MS, "p": price}]}


def test_a_heartbeat_of_the_server_is_answered_at_once():
    line = Line(SUM)
    assert line.connection.take(b'{"heartbeat":1}') == "pong"
    assert line.connection.take(b'{"topic":"all","data":[]}') is None
    assert line.rows() == ({"BTC": None, "ETH": None}, 0)


def test_a_bar_is_final_when_the_next_one_comes_and_in_its_last_state():
    line = Line(BAR)
    line.take(bar("1"), bar("2"), at=30_000)
    line.buffer.put(line.connection._minutes.close(START + 30_000, START + 30_000))
    assert not len(line.buffer), "the running bar is never stored"
    line.take(bar("3"), bar("9", minute=1), bar("4"), at=MINUTE_MS + 100)
    line.buffer.put(line.connection._minutes.close(line.now_ms, line.now_ms))
    assert [(item.ts, item.row.pfr) for item in line.buffer.take()] == [(START, "3")], "a state that comes late is old"


def test_a_bar_without_a_next_one_is_final_after_a_grace():
    line = Line(BAR)
    line.take(bar("1"), at=59_000)
    early_ms = END + GRACE_MS - 1
    assert line.connection._minutes.close(early_ms, early_ms) == []
    assert line.connection._minutes.close(END + GRACE_MS, END - 1) == [], "the connection was not alive at its end"
    assert line.rows() == ({"BTC": "1"}, 0)


def test_a_bar_whose_connection_broke_is_not_known():
    line = Line(BAR)
    line.take(bar("1"), at=59_000)
    line.connection._minutes.watch_from(None)
    line.take(bar("9", minute=1), at=MINUTE_MS + 100)
    assert line.rows() == ({}, 0)


def test_a_bar_off_the_grid_or_of_a_time_to_come_is_bad():
    line = Line(BAR)
    line.take({"data": [{"ts": START + 1, "p": "1"}]}, bar("1", minute=1), at=1_000)
    assert line.rows() == ({}, 2)


def test_numbers_of_a_message_keep_their_digits():
    prices = []
    line = Line(replace(LAST, parse=lambda data, instrument: prices.append(data["p"])))
    line.take(b'{"topic":"all","data":{"p":0.10000000000000000001}}')
    assert str(prices[0]) == "0.10000000000000000001"
