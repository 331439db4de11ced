"""Commands, pages and Prometheus say the same about one series at one moment."""

import json
import os
import re
import subprocess
import sys

from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, MINUTE_MS, floor_to, now_ms
from fademoe.settings import Settings
from fademoe.web.model.format import format_duration
from tests.support.clocks import settled_end

SOURCES = ("bin-ohlcv", "bin-lq", "byb-oi", "byb-lsr", "okx-fr", "okx-ppr")  # each with an edge of its own


def test_gaps_coverage_pages_and_prometheus_agree(client: FlaskClient, sql: Cursor, settings: Settings):
    """The fault: each had an edge of "now" of its own."""
    start_ms = settled_end(DAY_MS) - 2 * DAY_MS  # yesterday is covered whole, also in the hour after midnight
    for source in SOURCES:
        # some rows are missing, more are not due yet
        until_ms = floor_to(now_ms(), MINUTE_MS) - (60 if source in ("bin-ohlcv", "byb-oi") else 1) * MINUTE_MS
        sql.execute(
            "INSERT INTO perp_coverage (source, symbol, wanted, covered) VALUES (%s, 'BTC', %s, %s)",
            (source, f"{{[{start_ms},)}}", f"{{[{start_ms},{start_ms + MINUTE_MS}),[{start_ms + DAY_MS},{until_ms})}}"),
        )
    found: list[dict[str, int]] = []
    while not found or found[0] != read_gaps(settings):  # again when an edge moved meanwhile
        found = [
            read_gaps(settings),
            read_coverage(settings),
            {source: read_page(client, source) for source in SOURCES},
            read_prometheus(client),
            {each["perpspec"]: each["missing_ms"] for each in client.get("/api/perpspecs").get_json()["perpspecs"]},
        ]
        shown = {source: read_list(client, source) for source in SOURCES}
    gaps, *others = [{source: each[source] for source in SOURCES} for each in found]
    assert gaps["bin-lq"] == DAY_MS - MINUTE_MS < gaps["bin-ohlcv"]
    assert others == [gaps] * len(others)
    assert shown == {source: format_duration(missing_ms) for source, missing_ms in gaps.items()}


def run(settings: Settings, command: str) -> list[dict]:
    environment = {
        "FADEMOE_HOME": str(settings.home),
        "FADEMOE_DATABASE_URL": settings.database_url,
        "FADEMOE_REDIS_URL": settings.redis_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "fademoe", command, "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return json.loads(done.stdout)


def read_gaps(settings: Settings) -> dict[str, int]:
    missing: dict[str, int] = {}
    for gap in run(settings, "gaps"):
        missing[gap["source"]] = missing.get(gap["source"], 0) + gap["end_ms"] - gap["start_ms"]
    return missing


def read_coverage(settings: Settings) -> dict[str, int]:
    return {row["source"]: row["missing_ms"] for row in run(settings, "coverage")}


def read_page(client: FlaskClient, source: str) -> int:
    return client.get(f"/api/coverage?source={source}").get_json()["series"][0]["missing_ms"]


def read_list(client: FlaskClient, source: str) -> str:
    """Return what is missing as the coverage page says it."""
    text = client.get(f"/coverage?perpspec={source}&view=list").text
    return re.findall('<td class="number">([^<]*)</td>', text)[1]


def read_prometheus(client: FlaskClient) -> dict[str, int]:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("fademoe_missing_seconds{")]
    return {line.split('"')[1]: round(float(line.split()[-1]) * 1000) for line in lines}
