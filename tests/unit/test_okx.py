"""OKX's table: every recorded answer through the real parser, and what must not become a row."""

import json
from copy import deepcopy
from decimal import Decimal
from pathlib import Path

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.exchanges.okx import EXCHANGE
from fademoe.exchanges.okx.answers import judge
from fademoe.exchanges.okx.stream import route, subscribe
from fademoe.feeds.answers import Answer, Closes
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.stream import Frame
from fademoe.metrics import (
    Candle,
    Funding,
    Liquidations,
    LongShortRatio,
    Mark,
    OpenInterest,
    PredictedFunding,
    Premium,
)
from fademoe.testing.readers import read_contracts, read_message, read_rows
from tests.support.pages import confirm_with, fetch_with

FOLDER = Path(__file__).parent.parent / "recordings" / "okx"
RECORDINGS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
START = 1_788_480_000_000
BTC = Instrument(exchange="okx", code="okx", name="BTC-USDT-SWAP", symbol="BTC", contract_value="0.01")
FEEDS = {feed.metric: feed for feed in EXCHANGE.rest_feeds}
PUSHES = {feed.metric: feed for feed in EXCHANGE.stream_feeds}
POLLS = {feed.metric: feed for feed in EXCHANGE.poll_feeds}


def payload(name, index=0):
    return deepcopy(RECORDINGS[name][index]["payload"])


def swap(name, contract_value="1", multiplier=1):
    coin = name.partition("-")[0]
    return Instrument(
        exchange="okx", code="okx", name=name, symbol=coin, contract_value=contract_value, multiplier=multiplier
    )


def page(start_ms, end_ms, instrument=BTC):
    return Page(instrument=instrument, start_ms=start_ms, end_ms=end_ms, limit=100)


def rows(metric, body, instrument=BTC, start_ms=0, end_ms=2**42):
    """Read a whole answer as the engine does."""
    feed = FEEDS[metric]
    return read_rows(feed, body, page(start_ms, end_ms, instrument))


def pushed(message):
    """Read a message as the runner does: metric -> rows of the contract that it is about."""
    frame = route(message)
    found = {}
    for metric, feed in PUSHES.items():
        name = message["arg"].get("instId", "BTC-USDT-SWAP")
        if feed.topic(swap(name)) == frame.topic:
            names = {feed.read_instrument_name(item) or name for item in feed.items(frame.data)}
            for own_name in sorted(names):
                instrument = swap(own_name, "0.01" if own_name == BTC.name else "1")
                found[metric] = read_message(feed, frame.data, instrument)
    return found


def test_every_recording_is_used():
    assert set(RECORDINGS) == {
        *("mark_price", "rest_candles", "rest_errors", "rest_funding_rate", "rest_funding_rate_history"),
        *("rest_instruments", "rest_open_interest", "rest_premium_history", "rest_rubik"),
        *("ws_candle1m", "ws_events", "ws_funding_rate", "ws_liquidation_orders", "ws_open_interest"),
    }


# candles


def test_recorded_candles_have_coins_as_volume():
    assert rows("ohlcv", payload("rest_candles")) == [
        Candle(1747094040000, "102806.1", "102820.4", "102806.1", "102820.4", "10.4037", "1069603.34883"),
        Candle(1747093980000, "102806", "102820.5", "102783.1", "102806.1", "71.6404", "7364701.57952"),
    ]
    for row in payload("rest_candles")["data"]:
        assert Decimal(row[5]) * Decimal(BTC.contract_value) == Decimal(row[6])


def test_an_open_bar_is_no_row_and_a_minute_without_trades_is_one():
    recorded = payload("rest_candles", 1)
    assert [row[8] for row in recorded["data"]] == ["0", "1", "1", "1"]
    found = rows("ohlcv", recorded, swap("BTC-USDT"))
    assert [row.ts for row in found] == [1757076000000, 1757058180000, 1757058120000]
    assert found[-1] == Candle(1757058120000, "112769.5", "112769.5", "112769.5", "112769.5", "0", "0")


