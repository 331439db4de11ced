"""OKX over REST and WebSocket: as a plain client sees it, and as FadeMoe's declaration and engine read it."""

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
from tests.support.simulated import SimulatorProcess

SYMBOLS = ("BTC", "SATS", "C98")
FEEDS = EXCHANGE.rest_feeds
PUSHES = {feed.metric: feed for feed in EXCHANGE.stream_feeds}
CANDLES, HISTORY = "/api/v5/market/candles", "/api/v5/market/history-candles"
PREMIUM, FUNDING = "/api/v5/public/premium-history", "/api/v5/public/funding-rate-history"
INTEREST = "/api/v5/rubik/stat/contracts/open-interest-history"
RATIO = "/api/v5/rubik/stat/contracts/long-short-account-ratio-contract"
CONTRACTS, SWAP = "/api/v5/public/instruments", "BTC-USDT-SWAP"


def read_data(sim, path, **query):
    """Return the rows of an answer that must be good."""
    body = sim.rows(path, **query)
    assert body["code"] == "0" and body["msg"] == "", body
    return body["data"]


def read_code(response):
    """Return HTTP status, code, and whether there is a data member."""
    body = response.json()
    return response.status_code, body["code"], "data" in body


def read_truth(sim, metric, symbol, start_ms, end_ms, **query):
    """Return the rows of the truth by time."""
    query |= {"exchange": "okx", "metric": metric, "symbol": symbol, "from": start_ms, "to": end_ms}
    return {row.pop("ts"): row for row in sim.get("/sim/truth", **query).json()["rows"]}


def read_swaps(sim):
    """Return the contracts of the list by symbol."""
    return {contract.symbol: contract for contract in read_contracts(EXCHANGE, sim.rows(CONTRACTS, instType="SWAP"))}


def make_getter(sim):
    """Return the engine's `get`: requests judged by the declaration, and counted."""

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


def list_differences(rows, true):
    """Return which rows are missing, extra or have another value."""
    differences = [f"missing {ts}" for ts in true.keys() - rows.keys()] + [
        f"extra {ts}" for ts in rows.keys() - true.keys()
    ]
    for ts in true.keys() & rows.keys():
        for name, value in true[ts].items():
            stored = getattr(rows[ts], name)
            if (value is None) != (stored is None) or (value is not None and Decimal(value) != Decimal(str(stored))):
                differences.append(f"{ts} {name}: {stored} instead of {value}")
    return differences


def fetch_all(sim, feed, instrument, window, now_ms):
    """Fetch a window from all endpoints of a feed; return rows, and ms answered and absent."""
    rows, answered, absent = {}, 0, 0
    for part, windows in split_by_endpoint(feed, [window], [], now_ms):
        get = make_getter(sim)
        fetched = fetch_with(part, instrument, windows, get)
        fetched = confirm_with(part, instrument, fetched, now_ms, get)
        assert fetched.failed is None
        rows |= fetched.rows
        answered += sum(end_ms - start_ms for start_ms, end_ms in fetched.answered)
        absent += sum(end_ms - start_ms for start_ms, end_ms in fetched.absent)
    return rows, answered, absent


def find_window(feed, now_ms, days):
    """Return the window of the last `days` that the feed serves."""
    end_ms = floor_to(now_ms - (feed.recent or feed).latency.settle_ms, feed.interval_ms)
    span_ms = min(days * DAY_MS, (feed.retention.certain_ms or DAY_MS * days) - HOUR_MS)
    return Window(floor_to(end_ms - span_ms, feed.interval_ms) + feed.interval_ms, end_ms)


def leave_maintenance(sim, second):
    """Set the clock to a second of a minute outside of maintenance; return the minute."""
    minute_ms = floor_to(sim.now_ms(), DAY_MS) + 40 * MINUTE_MS
    sim.set_time(minute_ms + int(second * 1000))
    return minute_ms


