"""Every column of every metric, stored and derived, in every step: equal to SQL over perp_data written by hand here.

Three exchanges: Bybit has holes that are absent, OKX lists the coin from the fifth hour on, some values are null.
"""

from decimal import Decimal

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window
from fademoe.metrics import METRICS, STEPS_MS
from fademoe.store import hours
from fademoe.store.coverage import Series
from tests.support.web import DAY, minute
from tests.web.test_derived import list_coin
from tests.web.test_steps import answer, get_rows

pytestmark = [pytest.mark.usefixtures("partitions"), pytest.mark.full]

CODES = ("bin", "byb", "okx")
LISTED = 300  # OKX lists the coin from this minute on
MINUTES = 2 * 1440 + 95
HOLE = (610, 745)  # minutes that Bybit does not have
STORED = {  # metric: (interval, minutes between two rows, columns)
    "ohlcv": ("1m", 1, "o h l c v qv n tbv"),
    "pfr": ("1m", 1, "pfr"),
    "ppr": ("1m", 1, "ppr"),
    "mark": ("1m", 1, "mark_o mark_h mark_l mark_c"),
    "oi": ("5m", 5, "oi oi_usd"),
    "lsr": ("5m", 5, "lsr"),
    "lq": ("1m", 7, "lql lqs"),
    "fr": ("settlement", 240, "fr fr_hours fr_mark"),
}
WHOLE = {"n": 5000, "fr_hours": 8}
STEPS = {
    "first": "(array_agg({0} ORDER BY ts))[1]",
    "last": "(array_agg({0} ORDER BY ts DESC))[1]",
    "max": "max({0})",
    "min": "min({0})",
    "sum": "CASE WHEN bool_and({0} IS NOT NULL) THEN sum({0}) END",
}
AGGREGATES = {
    **dict.fromkeys(["o", "mark_o"], "first"),
    **dict.fromkeys(["h", "mark_h"], "max"),
    **dict.fromkeys(["l", "mark_l"], "min"),
    **dict.fromkeys(["v", "qv", "n", "tbv", "lql", "lqs", "fr", "cvd", "oi_chg"], "sum"),
}  # every other column: the last
ACROSS = "WHERE right(source, {width}) = '{metric}' AND (left(source, 3) <> 'okx' OR ts >= {listed})"
DERIVED = {  # metric: (query of ts and columns of one code or of all, columns)
    "vwap": (
        "SELECT ts, CASE WHEN v <> 0 THEN qv / v END AS vwap FROM perp_data WHERE source = '{code}-ohlcv'",
        "vwap",
    ),
    "cvd": ("SELECT ts, tbv - (v - tbv) AS cvd FROM perp_data WHERE source = '{code}-ohlcv'", "cvd"),
    "fr_apr": (
        "SELECT ts, fr * 8760 / coalesce(fr_hours, CASE WHEN ts - lag(ts) OVER w <= 28800000"
        " THEN round((ts - lag(ts) OVER w) / 3600000.0) END) AS fr_apr, fr_hours"
        " FROM perp_data WHERE source = '{code}-fr' WINDOW w AS (ORDER BY ts)",
        "fr_apr fr_hours",
    ),
    "oi_chg": (
        "SELECT a.ts, a.oi - b.oi AS oi_chg FROM perp_data AS a JOIN perp_data AS b"
        " ON b.source = a.source AND b.ts = a.ts - 300000 WHERE a.source = '{code}-oi'",
        "oi_chg",
    ),
    "x-oi": (
        "SELECT ts, sum(oi) AS oi, CASE WHEN bool_and(oi_usd IS NOT NULL) THEN sum(oi_usd) END AS oi_usd, {sources}"
        f" FROM perp_data {ACROSS.format(width=3, metric='-oi', listed='{listed}')} GROUP BY ts HAVING {{whole}}",
        "oi oi_usd sources",
    ),
    "x-spread": (
        "SELECT ts, (max(c) / min(c) - 1) * 10000 AS spread_bps, {sources}"
        f" FROM perp_data {ACROSS.format(width=6, metric='-ohlcv', listed='{listed}')} GROUP BY ts HAVING {{whole}}",
        "spread_bps sources",
    ),
    "x-fr": (
        "SELECT ts, CASE WHEN bool_or(hours IS NULL) THEN NULL WHEN bool_and(oi_usd IS NOT NULL)"
        " THEN sum(oi_usd * (fr / hours)) / sum(oi_usd) ELSE sum(oi * (fr / hours)) / sum(oi) END AS fr_1h, {sources}"
        " FROM (SELECT f.source, f.ts, f.fr, f.fr_hours AS hours, i.oi, i.oi_usd FROM perp_data AS f"
        " JOIN perp_data AS i ON left(i.source, 3) = left(f.source, 3) AND i.source LIKE '%%-oi' AND i.ts = f.ts"
        " WHERE f.source LIKE '%%-fr' AND (left(f.source, 3) <> 'okx' OR f.ts >= {listed})) AS j"
        " GROUP BY ts HAVING {whole}",
        "fr_1h sources",
    ),
    "x-lq": (
        "SELECT ts, sum(lql) AS lql, sum(lqs) AS lqs,"
        " CASE WHEN ts >= {listed} THEN 'bin,byb,okx' ELSE 'bin,byb' END AS sources"
        f" FROM perp_data {ACROSS.format(width=3, metric='-lq', listed='{listed}')}"
        " AND NOT (ts >= {hole_start} AND ts < {hole_end}) GROUP BY ts",
        "lql lqs sources",
    ),
}
PARTS = {
    "listed": minute(LISTED),
    "hole_start": minute(HOLE[0]),
    "hole_end": minute(HOLE[1]),
    "sources": "string_agg(left(source, 3), ',' ORDER BY source) AS sources",
    "whole": f"count(*) = 2 + (ts >= {minute(LISTED)})::int",
}