def test_only_confirmed_bars_of_the_mark_price_are_rows():
    bars = [
        [str(START + n * MINUTE_MS), "3.721", "3.743", "3.677", "3.708", confirm] for n, confirm in ((1, "0"), (0, "1"))
    ]
    expected = [Mark(START, "3.721", "3.743", "3.677", "3.708")]
    assert rows("mark", {"code": "0", "msg": "", "data": bars}) == expected
    assert FEEDS["mark"].parse_all(bars[1:], BTC) == expected
    for bad in (bars[1][:5], [*bars[1][:5], "2"], [*bars[1][:4], "3.8", "1"]):
        with pytest.raises(BadPayload):
            FEEDS["mark"].parse(bad, BTC)
    for feed in (FEEDS["mark"], FEEDS["mark"].recent):
        asked = feed.make_request(page(START, START + 10 * MINUTE_MS)).params
        assert asked == {"instId": "BTC-USDT-SWAP", "bar": "1m", "after": START + 10 * MINUTE_MS, "limit": 100}


def test_candles_of_another_shape_are_refused():
    with pytest.raises(BadPayload):
        rows("ohlcv", payload("rest_candles", 2))  # mark price: six values
    with pytest.raises(BadPayload):
        rows("ohlcv", {"code": "0", "data": [payload("rest_candles")["data"][0][:7]]})  # before 2023


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, "1747094040"),
        (0, 1747094040.0),
        (1, "NaN"),
        (1, "0"),
        (2, "102806.0"),
        (3, "102821"),
        (4, 102820.4),
        (5, "-1"),
        (6, "-10.4037"),
        (6, ""),
        (7, None),
        (8, "2"),
        (8, 1),
        (8, ""),
    ],
)
def test_a_damaged_candle_is_a_bad_payload(index, value):
    row = list(payload("rest_candles")["data"][0])
    row[index] = value
    with pytest.raises(BadPayload):
        rows("ohlcv", {"code": "0", "data": [row]})


def test_prices_and_volumes_are_per_one_coin_should_a_contract_ever_have_a_multiplier():
    row = ["1747094040000", "0.012345", "0.01235", "0.0123", "0.0123", "7", "1024", "12.64", "1"]
    candle = FEEDS["ohlcv"].parse(row, swap("1000PEPE-USDT-SWAP", "1000", 1000))
    assert candle == Candle(1747094040000, "0.000012345", "0.00001235", "0.0000123", "0.0000123", "1024000", "12.64")


def test_both_candle_endpoints_ask_for_what_is_older_than_the_pages_end():
    wanted = page(START, START + 300 * MINUTE_MS)
    for feed in (FEEDS["ohlcv"], FEEDS["ohlcv"].recent):
        assert feed.params(wanted) == {
            "instId": "BTC-USDT-SWAP",
            "bar": "1m",
            "after": START + 300 * MINUTE_MS,
            "limit": 100,
        }
    assert FEEDS["ohlcv"].recent_ms < 1440 * MINUTE_MS


@pytest.mark.parametrize("most", [7, 100, 300])
@pytest.mark.parametrize("is_inclusive", [False, True])
def test_every_candle_comes_once_however_the_service_is_read(most, is_inclusive):
    gone = {START + minute * MINUTE_MS for minute in (0, 1, 5, 299, 300, 450)}
    listed = [ts for ts in range(START - 500 * MINUTE_MS, START + 900 * MINUTE_MS, MINUTE_MS) if ts not in gone]
    asked = []

    def get(request, cost):
        asked.append(request.params)
        older = [ts for ts in listed if ts < request.params["after"] + is_inclusive]
        newest = older[::-1][: min(most, request.params["limit"])]
        return {"data": [[str(ts), "2", "3", "1", "2", "100", "1", "2", "1"] for ts in newest]}

    window = Window(START, START + 600 * MINUTE_MS)
    fetched = fetch_with(FEEDS["ohlcv"], BTC, [window], get)
    expected = [ts for ts in listed if ts in range(*window, MINUTE_MS)]
    assert [row.ts for row in fetched.list_rows()] == expected
    before = len(asked)
    fetched = confirm_with(FEEDS["ohlcv"], BTC, fetched, START + DAY_MS, get)
    assert {ts for hole in fetched.absent for ts in range(*hole, MINUTE_MS)} == gone
    assert fetched.answered == [window]
    assert len(asked) - before <= before, "the holes of a page are asked for together"


def test_a_service_that_ignores_the_end_is_refused():
    newest = [[str(START + n * MINUTE_MS), "2", "3", "1", "2", "100", "1", "2", "1"] for n in range(100, 0, -1)]
    fetched = fetch_with(FEEDS["ohlcv"], BTC, [Window(START - DAY_MS, START)], lambda *_: {"data": newest})
    assert isinstance(fetched.failed, BadPayload) and fetched.answered == []


