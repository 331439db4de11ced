"""What the tools answer: the same values as the JSON API, with units and coverage, within their bounds."""

import json
from decimal import Decimal
from typing import Any

import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from fademoe.assistants import tools
from fademoe.assistants.answer import MAX_BYTES
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, to_iso
from fademoe.queue.enqueue import enqueue_backtest
from fademoe.queue.ids import RESEARCH
from fademoe.runtime.job_context import use_services
from fademoe.runtime.services import Services
from fademoe.settings import Settings
from fademoe.signals import StopSignal
from fademoe.web.app import create_app
from fademoe.web.current import NAME
from fademoe.web.model.rows import read_page
from tests.assistants.conftest import DAYS, Call
from tests.support.asynchronous import run_async
from tests.support.markets import START, draw_market, store_market


def range_of(begin_ms: int, hours: int = DAYS * 24) -> dict[str, str]:
    return {"since": to_iso(begin_ms), "until": to_iso(begin_ms + hours * HOUR_MS)}


@pytest.mark.parametrize("step", ["1m", "1h", "1d"])
def test_rows_equal_those_of_the_json_api(call: Call, settings: Settings, begin_ms: int, step: str):
    app = create_app(settings)
    query = {"symbol": "BTC", "from": begin_ms, "to": begin_ms + DAYS * DAY_MS, "order": "asc", "limit": 1000}
    answer = app.test_client().get("/api/data/byb-ohlcv", query_string=query | ({} if step == "1m" else {"step": step}))
    app.extensions[NAME].reader.close()
    app.extensions[NAME].redis.close()
    expected = answer.get_json()["rows"]
    result = call("series", source="byb-ohlcv", symbol="BTC", step=step, limit=1000, **range_of(begin_ms))
    assert len(expected) > (1 if step == "1d" else 40)
    columns = result["columns"]
    found = [dict(zip(columns, row, strict=True)) for row in result["rows"]]
    assert [row["ts"] for row in found] == [str(row["ts"]) for row in expected]
    for mine, other in zip(found, expected, strict=True):
        for name in columns:
            if name not in ("ts", "time"):
                value = other[name]
                text = str(value).lower() if isinstance(value, bool) else value if value is None else str(value)
                assert mine[name] == text
    assert result["units"][columns.index("v")] == "coins"


def test_every_answer_says_what_is_absent_missing_and_never_requested(call: Call, begin_ms: int):
    result = call("coverage", source="byb-ohlcv", symbol="BTC", **range_of(begin_ms - HOUR_MS, DAYS * 24 + 1))
    (coverage,) = result["coverage"]
    assert not coverage["is_complete"]
    assert coverage["absent_ms"] == coverage["missing_ms"] == coverage["not_requested_ms"] == HOUR_MS
    hole = begin_ms + 30 * HOUR_MS
    assert result["rows"] == [
        [to_iso(begin_ms - HOUR_MS), to_iso(begin_ms), "not requested", ""],
        [to_iso(hole), to_iso(hole + HOUR_MS), "absent", "the exchange was halted"],
        [to_iso(hole + HOUR_MS), to_iso(hole + 2 * HOUR_MS), "missing", ""],
    ]
    whole = call("series", source="bin-ohlcv", symbol="BTC", step="1d", **range_of(begin_ms))["coverage"][0]
    assert whole["is_complete"]
    assert whole["gaps"] == []


def test_a_series_is_covered_beyond_its_newest_row(call: Call, begin_ms: int):
    """Settlements come every eight hours: the end of what is covered is no row, and is not called one."""
    listed = call("list_series", source="bin-fr")
    (row,) = listed["rows"]
    found = dict(zip(listed["columns"], row, strict=True))
    assert found["covered_until"] == to_iso(begin_ms + DAYS * DAY_MS)
    newest = call("stats", source="bin-fr", symbol="BTC", column="fr", **range_of(begin_ms))["rows"][2]
    assert newest[0] == "last"
    assert newest[2] < found["covered_until"]
    assert "newest" not in listed["columns"]