@pytest.fixture
def filled(sql: Cursor, partitions: None) -> Cursor:
    """Pseudo-random values, a tenth of the columns that may be null null, and live samples between the marks of oi."""
    sql.execute("SELECT setseed(0.12)")
    for code in CODES:
        first = LISTED if code == "okx" else 0
        list_coin(sql, code, minute(LISTED) if code == "okx" else None)
        for metric, (interval, every, names) in STORED.items():
            columns = names.split()
            may_be_null = {"qv", "n", "tbv", "oi_usd", "fr_hours", "fr_mark"}
            values = [
                f"CASE WHEN random() > {0.05 if name in may_be_null else 0} THEN"
                + (
                    f" 1 + (random() * {WHOLE[name]})::int END"
                    if name in WHOLE
                    else " round(random()::numeric * 9 + 1, 5) END"
                )
                for name in columns
            ]
            sql.execute(
                f"INSERT INTO perp_data (ts, symbol, source, interval, {', '.join(columns)})"
                f" SELECT {DAY} + m * 60000, 'BTC', '{code}-{metric}', '{interval}', {', '.join(values)}"
                f" FROM generate_series({first}, {MINUTES - 1}) AS m WHERE m %% {every} = 0"
                " AND NOT (%s AND m >= %s AND m < %s) AND (%s <> 'ohlcv' OR m %% 173 > 3)",
                (code == "byb", *HOLE, metric),
            )
            answer(sql, f"{code}-{metric}", [(first, MINUTES)], [HOLE] if code == "byb" else [])
        sql.execute(
            "INSERT INTO perp_data (ts, symbol, source, interval, oi)"
            " SELECT %s + m * 60000, 'BTC', %s, '1m', 1 FROM generate_series(1, 2000, 5) AS m WHERE m >= %s",
            (DAY, f"{code}-oi", first),
        )
    return sql


def list_cases() -> list[tuple[str, str, str]]:
    """Return (perpspec, query of its rows, columns) of all metrics."""
    cases = []
    for code in CODES:
        for metric, (_, _, columns) in STORED.items():
            query = f"SELECT ts, {', '.join(columns.split())} FROM perp_data WHERE source = '{code}-{metric}'"
            cases.append((f"{code}-{metric}", query, columns))
    for metric, (query, columns) in DERIVED.items():
        codes = [""] if metric.startswith("x-") else ["bin"] if metric == "cvd" else list(CODES)
        for code in codes:
            name = f"{code}-{metric}" if code else metric
            cases.append((name, query.replace("%%", "%").format(**PARTS, code=code), columns))
    return cases