def test_only_a_confirmed_push_is_a_candle():
    message = payload("ws_candle1m")
    assert pushed(message) == {"ohlcv": []}
    message["data"][0][8] = "1"
    assert pushed(message) == {
        "ohlcv": [Candle(1774964340000, "66898.7", "66902.1", "66884.6", "66894.5", "13.3007", "889750.68514000")]
    }
    message["data"][0][8] = "true"
    with pytest.raises(BadPayload):
        pushed(message)
    assert pushed(payload("ws_candle1m", 1)) == {"ohlcv": []}


# premium


def test_the_recorded_premium_sample_stands_for_its_minute():
    assert rows("pfr", payload("rest_premium_history")) == [Premium(1713925920000, "0.0000578896878167")]


def test_the_last_sample_of_a_minute_is_its_row_in_any_order():
    seconds = (59, 3, 31, 60, 119, 200)
    samples = [
        {"instId": "BTC-USDT-SWAP", "premium": f"-0.{second}", "ts": str(START + second * 1000)} for second in seconds
    ]
    expected = {START: "-0.59", START + MINUTE_MS: "-0.119", START + 3 * MINUTE_MS: "-0.200"}
    for body in (samples, samples[::-1]):
        assert {row.ts: row.pfr for row in rows("pfr", {"data": body})} == expected


@pytest.mark.parametrize(
    "change",
    [
        {"instId": "ETH-USDT-SWAP"},
        {"premium": "NaN"},
        {"premium": ""},
        {"premium": 0.1},
        {"ts": "1713925924"},
        {"ts": None},
        {"premium": "1e-x"},
    ],
)
def test_a_damaged_premium_sample_is_a_bad_payload(change):
    item = payload("rest_premium_history")["data"][0] | change
    with pytest.raises(BadPayload):
        rows("pfr", {"data": [item]})


def test_only_the_newest_sample_of_a_minute_has_to_be_readable():
    good = payload("rest_premium_history")["data"][0]
    older = good | {"ts": "1713925921000", "premium": "NaN"}
    assert len(rows("pfr", {"data": [good, older]})) == 1
    with pytest.raises(BadPayload):
        rows("pfr", {"data": [good | {"premium": "NaN"}, older | {"premium": "0"}]})


def test_a_minute_whose_newest_sample_may_be_the_unreadable_one_has_no_row():
    good = payload("rest_premium_history")["data"][0]
    other = good | {"ts": str(int(good["ts"]) - MINUTE_MS)}
    items = FEEDS["pfr"].items({"data": [good | {"ts": None}, good, other]}, page(0, 2**42))
    assert items == [good | {"ts": None}, other]


