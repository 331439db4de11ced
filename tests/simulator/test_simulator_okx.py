"""OKX over REST and WebSocket as a plain client sees it, and FadeMoe's table and engine against it."""

import itertools
import json
import time
from decimal import Decimal

import pytest
import websocket

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.exchanges.okx import EXCHANGE
from fademoe.exchanges.okx.stream import route
from fademoe.exchanges.okx.stream import subscribe as write_subscription
from fademoe.feeds.answers import Answer
from fademoe.feeds.paging import split_by_endpoint
from fademoe.feeds.request import Request
from fademoe.metrics import METRICS
from fademoe.simulator.okx.rows import round_usd
from fademoe.testing.readers import read_contracts, read_message
from tests.support.pages import confirm_with, fetch_with

SYMBOLS = ("BTC", "SATS", "C98")
FEEDS = EXCHANGE.rest_feeds
PUSHES = {feed.metric: feed for feed in EXCHANGE.stream_feeds}
CANDLES, HISTORY = "/api/v5/market/candles", "/api/v5/market/history-candles"
PREMIUM, FUNDING = "/api/v5/public/premium-history", "/api/v5/public/funding-rate-history"
INTEREST = "/api/v5/rubik/stat/contracts/open-interest-history"
RATIO = "/api/v5/rubik/stat/contracts/long-short-account-ratio-contract"
CONTRACTS, SWAP = "/api/v5/public/instruments", "BTC-USDT-SWAP"


def data(sim, path, **query):
    """Return the rows of an answer that has to be good."""
    body = sim.rows(path, **query)
    assert body["code"] == "0" and body["msg"] == "", body
    return body["data"]


def code(response):
    """Return HTTP status, code, and whether there is a data member."""
    body = response.json()
    return response.status_code, body["code"], "data" in body


def truth(sim, metric, symbol, start_ms, end_ms, **query):
    query |= {"exchange": "okx", "metric": metric, "symbol": symbol, "from": start_ms, "to": end_ms}
    return {row.pop("ts"): row for row in sim.get("/sim/truth", **query).json()["rows"]}


def contracts(sim):
    return {each.symbol: each for each in read_contracts(EXCHANGE, sim.rows(CONTRACTS, instType="SWAP"))}


def asking(sim):
    """Return what the engine calls to ask: requests are judged as fademoe.rest does, and counted."""

    def get(request, cost):
        get.requests += 1
        response = sim.get(request.path, **request.params)
        try:
            body = response.json()
        except ValueError:
            body = None
        answer = Answer(status=response.status_code, headers=response.headers, body=body, text=response.text, now_ms=0)
        refusal = EXCHANGE.judge(answer)
        if refusal is not None and refusal.error is RetryLater:
            raise RetryLater(refusal.message, retry_after_s=refusal.retry_after_s)
        if refusal is not None:
            raise refusal.error(refusal.message)
        return body

    get.requests = 0
    return get


def differences(rows, true):
    """Return what is missing, extra or another value."""
    found = [f"missing {ts}" for ts in true.keys() - rows.keys()] + [f"extra {ts}" for ts in rows.keys() - true.keys()]
    for ts in true.keys() & rows.keys():
        for name, value in true[ts].items():
            mine = getattr(rows[ts], name)
            if (value is None) != (mine is None) or (value is not None and Decimal(value) != Decimal(str(mine))):
                found.append(f"{ts} {name}: {mine} instead of {value}")
    return found


def fetched_all(sim, feed, instrument, window, now_ms):
    """Fetch a window from each endpoint of a feed that has a share of it: rows, (answered, absent) in ms."""
    rows, answered, absent = {}, 0, 0
    for part, windows in split_by_endpoint(feed, [window], [], now_ms):
        get = asking(sim)
        fetched = fetch_with(part, instrument, windows, get)
        fetched = confirm_with(part, instrument, fetched, now_ms, get)
        assert fetched.failed is None
        rows |= fetched.rows
        answered += sum(end_ms - start_ms for start_ms, end_ms in fetched.answered)
        absent += sum(end_ms - start_ms for start_ms, end_ms in fetched.absent)
    return rows, answered, absent


def window_of(feed, now_ms, days):
    end_ms = floor_to(now_ms - (feed.recent or feed).latency.settle_ms, feed.interval_ms)
    span_ms = min(days * DAY_MS, (feed.retention.certain_ms or DAY_MS * days) - HOUR_MS)
    return Window(floor_to(end_ms - span_ms, feed.interval_ms) + feed.interval_ms, end_ms)


