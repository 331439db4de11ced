"""Binance's parsers with recorded answers, value by value."""

import json
from pathlib import Path

import pytest

from fademoe.clock import HOUR_MS, MINUTE_MS
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.exchanges import binance
from fademoe.feeds.spec import Answer, Closes, Instrument
from fademoe.metrics import Liquidations, LongShortRatio, OpenInterest, PredictedFunding, Premium

FOLDER = Path(__file__).parent.parent / "recordings" / "binance"
EXCHANGE = binance.EXCHANGE
STREAMS = {feed.metric: feed for feed in EXCHANGE.stream_feeds}
T = 1_791_382_920_000


def recorded(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def contract(name, symbol=None, multiplier=1):
    symbol = symbol or name.removesuffix("USDT")
    return Instrument(exchange="binance", code="bin", name=name, symbol=symbol, multiplier=multiplier)


def read(metric, recording):
    feed = EXCHANGE.rest_feed(metric)
    name = recording["request"]["params"]["symbol"]
    return [feed.parse(item, contract(name)) for item in feed.items(recording["payload"], None)]


def test_settlements_lose_their_jitter_and_tell_their_interval():
    for recording in recorded("rest_fundingRate"):
        rows = read("fr", recording)
        sent = recording["payload"]
        assert [row.fr for row in rows] == [item["fundingRate"] for item in sent]
        assert [row.ts for row in rows] == [item["fundingTime"] // MINUTE_MS * MINUTE_MS for item in sent]
        assert all(row.ts % HOUR_MS == 0 for row in rows)
        assert [row.fr_hours for row in rows] == [None] + [8] * (len(rows) - 1)


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
        ((name, item),) = poll.items(recording["payload"])
        assert poll.parse(item, contract(name)) == OpenInterest(item["time"], item["openInterest"])


def test_open_interest_of_a_thousandfold_contract_is_in_coins():
    item = {"symbol": "1000PEPEUSDT", "sumOpenInterest": "5.25", "sumOpenInterestValue": "60.1", "timestamp": T}
    assert binance.parse_open_interest(item, contract("1000PEPEUSDT", "PEPE", 1000)) == OpenInterest(T, "5250", "60.1")


def test_the_premium_is_the_close():
    (recording,) = recorded("rest_premiumIndexKlines")
    item = recording["payload"][0]
    assert binance.parse_premium(item, contract("BTCUSDT")) == Premium(item[0], item[4])


def test_the_stream_estimates_the_funding_rate():
    for recording in recorded("ws_markPrice"):
        data = recording["payload"]["data"]
        for event in data if isinstance(data, list) else [data]:
            rows = STREAMS["ppr"].parse(event, contract(event["s"]))
            assert rows == [PredictedFunding(event["E"], event["r"])]
            assert STREAMS["ppr"].parse({**event, "T": 0}, contract(event["s"])) == []


def test_a_forced_sell_liquidates_a_long():
    (recording,) = recorded("ws_forceOrder")
    frame = binance.route(recording["payload"])
    ((name, order),) = STREAMS["lq"].split(frame.data)
    assert frame.topic == STREAMS["lq"].topic(contract(name))
    usd = "449.272930"  # 3.85642 x 116.5
    assert STREAMS["lq"].parse(order, contract(name)) == [Liquidations(order["T"], usd, "0")]
    assert STREAMS["lq"].parse({**order, "S": "BUY"}, contract(name)) == [Liquidations(order["T"], "0", usd)]
    assert STREAMS["lq"].split({"o": {**order, "st": 2}}) == []
    with pytest.raises(BadPayload):
        STREAMS["lq"].parse({**order, "S": "LONG"}, contract(name))


@pytest.mark.parametrize("metric", ["fr", "oi", "lsr"])
def test_a_row_of_another_symbol_is_a_bad_payload(metric):
    item = {"symbol": "ETHUSDT", "fundingTime": T, "fundingRate": "0.1", "timestamp": T, "longShortRatio": "1",
            "longAccount": "0.5", "shortAccount": "0.5",
            "sumOpenInterest": "1", "sumOpenInterestValue": "1"}  # fmt: skip
    EXCHANGE.rest_feed(metric).parse(item, contract("ETHUSDT"))
    with pytest.raises(BadPayload):
        EXCHANGE.rest_feed(metric).parse(item, contract("BTCUSDT"))


def judged(status, body, text="", headers=None):
    return binance.judge(Answer(status=status, headers=headers or {}, body=body, text=text, now_ms=T))


def test_recorded_errors_are_refusals():
    for recording in recorded("rest_errors"):
        refusal = judged(recording["status"] or 400, recording["payload"])
        assert refusal.error is (RetryLater if recording["status"] == 451 else Refused)


def test_limits_and_bans_close_what_they_should():
    limited = judged(429, {"code": -1003, "msg": "Too many requests"})
    assert (limited.error, limited.closes, limited.retry_after_s) == (RetryLater, Closes.BUDGET, None)
    assert judged(429, {}, headers={"Retry-After": "7"}).retry_after_s == 7
    text = f"Way too many requests; IP(1.2.3.4) banned until {T + 90_000}"
    banned = judged(418, {"code": -1003, "msg": text}, text)
    assert (banned.closes, round(banned.retry_after_s)) == (Closes.EXCHANGE, 91)
    assert judged(418, None).retry_after_s == 120
    assert judged(403, None, "<html>").closes is Closes.EXCHANGE
    assert judged(502, None).error is RetryLater
    assert judged(200, None).error is BadPayload
    assert judged(200, {"code": -1121, "msg": "Invalid symbol."}).error is BadPayload
    assert judged(200, []) is None


def test_acks_pass_and_errors_are_faults():
    for recording in recorded("ws_control"):
        frame = binance.route(recording["payload"])
        assert frame.topic is None
        assert (frame.fault is None) == ("result" in recording["payload"])