@pytest.mark.parametrize("most", [2, 5, 100])
@pytest.mark.parametrize("seconds", [(0, 1, 59), (7, 7, 7), (30,), tuple(range(0, 60, 2))])
def test_the_last_sample_of_every_minute_is_found_across_pages(most, seconds):
    samples = [
        (START + minute * MINUTE_MS + second * 1000, f"0.{minute + 50}{number}1")
        for minute in range(-20, 160)
        if minute % 7
        for number, second in enumerate(seconds)
    ]

    def get(request, cost):
        newest = [one for one in reversed(samples) if one[0] < request.params["after"]][:most]
        return {"data": [{"instId": BTC.name, "premium": value, "ts": str(ts)} for ts, value in newest]}

    last = {ts // MINUTE_MS * MINUTE_MS: value for ts, value in samples}
    fetched = fetch_with(FEEDS["pfr"], BTC, [Window(START, START + 150 * MINUTE_MS)], get)
    assert {row.ts: row.pfr for row in fetched.list_rows()} == {
        ts: value for ts, value in last.items() if START <= ts < START + 150 * MINUTE_MS
    }


def test_a_premium_page_asks_for_a_full_answer_whatever_it_spans():
    assert FEEDS["pfr"].params(page(START, START + MINUTE_MS))["limit"] == 100


# funding


def settlement(hour, rate="0.0001", **change):
    ts = str(START + hour * HOUR_MS)
    names = {"instId": "BTC-USDT-SWAP", "instType": "SWAP", "method": "current_period"}
    return {**names, "fundingRate": rate, "realizedRate": rate, "fundingTime": ts, **change}


def test_the_recorded_settlement_has_no_known_interval():
    recorded = payload("rest_funding_rate_history")
    assert rows("fr", recorded) == [Funding(1788480000000, "0.0000418741079605", None)]


def test_the_interval_is_the_distance_to_the_settlement_before():
    body = {"data": [settlement(hour) for hour in (21, 20, 16, 8, 0, -8)]}
    assert [row.fr_hours for row in rows("fr", body)] == [1, 4, 8, 8, 8]


@pytest.mark.parametrize("before_ms", [9 * HOUR_MS, 90 * MINUTE_MS, 24 * HOUR_MS])
def test_a_distance_that_is_no_interval_is_none(before_ms):
    older = settlement(0, fundingTime=str(START - before_ms))
    assert rows("fr", {"data": [settlement(0), older]}) == [Funding(START, "0.0001", None)]


def test_what_was_charged_is_the_rate_and_a_blank_leaves_what_stood():
    body = {"data": [settlement(8, realizedRate="-0.0002"), settlement(0, realizedRate=""), settlement(-8)]}
    assert [row.fr for row in rows("fr", body)] == ["-0.0002", "0.0001"]


@pytest.mark.parametrize(
    "change", [{"realizedRate": "NaN"}, {"realizedRate": None}, {"fundingRate": "x"}, {"instId": "X"}]
)
def test_a_damaged_settlement_is_a_bad_payload(change):
    with pytest.raises(BadPayload):
        rows("fr", {"data": [settlement(8, **change), settlement(0)]})
    item = settlement(8)
    del item["realizedRate"]
    with pytest.raises(BadPayload):
        rows("fr", {"data": [item, settlement(0)]})


@pytest.mark.parametrize("most", [2, 3, 7, 400])
def test_every_settlement_comes_once_with_its_interval_however_short_the_answers(most):
    hours = list(range(-30, 100, 4))
    asked = []

    def get(request, cost):
        asked.append(request.params)
        older = [settlement(hour) for hour in reversed(hours) if START + hour * HOUR_MS < request.params["after"]]
        return {"code": "0", "data": older[:most]}

    fetched = fetch_with(FEEDS["fr"], BTC, [Window(START, START + 80 * HOUR_MS)], get)
    assert fetched.failed is None
    assert [(row.ts - START) // HOUR_MS for row in fetched.list_rows()] == [hour for hour in hours if 0 <= hour < 80]
    assert {row.fr_hours for row in fetched.list_rows()} == {4}


def test_the_first_settlement_of_all_is_a_row_without_interval():
    def get(request, cost):
        return {"data": [settlement(h) for h in (24, 16, 8) if START + h * HOUR_MS < request.params["after"]]}

    fetched = fetch_with(FEEDS["fr"], BTC, [Window(START, START + 80 * HOUR_MS)], get)
    assert [row.fr_hours for row in fetched.list_rows()] == [None, 8, 8]


# open interest and ratio


def test_the_noise_of_floats_is_rounded_away_and_nothing_else():
    assert rows("oi", payload("rest_rubik")) == [OpenInterest(1789239600000, "27523.9951", "2121056862.79572047273939")]
    (found,) = read_message(PUSHES["oi"], payload("rest_open_interest")["data"], BTC)
    assert found == OpenInterest(1728728314766, "26631.073", "1676426045.35")


def test_what_has_few_digits_is_kept_as_sent():
    row = ["1789239600000", "0", "12345678900000", "1000.50"]
    assert rows("oi", {"data": [row]}) == [OpenInterest(1789239600000, "12345678900000", "1000.50")]
    assert rows("oi", {"data": [["1789239600000", "0", "0", "0"]]}) == [OpenInterest(1789239600000, "0", "0")]


def test_recorded_open_interest_pushes():
    assert pushed(payload("ws_open_interest")) == {"oi": [OpenInterest(1790165111452, "638584.898", "1737793854.62")]}
    assert pushed(payload("ws_open_interest", 1)) == {"oi": [OpenInterest(1640131258756, "644195", None)]}
    for blank in ("", None):
        item = payload("ws_open_interest")["data"][0] | {"oiUsd": blank}
        assert read_message(PUSHES["oi"], [item], swap("ETH-USDT-SWAP")) == [
            OpenInterest(1790165111452, "638584.898", None)
        ]
    older = payload("rest_open_interest", 1)["data"]  # 2022, two inverse contracts
    assert [read_message(PUSHES["oi"], [item], swap(item["instId"]))[0].oi_usd for item in older] == [None, None]


def test_recorded_ratios():
    assert rows("lsr", payload("rest_rubik", 1)) == [
        LongShortRatio(1790322000000, "1.24"),
        LongShortRatio(1790321700000, "1.25"),
    ]
    assert [row.lsr for row in rows("lsr", payload("rest_rubik", 2))] == ["1.1739", "0.1236"]
    with pytest.raises(BadPayload):
        rows("oi", payload("rest_rubik", 3))  # taker volume: three values


@pytest.mark.parametrize("metric", ["oi", "lsr"])
@pytest.mark.parametrize("value", ["NaN", "-1", "", None, 1.5])
def test_damaged_statistics_are_bad_payloads(metric, value):
    good = ["1789239600000", "2752527.4", "27523.9951", "2121056862.79"][: 4 if metric == "oi" else 2]
    for index in range(1, len(good) - (value in ("", None) and metric == "oi")):
        with pytest.raises(BadPayload):
            rows(metric, {"data": [[*good[:index], value, *good[index + 1 :]]]})
    if metric == "oi" and value in ("", None):  # a blank USD value costs the coins nothing
        (row,) = rows(metric, {"data": [[*good[:3], value]]})
        assert (row.oi, row.oi_usd) == ("27523.9951", None)
    for row in ([], good[:1], ["1789239600", *good[1:]], None, {}):
        with pytest.raises(BadPayload):
            rows(metric, {"data": [row]})


def test_the_ends_of_a_statistics_page_lie_beside_the_grid():
    wanted = page(START, START + 500 * MINUTE_MS)
    for metric in ("oi", "lsr"):
        params = FEEDS[metric].params(wanted)
        assert (params["begin"], params["end"], params["limit"]) == (START - 1, START + 500 * MINUTE_MS - 1, 100)
        assert FEEDS[metric].paging.rows == 100


@pytest.mark.parametrize("is_inclusive", [False, True])
def test_every_row_of_the_statistics_comes_whether_their_ends_belong_to_the_range_or_not(is_inclusive):
    listed = range(START - DAY_MS, START + 2 * DAY_MS, 5 * MINUTE_MS)

    def get(request, cost):
        inside = [
            ts for ts in listed if request.params["begin"] - is_inclusive < ts < request.params["end"] + is_inclusive
        ]
        return {"data": [[str(ts), "1.5"] for ts in inside[::-1][: request.params["limit"]]]}

    for start_ms in (START, START + MINUTE_MS):  # what is missing need not begin on the grid
        fetched = fetch_with(FEEDS["lsr"], BTC, [Window(start_ms, START + DAY_MS)], get)
        assert [row.ts for row in fetched.list_rows()] == [ts for ts in listed if start_ms <= ts < START + DAY_MS]


def test_a_contract_never_gets_more_full_pages_of_ratios_than_its_own_limit():
    budget = EXCHANGE.get_budget(FEEDS["lsr"].budget)
    assert budget.limit // FEEDS["lsr"].paging.compute_cost(100) == 5


def test_open_interest_and_the_predicted_rate_are_polled_for_all_contracts_at_once():
    for metric, asked, name in (
        ("ppr", {"instId": "ANY"}, "rest_funding_rate"),
        ("oi", {"instType": "SWAP"}, "rest_open_interest"),
    ):
        feed = POLLS[metric]
        assert feed.params([BTC, swap("ETH-USDT-SWAP")]) == asked
        assert (feed.batch, feed.every_ms) == (None, MINUTE_MS)
        for index in range(len(RECORDINGS[name])):
            body = payload(name, index)
            assert feed.items(body) == body["data"]
            for item in body["data"]:
                instrument = swap(feed.read_instrument_name(item))
                assert [feed.parse(item, instrument)] == read_message(PUSHES[metric], [item], instrument)
    assert POLLS["ppr"].parse(payload("rest_funding_rate")["data"][0] | {"fundingRate": ""}, BTC) is None


# pushes of funding


def test_recorded_funding_pushes_give_premium_and_predicted_rate():
    assert pushed(payload("ws_funding_rate")) == {
        "pfr": [Premium(1765201461438, "-0.0004021053670636")],
        "ppr": [PredictedFunding(1765201461438, "0.0001000000000000")],
    }
    for recording in RECORDINGS["rest_funding_rate"]:  # REST's rows have the shape of the channel's
        for item in recording["payload"]["data"]:
            instrument = swap(item["instId"])
            assert read_message(PUSHES["pfr"], [item], instrument) == [Premium(int(item["ts"]), item["premium"])]
            assert read_message(PUSHES["ppr"], [item], instrument) == [
                PredictedFunding(int(item["ts"]), item["fundingRate"])
            ]


@pytest.mark.parametrize("index", [1, 2])
def test_funding_pushes_before_2024_are_refused(index):
    with pytest.raises(BadPayload):
        pushed(payload("ws_funding_rate", index))


def test_a_blank_rate_or_a_lacking_one_is_no_sample():
    item = dict(payload("ws_funding_rate")["data"][0])
    instrument = swap("LTC-USDT-SWAP")
    assert read_message(PUSHES["pfr"], [item | {"premium": ""}], instrument) == []
    assert read_message(PUSHES["ppr"], [item | {"fundingRate": ""}], instrument) == []
    del item["fundingRate"]
    assert read_message(PUSHES["ppr"], [item], instrument) == []
    for change in ({"instId": "BTC-USDT-SWAP"}, {"premium": "NaN"}, {"ts": "1765201461"}):
        with pytest.raises(BadPayload):
            read_message(PUSHES["pfr"], [item | change], instrument)


# liquidations


def test_recorded_liquidations_are_usd_of_the_side_that_was_closed():
    found = [pushed(recording["payload"]) for recording in RECORDINGS["ws_liquidation_orders"]]
    assert found[0] == {"lq": [Liquidations(1791565600771, lql="7067.06235", lqs="0")]}  # 8.55 x 0.01 x 82655.7
    assert found[1] == {"lq": [Liquidations(1789669898955, lql="0", lqs="889.4194")]}
    assert found[2] == {"lq": [Liquidations(1791435480289, lql="0.145364", lqs="0")]}
    assert found[3] == {"lq": [Liquidations(1723904954052, lql="495.446", lqs="0")]}
    assert found[4] == {}  # a dated contract's, under another topic


@pytest.mark.parametrize(
    ("position", "order", "was_long"),
    [("net", "sell", True), ("net", "buy", False), ("", "sell", True), ("long", "sell", True), ("short", "buy", False)],
)
def test_the_order_tells_the_side_of_a_position_without_one(position, order, was_long):
    detail = {"side": order, "posSide": position, "bkPx": "2", "sz": "3", "ts": "1791565600771"}
    item = {"instId": "BTC-USDT-SWAP", "details": [detail, detail]}
    usd = Liquidations(1791565600771, *(("0.06", "0") if was_long else ("0", "0.06")))
    assert read_message(PUSHES["lq"], [item], BTC) == [usd, usd]


def test_a_multiplied_contract_is_liquidated_for_the_same_usd():
    detail = {"side": "sell", "posSide": "net", "bkPx": "0.012", "sz": "5", "ts": "1791565600771"}
    item = {"instId": "1000PEPE-USDT-SWAP", "details": [detail]}
    (found,) = read_message(PUSHES["lq"], [item], swap("1000PEPE-USDT-SWAP", "10000", 1000))  # 10 x 1000 coins
    assert Decimal(found.lql) == Decimal("0.6")


@pytest.mark.parametrize(
    "change",
    [{"side": "SELL"}, {"posSide": "both"}, {"sz": "-1"}, {"bkPx": "0"}, {"bkPx": "NaN"}, {"ts": "1"}, {"sz": None}],
)
def test_a_damaged_liquidation_is_a_bad_payload(change):
    item = payload("ws_liquidation_orders")["data"][0]
    item["details"][0] |= change
    with pytest.raises(BadPayload):
        read_message(PUSHES["lq"], [item], BTC)
    with pytest.raises(BadPayload):
        read_message(PUSHES["lq"], [{"instId": BTC.name}], BTC)


# sockets


def test_topics_become_arguments_and_arguments_topics():
    topics = [*sorted({feed.topic(BTC) for feed in EXCHANGE.stream_feeds})]
    assert topics == [
        "candle1m:BTC-USDT-SWAP",
        "funding-rate:BTC-USDT-SWAP",
        "liquidation-orders:SWAP",
        "open-interest:BTC-USDT-SWAP",
    ]
    request = json.loads(subscribe(topics, 7))
    assert (request["op"], request["id"]) == ("subscribe", "7")
    assert {"channel": "liquidation-orders", "instType": "SWAP"} in request["args"]
    assert [route({"arg": argument, "data": []}).topic for argument in request["args"]] == topics


def test_a_full_request_is_far_from_the_largest():
    for socket in EXCHANGE.sockets:
        names = [f"open-interest:{number:015d}-USDT-SWAP" for number in range(socket.topics_per_request)]
        assert len(socket.subscribe(names, 1)) < 16_000


def test_recorded_events_are_acks_faults_and_a_farewell():
    frames = [route(recording["payload"]) for recording in RECORDINGS["ws_events"][:5]]
    assert [frame.acked for frame in frames] == [
        ("funding-rate:BTC-USD-SWAP",),
        ("instruments:SPOT",),
        (),
        (),
        ("liquidation-orders:SWAP",),
    ]
    assert not any(frame.fault or frame.data for frame in (*frames[:2], frames[4]))
    assert frames[2].fault and "60018" in frames[2].fault and frames[2].topic == "index-tickers:NEAR-USDT-SWAP"
    assert frames[3] == Frame(renew=True)
    assert payload("ws_events", 5) == "pong"  # not JSON: the connection takes it before


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        (
            "Subscribe failed, wrong URL or channel: candle1m,instId:币安人生-USDT-SWAP doesn't exist.",
            "candle1m:币安人生-USDT-SWAP",
        ),
        ("Wrong URL or channel:liquidation-orders, instType:SWAP.", "liquidation-orders:SWAP"),
        ("Illegal request: {}", None),
    ],
)
def test_an_error_names_its_topic_in_its_text(text, topic):
    frame = route({"event": "error", "code": "60018", "msg": text, "connId": "a4d3ae55", "id": "3"})
    assert (frame.topic, bool(frame.fault)) == (topic, True)


