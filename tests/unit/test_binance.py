"""Binance's parsers with recorded answers, value by value."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.exchanges.binance import EXCHANGE, history, stream
from fademoe.exchanges.binance.answers import judge
from fademoe.feeds.answers import Answer, Closes
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.stream import Frame
from fademoe.metrics import (
    Candle,
    Funding,
    Liquidations,
    LongShortRatio,
    OpenInterest,
    PredictedFunding,
    Premium,
)
from fademoe.testing.readers import read_contracts, read_message, read_rows
from tests.support.pages import fetch_with

FOLDER = Path(__file__).parent.parent / "recordings" / "binance"
STREAMS = {feed.metric: feed for feed in EXCHANGE.stream_feeds}
T = 1_791_382_920_000
NEVER_MS = 4_133_404_800_000
SPANS_MS = {"1m": MINUTE_MS, "5m": 5 * MINUTE_MS, "1d": 24 * HOUR_MS}
READ = {"errors", "exchangeInfo", "fundingRate", "globalLongShortAccountRatio", "klines", "openInterest"} | {
    "openInterestHist",
    "premiumIndexKlines",
    "time_ping",
}
HEARD = {"control", "forceOrder", "kline_1m", "markPrice"}
UNUSED = {"fundingInfo", "premiumIndex", "takerlongshortRatio"}  # no feed asks for these


def recorded(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def contract(name, symbol=None, multiplier=1):
    symbol = symbol or name.removesuffix("USDT")
    return Instrument(exchange="binance", code="bin", name=name, symbol=symbol, multiplier=multiplier)


def read(metric, recording):
    feed = EXCHANGE.find_rest_feed(metric)
    name = recording["request"]["params"]["symbol"]
    page = Page(instrument=contract(name), start_ms=0, end_ms=0, limit=0)
    return read_rows(feed, recording["payload"], page)


def test_every_recording_is_replayed_here():
    assert {path.stem for path in FOLDER.glob("*.json")} == {
        *(f"rest_{name}" for name in READ | UNUSED),
        *(f"ws_{name}" for name in HEARD),
    }


@pytest.mark.parametrize("name", sorted(UNUSED))
def test_what_no_feed_asks_for_is_refused_by_every_reader(name):
    for recording in recorded(f"rest_{name}"):
        payload = recording["payload"]
        for item in payload if isinstance(payload, list) else [payload]:
            for feed in (*EXCHANGE.rest_feeds, *EXCHANGE.poll_feeds):
                with pytest.raises(BadPayload):
                    feed.parse(item, contract(item.get("symbol", "BTCUSDT")))


def test_recorded_klines_are_read_as_sent_and_only_of_the_interval_that_was_asked_for():
    for recording in recorded("rest_klines"):
        payload = recording["payload"]
        items = payload if isinstance(payload, list) else [payload["first_row"], *payload["last_two_rows"]]
        interval_ms = SPANS_MS[recording["request"]["params"]["interval"]]
        instrument = contract(recording["request"]["params"]["symbol"])
        for item in items:
            if interval_ms != MINUTE_MS:
                with pytest.raises(BadPayload, match="not a minute after"):
                    history.parse_kline(item, instrument)
                item = [*item[:6], item[0] + MINUTE_MS - 1, *item[7:]]
            row = history.parse_kline(item, instrument)
            assert row == Candle(item[0], *item[1:6], item[7], item[8], item[9])


def test_the_recorded_lists_keep_crypto_perpetuals_in_usdt_with_their_lives():
    for recording in recorded("rest_exchangeInfo"):
        found = read_contracts(EXCHANGE, recording["payload"])
        assert [(each.name, each.symbol, each.listed_ms, each.delisted_ms) for each in found] == [
            (
                item["symbol"],
                item["baseAsset"],
                item["onboardDate"],
                None if item["deliveryDate"] == NEVER_MS else item["deliveryDate"],
            )
            for item in recording["payload"]["symbols"]
            if (item["contractType"], item["quoteAsset"], item["underlyingType"]) == ("PERPETUAL", "USDT", "COIN")
        ]


@pytest.mark.parametrize(
    ("changes", "delisted_ms"),
    [
        ({}, None),
        ({"deliveryDate": NEVER_MS + 2000}, None),
        ({"status": "PRE_DELIVERING", "contractType": "PERPETUAL_DELIVERING", "deliveryDate": T}, T),
        ({"status": "SETTLING", "deliveryDate": T}, T),
    ],
)
def test_the_delivery_date_says_how_long_a_contract_lives(changes, delisted_ms):
    item = recorded("rest_exchangeInfo")[0]["payload"]["symbols"][0] | {"newKey": {}} | changes
    (found,) = read_contracts(EXCHANGE, {"symbols": [item]})
    assert found.delisted_ms == delisted_ms


def test_the_recorded_time_is_read_and_a_ping_has_none():
    time, ping = recorded("rest_time_ping")
    assert EXCHANGE.clock.parse(time["payload"]) == 1_791_382_984_200
    with pytest.raises(BadPayload):
        EXCHANGE.clock.parse(ping["payload"])


@pytest.mark.parametrize("hours", [1, 2, 4, 8])
def test_the_rows_before_a_window_of_settlements_leave_room_for_its_own(hours):
    feed = EXCHANGE.find_rest_feed("fr")
    start_ms = T - T % (8 * HOUR_MS)
    window = Window(start_ms, start_ms + feed.interval_ms)
    sent = [
        {"symbol": "BTCUSDT", "fundingTime": start_ms + n * hours * HOUR_MS + 20, "fundingRate": f"0.{n % 10}"}
        for n in range(-40, 3)
    ]

    def get(request, cost):
        found = [row for row in sent if request.params["startTime"] <= row["fundingTime"] <= request.params["endTime"]]
        return found[: request.params["limit"]]

    assert fetch_with(feed, contract("BTCUSDT"), [window], get).list_rows() == [Funding(start_ms, "0.0", hours)]


@pytest.mark.parametrize("hours", [1, 8])
def test_three_years_of_settlements_take_few_requests_and_lose_none(hours):
    """The limit is 500 requests in five minutes. Every row has its interval, also the first one of an answer."""
    feed = EXCHANGE.find_rest_feed("fr")
    start_ms = T - T % (8 * HOUR_MS)
    window = Window(start_ms, start_ms + 3 * 365 * DAY_MS)
    times = range(start_ms - 8 * HOUR_MS, window.end_ms, hours * HOUR_MS)
    sent = [{"symbol": "BTCUSDT", "fundingTime": ts + 2, "fundingRate": "0.0001"} for ts in times]
    sizes = []

    def get(request, cost):
        found = [row for row in sent if request.params["startTime"] <= row["fundingTime"] <= request.params["endTime"]]
        sizes.append(len(found))
        return found[: request.params["limit"]]

    rows = fetch_with(feed, contract("BTCUSDT"), [window], get).list_rows()
    assert rows == [Funding(ts, "0.0001", hours) for ts in times if ts >= start_ms]
    assert len(sizes) == 27 and max(sizes) <= 1000


def test_settlements_lose_their_jitter_and_tell_their_interval():
    for recording in recorded("rest_fundingRate"):
        rows = read("fr", recording)
        sent = recording["payload"]
        assert [row.fr for row in rows] == [item["fundingRate"] for item in sent]
        assert [row.ts for row in rows] == [item["fundingTime"] // MINUTE_MS * MINUTE_MS for item in sent]
        assert all(row.ts % HOUR_MS == 0 for row in rows)
        assert [row.fr_hours for row in rows] == [None] + [8] * (len(rows) - 1)
        assert [row.fr_mark for row in rows] == [item.get("markPrice") or None for item in sent]


@pytest.mark.parametrize(("sent", "price"), [("0.00514200", "0.00000514200"), ("", None), ("0.00000000", None)])
def test_the_mark_price_of_a_settlement_is_per_coin_and_a_blank_is_none(sent, price):
    item = {"symbol": "1000PEPEUSDT", "fundingTime": T, "fundingRate": "0.0001", "markPrice": sent}
    pepe = contract("1000PEPEUSDT", "PEPE", 1000)
    assert history.parse_funding(item, pepe) == Funding(T, "0.0001", None, price)
    with pytest.raises(BadPayload):
        history.parse_funding({**item, "markPrice": "x"}, pepe)


@pytest.mark.parametrize("name", ["BTCUSDT", "1000PEPEUSDT"])
def test_the_mark_price_is_per_coin_and_only_its_close_must_lie_in_its_range(name):
    instrument = contract("PEPEUSDT", "PEPE", 1000) if name == "1000PEPEUSDT" else contract(name)
    sent = [["4.5", "4.2", "3.9", "4.0"], ["4.00000001", "4.1", "3.99", "4.05"]]

    def items(rows):
        return [
            [T + n * MINUTE_MS, *row, "0", T + (n + 1) * MINUTE_MS - 1, "0", 60, "0", "0", "0"]
            for n, row in enumerate(rows)
        ]

    rows = history.parse_marks(items(sent), instrument)
    assert rows == [history.parse_mark(item, instrument) for item in items(sent)]
    scale = Decimal(1000 if name == "1000PEPEUSDT" else 1)
    assert [[Decimal(value) * scale for value in row[1:]] for row in rows] == [list(map(Decimal, row)) for row in sent]
    for bad in (
        ["4", "4.2", "3.9", "4.3"],
        ["4", "4.2", "3.9", "3.8"],
        ["0", "4.2", "3.9", "4"],
        ["4", "4.2", "x", "4"],
    ):
        for reader in (history.parse_marks, lambda rows, contract: [history.parse_mark(row, contract) for row in rows]):
            with pytest.raises(BadPayload):
                reader(items([bad]), instrument)


def test_recorded_open_interest_and_ratio_are_read_as_sent():
    for recording in recorded("rest_openInterestHist"):
        assert read("oi", recording) == [
            OpenInterest(item["timestamp"], item["sumOpenInterest"], item["sumOpenInterestValue"])
            for item in recording["payload"]
        ]
    for recording in recorded("rest_globalLongShortAccountRatio"):
        assert read("lsr", recording) == [
            LongShortRatio(item["timestamp"], item["longShortRatio"]) for item in recording["payload"]
        ]
    poll = EXCHANGE.poll_feeds[0]
    for recording in recorded("rest_openInterest"):
        (item,) = poll.items(recording["payload"])
        instrument = contract(poll.read_instrument_name(item))
        assert poll.parse(item, instrument) == OpenInterest(item["time"], item["openInterest"])


def test_open_interest_of_a_thousandfold_contract_is_in_coins():
    item = {"symbol": "1000PEPEUSDT", "sumOpenInterest": "5.25", "sumOpenInterestValue": "60.1", "timestamp": T}
    assert history.parse_open_interest(item, contract("1000PEPEUSDT", "PEPE", 1000)) == OpenInterest(T, "5250", "60.1")


@pytest.mark.parametrize("blank", ["", None])
def test_a_blank_value_in_usd_leaves_the_coins(blank):
    item = {"symbol": "BTCUSDT", "sumOpenInterest": "5.25", "sumOpenInterestValue": blank, "timestamp": T}
    assert history.parse_open_interest(item, contract("BTCUSDT")) == OpenInterest(T, "5.25", None)


def test_the_premium_is_the_close_wherever_the_open_lies():
    (recording,) = recorded("rest_premiumIndexKlines")
    item = recording["payload"][0]
    assert history.parse_premium(item, contract("BTCUSDT")) == Premium(item[0], item[4])
    assert history.parse_premium([item[0], "0.5", *item[2:]], contract("BTCUSDT")) == Premium(item[0], item[4])
    for damaged in (item[:11], [*item[:6], item[0] + 299_999, *item[7:]], [*item[:4], "1E", *item[5:]]):
        with pytest.raises(BadPayload):
            history.parse_premium(damaged, contract("BTCUSDT"))


def test_recorded_kline_events_give_a_row_once_closed_and_never_before_the_end():
    for recording in recorded("ws_kline_1m"):
        frame = stream.route(recording["payload"])
        event, k = frame.data, frame.data["k"]
        instrument = contract(event["s"])
        row = Candle(k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["q"], k["n"], k["V"])
        assert frame.topic == STREAMS["ohlcv"].topic(instrument)
        assert stream.parse_kline_event(event, instrument) == (row if k["x"] else None)
        closed = {**event, "k": {**k, "x": True}}
        assert stream.parse_kline_event({**closed, "E": k["T"] + 2000}, instrument) == row
        with pytest.raises(BadPayload, match="before the minute's end"):
            stream.parse_kline_event({**closed, "E": k["T"] - 1}, instrument)


def test_a_minute_without_trades_is_a_flat_candle():
    k = {
        "t": T,
        "T": T + 59_999,
        "s": "BTCUSDT",
        "i": "1m",
        "f": -1,
        "L": -1,
        "o": "1",
        "h": "1",
        "l": "1",
        "c": "1",
        "v": "0",
        "n": 0,
        "x": True,
        "q": "0",
        "V": "0",
        "Q": "0",
        "B": "0",
    }
    event = {"e": "kline", "E": T + 62_000, "s": "BTCUSDT", "k": k}
    flat = Candle(T, "1", "1", "1", "1", "0", "0", 0, "0")
    assert stream.parse_kline_event(event, contract("BTCUSDT")) == flat
    item = [T, "1", "1", "1", "1", "0", T + 59_999, "0", 0, "0", "0", "0"]
    assert history.parse_kline(item, contract("BTCUSDT")) == flat


@pytest.mark.parametrize("metric", ["ohlcv", "pfr", "mark", "fr", "oi", "lsr"])
@pytest.mark.parametrize("body", [{"code": -1130, "msg": "x"}, {}, "[]", 5, None, [None] * 3, [[]] * 3, [{}] * 3])
def test_what_is_no_page_is_a_bad_payload(metric, body):
    fetched = fetch_with(
        EXCHANGE.find_rest_feed(metric), contract("BTCUSDT"), [Window(T, T + HOUR_MS)], lambda request, cost: body
    )
    assert isinstance(fetched.failed, BadPayload)
    assert (fetched.rows, fetched.answered) == ({}, [])


def test_the_stream_estimates_the_funding_rate():
    for recording in recorded("ws_markPrice"):
        data = recording["payload"]["data"]
        for event in data if isinstance(data, list) else [data]:
            rows = read_message(STREAMS["ppr"], event, contract(event["s"]))
            assert rows == [PredictedFunding(event["E"], event["r"])]
            assert read_message(STREAMS["ppr"], {**event, "T": 0}, contract(event["s"])) == []
            with pytest.raises(BadPayload):
                read_message(STREAMS["ppr"], {**event, "T": "0"}, contract(event["s"]))


def test_a_forced_sell_liquidates_a_long():
    (recording,) = recorded("ws_forceOrder")
    frame = stream.route(recording["payload"])
    feed, order = STREAMS["lq"], frame.data["o"]
    instrument = contract(order["s"])

    def read_order(**changes):
        return read_message(feed, {"o": {**order, **changes}}, instrument)

    assert frame.topic == feed.topic(instrument)
    usd = "449.272930"  # 3.85642 x 116.5
    assert read_message(feed, frame.data, instrument) == [Liquidations(order["T"], usd, "0")]
    assert read_order(S="BUY") == [Liquidations(order["T"], "0", usd)]
    assert read_order(z="0.0") == []
    assert read_order(st=2) == [], "an order of COIN-M"
    with pytest.raises(BadPayload):
        read_order(S="LONG")


@pytest.mark.parametrize("metric", ["fr", "oi", "lsr"])
def test_a_row_of_another_symbol_is_a_bad_payload(metric):
    item = {
        "symbol": "ETHUSDT",
        "fundingTime": T,
        "fundingRate": "0.1",
        "timestamp": T,
        "longShortRatio": "1",
        "longAccount": "0.5",
        "shortAccount": "0.5",
        "sumOpenInterest": "1",
        "sumOpenInterestValue": "1",
    }
    EXCHANGE.find_rest_feed(metric).parse(item, contract("ETHUSDT"))
    with pytest.raises(BadPayload):
        EXCHANGE.find_rest_feed(metric).parse(item, contract("BTCUSDT"))


def judged(status, body, text="", headers=None):
    return judge(Answer(status=status, headers=headers or {}, body=body, text=text, now_ms=T))


def test_recorded_errors_are_refusals():
    for recording in recorded("rest_errors"):
        refusal = judged(recording["status"] or 400, recording["payload"])
        assert refusal.error is (RetryLater if recording["status"] == 451 else Refused)


def test_limits_and_bans_close_what_they_should():
    limited = judged(429, {"code": -1003, "msg": "Too many requests"})
    assert (limited.error, limited.closes, limited.retry_after_s) == (RetryLater, Closes.BUDGET, None)
    assert judged(429, {}, headers={"Retry-After": "7"}).retry_after_s == 7
    text = f"Way too many requests; IP(1.2.3.4) banned until {T + 190_000}"
    banned = judged(418, {"code": -1003, "msg": text}, text)
    assert (banned.closes, round(banned.retry_after_s)) == (Closes.EXCHANGE, 191)
    assert judged(418, None).retry_after_s == 120
    assert judged(418, None, headers={"Retry-After": "300"}).retry_after_s == 300
    assert judged(418, None, text, headers={"Retry-After": "30"}).retry_after_s == 191
    for left_ms in (-86_400_000, -5000, 0, 90_000):  # never less than the shortest ban
        assert judged(418, None, f"banned until {T + left_ms}").retry_after_s == 120
    assert judged(200, {"code": -1003, "msg": text}, text).closes is Closes.EXCHANGE
    assert judged(403, None, "<html>").closes is Closes.EXCHANGE
    assert judged(502, None).error is RetryLater
    for body in (None, "maintenance", 7, True):
        for status in (200, 202, 302, 400, 404, 405):
            assert judged(status, body).error is RetryLater, "it is not the API's"
    assert judged(404, {"message": "no Route matched with those values"}).error is RetryLater, "a gateway's"
    for body in ({}, {"message": "maintenance"}, {"status": "down", "code": "x"}):
        assert judged(200, body).error is RetryLater, "an object without data is a gateway's, too"
    for body in ([], {"symbols": []}, {"serverTime": T}, {"symbol": "BTCUSDT", "openInterest": "1"}):
        assert judged(200, body) is None
    assert judged(200, {"code": -1130, "msg": "Invalid startTime."}).error is BadPayload
    assert judged(400, {"code": -1121, "msg": "Invalid symbol."}).is_unknown_contract
    for code in (-1000, -1001, -1007, -1008, -1016):
        passing = judged(200, {"code": code, "msg": "x"})
        assert (passing.error, passing.closes) == (RetryLater, Closes.NOTHING), "as with any other status"
    assert judged(200, []) is None


def test_acks_pass_and_errors_are_faults():
    for recording in recorded("ws_control"):
        frame = stream.route(recording["payload"])
        assert frame.topic is None
        assert (frame.fault is None) == ("result" in recording["payload"])


def test_answers_of_requests_say_which_request_they_are_about():
    assert stream.route({"result": None, "id": 3}) == Frame(request=3)
    refused = stream.route({"error": {"code": 2, "msg": "Invalid request"}, "id": 1})
    assert (refused.topic, refused.request) == (None, 1)
    assert refused.fault


@pytest.mark.parametrize(
    "message",
    [
        {"e": "serverShutdown", "E": 1791382993000},
        {"event": {"e": "serverShutdown", "E": 1791382993000}},
        {"stream": "x", "data": {"e": "serverShutdown", "E": 1791382993000}},
    ],
)
def test_a_server_that_is_about_to_go_asks_for_a_new_connection(message):
    assert stream.route(message) == Frame(renew=True)
