"""Coarser bars through the API: equal to an independent SQL over perp_data, complete only where they are."""

import csv
import io
from collections.abc import Sequence

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, floor_to, now_ms
from fademoe.metrics import STEPS_MS
from tests.support.web import DAY, day, minute, store_candles

pytestmark = pytest.mark.usefixtures("partitions")

STEP_QUERY = """
    SELECT ts / %(step)s * %(step)s, (array_agg(o ORDER BY ts))[1]::text, max(h)::text, min(l)::text,
           (array_agg(c ORDER BY ts DESC))[1]::text,
           CASE WHEN bool_or(v IS NULL) THEN NULL ELSE sum(v) END::text, sum(n)::bigint, count(*)
    FROM perp_data WHERE source = %(source)s AND symbol = 'BTC' GROUP BY 1 ORDER BY 1
"""


def get_rows(client: FlaskClient, path: str) -> list[dict]:
    """Return the rows of all pages."""
    rows, cursor = [], ""
    while cursor is not None:
        answer = client.get(f"{path}&cursor={cursor}")
        assert answer.status_code == 200, answer.data
        rows += answer.get_json()["rows"]
        cursor = answer.get_json()["next"]
    return rows


def answer(sql: Cursor, source: str, covered: list[tuple[int, int]], absent: Sequence[tuple[int, int]] = ()) -> None:
    """Enter ranges of minutes after DAY as covered, and as absent."""
    texts = ["{" + ",".join(f"[{minute(a)},{minute(b)})" for a, b in ranges) + "}" for ranges in (covered, absent)]
    sql.execute(
        "INSERT INTO perp_coverage (source, symbol, covered, absent) VALUES (%s, 'BTC', %s, %s)", (source, *texts)
    )


@pytest.fixture
def stored(sql: Cursor, partitions: None) -> None:
    """Three exchanges: one whole, one with holes that are absent, one that is not covered everywhere."""
    minutes = range(50, 3 * 1440 + 37)
    store_candles(sql, "BTC", minutes)
    store_candles(sql, "BTC", [m for m in minutes if m % 100 > 7 and not 1500 <= m < 1620], "byb-ohlcv")
    store_candles(sql, "BTC", range(30, 2000), "okx-ohlcv")
    answer(sql, "bin-ohlcv", [(50, 4357)])
    answer(sql, "byb-ohlcv", [(50, 4357)], [(1500, 1620)])
    answer(sql, "okx-ohlcv", [(30, 1440)])


@pytest.mark.parametrize("step", STEPS_MS)
@pytest.mark.parametrize("source", ["bin-ohlcv", "byb-ohlcv", "okx-ohlcv"])
@pytest.mark.usefixtures("stored")
def test_steps_equal_an_independent_aggregation(client: FlaskClient, sql: Cursor, source: str, step: str):
    sql.execute(STEP_QUERY, {"source": source, "step": STEPS_MS[step]})
    expected = sql.fetchall()
    for order, limit in (("asc", 7), ("desc", 1000)):
        rows = get_rows(client, f"/api/data/{source}?symbol=BTC&step={step}&order={order}&limit={limit}")
        shown = [(r["ts"], r["o"], r["h"], r["l"], r["c"], r["v"], r["n"], r["bars"]) for r in rows]
        assert sorted(shown) == expected
        assert [r["ts"] for r in rows] == sorted((r["ts"] for r in rows), reverse=order == "desc")
        assert {r["interval"] for r in rows} == {step}


@pytest.mark.usefixtures("stored")
def test_a_step_is_complete_when_all_of_it_is_covered_and_over(client: FlaskClient):
    def read(source: str) -> dict[int, tuple[int, int, int, bool]]:
        rows = get_rows(client, f"/api/data/{source}?symbol=BTC&step=1h&limit=10000")
        return {r["ts"]: (r["bars"], r["expected"], r["absent"], r["complete"]) for r in rows}

    whole = read("bin-ohlcv")
    assert whole[DAY] == (10, 60, 0, False)  # covered from its fiftieth minute on
    assert whole[minute(60)] == whole[day(3) - HOUR_MS] == (60, 60, 0, True)
    assert whole[day(3)] == (37, 60, 0, False)  # the edge of what is stored
    holes = read("byb-ohlcv")
    assert holes[minute(180)] == (52, 60, 0, True)
    assert minute(1500) not in holes and minute(1560) not in holes  # no row for a step without bars
    uncovered = read("okx-ohlcv")
    assert uncovered[DAY] == (30, 60, 0, False)
    assert uncovered[minute(1380)][3] and not uncovered[minute(1440)][3]


