"""Derived metrics through the API: each equals an independent SQL over perp_data, and its coverage is its inputs'."""

from decimal import Decimal

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import MINUTE_MS
from fademoe.metrics import STEPS_MS
from tests.support.web import DAY, cover, minute, store_candles
from tests.web.test_steps import answer, get_rows

pytestmark = pytest.mark.usefixtures("partitions")


def store(sql: Cursor, source: str, columns: str, rows: list[tuple], symbol: str = "BTC", interval: str = "1m") -> None:
    """Store rows (minute after DAY, values of `columns`…)."""
    places = ", ".join(["%s"] * (len(rows[0]) - 1))
    for at, *values in rows:
        sql.execute(
            f"INSERT INTO perp_data (ts, symbol, source, interval, {columns}) VALUES (%s, %s, %s, %s, {places})",
            (minute(at), symbol, source, interval, *values),
        )


def list_coin(sql: Cursor, code: str, listed_ms: int | None, delisted_ms: int | None = None) -> None:
    """Enter a contract of BTC."""
    sql.execute(
        "INSERT INTO perp_metadata (exchange, code, instrument, symbol, listed_ms, delisted_ms)"
        " VALUES (%s, %s, 'BTCUSDT', 'BTC', %s, %s)",
        (code, code, listed_ms, delisted_ms),
    )


def test_rows_of_one_exchange(client: FlaskClient, sql: Cursor):
    store(sql, "bin-ohlcv", "v, qv, tbv", [(0, 3, "100.5", 1), (1, 0, 0, 0), (2, 7, None, None)])
    sql.execute("SELECT (100.5 / 3::numeric)::text")
    rows = get_rows(client, "/api/data/bin-vwap?symbol=BTC&order=asc")
    assert [row["vwap"] for row in rows] == [sql.fetchone()[0], None, None]
    assert {row["source"] for row in rows} == {"bin-vwap"}
    rows = get_rows(client, "/api/data/bin-cvd?symbol=BTC&order=asc")
    assert [row["cvd"] for row in rows] == ["-1", "0", None]
    names = [spec["perpspec"] for spec in client.get("/api/perpspecs").get_json()["perpspecs"]]
    assert "bin-cvd" in names and "byb-vwap" in names and "c-bin-vwap" not in names
    assert "byb-cvd" not in names and "okx-cvd" not in names  # they send no taker volume


def test_steps_of_ratios_are_of_the_sums_and_not_of_the_ratios(client: FlaskClient, sql: Cursor):
    store(sql, "bin-ohlcv", "v, qv, tbv", [(at, at + 1, (at + 1) * (at + 2), 1) for at in range(60)])
    sql.execute("SELECT (sum(qv) / sum(v))::text, sum(2 * tbv - v)::text FROM perp_data")
    vwap, cvd = sql.fetchone()
    (row,) = get_rows(client, "/api/data/bin-vwap?symbol=BTC&step=1h")
    assert (row["vwap"], row["bars"], row["expected"]) == (vwap, 60, 60)
    assert get_rows(client, "/api/data/bin-cvd?symbol=BTC&step=1h")[0]["cvd"] == cvd


def test_funding_of_a_year_takes_the_distance_where_the_interval_is_not_sent(client: FlaskClient, sql: Cursor):
    store(sql, "bin-fr", "fr, fr_hours", [(0, "0.0001", 8), (480, "0.0002", None), (1440, "0.0003", None)])
    rows = get_rows(client, "/api/data/bin-fr_apr?symbol=BTC&order=asc")
    assert [row["fr_apr"] and Decimal(row["fr_apr"]) for row in rows] == [Decimal("0.1095"), Decimal("0.219"), None]
    assert [row["fr_hours"] for row in rows] == [8, None, None]


def test_change_of_open_interest_needs_the_mark_before(client: FlaskClient, sql: Cursor):
    store(sql, "byb-oi", "oi", [(0, 10), (5, "12.5"), (15, 11), (20, 9)], interval="5m")
    answer(sql, "byb-oi", [(0, 25)], [(10, 15)])
    sql.execute("UPDATE perp_coverage SET wanted = covered")
    rows = get_rows(client, "/api/data/byb-oi_chg?symbol=BTC&order=asc")
    assert [(row["ts"], row["oi_chg"]) for row in rows] == [(minute(5), "2.5"), (minute(20), "-2")]
    (series,) = client.get("/api/coverage?source=byb-oi_chg").get_json()["series"]
    assert [series["covered"], series["absent"]] == [[[minute(5), minute(25)]], [[minute(10), minute(20)]]]
    assert (series["wanted_from"], series["missing"]) == (minute(5), [])  # the first mark has none before it, for ever


