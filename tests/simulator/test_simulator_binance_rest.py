"""Binance over REST, as a plain client sees it."""

import time
from decimal import Decimal

import pytest
from urllib3.connectionpool import HTTPConnectionPool

MINUTE_MS = 60_000
DAY_MS = 86_400_000
KLINES = "/fapi/v1/klines"
SAMPLE_ROUTES = ("openInterestHist", "globalLongShortAccountRatio", "takerlongshortRatio")


def read_pages(sim, path, start_ms, end_ms, limit=499, **query):
    """Read a window page by page; no page is longer than the limit."""
    rows = []
    for page_ms in range(start_ms, end_ms, limit * MINUTE_MS):
        last_ms = min(page_ms + limit * MINUTE_MS, end_ms) - 1
        rows += sim.rows(path, interval="1m", startTime=page_ms, endTime=last_ms, limit=limit, **query)
    return rows


@pytest.mark.parametrize(("symbol", "coins"), [("BTCUSDT", 1), ("1000PEPEUSDT", 1000), ("币安人生USDT", 1)])
def test_ten_days_of_klines_equal_the_truth(sim, symbol, coins):
    """REST has exactly the rows of the truth, missing minutes included, value by value."""
    end_ms = sim.now_ms() // MINUTE_MS * MINUTE_MS - MINUTE_MS
    start_ms = end_ms - 10 * DAY_MS
    rows = read_pages(sim, KLINES, start_ms, end_ms, symbol=symbol)
    truth = sim.truth("ohlcv", symbol, start_ms, end_ms)
    assert 14_000 < len(rows) == len(truth) < 14_400
    for row, true in zip(rows, truth, strict=True):
        assert row[0] == true["ts"] and row[6] == row[0] + MINUTE_MS - 1 and row[11] == "0"
        assert [Decimal(value) / coins for value in row[1:5]] == [Decimal(true[name]) for name in "ohlc"]
        assert (Decimal(row[5]) * coins, Decimal(row[7])) == (Decimal(true["v"]), Decimal(true["qv"]))
        assert (str(row[8]), Decimal(row[9]) * coins) == (true["n"], Decimal(true["tbv"]))


def test_premium_index_klines_equal_the_truth(sim):
    """Rows have the columns of klines, with zero volumes and twelve samples."""
    end_ms = sim.now_ms() // MINUTE_MS * MINUTE_MS - MINUTE_MS
    start_ms = end_ms - DAY_MS
    rows = read_pages(sim, "/fapi/v1/premiumIndexKlines", start_ms, end_ms, symbol="ETHUSDT")
    truth = sim.truth("pfr", "ETH", start_ms, end_ms)
    assert [(row[0], row[4]) for row in rows] == [(true["ts"], true["pfr"]) for true in truth]
    assert rows[5][5:] == ["0", rows[5][0] + MINUTE_MS - 1, "0", 12, "0", "0", "0"]


def test_the_open_candle_is_last_and_grows(sim):
    """Its open stays and its volume grows."""
    minute_ms = sim.set_second(20)
    first = sim.rows(KLINES, symbol="btcusdt", interval="1m", limit=3)
    sim.set_time(minute_ms + 50_000)
    second = sim.rows(KLINES, symbol="BTCUSDT", interval="1m", limit=3)
    assert first[-1][0] == minute_ms == second[-1][0]
    assert first[-1][1] == second[-1][1] and first[:-1] == second[:-1]
    assert first[-1][8] < second[-1][8] and Decimal(first[-1][5]) < Decimal(second[-1][5])


