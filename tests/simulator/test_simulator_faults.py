"""Faults, and the control plane that sets them."""

import itertools
import json
import re
import time
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
import websocket

from fademoe.simulator.faults import KINDS, Fault
from fademoe.simulator.options import build_parser
from fademoe.simulator.server import load_exchanges

KLINES = "/fapi/v1/klines"
ASK = {"symbol": "BTCUSDT", "interval": "1m", "limit": 5}
HISTORY = ASK | {"startTime": 1_790_000_000_000}
MINUTE_MS = 60_000


def ask(sim, **query):
    """Request klines."""
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
        ("object_200", 200, '{"message": "maintenance"}'),
        ("empty_202", 202, ""),
        ("redirect_302", 302, ""),
    ],
)
def test_a_fault_in_place_of_an_answer_has_the_real_status_and_text(sim, kind, status, text):
    """Once, with a count of one."""
    sim.fault(kind=kind, exchange="binance", count=1)
    response = requests.get(sim.url + KLINES, params=HISTORY, allow_redirects=False, timeout=60)
    assert response.status_code == status and text in response.text
    assert ask(sim).status_code == 200


def test_a_refusal_has_any_retry_after(sim):
    sim.fault(kind="rate_limited", exchange="binance", count=1, retry_after="9999999999")
    assert ask(sim).headers["Retry-After"] == "9999999999"


def test_a_list_of_contracts_has_siblings(sim):
    """A contract on another coin whose name is that of a coin with a multiplied contract."""
    path = "/fapi/v1/exchangeInfo"
    whole = [contract["symbol"] for contract in sim.get(path).json()["symbols"]]
    sim.fault(kind="sibling", exchange="binance", path=path, count=1)
    more = [contract["symbol"] for contract in sim.get(path).json()["symbols"]]
    assert more[: len(whole)] == whole
    assert "1000PEPEUSDT" in whole and "PEPEUSDT" in more[len(whole) :]


@pytest.mark.parametrize("kind", ["reset", "down"])
def test_reset_and_down_cut_the_connection_without_an_answer(sim, kind):
    """The next request is served."""
    sim.fault(kind=kind, count=1)
    with pytest.raises(requests.ConnectionError):
        ask(sim)
    assert ask(sim).status_code == 200


def test_a_truncated_body_has_status_200(sim):
    """It is no JSON."""
    sim.fault(kind="truncated", count=1)
    with pytest.raises(json.JSONDecodeError):
        ask(sim).json()


def test_the_middle_row_of_a_page_is_damaged(sim):
    """Or all its times."""
    good = ask(sim).json()
    for kind in ("nan", "negative_volume", "missing_field", "seconds"):
        sim.fault(kind=kind, count=1)
        bad = ask(sim).json()
        assert len(bad) == len(good) == 5
        if kind == "seconds":
            assert [row[0] * 1000 for row in bad] == [row[0] for row in good]
        else:
            assert [row == good_row for row, good_row in zip(bad, good, strict=True)] == [True, True, False, True, True]
            assert {"nan": bad[2][1] == "NaN", "negative_volume": bad[2][5][0] == "-"}.get(kind, len(bad[2]) == 6)
    assert ask(sim).json() == good


def test_a_row_that_is_an_object_is_damaged(sim):
    """As rows that are arrays."""
    query = {"symbol": "BTCUSDT", "period": "5m", "limit": 3}
    path = "/futures/data/openInterestHist"
    for kind in ("nan", "negative_volume", "missing_field"):
        sim.fault(kind=kind, count=1, path="/futures/data")
        row = sim.rows(path, **query)[1]
        value = row.get("sumOpenInterest")
        assert {"nan": value == "NaN", "negative_volume": str(value)[0] == "-", "missing_field": value is None}[kind]


@pytest.mark.parametrize(
    ("kind", "odd"), [("nan", [{"ts": "NaN"}]), ("null_row", [None]), ("missing_field", [{}]), ("low_above_open", None)]
)
def test_a_row_that_is_a_time_alone_is_damaged(sim, kind, odd):
    """Odd is None where the kind leaves it as it is."""
    sim.fault(kind=kind, exchange="okx", path="/api/v5/public/time", count=1)
    row = sim.rows("/api/v5/public/time")["data"]
    assert row == odd if odd is not None else row[0]["ts"].isdigit()


def test_rows_of_another_contract_are_valid(sim):
    """They have the times of the requested page."""
    good = ask(sim, symbol="ETHUSDT").json()
    sim.fault(kind="other_symbol", count=1)
    other = ask(sim, symbol="ETHUSDT").json()
    assert other != good and [row[0] for row in other] == [row[0] for row in good]


