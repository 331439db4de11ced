"""Coinalyze's table: rows as the documentation shows them (no recorded answer exists), units, refusals, the key."""

import json
from dataclasses import replace

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.exchanges.coinalyze import EXCHANGE
from fademoe.exchanges.coinalyze.answers import judge
from fademoe.feeds.answers import Answer, Closes
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.values import decode
from fademoe.feeds.values import read_number as read_number
from fademoe.metrics import Candle, Funding, Liquidations, LongShortRatio, OpenInterest, PredictedFunding
from fademoe.testing.readers import read_contracts
from tests.support.pages import confirm_with, fetch_with

KEY = "0badc0de-1234"
T = 1_791_382_800
TS = T * 1000
BTC = Instrument(exchange="coinalyze", code="c-bin", name="BTCUSDT_PERP.A", symbol="BTC")
PEPE = replace(BTC, name="1000PEPEUSDT_PERP.A", symbol="PEPE", multiplier=1000)
IN_QUOTE = replace(BTC, name="GALAUSDT_PERP.A", symbol="GALA", contract_value="0")
CANDLE = {"t": T, "o": 83137.9, "h": 83155.7, "l": 83082.9, "c": 83084.9, "v": 102.437, "bv": 49.832}
CANDLE |= {"tx": 4409, "btx": 2210}
RATE = {"t": T, "o": 0.0052, "h": 0.01, "l": -0.0052, "c": 0.01}
INTEREST = {"t": T, "o": 78621.542, "h": 78640.11, "l": 78598.2, "c": 78633.906}
RATIO = {"t": T, "r": 1.1796, "l": 54.12, "s": 45.88}
LIQUIDATION = {"t": T, "l": 15230.44, "s": 0}
NOW = {"symbol": "BTCUSDT_PERP.A", "value": 78621.542, "update": TS + 34_764}
ROWS = {"ohlcv": CANDLE, "fr": RATE, "ppr": RATE, "oi": INTEREST, "lsr": RATIO, "lq": LIQUIDATION}
MARKET = {
    "symbol": "BTCUSDT_PERP.A",
    "exchange": "A",
    "symbol_on_exchange": "BTCUSDT",
    "base_asset": "BTC",
    "quote_asset": "USDT",
    "is_perpetual": True,
    "margined": "STABLE",
    "expire_at": None,
    "oi_lq_vol_denominated_in": "BASE_ASSET",
    "has_long_short_ratio_data": True,
    "has_ohlcv_data": True,
    "has_buy_sell_data": True,
}


def page(metric, instrument=BTC, rows=10):
    feed = EXCHANGE.find_rest_feed(metric)
    return feed, Page(instrument=instrument, start_ms=TS, end_ms=TS + rows * feed.interval_ms, limit=rows)


def sent(value):
    """Return what the REST client makes of a value that is sent."""
    return decode(json.dumps(value).encode())


def read(metric, row, instrument=BTC):
    """Parse a row that is sent."""
    return EXCHANGE.find_rest_feed(metric).parse(sent(row), instrument)


def answer(status=200, body=None, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=sent, body=body, text=f"your key {KEY}", now_ms=TS)


# numbers


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (b"83137.9", "83137.9"),
        (b"0", "0"),
        (b"1.6939e-8", "0.000000016939"),
        (b"-0.00031517", "-0.00031517"),
        (b"123456789012.345", "123456789012.345"),
        (b"21897510000000", "21897510000000"),
        (b"2.5e+20", "250000000000000000000"),
        (b"1e-7", "0.0000001"),
        (b"12.0", "12.0"),
        (b"0.12345678901234567890123456789", "0.12345678901234567890123456789"),
        (b"98765432109876543210987654321", "98765432109876543210987654321"),
    ],
)
def test_json_numbers_keep_every_digit_and_lose_the_exponent(number, text):
    assert read_number(decode(number)) == text


