"""The server as clients meet it: over stdio and over HTTP, as a process of its own, with the SDK's client."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from psycopg2.extensions import cursor as Cursor

from fademoe.assistants.serve import MAX_BODY_BYTES
from fademoe.cli.environment import load_settings
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, floor_to, now_ms, parse_time, to_iso
from fademoe.web.app import create_app
from fademoe.web.current import NAME
from tests.support.asynchronous import run_async

TOKEN = "the-token-of-assistants"
ARGUMENTS = {"source": "bin-ohlcv", "symbol": "BTC", "step": "1d"}
TOOLS = {"list_series", "coverage", "series", "compare", "stats", "funding_summary"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
REQUESTS: tuple[tuple[dict[str, str], Any, int], ...] = (  # headers, body, status; the URL has the token, always
    ({}, INITIALIZE, 200),
    ({"Authorization": f"bearer {TOKEN}"}, INITIALIZE, 200),
    ({"Origin": "http://localhost:3000"}, INITIALIZE, 200),
    ({"Origin": "https://localhost"}, INITIALIZE, 200),
    ({"Authorization": ""}, INITIALIZE, 401),
    ({"Authorization": "Bearer wrong"}, INITIALIZE, 401),
    ({"Authorization": f"Basic {TOKEN}"}, INITIALIZE, 401),
    ({"Host": "evil.example"}, INITIALIZE, 421),
    ({"Host": "localhost:8001.evil.example"}, INITIALIZE, 421),
    ({"Origin": "http://evil.example"}, INITIALIZE, 403),
    ({"Origin": "http://localhost:80@evil.example"}, INITIALIZE, 403),
    ({"Origin": "null"}, INITIALIZE, 403),
    ({"MCP-Protocol-Version": "1999-01-01"}, INITIALIZE, 400),
    ({"Mcp-Session-Id": "nothing"}, INITIALIZE, 404),
    ({"Content-Type": "text/plain"}, INITIALIZE, 400),
    ({}, [INITIALIZE, INITIALIZE], 400),
    ({}, {"x": "x" * MAX_BODY_BYTES}, 413),
)


@pytest.fixture
def environment(tmp_path: Path, database_url: str, redis_url: str, sql: Cursor) -> dict[str, str]:
    """The settings of a server, in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        "FADEMOE_HOME": str(tmp_path),
        "FADEMOE_DATABASE_URL": database_url,
        "FADEMOE_REDIS_URL": redis_url,
        "FADEMOE_MCP_PORT": str(port),
        "FADEMOE_MCP_TOKEN": TOKEN,
    }


@pytest.fixture
def address(environment: dict[str, str]) -> Iterator[str]:
    """The address of a server over HTTP that answers."""
    address = f"http://127.0.0.1:{environment['FADEMOE_MCP_PORT']}/mcp"
    process = subprocess.Popen([sys.executable, "-m", "fademoe", "mcp", "--http"], env={**os.environ, **environment})
    deadline_s = time.monotonic() + 60
    while True:
        try:
            httpx2.get(address, timeout=60)
            break
        except httpx2.TransportError:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
    yield address
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (0, -signal.SIGTERM)


async def ask(client: Client, begin_ms: int) -> tuple[set[str], Any]:
    names = {tool.name for tool in (await client.list_tools()).tools}
    span = {"since": to_iso(begin_ms), "until": to_iso(begin_ms + 2 * DAY_MS)}
    result = await client.call_tool("series", {**ARGUMENTS, **span})
    assert not result.is_error, result.content
    return names, result.structured_content


def check(names: set[str], answer: Any) -> None:
    assert names >= TOOLS
    assert "sql" not in names  # off unless FADEMOE_MCP_SQL=on
    assert len(answer["rows"]) == 2
    assert answer["coverage"][0]["is_complete"]


def test_a_client_starts_it_over_stdio(environment: dict[str, str], begin_ms: int):
    async def run() -> tuple[set[str], Any]:
        parameters = StdioServerParameters(
            command=sys.executable, args=["-m", "fademoe", "mcp"], env={**os.environ, **environment}
        )
        async with Client(parameters) as client:
            return await ask(client, begin_ms)

    check(*run_async(run))


@pytest.mark.long
def test_over_http_with_the_token_and_from_here_alone(address: str, begin_ms: int):
    async def run() -> tuple[set[str], Any]:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
            Client(streamable_http_client(address, http_client=http)) as client,
        ):
            return await ask(client, begin_ms)

    check(*run_async(run))
    for changed, body, status in REQUESTS:
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"} | changed
        answer = httpx2.post(f"{address}?token={TOKEN}", json=body, headers=headers, timeout=60)
        assert answer.status_code == status, (changed, answer.text)


RULE = """
[[rule]]
name = "high"
expr = "close > 90900"
codes = ["bin"]
symbols = ["BTC"]
"""
STRATEGY = 'long = "c > sma(c, 20m)"\nsize = 0.5\n'
SCREENED = "chg(close, 5m)"