def calm(sim, second):
    """Go to a second of a minute that is in no maintenance and return that minute."""
    minute_ms = floor_to(sim.now_ms(), DAY_MS) + 40 * MINUTE_MS
    sim.set_time(minute_ms + int(second * 1000))
    return minute_ms


# the engine


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.path.rpartition("/")[2])
def test_what_the_engine_fetches_is_the_truth(sim, feed):
    """To the newest row that may be asked for, holes included, over the real span of each endpoint."""
    now_ms = sim.now_ms()
    window = window_of(feed, now_ms, {"ohlcv": 3, "pfr": 1, "fr": 88}.get(feed.metric, 5))
    for symbol, instrument in contracts(sim).items():
        if symbol in SYMBOLS:
            rows, answered, absent = fetched_all(sim, feed, instrument, window, now_ms)
            true = truth(sim, feed.metric, symbol, *window)
            assert true and differences(rows, true) == []
            assert window.end_ms - window.start_ms - answered <= 10 * MINUTE_MS  # young holes
            assert feed.sparse or len(true) == (answered - absent) // feed.interval_ms


def test_small_pages_and_inclusive_ends_make_no_difference(start):
    """What nobody has settled: how many candles an answer holds, and whether the ends of statistics belong to it."""
    sim = start("--no-limits", "--okx-history-page", "100", "--okx-statistics-end", "inclusive")
    btc, now_ms = contracts(sim)["BTC"], sim.now_ms()
    for feed in EXCHANGE.rest_feeds:
        window = window_of(feed, now_ms, 1 if feed.metric in ("ohlcv", "pfr") else 4)
        rows, _, _ = fetched_all(sim, feed, btc, window, now_ms)
        assert differences(rows, truth(sim, feed.metric, "BTC", *window)) == []
    assert len(data(sim, HISTORY, instId=SWAP, limit=300)) == 100


def test_a_new_contract_has_a_history_from_its_listing(sim):
    """And its first settlement an interval that cannot be known."""
    now_ms = sim.now_ms()
    new = [each for each in contracts(sim).values() if each.symbol.startswith("NEW") and each.listed_ms < now_ms]
    youngest = max(new, key=lambda each: each.listed_ms)
    for feed in EXCHANGE.rest_feeds:
        window = window_of(feed, now_ms, 12)
        start_ms = max(window.start_ms, floor_to(youngest.listed_ms, DAY_MS))
        if start_ms >= window.end_ms:
            continue
        rows, _, _ = fetched_all(sim, feed, youngest, Window(start_ms, window.end_ms), now_ms)
        assert differences(rows, truth(sim, feed.metric, youngest.symbol, start_ms, window.end_ms)) == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("html_502", RetryLater), ("html_403", RetryLater), ("error_503", RetryLater), ("rate_limited", RetryLater),
        ("banned", RetryLater), ("restricted", Refused), ("truncated", RetryLater), ("error_200", RetryLater),
        ("seconds", BadPayload),
    ],
)  # fmt: skip
def test_damaged_answers_become_errors_and_no_rows(sim, kind, error):
    btc, now_ms = contracts(sim)["BTC"], sim.now_ms()
    sim.fault(exchange="okx", kind=kind)
    for feed in FEEDS:
        fetched = fetch_with(feed, btc, [window_of(feed, now_ms, 1)], asking(sim))
        assert isinstance(fetched.failed, error) and not fetched.rows, feed.path


@pytest.mark.parametrize("kind", ["nan", "missing_field"])
def test_a_damaged_row_costs_no_other_row(sim, kind):
    """Fault 10."""
    btc, now_ms = contracts(sim)["BTC"], sim.now_ms()
    for feed in FEEDS:
        window = window_of(feed, now_ms, 1)
        whole = fetch_with(feed, btc, [window], asking(sim))
        sim.fault(exchange="okx", kind=kind, count=1)
        damaged = fetch_with(feed, btc, [window], asking(sim))
        assert damaged.failed is None and len(damaged.errors) <= 1, feed.path
        assert damaged.rows.items() <= whole.rows.items() and len(damaged.rows) >= len(whole.rows) - 1, feed.path