# the engine


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.path.rpartition("/")[2])
def test_what_the_engine_fetches_is_the_truth(sim, feed):
    """Up to the newest row that may be requested, missing rows included, over the retention of each endpoint."""
    now_ms = sim.now_ms()
    window = find_window(feed, now_ms, {"ohlcv": 3, "pfr": 1, "fr": 88}.get(feed.metric, 5))
    for symbol, instrument in read_swaps(sim).items():
        if symbol in SYMBOLS:
            rows, answered, absent = fetch_all(sim, feed, instrument, window, now_ms)
            true = read_truth(sim, feed.metric, symbol, *window)
            assert true and list_differences(rows, true) == []
            assert window.end_ms - window.start_ms - answered <= 10 * MINUTE_MS  # young holes
            assert feed.sparse or len(true) == (answered - absent) // feed.interval_ms


def test_small_pages_and_inclusive_ends_make_no_difference(start):
    """Sources differ on the rows of an answer and on the ends of statistics."""
    sim = start("--no-limits", "--okx-history-page", "100", "--okx-statistics-end", "inclusive")
    btc, now_ms = read_swaps(sim)["BTC"], sim.now_ms()
    for feed in EXCHANGE.rest_feeds:
        window = find_window(feed, now_ms, 1 if feed.metric in ("ohlcv", "pfr") else 4)
        rows, _, _ = fetch_all(sim, feed, btc, window, now_ms)
        assert list_differences(rows, read_truth(sim, feed.metric, "BTC", *window)) == []
    assert len(read_data(sim, HISTORY, instId=SWAP, limit=300)) == 100


def test_a_new_contract_has_a_history_from_its_listing(sim):
    """The interval of its first settlement is unknown."""
    now_ms = sim.now_ms()
    new = [
        contract
        for contract in read_swaps(sim).values()
        if contract.symbol.startswith("NEW") and contract.listed_ms < now_ms
    ]
    youngest = max(new, key=lambda contract: contract.listed_ms)
    for feed in EXCHANGE.rest_feeds:
        window = find_window(feed, now_ms, 12)
        start_ms = max(window.start_ms, floor_to(youngest.listed_ms, DAY_MS))
        if start_ms >= window.end_ms:
            continue
        rows, _, _ = fetch_all(sim, feed, youngest, Window(start_ms, window.end_ms), now_ms)
        assert list_differences(rows, read_truth(sim, feed.metric, youngest.symbol, start_ms, window.end_ms)) == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("html_502", RetryLater),
        ("html_403", RetryLater),
        ("error_503", RetryLater),
        ("rate_limited", RetryLater),
        ("banned", RetryLater),
        ("restricted", Refused),
        ("truncated", RetryLater),
        ("error_200", RetryLater),
        ("seconds", BadPayload),
    ],
)
def test_no_row_of_an_invalid_answer_is_kept(sim, kind, error):
    """The engine fails with the error of the declaration."""
    btc, now_ms = read_swaps(sim)["BTC"], sim.now_ms()
    sim.fault(exchange="okx", kind=kind)
    for feed in FEEDS:
        fetched = fetch_with(feed, btc, [find_window(feed, now_ms, 1)], make_getter(sim))
        assert isinstance(fetched.failed, error) and not fetched.rows, feed.path


@pytest.mark.parametrize("kind", ["nan", "missing_field"])
def test_a_damaged_row_costs_no_other_row(sim, kind):
    btc, now_ms = read_swaps(sim)["BTC"], sim.now_ms()
    for feed in FEEDS:
        window = find_window(feed, now_ms, 1)
        whole = fetch_with(feed, btc, [window], make_getter(sim))
        sim.fault(exchange="okx", kind=kind, count=1)
        damaged = fetch_with(feed, btc, [window], make_getter(sim))
        assert damaged.failed is None and len(damaged.errors) <= 1, feed.path
        assert damaged.rows.items() <= whole.rows.items() and len(damaged.rows) >= len(whole.rows) - 1, feed.path


@pytest.mark.parametrize("feed", [feed for feed in FEEDS if feed.metric in ("pfr", "fr")], ids=lambda feed: feed.metric)
def test_a_page_of_another_contract_is_refused_if_its_rows_name_it(sim, feed):
    """Candles and statistics do not name their contract."""
    btc, now_ms = read_swaps(sim)["BTC"], sim.now_ms()
    sim.fault(exchange="okx", kind="other_symbol")
    assert isinstance(fetch_with(feed, btc, [find_window(feed, now_ms, 1)], make_getter(sim)).failed, BadPayload)


