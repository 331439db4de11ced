"""Bybit over WebSocket: as a plain client sees it, and as FadeMoe's declaration reads it."""

import itertools
import json
from collections import defaultdict
from decimal import Decimal

import pytest
import websocket

from fademoe.clock import MINUTE_MS, floor_to
from fademoe.exchanges.bybit import EXCHANGE
from fademoe.exchanges.bybit.stream import route
from fademoe.feeds.instrument import Instrument
from fademoe.metrics import METRICS
from fademoe.testing.readers import read_message
from tests.support.lines import Line, topics_of
from tests.support.stepped import SteppedWorld

LINEAR = "/v5/public/linear"
CONTRACTS = [
    Instrument(exchange="bybit", code="byb", name=name, symbol=symbol, multiplier=multiplier)
    for name, symbol, multiplier in (
        ("BTCUSDT", "BTC", 1),
        ("1000PEPEUSDT", "PEPE", 1000),
        ("SHIB1000USDT", "SHIB", 1000),
        ("币安人生USDT", "币安人生", 1),
        ("C98USDT", "C98", 1),
        ("ALGOUSDT", "ALGO", 1),
    )
]
QUIET_MS = 1_789_871_040_000  # VETUSDT has three minutes without trades from here on
LOST, DOUBLE, LATE = "ETHUSDT", "SOLUSDT", "XRPUSDT"


def send_request(socket, op, *topics, **more):
    """Send a request."""
    socket.send(json.dumps({"op": op, "args": list(topics), **more}))


def receive_reply(sim, socket):
    """Return the next message without a topic."""
    return sim.receive_until(socket, lambda message: "topic" not in message)


def read_truth(sim, metric, symbol, start_ms, end_ms, **query):
    """Return the rows of the truth."""
    query |= {"exchange": "bybit", "metric": metric, "symbol": symbol, "from": start_ms, "to": end_ms}
    return sim.rows("/sim/truth", **query)["rows"]


def parse_messages(messages, contracts):
    """Return (metric, contract) -> rows as the declaration reads the messages; tickers are merged."""
    rows, states = defaultdict(list), {}
    by_topic = [(feed.topic(contract), feed, contract) for feed in EXCHANGE.stream_feeds for contract in contracts]
    for frame in map(route, messages):
        data = frame.data
        if isinstance(data, dict):
            data = states[frame.topic] = states[frame.topic] | data if frame.partial else data
        for topic, feed, contract in by_topic:
            if topic == frame.topic:
                rows[feed.metric, contract.name] += read_message(feed, data, contract)
    return rows


def find_complete_minute(market, now_ms):
    """Return the next minute such that neither it nor the following minute is missing."""
    contracts = [market.world.find_instrument("bybit", name) for name in ("BTCUSDT", LOST, DOUBLE, LATE)]
    minutes = itertools.count(floor_to(now_ms, MINUTE_MS) + MINUTE_MS, MINUTE_MS)
    return next(
        minute_ms
        for minute_ms in minutes
        if all(
            market.candles.read_bar(contract, ts) for contract in contracts for ts in (minute_ms, minute_ms + MINUTE_MS)
        )
    )


def is_same(row, true):
    """Tell whether a row has the values of the truth."""
    return all(
        (value is None) == (true[name] is None) and (value is None or Decimal(value) == Decimal(true[name]))
        for name, value in row._asdict().items()
    )


def test_closed_candles_and_the_last_tickers_of_a_minute_equal_the_truth(sim, connect, market):
    """In coins and for one side; faults drop, repeat and delay a candle."""
    for kind, symbol in (("lost_close", LOST), ("duplicate_close", DOUBLE), ("late_bars", LATE)):
        sim.fault(kind=kind, exchange="bybit", symbol=symbol, seconds=0.5)
    minute_ms = find_complete_minute(market, sim.now_ms())
    sim.set_time(minute_ms + 58_500)
    socket = connect(LINEAR)
    names = [contract.name for contract in CONTRACTS]
    send_request(socket, "subscribe", *(f"kline.1.{name}" for name in (*names, LOST, DOUBLE, LATE)))
    send_request(socket, "subscribe", *(f"tickers.{name}" for name in names))
    messages = sim.receive_for(socket, 4.7)
    rows = parse_messages(messages, CONTRACTS)
    sim.set_time(minute_ms + 5 * MINUTE_MS)
    for contract in CONTRACTS:
        (candle,) = rows["ohlcv", contract.name] or [None]
        (true,) = read_truth(sim, "ohlcv", contract.name, minute_ms, minute_ms + 1) or [None]
        assert (candle is None and true is None) or is_same(candle, true)
        for metric in ("ppr", "oi"):
            samples = [row for row in rows[metric, contract.name] if floor_to(row.ts, MINUTE_MS) == minute_ms]
            ts = METRICS[metric].stamp(samples[-1].ts, MINUTE_MS)
            (true,) = read_truth(sim, metric, contract.name, ts, ts + 1, step=MINUTE_MS)
            assert is_same(samples[-1]._replace(ts=ts), true)
            assert rows[metric, contract.name][-1].ts > minute_ms + MINUTE_MS
    closes = {name: [] for name in (LOST, DOUBLE, LATE)}
    for message in messages:
        name = message.get("topic", "").removeprefix("kline.1.")
        if name in closes:
            closes[name] += [message["ts"] for bar in message["data"] if bar["confirm"]]
    assert closes[LOST] == []
    assert closes[DOUBLE][1] - closes[DOUBLE][0] > 900
    assert 700 <= closes[LATE][0] - (minute_ms + MINUTE_MS) <= 3_000
    check_shapes(messages)