@pytest.mark.parametrize("feed", [feed for feed in FEEDS if feed.metric in ("pfr", "fr")], ids=lambda feed: feed.metric)
def test_a_page_of_another_contract_is_noticed_where_rows_name_theirs(sim, feed):
    btc, now_ms = contracts(sim)["BTC"], sim.now_ms()
    sim.fault(exchange="okx", kind="other_symbol")
    assert isinstance(fetch_with(feed, btc, [window_of(feed, now_ms, 1)], asking(sim)).failed, BadPayload)


# REST


def test_candles_reach_1440_bars_back_the_open_one_first(sim):
    minute_ms = calm(sim, 30)
    rows = data(sim, CANDLES, instId=SWAP)
    assert len(rows) == 100 and rows == sorted(rows, reverse=True)
    assert (rows[0][0], rows[0][8], {row[8] for row in rows[1:]}) == (str(minute_ms), "0", {"1"})
    oldest = data(sim, CANDLES, instId=SWAP, after=minute_ms - 1430 * MINUTE_MS, limit=300)
    assert int(oldest[-1][0]) >= minute_ms - 1439 * MINUTE_MS and len(oldest) <= 9
    assert data(sim, CANDLES, instId=SWAP, after=minute_ms - 1439 * MINUTE_MS) == []


def test_history_lacks_the_newest_minutes_and_has_years(sim):
    minute_ms = calm(sim, 30)
    newest = int(data(sim, HISTORY, instId=SWAP, limit=1)[0][0])
    assert minute_ms - newest in (2 * MINUTE_MS, 3 * MINUTE_MS, 4 * MINUTE_MS)
    old = data(sim, HISTORY, instId=SWAP, after=minute_ms - 1500 * DAY_MS, limit=300)
    assert len(old) == 300 and {row[8] for row in old} == {"1"}
    assert data(sim, HISTORY, instId=SWAP, after=1_500_000_000_000) == []


@pytest.mark.parametrize("path", [CANDLES, HISTORY])
def test_both_ends_of_candles_are_exclusive_and_the_newest_rows_win(sim, path):
    end_ms = calm(sim, 30) - 10 * MINUTE_MS
    start_ms = end_ms - 90 * MINUTE_MS
    whole = [int(row[0]) for row in data(sim, path, instId=SWAP, before=start_ms - 1, after=end_ms)]
    assert max(whole) < end_ms and min(whole) >= start_ms and 85 < len(whole) <= 90
    inner = data(sim, path, instId=SWAP, before=whole[50], after=whole[40])
    assert [int(row[0]) for row in inner] == whole[41:50]
    some = data(sim, path, instId=SWAP, before=whole[-1], after=whole[0], limit=5)
    assert [int(row[0]) for row in some] == whole[1:6]
    assert int(data(sim, path, instId=SWAP, before=start_ms)[0][0]) > end_ms  # alone: the newest


def test_sizes_are_contracts_coins_and_usdt_and_quiet_minutes_are_flat(sim):
    sizes = {row["instId"]: Decimal(row["ctVal"] or 0) for row in data(sim, CONTRACTS, instType="SWAP")}
    quiet = 0
    for name in (SWAP, "PEPE-USDT-SWAP", "C98-USDT-SWAP"):
        for row in data(sim, HISTORY, instId=name, limit=300):
            _, o, h, low, c, contracts_, coins, usdt, _ = map(Decimal, row)
            assert contracts_ * sizes[name] == coins
            assert usdt == 0 if not coins else low * coins <= usdt <= h * coins
            if not contracts_:
                quiet += 1
                assert o == h == low == c and row[5:8] == ["0", "0", "0"]
    assert quiet