def test_what_is_stored_while_a_question_is_answered_is_not_in_its_coverage(
    call: Call, sql: Any, begin_ms: int, monkeypatch: pytest.MonkeyPatch
):
    """Rows of a missing hour and their coverage are committed right after the rows were read."""
    missing = begin_ms + 31 * HOUR_MS

    def read_and_store(*arguments: Any) -> Any:
        page = read_page(*arguments)
        sql.execute(
            "INSERT INTO perp_data (ts, symbol, source, interval, c) SELECT ts, 'BTC', 'byb-ohlcv', '1m', 7"
            " FROM generate_series(%s::bigint, %s::bigint, 60000) AS ts",
            (missing, missing + HOUR_MS - 1),
        )
        sql.execute(
            "UPDATE perp_coverage SET covered = covered + int8multirange(int8range(%s, %s)) WHERE source = 'byb-ohlcv'",
            (missing, missing + HOUR_MS),
        )
        return page

    monkeypatch.setattr(tools, "read_page", read_and_store)
    result = call("series", source="byb-ohlcv", symbol="BTC", **range_of(missing, 1))
    (coverage,) = result["coverage"]
    assert (len(result["rows"]), coverage["is_complete"], coverage["missing_ms"]) == (0, False, HOUR_MS)


def test_coverage_names_every_gap_or_says_that_more_follow(call: Call, sql: Any, begin_ms: int):
    """A contract that trades every other minute: more absences than an answer holds, and a missing hour behind them."""
    hole = begin_ms + 30 * HOUR_MS
    holes = range(begin_ms, hole, 60_000)
    sql.execute(
        "INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason)"
        " SELECT 'byb-ohlcv', 'BTC', ts, ts + 30000, 'the exchange has no row'"
        " FROM generate_series(%s::bigint, %s::bigint, 60000) AS ts",
        (begin_ms, hole - 1),
    )
    sql.execute(
        "UPDATE perp_coverage SET absent = absent + (SELECT range_agg(int8range(start_ms, end_ms)) FROM perp_absence)"
        " WHERE source = 'byb-ohlcv'"
    )
    told: list[list[str | None]] = []
    since, until = to_iso(begin_ms), to_iso(begin_ms + DAYS * DAY_MS)
    for _ in range(5):
        result = call("coverage", source="byb-ohlcv", symbol="BTC", since=since, until=until)
        told += result["rows"]
        if not result["truncated"]:
            break
        since = result["rows"][-1][1]
    assert len(told) == len(holes) + 2 > len(result["rows"]) + 100
    assert told[-1] == [to_iso(hole + HOUR_MS), to_iso(hole + 2 * HOUR_MS), "missing", ""]


def test_exchanges_stand_side_by_side_with_nulls_where_one_has_no_row(call: Call, begin_ms: int):
    result = call("compare", metric="ohlcv", symbol="BTC", column="c", step="1h", **range_of(begin_ms))
    place = result["columns"].index("byb-ohlcv c")
    assert result["units"][place] == "quote per coin"
    hours = [row[place] is None for row in result["rows"]]
    assert len(hours) == DAYS * 24
    assert [index for index, is_null in enumerate(hours) if is_null] == [30, 31]
    assert len(result["coverage"]) == sum(name.endswith(" c") for name in result["columns"])


def test_statistics_and_funding(call: Call, sql: Any, begin_ms: int):
    result = call("stats", source="byb-ohlcv", symbol="BTC", column="c", **range_of(begin_ms))
    found = {row[0]: row[1] for row in result["rows"]}
    sql.execute("SELECT count(c), min(c), max(c), sum(c), stddev_pop(c) FROM perp_data WHERE source = 'byb-ohlcv'")
    count, lowest, highest, total, deviation = sql.fetchone()
    assert found["count"] == str(count)
    assert (Decimal(found["lowest"]), Decimal(found["highest"]), Decimal(found["sum"])) == (lowest, highest, total)
    assert abs(Decimal(found["standard deviation"]) - deviation) < Decimal("1e-9")
    funding = call("funding_summary", symbol="BTC", **range_of(begin_ms))
    lines = {row[0]: dict(zip(funding["columns"], row, strict=True)) for row in funding["rows"]}
    assert lines["byb-fr"]["settlements"] == "6"
    assert Decimal(lines["byb-fr"]["sum"]) == 6 * Decimal("0.00035")
    assert Decimal(lines["byb-fr"]["annualised"]) == Decimal("0.00035") / 8 * 8760
    assert max(lines, key=lambda source: Decimal(lines[source]["per_hour"] or "-1")) == "byb-fr"
    assert all(series["is_complete"] for series in funding["coverage"] if series["source"][:3] in ("bin", "byb", "okx"))