def check_shapes(messages):
    """Check the shape of each kind of message."""
    tickers = [message for message in messages if message.get("topic") == "tickers.BTCUSDT"]
    assert [message["type"] for message in tickers] == ["snapshot"] + ["delta"] * (len(tickers) - 1)
    assert len(tickers) > 15
    assert {"openInterest", "singleOpenInterest", "fundingRate", "nextFundingTime"} <= set(tickers[0]["data"])
    turned = [set(message["data"]) for message in tickers[1:] if "openInterestValue" in message["data"]]
    assert turned and not any("openInterest" in names for names in turned), "the value may come alone"
    assert max(len(message["data"]) for message in tickers[2:]) < 9, "deltas are sparse"
    bars = [bar for message in messages if message.get("topic") == "kline.1.BTCUSDT" for bar in message["data"]]
    assert 3 <= sum(not bar["confirm"] for bar in bars) <= 7, "once a second"
    assert all(bar["end"] == bar["start"] + 59_999 and bar["interval"] == "1" for bar in bars)
    assert sum(message.get("op") == "subscribe" and message["success"] for message in messages) == 2, (
        "one ack for a request"
    )


def test_one_invalid_topic_voids_its_request_and_is_named(sim, connect):
    """Unknown and lower case symbols, removed and repeated topics; only the first invalid one is named."""
    socket = connect(LINEAR)
    send_request(socket, "subscribe", "tickers.BTCUSDT", req_id="1")
    assert receive_reply(sim, socket) | {"conn_id": ""} == {
        "success": True,
        "ret_msg": "",
        "conn_id": "",
        "req_id": "1",
        "op": "subscribe",
    }
    for bad, words in (
        ("kline.1.NOPEUSDT", "handler not found"),
        ("kline.1.ethusdt", "handler not found"),
        ("kline.1.OMGUSDT", "handler not found"),
        ("liquidation.ETHUSDT", "handler not found"),
        ("tickers.BTCUSDT", "already subscribed"),
    ):
        send_request(socket, "subscribe", "tickers.ETHUSDT", bad, "tickers.NOPE", req_id=bad)
        refusal = receive_reply(sim, socket)
        assert (refusal["success"], refusal["req_id"]) == (False, bad)
        assert refusal["ret_msg"] == f"error:{words},topic:{bad}"
        assert bad in (route(refusal).topic, *route(refusal).acked)
    assert not any(message.get("topic") == "tickers.ETHUSDT" for message in sim.receive_for(socket, 0.4))
    assert sim.get("/sim/stats").json()["bybit"]["subscriptions"] == 1


def test_pings_are_texts_and_invalid_requests_leave_the_socket_open(sim, connect):
    """An invalid request gets an error."""
    socket = connect(LINEAR)
    socket.send(EXCHANGE.sockets[0].ping_text)
    pong = receive_reply(sim, socket)
    assert (pong["success"], pong["ret_msg"], pong["req_id"], pong["op"]) == (True, "pong", "", "ping")
    for text, detail in (("what?", "Failed to decode incoming data:"), ('{"op":"shout"}', "error:invalid op")):
        socket.send(text)
        answer = receive_reply(sim, socket)
        assert answer["success"] is False
        assert answer["ret_msg"].startswith(detail)
        assert route(answer).fault == answer["ret_msg"]


