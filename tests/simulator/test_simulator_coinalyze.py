"""Coinalyze as a plain client sees it, and as FadeMoe's engine reads it."""

import logging
from decimal import Decimal
from itertools import pairwise

import pytest
from redis import Redis

from fademoe import metrics
from fademoe.client.clock_offsets import ClockOffsets
from fademoe.client.rate_limit.budgets import Grant
from fademoe.client.rest import RestClient
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Window, floor_to
from fademoe.errors import RetryLater, SourceError
from fademoe.exchanges.coinalyze import EXCHANGE
from fademoe.feeds.answers import Answer
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.request import Request
from fademoe.feeds.values import decode
from fademoe.settings import Settings
from fademoe.testing.readers import read_contracts
from tests.support.pages import confirm_with, fetch_with

KEY = "0badc0de-1234"
HEADERS = {"api_key": KEY}
BTC = "BTCUSDT_PERP.A"
METRICS = [feed.metric for feed in EXCHANGE.rest_feeds]
POINTS = 1500  # that the daily trim keeps


def ask(sim, route, headers=HEADERS, **query):
    """Send a request with a key."""
    query = {name.rstrip("_"): value for name, value in query.items()}
    return sim.session.get(f"{sim.url}/v1/{route}", params=query, headers=headers, timeout=60)


def read_rows(sim, route, symbol, interval, start_ms, end_ms, **query):
    """Return the rows of one market in [start_ms, end_ms)."""
    times = {"from_": start_ms // 1000, "to": end_ms // 1000 - 1}
    response = ask(sim, route, symbols=symbol, interval=interval, **times, **query)
    assert response.status_code == 200, response.text
    return response.json()[0]["history"] if response.json() else []


def read_truth(sim, metric, symbol, start_ms, end_ms, **query):
    """Return the rows of the truth."""
    query |= {"exchange": "coinalyze", "metric": metric, "symbol": symbol, "from": start_ms, "to": end_ms}
    return sim.rows("/sim/truth", **query)["rows"]


def make_getter(sim):
    """Return the engine's `get`: requests over HTTP, with headers and judge of the declaration."""

    def get(request, cost):
        headers = dict(EXCHANGE.headers(KEY))
        sent = sim.session.get(sim.url + request.path, params=dict(request.params), headers=headers, timeout=60)
        try:
            body = decode(sent.content)
        except ValueError:
            body = None
        refusal = EXCHANGE.judge(
            Answer(status=sent.status_code, headers=sent.headers, body=body, text=sent.text, now_ms=sim.now_ms())
        )
        if refusal is not None and refusal.error is RetryLater:
            raise RetryLater(refusal.message, retry_after_s=refusal.retry_after_s)
        if refusal is not None:
            raise refusal.error(refusal.message)
        return body

    return get


def read_instruments(sim):
    """Return the instruments of the list, by perpspec code and symbol."""
    body = make_getter(sim)(EXCHANGE.instruments.request, 1)
    return {(item.code, item.symbol): item for item in read_contracts(EXCHANGE, body)}


def is_same(row, true):
    """Tell whether a parsed row has the values of the truth."""
    values = row._asdict()
    assert set(values) == set(true)
    return all(
        values[name] == value if value is None or values[name] is None else Decimal(values[name]) == Decimal(value)
        for name, value in true.items()
    )


def list_shown(settlements):
    """Return the settlements that Coinalyze shows for certain: those at a new rate, and at hours of every contract."""
    return [
        (later["ts"], Decimal(later["fr"]))
        for earlier, later in pairwise(settlements)
        if Decimal(later["fr"]) != Decimal(earlier["fr"]) or later["ts"] % (8 * HOUR_MS) == 0
    ]


def find_complete_minute(market, now_ms):
    """Return the next minute around which BTC, SHIB and PEPE lack nothing at their exchanges."""
    watched = [market.world.find_contract(*place) for place in (("binance", "BTC"), ("bybit", "SHIB"), ("okx", "PEPE"))]

    def is_whole(ts):
        return market.candles.read_bar(watched[0], ts) and all(
            market.gauges.has_sample(instrument, ts) for instrument in watched
        )

    minute_ms = floor_to(now_ms, MINUTE_MS) + MINUTE_MS
    while not all(is_whole(minute_ms + step * MINUTE_MS) for step in (-1, 0, 1)):
        minute_ms += MINUTE_MS
    return minute_ms


# the engine


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("code", "symbol"),
    [("c-bin", "BTC"), ("c-bin", "PEPE"), ("c-byb", "SHIB"), ("c-okx", "SATS"), ("c-okx", "币安人生")],
)
def test_the_engine_stores_the_truth(sim, code, symbol, metric):
    """No value is wrong, missing or extra, but settlements that nothing shows; missing rows are those of the truth."""
    feed = EXCHANGE.find_rest_feed(metric)
    instrument = read_instruments(sim)[code, symbol]
    now_ms = sim.now_ms()
    end_ms = floor_to(now_ms - feed.latency.settle_ms, feed.interval_ms)
    count = POINTS - 10 if symbol == "BTC" or metric == "lq" else 400  # the trim may come in between
    start_ms = end_ms - count * feed.interval_ms
    fetched = fetch_with(feed, instrument, [Window(start_ms, end_ms)], make_getter(sim))
    fetched = confirm_with(feed, instrument, fetched, now_ms + HOUR_MS, make_getter(sim))
    assert fetched.failed is None
    assert fetched.answered == [Window(start_ms, end_ms)]
    truth = read_truth(sim, f"{code}-{metric}", symbol, start_ms, end_ms)
    rows = fetched.list_rows()
    if metric == "fr":
        before = read_truth(sim, f"{code}-{metric}", symbol, start_ms - DAY_MS, start_ms)
        assert list_shown(before + [row._asdict() for row in rows]) == list_shown(before + truth)
        common = {row.ts for row in rows} & {true["ts"] for true in truth}
        assert len(common) >= max(len(rows), len(truth)) - 4
        rows, truth = [row for row in rows if row.ts in common], [true for true in truth if true["ts"] in common]
    assert [row.ts for row in rows] == [true["ts"] for true in truth]
    assert all(is_same(row, true) for row, true in zip(rows, truth, strict=True))
    assert len(rows) > {"lq": 10, "fr": 40}.get(metric, 300)
    if not feed.sparse:
        missing = sum(hole.end_ms - hole.start_ms for hole in fetched.absent) // feed.interval_ms
        assert missing == (end_ms - start_ms) // feed.interval_ms - len(rows)