def test_channels_nobody_asked_for_are_passed_over():
    assert pushed(payload("mark_price")) == {}
    for message in (None, [], "x", {"event": "error"}, {"arg": {}}):
        assert route(message).fault
    for message in ({"event": "login"}, {"event": "notice", "code": "1"}, {"event": "channel-conn-count"}):
        assert route(message) == Frame()
    with pytest.raises(BadPayload):
        route({"arg": [], "data": []})


# contracts


def test_recorded_contracts():
    found = {
        each.name: each for item in RECORDINGS["rest_instruments"] for each in read_contracts(EXCHANGE, item["payload"])
    }
    linear = {
        row["instId"]: row
        for item in RECORDINGS["rest_instruments"]
        for row in item["payload"]["data"]
        if row["settleCcy"] == "USDT" and row["instType"] == "SWAP"
    }
    assert set(found) == set(linear) and len(found) > 60
    for name, row in linear.items():
        assert found[name].symbol == row["ctValCcy"] and found[name].multiplier == 1
        assert Decimal(found[name].contract_value) == Decimal(row["ctVal"])
        assert (found[name].listed_ms, found[name].delisted_ms) == (int(row["listTime"]), None)
    assert found["1INCH-USDT-SWAP"].symbol == "1INCH"


def describe_btc(**change):
    names = {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "uly": "BTC-USDT"}
    sizes = {"ctType": "linear", "ctVal": "0.01", "ctMult": "1", "ctValCcy": "BTC", "settleCcy": "USDT"}
    life = {"state": "live", "listTime": "1573557408000", "expTime": "", "instCategory": "1"}
    return {**names, **sizes, **life, **change}