def test_the_time_is_a_day_ahead_in_one_answer(sim):
    sim.fault(kind="odd_time", exchange="okx", path="/api/v5/public/time", count=1)
    times = [int(sim.rows("/api/v5/public/time")["data"][0]["ts"]) for _ in range(2)]
    assert abs(times[0] - 86_400_000 - times[1]) < 10_000


def test_a_connection_is_reset_at_its_second_request(sim):
    """A new one is served."""
    sim.fault(kind="reset_reused", path=KLINES)
    with requests.Session() as session:
        assert session.get(sim.url + KLINES, params=HISTORY, timeout=60).status_code == 200
        with pytest.raises(requests.ConnectionError):
            session.get(sim.url + KLINES, params=HISTORY, timeout=60)
        assert session.get(sim.url + KLINES, params=HISTORY, timeout=60).status_code == 200


def test_a_packed_body_breaks_off(sim):
    """The message itself is whole."""
    whole = ask(sim).text
    sim.fault(kind="cut_gzip", count=1)
    broken = ask(sim)
    assert broken.headers["Content-Encoding"] == "gzip"
    assert whole.startswith(broken.text) and len(broken.text) < len(whole)


def test_rows_at_the_edges_of_a_page_and_young_ones_are_missing(sim):
    """A page of two rows is whole."""
    whole = ask(sim).json()
    sim.fault(kind="lost_edges", count=2)
    assert ask(sim).json() == whole[1:-1]
    assert ask(sim, limit=2).json() == whole[:2]
    sim.fault(kind="late_rows", count=1, seconds=(sim.now_ms() - whole[3][0]) / 1000 + 1)
    assert [row[0] for row in ask(sim).json()] == [row[0] for row in whole[:3]]


def test_a_stall_delays_the_answer(sim):
    """By its seconds."""
    sim.fault(kind="stall", count=1, seconds=0.4)
    started = time.monotonic()
    assert ask(sim).status_code == 200
    assert 0.4 <= time.monotonic() - started < 10


def test_a_fault_hits_by_scope_count_duration_and_probability(sim):
    """It is listed and can be cleared."""
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


def test_invalid_faults_are_refused(sim):
    """With status 400 and an error text."""
    for body in ('{"kind":"nosuch"}', '{"kind":"reset","colour":1}', '{"kind":"reset","count":"x"}', "[1]", "{", '"x"'):
        response = sim.session.post(f"{sim.url}/sim/faults", data=body)
        assert response.status_code == 400 and response.json()["error"]
    assert sim.session.post(f"{sim.url}/sim/faults", data='{"kind":"reset","exchange":"no"}').status_code == 404


def test_down_cuts_sockets_and_refuses_new_ones(sim):
    """Without a close frame."""
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
    """New sockets are served."""
    socket = sim.connect("/market/ws/btcusdt@kline_1m")
    sim.fault(kind="drop_sockets")
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        while True:
            socket.recv()
    assert json.loads(sim.connect("/market/ws/btcusdt@markPrice@1s").recv())["s"] == "BTCUSDT"


def test_silent_sockets_stay_open(sim):
    """They send neither data nor acks, but answer protocol pings; data continue afterwards."""
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