class Api:
    """The JSON API over the database of the test."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.app = create_app(load_settings(environment))
        self._client = self.app.test_client()

    def get(self, path: str, **query: object) -> Any:
        answer = self._client.get(path, query_string=query)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def close(self) -> None:
        self.app.extensions[NAME].reader.close()
        self.app.extensions[NAME].redis.close()


@pytest.fixture
def demo(environment: dict[str, str], sql: Cursor, begin_ms: int, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a system that can replay a rule, screen now and run backtests, with `sql` on."""
    environment["FADEMOE_MCP_SQL"] = "on"
    now_minute = floor_to(now_ms(), MINUTE_MS)
    sql.execute(
        "INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms) VALUES"
        " ('binance', 'bin', 'BTCUSDT', 'BTC', 1500000000000)"
    )
    sql.execute(
        "INSERT INTO perp_data (ts, symbol, source, interval, mark_o, mark_h, mark_l, mark_c)"
        " SELECT ts, symbol, 'bin-mark', interval, o, h, l, c FROM perp_data WHERE source = 'bin-ohlcv'"
    )
    sql.execute(
        "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v) SELECT ts, 'BTC', 'bin-ohlcv', '1m',"
        " ts / 60000, ts / 60000 + 1, ts / 60000 - 1, ts / 60000, 1"
        " FROM generate_series(%s::bigint, %s::bigint, 60000) AS ts",  # also of minutes that come
        (now_minute - HOUR_MS, now_minute + HOUR_MS),
    )
    sql.execute(
        "INSERT INTO perp_coverage (source, symbol, wanted, covered, absent)"
        " SELECT 'bin-mark', symbol, wanted, covered, absent FROM perp_coverage WHERE source = 'bin-ohlcv'"
    )
    rules = tmp_path / "high.toml"
    rules.write_text(RULE)
    fademoe = [sys.executable, "-m", "fademoe"]
    subprocess.run([*fademoe, "alerts", "apply", rules], env={**os.environ, **environment}, check=True, timeout=120)
    worker = subprocess.Popen([*fademoe, "worker", "--research"], env={**os.environ, **environment})
    yield environment
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)


@pytest.fixture
def api(demo: dict[str, str]) -> Iterator[Api]:
    api = Api(demo)
    yield api
    api.close()