def listed(**change):
    return read_contracts(EXCHANGE, {"code": "0", "data": [describe_btc(**change)]})


@pytest.mark.parametrize(
    "change",
    [
        {"ctType": "inverse"},
        {"settleCcy": "USDC"},
        {"instCategory": "3"},
        {"instCategory": "4"},
        {"state": "test"},
        {"state": "expired"},
        {"instType": "FUTURES"},
        {"ctType": "", "settleCcy": "", "ctVal": "", "state": "preopen"},
    ],
)
def test_other_contracts_are_left_out(change):
    assert listed(**change) == []


def test_sizes_and_lives_of_contracts():
    (btc,) = listed(ctMult="10", expTime="1791565600000", state="suspend")
    assert (btc.contract_value, btc.listed_ms, btc.delisted_ms) == ("0.10", 1573557408000, 1791565600000)
    (pepe,) = listed(instId="PEPE-USDT-SWAP", instFamily="PEPE-USDT", ctVal="10000000")
    assert (pepe.symbol, pepe.contract_value, pepe.multiplier) == ("PEPE", "10000000", 1)
    (many,) = listed(instId="1000CAT-USDT-SWAP", instFamily="1000CAT-USDT", ctVal="10")
    assert (many.symbol, many.contract_value, many.multiplier) == ("CAT", "10000", 1000)