@pytest.mark.parametrize("value", [None, True, [], {}, 1.5, decode(b"1e300"), decode(b"1e-300")])
def test_what_is_no_json_number_is_bad(value):
    with pytest.raises(BadPayload):
        read_number(value)


# rows


def test_a_candle_has_coins_trades_and_takers_buys_and_no_quote_volume():
    assert read("ohlcv", CANDLE) == Candle(
        TS, "83137.9", "83155.7", "83082.9", "83084.9", "102.437", n=4409, tbv="49.832", qv=None
    )


def test_times_and_counts_may_be_written_as_floats():
    """They are JSON numbers, and no recorded answer shows how they are written."""
    row = sent(CANDLE | {"t": float(T), "tx": 4409.0, "btx": 2210.0})
    assert EXCHANGE.find_rest_feed("ohlcv").parse(row, BTC) == read("ohlcv", CANDLE)


def test_a_market_of_thousands_is_told_per_coin():
    row = CANDLE | {"o": 0.0043724, "h": 0.0043738, "l": 4.3714e-3, "c": 0.0043734, "v": 695969831, "bv": 195741514.5}
    assert read("ohlcv", row, PEPE) == Candle(
        TS,
        "0.0000043724",
        "0.0000043738",
        "0.0000043714",
        "0.0000043734",
        "695969831000",
        n=4409,
        tbv="195741514500",
    )
    assert read("oi", INTEREST, PEPE).oi == "78621542"


def test_a_quiet_minute_is_zero_and_zeros_beside_a_volume_are_none():
    still = {"o": 5, "h": 5, "l": 5, "c": 5, "bv": 0, "tx": 0, "btx": 0}
    assert read("ohlcv", {"t": T, "v": 0, **still}) == Candle(TS, "5", "5", "5", "5", "0", n=0, tbv="0")
    assert read("ohlcv", {"t": T, "v": 7, **still}) == Candle(TS, "5", "5", "5", "5", "7", n=None, tbv=None)
    assert read("ohlcv", {"t": T, "v": 7, **still, "bv": 3}).tbv == "3"
    assert read("ohlcv", CANDLE | {"bv": 0, "btx": 0}).tbv == "0"


def test_funding_is_the_close_and_open_interest_the_open_of_its_bucket():
    assert read("fr", RATE) == Funding(TS, "0.0001", None), "percent become fractions"
    assert read("ppr", RATE | {"c": -0.0052}) == PredictedFunding(TS, "-0.000052")
    assert read("oi", INTEREST) == OpenInterest(TS, "78621.542", None)
    assert read("fr", {"t": T, "o": 0, "h": 0, "l": 0, "c": 0}).fr == "0.00"


