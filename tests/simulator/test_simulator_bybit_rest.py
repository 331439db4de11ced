"""Bybit over REST: as a plain client sees it, and as FadeMoe's engine reads it."""

import itertools
import time
from decimal import ROUND_HALF_UP, Decimal

import orjson
import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Window, ceil_to, floor_to, merge
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.exchanges.bybit import EXCHANGE
from fademoe.feeds.answers import Answer, Closes
from fademoe.feeds.request import Request
from fademoe.testing.readers import read_contracts
from tests.support.pages import confirm_with, fetch_with

KLINE = "/v5/market/kline"
PREMIUM, FUNDING = "/v5/market/premium-index-price-kline", "/v5/market/funding/history"
INTEREST, RATIO = "/v5/market/open-interest", "/v5/market/account-ratio"
LISTING = "/v5/market/instruments-info"
METRICS = [feed.metric for feed in EXCHANGE.rest_feeds]
SYMBOLS = ["BTCUSDT", "1000PEPEUSDT", "SHIB1000USDT", "币安人生USDT", "SEIUSDT"]


def ask(sim, path, **query):
    """Return the result of an answer that must be good."""
    body = sim.rows(path, **{"category": "linear", **query})
    assert (body["retCode"], body["retMsg"], body["retExtInfo"]) == (0, "OK", {}), body
    assert type(body["time"]) is int
    return body["result"]


def read_rows(sim, path, **query):
    """Return the rows of BTCUSDT."""
    return ask(sim, path, **{"symbol": "BTCUSDT", **query})["list"]


def read_error(sim, path, **query):
    """Return code and text of an error with status 200."""
    body = sim.rows(path, **{"category": "linear", "symbol": "BTCUSDT", **query})
    assert body["result"] == body["retExtInfo"] == {}
    return body["retCode"], body["retMsg"]


def read_truth(sim, metric, symbol, start_ms, end_ms, **query):
    """Return the rows of the truth."""
    query |= {"exchange": "bybit", "metric": metric, "symbol": symbol, "from": start_ms, "to": end_ms}
    return sim.rows("/sim/truth", **query)["rows"]


def find_complete_hour(sim, market, kind, ago_ms, hours=1):
    """Return the start of a past hour such that BTC lacks no row from 2 minutes before it to `hours` after it."""
    contract = market.world.find_instrument("bybit", "BTCUSDT")
    hour_ms = floor_to(sim.now_ms(), HOUR_MS) - ago_ms
    while any(
        ts % DAY_MS // MINUTE_MS in market.holes.minutes(contract, ts // DAY_MS, kind)
        for ts in range(hour_ms - 2 * MINUTE_MS, hour_ms + hours * HOUR_MS + MINUTE_MS, MINUTE_MS)
    ):
        hour_ms -= HOUR_MS
    return hour_ms


def make_getter(sim):
    """Return the engine's `get`: requests over HTTP, judged by the exchange's declaration."""

    def get(request, cost):
        sent = sim.session.get(sim.url + request.path, params=dict(request.params), timeout=60)
        try:
            body = orjson.loads(sent.content)
        except orjson.JSONDecodeError:
            body = None
        seen = Answer(status=sent.status_code, headers=sent.headers, body=body, text=sent.text[:1000], now_ms=0)
        refusal = EXCHANGE.judge(seen)
        if refusal is not None and refusal.error is RetryLater:
            raise RetryLater(refusal.message, retry_after_s=refusal.retry_after_s)
        if refusal is not None:
            raise refusal.error(refusal.message)
        return body

    return get


def read_all_contracts(sim):
    """Return the contracts of all pages of the list by name, and the number of requests."""
    feed, get = EXCHANGE.instruments, make_getter(sim)
    contracts, request, requests = [], feed.request, 0
    while request is not None:
        body = get(request, feed.cost)
        contracts += read_contracts(EXCHANGE, body)
        request, requests = feed.next_page(body, request), requests + 1
    assert len({contract.name for contract in contracts}) == len(contracts)
    return {contract.name: contract for contract in contracts}, requests


def leave_missing_minutes(sim, market, names):
    """Set the clock into a minute that these contracts have, as the minute before it: it proves that one closed."""
    contracts = [market.world.find_instrument("bybit", name) for name in names]
    minutes = itertools.count(floor_to(sim.now_ms(), MINUTE_MS), MINUTE_MS)
    minute_ms = next(
        ts
        for ts in minutes
        if all(
            market.candles.read_bar(contract, at_ms) and market.gauges.read_premium(contract, at_ms)
            for contract in contracts
            for at_ms in (ts, ts + MINUTE_MS)
        )
    )
    sim.set_time(minute_ms + MINUTE_MS + 15 * SECOND_MS)


