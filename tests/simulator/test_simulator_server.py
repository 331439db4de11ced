"""The process: start, stop, options, control plane."""

import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import requests

COMMAND = [sys.executable, "-m", "fademoe.simulator"]


def test_a_port_in_use_ends_the_program_with_status_2_and_one_line():
    """Without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.count("\n") == 1 and str(port) in ended.stderr


def test_invalid_options_end_the_program_with_status_2():
    """The message names the option."""
    ended = subprocess.run([*COMMAND, "--nosuch"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and "--nosuch" in ended.stderr


def test_sigterm_and_sigint_stop_it_at_once(start):
    """With open connections and sockets; the status is 0."""
    for number in (signal.SIGTERM, signal.SIGINT):
        sim = start()
        client = sim.connect("/market/ws/btcusdt@kline_1m")
        client.recv()
        sim.get("/sim/health")
        started = time.monotonic()
        sim.process.send_signal(number)
        assert sim.process.wait(60) == 0
        assert time.monotonic() - started < 10


def test_latency_delays_answers_in_parallel_and_no_holes_removes_missing_minutes(start):
    """Twelve parallel requests take as long as one."""
    sim = start("--latency-ms", "300", "--no-holes")
    url = sim.url + "/fapi/v1/time"
    started = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: requests.get(url, timeout=60), range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert 0.3 <= time.monotonic() - started < 3
    end_ms = sim.now_ms() // 86_400_000 * 86_400_000
    assert len(sim.truth("ohlcv", "BTC", end_ms - 10 * 86_400_000, end_ms)) == 14_400


def test_recordings_are_served_as_recorded(start, tmp_path):
    """By file, with or without folder and .json, and index; an unknown one is 404."""
    folder = tmp_path / "acme"
    folder.mkdir()
    entries = [{"payload": {"a": [1, "x"]}}, {"payload": [], "status": 400}, {"note": "no answer"}]
    (folder / "rest_x.json").write_text(json.dumps(entries), encoding="utf-8")
    sim = start("--recordings", str(tmp_path))
    assert sim.rows("/sim/recordings/acme/rest_x/0") == {"a": [1, "x"]}
    assert sim.get("/sim/recordings/acme/rest_x.json/1").status_code == 400
    for missing in ("acme/rest_x/2", "acme/rest_x/3", "acme/other/0", "../x/0", "acme/rest_x/y"):
        assert sim.get(f"/sim/recordings/{missing}").status_code == 404


def test_health_and_symbols_describe_the_exchanges(sim):
    """Unknown paths are 404, missing parameters 400."""
    health = sim.rows("/sim/health")
    assert health["ok"] is True and "binance" in health["exchanges"] and abs(health["now_ms"] / 1000 - time.time()) < 5
    symbols = {contract["instrument"]: contract for contract in sim.rows("/sim/symbols", exchange="binance")["symbols"]}
    pepe = symbols["1000PEPEUSDT"]
    assert (pepe["symbol"], pepe["price_coins"], pepe["kind"], pepe["quote"]) == ("PEPE", "1000", "perpetual", "USDT")
    for path, status in (("/sim/nosuch", 404), ("/nosuch", 404), ("/sim/truth", 400), ("/sim/symbols?exchange=x", 404)):
        assert sim.get(path).status_code == status
    query = {"exchange": "binance", "symbol": "BTC", "from": 0, "to": 1}
    assert sim.get("/sim/truth", metric="nosuch", **query).status_code == 404
    assert sim.get("/sim/truth", metric="oi", **(query | {"from": "x"})).status_code == 400


def test_stats_count_requests_refusals_sockets_and_subscriptions(sim):
    """By path and status, since the last reset."""
    sim.post("/sim/stats", {})
    sim.get("/fapi/v1/time")
    sim.get("/fapi/v1/klines", symbol="NOSUCH", interval="1m")
    client = sim.connect("/market/stream?streams=btcusdt@kline_1m/nosuch@kline_1m")
    client.recv()
    stats = sim.rows("/sim/stats")["binance"]
    assert stats["requests"] == 2 and stats["paths"] == {"/fapi/v1/time": 1, "/fapi/v1/klines": 1}
    assert stats["refusals"] == {"400": 1} and (stats["sockets"], stats["subscriptions"]) == (1, 2)
    assert stats["frames_sent"] >= 1
    client.close()
    time.sleep(0.1)
    assert sim.rows("/sim/stats")["binance"]["sockets"] == 0


def test_the_exchanges_clock_has_an_offset_to_the_hosts(start):
    """By option and at run time; data follow."""
    sim = start("--clock-offset-ms", "-90000")
    assert 89_000 < time.time() * 1000 - sim.rows("/fapi/v1/time")["serverTime"] < 95_000
    sim.post("/sim/clock", {"offset_ms": 3_600_000})
    ahead_ms = sim.rows("/fapi/v1/time")["serverTime"] - time.time() * 1000
    assert 3_590_000 < ahead_ms < 3_610_000
    assert sim.rows("/fapi/v1/klines", symbol="BTCUSDT", interval="1m")[-1][0] > (time.time() + 3_500) * 1000