def list_calls(begin_ms: int) -> dict[str, dict[str, str]]:
    """Return the arguments with which each tool is called."""
    span = {"since": to_iso(begin_ms), "until": to_iso(begin_ms + 2 * DAY_MS)}
    half = {"since": to_iso(begin_ms), "until": to_iso(begin_ms + DAY_MS // 2)}
    bybit = {"source": "byb-ohlcv", "symbol": "BTC"}
    return {
        "list_series": bybit,
        "coverage": {**bybit, **span},
        "series": {**bybit, "step": "1h", **span},
        "compare": {"metric": "ohlcv", "symbol": "BTC", "column": "c", "step": "1h", **span},
        "stats": {**bybit, "column": "c", "step": "1h", **span},
        "funding_summary": {"symbol": "BTC", **span},
        "screen": {"expr": SCREENED, "codes": "bin", "symbols": "BTC"},
        "alert_replay": {"rule": "high", **span},
        "backtest": {"strategy": STRATEGY, "symbols": "BTC", "exchange": "binance", **half},
        "sql": {"statement": "SELECT c::text FROM perp_data WHERE source = 'byb-ohlcv' ORDER BY ts LIMIT 3"},
    }


def compare_with_api(answers: dict[str, Any], api: Api, begin_ms: int) -> None:
    """Compare the answers of all tools with those of the JSON API."""
    end_ms = begin_ms + 2 * DAY_MS
    page = {"symbol": "BTC", "from": begin_ms, "to": end_ms, "order": "asc", "limit": 1000}
    hours = api.get("/api/data/byb-ohlcv", **page, step="1h")["rows"]
    assert len(hours) == 46
    (stored,) = api.get("/api/coverage", source="byb-ohlcv", symbol="BTC")["series"]

    (listed,) = read_rows(answers["list_series"])
    assert listed["complete_percent"] == str(stored["percent"])
    assert listed["missing_minutes"] == str(stored["missing_ms"] // MINUTE_MS) == "60"

    states = {row["state"]: (row["since"], row["until"]) for row in read_rows(answers["coverage"])}
    assert states["absent"] == tuple(map(to_iso, stored["absent"][0]))
    assert states["missing"] == tuple(map(to_iso, stored["missing"][0]))

    for row, hour in zip(read_rows(answers["series"]), hours, strict=True):
        assert {name: row[name] for name in "ohlcv"} == {name: hour[name] for name in "ohlcv"}
        assert row["complete"] == str(hour["complete"]).lower()

    beside = api.get("/metric/ohlcv", **page, step="1h")["rows"]
    for row, other in zip(read_rows(answers["compare"]), beside, strict=True):
        for source, values in other["values"].items():
            assert row[f"{source} c"] == (values and values["c"])

    figures = {row["statistic"]: row["value"] for row in read_rows(answers["stats"])}
    closes = [Decimal(hour["c"]) for hour in hours]
    assert (figures["count"], Decimal(figures["highest"])) == (str(len(closes)), max(closes))
    assert Decimal(figures["sum"]) == sum(closes)

    paid = {row["source"]: row for row in read_rows(answers["funding_summary"])}
    for source in ("bin-fr", "byb-fr", "okx-fr"):
        rates = [Decimal(row["fr"]) for row in api.get(f"/api/data/{source}", **page)["rows"]]
        assert (paid[source]["settlements"], Decimal(paid[source]["sum"])) == (str(len(rates)), sum(rates))

    (screened,) = read_rows(answers["screen"])
    (other,) = api.get("/api/screen", expr=SCREENED, codes="bin", symbols="BTC")["rows"]
    close = int(parse_time(screened["minute"])) // MINUTE_MS  # of that minute, as `demo` made it
    assert abs(Decimal(screened["value"]) - Decimal(5) / (close - 5)) < Decimal("1e-20")
    assert abs(Decimal(other["value"]) - Decimal(screened["value"])) < Decimal("1e-9")

    shown = [row for row in list_preview(api) if begin_ms <= row["minute"] < end_ms]
    replayed = read_rows(answers["alert_replay"])
    assert "firing" in [row["state"] for row in replayed]
    assert [(row["end_of_minute"], row["state"], row["after_5m"]) for row in replayed] == [
        (to_iso(row["minute"] + MINUTE_MS), row["state"], row["after"]["5m"]) for row in shown
    ]
    assert [series["source"] for series in answers["alert_replay"]["coverage"]] == ["bin-ohlcv"]

    figures = {row["figure"]: row["value"] for row in read_rows(answers["backtest"])}
    run = api.get(f"/api/backtests/{figures['id']}")
    assert (figures["state"], run["state"]) == ("done", "done"), figures["message"]
    assert json.loads(figures["certificate"]) == run["certificate"]
    for name in ("equity", "trades", "fees", "max_drawdown"):
        assert figures[name] == str(run["report"][name])
    assert {series["source"] for series in answers["backtest"]["coverage"]} >= {"bin-ohlcv", "bin-mark", "bin-fr"}

    first = api.get("/api/data/byb-ohlcv", **{**page, "limit": 3})["rows"]
    assert answers["sql"]["rows"] == [[row["c"]] for row in first]


def read_rows(answer: Any) -> list[dict[str, Any]]:
    assert len(answer["units"]) == len(answer["columns"])
    assert not answer["truncated"]
    return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]


def list_preview(api: Api) -> list[dict[str, Any]]:
    """Return what the API says that the rule would have done."""
    rows, part = [], {}
    while True:
        found = api.get("/api/alerts/preview", expr="close > 90900", code="bin", symbol="BTC", days=7, **part)
        rows += found["transitions"]
        if found["next"] is None:
            return rows
        part = {"part": found["next"]}


@pytest.mark.full
def test_the_client_of_the_sdk_calls_every_tool_over_both_transports(
    demo: dict[str, str], address: str, api: Api, begin_ms: int
):
    calls = list_calls(begin_ms)

    async def ask(client: Client) -> dict[str, Any]:
        assert {tool.name for tool in (await client.list_tools()).tools} == set(calls)
        answers = {}
        for name, arguments in calls.items():
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            answers[name] = result.structured_content
        return answers

    async def run() -> list[dict[str, Any]]:
        parameters = StdioServerParameters(
            command=sys.executable, args=["-m", "fademoe", "mcp"], env={**os.environ, **demo}
        )
        async with Client(parameters) as client:
            found = [await ask(client)]
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=90) as http,
            Client(streamable_http_client(address, http_client=http)) as client,
        ):
            return [*found, await ask(client)]

    for answers in run_async(run):
        compare_with_api(answers, api, begin_ms)


@pytest.mark.full
@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_the_inspector_lists_and_calls_every_tool(
    transport: str, demo: dict[str, str], address: str, api: Api, begin_ms: int, tmp_path: Path
):
    """The command line of the official Inspector, which npx downloads, with the settings file of a desktop client."""
    http = {"type": "http", "url": address, "headers": {"Authorization": f"Bearer {TOKEN}"}}
    stdio = {"command": sys.executable, "args": ["-m", "fademoe", "mcp"], "env": demo}
    config = tmp_path / "servers.json"
    config.write_text(json.dumps({"mcpServers": {"fademoe": http if transport == "http" else stdio}}))
    inspector = ["npx", "-y", "@modelcontextprotocol/inspector@latest", "--cli", "--config", str(config)]

    def inspect(*arguments: str) -> Any:
        done = subprocess.run(
            [*inspector, "--server", "fademoe", "--method", *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    calls = list_calls(begin_ms)
    assert {tool["name"] for tool in inspect("tools/list")["tools"]} == set(calls)
    answers = {}
    for name, arguments in calls.items():
        pairs = [text for key, value in arguments.items() for text in ("--tool-arg", f"{key}={value}")]
        result = inspect("tools/call", "--tool-name", name, *pairs)
        assert not result.get("isError"), result
        answers[name] = result["structuredContent"]
    compare_with_api(answers, api, begin_ms)