def test_open_interest_of_all_exchanges_that_list_the_coin(client: FlaskClient, sql: Cursor):
    """OKX lists it from the tenth minute on; Bybit has no row at the fifteenth."""
    for code, listed in (("bin", None), ("byb", DAY - 1), ("okx", minute(10))):
        list_coin(sql, code, listed)
    store(sql, "bin-oi", "oi, oi_usd", [(at, 10 + at, 100) for at in (0, 5, 10, 15, 20)], interval="5m")
    store(sql, "byb-oi", "oi, oi_usd", [(0, "0.50", 7), (5, 2, None), (10, 3, 1), (20, 4, 1)], interval="5m")
    store(sql, "okx-oi", "oi, oi_usd", [(at, 100, 1) for at in (5, 10, 15, 20)], interval="5m")
    rows = get_rows(client, "/api/data/x-oi?symbol=BTC&order=asc")
    assert [(row["ts"], row["oi"], row["oi_usd"], row["sources"]) for row in rows] == [
        (minute(0), "10.50", "107", "bin,byb"),
        (minute(5), "17", None, "bin,byb"),
        (minute(10), "123", "102", "bin,byb,okx"),
        (minute(20), "134", "102", "bin,byb,okx"),
    ]
    newest = client.get("/api/data/x-oi?limit=1").get_json()
    assert [row["ts"] for row in newest["rows"]] == [minute(20)] and newest["next"]
    (hour,) = get_rows(client, "/api/data/x-oi?symbol=BTC&step=1h")
    assert (hour["oi"], hour["sources"], hour["bars"], hour["expected"]) == ("134", "bin,byb,okx", 4, 12)


def test_a_sum_of_open_interest_is_known_when_the_last_of_its_rows_is(client: FlaskClient, sql: Cursor):
    for code in ("bin", "byb"):
        list_coin(sql, code, None)
    store(sql, "bin-oi", "oi", [(0, 10)], interval="1m")
    store(sql, "byb-oi", "oi", [(0, 3)], interval="5m")
    url = "/api/data/x-oi?symbol=BTC&columns=oi,%2Bknown_ms&as_of="
    (row,) = get_rows(client, f"{url}{minute(7)}")
    assert (row["interval"], row["oi"], row["known_ms"]) == ("5m", "13", minute(7))
    assert get_rows(client, f"{url}{minute(7) - 1}") == []


def test_a_listing_exchange_without_any_row_leaves_no_row(client: FlaskClient, sql: Cursor):
    list_coin(sql, "okx", None)
    store(sql, "bin-ohlcv", "c", [(0, 100)])
    store(sql, "byb-ohlcv", "c", [(0, 101)])
    answer(sql, "bin-ohlcv", [(0, 1)])
    answer(sql, "byb-ohlcv", [(0, 1)])
    assert get_rows(client, "/api/data/x-spread?symbol=BTC") == []
    sql.execute("UPDATE perp_metadata SET delisted_ms = %s, listed_ms = %s", (DAY, DAY - 1))
    (row,) = get_rows(client, "/api/data/x-spread?symbol=BTC")
    sql.execute("SELECT ((101 / 100::numeric - 1) * 10000)::text")
    assert (row["spread_bps"], row["sources"]) == (sql.fetchone()[0], "bin,byb")


