"""Binance over WebSocket, as a plain client sees it."""

import itertools
import json
import time
from contextlib import suppress
from decimal import Decimal

import websocket

MINUTE_MS = 60_000
SYMBOLS = ["BTCUSDT", "ETHUSDT", "1000PEPEUSDT", "C98USDT", "API3USDT", "币安人生USDT", "SANDUSDT", "RUNEUSDT"]


def subscribe(socket, *names, number=1, method="SUBSCRIBE"):
    """Send a request."""
    socket.send(json.dumps({"method": method, "params": list(names), "id": number}))


def is_closed(message):
    """Tell whether a message is a closed kline."""
    return message.get("data", message).get("k", {}).get("x") is True


def test_closed_candles_are_sent_once_and_equal_the_truth(sim, connect):
    """They come 0.2 to 2.0 s after the close, among events of the next minute, with trades of no earlier event."""
    minute_ms = sim.set_second(59)
    names = [f"{symbol.lower()}@kline_1m" for symbol in SYMBOLS]
    socket = connect("/market/stream?streams=" + "/".join(names[:2]))
    subscribe(socket, *names[2:])
    events = [message["data"] for message in sim.receive_for(socket, 3.4) if "data" in message]
    ends = [event for event in events if event["k"]["x"]]
    truth = {symbol: sim.truth("ohlcv", symbol, minute_ms, minute_ms + 1) for symbol in SYMBOLS}
    assert sorted(event["s"] for event in ends) == sorted(symbol for symbol in SYMBOLS if truth[symbol])
    for event in ends:
        bar, coins = event["k"], 1000 if event["s"].startswith("1000") else 1
        (true,) = truth[event["s"]]
        assert (bar["t"], bar["T"], bar["i"], bar["s"]) == (minute_ms, minute_ms + MINUTE_MS - 1, "1m", event["s"])
        assert [Decimal(bar[name]) / coins for name in "ohlc"] == [Decimal(true[name]) for name in "ohlc"]
        assert (Decimal(bar["v"]) * coins, Decimal(bar["q"])) == (Decimal(true["v"]), Decimal(true["qv"]))
        assert (str(bar["n"]), Decimal(bar["V"]) * coins) == (true["n"], Decimal(true["tbv"]))
        assert bar["L"] - bar["f"] + 1 == bar["n"] or (bar["n"], bar["f"], bar["L"]) == (0, -1, -1)
        assert 200 <= event["E"] - (minute_ms + MINUTE_MS) <= 2_500
    first_of_next = next(index for index, event in enumerate(events) if event["k"]["t"] > minute_ms)
    assert first_of_next < max(index for index, event in enumerate(events) if event["k"]["x"])
    bars = [event["k"] for event in events if event["s"] == "BTCUSDT" and event["k"]["t"] == minute_ms]
    assert 3 <= len(bars) <= 10 and [bar["x"] for bar in bars] == [False] * (len(bars) - 1) + [True]
    assert all(before["n"] < bar["n"] for before, bar in itertools.pairwise(bars))
    assert all(Decimal(bar["l"]) <= Decimal(bar["c"]) <= Decimal(bar["h"]) for bar in bars)
    rows = sim.rows("/fapi/v1/klines", symbol="BTCUSDT", interval="1m", startTime=minute_ms, endTime=minute_ms)
    assert rows[0][4] == next(event["k"]["c"] for event in ends if event["s"] == "BTCUSDT")


def test_a_missing_candle_is_not_streamed(sim, connect, market):
    """REST and stream lack the same minutes."""
    instrument = market.world.find_instrument("binance", "BTCUSDT")
    day = sim.now_ms() // 86_400_000
    ts = next(
        day * 86_400_000 + minute * MINUTE_MS
        for day in itertools.count(day)
        for minute in sorted(market.holes.minutes(instrument, day, "candle"))
        if minute - 1 not in market.holes.minutes(instrument, day, "candle") and minute
    )
    sim.set_time(ts - 600)
    socket = connect("/market/ws/btcusdt@kline_1m")
    bars = [event["k"] for event in sim.receive_for(socket, 2.8)]
    assert {bar["t"] for bar in bars} == {ts - MINUTE_MS} and bars[-1]["x"]


