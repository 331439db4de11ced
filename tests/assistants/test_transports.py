"""The server as clients meet it: over stdio and over HTTP, as a process of its own, with the SDK's client."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, to_iso
from tests.support.asynchronous import run_async

TOKEN = "the-token-of-assistants"
ARGUMENTS = {"source": "bin-ohlcv", "symbol": "BTC", "step": "1d"}
TOOLS = {"list_series", "coverage", "series", "compare", "stats", "funding_summary"}


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
            httpx2.get(address, timeout=5)
            break
        except httpx2.TransportError:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
    yield address
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in (0, -signal.SIGTERM)


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


def test_over_http_with_the_token_alone(address: str, begin_ms: int):
    async def run() -> tuple[set[str], Any]:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
            Client(streamable_http_client(address, http_client=http)) as client,
        ):
            return await ask(client, begin_ms)

    check(*run_async(run))
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        assert httpx2.post(address, json=message, headers=headers).status_code == 401
    strange = {"Authorization": f"Bearer {TOKEN}", "Host": "evil.example", "Accept": "application/json"}
    assert httpx2.post(address, json=message, headers=strange).status_code in (403, 421)


@pytest.mark.full
def test_the_inspector_lists_and_calls(address: str, begin_ms: int):
    """The command line of the official Inspector, which npx downloads."""
    inspector = ["npx", "-y", "@modelcontextprotocol/inspector@latest", "--cli", address, "--transport", "http"]
    inspector += ["--header", f"Authorization: Bearer {TOKEN}"]
    listed = subprocess.run(
        [*inspector, "--method", "tools/list"], capture_output=True, text=True, timeout=300, check=True
    )
    assert all(f'"{name}"' in listed.stdout for name in TOOLS)
    span = [f"since={to_iso(begin_ms)}", f"until={to_iso(begin_ms + 2 * DAY_MS)}"]
    arguments = [text for pair in (*(f"{k}={v}" for k, v in ARGUMENTS.items()), *span) for text in ("--tool-arg", pair)]
    called = subprocess.run(
        [*inspector, "--method", "tools/call", "--tool-name", "series", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert '"is_complete": true' in called.stdout