def test_a_closed_candle_is_not_final_for_up_to_two_seconds(sim, market):
    """REST serves it without its last trades until then."""
    instrument = market.world.find_instrument("binance", "ETHUSDT")
    minute_ms = sim.now_ms() // MINUTE_MS * MINUTE_MS
    ts = next(
        ts
        for ts in range(minute_ms, minute_ms + DAY_MS, MINUTE_MS)
        if market.find_final_delay_ms(instrument, ts) > 1_500 and market.candles.read_bar(instrument, ts)
    )
    final = market.candles.read_bar(instrument, ts)
    sim.set_time(ts + MINUTE_MS + 300)
    row = sim.rows(KLINES, symbol="ETHUSDT", interval="1m", startTime=ts, endTime=ts)[0]
    assert 0 < row[8] < final.trades
    assert ts not in [true["ts"] for true in sim.truth("ohlcv", "ETH", ts - DAY_MS, ts + DAY_MS)]
    sim.set_time(ts + MINUTE_MS + 2_000)
    row = sim.rows(KLINES, symbol="ETHUSDT", interval="1m", startTime=ts, endTime=ts)[0]
    assert row[8] == final.trades
    assert sim.truth("ohlcv", "ETH", ts - DAY_MS, ts + DAY_MS)[-1]["ts"] == ts


def test_both_ends_are_inclusive_and_the_earliest_rows_win(sim):
    """A row belongs to the window by its open time; a window from before the listing starts at the listing."""
    start_ms = sim.now_ms() // DAY_MS * DAY_MS - 3 * DAY_MS
    rows = sim.rows(KLINES, symbol="BTCUSDT", interval="1m", startTime=start_ms, endTime=start_ms + 4 * MINUTE_MS)
    assert [row[0] for row in rows] == [start_ms + step * MINUTE_MS for step in range(5)]
    rows = sim.rows(KLINES, symbol="BTCUSDT", interval="1m", startTime=start_ms, limit=2)
    assert [row[0] for row in rows] == [start_ms, start_ms + MINUTE_MS]
    rows = sim.rows(KLINES, symbol="BTCUSDT", interval="1m", endTime=start_ms, limit=2)
    assert [row[0] for row in rows] == [start_ms - MINUTE_MS, start_ms]
    listed = {contract["instrument"]: contract for contract in sim.rows("/sim/symbols", exchange="binance")["symbols"]}
    rows = sim.rows(KLINES, symbol="BTCUSDT", interval="1m", startTime=1, limit=2)
    assert rows[0][0] == listed["BTCUSDT"]["listed_ms"] // MINUTE_MS * MINUTE_MS
    assert sim.rows(KLINES, symbol="BTCUSDT", interval="1m", startTime=1, endTime=2) == []
    assert sim.rows(KLINES, symbol="OMGUSDT", interval="1m")[-1][0] < listed["OMGUSDT"]["delisted_ms"]


def test_the_newest_rows_win_with_page_keeps_newest(other):
    """The documentation of COIN-M says so."""
    start_ms = other.now_ms() // DAY_MS * DAY_MS - 3 * DAY_MS
    end_ms = start_ms + 100 * MINUTE_MS
    rows = other.rows(KLINES, symbol="BTCUSDT", interval="1m", startTime=start_ms, endTime=end_ms, limit=2)
    assert [row[0] for row in rows] == [end_ms - MINUTE_MS, end_ms]


def test_longer_klines_are_joined_from_minutes(sim):
    """A 5m kline agrees with its five minutes."""
    start_ms = sim.now_ms() // DAY_MS * DAY_MS - 2 * DAY_MS
    window = {"symbol": "ADAUSDT", "startTime": start_ms, "endTime": start_ms + 5 * MINUTE_MS - 1}
    (five,) = sim.rows(KLINES, interval="5m", **window)
    ones = sim.rows(KLINES, interval="1m", **window)
    assert five[1] == ones[0][1] and five[4] == ones[-1][4] and five[6] == start_ms + 5 * MINUTE_MS - 1
    assert five[2] == max(row[2] for row in ones) and five[8] == sum(row[8] for row in ones)
    assert Decimal(five[5]) == sum(Decimal(row[5]) for row in ones)