def test_unknown_streams_are_acknowledged_and_silent(sim, connect):
    """Upper case symbols too; acks have no envelope."""
    socket = connect("/market/stream")
    subscribe(socket, "BTCUSDT@kline_1m", "nosuchusdt@kline_1m", "btcusdt@nosuch", number=7)
    assert json.loads(socket.recv()) == {"result": None, "id": 7}
    subscribe(socket, "ethusdt@kline_1m", number=8)
    subscribe(socket, number=9, method="LIST_SUBSCRIPTIONS")
    messages = sim.receive_for(socket, 0.9)
    assert {"result": None, "id": 8} in messages
    names = ["BTCUSDT@kline_1m", "nosuchusdt@kline_1m", "btcusdt@nosuch", "ethusdt@kline_1m"]
    assert {"result": names, "id": 9} in messages
    assert {message["stream"] for message in messages if "stream" in message} == {"ethusdt@kline_1m"}
    subscribe(socket, "ethusdt@kline_1m", number=10, method="UNSUBSCRIBE")
    sim.receive_until(socket, lambda message: message.get("id") == 10)
    assert sim.receive_for(socket, 0.6) == []


def test_invalid_requests_get_an_error(connect):
    """An unknown method is answered; text that is not JSON closes the socket."""
    socket = connect("/market/ws")
    subscribe(socket, method="NOSUCH", number=3)
    answer = json.loads(socket.recv())
    assert answer["error"]["code"] == 2 and answer["id"] == 3
    socket.send("not json")
    assert json.loads(socket.recv())["error"]["code"] == 3
    assert receive_close_code(socket) == 1008


def receive_close_code(socket):
    """Return the code of the server's close frame; None when the connection ends without one."""
    with suppress(websocket.WebSocketConnectionClosedException):
        while True:
            frame = socket.recv_frame()  # answers nothing by itself
            if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(frame.data[:2], "big")
    return None


def test_ws_sends_plain_payloads_and_stream_sends_envelopes(sim, connect):
    """SET_PROPERTY switches."""
    raw, wrapped = connect("/market/ws/btcusdt@markPrice@1s"), connect("/market/stream?streams=btcusdt@markPrice@1s")
    assert json.loads(raw.recv())["e"] == "markPriceUpdate"
    event = json.loads(wrapped.recv())
    assert event["stream"] == "btcusdt@markPrice@1s" and event["data"]["s"] == "BTCUSDT"
    wrapped.send(json.dumps({"method": "SET_PROPERTY", "params": ["combined", False], "id": 1}))
    sim.receive_until(wrapped, lambda message: message.get("id") == 1)
    assert json.loads(wrapped.recv())["e"] == "markPriceUpdate"


def test_other_paths_acknowledge_and_send_no_data(sim, connect):
    """Only /market has data."""
    paths = ("/ws", "/stream?streams=btcusdt@kline_1m", "/public/ws/btcusdt@kline_1m", "/private/ws")
    sockets = [connect(path) for path in paths]
    for socket in sockets:
        subscribe(socket, "btcusdt@kline_1m", "btcusdt@markPrice@1s")
    time.sleep(1.1)
    assert [sim.receive_for(socket, 0.05) for socket in sockets] == [[{"result": None, "id": 1}]] * 4


def test_the_1025th_stream_closes_the_socket(connect):
    """An error without id, then close code 1008."""
    socket = connect("/market/stream")
    for part in range(6):
        names = [f"x{number}usdt@kline_1m" for number in range(part * 200, min(1_025, part * 200 + 200))]
        subscribe(socket, *names, number=part)
    answers = [json.loads(socket.recv()) for _ in range(6)]
    assert answers[:5] == [{"result": None, "id": part} for part in range(5)]
    assert answers[5] == {"error": {"code": 4, "msg": "Too many subscriptions"}}
    assert receive_close_code(socket) == 1008


def test_more_than_ten_messages_a_second_close_the_socket(connect):
    """Ten messages are answered."""
    socket = connect("/market/ws")
    with suppress(websocket.WebSocketConnectionClosedException, ConnectionError):
        for number in range(20):
            subscribe(socket, number=number, method="LIST_SUBSCRIPTIONS")
    assert [json.loads(socket.recv())["id"] for _ in range(10)] == list(range(10))
    assert receive_close_code(socket) == 1008