def test_a_topic_continues_after_resubscribing_and_after_a_change_of_the_clock(sim, connect):
    """A new subscription starts with a snapshot."""
    socket = connect(LINEAR)
    send_request(socket, "subscribe", "tickers.BTCUSDT")
    sim.receive_until(socket, lambda message: message.get("type") == "delta")
    send_request(socket, "unsubscribe", "tickers.BTCUSDT")
    sim.receive_until(socket, lambda message: message.get("op") == "unsubscribe")
    assert sim.receive_for(socket, 0.3) == []
    send_request(socket, "subscribe", "tickers.BTCUSDT")
    sim.receive_until(socket, lambda message: message.get("type") == "snapshot")
    sim.receive_until(socket, lambda message: message.get("type") == "delta")
    later_ms = sim.now_ms() + 7 * MINUTE_MS
    sim.set_time(later_ms)
    sim.receive_until(socket, lambda message: message.get("ts", 0) >= later_ms)


def test_liquidations_are_arrays_with_the_sum_of_the_truth(sim, connect, market):
    """Longs are Buy, at the bankruptcy price; frames come within 0.6 s."""
    instrument = market.world.find_instrument("bybit", "ETHUSDT")
    minutes = itertools.count(floor_to(sim.now_ms(), MINUTE_MS) + MINUTE_MS, MINUTE_MS)
    bursts = (
        (minute_ms, events)
        for minute_ms in minutes
        if (events := market.liquidations.list_in_minute(instrument, minute_ms))
        and len({event.side for event in events}) == 2
    )
    minute_ms, events = next(pair for pair in bursts if len(pair[1]) > 3 and pair[1][-1].ts - pair[1][0].ts < 1_000)
    sim.set_time(events[0].ts - 400)
    socket = connect(LINEAR)
    send_request(socket, "subscribe", "allLiquidation.ETHUSDT")
    span_s = (events[-1].ts - events[0].ts) / 1000 + 1.2
    frames = [
        message for message in sim.receive_for(socket, span_s) if message.get("topic") == "allLiquidation.ETHUSDT"
    ]
    assert len(frames) < len(events) == sum(len(frame["data"]) for frame in frames)
    assert all(0 < frame["ts"] - event["T"] < 900 for frame in frames for event in frame["data"])
    rows = parse_messages(frames, [Instrument(exchange="bybit", code="byb", name="ETHUSDT", symbol="ETH")])[
        "lq", "ETHUSDT"
    ]
    sim.set_time(minute_ms + 2 * MINUTE_MS)
    (true,) = read_truth(sim, "lq", "ETH", minute_ms, minute_ms + 1)
    for name in ("lql", "lqs"):
        assert sum(Decimal(getattr(row, name)) for row in rows) == Decimal(true[name]) > 0


def test_idle_sockets_are_cut_and_topics_have_a_limit_of_characters(start):
    """The idle socket gets no close frame; one with a topic stays."""
    sim = start("--bybit-idle-s", "0.3", "--bybit-args-limit", "40")
    idle, busy = sim.connect(LINEAR), sim.connect(LINEAR)
    send_request(busy, "subscribe", "kline.1.BTCUSDT", "tickers.BTCUSDT")
    assert receive_reply(sim, busy)["success"]
    send_request(busy, "subscribe", "tickers.ETHUSDT")
    assert not receive_reply(sim, busy)["success"]
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionResetError)):
        idle.recv()
    assert sim.receive_until(busy, lambda message: message.get("type") == "delta")


def test_a_minute_without_trades_may_have_no_message():
    """With --bybit-no-quiet-candles; its neighbours have theirs."""
    contract = Instrument(exchange="bybit", code="byb", name="VETUSDT", symbol="VET")
    world = SteppedWorld(QUIET_MS - MINUTE_MS, "--bybit-no-quiet-candles")
    feed = next(feed for feed in EXCHANGE.stream_feeds if feed.metric == "ohlcv")
    line = Line(EXCHANGE.sockets[0], topics_of([feed], [contract]), world.clock.at_ms)
    world.connect("bybit", line)
    heard = []
    for at_ms in range(QUIET_MS - MINUTE_MS, QUIET_MS + 4 * MINUTE_MS, MINUTE_MS):
        world.run_until(at_ms + 10_000)  # the minute before was closed by then
        before = line.connection.health.messages
        world.run_until(at_ms + MINUTE_MS)
        heard.append(line.connection.health.messages > before)
    assert heard == [True, False, False, False, True]
    assert {item.ts for item in line.items()} == {QUIET_MS - 2 * MINUTE_MS, QUIET_MS - MINUTE_MS}