def check_engine(sim, metric, instrument, days, age_ms=0):
    """Fetch the last days as the backfill does; compare every value and every missing row with the truth.

    `age_ms` is the least age of the newest row.
    """
    feed, get = EXCHANGE.find_rest_feed(metric), make_getter(sim)
    now_ms = EXCHANGE.clock.parse(get(EXCHANGE.clock.request, 1))
    listed_ms = floor_to(instrument.listed_ms, DAY_MS)
    start_ms = max(floor_to(now_ms, feed.interval_ms) - days * DAY_MS, listed_ms)
    window = Window(start_ms, floor_to(now_ms - max(age_ms, feed.latency.settle_ms), feed.interval_ms))
    fetched = fetch_with(feed, instrument, [window], get)
    fetched = confirm_with(feed, instrument, fetched, now_ms + DAY_MS, get)
    assert fetched.failed is None
    assert fetched.answered == [window]
    truth = read_truth(sim, metric, instrument.name, *window)
    rows = [row._asdict() for row in fetched.list_rows()]
    assert [row["ts"] for row in rows] == [row["ts"] for row in truth]
    for row, true in zip(rows, truth, strict=True):
        for name in true:
            assert (row[name] is None) == (true[name] is None), (row, true)
            assert row[name] is None or Decimal(row[name]) == Decimal(true[name]), (row, true)
    there = {row["ts"] for row in truth}
    step = feed.interval_ms
    grid = range(ceil_to(window.start_ms, step), window.end_ms, step)
    gone = [] if feed.sparse else [Window(ts, ts + step) for ts in grid if ts not in there]
    assert fetched.absent == merge(gone)
    return len(rows)


def check_stale(sim, instrument):
    """Check that a minute that closed after an old answer was made is left out, not stored incomplete."""
    minute_ms = sim.set_second(15)
    feed = EXCHANGE.find_rest_feed("ohlcv")
    fetched = fetch_with(feed, instrument, [Window(minute_ms - 10 * MINUTE_MS, minute_ms)], make_getter(sim))
    truth = read_truth(sim, "ohlcv", "BTC", minute_ms - 10 * MINUTE_MS, minute_ms)
    assert fetched.failed is None
    closed = truth[:-1]  # without the newest minute of the answer, which may be running
    assert [(row.ts, row.v) for row in fetched.list_rows()] == [
        (row["ts"], row["v"].rstrip("0").rstrip(".")) for row in closed
    ]
    assert len(closed) > 5


@pytest.mark.parametrize("metric", METRICS)
def test_the_engine_stores_the_truth(sim, market, metric):
    """No value is wrong, missing or extra, for all kinds of contracts, one of them listed within the ten days."""
    contracts, _ = read_all_contracts(sim)
    older_than_a_day = [item for item in contracts.values() if item.listed_ms < sim.now_ms() - DAY_MS]
    young = max(older_than_a_day, key=lambda item: item.listed_ms)
    assert young.name.startswith("NEW")
    leave_missing_minutes(sim, market, (*SYMBOLS, young.name))
    counts = {name: check_engine(sim, metric, contracts[name], 1) for name in SYMBOLS[1:]}
    for name, days in (("BTCUSDT", 4), (young.name, 10)):
        counts[name] = check_engine(sim, metric, contracts[name], days)
    least = {"ohlcv": 5_600, "pfr": 5_600, "mark": 5_600, "fr": 11, "oi": 1_100, "lsr": 1_100}[metric]
    assert counts["BTCUSDT"] >= least
    assert all(counts.values())


def test_the_engine_reads_a_delisted_contract_to_its_end(sim):
    """The list has the end."""
    contracts, _ = read_all_contracts(sim)
    gone = contracts["OMGUSDT"]
    assert gone.delisted_ms == 1_738_314_000_000
    window = Window(gone.delisted_ms - 100 * MINUTE_MS, gone.delisted_ms)
    fetched = fetch_with(EXCHANGE.find_rest_feed("ohlcv"), gone, [window], make_getter(sim))
    assert [row.ts for row in fetched.list_rows()] == [
        row["ts"] for row in read_truth(sim, "ohlcv", "OMGUSDT", *window)
    ]
    assert (
        read_rows(sim, KLINE, symbol="OMGUSDT", interval=1, start=gone.delisted_ms, end=gone.delisted_ms + HOUR_MS)
        == []
    )