def test_funding_weighted_by_open_interest(client: FlaskClient, sql: Cursor):
    for code, rate, hours, usd in (("bin", "0.0001", 8, 300), ("byb", "-0.0002", 4, 100), ("okx", "0.0003", 8, 50)):
        store(sql, f"{code}-fr", "fr, fr_hours", [(0, rate, hours), (480, rate, hours)], interval="settlement")
        store(sql, f"{code}-oi", "oi, oi_usd", [(0, usd / 2, usd), (480, usd / 2, None)], interval="5m")
        answer(sql, f"{code}-fr", [(0, 960)])
        answer(sql, f"{code}-oi", [(0, 480)])
    sql.execute(
        "SELECT ((300 * (0.0001 / 8::numeric) + 100 * (-0.0002 / 4::numeric) + 50 * (0.0003 / 8::numeric)) / 450)"
    )
    (expected,) = sql.fetchone()
    rows = get_rows(client, "/api/data/x-fr?symbol=BTC&order=asc")
    assert [row["ts"] for row in rows] == [DAY, minute(480)]
    assert all(abs(Decimal(row["fr_1h"]) - expected) < Decimal("1e-20") for row in rows)
    (series,) = client.get("/api/coverage?source=x-fr").get_json()["series"]
    assert series["covered"] == [[DAY, minute(480)]]


def test_liquidations_of_all_exchanges_take_a_covered_minute_without_a_row_as_zero(client: FlaskClient, sql: Cursor):
    store(sql, "bin-lq", "lql, lqs", [(0, 5, 0), (1, 7, 1), (3, 1, 1)])
    store(sql, "byb-lq", "lql, lqs", [(0, 1, "2.5"), (2, 3, 3)])
    answer(sql, "bin-lq", [(0, 10)])
    answer(sql, "byb-lq", [(0, 3)])
    rows = get_rows(client, "/api/data/x-lq?symbol=BTC&order=asc")
    assert [(row["ts"], row["lql"], row["lqs"], row["sources"]) for row in rows] == [
        (minute(0), "6", "2.5", "bin,byb"),
        (minute(1), "7", "1", "bin,byb"),
        (minute(2), "3", "3", "bin,byb"),
    ]  # not the third: nobody knows what Bybit had


def test_coverage_is_that_of_all_inputs_while_they_list_the_coin(client: FlaskClient, sql: Cursor):
    for code, listed in (("bin", None), ("byb", None), ("okx", minute(60))):
        list_coin(sql, code, listed)
    answer(sql, "bin-ohlcv", [(0, 200)])
    answer(sql, "byb-ohlcv", [(10, 200)], [(20, 30)])
    answer(sql, "okx-ohlcv", [(60, 100)])
    (series,) = client.get("/api/coverage?source=x-spread&symbol=BTC").get_json()["series"]
    assert series["covered"] == [[minute(10), minute(100)]]
    assert series["absent"] == [[minute(20), minute(30)]]


def test_derived_metrics_are_where_stored_ones_are(client: FlaskClient, sql: Cursor):
    """The catalog, the metric's page over exchanges, exports, charts, the data and the coverage page."""
    store(sql, "bin-ohlcv", "c, v, qv, tbv", [(at, 100, 1, 1, 1) for at in range(180)])
    store(sql, "byb-ohlcv", "c, v, qv", [(at, 101, 1, 1) for at in range(180)])
    answer(sql, "bin-ohlcv", [(0, 180)])
    answer(sql, "byb-ohlcv", [(0, 180)])
    specs = {spec["perpspec"]: spec for spec in client.get("/api/perpspecs").get_json()["perpspecs"]}
    assert specs["x-spread"]["exchange"] == "x" and specs["x-spread"]["fields"][-1]["type"] == "text"
    assert (specs["x-spread"]["first_ts"], specs["x-spread"]["last_ts"]) == (DAY, minute(179))
    assert specs["bin-vwap"]["symbols"] == ["BTC"]
    row = client.get("/metric/vwap?symbol=BTC&limit=1").get_json()["rows"][0]
    assert set(row["values"]) >= {"bin-vwap", "byb-vwap"} and row["values"]["byb-vwap"]["vwap"][0] == "1"
    assert client.get("/metric/x-spread?symbol=BTC&limit=1").get_json()["rows"][0]["ts"] == minute(179)
    lines = client.get("/api/export/x-spread?symbol=BTC").text.splitlines()
    assert len(lines) == 181 and lines[1].endswith('"bin,byb"')
    chart = client.get(f"/api/chart/x-spread?symbol=BTC&from={DAY}&to={minute(180)}").get_json()
    assert [value and round(value) for value in chart["columns"]["spread_bps"]] == [100, 100, 100]
    assert "sources" not in chart["columns"] and chart["incomplete"] == []
    assert "bin,byb" in client.get("/data?perpspec=x-spread&symbol=BTC").text
    assert client.get("/coverage?perpspec=x-spread").status_code == 200
    assert "computed from" in client.get("/api/fill/x-spread?symbol=BTC").get_json()["reason"]
    assert client.get(f"/coverage/cell?perpspec=x-spread&symbol=BTC&from={DAY}").status_code == 200
    assert specs["x-spread"]["last_ts"] + MINUTE_MS - DAY == MINUTE_MS * 180