def test_polls_get_the_values_of_later_histories(sim, market):
    """Value by value."""
    minute_ms = find_complete_minute(market, sim.now_ms())
    sim.set_time(minute_ms + 40 * SECOND_MS)
    instruments = read_instruments(sim)
    batch = [
        instruments["c-bin", "BTC"],
        instruments["c-byb", "SHIB"],
        instruments["c-bin", "GALA"],
        instruments["c-okx", "PEPE"],
    ]
    seen = {}
    for feed in EXCHANGE.poll_feeds:
        items = feed.items(make_getter(sim)(feed.make_request(batch), 1))
        by_name = {feed.read_instrument_name(item): item for item in items}
        assert list(by_name) == [instrument.name for instrument in batch]
        seen[feed.metric] = {instrument: feed.parse(by_name[instrument.name], instrument) for instrument in batch}
    assert [instrument for instrument in batch if not EXCHANGE.poll_feeds[0].serves(instrument)] == [batch[2]], (
        "in quote currency"
    )
    del seen["oi"][batch[2]]
    sim.set_time(minute_ms + 5 * MINUTE_MS)
    for metric, samples in seen.items():
        for instrument, row in samples.items():
            assert minute_ms + 35 * SECOND_MS <= row.ts < minute_ms + MINUTE_MS
            ts = metrics.METRICS[metric].stamp(row.ts, MINUTE_MS)
            perpspec = f"{instrument.code}-{metric}"
            [true] = read_truth(sim, perpspec, instrument.symbol, ts, ts + MINUTE_MS, step=MINUTE_MS)
            assert is_same(row._replace(ts=ts), true)