def settled_hours(rates, interval_hours, first_hour=0):
    """Return the hours, from the first one, at which a settlement is read of the rates that stood hour by hour."""
    feed, requested = page("fr")
    start_s = 1_791_360_000 + 48 * 3600  # a multiple of eight hours
    rows, before = [], rates[0]
    for hour, rate in enumerate(rates):
        is_settled = hour % interval_hours == 0
        opened = before if is_settled else rate
        rows.append(
            {"t": start_s + hour * 3600, "o": opened, "h": max(opened, rate), "l": min(opened, rate), "c": rate}
        )
        before = rate
    items = feed.items([{"symbol": BTC.name, "history": rows}], requested)
    return [(item["t"] - start_s) // 3600 for item in items]


@pytest.mark.parametrize("interval_hours", [1, 2, 4, 8])
def test_each_settlement_is_read_once_whatever_the_interval(interval_hours):
    """The fault: hourly rows counted a contract of eight hours eight times. A rate may be settled at its old value."""
    settled = [0.01, 0.02, 0.02, 0.03, 0.01, 0.01, 0.05, 0.04]
    rates = [settled[hour // interval_hours % 8] + hour // (interval_hours * 8) for hour in range(96)]
    assert settled_hours(rates, interval_hours) == list(range(0, 96, interval_hours))


def test_a_rate_that_never_changes_is_settled_every_eight_hours():
    assert settled_hours([0.01] * 48, 8) == [0, 8, 16, 24, 32, 40]


def test_an_interval_that_becomes_longer_leaves_no_settlements_of_the_old_one():
    rates = [hour // 4 for hour in range(48)] + [100 + hour // 8 for hour in range(120)]
    hours = settled_hours(rates, 4)
    assert hours == [*range(0, 48, 4), *range(48, 168, 8)]


@pytest.mark.parametrize(("elapsed_hours", "too_many"), [(6, [52]), (14, [52, 60]), (17, []), (30, [])])
def test_an_interval_that_has_just_become_longer_is_known_after_three_settlements(elapsed_hours, too_many):
    rates = [hour // 4 for hour in range(48)] + [100 + hour // 8 for hour in range(elapsed_hours)]
    hours = settled_hours(rates, 4)
    assert sorted(set(hours) - set(too_many)) == [*range(0, 48, 4), *range(48, 48 + elapsed_hours, 8)]
    assert set(too_many) <= set(hours)


def test_a_row_without_a_readable_time_is_passed_on_to_be_named():
    feed, requested = page("fr")
    answer = [{"symbol": BTC.name, "history": [RATE | {"t": None}, RATE]}]
    assert RATE | {"t": None} in feed.items(answer, requested)


def test_longs_and_shorts_keep_their_sides():
    assert read("lq", LIQUIDATION) == Liquidations(TS, "15230.44", "0")
    assert read("lq", {"t": T, "l": 0, "s": 3}, PEPE) == Liquidations(TS, lql="0", lqs="3")


@pytest.mark.parametrize(
    ("longs", "shorts", "ratio"),
    [
        (54.12, 45.88, 1.1796),
        (0.5412, 0.4588, 1.1796),
        (0.67, 0.33, 2.0123),
        (0, 100, 0),
        (50, 50, 1),
        (0.03, 0.97, 0.0361),
        (3.12, 96.88, 0.03),
    ],
)
def test_the_ratio_is_that_of_its_shares(longs, shorts, ratio):
    row = {"t": T, "r": ratio, "l": longs, "s": shorts}
    assert read("lsr", row) == LongShortRatio(TS, str(ratio))


@pytest.mark.parametrize(("longs", "shorts", "ratio"), [(45.88, 54.12, 1.1796), (100, 0, 0), (54.12, 45.88, 0.5412)])
def test_a_ratio_that_is_not_that_of_its_shares_is_bad(longs, shorts, ratio):
    with pytest.raises(BadPayload, match="is not"):
        read("lsr", {"t": T, "r": ratio, "l": longs, "s": shorts})


@pytest.mark.parametrize(("metric", "name"), [(metric, name) for metric, row in ROWS.items() for name in row])
def test_a_row_with_a_bad_member_is_bad(metric, name):
    row = ROWS[metric]
    wrong = ["x", None, True, [], "NaN", 1e300]
    for bad in [row | {name: value} for value in wrong] + [{key: row[key] for key in row if key != name}]:
        with pytest.raises(BadPayload):
            read(metric, bad)


@pytest.mark.parametrize("metric", ROWS)
@pytest.mark.parametrize("t", [TS, T * 1_000_000, T + 0.5, -T, 0])
def test_a_row_with_a_time_that_is_no_second_is_bad(metric, t):
    with pytest.raises(BadPayload):
        read(metric, ROWS[metric] | {"t": t})


@pytest.mark.parametrize(
    ("metric", "change"),
    [
        ("ohlcv", {"v": -1}),
        ("ohlcv", {"bv": -0.5}),
        ("ohlcv", {"tx": 1.5}),
        ("ohlcv", {"tx": -1}),
        ("ohlcv", {"c": 0}),
        ("ohlcv", {"l": 84000}),
        ("ohlcv", {"h": 83000}),
        ("fr", {"h": -1}),
        ("oi", {"o": -5, "l": -6}),
        ("oi", {"l": -6}),
        ("lsr", {"r": -1.1796, "l": -54.12}),
        ("lq", {"l": -1}),
    ],
)
def test_impossible_values_are_bad(metric, change):
    with pytest.raises(BadPayload):
        read(metric, ROWS[metric] | change)


# requests and answers


@pytest.mark.parametrize("metric", ROWS)
def test_a_page_is_asked_for_in_inclusive_seconds(metric):
    feed, asked = page(metric)
    params = feed.params(asked)
    earlier_s = 2 * 86_400 if metric == "fr" else 0
    assert (params["symbols"], params["from"]) == ("BTCUSDT_PERP.A", T - earlier_s)
    assert params["to"] == asked.end_ms // 1000 - 1
    interval = {MINUTE_MS: "1min", 5 * MINUTE_MS: "5min", HOUR_MS: "1hour"}[feed.interval_ms]
    assert params["interval"] == interval
    assert params.get("convert_to_usd") == {"oi": "false", "lq": "true"}.get(metric)
    assert feed.paging.exact and feed.retention.certain_ms == 1500 * feed.interval_ms
    assert feed.retention.requested_ms > 2000 * feed.interval_ms
    assert feed.page_span_ms == feed.paging.window_ms, "one call for all that is kept"
    assert (feed.paging.compute_cost(1), feed.paging.compute_cost(feed.paging.rows)) == (1, 1)


def test_rows_are_those_of_the_market_that_was_asked():
    feed, asked = page("oi")
    assert feed.items([], asked) == []
    assert feed.items([{"symbol": "BTCUSDT_PERP.A", "history": []}], asked) == []
    assert feed.items([{"symbol": "BTCUSDT_PERP.A", "history": [INTEREST]}], asked) == [INTEREST]


@pytest.mark.parametrize(
    "body",
    [
        [{"symbol": "ETHUSDT_PERP.A", "history": [INTEREST]}],
        [{"symbol": "ETHUSDT_PERP.A", "history": []}],
        [{"symbol": "BTCUSDT_PERP.A", "history": [INTEREST]}, {"symbol": "ETHUSDT_PERP.A", "history": []}],
        [{"symbol": "BTCUSDT_PERP.A"}],
        [{"history": [INTEREST]}],
        [{"symbol": "BTCUSDT_PERP.A", "history": {}}],
        [INTEREST],
        [[T, 1, 2, 3, 4]],
        {"message": "no"},
        None,
        "[]",
    ],
)
def test_an_answer_of_another_market_or_shape_is_bad(body):
    feed, asked = page("oi")
    with pytest.raises(BadPayload):
        feed.items(body, asked)


@pytest.mark.parametrize("metric", ROWS)
def test_sizes_in_quote_currency_are_not_taken_for_coins(metric):
    feed, _ = page(metric, IN_QUOTE)
    assert feed.serves(IN_QUOTE) is (metric not in ("ohlcv", "oi"))
    assert feed.serves(BTC)


def test_polls_read_the_value_of_now():
    interest, estimate = EXCHANGE.poll_feeds
    assert interest.params([BTC, PEPE]) == {
        "symbols": "BTCUSDT_PERP.A,1000PEPEUSDT_PERP.A",
        "convert_to_usd": "false",
    }
    assert estimate.params([BTC]) == {"symbols": "BTCUSDT_PERP.A"}
    assert (interest.items([NOW]), interest.read_instrument_name(NOW)) == ([NOW], "BTCUSDT_PERP.A")
    assert interest.parse(sent(NOW), BTC) == OpenInterest(TS + 34_764, "78621.542")
    assert interest.parse(sent(NOW), PEPE).oi == "78621542"
    assert not interest.serves(IN_QUOTE)
    assert estimate.serves(IN_QUOTE)
    assert estimate.parse(sent(NOW | {"value": -1e-7}), BTC) == PredictedFunding(TS + 34_764, "-0.000000001")
    for feed in EXCHANGE.poll_feeds:
        assert feed.cost * feed.batch <= EXCHANGE.get_budget(feed.budget).limit


@pytest.mark.parametrize("change", [{"update": T}, {"update": None}, {"value": "x"}, {"value": None}])
def test_a_bad_value_of_now_is_bad(change):
    for feed in EXCHANGE.poll_feeds:
        with pytest.raises(BadPayload):
            feed.parse(sent(NOW | change), BTC)


# markets


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("c-bin", "BTC", 1, "1")),
        ({"symbol": "BTCUSDT.6", "exchange": "6"}, ("c-byb", "BTC", 1, "1")),
        (
            {"symbol": "BTCUSDT_PERP.3", "exchange": "3", "symbol_on_exchange": "BTC-USDT-SWAP"},
            ("c-okx", "BTC", 1, "1"),
        ),
        ({"base_asset": "1000PEPE", "symbol_on_exchange": "1000PEPEUSDT"}, ("c-bin", "PEPE", 1000, "1")),
        ({"base_asset": "SHIB1000", "symbol_on_exchange": "SHIB1000USDT"}, ("c-bin", "SHIB", 1000, "1")),
        ({"base_asset": "1MBABYDOGE", "symbol_on_exchange": "1MBABYDOGEUSDT"}, ("c-bin", "BABYDOGE", 1_000_000, "1")),
        ({"base_asset": "1INCH", "symbol_on_exchange": "1INCHUSDT"}, ("c-bin", "1INCH", 1, "1")),
        ({"base_asset": "mEME", "symbol_on_exchange": "MEMEUSDT"}, ("c-bin", "MEME", 1, "1")),
        ({"oi_lq_vol_denominated_in": "QUOTE_ASSET"}, ("c-bin", "BTC", 1, "0")),
    ],
)
def test_markets_become_instruments_under_the_code_of_their_exchange(change, expected):
    [found] = read_contracts(EXCHANGE, [MARKET | change])
    assert (found.code, found.symbol, found.multiplier, found.contract_value) == expected
    assert found.name == (MARKET | change)["symbol"]
    assert (found.exchange, found.listed_ms, found.delisted_ms) == ("coinalyze", None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "BTCUSDT_PERP.Y", "exchange": "Y"},
        {"is_perpetual": False, "expire_at": 1_798_185_600},
        {"quote_asset": "USDC"},
        {"quote_asset": "USD", "margined": "COIN"},
    ],
)
def test_other_markets_are_left_out(change):
    assert [each.symbol for each in read_contracts(EXCHANGE, [MARKET | change, MARKET])] == ["BTC"]