def test_statistics_leave_out_steps_that_are_not_whole(call: Call, begin_ms: int):
    """An hour of the second day is missing: its volume is not the lowest of a day."""
    asked = {"source": "byb-ohlcv", "symbol": "BTC", "column": "v", **range_of(begin_ms)}
    days = {name: value for name, value, _ in call("stats", step="1d", **asked)["rows"]}
    assert (days["count"], days["lowest"], days["incomplete"]) == ("1", "360", "1")
    minutes = {name: value for name, value, _ in call("stats", **asked)["rows"]}
    assert minutes["count"] == str(DAYS * 1440 - 120)
    assert "incomplete" not in minutes


def test_funding_is_summed_over_all_settlements(call: Call, sql: Any, begin_ms: int):
    sql.execute(
        "INSERT INTO perp_data (ts, symbol, source, interval, fr, fr_hours)"
        " SELECT %s + i * 10000, 'BTC', 'byb-fr', 'settlement', 0.0001, 1 FROM generate_series(1, 12000) AS i"
        " ON CONFLICT DO NOTHING",
        (begin_ms,),
    )
    sql.execute("SELECT count(*), sum(fr), max(ts) FROM perp_data WHERE source = 'byb-fr'")
    count, total, last = sql.fetchone()
    assert count > 12_000
    funding = call("funding_summary", symbol="BTC", **range_of(begin_ms))
    (line,) = [dict(zip(funding["columns"], row, strict=True)) for row in funding["rows"] if row[0] == "byb-fr"]
    assert (line["settlements"], Decimal(line["sum"]), line["last_time"]) == (str(count), total, to_iso(last))


@pytest.mark.parametrize("unknown", [0, 3, 6])
def test_funding_of_an_unknown_interval_counts_in_the_sum_alone(call: Call, sql: Any, begin_ms: int, unknown: int):
    sql.execute(
        "UPDATE perp_data SET fr_hours = CASE WHEN ts >= (SELECT ts FROM perp_data WHERE source = 'byb-fr' ORDER BY ts"
        " OFFSET %s LIMIT 1) THEN 4 END WHERE source = 'byb-fr'",
        (unknown,),
    )
    funding = call("funding_summary", symbol="BTC", **range_of(begin_ms))
    (line,) = [dict(zip(funding["columns"], row, strict=True)) for row in funding["rows"] if row[0] == "byb-fr"]
    assert (line["settlements"], Decimal(line["sum"])) == ("6", 6 * Decimal("0.00035"))
    if unknown == 6:
        assert (line["hours"], line["per_hour"], line["annualised"]) == (None, None, None)
    else:
        assert line["hours"] == str(4 * (6 - unknown))
        assert Decimal(line["per_hour"]) == Decimal("0.00035") / 4


def test_an_answer_stays_within_its_bound_and_says_so(server: MCPServer[Any], begin_ms: int):
    async def ask() -> Any:
        async with Client(server) as client:
            return await client.call_tool(
                "series", {"source": "bin-ohlcv", "symbol": "BTC", "limit": 5000, **range_of(begin_ms)}
            )

    result = run_async(ask)
    sent = result.model_dump_json(by_alias=True, exclude_none=True)
    assert len(sent.encode()) <= MAX_BYTES
    assert result.structured_content["truncated"]
    assert len(result.structured_content["rows"]) > 1_000
    assert "# truncated" in result.content[0].text


@pytest.mark.parametrize(
    ("tool", "wrong", "named"),
    [
        ("series", {"source": "bin-nothing"}, "bin-ohlcv"),
        ("series", {"step": "2h"}, "1m, 5m"),
        ("series", {"columns": "c,close"}, "valid are o, h, l, c"),
        ("series", {"since": "yesterday"}, "yesterday"),
        ("series", {"until": "2020-01-01T00:00:00Z"}, "before"),
        ("series", {"limit": 5001}, "5000"),
        ("series", {"symbol": "BTCUSDT"}, "valid are BTC"),
        ("series", {"as": "csv"}, "arguments of series are source, symbol, since, until"),
        ("stats", {"column": "close"}, "valid are o, h, l, c"),
        ("alert_replay", {"source": "x"}, "arguments of alert_replay are rule"),
    ],
)
def test_a_wrong_argument_is_named_with_the_valid_ones(
    call: Call, begin_ms: int, tool: str, wrong: dict[str, Any], named: str
):
    arguments = {"source": "bin-ohlcv", "symbol": "BTC", **range_of(begin_ms), **wrong}
    assert named in call(tool, **arguments)