def test_no_rows_before_the_retention_and_no_coins_of_a_market_in_quote_currency(sim):
    """The feeds do not serve such a market."""
    feed, now_ms = EXCHANGE.find_rest_feed("ohlcv"), sim.now_ms()
    instruments = read_instruments(sim)
    start_ms = floor_to(now_ms, DAY_MS) - 6 * DAY_MS
    fetched = fetch_with(feed, instruments["c-bin", "BTC"], [Window(start_ms, start_ms + DAY_MS)], make_getter(sim))
    assert (fetched.rows, fetched.failed) == ({}, None)
    for metric in ("ohlcv", "oi"):
        assert not EXCHANGE.find_rest_feed(metric).serves(instruments["c-bin", "GALA"])
        assert EXCHANGE.find_rest_feed(metric).serves(instruments["c-bin", "BTC"])
        assert read_truth(sim, "c-bin-oi", "GALA", start_ms, now_ms) == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("truncated", RetryLater),
        ("error_200", RetryLater),
        ("html_502", RetryLater),
        ("html_403", RetryLater),
        ("error_503", RetryLater),
        ("rate_limited", RetryLater),
        ("banned", RetryLater),
        ("restricted", RetryLater),
    ],
)
def test_no_row_of_an_invalid_answer_is_kept(sim, kind, error):
    """The engine fails with the error of the declaration."""
    feed, end_ms = EXCHANGE.find_rest_feed("lsr"), floor_to(sim.now_ms() - 10 * MINUTE_MS, HOUR_MS)
    instrument = Instrument(exchange="coinalyze", code="c-bin", name=BTC, symbol="BTC")
    sim.fault(kind=kind, exchange="coinalyze", count=1)
    fetched = fetch_with(feed, instrument, [Window(end_ms - DAY_MS, end_ms)], make_getter(sim))
    assert isinstance(fetched.failed, error)
    assert (fetched.rows, fetched.answered) == ({}, [])


@pytest.mark.parametrize("kind", ["nan", "negative_volume", "missing_field"])
def test_a_damaged_row_costs_no_other_row(sim, kind):
    feed, end_ms = EXCHANGE.find_rest_feed("lsr"), floor_to(sim.now_ms() - 10 * MINUTE_MS, HOUR_MS)
    instrument = Instrument(exchange="coinalyze", code="c-bin", name=BTC, symbol="BTC")
    window = Window(end_ms - DAY_MS, end_ms)
    sim.fault(kind=kind, exchange="coinalyze", count=1)
    damaged, whole = (fetch_with(feed, instrument, [window], make_getter(sim)) for _ in range(2))
    assert (damaged.failed, len(damaged.errors), whole.errors) == (None, 1, [])
    assert len(damaged.rows) == len(whole.rows) - 1
    assert damaged.rows.items() <= whole.rows.items()


# the service


def test_names_of_markets_differ_by_exchange(sim):
    """With the suffix _PERP or without it."""
    listed = {item["symbol"]: item for item in ask(sim, "future-markets").json()}
    for name, own in (
        (BTC, "BTCUSDT"),
        ("BTCUSDT.6", "BTCUSDT"),
        ("BTCUSDT_PERP.3", "BTC-USDT-SWAP"),
        ("1000PEPEUSDT_PERP.A", "1000PEPEUSDT"),
        ("SHIB1000USDT.6", "SHIB1000USDT"),
        ("PEPEUSDT_PERP.3", "PEPE-USDT-SWAP"),
    ):
        assert (listed[name]["symbol_on_exchange"], listed[name]["is_perpetual"]) == (own, True)
        assert name.endswith(f".{listed[name]['exchange']}")
    dated = [item for item in listed.values() if item["exchange"] in "A63" and not item["is_perpetual"]]
    assert len(dated) == 6 and all(10**9 < item["expire_at"] < 10**10 for item in dated)
    assert {item["name"]: item["code"] for item in ask(sim, "exchanges").json()}["OKX"] == "3"
    in_quote = {item["symbol"] for item in listed.values() if item["oi_lq_vol_denominated_in"] == "QUOTE_ASSET"}
    assert {"GALAUSDT_PERP.A", "VETUSDT.6", "SANDUSDT_PERP.3"} < in_quote
    followed = read_instruments(sim)
    assert {code for code, _ in followed} == set(EXCHANGE.codes)
    assert not any(symbol in ("XAU", "OMG") for _, symbol in followed)


