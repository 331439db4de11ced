"""Faults on request, and the control plane that tells them."""

import itertools
import json
import time

import pytest
import requests
import websocket

KLINES = "/fapi/v1/klines"
ASK = {"symbol": "BTCUSDT", "interval": "1m", "limit": 5}
HISTORY = ASK | {"startTime": 1_790_000_000_000}
MINUTE_MS = 60_000


def ask(sim, **query):
    """Ask for klines."""
    return sim.get(KLINES, **(HISTORY | query))


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("html_200", 200, "<html>"),
        ("html_502", 502, "<html>"),
        ("html_403", 403, "cloudfront"),
        ("error_503", 503, "-1000"),
        ("rate_limited", 429, "-1003"),
        ("banned", 418, "banned until"),
        ("restricted", 451, "restricted location"),
        ("error_200", 200, '"code"'),
        ("html_400", 400, "<html>"),
        ("html_404", 404, "<html>"),
        ("html_405", 405, "<html>"),
        ("empty_200", 200, ""),
        ("empty_202", 202, ""),
        ("redirect_302", 302, ""),
    ],
)
def test_refusals(sim, kind, status, text):
    """Each has the status and the words of the real one, once when asked once."""
    sim.fault(kind=kind, exchange="binance", count=1)
    response = requests.get(sim.url + KLINES, params=HISTORY, allow_redirects=False, timeout=10)
    assert response.status_code == status and text in response.text
    assert ask(sim).status_code == 200


def test_a_refusal_may_ask_for_any_pause(sim):
    sim.fault(kind="rate_limited", exchange="binance", count=1, retry_after="9999999999")
    assert ask(sim).headers["Retry-After"] == "9999999999"