# REST


def test_candles_reach_1440_bars_back_the_open_one_first(sim):
    minute_ms = leave_maintenance(sim, 30)
    rows = read_data(sim, CANDLES, instId=SWAP)
    assert len(rows) == 100 and rows == sorted(rows, reverse=True)
    assert (rows[0][0], rows[0][8], {row[8] for row in rows[1:]}) == (str(minute_ms), "0", {"1"})
    oldest = read_data(sim, CANDLES, instId=SWAP, after=minute_ms - 1430 * MINUTE_MS, limit=300)
    assert int(oldest[-1][0]) >= minute_ms - 1439 * MINUTE_MS and len(oldest) <= 9
    assert read_data(sim, CANDLES, instId=SWAP, after=minute_ms - 1439 * MINUTE_MS) == []


def test_history_lacks_the_newest_minutes_and_has_years(sim):
    minute_ms = leave_maintenance(sim, 30)
    newest = int(read_data(sim, HISTORY, instId=SWAP, limit=1)[0][0])
    assert minute_ms - newest in (2 * MINUTE_MS, 3 * MINUTE_MS, 4 * MINUTE_MS)
    old = read_data(sim, HISTORY, instId=SWAP, after=minute_ms - 1500 * DAY_MS, limit=300)
    assert len(old) == 300 and {row[8] for row in old} == {"1"}
    assert read_data(sim, HISTORY, instId=SWAP, after=1_500_000_000_000) == []


@pytest.mark.parametrize("path", [CANDLES, HISTORY])
def test_both_ends_of_candles_are_exclusive_and_the_newest_rows_win(sim, path):
    end_ms = leave_maintenance(sim, 30) - 10 * MINUTE_MS
    start_ms = end_ms - 90 * MINUTE_MS
    whole = [int(row[0]) for row in read_data(sim, path, instId=SWAP, before=start_ms - 1, after=end_ms)]
    assert max(whole) < end_ms and min(whole) >= start_ms and 85 < len(whole) <= 90
    inner = read_data(sim, path, instId=SWAP, before=whole[50], after=whole[40])
    assert [int(row[0]) for row in inner] == whole[41:50]
    some = read_data(sim, path, instId=SWAP, before=whole[-1], after=whole[0], limit=5)
    assert [int(row[0]) for row in some] == whole[1:6]
    assert int(read_data(sim, path, instId=SWAP, before=start_ms)[0][0]) > end_ms  # alone: the newest


def test_sizes_are_contracts_coins_and_usdt_and_quiet_minutes_are_flat(sim):
    sizes = {row["instId"]: Decimal(row["ctVal"] or 0) for row in read_data(sim, CONTRACTS, instType="SWAP")}
    quiet = 0
    for name in (SWAP, "PEPE-USDT-SWAP", "C98-USDT-SWAP"):
        for row in read_data(sim, HISTORY, instId=name, limit=300):
            _, o, h, low, c, contracts_, coins, usdt, _ = map(Decimal, row)
            assert contracts_ * sizes[name] == coins
            assert usdt == 0 if not coins else low * coins <= usdt <= h * coins
            if not contracts_:
                quiet += 1
                assert o == h == low == c and row[5:8] == ["0", "0", "0"]
    assert quiet