def test_mark_prices_are_two_frames_a_second(sim, connect):
    """Crypto with COIN-M rows (st 2) and rows without funding (T 0); TradFi separately."""
    minute_ms = sim.set_second(20.8)
    socket = connect("/market/ws/!markPrice@arr@1s")
    frames = [frame for frame in sim.receive_for(socket, 3.5) if frame[0]["E"] >= minute_ms + 21_000]
    tradfi, crypto = min(frames, key=len), max(frames, key=len)
    assert {row["s"] for row in tradfi} == {"XAUUSDT", "XAGUSDT"} and tradfi[0]["st"] == 1
    assert len(crypto) > 50
    assert len({frame[0]["E"] for frame in frames}) > len(frames) // 2  # the two of a second differ
    assert [row["s"] for row in crypto if row["st"] == 2][:2] == ["BTCUSD_PERP", "ETHUSD_PERP"]
    assert {"OMGUSDT"} <= {row["s"] for row in crypto if row["T"] == 0 and row["r"] == "0.00000000"}
    assert set(crypto[0]) == {"e", "E", "s", "p", "ap", "P", "i", "r", "T", "st"}
    assert 4 <= len(frames) <= 8


def test_liquidations_are_single_frames_a_second_late_with_the_sum_of_the_truth(sim, connect, market):
    """S is the side of the closing order, st and ps are members of o, the value is ap times z."""
    instrument = market.world.find_instrument("binance", "BTCUSDT")
    minute_ms = sim.now_ms() // MINUTE_MS * MINUTE_MS
    ts, events = next(
        (ts, events)
        for ts in itertools.count(minute_ms, MINUTE_MS)
        if (events := market.liquidations.list_largest_per_second(instrument, ts))
        and events[-1].ts - events[0].ts < 1_500
    )
    sim.set_time(events[0].ts)
    socket = connect("/market/stream?streams=!forceOrder@arr/btcusdt@forceOrder")
    frames = sim.receive_for(socket, 1.4 + (events[-1].ts - events[0].ts) / 1000)
    own_frames = [frame["data"] for frame in frames if frame["stream"] == "btcusdt@forceOrder"]
    assert [frame["data"] for frame in frames if frame["data"]["o"]["s"] == "BTCUSDT"][::2] == own_frames
    assert len(own_frames) == len(events)
    for frame, event in zip(own_frames, events, strict=True):
        order = frame["o"]
        assert (order["T"], order["S"]) == (event.ts, "SELL" if event.side == "long" else "BUY")
        assert (order["st"], order["ps"], order["X"]) == (1, "BTCUSDT", "FILLED")
        assert 1_000 <= frame["E"] - order["T"] < 1_500
    sim.set_time(ts + 2 * MINUTE_MS)
    (true,) = sim.truth("lq", "BTC", ts, ts + 1)
    value = sum(Decimal(frame["o"]["ap"]) * Decimal(frame["o"]["z"]) for frame in own_frames)
    assert value == Decimal(true["lqs"]) + Decimal(true["lql"])


def test_pings_and_lifetime_are_options(other):
    """Protocol pings carry the time; after its lifetime a socket is closed."""
    socket = other.connect("/market/ws")
    opcode, data = socket.recv_data(control_frame=True)
    assert opcode == websocket.ABNF.OPCODE_PING and abs(int(data) - other.now_ms()) < 1_000
    assert receive_close_code(socket) == 1001


def test_contract_changes_are_published(other):
    """!contractInfo reports a delisting."""
    socket = other.connect("/market/ws/!contractInfo")
    end_ms = other.now_ms() + 86_400_000
    other.post("/sim/contracts", {"exchange": "binance", "instrument": "SANDUSDT", "delisted_ms": end_ms})
    event = json.loads(socket.recv())
    assert (event["e"], event["s"], event["dt"], event["cs"]) == ("contractInfo", "SANDUSDT", end_ms, "TRADING")


def test_a_quiet_minute_has_one_event_at_its_close(sim, connect, market):
    """Flat, without trades and trade ids, two seconds late; no event before it."""
    instrument = market.world.find_instrument("binance", "C98USDT")
    minute_ms = sim.now_ms() // MINUTE_MS * MINUTE_MS
    ts = next(
        ts
        for ts in itertools.count(minute_ms, MINUTE_MS)
        if (bar := market.candles.read_bar(instrument, ts)) and not bar.trades
    )
    sim.set_time(ts + 59_800)
    socket = connect("/market/ws/c98usdt@kline_1m")
    event = sim.receive_until(socket, lambda event: event["k"]["t"] == ts)
    bar = event["k"]
    assert bar["x"] is True and 2_000 <= event["E"] - ts - MINUTE_MS < 2_500
    assert (bar["f"], bar["L"], bar["n"], bar["v"], bar["V"]) == (-1, -1, 0, "0", "0")
    assert bar["o"] == bar["h"] == bar["l"] == bar["c"]
