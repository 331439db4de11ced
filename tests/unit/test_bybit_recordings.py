"""Every recorded answer of Bybit through the real judge, parsers and merging, compared value by value."""

import json
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from fademoe.clock import MINUTE_MS
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.exchanges.bybit import EXCHANGE
from fademoe.feeds.answers import Answer
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.values import decode
from fademoe.streams.liveness import Broken
from fademoe.streams.minutes import GRACE_MS
from fademoe.testing.readers import read_contracts, read_rows
from tests.support.lines import Line, topics_of

FOLDER = Path(__file__).parents[1] / "recordings" / "bybit"
SAMPLE = {"fundingRate": "", "singleOpenInterest": "1", "singleOpenInterestValue": "1"}
LATER_MS = 2_000_000_000_000  # results that were recorded without their envelope are taken to be that old


def payloads(name):
    """Return the recorded payloads of a file, decoded as the client decodes them."""
    return [entry["payload"] for entry in decode((FOLDER / f"{name}.json").read_bytes())]


def contract(name):
    return Instrument(exchange="bybit", code="byb", name=name, symbol=name.removesuffix("USDT"))


def enveloped(payload):
    return {"retCode": 0, "retMsg": "OK", "retExtInfo": {}, "time": LATER_MS, **payload}


def read(metric, payload, name="BTCUSDT"):
    """Return the rows of an answer, newest first, as the engine reads them."""
    body, feed = enveloped(payload), EXCHANGE.find_rest_feed(metric)
    assert EXCHANGE.judge(Answer(status=200, headers={}, body=body, text="", now_ms=LATER_MS)) is None
    page = Page(instrument=contract(name), start_ms=1_300_000_000_000, end_ms=LATER_MS, limit=1000)
    return read_rows(feed, body, page)


def follow(frames, *names):
    """Return the rows of a socket that receives frames, {(metric, contract): rows}, and the errors it reports."""
    topics = topics_of(EXCHANGE.stream_feeds, [replace(each, symbol=each.name) for each in map(contract, names)])
    found, errors = {}, []
    for frame in frames:  # the clock of the exchange is that of the frame
        minute_ms = frame[-1].get("ts", LATER_MS) // MINUTE_MS * MINUTE_MS
        line = Line(EXCHANGE.sockets[0], topics, minute_ms - MINUTE_MS)
        while text := line.connection.take_request(1e9):
            line.hear({"success": True, "ret_msg": "", "op": "subscribe", "req_id": json.loads(text)["req_id"]})
        line.now_ms = minute_ms + MINUTE_MS
        line.hear(*frame)
        errors += line.errors()
        line.now_ms += GRACE_MS
        line.hear(
            {
                "topic": f"tickers.{names[0]}",
                "type": "snapshot",
                "ts": line.now_ms,
                "data": SAMPLE | {"symbol": names[0]},
            }
        )
        with suppress(Broken):
            line.check()
        line.errors()
        for feed, series, ts, row, _ in line.items():
            if row is not None and ts <= minute_ms + MINUTE_MS:
                found.setdefault((feed.metric, series.symbol), []).append(row)
    return found, errors


def candles(payload):
    if payload["result"]["category"] == "spot":
        with pytest.raises(BadPayload, match="category linear"):
            read("ohlcv", payload)
        return
    listed = payload["result"]["list"]
    closed = [row for row in listed if int(row[0]) + MINUTE_MS <= payload["time"]]
    assert len(closed) == len(listed) - 1
    rows = read("ohlcv", payload)
    assert [[str(row.ts), row.o, row.h, row.l, row.c, row.v, row.qv] for row in rows] == closed


def premium(payload):
    rows = read("pfr", payload)
    assert [[str(row.ts), row.pfr] for row in rows] == [[row[0], row[4]] for row in payload["result"]["list"]]


def mark_price(payload):
    rows, listed = read("mark", payload), payload["result"]["list"]
    assert rows
    assert [[str(row.ts), row.mark_o, row.mark_h, row.mark_l, row.mark_c] for row in rows] == listed
    assert EXCHANGE.find_rest_feed("mark").parse_all(listed, contract("BTCUSDT")) == rows
    with pytest.raises(BadPayload, match="element 6 is missing"):
        read("ohlcv", payload)


def settlements(payload):
    rows, listed = read("fr", payload, "XTZUSDT"), payload["result"]["list"]
    assert [[str(row.ts), row.fr] for row in rows[::-1]] == [
        [row["fundingRateTimestamp"], row["fundingRate"]] for row in listed
    ]
    assert [row.fr_hours for row in rows] == [None, *(8 for _ in listed[1:])]


def interest(payload):
    rows, listed = read("oi", payload), payload["result"]["list"]
    assert [str(row.ts)[:10] for row in rows] == [row["timestamp"][:10] for row in listed]
    for row, sent in zip(rows, listed, strict=True):
        one = sent.get("singleOpenInterest")
        assert row.oi == one if one else Decimal(row.oi) * 2 == Decimal(sent["openInterest"])


def ratios(payload):
    rows, listed = read("lsr", payload, "ETHUSDT"), payload["result"]["list"]
    assert [str(row.ts) for row in rows] == [row["timestamp"] for row in listed]
    for row, sent in zip(rows, listed, strict=True):
        assert abs(Decimal(row.lsr) * Decimal(sent["sellRatio"]) - Decimal(sent["buyRatio"])) <= Decimal("5E-9")


