"""Bybit's table: recorded answers through the real parsers, units, sides, refusals, and what must never become rows."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fademoe.clock import HOUR_MS, MINUTE_MS
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.exchanges.bybit import EXCHANGE, history
from fademoe.exchanges.bybit.instruments import get_next_page
from fademoe.exchanges.bybit.stream import route
from fademoe.feeds.answers import Answer, Closes
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument, Terms
from fademoe.feeds.stream import Frame, Reduce
from fademoe.metrics import Candle, Funding, Liquidations, LongShortRatio, OpenInterest, PredictedFunding, Premium
from fademoe.testing.readers import read_contracts, read_message, read_rows

RECORDINGS = Path(__file__).parents[1] / "recordings" / "bybit"
BTC = Instrument(exchange="bybit", code="byb", name="BTCUSDT", symbol="BTC")
PEPE = replace(BTC, name="1000PEPEUSDT", symbol="PEPE", multiplier=1000)
T = 1_791_382_800_000
KLINE = [str(T), "30707.9", "30710", "30704.7", "30709.9", "21.984", "675041.8648"]
PREMIUM = [str(T), "0.000104", "0.000103", "-0.000012", "0.000001"]
SETTLED = {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": str(T)}
INTEREST = {"openInterest": "52673.34300000", "singleOpenInterest": "26336.672", "timestamp": str(T)}
SHARES = {"symbol": "BTCUSDT", "buyRatio": "0.6784", "sellRatio": "0.3216", "timestamp": str(T)}
MARKED = [str(T), "24279.66", "24978", "23851.48", "24881.63"]
ROWS = {"ohlcv": KLINE, "pfr": PREMIUM, "mark": MARKED, "fr": SETTLED, "oi": INTEREST, "lsr": SHARES}
BAR = {"start": T, "end": T + 59_999, "interval": "1", "open": "2", "close": "3", "high": "4", "low": "1"}
BAR |= {"volume": "10.5", "turnover": "25.25", "confirm": True, "timestamp": T + 59_000}
TICKER = {"symbol": "BTCUSDT", "openInterest": "58117.023", "openInterestValue": "3596005265.51", "ts": T}
TICKER |= {"fundingRate": "-0.00008055"}
EVENT = {"T": T, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "69916.80"}
EVENTS = {"ohlcv": [BAR], "ppr": TICKER, "oi": TICKER, "lq": [EVENT]}


def recorded(name):
    """Return the recorded payloads of a file."""
    return [entry["payload"] for entry in json.loads((RECORDINGS / f"{name}.json").read_text())]


def page_of(name, start_ms=T, end_ms=T + 10 * HOUR_MS):
    return Page(instrument=replace(BTC, name=name), start_ms=start_ms, end_ms=end_ms, limit=1000)


def enveloped(rows, *, now_ms=T + HOUR_MS, **result):
    """Return the answer of which `rows` are the list."""
    return {"retCode": 0, "retMsg": "OK", "result": {**result, "list": rows}, "retExtInfo": {}, "time": now_ms}


def read(metric, body, name):
    """Return the rows of an answer as the engine reads them."""
    feed, page = EXCHANGE.find_rest_feed(metric), page_of(name)
    return read_rows(feed, body, page)


def channel(metric):
    return next(feed for feed in EXCHANGE.stream_feeds if feed.metric == metric)


def answer(status=200, body=None, text="", now_ms=T, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=sent, body=body, text=text, now_ms=now_ms)


def test_recorded_candles_lose_the_open_one():
    body = recorded("rest_kline")[0]
    rows = read("ohlcv", body, "BTCUSDT")
    listed = body["result"]["list"]
    assert listed[0][0] == "1687589640000"
    assert body["time"] < 1687589640000 + MINUTE_MS
    assert rows[0] == Candle(
        1687589580000, "30707.9", "30710", "30704.7", "30709.9", "21.984", "675041.8648", n=None, tbv=None
    )
    assert [list(map(str, row[:7])) for row in rows] == listed[1:]


@pytest.mark.parametrize("metric", ["ohlcv", "pfr", "mark"])
def test_a_candle_counts_two_seconds_after_its_close_if_a_newer_one_is_there_else_after_two_minutes(metric):
    candle = ROWS[metric]
    newer = [str(T + MINUTE_MS), *candle[1:]]
    for rows, age_ms, expected in (
        ([newer, candle], 1_999, []),
        ([newer, candle], 2_000, [T]),
        ([candle], 119_999, []),
        ([candle], 120_000, [T]),
    ):
        body = enveloped(rows, now_ms=T + MINUTE_MS + age_ms, symbol="BTCUSDT", category="linear")
        assert [row.ts for row in read(metric, body, "BTCUSDT")] == expected


def test_the_candle_behind_a_page_is_its_witness_and_those_of_another_range_are_told():
    feed, page = EXCHANGE.find_rest_feed("ohlcv"), page_of("BTCUSDT", T, T + 5 * MINUTE_MS)
    assert feed.page_span_ms + MINUTE_MS == 1000 * MINUTE_MS

    def times(*minutes):
        rows = [[str(T + minute * MINUTE_MS), *KLINE[1:]] for minute in minutes]
        body = enveloped(rows, now_ms=T + 10 * HOUR_MS, symbol="BTCUSDT", category="linear")
        return [(int(row[0]) - T) // MINUTE_MS for row in feed.items(body, page)]

    assert times(5, 4, 0) == [4, 0]
    assert times(5) == [], "the minutes of the page have no candle"
    assert times(500, 499) == [500, 499], "which the engine refuses"


def test_a_recorded_answer_of_the_spot_market_is_refused():
    with pytest.raises(BadPayload, match="category linear"):
        read("ohlcv", recorded("rest_kline")[1], "BTCUSDT")


def test_recorded_premium_keeps_closes_whose_open_lies_outside_of_the_range():
    (payload,) = recorded("rest_premium_index_price_kline")
    listed = payload["result"]["list"]
    rows = read("pfr", payload | {"time": int(listed[0][0]) + 25 * HOUR_MS}, "BTCUSDT")
    assert rows == [Premium(int(row[0]), row[4]) for row in listed]
    assert sum(not float(row[3]) <= float(row[1]) <= float(row[2]) for row in listed) == 80
    assert any(row.pfr.startswith("-") for row in rows)
    assert Premium(1677024000000, "0.000000") in rows


def test_the_interval_of_recorded_settlements_is_the_time_since_the_one_before():
    (body,) = recorded("rest_funding_history")
    rows = read("fr", body, "XTZUSDT")[::-1]
    assert rows[0].ts == 1752940800000
    assert [row.fr for row in rows[:3]] == ["-0.00249093", "-0.00073488", "0.0001"]
    assert [row.fr_hours for row in rows[:-1]] == [
        (row.ts - before.ts) // HOUR_MS for row, before in itertools.pairwise(rows)
    ]
    assert rows[-1].fr_hours is None
    assert len(rows) == 10


def test_recorded_open_interest_of_both_sides_is_halved_exactly_and_the_single_side_taken_as_sent():
    before, since = recorded("rest_open_interest")
    assert read("oi", before, "BTCUSDT") == [OpenInterest(1739725200000, "31064.72750000", None)]
    assert read("oi", since, "BTCUSDT") == [
        OpenInterest(1789458600000, "26332.321", None),
        OpenInterest(1789458300000, "26336.672", None),
        OpenInterest(1789458000000, "26326.209", None),  # recorded in seconds
    ]


def test_recorded_shares_become_a_ratio_of_eight_decimals():
    (body,) = recorded("rest_account_ratio")
    assert read("lsr", body, "ETHUSDT") == [
        LongShortRatio(1789460400000, "2.10945274"),
        LongShortRatio(1789460100000, "2.10848617"),
        LongShortRatio(1789459800000, "2.09789343"),
    ]


@pytest.mark.parametrize("shorts", ["0", "0.0000"])
def test_without_shorts_there_is_no_ratio_and_without_longs_it_is_zero(shorts):
    rows = [SHARES | {"buyRatio": "1", "sellRatio": shorts}, SHARES | {"buyRatio": "0", "sellRatio": "1"}]
    assert read("lsr", enveloped(rows), "BTCUSDT") == [LongShortRatio(T, "0.00000000")]


def test_recorded_list_has_usdt_perpetuals_only_and_splits_multipliers_off_the_base_coin():
    many, current, older = recorded("rest_instruments_info")
    found = {each.name: each for each in read_contracts(EXCHANGE, many | {"time": T})}
    assert len(found) == 99
    assert not any(name.endswith("PERP") for name in found)
    assert found["10000NFTUSDT"] == Instrument(
        exchange="bybit",
        code="byb",
        name="10000NFTUSDT",
        symbol="NFT",
        multiplier=10_000,
        listed_ms=1643007175000,
        terms=Terms(tick="0.0000000005", lot="100000", funding_hours=8),
    )
    coins = {name: (each.symbol, each.multiplier) for name, each in found.items()}
    assert coins["1000LUNCUSDT"] == ("LUNC", 1000)
    assert coins["1INCHUSDT"] == ("1INCH", 1)
    assert coins["LUNA2USDT"] == ("LUNA2", 1)
    for body in (current, older):
        (contract,) = read_contracts(EXCHANGE, body)
        assert replace(contract, terms=Terms()) == replace(BTC, listed_ms=1585526400000)
        assert (contract.terms.lot, contract.terms.funding_hours) == ("0.001", 8)


def listed(**changes):
    """Return a page of one contract."""
    (row,) = recorded("rest_instruments_info")[1]["result"]["list"]
    return enveloped([row | changes], category="linear", nextPageCursor="")


def test_the_number_may_stand_behind_and_delisted_contracts_say_when():
    (shib,) = read_contracts(EXCHANGE, listed(symbol="SHIB1000USDT", baseCoin="SHIB1000"))
    assert (shib.symbol, shib.multiplier) == ("SHIB", 1000)
    (closed,) = read_contracts(EXCHANGE, listed(status="Closed", deliveryTime="1738314000000"))
    assert closed.delisted_ms == 1738314000000
    (closed,) = read_contracts(EXCHANGE, listed(status="Closed"))
    assert closed.delisted_ms is None, "the list does not tell when: see instruments.refresh"
    assert EXCHANGE.instruments.has_ended(listed(status="Closed")["result"]["list"][0])


@pytest.mark.parametrize(
    "changes",
    [
        {"contractType": "LinearFutures"},
        {"settleCoin": "USDC"},
        {"status": "PreLaunch"},
        {"symbolType": "stock"},
        {"symbolType": "commodity"},
        {"symbolType": "a kind of next year"},
    ],
)
def test_what_is_no_crypto_perpetual_in_usdt_is_left_out(changes):
    assert read_contracts(EXCHANGE, listed(**changes)) == []


@pytest.mark.parametrize("changes", [{"baseCoin": ""}, {"launchTime": "1643007175"}, {"symbol": None}])
def test_a_contract_that_cannot_be_read_is_not_half_read(changes):
    with pytest.raises(BadPayload):
        read_contracts(EXCHANGE, listed(**changes))


def test_the_list_goes_on_by_cursor_sent_decoded_then_by_status():
    cursor = "first%3D0GUSDT%26last%3DMOCAUSDT"
    ask = {"category": "linear", "limit": 1000}

    def after(status, count, next_cursor, **asked):
        body = enveloped([{"status": status}] * count, nextPageCursor=next_cursor)
        request = replace(EXCHANGE.instruments.request, params=ask | {"status": status} | asked)
        following = get_next_page(body, request)
        return following and following.params

    decoded = "first=0GUSDT&last=MOCAUSDT"
    assert dict(EXCHANGE.instruments.params) == ask | {"status": "Trading"}
    assert after("Trading", 1000, cursor) == ask | {"status": "Trading", "cursor": decoded}
    assert after("Trading", 3, cursor) == ask | {"status": "Trading", "cursor": decoded}, (
        "the server may page as it likes"
    )
    assert after("Trading", 3, cursor, cursor=decoded) == ask | {"status": "Closed"}, "a cursor that leads in a circle"
    assert after("Trading", 801, "") == ask | {"status": "Closed"}
    assert after("Trading", 801, None) == ask | {"status": "Closed"}
    assert after("Closed", 0, cursor) == ask | {"status": "Delivering"}, "an empty page ends its status alone"
    assert after("Delivering", 3, "") is None
    assert after("Delivering", 0, "") is None
    with pytest.raises(BadPayload):
        after("Trading", 1, 7)


def test_recorded_time():
    (body,) = recorded("rest_server_time")
    assert EXCHANGE.clock.parse(body) == 1775928345295


def test_recorded_errors_are_refusals():
    limit, wrong = recorded("rest_errors")
    refusal = EXCHANGE.judge(answer(body=limit))
    assert (refusal.error, refusal.retry_after_s, refusal.closes) == (RetryLater, 2.0, Closes.BUDGET)
    refusal = EXCHANGE.judge(answer(body=wrong))
    assert (refusal.error, refusal.closes) == (Refused, Closes.NOTHING)
    assert "accountType only support UNIFIED." in refusal.message


@pytest.mark.parametrize(
    ("status", "code", "text", "error", "wait_s", "closes"),
    [
        (403, None, "403, Access Too Frequent", RetryLater, 600, Closes.EXCHANGE),
        (403, None, "<HTML>403 ERROR ... cloudfront", RetryLater, 300, Closes.EXCHANGE),
        (200, 10009, "", RetryLater, 300, Closes.EXCHANGE),
        (429, None, "", RetryLater, 2, Closes.BUDGET),
        (200, 429, "", RetryLater, 2, Closes.BUDGET),
        (502, None, "<html>", RetryLater, 5, Closes.NOTHING),
        (200, 10000, "", RetryLater, 5, Closes.NOTHING),
        (200, 10016, "", RetryLater, 5, Closes.NOTHING),
        (200, 10001, "", Refused, 5, Closes.NOTHING),
        (404, 404, "", Refused, 5, Closes.NOTHING),
        (404, None, "", RetryLater, 15, Closes.NOTHING),
        (200, 99999, "", BadPayload, 5, Closes.NOTHING),
        (200, None, "<html>", RetryLater, 15, Closes.NOTHING),
    ],
)
def test_refusals_close_what_they_concern(status, code, text, error, wait_s, closes):
    body = None if code is None else {"retCode": code, "retMsg": "so", "result": {}, "retExtInfo": {}, "time": T}
    refusal = EXCHANGE.judge(answer(status, body, text))
    assert (refusal.error, refusal.closes) == (error, closes)
    if error is RetryLater:
        assert refusal.retry_after_s == wait_s


@pytest.mark.parametrize(("reset_ms", "wait_s"), [(T + 7_000, 7), (T - 5_000, 2), (T + 900_000, 60), ("soon", 2)])
def test_a_spent_limit_rests_until_the_time_in_the_header(reset_ms, wait_s):
    sent = answer(429, X_Bapi_Limit_Reset_Timestamp=str(reset_ms))
    assert EXCHANGE.judge(sent).retry_after_s == wait_s


@pytest.mark.parametrize("body", [enveloped([]), {"retCode": "0"}, {"retCode": True}, [], 7, None])
def test_only_the_code_zero_is_data(body):
    is_good = isinstance(body, dict) and type(body["retCode"]) is int
    assert (EXCHANGE.judge(answer(body=body)) is None) == is_good


@pytest.mark.parametrize("body", [{"retCode": 0}, {"retCode": 0, "result": {}}, {"retCode": 0, "result": None}])
def test_the_code_of_data_without_a_result_is_a_reason_to_wait(body):
    """Five of them within two minutes let every window that was asked for rest for a day."""
    assert EXCHANGE.judge(answer(body=body)).error is RetryLater


def test_values_are_per_coin_and_for_one_side():
    candle = EXCHANGE.find_rest_feed("ohlcv").parse(
        [str(T), "0.0047", "0.005", "0.0046", "0.00471", "12", "0.05"], PEPE
    )
    assert candle == Candle(T, "0.0000047", "0.000005", "0.0000046", "0.00000471", "12000", "0.05")
    assert EXCHANGE.find_rest_feed("oi").parse(INTEREST, PEPE).oi == "26336672"
    odd = {"openInterest": "3", "timestamp": str(T)}
    assert EXCHANGE.find_rest_feed("oi").parse(odd, PEPE).oi == "1500"
    assert EXCHANGE.find_rest_feed("oi").parse(odd | {"singleOpenInterest": ""}, BTC).oi == "1.5"
    ticker = TICKER | {"symbol": PEPE.name}
    assert read_message(channel("oi"), ticker, PEPE) == [OpenInterest(T, "29058511.5", "1798002632.755")]
    (event,) = read_message(channel("lq"), [EVENT | {"s": PEPE.name, "v": "2000", "p": "0.005"}], PEPE)
    assert event.lql == "10.000", "contract units times contract price is USD already"


@pytest.mark.parametrize(
    ("metric", "row", "expected"),
    [
        ("ohlcv", [str(T), "5", "5", "5", "5", "0", "0"], Candle(T, "5", "5", "5", "5", "0", "0")),
        ("pfr", [str(T), "0", "0", "0", "0"], Premium(T, "0")),
        ("fr", SETTLED | {"fundingRate": "0"}, Funding(T, "0")),
        ("oi", INTEREST | {"openInterest": "0", "singleOpenInterest": "0"}, OpenInterest(T, "0")),
    ],
)
def test_zero_is_a_value(metric, row, expected):
    assert EXCHANGE.find_rest_feed(metric).parse(row, BTC) == expected


def cut(row):
    """Return rows that miss one member each."""
    return [row[:-1]] if isinstance(row, list) else [{k: v for k, v in row.items() if k != gone} for gone in row]


@pytest.mark.parametrize("metric", ROWS)
def test_a_row_with_a_missing_value_is_bad(metric):
    feed, page = EXCHANGE.find_rest_feed(metric), page_of("BTCUSDT")
    named = {"symbol": "BTCUSDT", "category": "linear"} if metric in ("ohlcv", "pfr", "mark", "oi") else {}
    assert len(feed.items(enveloped([ROWS[metric]], **named), page)) == 1
    for row in cut(ROWS[metric]):
        if metric == "oi" and "timestamp" in row:  # one of the two counts is enough
            continue
        with pytest.raises(BadPayload):
            read_rows(feed, enveloped([row], **named), page)


@pytest.mark.parametrize("bad", ["NaN", "-5", "", None, 1.5, "1e", "1,5", [], True])
def test_a_value_that_is_no_number_is_bad(bad):
    for index in range(1, 7):
        with pytest.raises(BadPayload):
            history.parse_kline([*KLINE[:index], bad, *KLINE[index + 1 :]], BTC)
    for name in ("openInterest", "singleOpenInterest"):
        if bad not in ("", None):  # one of the two is enough
            with pytest.raises(BadPayload):
                history.parse_open_interest(INTEREST | {name: bad}, BTC)
    for name in ("buyRatio", "sellRatio"):
        with pytest.raises(BadPayload):
            history.parse_ratio(SHARES | {name: bad}, BTC)
    if bad != "-5":
        with pytest.raises(BadPayload):
            history.parse_funding(SETTLED | {"fundingRate": bad}, BTC)
        with pytest.raises(BadPayload):
            history.parse_premium([*PREMIUM[:4], bad], BTC)


@pytest.mark.parametrize("stamp", [str(T // 1000), T * 1000, "soon", None, 0])
def test_seconds_and_other_strange_times_are_bad(stamp):
    for parse, row in ((history.parse_kline, [stamp, *KLINE[1:]]), (history.parse_premium, [stamp, *PREMIUM[1:]])):
        with pytest.raises(BadPayload):
            parse(row, BTC)
    with pytest.raises(BadPayload):
        history.parse_funding(SETTLED | {"fundingRateTimestamp": stamp}, BTC)
    with pytest.raises(BadPayload):
        history.parse_ratio(SHARES | {"timestamp": stamp}, BTC)


def test_rows_of_another_shape_are_bad():
    with pytest.raises(BadPayload):
        history.parse_premium(KLINE, BTC)
    with pytest.raises(BadPayload, match="between low and high"):
        history.parse_kline([KLINE[0], "30720", *KLINE[2:]], BTC)
    for longs, shorts in (("67.84", "32.16"), ("0.6784", "0.2216"), ("0.6784", "0.6784")):
        with pytest.raises(BadPayload, match="shares"):
            history.parse_ratio(SHARES | {"buyRatio": longs, "sellRatio": shorts}, BTC)
    with pytest.raises(BadPayload, match="between low and high"):
        history.parse_premium([KLINE[0], "0", "-0.0002", "0.0001", "0"], BTC)


@pytest.mark.parametrize("metric", ROWS)
def test_a_page_of_another_contract_is_bad(metric):
    feed = EXCHANGE.find_rest_feed(metric)
    named = {"symbol": "BTCUSDT", "category": "linear"} if metric in ("ohlcv", "pfr", "mark", "oi") else {}
    with pytest.raises(BadPayload, match="ETHUSDT was requested"):
        read_rows(feed, enveloped([ROWS[metric]], **named), page_of("ETHUSDT"))


@pytest.mark.parametrize(("metric", "row"), [("fr", SETTLED), ("oi", INTEREST), ("lsr", SHARES)])
def test_a_row_of_another_contract_is_bad_in_a_page_of_the_right_one(metric, row):
    strange = enveloped([row | {"symbol": "ETHUSDT"}], symbol="BTCUSDT", category="linear")
    with pytest.raises(BadPayload, match="BTCUSDT was requested"):
        read_rows(EXCHANGE.find_rest_feed(metric), strange, page_of("BTCUSDT"))


def test_times_in_seconds_are_taken_from_the_oldest_row_of_open_interest_only():
    feed, seconds = EXCHANGE.find_rest_feed("oi"), str(T // 1000)
    named = {"symbol": "BTCUSDT", "category": "linear"}
    late = {"openInterest": "4", "timestamp": str(T + 300_000)}
    last = {"openInterest": "2", "timestamp": seconds}
    for rows in ([last], [late, last]):
        items = feed.items(enveloped(rows, **named), page_of("BTCUSDT"))
        assert feed.parse(items[-1], BTC) == OpenInterest(T, "1")
    for rows, page in (
        ([last], page_of("BTCUSDT", T + 1)),
        ([last | {"timestamp": T // 1000}], page_of("BTCUSDT")),
        ([last, late], page_of("BTCUSDT")),
        ([late | {"timestamp": str(T // 1000 + 300)}, last], page_of("BTCUSDT")),
    ):
        with pytest.raises(BadPayload, match="not a time in ms"):
            read_rows(feed, enveloped(rows, **named), page)


@pytest.mark.parametrize("metric", ROWS)
@pytest.mark.parametrize("body", [{}, [], {"result": {}}, {"result": []}, {"result": {"list": {}}, "time": T}])
def test_an_answer_without_a_list_is_bad(metric, body):
    with pytest.raises(BadPayload):
        EXCHANGE.find_rest_feed(metric).items(body, page_of("BTCUSDT"))


def test_both_times_are_always_sent_and_the_largest_page():
    page = page_of("BTCUSDT", T, T + HOUR_MS)
    common = {"category": "linear", "symbol": "BTCUSDT"}
    early, late = {"startTime": T - 1}, {"endTime": T + HOUR_MS - 1}
    expected = {
        "ohlcv": {"interval": "1", "start": T, "end": T + HOUR_MS + MINUTE_MS - 1, "limit": 1000},
        "pfr": {"interval": "1", "start": T, "end": T + HOUR_MS + MINUTE_MS - 1, "limit": 1000},
        "mark": {"interval": "1", "start": T, "end": T + HOUR_MS + MINUTE_MS - 1, "limit": 1000},
        "fr": {"startTime": T - 8 * HOUR_MS - 1, **late, "limit": 200},
        "oi": {"intervalTime": "5min", "startTime": T, **late, "limit": 200},
        "lsr": {"period": "5min", **early, **late, "limit": 500},
    }
    assert {feed.metric: feed.params(page) for feed in EXCHANGE.rest_feeds} == {
        metric: common | params for metric, params in expected.items()
    }


def test_a_page_of_settlements_holds_no_more_of_them_than_an_answer():
    feed = EXCHANGE.find_rest_feed("fr")
    assert feed.page_span_ms == (200 - 8) * HOUR_MS
    assert feed.paging.exact
    assert feed.sparse


def test_recorded_candle_messages_are_open_and_a_confirmed_one_is_a_row():
    for message in recorded("ws_kline"):
        frame = route(message)
        assert frame.topic == channel("ohlcv").topic(BTC) == "kline.1.BTCUSDT"
        assert not frame.partial
        assert read_message(channel("ohlcv"), frame.data, BTC) == []
    confirmed = recorded("ws_kline")[0]["data"][0] | {"confirm": True}
    row = Candle(1719667560000, "61030", "61030", "61015", "61029.9", "10.798", "658980.4245")
    assert read_message(channel("ohlcv"), [confirmed], BTC) == [row]
    running = BAR | {"start": T + MINUTE_MS, "end": T + MINUTE_MS + 59_999, "confirm": False}
    assert read_message(channel("ohlcv"), [BAR, running], BTC) == [Candle(T, "2", "4", "1", "3", "10.5", "25.25")]


@pytest.mark.parametrize("changes", [{"confirm": "true"}, {"interval": "5"}, {"end": T + 299_999}, {"volume": "-1"}])
def test_a_candle_that_is_not_of_one_minute_is_bad(changes):
    with pytest.raises(BadPayload):
        read_message(channel("ohlcv"), [BAR | changes], BTC)


def test_recorded_tickers_merge_to_funding_and_open_interest():
    frames = [route(message) for message in recorded("ws_tickers")]
    assert [frame.partial for frame in frames] == [False, True, True, True, True, False]
    assert {frame.topic for frame in frames} == {"tickers.BTCUSDT"}
    state = dict(frames[0].data)
    assert read_message(channel("ppr"), state, BTC) == [PredictedFunding(1715748762463, "0.00008055")]
    assert read_message(channel("oi"), state, BTC) == [OpenInterest(1715748762463, "29058.511", "1798002632.755")]
    state |= frames[1].data
    assert read_message(channel("oi"), state, BTC) == [OpenInterest(1715748763063, "29058.511", "1797997111.635")]
    state |= frames[4].data
    assert read_message(channel("oi"), state, BTC)[0].oi_usd == "2625495106.91", (
        "one side as sent, which is not quite the half"
    )
    assert read_message(channel("ppr"), state, BTC) == [PredictedFunding(1790134712383, "0.00008055")]


@pytest.mark.parametrize("blank", ["", None])
def test_a_blank_value_in_usd_leaves_the_coins(blank):
    """In tickers of before June 2026 and after."""
    before = TICKER | {"openInterest": "10", "openInterestValue": blank}
    for ticker in (before, before | {"singleOpenInterest": "5", "singleOpenInterestValue": blank}):
        sent = {name: value for name, value in ticker.items() if value != blank}
        for data in (ticker, sent):
            assert read_message(channel("oi"), data, BTC) == [OpenInterest(T, "5", None)]


def test_contracts_without_funding_have_no_estimate():
    assert read_message(channel("ppr"), TICKER | {"fundingRate": ""}, BTC) == []


def test_recorded_liquidations_have_the_side_of_the_position():
    strk, ada, pippin = (route(message) for message in recorded("ws_all_liquidation"))
    for frame, name, expected in (
        (strk, "STRKUSDT", Liquidations(1791091285156, "107.685085", "0")),
        (ada, "ADAUSDT", Liquidations(1786014946933, "0", "2536.9920")),
        (pippin, "PIPPINUSDT", Liquidations(1740480207110, "0", "69.89776")),
    ):
        instrument = replace(BTC, name=name)
        assert frame.topic == channel("lq").topic(instrument)
        assert read_message(channel("lq"), frame.data, instrument) == [expected]
    assert len(read_message(channel("lq"), [EVENT, EVENT], BTC)) == 2, "equal events of a frame are two"
    assert channel("lq").reduce is Reduce.SUM
    assert not channel("lq").distinct


@pytest.mark.parametrize("metric", EVENTS)
def test_an_event_with_a_missing_value_or_of_another_contract_is_bad(metric):
    event = EVENTS[metric][0] if isinstance(EVENTS[metric], list) else EVENTS[metric]
    unused = {"timestamp", "openInterest", "openInterestValue", "fundingRate"} - {
        "ppr": {"fundingRate"},
        "oi": {"openInterest"},
    }.get(metric, set())
    for gone in set(event) - unused:
        broken = {name: value for name, value in event.items() if name != gone}
        with pytest.raises(BadPayload):
            read_message(channel(metric), [broken] if isinstance(EVENTS[metric], list) else broken, BTC)
    if metric != "ohlcv":
        with pytest.raises(BadPayload, match="ETHUSDT was requested"):
            read_message(channel(metric), EVENTS[metric], replace(BTC, name="ETHUSDT"))


@pytest.mark.parametrize("changes", [{"S": "Long"}, {"v": "-1"}, {"p": "0"}, {"T": T // 1000}])
def test_a_strange_liquidation_is_bad(changes):
    for data in ([EVENT | changes], EVENT | changes, [EVENT, EVENT | changes]):
        with pytest.raises(BadPayload):
            read_message(channel("lq"), data, BTC)


@pytest.mark.parametrize("data", [None, "", 1, [None], [[EVENT]]])
def test_liquidations_of_another_shape_are_bad(data):
    with pytest.raises(BadPayload):
        read_message(channel("lq"), data, BTC)


def test_recorded_acks_and_pongs_are_passed_over_and_refusals_name_their_topic():
    ack, pong, twice, unknown = (route(message) for message in recorded("ws_control"))
    assert ack == pong == route({"op": "pong", "args": ["1791382800000"]})
    assert (ack.topic, ack.data, ack.fault) == (None, None, None)
    assert (twice.acked, twice.void, twice.fault) == (("orderbook.1.ETHUSDT",), True, None)
    assert (unknown.topic, unknown.data) == ("orderbook.50.NOPEUSDT", None)
    assert route("what?").fault == "what?"
    assert route({"topic": "kline.1.BTCUSDT"}) == Frame(topic="kline.1.BTCUSDT", odd="no data")


def test_answers_of_requests_say_which_request_they_are_about():
    answer = {"conn_id": "x", "req_id": "7", "op": "subscribe"}
    assert route({**answer, "success": True, "ret_msg": ""}) == Frame(request=7)
    unnamed = route({**answer, "success": False, "ret_msg": "Invalid symbol :[kline.1.X]"})
    assert (unnamed.topic, unnamed.request, unnamed.fault) == (None, 7, "Invalid symbol :[kline.1.X]")
    twice = route({**answer, "success": False, "ret_msg": "error:already subscribed,topic:kline.1.X"})
    assert twice == Frame(acked=("kline.1.X",), request=7, void=True)


def test_topics_of_a_socket_stay_below_the_limit_of_characters():
    (socket,) = EXCHANGE.sockets
    longest = channel("lq").topic(replace(BTC, name="1000000BABYDOGEUSDT"))
    assert socket.topics_per_socket * len(f'"{longest}",') <= 21_000
    assert json.loads(socket.subscribe(["kline.1.BTCUSDT"], 7)) == {
        "op": "subscribe",
        "req_id": "7",
        "args": ["kline.1.BTCUSDT"],
    }
    assert json.loads(socket.ping_text) == {"op": "ping"}


def test_requests_stay_below_the_limit_that_bans():
    (budget,) = EXCHANGE.budgets
    assert (budget.limit, budget.period_ms) == (595, 5_000)
    assert {feed.paging.compute_cost(feed.paging.rows) for feed in EXCHANGE.rest_feeds} == {1}