ERRORS = [
    (KLINES, {"symbol": "NOSUCH", "interval": "1m"}, 400, -1121),
    (KLINES, {"symbol": "BTCUSDT", "interval": "1s"}, 400, -1120),
    (KLINES, {"symbol": "BTCUSDT", "interval": "1m", "limit": 1501}, 400, -1130),
    (KLINES, {"symbol": "BTCUSDT"}, 400, -1102),
    (KLINES, {"interval": "1m"}, 400, -1102),
    (KLINES, {"symbol": "BTCUSDT", "interval": "1m", "startTime": "x"}, 400, -1102),
    (KLINES, {"symbol": "BTCUSDT", "interval": "1m", "startTime": 2, "endTime": 1}, 400, -1023),
    ("/fapi/v1/premiumIndex", {"symbol": "NOSUCH"}, 400, -1121),
    ("/fapi/v1/openInterest", {}, 400, -1102),
    ("/fapi/v1/nosuch", {}, 404, -5000),
    ("/futures/data/openInterestHist", {"symbol": "BTCUSDT"}, 400, -1102),
    ("/futures/data/openInterestHist", {"symbol": "BTCUSDT", "period": "5m", "startTime": 1_000}, 400, -1130),
]


@pytest.mark.parametrize(("path", "query", "status", "code"), ERRORS)
def test_errors_have_status_and_code_of_the_exchange(sim, path, query, status, code):
    """The known texts are checked in the next test."""
    response = sim.get(path, **query)
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_error_texts_are_as_recorded(sim):
    """Recorded in October 2026."""
    texts = [sim.get(path, **query).json()["msg"] for path, query, _, _ in ERRORS]
    assert texts[:3] == ["Invalid symbol.", "Invalid interval.", "Data sent for parameter 'limit' is not valid."]
    assert texts[3] == "Mandatory parameter 'interval' was not sent, was empty/null, or malformed."
    assert texts[-1] == "parameter 'startTime' is invalid."


def test_weights_are_as_measured(start):
    """Bounds differ by one from the documentation; refused requests cost too; other budgets have no header."""
    sim = start()
    sim.set_second(5)

    def cost(path, **query):
        before = int(sim.get("/fapi/v1/ping").headers["X-MBX-USED-WEIGHT-1M"])
        return int(sim.get(path, **query).headers["X-MBX-USED-WEIGHT-1M"]) - before

    klines = {"symbol": "BTCUSDT", "interval": "1m"}
    limits = (99, 100, 101, 499, 500, 501, 1000, 1001, 1500, 1501)
    assert [cost(KLINES, **klines, limit=limit) for limit in limits] == [1, 1, 2, 2, 2, 5, 5, 10, 10, 10]
    assert cost(KLINES, **klines) == 5
    assert cost("/fapi/v1/premiumIndexKlines", **klines, limit=499) == 2
    assert cost("/fapi/v1/klines", symbol="NOSUCH", interval="1m", limit=499) == 2
    assert cost("/fapi/v1/premiumIndex") == 10 and cost("/fapi/v1/premiumIndex", symbol="BTCUSDT") == 1
    assert cost("/fapi/v1/exchangeInfo") == 1 and cost("/fapi/v1/openInterest", symbol="BTCUSDT") == 1
    for path in ("/fapi/v1/fundingRate", "/fapi/v1/fundingInfo", "/futures/data/openInterestHist"):
        headers = sim.get(path, symbol="BTCUSDT", period="5m").headers
        assert not [name for name in headers if name.lower().startswith("x-mbx")]


def test_weight_resets_with_the_utc_minute(start):
    """The first request after :00 shows only its own weight."""
    sim = start()
    sim.set_second(59.7)
    assert int(sim.get(KLINES, symbol="BTCUSDT", interval="1m").headers["X-MBX-USED-WEIGHT-1M"]) >= 5
    sim.set_second(0.1)
    assert sim.get("/fapi/v1/ping").headers["X-MBX-USED-WEIGHT-1M"] == "1"
    windows = sim.rows("/sim/stats")["binance"]["budgets"]["127.0.0.1"]["weight_windows"]
    assert windows[-1]["used"] >= 5 and windows[-1]["start_ms"] % MINUTE_MS == 0 and len(windows) <= 30