def test_premium_samples_have_odd_seconds_and_are_one_to_three_a_minute(sim):
    """Newest first; both ends are exclusive."""
    now_ms = sim.now_ms()
    rows = read_data(sim, PREMIUM, instId=SWAP, limit=500)
    times = [int(row["ts"]) for row in rows]
    assert len(rows) == 100 and times == sorted(times, reverse=True) and times[0] <= now_ms
    counts = {len(list(group)) for _, group in itertools.groupby(ts // MINUTE_MS for ts in times)}
    assert counts <= {1, 2, 3} and len(counts) > 1
    assert len({ts % MINUTE_MS for ts in times}) > 20
    inner = read_data(sim, PREMIUM, instId=SWAP, before=times[9], after=times[3])
    assert [int(row["ts"]) for row in inner] == times[4:9]
    assert read_data(sim, PREMIUM, instId=SWAP, after=now_ms - 180 * DAY_MS)
    assert read_data(sim, PREMIUM, instId=SWAP, after=now_ms - 190 * DAY_MS) == []


def test_settlements_reach_three_months_and_change_their_interval(sim, market):
    now_ms = sim.now_ms()
    changing = next(
        contract.name
        for contract in market.world.list_instruments("okx")
        if contract.is_perpetual
        and len({market.funding.find_hours(contract, now_ms - day * DAY_MS) for day in range(80)}) > 1
    )
    rows = read_data(sim, FUNDING, instId=changing)
    times = [int(row["fundingTime"]) for row in rows]
    assert times == sorted(times, reverse=True) and times[0] <= now_ms
    assert len({before - after for before, after in itertools.pairwise(times)}) > 1
    assert any(row["realizedRate"] == "" for row in rows)
    assert any(row["realizedRate"] not in ("", row["fundingRate"]) for row in rows)
    assert read_data(sim, FUNDING, instId=changing, after=now_ms - 90 * DAY_MS)
    assert read_data(sim, FUNDING, instId=changing, after=now_ms - 95 * DAY_MS) == []


@pytest.mark.parametrize("path", [INTEREST, RATIO])
def test_statistics_have_1440_rows_ignore_after_and_change_their_newest_row(sim, path):
    """The newest row is provisional."""
    stamp_ms = floor_to(sim.now_ms(), DAY_MS) - DAY_MS + 5 * MINUTE_MS  # a row that is in no maintenance
    sim.set_time(stamp_ms + 110_000)
    first = read_data(sim, path, instId=SWAP, period="5m")
    assert int(first[0][0]) == stamp_ms and len(first) == 100
    assert read_data(sim, path, instId=SWAP, period="5m", after=first[50][0]) == first
    sim.set_time(stamp_ms + 60_000)
    assert int(read_data(sim, path, instId=SWAP)[0][0]) == stamp_ms - 5 * MINUTE_MS  # published after 66 to 100 s
    sim.set_time(stamp_ms + 5 * MINUTE_MS + 110_000)
    second = read_data(sim, path, instId=SWAP)
    assert second[1][0] == first[0][0] and second[1] != first[0] and second[2:] == first[1:-1]
    assert read_data(sim, path, instId=SWAP, end=stamp_ms - 1439 * 5 * MINUTE_MS) == []
    assert read_data(sim, path, instId=SWAP, begin=first[9][0], end=first[3][0]) == first[4:9]


def test_open_interest_has_float_noise(sim):
    """Twelve digits are exact."""
    rows = read_data(sim, INTEREST, instId=SWAP)
    assert sum(len(value) > 17 for row in rows for value in row[1:]) > 100
    assert round_usd(123_456_789_012_500_000) == 123_456_789_012_000_000  # half to even
    assert [round_usd(value) for value in (5, 1234567890125, 1234567890135)] == [5, 1234567890120, 1234567890140]


def test_current_values(sim, market):
    (funding,) = read_data(sim, "/api/v5/public/funding-rate", instId=SWAP)
    assert int(funding["nextFundingTime"]) - int(funding["fundingTime"]) == 8 * HOUR_MS
    assert "prevFundingTime" in funding and funding["nextFundingRate"] == ""
    assert len(read_data(sim, "/api/v5/public/funding-rate", instId="ANY")) > 50
    (interest,) = read_data(sim, "/api/v5/public/open-interest", instType="SWAP", instId=SWAP)
    assert {row["instId"] for row in read_data(sim, "/api/v5/public/open-interest", instType="SWAP")} >= {SWAP}
    assert interest["instType"] == "SWAP" and float(interest["oi"]) > 0
    assert abs(int(read_data(sim, "/api/v5/public/time")[0]["ts"]) - sim.now_ms()) < 1_000


def test_invalid_requests_are_refused_with_the_code_of_the_exchange(sim):
    """Status, code and data member."""
    assert read_code(sim.get(CANDLES)) == (200, "50014", True)
    assert read_code(sim.get(CANDLES, instId="NOSUCH-USDT-SWAP")) == (200, "51001", True)
    assert read_code(sim.get(CANDLES, instId="BTCUSDT")) == (400, "51000", True)
    assert read_code(sim.get(CANDLES, instId=SWAP, bar="1s")) == (400, "51000", True)
    assert read_code(sim.get(CANDLES, instId=SWAP, limit="many")) == (400, "51000", True)
    assert read_code(sim.get(CONTRACTS)) == (200, "50014", True)
    assert read_code(sim.get("/api/v5/public/open-interest-history", instId=SWAP)) == (404, "404", False)


def test_the_list_of_contracts(sim):
    rows = {row["instId"]: row for row in read_data(sim, CONTRACTS, instType="SWAP")}
    (announced,) = [row for row in rows.values() if row["state"] == "preopen"]
    assert announced["instId"].startswith("NEW") and announced["ctVal"] == announced["settleCcy"] == ""
    assert int(announced["listTime"]) > sim.now_ms()
    assert (rows[SWAP]["ctVal"], rows["PEPE-USDT-SWAP"]["ctVal"], rows[SWAP]["baseCcy"]) == ("0.01", "10000000", "")
    assert {row["ctType"] for row in rows.values()} == {"linear", "inverse", ""}
    assert {row["instCategory"] for row in rows.values()} >= {"1", "3", "4"} and "groupId" in rows[SWAP]
    swaps = read_swaps(sim)
    assert not {"XAU", "TSLA", "FAKE", "OMG", announced["instId"].partition("-")[0]} & set(swaps)
    assert swaps["1INCH"].contract_value == rows["1INCH-USDT-SWAP"]["ctVal"] and swaps["币安人生"].name in rows
    assert read_code(sim.get(CANDLES, instId=announced["instId"])) == (200, "51001", True)
    assert all(row["instType"] == "FUTURES" for row in read_data(sim, CONTRACTS, instType="FUTURES"))


def test_delisted_contracts_leave_the_list_and_their_data_later(sim):
    """Announced ones appear before their listing."""
    name, now_ms = "ZEC-USDT-SWAP", sim.now_ms()
    before = read_swaps(sim)["ZEC"]
    change = {"exchange": "okx", "instrument": name}
    try:
        sim.post("/sim/contracts", change | {"delisted_ms": now_ms + DAY_MS})
        assert read_swaps(sim)["ZEC"].delisted_ms == now_ms + DAY_MS
        sim.post("/sim/contracts", change | {"delisted_ms": now_ms - 1})
        assert "ZEC" not in read_swaps(sim)
        assert read_data(sim, HISTORY, instId=name)
        sim.post("/sim/contracts", change | {"delisted_ms": now_ms - 2 * DAY_MS})
        assert read_code(sim.get(HISTORY, instId=name)) == (200, "51001", True)
        sim.post("/sim/contracts", change | {"listed_ms": now_ms + HOUR_MS, "delisted_ms": None})
        assert "ZEC" not in read_swaps(sim)
        sim.set_time(now_ms + HOUR_MS - 4 * MINUTE_MS)  # announced with its details
        assert read_swaps(sim)["ZEC"].listed_ms == now_ms + HOUR_MS
    finally:
        sim.post("/sim/contracts", change | {"listed_ms": before.listed_ms, "delisted_ms": None})


def test_suspended_contracts_stay_in_the_list(sim, market):
    """During maintenance."""
    day = next(day for day in itertools.count(sim.now_ms() // DAY_MS) if market.holes.maintenance("okx", day))
    sim.set_time(day * DAY_MS + market.holes.maintenance("okx", day)[2] * MINUTE_MS)
    assert {row["state"] for row in read_data(sim, CONTRACTS, instType="SWAP")} <= {"suspend", "preopen", "test"}
    assert len(read_swaps(sim)) > 50


# limits and sockets with their real sizes, but for silence and farewell


@pytest.fixture(scope="module")
def strict():
    simulator = SimulatorProcess("--okx-silence-s", "1", "--okx-notice-after-s", "0.3", "--okx-notice-s", "0.3")
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
    answers = [read_code(strict.get(HISTORY, instId=SWAP)) for _ in range(26)]
    assert answers[:20] == [(200, "0", True)] * 20
    assert set(answers[20:]) == {(429, "50011", False), (200, "50011", True)}
    assert read_code(strict.get(HISTORY, instId="ETH-USDT-SWAP"))[1] == "50011"
    assert read_code(strict.get(CANDLES, instId=SWAP)) == (200, "0", True)
    assert [read_code(strict.get(RATIO, instId=SWAP))[1] for _ in range(7)] == ["0"] * 5 + ["50011"] * 2
    assert read_code(strict.get(RATIO, instId="ETH-USDT-SWAP")) == (200, "0", True)
    with pytest.raises(RetryLater):
        make_getter(strict)(Request(path=HISTORY, params={"instId": SWAP}), 1)
    time.sleep(2.05)
    assert read_code(strict.get(HISTORY, instId=SWAP)) == (200, "0", True)


def test_the_clock_and_the_contracts_fit_their_budgets(strict):
    for feed in FEEDS:
        budget = EXCHANGE.get_budget(feed.budget)
        assert feed.paging.compute_cost(feed.paging.rows) <= budget.limit


def receive_close(socket):
    """Receive until the server closes; return code, reason and the messages before."""
    came = []
    while True:
        opcode, payload = socket.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return int.from_bytes(payload[:2], "big"), payload[2:].decode(), came
        came.append(payload.decode())


def test_a_socket_without_ping_and_data_is_closed(strict):
    """With code 4004."""
    socket = strict.connect("/ws/v5/business")
    number, reason, came = receive_close(socket)
    assert (number, came) == (4004, []) and reason.startswith("No data received")


def test_pings_keep_a_socket_open_and_public_sockets_get_a_notice(strict):
    """The connection ends after the notice."""
    quiet, public = strict.connect("/ws/v5/business"), strict.connect("/ws/v5/public")
    for _ in range(4):
        quiet.send("ping")
        assert quiet.recv() == "pong"
        time.sleep(0.3)
    number, _, came = receive_close(public)
    (notice,) = map(json.loads, came)
    assert (number, notice["event"], notice["code"]) == (1001, "notice", "64008")
    assert route(notice).renew


def subscribe(socket, *topics, number=1):
    socket.send(write_subscription(topics, number))


def test_each_topic_has_an_ack_and_errors_name_their_topic_in_the_text(sim, connect):
    """They have no arg."""
    leave_maintenance(sim, 30)
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


def test_streams_equal_the_truth(sim, connect):
    """Over the end of a minute: closed candles, last premium, estimate, open interest."""
    contracts = {
        symbol: contract
        for symbol, contract in read_swaps(sim).items()
        if symbol in (*SYMBOLS, "ETH", "PEPE", "币安人生", "RUNE")
    }
    by_name = {contract.name: symbol for symbol, contract in contracts.items()}
    minute_ms = leave_maintenance(sim, 59.2)
    sockets = {name: connect(f"/ws/v5/{name}") for name in ("public", "business")}
    routes = {}
    for name, socket in sockets.items():
        feeds = [feed for feed in EXCHANGE.stream_feeds if feed.socket == name and not feed.name]
        wanted = {feed.topic(contract): contract for feed in feeds for contract in contracts.values()}
        routes |= {
            topic: ([f for f in feeds if f.topic(contract) == topic], contract) for topic, contract in wanted.items()
        }
        subscribe(socket, *sorted(wanted))
    stored = {metric: {symbol: {} for symbol in contracts} for metric in PUSHES}
    raw = 0
    for message in [*sim.receive_for(sockets["business"], 4.0), *sim.receive_for(sockets["public"], 0.2)]:
        frame = route(message)
        assert frame.fault is None
        for feed, instrument in [(feed, routes[frame.topic][1]) for feed in routes.get(frame.topic, ((), None))[0]]:
            raw += 1
            for row in read_message(feed, frame.data, instrument):
                stored[feed.metric][by_name[instrument.name]][METRICS[feed.metric].stamp(row.ts, MINUTE_MS)] = row
    assert raw > 20
    for symbol in contracts:
        true = {
            metric: read_truth(sim, metric, symbol, minute_ms, minute_ms + 2 * MINUTE_MS, step=MINUTE_MS)
            for metric in ("ohlcv", "pfr", "ppr")
        }
        quiet = {ts: row for ts, row in true["ohlcv"].items() if Decimal(row["v"]) == 0}
        assert (
            list_differences(stored["ohlcv"][symbol], {ts: true["ohlcv"][ts] for ts in true["ohlcv"].keys() - quiet})
            == []
        )
        for metric in ("pfr", "ppr"):
            now = {ts: row for ts, row in stored[metric][symbol].items() if ts == minute_ms}
            assert list_differences(now, {ts: true[metric][ts] for ts in now}) == []
        assert stored["pfr"][symbol].keys() & {minute_ms} == true["pfr"].keys() & {minute_ms}
    sim.set_time(minute_ms + 20 * MINUTE_MS)  # all of it is published
    for symbol in contracts:
        true = read_truth(sim, "oi", symbol, minute_ms + MINUTE_MS, minute_ms + 3 * MINUTE_MS, step=MINUTE_MS)
        samples = stored["oi"][symbol]
        assert list_differences(samples, {ts: row for ts, row in true.items() if ts in samples}) == []
        assert set(samples) == set(true)


def test_every_liquidation_has_its_side_and_may_be_repeated(sim, connect, market):
    """Several of a contract in one message, newest first, within 1.5 s."""
    swaps = {contract.name: contract for contract in market.world.list_instruments("okx") if contract.kind != "dated"}
    contracts = {contract.name: contract for contract in read_swaps(sim).values()}
    first = floor_to(sim.now_ms(), MINUTE_MS) + MINUTE_MS
    events = sorted(
        (event.ts, name, event)
        for ts in range(first, first + 120 * MINUTE_MS, MINUTE_MS)
        for name, contract in swaps.items()
        for event in market.liquidations.list_in_minute(contract, ts)
        if ts + 3_000 < event.ts < ts + 50_000
    )
    begin, _ = max(  # the 1.5 s of a contract with the most events
        ((ts, name) for ts, name, _ in events if name in contracts),
        key=lambda start: sum(name == start[1] and start[0] <= ts < start[0] + 1_500 for ts, name, _ in events),
    )
    sim.set_time(begin - 200)
    socket = connect("/ws/v5/public")
    subscribe(socket, "liquidation-orders:SWAP")
    messages = [message for message in sim.receive_for(socket, 5) if "data" in message]
    feed = PUSHES["lq"]
    came = []
    for message in messages:
        frame = route(message)
        assert frame.topic == feed.topic(contracts[SWAP])
        for name, instrument in contracts.items():
            came += [(row.ts, name, row) for row in read_message(feed, frame.data, instrument)]
    assert any(len(item["details"]) > 1 for message in messages for item in message["data"])
    for ts, name, event in events:
        if begin <= ts < begin + 1_500 and name in contracts:
            usd = Decimal(event.size * event.limit_price).scaleb(-swaps[name].quote_decimals)
            rows_of_event = {row for at_ms, of, row in came if (at_ms, of) == (ts, name)}
            values = {(Decimal(row.lql), Decimal(row.lqs)) for row in rows_of_event}
            assert ((usd, Decimal(0)) if event.side == "long" else (Decimal(0), usd)) in values
    served_ms = max(ts for ts, _, _ in came)
    expected = {
        (event.ts, name)
        for ts in range(floor_to(min(ts for ts, _, _ in came), MINUTE_MS), served_ms + 1, MINUTE_MS)
        for name, contract in swaps.items()
        for event in market.liquidations.list_in_minute(contract, ts)
    }
    assert {(ts, name) for ts, name, _ in came} <= expected
