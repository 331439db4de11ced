"""A database with some days of three exchanges, and an MCP server over it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from psycopg2.extensions import cursor as Cursor

from fademoe.assistants import role
from fademoe.assistants.serve import make_server
from fademoe.clock import DAY_MS, HOUR_MS, Window
from fademoe.settings import Settings
from fademoe.store.connection import Database
from fademoe.store.partitions import Partitions
from tests.support.asynchronous import run_async
from tests.support.clocks import settled_end

DAYS = 2
Call = Callable[..., Any]


@pytest.fixture
def begin_ms() -> int:
    """The instant of the first row: three days before today."""
    return settled_end(DAY_MS) - 3 * DAY_MS


@pytest.fixture
def sql(database_url: str, begin_ms: int) -> Iterator[Cursor]:
    """A cursor of a database with candles (Bybit's with a hole of two hours) and funding of BTC."""
    database = Database(database_url)
    Partitions(database).ensure(Window(begin_ms, begin_ms + 4 * DAY_MS))
    database.close()
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    end_ms, hole_ms = begin_ms + DAYS * DAY_MS, begin_ms + 30 * HOUR_MS
    with connection.cursor() as cursor:
        for source, price in (("bin-ohlcv", 90_000), ("byb-ohlcv", 90_010), ("okx-ohlcv", 90_020)):
            cursor.execute(
                "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v)"
                " SELECT ts, 'BTC', %s, '1m', p, p + 5, p - 5, p + 1.5, 0.25"
                " FROM (SELECT ts, %s + (ts / 60000) %% 977 AS p"
                " FROM generate_series(%s::bigint, %s::bigint, 60000) AS ts) AS x"
                " WHERE NOT (%s AND ts BETWEEN %s AND %s)",
                (source, price, begin_ms, end_ms - 1, source == "byb-ohlcv", hole_ms, hole_ms + 2 * HOUR_MS - 1),
            )
            _cover(cursor, source, begin_ms, end_ms, hole_ms if source == "byb-ohlcv" else None)
        for source, rate in (("bin-fr", "0.0001"), ("byb-fr", "0.00035"), ("okx-fr", "-0.00002")):
            cursor.execute(
                "INSERT INTO perp_data (ts, symbol, source, interval, fr, fr_hours)"
                " SELECT ts, 'BTC', %s, 'settlement', %s, 8 FROM generate_series(%s::bigint, %s::bigint, %s) AS ts",
                (source, rate, begin_ms, end_ms - 1, 8 * HOUR_MS),
            )
            _cover(cursor, source, begin_ms, end_ms)
        yield cursor
    connection.close()


def _cover(cursor: Cursor, source: str, begin_ms: int, end_ms: int, hole_ms: int | None = None) -> None:
    absent = "{}" if hole_ms is None else f"{{[{hole_ms},{hole_ms + HOUR_MS})}}"
    covered = f"{{[{begin_ms},{end_ms})}}"
    if hole_ms is not None:  # its first hour is absent, its second one missing
        covered = f"{{[{begin_ms},{hole_ms + HOUR_MS}),[{hole_ms + 2 * HOUR_MS},{end_ms})}}"
        cursor.execute(
            "INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason)"
            " VALUES (%s, 'BTC', %s, %s, 'the exchange was halted')",
            (source, hole_ms, hole_ms + HOUR_MS),
        )
    cursor.execute(
        "INSERT INTO perp_coverage (source, symbol, wanted, covered, absent) VALUES (%s, 'BTC', %s, %s, %s)",
        (source, f"{{[{begin_ms},{end_ms})}}", covered, absent),
    )


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str, sql: Cursor) -> Settings:
    """Settings of a server that also answers SQL."""
    return Settings(home=tmp_path, database_url=database_url, redis_url=redis_url, mcp_sql=True)


@pytest.fixture
def address(settings: Settings) -> str:
    """The address of PostgreSQL under which the role of assistants logs in."""
    return role.prepare(settings)


@pytest.fixture
def server(settings: Settings, address: str) -> MCPServer[Any]:
    """The server, not connected to anything."""
    return make_server(settings, address)


@pytest.fixture
def call(server: MCPServer[Any]) -> Call:
    """Call a tool through the SDK's client; return its structured result, or the text of an error."""

    async def run(name: str, arguments: dict[str, Any]) -> Any:
        async with Client(server) as client:
            result = await client.call_tool(name, arguments)
            return result.content[0].text if result.is_error else result.structured_content

    return lambda name, **arguments: run_async(run, name, arguments)