def test_absent_points_are_counted_and_a_step_with_them_is_complete(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", [m for m in range(120) if not 20 <= m < 40])
    answer(sql, "bin-ohlcv", [(0, 60)], [(20, 40)])
    (row,) = get_rows(client, f"/api/data/bin-ohlcv?symbol=BTC&step=1h&to={DAY + 1}")
    assert (row["bars"], row["expected"], row["absent"], row["complete"]) == (40, 60, 20, True)


def test_a_range_selects_steps_by_their_begin_and_never_cuts_one(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(240))
    rows = get_rows(client, f"/api/data/bin-ohlcv?symbol=BTC&step=1h&from={minute(1)}&to={minute(121)}&order=asc")
    assert [(r["ts"], r["bars"], r["o"]) for r in rows] == [(minute(60), 60, "60"), (minute(120), 60, "120")]


def test_the_running_hour_is_not_complete(client: FlaskClient, sql: Cursor):
    hour = floor_to(now_ms(), HOUR_MS)
    sql.execute(f"CREATE TABLE perp_now PARTITION OF perp_data FOR VALUES FROM ({hour - DAY_MS}) TO ({hour + DAY_MS})")
    sql.execute(
        "INSERT INTO perp_data (ts, symbol, source, interval, c) SELECT t, 'BTC', 'bin-ohlcv', '1m', 1"
        " FROM generate_series(%s::bigint, %s::bigint, 60000) AS t",
        (hour - HOUR_MS, hour),
    )
    sql.execute(
        "INSERT INTO perp_coverage (source, symbol, covered)"
        " VALUES ('bin-ohlcv', 'BTC', int8multirange(int8range(%s, %s)))",
        (hour - HOUR_MS, hour + 2 * HOUR_MS),  # as of a contract that is delisted: nothing will come any more
    )
    running, over = get_rows(client, "/api/data/bin-ohlcv?symbol=BTC&step=1h")
    assert (running["ts"], running["complete"]) == (hour, now_ms() >= hour + HOUR_MS)
    assert (over["bars"], over["complete"]) == (60, True)


def test_a_sum_with_a_null_is_null_and_never_the_sum_of_the_rest(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(60))
    (row,) = get_rows(client, "/api/data/bin-ohlcv?symbol=BTC&step=1h")
    assert (row["v"], row["n"], row["qv"]) == (None, sum(range(60)), None)


def test_samples_are_the_last_row_on_their_grid_and_settlements_add_up(client: FlaskClient, sql: Cursor):
    values = [(0, "5m", 10), (1, "1m", 11), (55, "5m", 20), (57, "1m", 21), (60, "5m", 30), (62, "1m", 31)]
    for at, interval, oi in values:
        sql.execute(
            "INSERT INTO perp_data (ts, symbol, source, interval, oi) VALUES (%s, 'BTC', 'byb-oi', %s, %s)",
            (minute(at), interval, oi),
        )
    rows = get_rows(client, "/api/data/byb-oi?symbol=BTC&step=1h&order=asc")
    assert [(r["oi"], r["bars"], r["expected"]) for r in rows] == [("20", 2, 12), ("30", 1, 12)]
    assert [r["oi"] for r in get_rows(client, "/api/data/byb-oi?symbol=BTC&step=5m&order=asc")] == ["10", "20", "30"]
    for at, rate in ((0, "0.0001"), (480, "-0.00025"), (960, "0.00030")):
        sql.execute(
            "INSERT INTO perp_data (ts, symbol, source, interval, fr, fr_hours)"
            " VALUES (%s, 'BTC', 'bin-fr', 'settlement', %s, 8)",
            (minute(at), rate),
        )
    (of_day,) = get_rows(client, "/api/data/bin-fr?symbol=BTC&step=1d")
    assert (of_day["fr"], of_day["fr_hours"], of_day["bars"], of_day["expected"]) == ("0.00015", 8, 3, None)


@pytest.mark.parametrize("limit", [1, 3, 50])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_many_symbols_hold_every_step_once(client: FlaskClient, sql: Cursor, order: str, limit: int):
    shapes = {"AAA": range(0, 600, 130), "BTC": range(240), "ONE": range(2000, 2001), "ZZZ": range(500, 700)}
    for symbol, minutes in shapes.items():
        store_candles(sql, symbol, minutes)
    expected = {(minute(at // 60 * 60), symbol) for symbol, minutes in shapes.items() for at in minutes}
    rows = get_rows(client, f"/api/data/bin-ohlcv?step=1h&order={order}&limit={limit}")
    keys = [(r["ts"], r["symbol"]) for r in rows]
    assert keys == sorted(expected, key=lambda key: (key[0] if order == "asc" else -key[0], key[1]))


def test_a_metric_shows_the_steps_of_all_exchanges_side_by_side(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(120))
    store_candles(sql, "BTC", range(60, 240), "okx-ohlcv")
    rows = get_rows(client, "/metric/ohlcv?symbol=BTC&step=1h&columns=c&order=asc&limit=3")
    assert [row["ts"] for row in rows] == [minute(60 * at) for at in range(4)]
    closes = [{name: each and (each["c"], each["bars"]) for name, each in row["values"].items()} for row in rows]
    assert [each["bin-ohlcv"] for each in closes] == [("59", 60), ("119", 60), None, None]
    assert [each["okx-ohlcv"] for each in closes] == [None, ("119", 60), ("179", 60), ("239", 60)]


def test_formats_and_pages_have_the_completeness(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(60))
    answer(sql, "bin-ohlcv", [(0, 60)])
    text = client.get("/api/data/bin-ohlcv?symbol=BTC&step=1h&columns=c&format=csv").text
    assert list(csv.reader(io.StringIO(text))) == [
        ["ts", "symbol", "source", "interval", "c", "bars", "expected", "absent", "complete"],
        [str(DAY), "BTC", "bin-ohlcv", "1h", "59", "60", "60", "0", "true"],
    ]
    page = client.get("/data?perpspec=bin-ohlcv&symbol=BTC&step=1h").text
    assert "60 / 60" in page and "Complete" in page
    assert client.get("/data?perpspec=bin-ohlcv&step=").status_code == 200


def test_an_unknown_step_and_a_cursor_of_another_step_are_refused(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(200))
    answer = client.get("/api/data/bin-ohlcv?step=7m")
    assert answer.status_code == 400 and answer.get_json()["allowed"] == list(STEPS_MS)
    cursor = client.get("/api/data/bin-ohlcv?step=1h&limit=1").get_json()["next"]
    assert client.get(f"/api/data/bin-ohlcv?step=5m&cursor={cursor}").status_code == 400
    assert MINUTE_MS not in STEPS_MS.values()