def test_requests_after_429_are_banned(start):
    """First 429 with -1003, then 418 with the end of the ban in the text, then service; the next ban is longer."""
    sim = start("--binance-weight-limit", "20", "--binance-ban-after", "3", "--binance-ban-s", "0.4")
    sim.set_second(1)
    assert [sim.get("/fapi/v1/premiumIndex").status_code for _ in range(4)] == [200, 200, 429, 429]
    refused = sim.get("/fapi/v1/ping")
    body = refused.json()
    assert refused.status_code == 418 and body["code"] == -1003
    until_ms = int(body["msg"].partition("banned until ")[2].partition(".")[0])
    assert 0 < until_ms - sim.now_ms() <= 400
    assert sim.get("/futures/data/openInterestHist", symbol="BTCUSDT", period="5m").status_code == 418
    sim.set_second(1)
    assert sim.get("/fapi/v1/ping").status_code == 200
    assert sim.rows("/sim/stats")["binance"]["refusals"] == {"429": 2, "418": 2}


def test_the_five_minute_budgets_are_independent(start):
    """A used-up budget affects neither the other nor the weight; both windows slide."""
    sim = start("--binance-funding-limit", "5", "--binance-data-limit", "4")
    query = {"symbol": "BTCUSDT", "period": "5m"}
    funding, data = "/fapi/v1/fundingInfo", "/futures/data/takerlongshortRatio"
    assert [sim.get(funding).status_code for _ in range(6)] == [200] * 5 + [429]
    assert [sim.get(data, **query).status_code for _ in range(5)] == [200] * 4 + [429]
    assert sim.get("/fapi/v1/ping").status_code == 200
    sim.set_time(sim.now_ms() + 301_000)
    assert sim.get(funding).status_code == sim.get(data, **query).status_code == 200


def test_budgets_are_per_address(start):
    """A client on another address has its own."""
    sim = start("--binance-weight-limit", "1")
    sim.set_second(1)
    assert [sim.get("/fapi/v1/ping").status_code for _ in range(2)] == [200, 429]
    host, _, port = sim.url.removeprefix("http://").partition(":")
    with HTTPConnectionPool(host, int(port), source_address=("127.0.0.2", 0)) as pool:
        assert pool.request("GET", "/fapi/v1/ping").status == 200


@pytest.mark.parametrize(("route", "metric"), [("openInterestHist", "oi"), ("globalLongShortAccountRatio", "lsr")])
def test_samples_equal_the_truth(sim, route, metric):
    """Five-minute samples of a multiplied contract, in coins."""
    end_ms = sim.now_ms() // DAY_MS * DAY_MS - DAY_MS
    window = {"startTime": end_ms - DAY_MS, "endTime": end_ms - 1, "limit": 500}
    rows = sim.rows(f"/futures/data/{route}", symbol="1000SHIBUSDT", period="5m", **window)
    truth = sim.truth(metric, "SHIB", end_ms - DAY_MS, end_ms)
    assert [row["timestamp"] for row in rows] == [true["ts"] for true in truth] and len(rows) > 200
    for row, true in zip(rows, truth, strict=True):
        assert row["symbol"] == "1000SHIBUSDT"
        if metric == "oi":
            assert Decimal(row["sumOpenInterest"]) * 1000 == Decimal(true["oi"])
            assert Decimal(row["sumOpenInterestValue"]) == Decimal(true["oi_usd"])
        else:
            assert row["longShortRatio"] == true["lsr"]
            assert Decimal(row["longAccount"]) + Decimal(row["shortAccount"]) == 1


def test_taker_volumes_are_sums_of_the_candles_from_the_timestamp_on(sim):
    """The timestamp is the bucket's start; the row has no symbol."""
    start_ms = sim.now_ms() // DAY_MS * DAY_MS - DAY_MS
    query = {"symbol": "BTCUSDT", "startTime": start_ms, "endTime": start_ms + 5 * MINUTE_MS - 1}
    (row,) = sim.rows("/futures/data/takerlongshortRatio", period="5m", **query)
    assert set(row) == {"buySellRatio", "sellVol", "buyVol", "timestamp"} and row["timestamp"] == start_ms
    minutes = sim.rows(KLINES, interval="1m", **query)
    assert Decimal(row["buyVol"]) == sum(Decimal(minute[9]) for minute in minutes)
    assert Decimal(row["sellVol"]) == sum(Decimal(minute[5]) - Decimal(minute[9]) for minute in minutes)