def test_options_add_bybits_suffix_and_hide_buckets_that_are_not_over(start):
    """--coinalyze-bybit-suffix and --coinalyze-no-forming."""
    own = start("--no-limits", "--coinalyze-bybit-suffix", "_PERP", "--coinalyze-no-forming")
    assert read_instruments(own)["c-byb", "BTC"].name == "BTCUSDT_PERP.6"
    now_ms = own.set_second(50)
    rows = read_rows(own, "ohlcv-history", "BTCUSDT_PERP.6", "5min", now_ms - HOUR_MS, now_ms + MINUTE_MS)
    assert rows[-1]["t"] * 1000 + 5 * MINUTE_MS <= own.now_ms()


def test_rows_ascend_in_seconds_and_the_last_one_may_be_incomplete(sim, market):
    """Its count of trades grows."""
    minute_ms = find_complete_minute(market, sim.now_ms())
    sim.set_time(minute_ms + 45 * SECOND_MS)
    span = (minute_ms - HOUR_MS, minute_ms + MINUTE_MS)
    first = read_rows(sim, "ohlcv-history", BTC, "1min", *span)
    sim.set_time(minute_ms + 2 * MINUTE_MS)
    second = read_rows(sim, "ohlcv-history", BTC, "1min", *span)
    assert [row["t"] for row in second] == sorted({row["t"] for row in second})
    assert first[-1]["t"] * 1000 == minute_ms == second[-1]["t"] * 1000
    assert first[:-1] == second[:-1]
    assert first[-1]["tx"] < second[-1]["tx"] and first[-1]["o"] == second[-1]["o"]
    assert all(isinstance(value, int | float) for row in second for value in row.values())