def contracts(payload):
    found = {each.name: each for each in read_contracts(EXCHANGE, enveloped(payload))}
    listed = [row for row in payload["result"]["list"] if row["contractType"] == "LinearPerpetual"]
    wanted = [row for row in listed if row["settleCoin"] == "USDT"]
    assert sorted(found) == sorted(row["symbol"] for row in wanted)
    for row in wanted:
        each = found[row["symbol"]]
        assert row["baseCoin"] == (each.symbol if each.multiplier == 1 else f"{each.multiplier}{each.symbol}")
        assert (each.listed_ms, each.delisted_ms) == (int(row["launchTime"]) or None, None)


def server_time(payload):
    assert EXCHANGE.clock.parse(payload) == payload["time"]


def refusals(payload):
    refusal = EXCHANGE.judge(Answer(status=200, headers={}, body=payload, text="", now_ms=LATER_MS))
    assert refusal.error is {10006: RetryLater, 10001: Refused}[payload["retCode"]]
    assert payload["retMsg"] in refusal.message


def current(payload):
    """A row of REST's tickers has the members of a snapshot of the stream, of before June 2026 and after."""
    for sent in payload["result"]["list"]:
        frame = {"topic": f"tickers.{sent['symbol']}", "type": "snapshot", "data": sent, "ts": payload["time"]}
        found, complaints = follow([[frame]], sent["symbol"])
        assert complaints == []
        (row,) = found["oi", sent["symbol"]]
        for value, both, one in (
            (row.oi, "openInterest", "singleOpenInterest"),
            (row.oi_usd, "openInterestValue", "singleOpenInterestValue"),
        ):
            assert Decimal(value) == (Decimal(sent[one]) if one in sent else Decimal(sent[both]) / 2)
        assert [row.ppr for row in found.get(("ppr", sent["symbol"]), [])] == list(filter(None, [sent["fundingRate"]]))


def trades(payload):
    """Taken by no feed: as an answer it is refused, as a message it belongs to no topic."""
    if "result" in payload:
        for feed in EXCHANGE.rest_feeds:
            with pytest.raises(BadPayload):
                read(feed.metric, payload)
    else:
        assert follow([[payload]], payload["data"][0]["s"]) == ({}, [])


def bars(payload):
    assert follow([[payload]], "BTCUSDT") == ({}, []), "not confirmed"
    (bar,) = payload["data"]
    found, _ = follow([[payload, payload | {"data": [bar | {"confirm": True}]}]], "BTCUSDT")
    names = ("start", "open", "high", "low", "close", "volume", "turnover")
    assert [list(row[:7]) for row in found["ohlcv", "BTCUSDT"]] == [[bar[name] for name in names]]


def events(payload):
    (event,) = payload["data"]
    for sent in (payload, payload | {"data": event}):  # Bybit's page says that data is an object
        found, complaints = follow([[sent]], event["s"])
        (row,) = found["lq", event["s"]]
        usd, nothing = Decimal(event["v"]) * Decimal(event["p"]), 0
        expected = (usd, nothing) if event["S"] == "Buy" else (nothing, usd)
        assert (Decimal(row.lql), Decimal(row.lqs), complaints) == (*expected, [])
        assert row.ts == event["T"] // MINUTE_MS * MINUTE_MS


def control(payload):
    _, complaints = follow([[payload]], "BTCUSDT")
    is_fine = payload["success"] or "already subscribed" in payload["ret_msg"]
    assert complaints == ([] if is_fine else [f"the exchange reports a fault: {payload['ret_msg']}"])


def tickers(payload):
    if payload["type"] == "delta":
        assert follow([[payload]], "BTCUSDT") == ({}, []), "nothing is known before the first snapshot"
    else:
        current({"result": {"list": [payload["data"]]}, "time": payload["ts"]})


REPLAYS = {
    "rest_account_ratio": ratios,
    "rest_errors": refusals,
    "rest_funding_history": settlements,
    "rest_instruments_info": contracts,
    "rest_kline": candles,
    "rest_mark_price_kline": mark_price,
    "rest_open_interest": interest,
    "rest_premium_index_price_kline": premium,
    "rest_recent_trade": trades,
    "rest_server_time": server_time,
    "rest_tickers": current,
    "ws_all_liquidation": events,
    "ws_control": control,
    "ws_kline": bars,
    "ws_public_trade": trades,
    "ws_tickers": tickers,
}


@pytest.mark.parametrize("name", REPLAYS)
def test_a_recording_becomes_what_it_says(name):
    for payload in payloads(name):
        REPLAYS[name](payload)


def test_every_recording_is_replayed():
    assert sorted(REPLAYS) == sorted(path.stem for path in FOLDER.glob("*.json"))


def test_recorded_deltas_change_what_they_tell_and_nothing_else():
    first, *deltas, _ = payloads("ws_tickers")
    at_ms = first["ts"] // MINUTE_MS * MINUTE_MS
    messages = [first, *(delta | {"ts": at_ms + 50_000 + n} for n, delta in enumerate(deltas))]
    found, complaints = follow([messages], "BTCUSDT")
    assert complaints == []
    assert [tuple(row[1:]) for row in found["oi", "BTCUSDT"]] == [("29058.511", "2625495106.91")]
    assert [row.ppr for row in found["ppr", "BTCUSDT"]] == ["0.00008055"]