def test_premium_samples_have_odd_seconds_and_come_up_to_three_a_minute(sim):
    now_ms = sim.now_ms()
    rows = data(sim, PREMIUM, instId=SWAP, limit=500)
    times = [int(row["ts"]) for row in rows]
    assert len(rows) == 100 and times == sorted(times, reverse=True) and times[0] <= now_ms
    counts = {len(list(group)) for _, group in itertools.groupby(ts // MINUTE_MS for ts in times)}
    assert counts <= {1, 2, 3} and len(counts) > 1
    assert len({ts % MINUTE_MS for ts in times}) > 20
    inner = data(sim, PREMIUM, instId=SWAP, before=times[9], after=times[3])
    assert [int(row["ts"]) for row in inner] == times[4:9]
    assert data(sim, PREMIUM, instId=SWAP, after=now_ms - 180 * DAY_MS)
    assert data(sim, PREMIUM, instId=SWAP, after=now_ms - 190 * DAY_MS) == []


def test_settlements_reach_three_months_and_change_their_interval(sim, market):
    now_ms = sim.now_ms()
    changing = next(
        each.name
        for each in market.world.list_instruments("okx")
        if each.is_perpetual and len({market.funding.find_hours(each, now_ms - day * DAY_MS) for day in range(80)}) > 1
    )
    rows = data(sim, FUNDING, instId=changing)
    times = [int(row["fundingTime"]) for row in rows]
    assert times == sorted(times, reverse=True) and times[0] <= now_ms
    assert len({before - after for before, after in itertools.pairwise(times)}) > 1
    assert any(row["realizedRate"] == "" for row in rows)
    assert any(row["realizedRate"] not in ("", row["fundingRate"]) for row in rows)
    assert data(sim, FUNDING, instId=changing, after=now_ms - 90 * DAY_MS)
    assert data(sim, FUNDING, instId=changing, after=now_ms - 95 * DAY_MS) == []


@pytest.mark.parametrize("path", [INTEREST, RATIO])
def test_statistics_have_1440_rows_know_no_after_and_change_their_newest_row(sim, path):
    stamp_ms = floor_to(sim.now_ms(), DAY_MS) - DAY_MS + 5 * MINUTE_MS  # a row that is in no maintenance
    sim.set_time(stamp_ms + 110_000)
    first = data(sim, path, instId=SWAP, period="5m")
    assert int(first[0][0]) == stamp_ms and len(first) == 100
    assert data(sim, path, instId=SWAP, period="5m", after=first[50][0]) == first
    sim.set_time(stamp_ms + 60_000)
    assert int(data(sim, path, instId=SWAP)[0][0]) == stamp_ms - 5 * MINUTE_MS  # published after 66 to 100 s
    sim.set_time(stamp_ms + 5 * MINUTE_MS + 110_000)
    second = data(sim, path, instId=SWAP)
    assert second[1][0] == first[0][0] and second[1] != first[0] and second[2:] == first[1:-1]
    assert data(sim, path, instId=SWAP, end=stamp_ms - 1439 * 5 * MINUTE_MS) == []
    assert data(sim, path, instId=SWAP, begin=first[9][0], end=first[3][0]) == first[4:9]


def test_open_interest_has_the_noise_of_floats(sim):
    rows = data(sim, INTEREST, instId=SWAP)
    assert sum(len(value) > 17 for row in rows for value in row[1:]) > 100
    assert round_usd(123_456_789_012_500_000) == 123_456_789_012_000_000  # half to even
    assert [round_usd(value) for value in (5, 1234567890125, 1234567890135)] == [5, 1234567890120, 1234567890140]


def test_current_values(sim, market):
    (funding,) = data(sim, "/api/v5/public/funding-rate", instId=SWAP)
    assert int(funding["nextFundingTime"]) - int(funding["fundingTime"]) == 8 * HOUR_MS
    assert "prevFundingTime" in funding and funding["nextFundingRate"] == ""
    assert len(data(sim, "/api/v5/public/funding-rate", instId="ANY")) > 50
    (interest,) = data(sim, "/api/v5/public/open-interest", instType="SWAP", instId=SWAP)
    assert {row["instId"] for row in data(sim, "/api/v5/public/open-interest", instType="SWAP")} >= {SWAP}
    assert interest["instType"] == "SWAP" and float(interest["oi"]) > 0
    assert abs(int(data(sim, "/api/v5/public/time")[0]["ts"]) - sim.now_ms()) < 1_000


def test_what_is_wrong_with_a_request_is_told(sim):
    assert code(sim.get(CANDLES)) == (200, "50014", True)
    assert code(sim.get(CANDLES, instId="NOSUCH-USDT-SWAP")) == (200, "51001", True)
    assert code(sim.get(CANDLES, instId="BTCUSDT")) == (400, "51000", True)
    assert code(sim.get(CANDLES, instId=SWAP, bar="1s")) == (400, "51000", True)
    assert code(sim.get(CANDLES, instId=SWAP, limit="many")) == (400, "51000", True)
    assert code(sim.get(CONTRACTS)) == (200, "50014", True)
    assert code(sim.get("/api/v5/public/open-interest-history", instId=SWAP)) == (404, "404", False)


def test_the_list_of_contracts(sim):
    rows = {row["instId"]: row for row in data(sim, CONTRACTS, instType="SWAP")}
    (announced,) = [row for row in rows.values() if row["state"] == "preopen"]
    assert announced["instId"].startswith("NEW") and announced["ctVal"] == announced["settleCcy"] == ""
    assert int(announced["listTime"]) > sim.now_ms()
    assert (rows[SWAP]["ctVal"], rows["PEPE-USDT-SWAP"]["ctVal"], rows[SWAP]["baseCcy"]) == ("0.01", "10000000", "")
    assert {row["ctType"] for row in rows.values()} == {"linear", "inverse", ""}
    assert {row["instCategory"] for row in rows.values()} >= {"1", "3", "4"} and "groupId" in rows[SWAP]
    found = contracts(sim)
    assert not {"XAU", "TSLA", "FAKE", "OMG", announced["instId"].partition("-")[0]} & set(found)
    assert found["1INCH"].contract_value == rows["1INCH-USDT-SWAP"]["ctVal"] and found["币安人生"].name in rows
    assert code(sim.get(CANDLES, instId=announced["instId"])) == (200, "51001", True)
    assert all(row["instType"] == "FUTURES" for row in data(sim, CONTRACTS, instType="FUTURES"))


def test_contracts_come_and_go(sim):
    name, now_ms = "ZEC-USDT-SWAP", sim.now_ms()
    before = contracts(sim)["ZEC"]
    change = {"exchange": "okx", "instrument": name}
    try:
        sim.post("/sim/contracts", change | {"delisted_ms": now_ms + DAY_MS})
        assert contracts(sim)["ZEC"].delisted_ms == now_ms + DAY_MS
        sim.post("/sim/contracts", change | {"delisted_ms": now_ms - 1})
        assert "ZEC" not in contracts(sim)
        assert data(sim, HISTORY, instId=name)
        sim.post("/sim/contracts", change | {"delisted_ms": now_ms - 2 * DAY_MS})
        assert code(sim.get(HISTORY, instId=name)) == (200, "51001", True)
        sim.post("/sim/contracts", change | {"listed_ms": now_ms + HOUR_MS, "delisted_ms": None})
        assert "ZEC" not in contracts(sim)
        sim.set_time(now_ms + HOUR_MS - 4 * MINUTE_MS)  # announced with its details
        assert contracts(sim)["ZEC"].listed_ms == now_ms + HOUR_MS
    finally:
        sim.post("/sim/contracts", change | {"listed_ms": before.listed_ms, "delisted_ms": None})


def test_halts_are_told_in_the_list_and_keep_the_contracts(sim, market):
    day = next(day for day in itertools.count(sim.now_ms() // DAY_MS) if market.holes.maintenance("okx", day))
    sim.set_time(day * DAY_MS + market.holes.maintenance("okx", day)[2] * MINUTE_MS)
    assert {row["state"] for row in data(sim, CONTRACTS, instType="SWAP")} <= {"suspend", "preopen", "test"}
    assert len(contracts(sim)) > 50


# limits and sockets with their real sizes, but for silence and farewell


@pytest.fixture(scope="module")
def strict():
    from tests.simulator.conftest import Simulator

    simulator = Simulator("--okx-silence-s", "1", "--okx-notice-after-s", "0.3", "--okx-notice-s", "0.3")
    yield simulator
    simulator.stop()


def test_more_than_three_connections_a_second_are_cut_off(strict):
    sockets = [strict.connect("/ws/v5/business") for _ in range(4)]
    with pytest.raises((websocket.WebSocketException, OSError)):
        sockets[3].recv()
    for socket in sockets[:3]:
        socket.send("ping")
        assert socket.recv() == "pong"
    time.sleep(1.05)  # whatever connects next starts with a full allowance


def test_limits_count_by_address_or_by_contract_and_refuse_in_two_shapes(strict):
    answers = [code(strict.get(HISTORY, instId=SWAP)) for _ in range(26)]
    assert answers[:20] == [(200, "0", True)] * 20
    assert set(answers[20:]) == {(429, "50011", False), (200, "50011", True)}
    assert code(strict.get(HISTORY, instId="ETH-USDT-SWAP"))[1] == "50011"
    assert code(strict.get(CANDLES, instId=SWAP)) == (200, "0", True)
    assert [code(strict.get(RATIO, instId=SWAP))[1] for _ in range(7)] == ["0"] * 5 + ["50011"] * 2
    assert code(strict.get(RATIO, instId="ETH-USDT-SWAP")) == (200, "0", True)
    with pytest.raises(RetryLater):
        asking(strict)(Request(path=HISTORY, params={"instId": SWAP}), 1)
    time.sleep(2.05)
    assert code(strict.get(HISTORY, instId=SWAP)) == (200, "0", True)


def test_the_clock_and_the_contracts_fit_their_budgets(strict):
    for feed in FEEDS:
        budget = EXCHANGE.get_budget(feed.budget)
        assert feed.paging.compute_cost(feed.paging.rows) <= budget.limit


def closed_with(socket):
    """Receive until the other side closes; return code, reason and what came before."""
    came = []
    while True:
        opcode, payload = socket.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return int.from_bytes(payload[:2], "big"), payload[2:].decode(), came
        came.append(payload.decode())


def test_a_socket_without_ping_or_data_ends(strict):
    socket = strict.connect("/ws/v5/business")
    number, reason, came = closed_with(socket)
    assert (number, came) == (4004, []) and reason.startswith("No data received")


def test_pings_keep_a_socket_and_public_ones_are_told_to_go(strict):
    quiet, public = strict.connect("/ws/v5/business"), strict.connect("/ws/v5/public")
    for _ in range(4):
        quiet.send("ping")
        assert quiet.recv() == "pong"
        time.sleep(0.3)
    number, _, came = closed_with(public)
    (notice,) = map(json.loads, came)
    assert (number, notice["event"], notice["code"]) == (1001, "notice", "64008")
    assert route(notice).renew


def subscribe(socket, *topics, number=1):
    socket.send(write_subscription(topics, number))


def test_each_topic_has_an_ack_and_errors_name_theirs_in_the_text_alone(sim, connect):
    calm(sim, 30)
    socket = connect("/ws/v5/public")
    subscribe(
        socket, f"open-interest:{SWAP}", "candle1m:BTC-USDT-SWAP", "liquidation-orders:SWAP", "open-interest:X-Y-Z"
    )
    messages = sim.receive_for(socket, 0.5)
    events = [message for message in messages if "event" in message]
    assert [event["event"] for event in events] == ["subscribe", "error", "subscribe", "error"]
    assert all(event["id"] == "1" and len(event["connId"]) == 8 for event in events)
    assert events[0]["arg"] == {"channel": "open-interest", "instId": SWAP}
    for event, name in ((events[1], "candle1m,instId:BTC-USDT-SWAP"), (events[3], "open-interest,instId:X-Y-Z")):
        assert "arg" not in event and event["code"] == "60018" and name in event["msg"]
        assert "60018" in route(event).fault
    topics = [route(message).topic for message in messages if "data" in message]
    assert f"open-interest:{SWAP}" in topics  # at once; liquidations when there are any
    assert set(topics) <= {f"open-interest:{SWAP}", "liquidation-orders:SWAP"}
    for text in ("{", "[]", '{"op":"shout","args":[]}'):
        socket.send(text)
        assert sim.receive_until(socket, lambda message: message.get("event") == "error")["code"] in ("60012", "60019")
    socket.send(json.dumps({"op": "unsubscribe", "args": [{"channel": "open-interest", "instId": SWAP}]}))
    assert sim.receive_until(socket, lambda message: "event" in message)["event"] == "unsubscribe"


def test_streams_tell_the_truth(sim, connect):
    """Over the turn of a minute: closed candles, the last premium, the rate that forms, open interest."""
    known = {
        symbol: each
        for symbol, each in contracts(sim).items()
        if symbol in (*SYMBOLS, "ETH", "PEPE", "币安人生", "RUNE")
    }
    by_name = {each.name: symbol for symbol, each in known.items()}
    minute_ms = calm(sim, 59.2)
    sockets = {name: connect(f"/ws/v5/{name}") for name in ("public", "business")}
    routes = {}
    for name, socket in sockets.items():
        feeds = [feed for feed in EXCHANGE.stream_feeds if feed.socket == name and not feed.name]
        wanted = {feed.topic(each): each for feed in feeds for each in known.values()}
        routes |= {topic: ([f for f in feeds if f.topic(each) == topic], each) for topic, each in wanted.items()}
        subscribe(socket, *sorted(wanted))
    found = {metric: {symbol: {} for symbol in known} for metric in PUSHES}
    raw = 0
    for message in [*sim.receive_for(sockets["business"], 4.0), *sim.receive_for(sockets["public"], 0.2)]:
        frame = route(message)
        assert frame.fault is None
        for feed, instrument in [(feed, routes[frame.topic][1]) for feed in routes.get(frame.topic, ((), None))[0]]:
            raw += 1
            for row in read_message(feed, frame.data, instrument):
                found[feed.metric][by_name[instrument.name]][METRICS[feed.metric].stamp(row.ts, MINUTE_MS)] = row
    assert raw > 20
    for symbol in known:
        true = {
            metric: truth(sim, metric, symbol, minute_ms, minute_ms + 2 * MINUTE_MS, step=MINUTE_MS)
            for metric in ("ohlcv", "pfr", "ppr")
        }
        quiet = {ts: row for ts, row in true["ohlcv"].items() if Decimal(row["v"]) == 0}
        assert differences(found["ohlcv"][symbol], {ts: true["ohlcv"][ts] for ts in true["ohlcv"].keys() - quiet}) == []
        for metric in ("pfr", "ppr"):
            now = {ts: row for ts, row in found[metric][symbol].items() if ts == minute_ms}
            assert differences(now, {ts: true[metric][ts] for ts in now}) == []
        assert found["pfr"][symbol].keys() & {minute_ms} == true["pfr"].keys() & {minute_ms}
    sim.set_time(minute_ms + 20 * MINUTE_MS)  # all of it is published
    for symbol in known:
        true = truth(sim, "oi", symbol, minute_ms + MINUTE_MS, minute_ms + 3 * MINUTE_MS, step=MINUTE_MS)
        mine = found["oi"][symbol]
        assert differences(mine, {ts: row for ts, row in true.items() if ts in mine}) == []
        assert set(mine) == set(true)


def test_every_liquidation_comes_by_its_side_and_may_come_twice(sim, connect, market):
    """Several of a contract in one message, newest first, within a second and a half."""
    swaps = {each.name: each for each in market.world.list_instruments("okx") if each.kind != "dated"}
    known = {each.name: each for each in contracts(sim).values()}
    first = floor_to(sim.now_ms(), MINUTE_MS) + MINUTE_MS
    events = sorted(
        (event.ts, name, event)
        for ts in range(first, first + 120 * MINUTE_MS, MINUTE_MS)
        for name, each in swaps.items()
        for event in market.liquidations.list_in_minute(each, ts)
        if ts + 3_000 < event.ts < ts + 50_000
    )
    begin, _ = max(  # where most happens to one contract
        ((ts, name) for ts, name, _ in events if name in known),
        key=lambda one: sum(name == one[1] and one[0] <= ts < one[0] + 1_500 for ts, name, _ in events),
    )
    sim.set_time(begin - 200)
    socket = connect("/ws/v5/public")
    subscribe(socket, "liquidation-orders:SWAP")
    messages = [message for message in sim.receive_for(socket, 5) if "data" in message]
    feed = PUSHES["lq"]
    came = []
    for message in messages:
        frame = route(message)
        assert frame.topic == feed.topic(known[SWAP])
        for name, instrument in known.items():
            came += [(row.ts, name, row) for row in read_message(feed, frame.data, instrument)]
    assert any(len(item["details"]) > 1 for message in messages for item in message["data"])
    for ts, name, event in events:
        if begin <= ts < begin + 1_500 and name in known:
            usd = Decimal(event.size * event.limit_price).scaleb(-swaps[name].quote_decimals)
            mine = {row for at_ms, of, row in came if (at_ms, of) == (ts, name)}
            values = {(Decimal(row.lql), Decimal(row.lqs)) for row in mine}
            assert ((usd, Decimal(0)) if event.side == "long" else (Decimal(0), usd)) in values
    served_ms = max(ts for ts, _, _ in came)
    expected = {
        (event.ts, name)
        for ts in range(floor_to(min(ts for ts, _, _ in came), MINUTE_MS), served_ms + 1, MINUTE_MS)
        for name, each in swaps.items()
        for event in market.liquidations.list_in_minute(each, ts)
    }
    assert {(ts, name) for ts, name, _ in came} <= expected