@pytest.mark.parametrize("route", SAMPLE_ROUTES)
def test_samples_are_published_late_and_a_start_without_end_is_ignored(sim, route):
    """The newest row is 70 to 200 s old; unknown symbols have no rows; a limit of 600 means 500."""
    path = f"/futures/data/{route}"
    now_ms = sim.now_ms()
    newest = sim.rows(path, symbol="BTCUSDT", period="5m")[-1]["timestamp"]
    covered_ms = newest + (300_000 if route == "takerlongshortRatio" else 0)
    assert 70_000 <= now_ms - covered_ms < 2 * 300_000 + 200_000
    lone = sim.rows(path, symbol="BTCUSDT", period="5m", startTime=now_ms - 20 * DAY_MS, limit=3)
    assert len(lone) == 3 and lone[-1]["timestamp"] == newest
    assert sim.rows(path, symbol="NOSUCH", period="5m") == []
    assert len(sim.rows(path, symbol="BTCUSDT", period="5m", limit=600)) == 500


def test_settled_funding_equals_the_truth_except_jitter(sim):
    """Times are 0 to 20 ms late, rates exact; old rows have no mark price; the earliest rows win."""
    now_ms = sim.now_ms()
    late = []
    for symbol in ("BTCUSDT", "SEIUSDT", "1000BONKUSDT", "ADAUSDT"):
        rows = sim.rows("/fapi/v1/fundingRate", symbol=symbol, startTime=now_ms - 10 * DAY_MS, limit=1000)
        truth = sim.truth("fr", symbol, now_ms - 10 * DAY_MS, now_ms)
        assert [row["fundingRate"] for row in rows] == [true["fr"] for true in truth]
        late += [row["fundingTime"] - true["ts"] for row, true in zip(rows, truth, strict=True)]
        assert all(row["markPrice"] and row["rateType"] == "Regular" for row in rows)
    assert min(late) == 0 and 0 < max(late) <= 20
    old = sim.rows("/fapi/v1/fundingRate", symbol="BTCUSDT", startTime=1_600_000_000_000, limit=2)
    assert [row["markPrice"] for row in old] == ["", ""] and old[0]["fundingTime"] - 1_600_000_000_000 < 8 * 3_600_000
    assert len(sim.rows("/fapi/v1/fundingRate", symbol="BTCUSDT")) == 100
    assert len(sim.rows("/fapi/v1/fundingRate", limit=7)) == 7


def test_funding_info_has_the_intervals_of_the_truth(sim, market):
    """It has COIN-M rows and null update times; a contract without a row has eight hours."""
    rows = {row["symbol"]: row for row in sim.rows("/fapi/v1/fundingInfo")}
    assert rows["BTCUSDT"]["updateTime"] is None and "BTCUSD_PERP" in rows
    for instrument in market.world.list_instruments("binance"):
        if instrument.kind != "dated":
            hours = market.funding.find_hours(instrument, sim.now_ms())
            assert rows.get(instrument.name, {"fundingIntervalHours": 8})["fundingIntervalHours"] == hours


def test_premium_index_has_the_current_estimate(sim):
    """With a symbol an object, without one a list; dated and ended contracts have no funding time."""
    minute_ms = sim.set_second(10)
    row = sim.rows("/fapi/v1/premiumIndex", symbol="BTCUSDT")
    sim.set_time(minute_ms + MINUTE_MS + 10_000)
    truth = sim.truth("ppr", "BTC", minute_ms, minute_ms + 1)
    assert row["lastFundingRate"] == truth[0]["ppr"] and row["nextFundingTime"] > row["time"]
    rows = {row["symbol"]: row for row in sim.rows("/fapi/v1/premiumIndex")}
    assert len(rows) > 50 and rows["OMGUSDT"]["nextFundingTime"] == 0
    assert [row["nextFundingTime"] for symbol, row in rows.items() if "_" in symbol] == [0, 0]
    assert abs(Decimal(rows["BTCUSDT"]["markPrice"]) / Decimal(rows["BTCUSDT"]["indexPrice"]) - 1) < Decimal("0.003")