def make_step(perpspec: str, rows: str, columns: str, step_ms: int) -> str:
    """Return the query of the steps of a perpspec, from that of its rows; ratios are of the sums."""
    grid_ms = 5 * MINUTE_MS if perpspec.endswith(("-oi", "-lsr", "-oi_chg")) else 1
    values = [STEPS[AGGREGATES.get(name, "last")].format(name) for name in columns.split()]
    if perpspec.endswith("-vwap"):
        rows = f"SELECT ts, v, qv FROM perp_data WHERE source = '{perpspec[:3]}-ohlcv'"
        values = ["CASE WHEN bool_and(v IS NOT NULL AND qv IS NOT NULL) AND sum(v) <> 0 THEN sum(qv) / sum(v) END"]
    return (
        f"SELECT ts / {step_ms} * {step_ms}, count(*), {', '.join(values)}"
        f" FROM ({rows}) AS r WHERE ts % {grid_ms} = 0 GROUP BY 1 ORDER BY 1"
    )


def as_number(value: object) -> object:
    """Return a decimal of a text that is one."""
    text = str(value)
    return Decimal(text) if value is not None and text.replace(".", "").lstrip("-").isdecimal() else value


def compare(client: FlaskClient, sql: Cursor, steps: dict[str, int]) -> int:
    """Compare all perpspecs in these steps with the queries; return how many values were compared."""
    count = 0
    for perpspec, rows, columns in list_cases():
        names = columns.split()
        for step, step_ms in steps.items():
            sql.execute(make_step(perpspec, rows, columns, step_ms) if step else f"{rows} ORDER BY ts")
            expected = [tuple(map(as_number, row)) for row in sql.fetchall()]
            found = get_rows(client, f"/api/data/{perpspec}?symbol=BTC&order=asc&step={step}&limit=10000")
            keys = ["ts", *(["bars"] if step else []), *names]
            assert [tuple(as_number(row[key]) for key in keys) for row in found] == expected, (perpspec, step)
            assert expected, (perpspec, step)
            count += len(found) * len(names)
    return count


def test_every_column_of_every_metric_in_every_step(client: FlaskClient, filled: Cursor):
    """Rows, then steps from the rows, then from hours that are made, then after a correction of one value each."""
    known = {name.removeprefix(f"{code}-") for name, _, _ in list_cases() for code in CODES}
    assert set(METRICS) <= known, "a metric is not compared"
    assert compare(client, filled, {"": 0, **STEPS_MS}) > 100_000
    for code in CODES:
        for metric in STORED:
            first = LISTED if code == "okx" else 0
            if metric != "fr":
                hours.make(filled, Series(f"{code}-{metric}", "BTC"), Window(minute(first), DAY + 2 * DAY_MS))
    longer = {step: length for step, length in STEPS_MS.items() if length >= HOUR_MS}
    compare(client, filled, longer)
    for metric, (_, _, columns) in STORED.items():
        changes = ", ".join(f"{name} = {name} + 1" for name in columns.split())
        filled.execute(
            f"UPDATE perp_data SET {changes} WHERE source LIKE %s AND ts = %s", (f"%-{metric}", minute(1200))
        )
    compare(client, filled, longer)


@pytest.mark.parametrize("perpspec", ["bin-ohlcv", "byb-ohlcv", "okx-ohlcv", "byb-vwap", "x-spread", "byb-oi", "x-lq"])
def test_completeness_follows_from_the_coverage(client: FlaskClient, filled: Cursor, perpspec: str):
    first = LISTED if perpspec.startswith("okx") else 0
    grid = 5 if perpspec.endswith("-oi") else 1
    absent = set() if perpspec[:3] in ("bin", "okx") else set(range(*HOLE))
    for step, step_ms in STEPS_MS.items():
        rows = get_rows(client, f"/api/data/{perpspec}?symbol=BTC&order=asc&step={step}&limit=10000")
        for row in rows:
            start, length = (row["ts"] - DAY) // MINUTE_MS, step_ms // MINUTE_MS
            points = range(start, start + length)
            found = (row["expected"], row["absent"], row["complete"])
            holes = sum(point in absent and point % grid == 0 for point in points)
            assert found == (length // grid, holes, start >= first and points[-1] < MINUTES), (step, row)
        assert rows