@pytest.mark.parametrize("missing", ["ctMult", "expTime"])
def test_a_contract_without_a_member_that_is_alike_for_nearly_all_is_known(missing):
    """Members of the list come and go, and one that goes must not cost every contract."""
    item = {name: value for name, value in describe_btc().items() if name != missing}
    assert read_contracts(EXCHANGE, {"code": "0", "data": [item]}) == listed()


@pytest.mark.parametrize(
    "change",
    [
        {"ctVal": "0"},
        {"ctVal": ""},
        {"instCategory": None},
        {"ctVal": "NaN"},
        {"listTime": "1573557408"},
        {"instFamily": "-USDT"},
    ],
)
def test_a_damaged_contract_is_a_bad_payload(change):
    with pytest.raises(BadPayload):
        listed(**change)


def test_the_clock():
    assert EXCHANGE.clock.parse({"code": "0", "data": [{"ts": "1597026383085"}], "msg": ""}) == 1597026383085
    for body in ({"data": []}, {"data": [{"ts": "1597026383"}]}, {}):
        with pytest.raises(BadPayload):
            EXCHANGE.clock.parse(body)


# refusals


def answer(status, body, text="{}"):
    return judge(Answer(status=status, headers={}, body=body, text=text, now_ms=START))


def test_recorded_errors():
    recorded = [item["payload"] for item in RECORDINGS["rest_errors"]]
    assert [answer(status, body).error for status, body in zip((200, 429, 401), recorded, strict=True)] == [
        Refused,
        RetryLater,
        Refused,
    ]