@pytest.mark.parametrize(
    ("base", "own"), [("PEPE", "1000PEPEUSDT"), ("SHIB", "SHIB1000USDT"), ("BABYDOGE", "1MBABYDOGEUSDT")]
)
def test_of_a_market_whose_unit_is_in_doubt_only_what_counts_no_coins_is_served(base, own):
    [found] = read_contracts(EXCHANGE, [MARKET | {"base_asset": base, "symbol_on_exchange": own}])
    assert found.symbol == base
    served = {feed.metric for feed in EXCHANGE.rest_feeds if feed.serves(found)}
    assert served == {"fr", "ppr", "lsr", "lq"}
    assert [feed.metric for feed in EXCHANGE.poll_feeds if feed.serves(found)] == ["ppr"]


@pytest.mark.parametrize(
    "body",
    [
        [MARKET, MARKET | {"oi_lq_vol_denominated_in": "CONTRACTS"}],
        [MARKET, MARKET | {"exchange": "NaN"}],
        [MARKET, MARKET | {"exchange": "6"}],
        [MARKET, {name: MARKET[name] for name in MARKET if name != "base_asset"}],
        [MARKET, {name: MARKET[name] for name in MARKET if name != "is_perpetual"}],
        [MARKET, "BTCUSDT_PERP.A"],
        {"message": "no"},
    ],
)
def test_a_list_that_is_none_is_bad(body):
    with pytest.raises(BadPayload):
        read_contracts(EXCHANGE, body)