def test_the_engine_stores_the_truth_with_the_other_options(start):
    """Oldest rows win, no quiet candles, no single side, seconds at the end of a page, old answers."""
    options = "--bybit-page-keeps oldest --bybit-no-quiet-candles --bybit-no-single-side --bybit-seconds-at-the-end"
    sim = start(*options.split(), "--no-limits", "--bybit-stale-ms", "30000")
    contracts, _ = read_all_contracts(sim)
    check_stale(sim, contracts["BTCUSDT"])
    for metric in ("ohlcv", "fr", "oi", "lsr"):
        assert check_engine(sim, metric, contracts["C98USDT"], 2, age_ms=3 * MINUTE_MS)  # it has minutes without trades
    bars = read_truth(sim, "ohlcv", "C98USDT", sim.now_ms() - DAY_MS, sim.now_ms())
    assert len(bars) < 1_420 and all(Decimal(bar["v"]) for bar in bars)
    row = read_rows(sim, INTEREST, intervalTime="5min", limit=3)
    assert [set(item) for item in row] == [{"openInterest", "timestamp"}] * 3
    assert [len(item["timestamp"]) for item in row] == [13, 13, 10]


def test_the_list_has_pages_for_three_statuses(start):
    """More than a thousand contracts trade, so their list needs a cursor; closed and delivering ones follow."""
    sim = start("--universe-size", "720", "--no-limits")
    contracts, requests = read_all_contracts(sim)
    listed = sim.get("/sim/symbols", exchange="bybit").json()["symbols"]
    now_ms = sim.now_ms()
    wanted = {
        item["instrument"]: (item["symbol"], Decimal(item["price_coins"]), item["listed_ms"], item["delisted_ms"])
        for item in listed
        if item["kind"] == "perpetual" and item["quote"] == "USDT" and item["listed_ms"] <= now_ms
    }
    assert len(wanted) > 1_000 and requests == 5
    assert {n: (c.symbol, c.multiplier, c.listed_ms, c.delisted_ms) for n, c in contracts.items()} == wanted
    cursor = ask(sim, LISTING, limit=2)["nextPageCursor"]
    assert cursor.startswith("first%3D") and "%26last%3D" in cursor
    names = [row["symbol"] for row in ask(sim, LISTING, limit=4)["list"]]
    url = f"{sim.url}{LISTING}?category=linear&limit=2&cursor={cursor}"
    assert [row["symbol"] for row in sim.session.get(url).json()["result"]["list"]] == names[2:]
    assert read_error(sim, LISTING, cursor=cursor)[0] == 10001, "encoded twice"
    assert len(ask(sim, LISTING)["list"]) == 500 and names == sorted(names)


def test_delivering_and_announced_contracts_have_lists_of_their_own(sim):
    """A short list has a cursor too; it leads to an empty page."""
    now_ms = sim.now_ms()
    sim.post("/sim/contracts", {"exchange": "bybit", "instrument": "VETUSDT", "delisted_ms": now_ms - MINUTE_MS})
    try:
        contracts, requests = read_all_contracts(sim)
        assert contracts["VETUSDT"].delisted_ms == now_ms - MINUTE_MS and requests == 5
        (row,) = ask(sim, LISTING, status="Delivering")["list"]
        assert (row["symbol"], row["status"], row["deliveryTime"]) == ("VETUSDT", "Delivering", str(now_ms - MINUTE_MS))
    finally:
        sim.post("/sim/contracts", {"exchange": "bybit", "instrument": "VETUSDT", "delisted_ms": None})
    announced = ask(sim, LISTING, status="PreLaunch")
    assert [row["isPreListing"] for row in announced["list"]] == [True]
    assert announced["nextPageCursor"]
    assert announced["list"][0]["symbol"] not in contracts
    by_name = {row["symbol"]: row for row in ask(sim, LISTING)["list"]}
    assert (by_name["BTCPERP"]["settleCoin"], by_name["XAUUSDT"]["symbolType"]) == ("USDC", "commodity")
    assert [row["contractType"] for name, row in by_name.items() if "-" in name] == ["LinearFutures"] * 2