def test_open_interest_is_constant_within_a_minute(sim):
    """Every answer has the value of the minute's end."""
    minute_ms = sim.set_second(10)
    first, second = (sim.rows("/fapi/v1/openInterest", symbol="BTCUSDT") for _ in range(2))
    assert first["openInterest"] == second["openInterest"] and minute_ms < first["time"] < minute_ms + MINUTE_MS
    sim.set_time(minute_ms + 10 * MINUTE_MS)
    end_ms = minute_ms + MINUTE_MS
    (true,) = sim.truth("oi", "BTC", end_ms, end_ms + 1, step=MINUTE_MS)
    assert Decimal(first["openInterest"]) == Decimal(true["oi"])


def test_exchange_info_lists_all_kinds_of_contracts(sim):
    """Perpetual, TradFi, dated, USDC, ended, announced, Chinese and multiplied contracts, with all keys."""
    body = sim.rows("/fapi/v1/exchangeInfo")
    assert list(body) == [
        "timezone",
        "serverTime",
        "futuresType",
        "rateLimits",
        "exchangeFilters",
        "assets",
        "symbols",
    ]
    symbols = {entry["symbol"]: entry for entry in body["symbols"]}
    assert {"币安人生USDT", "1000PEPEUSDT", "1000SATSUSDT", "1INCHUSDT", "C98USDT", "BTCUSDC"} <= set(symbols)
    gold = symbols["XAUUSDT"]
    assert (gold["contractType"], gold["underlyingType"]) == ("TRADIFI_PERPETUAL", "COMMODITY")
    assert symbols["OMGUSDT"]["status"] == "SETTLING" and symbols["OMGUSDT"]["deliveryDate"] == 1_738_314_000_000
    dated = {entry["contractType"] for entry in symbols.values() if "_" in entry["symbol"]}
    assert dated and dated <= {"CURRENT_QUARTER", "NEXT_QUARTER"}
    assert [entry["status"] for entry in symbols.values()].count("PENDING_TRADING") == 1
    btc = symbols["BTCUSDT"]
    assert body["rateLimits"][0]["limit"] == 2400
    assert btc["deliveryDate"] == 4_133_404_800_000 and btc["pricePrecision"] == 2 and len(btc["filters"]) == 7
    assert symbols["1000PEPEUSDT"]["baseAsset"] == "1000PEPE" and len(btc) == 25


def test_a_delisting_changes_delivery_date_and_status(other):
    """The klines end there."""
    end_ms = other.now_ms() // MINUTE_MS * MINUTE_MS - 10 * MINUTE_MS
    other.post("/sim/contracts", {"exchange": "binance", "instrument": "1000CATUSDT", "delisted_ms": end_ms})
    entry = next(
        contract for contract in other.rows("/fapi/v1/exchangeInfo")["symbols"] if contract["symbol"] == "1000CATUSDT"
    )
    assert (entry["status"], entry["deliveryDate"]) == ("SETTLING", end_ms)
    assert other.rows(KLINES, symbol="1000CATUSDT", interval="1m", limit=5)[-1][0] < end_ms


def test_pages_are_served_fast(sim):
    """The aim is 200,000 rows a second of cached pages; a twentieth of it must hold on any machine."""
    start_ms = sim.now_ms() // DAY_MS * DAY_MS - 3 * DAY_MS
    windows = [{"startTime": start_ms + step * 29_940_000, "limit": 499} for step in range(5)]
    for window in windows:
        sim.rows(KLINES, symbol="BTCUSDT", interval="1m", **window)
    started = time.perf_counter()
    rows = sum(len(sim.rows(KLINES, symbol="BTCUSDT", interval="1m", **window)) for window in [*windows, *windows])
    assert rows / (time.perf_counter() - started) > 10_000