# refusals and the key


@pytest.mark.parametrize(
    ("sent", "wait_s"),
    [("12", 12), ("12.001", 13), ("0.2", 1), ("0", 1), ("", 60), ("soon", 60), ("-3", 60), ("nan", 60), (None, 60)],
)
def test_too_many_calls_close_the_budget_for_the_whole_seconds_that_are_asked(sent, wait_s):
    refusal = judge(answer(429, Retry_After=sent) if sent is not None else answer(429))
    assert (refusal.error, refusal.closes, refusal.retry_after_s) == (RetryLater, Closes.BUDGET, wait_s)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, [], None),
        (200, [{"symbol": "x", "history": []}], None),
        (200, None, RetryLater),
        (200, {"message": "Internal error"}, RetryLater),
        (400, {"message": "bad interval"}, Refused),
        (401, {"message": "bad key"}, RetryLater),
        (404, {}, Refused),
        (404, None, RetryLater),
        (404, "not found", RetryLater),
        (200, "maintenance", RetryLater),
        (302, None, RetryLater),
        (403, None, RetryLater),
        (418, None, RetryLater),
        (451, None, RetryLater),
        (500, None, RetryLater),
        (502, None, RetryLater),
        (503, {"message": "busy"}, RetryLater),
    ],
)
def test_what_an_answer_means_is_told_by_its_status_and_never_repeats_its_text(status, body, error):
    refusal = judge(answer(status, body))
    assert (refusal and refusal.error) == error
    assert KEY not in str(refusal)