@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("code", ["50011", "50013", "50040", "50061"])
def test_a_rate_limit_closes_its_budget_for_a_window(status, code):
    refusal = answer(status, {"msg": "Too Many Requests", "code": code})
    assert (refusal.error, refusal.closes, refusal.retry_after_s) == (RetryLater, Closes.BUDGET, 2.0)


@pytest.mark.parametrize("code", ["50001", "50004", "50026"])
@pytest.mark.parametrize("status", [200, 400, 500, 503])
def test_trouble_is_tried_again_whatever_its_status(status, code):
    refusal = answer(status, {"code": code, "msg": "", "data": []})
    assert (refusal.error, refusal.closes) == (RetryLater, Closes.NOTHING)


@pytest.mark.parametrize("code", ["51000", "51001", "51027", "50047", "50014", "51155", "50005"])
@pytest.mark.parametrize("status", [200, 400])
def test_what_the_exchange_will_never_answer_is_refused(status, code):
    assert answer(status, {"code": code, "msg": "", "data": []}).error is Refused


@pytest.mark.parametrize("status", [200, 502, 503, 404])
def test_a_page_of_the_cdn_is_tried_again(status):
    refusal = answer(status, None, "<!DOCTYPE html><html>")
    assert (refusal.error, refusal.closes) == (RetryLater, Closes.NOTHING)


def test_other_answers():
    assert answer(200, {"code": "0", "msg": "", "data": []}) is None
    assert answer(403, None, "<html>").closes is Closes.EXCHANGE
    assert answer(429, None, "<html>").closes is Closes.BUDGET
    assert answer(404, {"msg": "Not Found", "code": "404"}).error is Refused
    assert answer(200, {"code": "59999", "msg": ""}).error is BadPayload
    for data in ({}, {"data": None}, {"data": {}}):
        assert answer(200, {"code": "0", "msg": "", **data}).error is RetryLater
    for body in (None, "maintenance", 7, True, [], {}, {"message": "no route"}, {"code": 0}):
        for status in (200, 202, 302, 400, 404, 405):
            assert answer(status, body).error is RetryLater, "it is not the API's"


@pytest.mark.parametrize("body", [None, [], {}, {"code": "0"}, {"data": None}, {"data": {}}, {"data": "x"}])
def test_an_answer_without_rows_is_a_bad_payload(body):
    for feed in EXCHANGE.rest_feeds:
        with pytest.raises(BadPayload):
            feed.items(body, page(START, START + HOUR_MS))
    with pytest.raises(BadPayload):
        read_contracts(EXCHANGE, body)
