"""Twenty questions of a person, each by a fixed plan of tool calls: right, with units and coverage."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, HOUR_MS, to_iso
from tests.assistants.conftest import Call
from tests.support.asynchronous import run_async

Plan = Callable[["Asker"], object]


class Asker:
    """Asks the tools about the range of the stored data."""

    def __init__(self, call: Call, begin_ms: int) -> None:
        self._call = call
        self.begin_ms = begin_ms

    def ask(self, tool: str, first_hour: int = 0, hours: int = 48, **arguments: Any) -> Any:
        begin = self.begin_ms + first_hour * HOUR_MS
        span = {"since": to_iso(begin), "until": to_iso(begin + hours * HOUR_MS)}
        return self._call(tool, **arguments, **span)

    def stat(self, source: str, name: str, column: str = "c", **span: int) -> str:
        result = self.ask("stats", source=source, symbol="BTC", column=column, **span)
        return next(row[1] for row in result["rows"] if row[0] == name)

    def funding(self, column: str) -> dict[str, str]:
        result = self.ask("funding_summary", symbol="BTC")
        place = result["columns"].index(column)
        return {row[0]: row[place] for row in result["rows"] if row[1] != "0"}

    def coverage(self, source: str, **span: int) -> Any:
        return self.ask("coverage", source=source, symbol="BTC", **span)["coverage"][0]

    def list_holes(self, source: str) -> list[int]:
        result = self.ask("compare", metric="ohlcv", symbol="BTC", step="1h", column="c")
        place = result["columns"].index(f"{source} c")
        return [hour for hour, row in enumerate(result["rows"]) if row[place] is None]


def best(values: dict[str, str]) -> str:
    return max(values, key=lambda name: Decimal(values[name]))


QUESTIONS: tuple[tuple[str, Plan, object], ...] = (
    ("Which exchange paid the highest funding?", lambda a: best(a.funding("per_hour")), "byb-fr"),
    ("Which paid the lowest?", lambda a: min(a.funding("sum").items(), key=lambda i: Decimal(i[1]))[0], "okx-fr"),
    ("Did any exchange pay shorts?", lambda a: [k for k, v in a.funding("sum").items() if Decimal(v) < 0], ["okx-fr"]),
    ("What is Bybit's funding a year?", lambda a: Decimal(a.funding("annualised")["byb-fr"]), Decimal("0.38325")),
    ("How often did Binance settle?", lambda a: a.funding("settlements")["bin-fr"], "6"),
    ("How many hours is that?", lambda a: a.funding("hours")["bin-fr"], "48"),
    ("Were all of their data complete?", lambda a: a.coverage("byb-fr")["is_complete"], True),
    ("Are Bybit's candles complete?", lambda a: a.coverage("byb-ohlcv")["is_complete"], False),
    ("How much of them is missing?", lambda a: a.coverage("byb-ohlcv")["missing_ms"] // HOUR_MS, 1),
    ("And absent for a reason?", lambda a: a.coverage("byb-ohlcv")["gaps"][0]["reason"], "the exchange was halted"),
    ("Is the first day whole?", lambda a: a.coverage("byb-ohlcv", hours=24)["is_complete"], True),
    ("Was the day before asked for?", lambda a: a.coverage("bin-ohlcv", first_hour=-24)["not_requested_ms"], DAY_MS),
    ("How many candles has Binance?", lambda a: a.stat("bin-ohlcv", "count"), "2880"),
    ("How many has Bybit?", lambda a: a.stat("byb-ohlcv", "count"), "2760"),
    ("What volume traded in the first hour?", lambda a: a.stat("okx-ohlcv", "sum", "v", hours=1), "15"),
    ("In which unit?", lambda a: a.ask("stats", source="okx-ohlcv", symbol="BTC", column="v")["units"][1], "coins"),
    (
        "How far apart are the closes of OKX and Binance?",
        lambda a: Decimal(a.stat("okx-ohlcv", "mean")) - Decimal(a.stat("bin-ohlcv", "mean")),
        Decimal(20),
    ),
    ("In which hours has Bybit no candle?", lambda a: a.list_holes("byb-ohlcv"), [30, 31]),
    (
        "Is each daily bar of Binance whole?",
        lambda a: {row[-1] for row in a.ask("series", source="bin-ohlcv", symbol="BTC", step="1d")["rows"]},
        {"true"},
    ),
    (
        "Is each of Bybit's?",
        lambda a: [row[-1] for row in a.ask("series", source="byb-ohlcv", symbol="BTC", step="1d")["rows"]],
        ["true", "false"],
    ),
)


@pytest.fixture
def asker(call: Call, begin_ms: int) -> Asker:
    return Asker(call, begin_ms)


def test_twenty_questions_are_answered_right(asker: Asker):
    assert len(QUESTIONS) == 20
    wrong = [(text, found, right) for text, plan, right in QUESTIONS if (found := plan(asker)) != right]
    assert wrong == []


@pytest.mark.full
def test_a_thousand_rows_are_answered_in_a_fifth_of_a_second(server: MCPServer[Any], sql: Cursor, begin_ms: int):
    """The 95th percentile of 40 answers; a figure for a quiet machine."""
    sql.execute("ANALYZE perp_data")

    async def measure() -> list[float]:
        took = []
        span = {"since": to_iso(begin_ms), "until": to_iso(begin_ms + 1_000 * 60_000)}
        async with Client(server) as client:
            for _ in range(40):
                begin = time.perf_counter()
                result = await client.call_tool(
                    "series", {"source": "bin-ohlcv", "symbol": "BTC", "limit": 1_000, **span}
                )
                took.append(time.perf_counter() - begin)
                assert len(result.structured_content["rows"]) == 1_000
        return sorted(took)

    took = run_async(measure)
    assert took[37] <= 0.2, f"p50 {took[20] * 1000:.0f} ms, p95 {took[37] * 1000:.0f} ms"