def test_resources_and_prompts(server: MCPServer[Any]):
    async def read() -> dict[str, str]:
        async with Client(server) as client:
            assert {prompt.name for prompt in (await client.list_prompts()).prompts} == {
                "funding_review",
                "data_quality_review",
                "explain_alert",
                "design_backtest",
            }
            texts = {}
            for uri in ("schema/perp_data", "metrics", "symbols", "semantics"):
                result = await client.read_resource(f"fademoe://{uri}")
                texts[uri] = result.contents[0].text
            return texts

    texts = run_async(read)
    assert {"ts", "symbol", "c", "fr"} <= {
        column["name"] for column in json.loads(texts["schema/perp_data"])["columns"]
    }
    assert "ohlcv" in [metric["metric"] for metric in json.loads(texts["metrics"])]
    assert json.loads(texts["symbols"])["bin-ohlcv"] == ["BTC"]
    assert texts["semantics"].startswith("# What the data mean")


def test_a_screen_gives_a_value_or_unknown_and_names_a_mistake(call: Call, sql: Any):
    sql.execute(
        "INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms)"
        " VALUES ('binance', 'bin', 'BTCUSDT', 'BTC', 1)"
    )
    result = call("screen", expr="chg(close, 5m)", codes="bin", symbols="BTC")
    assert [row[1:] for row in result["rows"]] == [["bin", "BTC", None]]  # its newest row is days old
    assert "chh" in call("screen", expr="chh(close, 5m)")
    assert "no code 'nope'" in call("screen", expr="c", codes="nope")


def test_a_replay_names_the_rules_in_force(call: Call, begin_ms: int):
    assert "no rule 'nothing'" in call("alert_replay", rule="nothing", **range_of(begin_ms))
    assert "7 days" in call("alert_replay", rule="nothing", **range_of(begin_ms - 30 * DAY_MS, 20 * 24))


def test_a_backtest_is_queued_and_a_wrong_one_refused(call: Call, begin_ms: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fademoe.assistants.backtests.WAIT_S", 0.0)
    asked = {"symbols": "BTC", "exchange": "binance", **range_of(begin_ms)}
    rules = 'long = "c > sma(c, 20m)"\nsize = 0.5\n'
    result = call("backtest", strategy=rules, **asked)
    assert ["state", "queued", None] in result["rows"]
    assert "nowhere" in call("backtest", strategy=rules, **{**asked, "exchange": "nowhere"})
    assert "assistant.toml" in call("backtest", strategy="long = " + "[" * 5000, **asked)


def test_orders_that_were_refused_are_told(address: str, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """Without them a strategy that asked for too much looks like one that never trades."""
    window = Window(START, START + 120 * MINUTE_MS)
    store_market(str(settings.database_url), draw_market(["A"], 120), window, {("bin", "A"): None})

    def enqueue_and_work(connection: Redis, run_id: str, title: str) -> None:
        enqueue_backtest(connection, run_id, title)
        services = Services(settings, StopSignal())
        use_services(services)
        queue = Queue(RESEARCH, connection=connection, serializer=JSONSerializer)
        SimpleWorker([queue], connection=connection, serializer=JSONSerializer).work(
            burst=True, logging_level="CRITICAL"
        )
        services.close()

    monkeypatch.setattr("fademoe.assistants.backtests.enqueue_backtest", enqueue_and_work)
    asked = {"symbols": "A", "exchange": "binance", "since": to_iso(window.start_ms), "until": to_iso(window.end_ms)}
    result = tools.Toolbox(address, settings).backtest('long = "c > 0"\nsize = 1000\n', **asked)
    figures = {name: (value, unit) for name, value, unit in result.structured_content["rows"]}
    assert figures["state"][0] == "done", figures["message"]
    assert figures["trades"][0] == "0"
    assert int(figures["ledger_rejection"][0]) > 100
    assert figures["ledger_rejection"][1] == "rows"