def test_candles_are_newest_first_chained_and_without_trailing_zeros(sim, market):
    """Row 0 is the open candle; the default limit is 200, the largest 1000."""
    minute_ms = find_complete_hour(sim, market, "candle", DAY_MS)
    sim.set_time(minute_ms + 20_000)
    rows = read_rows(sim, KLINE, interval=1)
    assert len(rows) == 200
    times = [int(row[0]) for row in rows]
    assert times[0] == minute_ms and times == sorted(times, reverse=True)
    assert len(read_rows(sim, KLINE, interval=1, limit=5_000)) == 1_000
    for later, earlier in itertools.pairwise(rows):
        if int(later[0]) - int(earlier[0]) == MINUTE_MS:
            assert later[1] == earlier[4]
    assert not any("." in value and value.endswith("0") for row in rows for value in row[1:])
    sim.set_time(minute_ms + 50_000)
    grown = read_rows(sim, KLINE, interval=1, limit=1)[0]
    assert grown[:2] == rows[0][:2] and Decimal(grown[5]) > Decimal(rows[0][5])
    orders = {tuple(ask(sim, KLINE, symbol="BTCUSDT", interval=1, limit=1)) for _ in range(30)}
    assert len(orders) == 2, "the order of keys varies"


def test_start_and_end_of_candles_are_inclusive_and_floored(sim, market):
    """With only one of them, the adjacent rows are returned."""
    hour_ms = find_complete_hour(sim, market, "candle", 30 * DAY_MS)

    def times(**query):
        return [(int(row[0]) - hour_ms) // MINUTE_MS for row in read_rows(sim, KLINE, interval=1, **query)]

    assert times(start=hour_ms, end=hour_ms + 3 * MINUTE_MS) == [3, 2, 1, 0]
    assert times(start=hour_ms + 1, end=hour_ms + 3 * MINUTE_MS - 1) == [2, 1, 0]
    assert times(start=hour_ms, end=hour_ms + HOUR_MS, limit=2) == [60, 59]
    assert times(start=hour_ms, limit=2) == [1, 0]
    assert times(end=hour_ms, limit=2) == [0, -1]
    listed_ms = int(ask(sim, LISTING, symbol="BTCUSDT")["list"][0]["launchTime"])
    assert times(start=9999, limit=1) == [(listed_ms - hour_ms) // MINUTE_MS]
    assert times(start=9999, end=listed_ms - 1) == []


def test_the_premium_opens_at_the_close_of_the_previous_minute(sim):
    """So opens may lie outside of the range, closes never; across midnight too."""
    midnight_ms = floor_to(sim.now_ms(), DAY_MS) - DAY_MS
    rows = read_rows(
        sim, PREMIUM, interval=1, start=midnight_ms - 5 * HOUR_MS, end=midnight_ms + 5 * HOUR_MS, limit=1000
    )
    assert len(rows[0]) == 5 and len(rows) > 500
    outside = sum(not Decimal(low) <= Decimal(o) <= Decimal(h) for _, o, h, low, _ in rows)
    assert outside > len(rows) // 20
    assert all(Decimal(low) <= Decimal(c) <= Decimal(h) for _, _, h, low, c in rows)
    assert all(later[1] == earlier[4] for later, earlier in itertools.pairwise(rows))
    assert any(value.startswith("-") for row in rows for value in row[1:])


def test_settlements_need_an_end_and_have_irregular_intervals(sim):
    """Newest first, at the exact settlement; the oldest rows above the limit are cut off."""
    assert read_error(sim, FUNDING, startTime=sim.now_ms() - DAY_MS)[0] == 10001
    assert len(read_rows(sim, FUNDING)) == 200 == len(read_rows(sim, FUNDING, limit=300))
    end_ms = int(read_rows(sim, FUNDING, limit=1)[0]["fundingRateTimestamp"])
    assert end_ms % HOUR_MS == 0
    wide = read_rows(sim, FUNDING, startTime=end_ms - 400 * DAY_MS, endTime=end_ms, limit=5)
    assert wide == read_rows(sim, FUNDING, limit=5) == read_rows(sim, FUNDING, endTime=end_ms, limit=5)
    assert set(wide[0]) == {"symbol", "fundingRate", "fundingRateTimestamp"}
    steps = set()
    for name in [row["symbol"] for row in ask(sim, LISTING)["list"] if row["contractType"] == "LinearPerpetual"]:
        stamps = [int(row["fundingRateTimestamp"]) for row in read_rows(sim, FUNDING, symbol=name)]
        steps.add(frozenset((later - earlier) // HOUR_MS for later, earlier in itertools.pairwise(stamps)))
    assert any(len(hours) > 1 for hours in steps), "an interval changes"


def test_samples_ignore_a_start_without_end_and_have_a_cursor(sim, market):
    """Both ends are inclusive; a request with a cursor repeats the window."""
    end_ms = find_complete_hour(sim, market, "sample", 6 * HOUR_MS, hours=5) + 5 * HOUR_MS
    newest = read_rows(sim, INTEREST, intervalTime="1h")
    assert len(newest) == 50 and read_rows(sim, INTEREST, intervalTime="1h", startTime=end_ms - 300 * DAY_MS) == newest
    window = {"symbol": "BTCUSDT", "intervalTime": "1h", "startTime": end_ms - 5 * HOUR_MS, "endTime": end_ms}
    first = ask(sim, INTEREST, **window, limit=5)
    stamps = [int(row["timestamp"]) for row in first["list"]]
    assert stamps[0] == end_ms and "lastid%3D" in first["nextPageCursor"]
    url = f"{sim.url}{INTEREST}?category=linear&limit=5&cursor={first['nextPageCursor']}"
    second = sim.session.get(url, params=window).json()["result"]
    assert [int(row["timestamp"]) for row in second["list"]] == [end_ms - 5 * HOUR_MS]
    assert second["nextPageCursor"] == ""
    assert len(read_rows(sim, INTEREST, intervalTime="5min", limit=900)) == 200
    assert len(read_rows(sim, RATIO, period="5min", limit=900)) == 500
    result = ask(sim, RATIO, symbol="BTCUSDT", period="5min", limit=1)
    assert set(result) == {"list", "nextPageCursor"} and "lastid%3D0%26lasttime%3D" in result["nextPageCursor"]


def test_one_side_is_half_of_both_rounded_up_to_a_lot_and_shares_sum_to_one(sim):
    """The exact half differs from it in some rows."""
    rows = read_rows(sim, INTEREST, intervalTime="5min", limit=100)
    halves = [(Decimal(row["openInterest"]) / 2, Decimal(row["singleOpenInterest"])) for row in rows]
    assert all(half.quantize(single, rounding=ROUND_HALF_UP) == single for half, single in halves)
    assert 20 < sum(half != single for half, single in halves) < 80
    assert all(len(row["openInterest"].partition(".")[2]) == 8 for row in rows)
    for row in read_rows(sim, RATIO, period="5min"):
        assert Decimal(row["buyRatio"]) + Decimal(row["sellRatio"]) == 1


def test_samples_are_published_late(sim, market):
    """Open interest within 40 s of its time, shares within 130 s."""
    five_ms = find_complete_hour(sim, market, "sample", HOUR_MS) + 5 * MINUTE_MS
    for path, name, late_s in ((INTEREST, "intervalTime", 40), (RATIO, "period", 130)):
        for second, expected_ms in ((1, five_ms - 5 * MINUTE_MS), (late_s, five_ms)):
            sim.set_time(five_ms + second * SECOND_MS)
            (row,) = read_rows(sim, path, **{name: "5min"}, limit=1)
            assert int(row["timestamp"]) == expected_ms


@pytest.mark.parametrize(
    ("path", "query", "text"),
    [
        (KLINE, {"symbol": "NOPEUSDT", "interval": 1}, "Not supported symbols"),
        (KLINE, {"symbol": "btcusdt", "interval": 1}, "Not supported symbols"),
        (KLINE, {}, "params error: intervalTime is invalid"),
        (KLINE, {"interval": "1m"}, "params error: intervalTime is invalid"),
        (KLINE, {"interval": 1, "category": "spot"}, ""),
        (KLINE, {"interval": 1, "start": 2_000, "end": 1_000}, ""),
        (INTEREST, {}, "params error: intervalTime is invalid"),
        (RATIO, {"period": "4d"}, ""),
        (LISTING, {"status": "Settling"}, ""),
    ],
)
def test_wrong_parameters_are_10001_with_status_200(sim, path, query, text):
    code, detail = read_error(sim, path, **query)
    assert code == 10001 and text in detail


def test_tickers_of_all_contracts_are_one_answer(sim):
    """Without a cursor; an unknown path is 404."""
    body = sim.rows("/v5/market/time")
    assert body["result"]["timeSecond"] == str(body["time"] // 1000)
    assert body["result"]["timeNano"].startswith(str(body["time"]))
    rows = ask(sim, "/v5/market/tickers")["list"]
    assert len(rows) == sum(
        answer["is_trading"] for answer in sim.get("/sim/symbols", exchange="bybit").json()["symbols"]
    )
    dated = next(row for row in rows if "-" in row["symbol"])
    assert (dated["fundingRate"], dated["nextFundingTime"]) == ("", "0")
    assert sim.get("/v5/market/nosuch").status_code == 404


def test_a_request_above_the_limit_is_banned(start):
    """403 with the known text; the ban ends by itself; no earlier answer has a limit header."""
    sim = start("--bybit-request-limit", "5", "--bybit-ban-s", "0.3")
    answers = [sim.get("/v5/market/time") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [403] * 2
    assert not any(name.lower().startswith("x-bapi") for name in answers[0].headers)
    assert "access too frequent" in answers[5].text
    refusal = EXCHANGE.judge(Answer(status=403, headers={}, body=None, text=answers[5].text, now_ms=0))
    assert (refusal.retry_after_s, refusal.closes) == (600, Closes.EXCHANGE)
    time.sleep(0.35)
    assert sim.get("/v5/market/time").status_code == 403, "the five seconds are not over: banned again"
    assert sim.get("/sim/stats").json()["bybit"]["budgets"]["127.0.0.1"]["used"] == 5


@pytest.mark.parametrize(
    ("kind", "error", "detail"),
    [
        ("error_200", RetryLater, "10006"),
        ("rate_limited", RetryLater, "HTTP 429"),
        ("banned", RetryLater, "banned"),
        ("restricted", RetryLater, "blocked in this region"),
        ("html_403", RetryLater, "blocked in this region"),
        ("html_502", RetryLater, "HTTP 502"),
        ("error_503", RetryLater, "HTTP 503"),
        ("truncated", RetryLater, "not the API"),
        ("seconds", BadPayload, "not a time in ms"),
        ("other_symbol", BadPayload, "was requested"),
    ],
)
@pytest.mark.parametrize("metric", ["ohlcv", "lsr"])
def test_no_row_of_an_invalid_answer_is_kept(sim, market, metric, kind, error, detail):
    """The engine fails with the error of the declaration."""
    contracts, _ = read_all_contracts(sim)
    feed = EXCHANGE.find_rest_feed(metric)
    hour_ms = find_complete_hour(sim, market, "candle" if metric == "ohlcv" else "sample", 2 * HOUR_MS)
    sim.fault(kind=kind, exchange="bybit", path=feed.path, count=1)
    fetched = fetch_with(feed, contracts["BTCUSDT"], [Window(hour_ms, hour_ms + HOUR_MS)], make_getter(sim))
    assert isinstance(fetched.failed, error)
    assert detail in str(fetched.failed)
    assert (fetched.rows, fetched.answered) == ({}, [])


@pytest.mark.parametrize("kind", ["nan", "negative_volume", "missing_field"])
@pytest.mark.parametrize("metric", ["ohlcv", "lsr"])
def test_a_damaged_row_costs_no_other_row(sim, market, metric, kind):
    contracts, _ = read_all_contracts(sim)
    feed = EXCHANGE.find_rest_feed(metric)
    hour_ms = find_complete_hour(sim, market, "candle" if metric == "ohlcv" else "sample", 2 * HOUR_MS)
    window = Window(hour_ms, hour_ms + HOUR_MS)
    sim.fault(kind=kind, exchange="bybit", path=feed.path, count=1)
    damaged, whole = (fetch_with(feed, contracts["BTCUSDT"], [window], make_getter(sim)) for _ in range(2))
    assert (damaged.failed, len(damaged.errors), whole.errors) == (None, 1, [])
    assert len(damaged.rows) == len(whole.rows) - 1
    assert damaged.rows.items() <= whole.rows.items()


def test_the_public_10006_has_the_recorded_length_and_an_unknown_contract_is_refused(sim):
    """123 bytes."""
    sim.fault(kind="error_200", exchange="bybit", count=1)
    answer = sim.get("/v5/market/time")
    assert (answer.status_code, len(answer.content), answer.json()["retCode"]) == (200, 123, 10006)
    with pytest.raises(Refused, match="Not supported symbols"):
        make_getter(sim)(Request(path=KLINE, params={"category": "linear", "symbol": "NOPEUSDT", "interval": 1}), 1)