def test_lists_of_contracts_may_be_halved_or_have_siblings(sim):
    """A list without its second half; a contract named as another one without its thousands."""
    path = "/fapi/v1/exchangeInfo"
    whole = [contract["symbol"] for contract in sim.get(path).json()["symbols"]]
    sim.fault(kind="half_list", exchange="binance", path=path, count=1)
    assert [contract["symbol"] for contract in sim.get(path).json()["symbols"]] == whole[: len(whole) // 2]
    sim.fault(kind="sibling", exchange="binance", path=path, count=1)
    more = [contract["symbol"] for contract in sim.get(path).json()["symbols"]]
    assert more[: len(whole)] == whole
    assert "1000PEPEUSDT" in whole and "PEPEUSDT" in more[len(whole) :]


@pytest.mark.parametrize("kind", ["reset", "down"])
def test_a_connection_is_cut_without_an_answer(sim, kind):
    """As a reset; the next request is served."""
    sim.fault(kind=kind, count=1)
    with pytest.raises(requests.ConnectionError):
        ask(sim)
    assert ask(sim).status_code == 200


def test_truncated_json(sim):
    """Status 200 and a body that is cut."""
    sim.fault(kind="truncated", count=1)
    with pytest.raises(json.JSONDecodeError):
        ask(sim).json()


def test_damaged_rows(sim):
    """One row in the middle of the page is wrong, or all times are."""
    good = ask(sim).json()
    for kind in ("nan", "negative_volume", "missing_field", "seconds"):
        sim.fault(kind=kind, count=1)
        bad = ask(sim).json()
        assert len(bad) == len(good) == 5
        if kind == "seconds":
            assert [row[0] * 1000 for row in bad] == [row[0] for row in good]
        else:
            assert [one == other for one, other in zip(bad, good, strict=True)] == [True, True, False, True, True]
            assert {"nan": bad[2][1] == "NaN", "negative_volume": bad[2][5][0] == "-"}.get(kind, len(bad[2]) == 6)
    assert ask(sim).json() == good


def test_damaged_objects(sim):
    """Rows that are objects are damaged too."""
    query = {"symbol": "BTCUSDT", "period": "5m", "limit": 3}
    path = "/futures/data/openInterestHist"
    for kind in ("nan", "negative_volume", "missing_field"):
        sim.fault(kind=kind, count=1, path="/futures/data")
        row = sim.rows(path, **query)[1]
        value = row.get("sumOpenInterest")
        assert {"nan": value == "NaN", "negative_volume": str(value)[0] == "-", "missing_field": value is None}[kind]


def test_a_page_of_another_symbol(sim):
    """The rows are good and belong to somebody else."""
    good = ask(sim, symbol="ETHUSDT").json()
    sim.fault(kind="other_symbol", count=1)
    other = ask(sim, symbol="ETHUSDT").json()
    assert other != good and [row[0] for row in other] == [row[0] for row in good]


def test_a_stall_delays_the_answer(sim):
    """It comes after all."""
    sim.fault(kind="stall", count=1, seconds=0.4)
    started = time.monotonic()
    assert ask(sim).status_code == 200
    assert 0.4 <= time.monotonic() - started < 2


def test_scope_count_duration_and_probability(sim):
    """A fault strikes where and as often as it was told, and can be listed and cleared."""
    sim.fault(kind="html_502", path="/fapi/v1/time")
    sim.fault(kind="error_503", symbol="ETHUSDT", count=2)
    lasting = sim.fault(kind="rate_limited", path=KLINES, symbol="BTCUSDT", duration_s=0.3)
    assert [ask(sim, symbol="ETHUSDT").status_code for _ in range(3)] == [503, 503, 200]
    assert (ask(sim).status_code, sim.get("/fapi/v1/time").status_code) == (429, 502)
    assert lasting in [fault["id"] for fault in sim.rows("/sim/faults")["faults"]]
    time.sleep(0.35)
    assert ask(sim).status_code == 200
    (left,) = sim.rows("/sim/faults")["faults"]
    assert left["hits"] == 1
    assert sim.session.delete(f"{sim.url}/sim/faults", params={"id": left["id"]}).json() == {"cleared": 1}
    sim.fault(kind="html_502", probability=0.5)
    statuses = {ask(sim).status_code for _ in range(30)}
    assert statuses == {200, 502}


def test_wrong_faults_are_refused(sim):
    """With status 400 and a sentence."""
    for body in ('{"kind":"nosuch"}', '{"kind":"reset","colour":1}', '{"kind":"reset","count":"x"}', "[1]", "{", '"x"'):
        response = sim.session.post(f"{sim.url}/sim/faults", data=body)
        assert response.status_code == 400 and response.json()["error"]
    assert sim.session.post(f"{sim.url}/sim/faults", data='{"kind":"reset","exchange":"no"}').status_code == 404


def test_sockets_are_dropped_and_refused_while_an_exchange_is_down(sim):
    """Open ones are cut at once without a close frame, new ones are not let in."""
    socket = sim.connect("/market/ws/btcusdt@kline_1m")
    fault = sim.fault(kind="down", exchange="binance")
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        while True:
            socket.recv()
    with pytest.raises((websocket.WebSocketException, ConnectionError)):
        sim.connect("/market/ws")
    sim.session.delete(f"{sim.url}/sim/faults", params={"id": fault})
    assert json.loads(sim.connect("/market/ws/btcusdt@markPrice@1s").recv())["s"] == "BTCUSDT"


def test_drop_sockets_cuts_once(sim):
    """New ones are welcome."""
    socket = sim.connect("/market/ws/btcusdt@kline_1m")
    sim.fault(kind="drop_sockets")
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        while True:
            socket.recv()
    assert json.loads(sim.connect("/market/ws/btcusdt@markPrice@1s").recv())["s"] == "BTCUSDT"


def test_silent_sockets_stay_open(sim):
    """Neither data nor acks come, protocol pings are answered; afterwards the data go on."""
    socket = sim.connect("/market/ws/btcusdt@markPrice@1s")
    sim.fault(kind="silent_sockets", duration_s=0.9)
    socket.recv()
    socket.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    socket.ping("x")
    socket.settimeout(0.5)
    assert socket.recv_frame().opcode == websocket.ABNF.OPCODE_PONG
    with pytest.raises(websocket.WebSocketTimeoutException):
        socket.recv()
    socket.settimeout(3)
    assert json.loads(socket.recv())["s"] == "BTCUSDT"


def test_closing_bars_are_lost_doubled_and_late(sim, market):
    """Of three contracts each loses, doubles or delays its closed bar."""
    symbols = {"lost_close": "BTCUSDT", "duplicate_close": "ETHUSDT", "late_bars": "SOLUSDT"}
    instruments = [market.world.find_instrument("binance", name) for name in (*symbols.values(), "XRPUSDT")]
    minute_ms = sim.now_ms() // MINUTE_MS * MINUTE_MS
    ts = next(
        ts
        for ts in itertools.count(minute_ms, MINUTE_MS)
        if all(market.candles.read_bar(each, ts) and market.find_final_delay_ms(each, ts) < 900 for each in instruments)
    )
    for kind, symbol in symbols.items():
        sim.fault(kind=kind, symbol=symbol, seconds=1.1)
    sim.set_time(ts + MINUTE_MS - 300)
    socket = sim.connect("/market/ws/" + "/".join(f"{each.name.lower()}@kline_1m" for each in instruments))
    ends = [event for event in sim.receive_for(socket, 2.6) if event["k"]["x"] and event["k"]["t"] == ts]
    found = sorted(event["s"] for event in ends)
    assert found == ["ETHUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
    late = next(event for event in ends if event["s"] == "SOLUSDT")
    assert late["E"] - ts - MINUTE_MS >= 1_100
    assert sim.rows("/sim/stats")["binance"]["faults"]["lost_close"] >= 1