def test_closed_candles_are_lost_repeated_and_late(sim, market):
    """Each of three contracts has one of the faults."""
    symbols = {"lost_close": "BTCUSDT", "duplicate_close": "ETHUSDT", "late_bars": "SOLUSDT"}
    instruments = [market.world.find_instrument("binance", name) for name in (*symbols.values(), "XRPUSDT")]
    minute_ms = sim.now_ms() // MINUTE_MS * MINUTE_MS
    ts = next(
        ts
        for ts in itertools.count(minute_ms, MINUTE_MS)
        if all(
            market.candles.read_bar(instrument, ts) and market.find_final_delay_ms(instrument, ts) < 900
            for instrument in instruments
        )
    )
    for kind, symbol in symbols.items():
        sim.fault(kind=kind, symbol=symbol, seconds=1.1)
    sim.set_time(ts + MINUTE_MS - 300)
    socket = sim.connect("/market/ws/" + "/".join(f"{instrument.name.lower()}@kline_1m" for instrument in instruments))
    ends = [event for event in sim.receive_for(socket, 2.6) if event["k"]["x"] and event["k"]["t"] == ts]
    symbols = sorted(event["s"] for event in ends)
    assert symbols == ["ETHUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
    late = next(event for event in ends if event["s"] == "SOLUSDT")
    assert late["E"] - ts - MINUTE_MS >= 1_100
    assert sim.rows("/sim/stats")["binance"]["faults"]["lost_close"] >= 1


@pytest.mark.parametrize(("kind", "order"), [("doubled_frames", [0, 0, 1, 1]), ("swapped_frames", [1, 0, 3, 2])])
def test_messages_of_a_topic_come_twice_or_in_another_order(sim, kind, order):
    """By the time at which they were made."""
    sim.fault(kind=kind, path="btcusdt@markPrice", exchange="binance")
    socket = sim.connect("/market/ws/btcusdt@markPrice@1s")
    times = [json.loads(socket.recv())["E"] for _ in order]
    assert [sorted(set(times)).index(at_ms) for at_ms in times] == order


LISTS_PATH = {
    "binance": "/fapi/v1/exchangeInfo",
    "bybit": "/v5/market/instruments-info",
    "okx": "/api/v5/public/instruments",
    "coinalyze": "/v1/future-markets",
}
LIST_QUERY = {"bybit": {"category": "linear"}, "okx": {"instType": "SWAP"}, "coinalyze": {"api_key": "k"}}


def read_list(sim, exchange):
    """Return the contracts of an exchange's list."""
    body = sim.rows(LISTS_PATH[exchange], **LIST_QUERY.get(exchange, {}))
    return {
        "binance": lambda: body["symbols"],
        "bybit": lambda: body["result"]["list"],
        "okx": lambda: body["data"],
        "coinalyze": lambda: body,
    }[exchange]()


def name_contracts(contracts):
    """Return the names of contracts; their terms may change between two reads, as the exchanges' do."""
    return [contract.get("symbol") or contract.get("instId") for contract in contracts]


@pytest.mark.parametrize("exchange", LISTS_PATH)
def test_a_list_of_contracts_is_damaged_once(sim, exchange):
    """An empty list, a lost contract, an odd one, types that no client knows."""
    names = ("contractType", "instCategory", "symbolType", "margined")
    whole = name_contracts(read_list(sim, exchange))
    for kind in ("empty_list", "half_list", "lost_contract", "odd_contract", "unknown_type", "doubled_contract"):
        sim.fault(kind=kind, exchange=exchange, path=LISTS_PATH[exchange], count=1)
        contracts, middle = read_list(sim, exchange), len(whole) // 2
        damaged = name_contracts(contracts)
        if kind == "empty_list":
            assert damaged == []
        elif kind == "half_list":
            assert damaged == whole[:middle]
        elif kind == "lost_contract":
            assert damaged == whole[:middle] + whole[middle + 1 :]
        elif kind == "doubled_contract":
            assert [damaged[0], *damaged[2:]] == whole
            assert (contracts[1] != contracts[0]) == (exchange != "coinalyze"), "its contracts have no time"
        elif kind == "odd_contract":
            assert damaged[1:] == whole[1:]
            assert None in contracts[0].values()
        else:
            assert damaged[:middle] == whole[:middle]
            assert all("HYBRID" in [contract.get(name) for name in names] for contract in contracts[middle:])
    assert len(read_list(sim, exchange)) == len(whole)


def test_an_empty_list_ends_after_its_time(sim):
    """Klines, open interest and settlements are [] for a while, then right."""
    end_ms = sim.now_ms() // 86_400_000 * 86_400_000 - 86_400_000
    requests_ = (
        (KLINES, HISTORY),
        ("/fapi/v1/fundingRate", {"symbol": "BTCUSDT", "startTime": end_ms - 10 * 86_400_000}),
        ("/futures/data/openInterestHist", {"symbol": "BTCUSDT", "period": "5m"}),
        (
            "/v1/open-interest-history",
            {"symbols": "BTCUSDT_PERP.A", "interval": "5min", "api_key": "k"}
            | {"from": end_ms // 1000 - 3600, "to": end_ms // 1000},
        ),
    )
    fault = sim.fault(kind="empty_list", duration_s=60)
    assert [sim.rows(path, **query) for path, query in requests_] == [[], [], [], []]
    sim.session.delete(f"{sim.url}/sim/faults", params={"id": fault})
    assert all(sim.rows(path, **query) for path, query in requests_)
    sim.fault(kind="empty_list", duration_s=0.2)
    assert sim.rows(KLINES, **HISTORY) == []
    time.sleep(0.3)
    assert len(sim.rows(KLINES, **HISTORY)) == 5


def test_the_middle_row_of_a_page_is_odd(sim):
    """Blank, null, exponent, a low above the open, a null row, the same minute with other values."""
    good = ask(sim).json()
    for kind, value in (("blank", ""), ("null", None), ("exponent", "5E-7")):
        sim.fault(kind=kind, count=1)
        assert ask(sim).json() == [*good[:2], [good[2][0], value, *good[2][2:]], *good[3:]]
    sim.fault(kind="null_row", count=1)
    assert ask(sim).json() == [*good[:2], None, *good[3:]]
    sim.fault(kind="low_above_open", count=1)
    odd = ask(sim).json()[2]
    assert float(odd[3]) > float(odd[1]) and odd[4:] == good[2][4:]
    sim.fault(kind="tomorrow", count=1)
    assert ask(sim).json()[2][0] == good[2][0] + 86_400_000
    sim.fault(kind="duplicate_row", count=1)
    rows = ask(sim).json()
    assert len(rows) == 6 and rows[:2] + rows[3:] == good
    assert rows[2][:5] == good[2][:5] and float(rows[2][5]) > float(good[2][5])


class Halted:
    """RUNE of Binance, which did not trade for nine hours of the day before yesterday."""

    def __init__(self, sim):
        self._sim = sim
        self.end_ms = sim.now_ms() // 86_400_000 * 86_400_000 - 86_400_000
        self.halt = (self.end_ms - 10 * 3_600_000, self.end_ms - 3_600_000)
        self.day = {"symbol": "RUNEUSDT", "startTime": self.end_ms - 86_400_000, "endTime": self.end_ms - 1}
        self.changed = set()
        self.change(halted_from_ms=self.halt[0], halted_until_ms=self.halt[1])

    def change(self, **members):
        """Change the contract until the test ends."""
        self.changed |= members.keys()
        self._sim.post("/sim/contracts", {"exchange": "binance", "instrument": "RUNEUSDT", **members})


@pytest.fixture
def halted(sim):
    found = Halted(sim)
    yield found
    found.change(**dict.fromkeys(found.changed))


def test_a_contract_is_delisted_and_listed_again_for_good(sim, halted):
    """REST, truth, and settlements lack the time between; the list may show a later time of listing."""
    start_ms, end_ms, halt = halted.end_ms - 86_400_000, halted.end_ms, halted.halt
    halted.change(shown_listed_ms=halt[1])
    klines = [row[0] for row in sim.rows(KLINES, interval="1m", limit=1500, **halted.day)]
    assert 700 < len(klines) <= 900 and not any(halt[0] <= ts < halt[1] for ts in klines)
    for metric in ("ohlcv", "pfr", "fr", "ppr", "mark", "oi", "lsr", "lq"):
        times = [row["ts"] for row in sim.truth(metric, "RUNEUSDT", start_ms, end_ms)]
        assert times and not any(halt[0] <= ts < halt[1] for ts in times), metric
    assert [row["ts"] for row in sim.truth("ohlcv", "RUNEUSDT", start_ms, end_ms)] == klines
    listed = {contract["symbol"]: contract for contract in read_list(sim, "binance")}
    assert (listed["RUNEUSDT"]["status"], listed["RUNEUSDT"]["onboardDate"]) == ("TRADING", halt[1])


def test_what_is_forgotten_is_left_to_the_archive(sim, halted):
    """A contract that had ended by then is on no list; REST leaves out the life before a new listing."""
    start_ms, end_ms, halt = halted.end_ms - 86_400_000, halted.end_ms, halted.halt
    halted.change(forgotten_ms=halt[1])
    assert min(row[0] for row in sim.rows(KLINES, interval="1m", limit=1500, **halted.day)) >= halt[1]
    assert sim.truth("ohlcv", "RUNEUSDT", start_ms, halt[0])
    assert "RUNEUSDT" in {contract["symbol"] for contract in read_list(sim, "binance")}
    halted.change(delisted_ms=end_ms, forgotten_ms=end_ms)
    assert "RUNEUSDT" not in {contract["symbol"] for contract in read_list(sim, "binance")}
    assert sim.get(KLINES, interval="1m", **halted.day).json()["code"] == -1121
    day = datetime.fromtimestamp(start_ms / 1000, UTC).strftime("%Y-%m-%d")
    assert sim.get(f"/data/futures/um/daily/klines/RUNEUSDT/1m/RUNEUSDT-1m-{day}.zip").status_code == 200


def test_every_fault_is_documented_with_its_effect():
    """docs/simulator.md and --help have the texts of the declarations."""
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", page.partition("| kind | effect |")[2], re.MULTILINE))
    assert rows == KINDS
    text = build_parser(load_exchanges()).format_help()
    assert all(f"  {kind} " in text and effect in text for kind, effect in KINDS.items())
    members = set(re.findall(r"^\| `(\w+)` \|", page.partition("| member | meaning |")[2], re.MULTILINE))
    assert {item.name for item in fields(Fault)} - {"id", "hits", "until_ms"} <= members