def test_a_key_that_is_not_accepted_closes_the_exchange_and_names_its_setting():
    """Each window was paused for a day: what Coinalyze keeps for a day only was lost after the key was right."""
    refusal = judge(answer(401))
    assert "FADEMOE_COINALYZE_KEY" in refusal.message
    assert (refusal.closes, refusal.retry_after_s) == (Closes.EXCHANGE, 300)


def test_the_key_is_a_header():
    assert EXCHANGE.needs_key
    assert EXCHANGE.headers(KEY) == {"api_key": KEY}


@pytest.mark.parametrize("key", ["", f"{KEY}\n", f" {KEY}", f"{KEY} x", f"{KEY}é", f"{KEY}\x00"])
def test_a_key_that_no_header_can_carry_is_a_reason_to_wait_and_is_not_told(key):
    with pytest.raises(RetryLater, match="FADEMOE_COINALYZE_KEY") as caught:
        EXCHANGE.headers(key)
    assert KEY not in str(caught.value)


def test_the_budget_is_forty_calls_in_any_minute():
    budget = EXCHANGE.get_budget("key")
    assert (budget.limit, budget.period_ms, budget.aligned, budget.per_key) == (40, MINUTE_MS, False, True)
    assert EXCHANGE.clock is None
    assert set(EXCHANGE.list_perpspecs()) == {
        f"{code}-{metric}" for code in ("c-bin", "c-byb", "c-okx") for metric in ROWS
    }


def test_fifty_days_without_a_settlement_are_asked_for_again():
    """An empty answer became coverage without a row and without a second question."""
    feed = EXCHANGE.find_rest_feed("fr")
    now_ms = TS - TS % HOUR_MS
    window, requests = Window(now_ms - 50 * DAY_MS, now_ms), []

    def get(request, cost):
        requests.append(request)
        return []

    fetched = fetch_with(feed, BTC, [window], get)
    fetched = confirm_with(feed, BTC, fetched, now_ms + HOUR_MS, get)
    assert (len(requests), fetched.absent) == (2, [window])