def test_a_correction_changes_what_is_derived_at_once(client: FlaskClient, sql: Cursor):
    store(sql, "bin-ohlcv", "c", [(0, 100)])
    store(sql, "byb-ohlcv", "c", [(0, 101)])
    answer(sql, "bin-ohlcv", [(0, 60)])
    answer(sql, "byb-ohlcv", [(0, 60)])
    (before,) = get_rows(client, "/api/data/x-spread?symbol=BTC&step=1h")
    sql.execute("UPDATE perp_data SET c = 102 WHERE source = 'byb-ohlcv'")
    sql.execute(
        "UPDATE perp_coverage SET covered = covered - int8multirange(int8range(%s, %s))", (minute(5), minute(6))
    )
    (after,) = get_rows(client, "/api/data/x-spread?symbol=BTC&step=1h")
    assert [round(Decimal(row["spread_bps"])) for row in (before, after)] == [100, 200]
    assert (before["complete"], after["complete"]) == (True, False)


@pytest.mark.parametrize("knowledge", ["market", "recorded"])
def test_derived_rows_are_known_when_their_last_input_is(client: FlaskClient, sql: Cursor, knowledge: str):
    store(sql, "bin-ohlcv", "c, v, qv, tbv", [(0, 100, 2, 200, 1), (1, 100, 2, 200, 1)])
    store(sql, "byb-ohlcv", "c, v, qv", [(0, 101, 1, 101), (1, 101, 1, 101)])
    store(sql, "bin-oi", "oi", [(0, 100), (5, 103)], interval="5m")
    answer(sql, "bin-ohlcv", [(0, 2)])
    answer(sql, "byb-ohlcv", [(0, 2)])
    for name, count in (("bin-vwap", 2), ("x-spread", 2), ("bin-oi_chg", 1)):
        path = f"/api/data/{name}?symbol=BTC&knowledge={knowledge}&columns=%2Bknown_ms"
        rows = get_rows(client, path)
        assert len(rows) == count and all(row["known_ms"] > row["ts"] for row in rows)
        early = client.get(f"/api/data/{name}?symbol=BTC&knowledge={knowledge}&as_of={DAY}").get_json()
        assert early["rows"] == [] and early["knowledge"] == knowledge


def test_a_sum_over_exchanges_is_known_when_all_of_it_is(client: FlaskClient, sql: Cursor):
    """Those of OKX came 20 s after their minute, the others after 2 s; one is stored late, one added by the audit."""
    for code, lag_ms in (("bin", 2_000), ("byb", 2_000), ("okx", 20_000)):
        sql.execute(
            "INSERT INTO perp_minutes (source, hour_ms, last_lag, rows) VALUES (%s, %s, %s, %s)",
            (f"{code}-lq", DAY, [lag_ms] * 60, [1] * 60),
        )
        store(sql, f"{code}-lq", "lql, lqs", [(0, 5, 0), (4, 1, 1)])
        answer(sql, f"{code}-lq", [(0, 5)])

    def read(as_of, knowledge="market", step=""):
        path = f"/api/data/x-lq?symbol=BTC&order=asc&as_of={as_of}&knowledge={knowledge}&step={step}"
        return [(row["ts"], row["lql"], row.get("bars"), row.get("complete")) for row in get_rows(client, path)]

    assert read(minute(1) + 19_999) == []
    assert read(minute(1) + 20_000) == [(minute(0), "15", None, None)]
    assert read(minute(5) + 19_999, step="5m") == [(minute(0), "15", 1, False)]
    assert read(minute(5) + 20_000, step="5m") == [(minute(0), "18", 2, True)]
    sql.execute(
        "INSERT INTO perp_arrivals (source, symbol, start_ms, end_ms, way, known_to_ms)"
        " VALUES ('okx-lq', 'BTC', %s, %s, 'history', %s)",
        (minute(0), minute(0) + 1, minute(20)),
    )
    sql.execute(
        'INSERT INTO perp_corrections (at, source, symbol, ts, "column")'
        " VALUES (to_timestamp(%s / 1000.0), 'byb-lq', 'BTC', %s, '')",
        (minute(30), minute(4)),
    )
    assert read(minute(20) - 1, "recorded") == []
    assert read(minute(20), "recorded", "5m") == [(minute(0), "15", 1, False)]
    assert read(minute(30), "recorded") == [(minute(0), "15", None, None), (minute(4), "3", None, None)]