def test_from_and_to_are_inclusive(sim):
    end_ms = floor_to(sim.now_ms() - 10 * MINUTE_MS, HOUR_MS)  # rows are final
    query = {"symbols": BTC, "interval": "1min", "from_": end_ms // 1000 - 600, "to": end_ms // 1000 - 300}
    rows = ask(sim, "predicted-funding-rate-history", **query).json()[0]["history"]
    assert [row["t"] for row in rows] == list(range(query["from_"], query["to"] + 1, 60))


def test_milliseconds_and_unknown_markets_have_no_rows_and_status_200(sim):
    """Known markets of the same request are answered."""
    now_ms = sim.now_ms()
    times = {"interval": "5min", "from_": now_ms // 1000 - 3600, "to": now_ms // 1000}
    in_ms = times | {"from_": now_ms - HOUR_MS, "to": now_ms}
    for query in (in_ms | {"symbols": BTC}, times | {"symbols": "BTCUSDT"}, times | {"symbols": "NOPEUSDT_PERP.A"}):
        response = ask(sim, "open-interest-history", **query)
        assert (response.status_code, response.json()) == (200, [])
    mixed = ask(sim, "open-interest-history", symbols=f"NOPEUSDT_PERP.A,BTCUSDT.6,{BTC}", **times).json()
    assert [series["symbol"] for series in mixed] == ["BTCUSDT.6", BTC]


@pytest.mark.parametrize(
    ("route", "query"),
    [
        ("open-interest-history", {"interval": "5m"}),
        ("open-interest-history", {"interval": ""}),
        ("open-interest-history", {"symbols": ""}),
        ("open-interest-history", {"symbols": ",".join(f"C{n}USDT_PERP.A" for n in range(21))}),
        ("open-interest-history", {"to": ""}),
        ("open-interest-history", {"from_": "yesterday"}),
        ("open-interest-history", {"convert_to_usd": "yes"}),
        ("open-interest", {"symbols": ""}),
    ],
)
def test_a_bad_parameter_is_status_400(sim, route, query):
    now_s = sim.now_ms() // 1000
    good = {"symbols": BTC, "interval": "5min", "from_": now_s - 3600, "to": now_s}
    assert ask(sim, route, **good).status_code == 200
    assert ask(sim, route, **good | query).status_code == 400
    assert ask(sim, f"{route}s", **good).status_code == 404


def test_intraday_series_keep_some_1500_rows_trimmed_once_a_day(sim):
    now_ms = sim.now_ms()
    midnight_ms = floor_to(now_ms, DAY_MS)
    for interval, interval_ms in (("1min", MINUTE_MS), ("5min", 5 * MINUTE_MS)):
        rows = read_rows(sim, "open-interest-history", "XRPUSDT_PERP.A", interval, now_ms - 20 * DAY_MS, now_ms)
        oldest_ms = midnight_ms - POINTS * interval_ms
        assert oldest_ms <= rows[0]["t"] * 1000 <= oldest_ms + 2 * HOUR_MS


def test_liquidations_are_sparse_and_reach_further_back(sim):
    """The trim counts rows."""
    now_ms = sim.now_ms()
    midnight_ms = floor_to(now_ms, DAY_MS)
    rows = read_rows(sim, "liquidation-history", BTC, "1min", now_ms - 30 * DAY_MS, midnight_ms)
    assert len(rows) == POINTS
    assert rows[0]["t"] * 1000 < midnight_ms - 3 * DAY_MS
    later = (midnight_ms - DAY_MS, midnight_ms)
    in_coins = read_rows(sim, "liquidation-history", BTC, "1min", *later)
    in_usd = read_rows(sim, "liquidation-history", BTC, "1min", *later, convert_to_usd="true")
    assert [row["t"] for row in in_coins] == [row["t"] for row in in_usd]
    for coins, usd in zip(in_coins, in_usd, strict=True):
        assert (coins["l"] > 0, coins["s"] > 0) == (usd["l"] > 0, usd["s"] > 0)
        assert usd["l"] >= 10_000 * coins["l"] and usd["s"] >= 10_000 * coins["s"]


def test_open_interest_has_four_values_and_a_unit_per_market(sim):
    end_ms = floor_to(sim.now_ms() - 10 * MINUTE_MS, HOUR_MS)  # rows are final
    for name in (BTC, "GALAUSDT_PERP.A"):
        own = read_rows(sim, "open-interest-history", name, "5min", end_ms - DAY_MS, end_ms)
        in_usd = read_rows(sim, "open-interest-history", name, "5min", end_ms - DAY_MS, end_ms, convert_to_usd="true")
        assert all(row["l"] <= row["o"] <= row["h"] and row["l"] <= row["c"] <= row["h"] for row in own)
        assert sum(row["o"] != row["c"] for row in own) > len(own) // 2
        assert (own == in_usd) == (name != BTC)


def test_volumes_in_quote_currency_are_that_of_the_market(sim):
    end_ms = floor_to(sim.now_ms() - 10 * MINUTE_MS, HOUR_MS)  # rows are final
    rows = read_rows(sim, "ohlcv-history", "GALAUSDT_PERP.A", "1min", end_ms - HOUR_MS, end_ms)
    truth = sim.truth("ohlcv", "GALAUSDT", end_ms - HOUR_MS, end_ms)
    assert [Decimal(str(row["v"])) for row in rows] == [Decimal(true["qv"]) for true in truth]


def test_current_values_have_a_time_in_milliseconds(sim):
    """Not in seconds as histories have."""
    for route in ("open-interest", "funding-rate", "predicted-funding-rate"):
        [value] = ask(sim, route, symbols=BTC).json()
        assert set(value) == {"symbol", "value", "update"}
        assert 0 <= sim.now_ms() - value["update"] < 10 * SECOND_MS


# limits and the key


def test_forty_symbols_a_minute_then_429_with_retry_after(start):
    """Per key; the report shows no key."""
    own = start()
    names = ",".join([BTC, "ETHUSDT_PERP.A"] * 10)
    answers = [ask(own, "open-interest", symbols=names) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 50 < float(answers[2].headers["Retry-After"]) <= 60 and "." in answers[2].headers["Retry-After"]
    assert not any("limit" in name.lower() for name in answers[0].headers)
    assert ask(own, "future-markets").status_code == 429
    assert ask(own, "future-markets", {"api_key": "another"}).status_code == 200
    stats = own.get("/sim/stats")
    assert stats.json()["coinalyze"]["budgets"] == {"key 1": 40, "key 2": 1}
    assert KEY not in stats.text
    own.set_time(own.now_ms() + 61 * SECOND_MS)
    assert ask(own, "open-interest", symbols=BTC).status_code == 200


class Plenty:
    """Budgets that grant everything at once."""

    def take(self, exchange, name, cost, **_):
        return Grant(
            exchange=exchange.name,
            budget=exchange.get_budget(name),
            egress="test",
            cost=cost,
            at_ms=0,
            sequence=0,
            failures=0,
            redis_ms=0,
        )

    def release(self, grant, server_count=None):
        pass

    def note_success(self, grant):
        pass

    def note_failure(self, grant, reason, **_):
        logging.getLogger("budgets").warning("%s failed: %s", grant.exchange, reason)
        return 0.0

    def close(self, exchange, names, egress, for_s, reason):
        logging.getLogger("budgets").warning("%s %s closed for %s s: %s", exchange.name, names, for_s, reason)


def send_refused(sim, tmp_path, key):
    """Return the error of a request with this key."""
    settings = Settings(home=tmp_path, rest_urls={"coinalyze": sim.url}, keys={"coinalyze": key})
    client = RestClient(settings, Plenty(), [("test", None)], ClockOffsets(Redis.from_url("unix:///nowhere")))
    with pytest.raises(SourceError) as caught:
        client.send(EXCHANGE, Request(path="/v1/open-interest", params={"symbols": BTC}), budget="key", cost=1)
    return caught.value


@pytest.mark.parametrize(
    ("fault", "error"),
    [("rate_limited", RetryLater), ("error_503", RetryLater), ("reset", RetryLater), ("error_200", RetryLater)],
)
def test_the_key_is_in_no_log_and_no_error(sim, tmp_path, caplog, fault, error):
    caplog.set_level(logging.DEBUG)
    sim.fault(kind=fault, exchange="coinalyze")
    raised = send_refused(sim, tmp_path, KEY)
    assert isinstance(raised, error)
    assert KEY not in f"{raised} {vars(raised)} {caplog.text}"


def test_the_key_is_a_header_or_a_parameter_and_a_wrong_one_is_reported_by_its_setting(start, tmp_path, caplog):
    """No message shows the key."""
    own = start("--no-limits", "--coinalyze-key", KEY)
    assert ask(own, "exchanges").status_code == 200
    assert ask(own, "exchanges", {}, api_key=KEY).status_code == 200
    for headers in ({}, {"api_key": "wrong"}):
        assert ask(own, "exchanges", headers).status_code == 401
        assert ask(own, "open-interest", headers, symbols=BTC).status_code == 401
    caplog.set_level(logging.DEBUG)
    for key in ("a-wrong-key", "a-wrong-key\n", ""):
        raised = send_refused(own, tmp_path, key)
        assert isinstance(raised, RetryLater) and "FADEMOE_COINALYZE_KEY" in str(raised)
        assert "a-wrong-key" not in f"{raised} {vars(raised)} {caplog.text}"


def test_a_full_page_has_all_points(sim):
    now_ms = sim.now_ms()
    for route, interval, interval_ms in (("ohlcv", "1min", MINUTE_MS), ("open-interest", "5min", 5 * MINUTE_MS)):
        span = (now_ms - POINTS * interval_ms, now_ms)
        assert len(read_rows(sim, f"{route}-history", BTC, interval, *span)) > 1400


def test_the_truth_of_a_coin_needs_a_perpspec(sim):
    """Other requests are 404."""
    query = {"exchange": "coinalyze", "from": 0, "to": 1}
    assert sim.get("/sim/truth", metric="oi", symbol="BTC", **query).status_code == 404
    assert sim.get("/sim/truth", metric="c-bin-oi", symbol="BTCUSDT.6", **query).status_code == 404
    assert sim.get("/sim/truth", metric="c-bin-pfr", symbol="BTC", **query).status_code == 404
    assert sim.get("/sim/truth", metric="oi", symbol=BTC, **query).json() == {"rows": []}