SPREAD_QUERY = """
    WITH rows AS (
        SELECT b.ts, (greatest(b.c, y.c, o.c) / least(b.c, y.c, o.c) - 1) * 10000 AS bps
        FROM perp_data AS b JOIN perp_data AS y USING (symbol, ts) JOIN perp_data AS o USING (symbol, ts)
        WHERE (b.source, y.source, o.source) = ('bin-ohlcv', 'byb-ohlcv', 'okx-ohlcv')
    )
    SELECT ts / %(step)s * %(step)s, (array_agg(bps ORDER BY ts DESC))[1]::text, count(*)
    FROM rows GROUP BY 1 ORDER BY 1
"""


@pytest.mark.parametrize("step", ["", "5m", "1h", "4h", "1d"])
def test_the_spread_of_three_exchanges_equals_an_independent_query(client: FlaskClient, sql: Cursor, step: str):
    """Each of them has holes; pages are small, so that many of them lie in a hole."""
    for number, code in enumerate(("bin", "byb", "okx")):
        minutes = [m for m in range(1, 3000) if m % 41 != number and not 400 * number <= m < 400 * number + 130]
        store_candles(sql, "BTC", minutes, f"{code}-ohlcv")
        sql.execute("UPDATE perp_data SET c = c + %s WHERE source = %s", (number * Decimal("0.5"), f"{code}-ohlcv"))
        answer(sql, f"{code}-ohlcv", [(1, 3000)])
    sql.execute(SPREAD_QUERY, {"step": STEPS_MS.get(step, MINUTE_MS)})
    expected = sql.fetchall()
    rows = get_rows(client, f"/api/data/x-spread?symbol=BTC&step={step}&order=asc&limit=700")
    assert [(row["ts"], row["spread_bps"], row.get("bars", 1)) for row in rows] == expected
    newest = get_rows(client, f"/api/data/x-spread?symbol=BTC&step={step}&limit=90")
    assert newest == rows[::-1]


def test_a_certificate_counts_each_step_once(client: FlaskClient, sql: Cursor):
    """One input of a spread is absent for one reason, the other one for another, and a part of it is missing."""
    for source, covered in (("bin-ohlcv", "0-2"), ("byb-ohlcv", "0-1")):
        cover(sql, source, "BTC", "0-2", covered, "0-1")
        sql.execute(
            "INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason) VALUES (%s, 'BTC', %s, %s, %s)",
            (source, DAY, DAY + 1440 * MINUTE_MS, f"reason of {source}"),
        )
    address = f"/api/certificate/x-spread?symbol=BTC&from={DAY}&to={minute(2880)}"
    each = client.get(address).get_json()
    assert each["missing"] == 1440
    assert each["expected"] == each["present"] + each["missing"] + sum(each["absent"].values())


def test_a_rate_of_a_year_is_measured_only_where_the_row_before_is(client: FlaskClient, sql: Cursor):
    store(sql, "bin-fr", "fr, fr_hours", [(0, "0.0001", 8), (480, "0.0002", None)], interval="settlement")
    for first, way, known in ((0, "before", 100), (480, "history", 490)):
        sql.execute(
            "INSERT INTO perp_arrivals (source, symbol, start_ms, end_ms, way, known_from_ms, known_to_ms)"
            " VALUES ('bin-fr', 'BTC', %s, %s, %s, %s, %s)",
            (minute(first), minute(first) + 1, way, None if way == "before" else minute(known), minute(known)),
        )
    address = f"symbol=BTC&knowledge=recorded&as_of={minute(1000)}&from={minute(1)}"
    assert client.get(f"/api/data/bin-fr_apr?{address}").get_json()["basis"] == "unknown"
