"""Health, summary, coverage, schema, units, queues, limits, Prometheus."""

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from psycopg2.extensions import cursor as Cursor
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, floor_to, now_ms, parse_time
from fademoe.feeds.grid import compute_due_until_ms_of, find_grid
from fademoe.settings import Settings
from fademoe.store.coverage import NO_ROW
from tests.support.web import MakeApp, cover, day, fail, report


def get(client: FlaskClient, path: str) -> dict:
    answer = client.get(path)
    assert answer.status_code == 200, answer.data
    return answer.get_json()


def test_health_is_ready_when_both_servers_answer(client: FlaskClient):
    body = get(client, "/health")
    assert body == {"live": True, "ready": True, "database": "ok", "redis": "ok", "simulated": False}


def test_stale_is_computed_when_read(client: FlaskClient, sql: Cursor):
    report(sql, "stream binance", "running", silent_s=29, interval_s=10)
    report(sql, "stream bybit", "running", silent_s=31, interval_s=10)
    report(sql, "backfill bin-ohlcv BTC", "done", silent_s=9_999)
    report(sql, "backfill bin-ohlcv ETH", "error", silent_s=9_999)
    units = {unit["unit"]: unit for unit in get(client, "/api/units")["units"]}
    assert [unit["stale"] for unit in units.values()] == [False, True, False, False]
    assert list(units) == ["backfill bin-ohlcv ETH", "stream bybit", "stream binance", "backfill bin-ohlcv BTC"]
    assert [unit["unit"] for unit in get(client, "/api/units?state=stale")["units"]] == ["stream bybit"]
    assert len(get(client, "/api/units?kind=backfill&find=eth")["units"]) == 1


def tiles(client: FlaskClient) -> dict[str, tuple[str, str]]:
    """Return the level and the text of each tile of the status box, by title."""
    text = client.get("/part/status").text
    found = re.findall(r'tile-title">(.+?) <span class="level">(.+?)</span>.*?tile-text">(.+?)</span>', text, re.S)
    return {title: (level, words) for title, level, words in found}


def alert_titles(client: FlaskClient) -> list[str]:
    return [alert["title"] for alert in get(client, "/api/alerts")["alerts"]]


def test_dead_programs_are_errors(client: FlaskClient, sql: Cursor):
    assert tiles(client)["Programs"] == ("Idle", "none")
    report(sql, "scheduler", "running", silent_s=3_600, interval_s=10)
    report(sql, "alerts", "error", message="no room")
    report(sql, "trader", "stopped", silent_s=3_600)
    assert tiles(client)["Programs"] == ("Error", "0 of 3 live")
    assert {"scheduler is stale", "alerts is in error"} <= set(alert_titles(client))
    assert "trader is stale" not in alert_titles(client)
    sql.execute("UPDATE perp_status SET state = 'running', heartbeat = now() WHERE unit <> 'trader'")
    assert tiles(client)["Programs"] == ("Warning", "2 of 3 live")
    sql.execute("UPDATE perp_status SET state = 'running', heartbeat = now()")
    assert tiles(client)["Programs"] == ("OK", "3 of 3 live")


def test_workers_of_messages_and_backtests_collect_no_data(client: FlaskClient, redis: Redis):
    queue = Queue("notify", connection=redis, serializer=JSONSerializer)
    for name in ("notify.here.1", "research.here.1"):
        SimpleWorker([queue], connection=redis, serializer=JSONSerializer, name=name).register_birth()
    assert tiles(client)["Workers"] == ("Error", "none")
    SimpleWorker([queue], connection=redis, serializer=JSONSerializer, name="worker.here.1").register_birth()
    assert tiles(client)["Workers"] == ("OK", "0 of 1 busy")


def test_an_exchange_that_is_left_out_is_not_late(settings: Settings, make_app: MakeApp, sql: Cursor):
    for source in ("bin-ohlcv", "byb-ohlcv"):
        cover(sql, source, "BTC", "0-", "0-1")
    client = make_app(dataclasses.replace(settings, exchanges=("binance",))).test_client()
    assert tiles(client)["Behind live"] == ("Warning", "1 of 1 late")
    assert [title for title in alert_titles(client) if "behind" in title] == ["binance falls behind"]


def test_windows_that_were_requested_are_queued_too(client: FlaskClient, sql: Cursor, redis: Redis):
    """What was seeded by command waits in a queue of its own: an alert says that no job is queued only when none is."""
    cover(sql, "bin-ohlcv", "BTC", "0-", "0-1")
    assert "binance falls behind" in alert_titles(client)
    Queue("binance-requested", connection=redis, serializer=JSONSerializer).enqueue("json.loads", "1")
    assert "binance falls behind" not in alert_titles(client)


def test_units_come_in_pages(client: FlaskClient, sql: Cursor):
    for number in range(7):
        report(sql, f"backfill bin-ohlcv C{number}", "done" if number % 2 else "error")
    cursor, seen = "", []
    while cursor is not None:
        body = get(client, f"/api/units?limit=3&cursor={cursor}")
        seen += [unit["unit"][-2:] for unit in body["units"]]
        cursor = body["next"]
    assert seen == ["C0", "C2", "C4", "C6", "C1", "C3", "C5"]


def test_errors_are_grouped_by_cause(client: FlaskClient, sql: Cursor):
    for number in range(5):
        sql.execute(
            "INSERT INTO perp_errors (at, unit, class, fingerprint, message, request, http_status)"
            " VALUES (now() - %s * interval '1 minute', 'u', 'Refused', %s, %s, '/x?limit=1', 404)",
            (number, f"f{number % 2}", f"message {number}"),
        )
    summary = get(client, "/api/system-summary")
    assert [(group["fingerprint"], group["errors"], group["message"]) for group in summary["recent_errors"]] == [
        ("f0", 3, "message 4"),
        ("f1", 2, "message 3"),
    ]
    assert summary["errors_last_hour"] == {"Refused": 5}


def test_coverage_has_ranges_and_percent(client: FlaskClient, sql: Cursor):
    cover(sql, "bin-ohlcv", "BTC", "0-10", "0-4 6-10", "1-2")
    cover(sql, "bin-ohlcv", "ETH", "0-10", "0-10")
    cover(sql, "byb-ohlcv", "BTC", "0-3")
    sql.execute(
        "INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason) VALUES ('bin-ohlcv', 'BTC', %s, %s, %s)",
        (day(1), day(2), NO_ROW),
    )
    body = get(client, "/api/coverage?source=bin-ohlcv")
    btc, eth = body["series"]
    assert (btc["symbol"], btc["percent"], btc["gaps"]) == ("BTC", 80.0, 1)
    assert btc["missing"] == [[day(4), day(6)]]
    assert btc["covered"] == [[day(0), day(4)], [day(6), day(10)]]
    assert btc["absent"] == [[day(1), day(2)]]
    assert btc["wanted"] == [[day(0), day(10)]]
    assert (btc["provisional"], eth["provisional"]) == ([[day(1), day(2)]], [])
    assert (eth["percent"], eth["missing"]) == (100.0, [])
    assert [one["source"] for one in get(client, "/api/coverage?symbol=BTC")["series"]] == ["bin-ohlcv", "byb-ohlcv"]
    first = get(client, "/api/coverage?limit=2")
    assert [one["source"] for one in get(client, f"/api/coverage?cursor={first['next']}")["series"]] == ["byb-ohlcv"]


def test_percent_is_100_only_when_nothing_is_missing(client: FlaskClient, sql: Cursor):
    sql.execute(
        "INSERT INTO perp_coverage (source, symbol, wanted, covered)"
        " VALUES ('bin-ohlcv', 'BTC', '{[0,1000000)}', '{[0,999999)}')"
    )
    assert get(client, "/api/coverage")["series"][0]["percent"] == 99.99


def test_a_request_without_end_counts_up_to_the_rows_that_are_due(client: FlaskClient, sql: Cursor):
    """The newest bar is still open and the previous one may be in transit: neither is a gap."""
    start, now = now_ms() - DAY_MS, now_ms()
    for symbol, end in (("BTC", now - HOUR_MS), ("ETH", now - 2 * MINUTE_MS)):
        sql.execute(
            "INSERT INTO perp_coverage (source, symbol, wanted, covered) VALUES ('bin-ohlcv', %s, %s, %s)",
            (symbol, f"{{[{start},)}}", f"{{[{start},{end})}}"),
        )
    late, live = get(client, "/api/coverage")["series"]
    assert HOUR_MS - 10 * MINUTE_MS < late["missing_ms"] < HOUR_MS
    assert abs(late["wanted"][0][1] - now) < MINUTE_MS
    assert (live["missing_ms"], live["gaps"], live["percent"]) == (0, 0, 100.0)
    total = get(client, "/api/system-summary")["coverage"][0]
    assert abs(total["lag_ms"] - HOUR_MS) < MINUTE_MS
    assert (total["series"], total["behind"], total["incomplete"], total["exchange"]) == (2, 1, 1, "binance")


@pytest.mark.parametrize("source", ["bin-ohlcv", "x-oi"])
def test_a_certificate_ends_where_rows_are_not_due_yet(client: FlaskClient, sql: Cursor, source: str):
    cover(sql, "bin-ohlcv", "BTC", "0-")
    now = now_ms()
    found = get(client, f"/api/certificate/{source}?symbol=BTC&from={now - HOUR_MS}&to={now + HOUR_MS}")
    due_ms = floor_to(compute_due_until_ms_of(source, lambda exchange: now), find_grid(source).interval_ms)
    assert due_ms - now < -MINUTE_MS and abs(parse_time(found["to"]) - due_ms) <= MINUTE_MS
    answer = client.get(f"/api/certificate/{source}?symbol=BTC&from={now}&to={now + HOUR_MS}")
    assert answer.status_code == 400 and f"rows of {source} are due until" in answer.get_json()["detail"]
    assert answer.get_json()["parameter"] == "from" and answer.get_json()["allowed"]
    body = client.get(f"/api/certificate/{source}?symbol=BTC&from=2026-01-01&to=2026-01-01").get_json()
    assert (body["parameter"], body["allowed"]) == ("to", "a time after from=2026-01-01")


def test_cells_of_the_heat_map(client: FlaskClient, sql: Cursor):
    cover(sql, "bin-ohlcv", "BTC", "1-5", "1-2 3-3.5 4-5", "4-5")
    sql.execute(
        "INSERT INTO perp_metadata (exchange, code, instrument, symbol, listed_ms) VALUES ('e', 'bin', 'B', 'BTC', %s)",
        (day(0),),
    )
    body = get(client, f"/api/coverage/bin-ohlcv?to={day(6)}&columns=7")
    states = [cell["state"] for cell in body["symbols"][0]["cells"]]
    assert states == ["unlisted", "unwanted", "complete", "missing", "partial", "absent", "unwanted"]
    hours = get(client, f"/api/coverage/bin-ohlcv?to={day(4)}&by=hour&columns=24")["symbols"][0]["cells"]
    assert [cell["state"] for cell in hours] == ["complete"] * 12 + ["missing"] * 12


def test_schema_has_only_fademoe_tables(client: FlaskClient):
    body = get(client, "/api/schema/perp_data")
    columns = {column["name"]: column for column in body["columns"]}
    assert (columns["v"]["type"], columns["v"]["unit"], columns["ts"]["type"]) == ("numeric", "coins", "bigint")
    assert any(index["primary"] and "source, symbol, ts" in index["definition"] for index in body["indexes"])
    for name in ("pg_class", "pg_catalog.pg_authid", "perp_data;drop", "perp_data_2026_01", "PERP_DATA"):
        answer = client.get(f"/api/schema/{name}")
        assert answer.status_code == 404
        assert "perp_data" in answer.get_json()["allowed"]


def test_queues_count_wait_and_group_failures(client: FlaskClient, redis: Redis):
    fail(redis, "live", "a", "b")
    Queue("live", connection=redis, serializer=JSONSerializer).enqueue("json.loads", "1", job_id="c")
    body = get(client, "/api/queues")
    queues = {queue["name"]: queue for queue in body["queues"]}
    assert {"live", "upkeep", "binance"} <= set(queues)
    assert (queues["live"]["queued"], queues["live"]["failed"]) == (1, 2)
    assert abs(queues["live"]["oldest_ms"] - now_ms()) < 60_000
    [group] = body["failed"]
    assert (group["queue"], group["count"]) == ("live", 2)
    assert "JSONDecodeError" in group["error"]


def test_reading_changes_no_queue(client: FlaskClient, redis: Redis):
    fail(redis, "live", "a")
    before = {key: redis.dump(key) for key in redis.scan_iter()}
    for path in ("/", "/queues", "/api/queues", "/api/system-summary", "/metrics", "/rq/", "/rq/0/data/queues.json"):
        assert client.get(path).status_code == 200
    assert {key: redis.dump(key) for key in redis.scan_iter()} == before


def test_budgets_of_a_period_that_is_over_count_as_unused(client: FlaskClient, redis: Redis):
    now, period = now_ms(), 60_000
    fields = {
        "next_slot": f"{now + 5_000}.25",
        "window": now // period,
        "used": 900,
        "limit": 2400,
        "period_ms": period,
    }
    closed = {
        "server_used": 950,
        "server_window": now // period,
        "closed_until": now + 30_000,
        "closed_why": "HTTP 418",
    }
    redis.hset("budget:slots1:binance:ip:home", mapping=fields | closed)
    redis.hset("budget:slots1:bybit:ip:home", mapping=fields | {"window": now // period - 1, "closed_until": now - 1})
    first, second = get(client, "/api/limits")["budgets"]
    assert (first["exchange"], first["name"], first["egress"]) == ("binance", "ip", "home")
    assert (first["used"], first["server_used"], first["limit"], first["closed_why"]) == (900, 950, 2400, "HTTP 418")
    assert abs(first["closed_until_ms"] - now - 30_000) < 1_000  # by two clocks
    assert (second["used"], second["server_used"], second["closed_until_ms"]) == (0, None, None)


def test_the_limits_page_shows_the_share_of_a_limit_and_measures_use_against_it(client: FlaskClient, redis: Redis):
    """Of a limit of which half is ours, 45 percent are 90 percent of what is allowed."""
    fields = {"window": now_ms() // DAY_MS, "used": 450, "limit": 1000, "period_ms": DAY_MS, "share": 0.5}
    redis.hset("budget:slots1:binance:ip:home", mapping=fields)
    [budget] = get(client, "/api/limits")["budgets"]
    assert (budget["used"], budget["allowed"], budget["limit"]) == (450, 500, 1000)
    row = re.search(r'<th scope="row">binance</th>.*?</tr>', client.get("/limits").text, re.DOTALL)[0]
    assert 'max="500"' in row and " 90 %" in row
    assert re.findall(r'<td class="number">([^<]*)</td>', row)[:3] == ["450", "500", "1\u2009000"]


@pytest.mark.parametrize("until", ["1791383040000000", "9" * 40, "inf", "nan", "", "x"])
def test_limits_page_shows_any_state(client: FlaskClient, redis: Redis, until: str):
    """An absurd time in Redis, from an older version or by hand."""
    fields = dict.fromkeys(("closed_until", "next_slot", "at", "used", "window", "limit", "period_ms"), until)
    redis.hset("budget:slots1:acme:ip:home", mapping=fields | {"closed_why": "HTTP 418"})
    for path in ("/limits", "/api/limits", "/alerts", "/metrics"):
        assert client.get(path).status_code == 200, path


def test_an_exchange_that_does_not_answer_is_on_the_limits_page(client: FlaskClient, redis: Redis):
    """The fault: the pause was in the API only."""
    now = now_ms()
    fields = {"failures": 7, "since": now - 90_000, "paused_at": now - 1_000, "resumes_at": now + 40_000, "at": now}
    redis.hset("outage:slots1:acme:home", mapping=fields | {"reason": "acme: HTTP <503>"})
    [outage] = get(client, "/api/limits")["outages"]
    assert (outage["exchange"], outage["egress"], outage["failures"]) == ("acme", "home", 7)
    page = client.get("/limits").text
    for text in ("do not answer", "acme", ">7<", "HTTP &lt;503&gt;"):
        assert text in page, text
    for odd in ("9" * 40, "nan", "inf", "x", ""):
        redis.hset("outage:slots1:acme:home", mapping=dict.fromkeys(("failures", "since", "resumes_at", "at"), odd))
        for path in ("/limits", "/api/limits", "/alerts", "/metrics"):
            assert client.get(path).status_code == 200, (path, odd)


def test_an_address_that_gets_no_answer_is_named_by_an_alert(client: FlaskClient, redis: Redis):
    now = now_ms()
    fields = {"failures": 7, "since": now - 90_000, "paused_at": now - 1_000, "resumes_at": now + 40_000, "at": now}
    redis.hset("outage:slots1:binance:second", mapping=fields | {"reason": "binance cannot be reached"})
    [alert] = [alert for alert in get(client, "/api/alerts")["alerts"] if alert["kind"] == "outage"]
    assert alert["title"] == "binance does not answer second"
    assert "7 requests in a row failed" in alert["text"] and "cannot be reached" in alert["text"]
    assert alert["title"] in client.get("/alerts").text


def test_prometheus_reads_our_metrics(client: FlaskClient, sql: Cursor, redis: Redis):
    report(sql, "stream binance", "running")
    cover(sql, "bin-ohlcv", "BTC", "0-10", "0-4")
    fail(redis, "live", "a")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
    assert samples["fademoe_up", ("server", "postgresql")] == 1
    assert samples["fademoe_queue_depth", ("queue", "live"), ("state", "failed")] == 1
    assert samples["fademoe_units", ("kind", "stream"), ("state", "running")] == 1
    assert samples["fademoe_series_holes", ("source", "bin-ohlcv")] == 1
    assert samples["fademoe_missing_seconds", ("source", "bin-ohlcv")] == 6 * DAY_MS / 1000


def test_points_of_a_chart_keep_gaps(client: FlaskClient, sql: Cursor, partitions: None):
    sql.execute(
        "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v) SELECT %s + i * 60000, 'BTC', 'bin-ohlcv',"
        " '1m', i, i + 1, i - 1, i + 0.5, 2 FROM unnest(%s::int[]) AS i",
        (day(0), [*range(60), *range(120, 130)]),
    )
    path = f"/api/chart/bin-ohlcv?symbol=BTC&from={day(0)}&to={day(0) + 3 * HOUR_MS}"
    hours = get(client, f"{path}&step=1h")
    assert hours["ts"] == [day(0), day(0) + HOUR_MS, day(0) + 2 * HOUR_MS]
    assert hours["columns"]["o"] == [0.0, None, 120.0]
    assert hours["columns"]["h"] == [60.0, None, 130.0]
    assert hours["columns"]["l"] == [-1.0, None, 119.0]
    assert hours["columns"]["c"] == [59.5, None, 129.5]
    assert hours["columns"]["v"] == [120.0, None, 20.0]
    minutes = get(client, f"{path}&step=1m")
    assert len(minutes["ts"]) == 180
    assert minutes["columns"]["c"].count(None) == 110


def test_bands_of_a_chart_name_the_reason_for_missing_rows(client: FlaskClient, sql: Cursor):
    """Of 6 h: 1 h not requested, 1 h absent but for its last minute, 10 minutes missing, and the rest covered."""
    hours = [day(0) + i * HOUR_MS for i in range(7)]
    gap = (hours[3] + 5 * MINUTE_MS, hours[3] + 15 * MINUTE_MS)
    absent = (hours[1], hours[2] - MINUTE_MS)
    sql.execute(
        "INSERT INTO perp_coverage (source, symbol, wanted, covered, absent) VALUES ('bin-ohlcv', 'BTC', %s, %s, %s)",
        (f"{{[{hours[1]},)}}", f"{{[{hours[1]},{gap[0]}),[{gap[1]},{day(1)})}}", f"{{[{absent[0]},{absent[1]})}}"),
    )
    path = f"/api/chart/bin-ohlcv?symbol=BTC&from={hours[0]}&to={hours[6]}"
    minutes = [tuple(band.values()) for band in get(client, f"{path}&step=1m")["bands"]]
    assert minutes == [("unrequested", hours[0], hours[1]), ("absent", *absent), ("missing", *gap)]
    assert get(client, path)["open_ms"] == gap[0]
    assert get(client, f"/api/chart/bin-ohlcv?symbol=BTC&from={gap[1]}&to={hours[6]}&step=1m")["open_ms"] is None
    assert get(client, f"/api/chart/bin-ohlcv?symbol=BTC&from={gap[1]}&to={day(2)}&step=1m")["open_ms"] == day(1)
    whole = [tuple(band.values()) for band in get(client, f"{path}&step=1h")["bands"]]
    assert whole == [("unrequested", hours[0], hours[1]), ("missing", hours[3], hours[4])]


def test_a_cell_says_when_it_shows_only_a_part(client: FlaskClient, sql: Cursor):
    """A contract that trades every other minute: a day has more absent ranges than the page shows."""
    cover(sql, "bin-ohlcv", "BTC", "0-1", "0-1")
    path = f"/coverage/cell?perpspec=bin-ohlcv&symbol=BTC&from={day(0)}"
    assert "are shown" not in client.get(path).text
    sql.execute(
        "INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason)"
        " SELECT 'bin-ohlcv', 'BTC', ts, ts + 60000, 'the exchange has no row'"
        " FROM generate_series(%s::bigint, %s::bigint, 120000) AS ts",
        (day(0), day(1) - 1),
    )
    assert client.get(path).text.count("Only 200 are shown") == 1


@pytest.mark.usefixtures("partitions")
def test_concurrent_requests_wait_for_a_connection(client: FlaskClient, app):
    """More requests than connections: those without one wait."""

    def ask(_: int) -> int:
        return app.test_client().get("/api/data/bin-ohlcv").status_code

    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(ask, range(120))) == {200}


def test_the_summary_lists_the_streams_of_the_exchanges_that_are_enabled(client: FlaskClient, sql: Cursor):
    report(sql, "stream okx", "running")
    report(sql, "stream gone", "running", silent_s=9000)  # of a package that was uninstalled
    summary = get(client, "/api/system-summary")
    assert [unit["unit"] for unit in summary["streams"]] == ["stream okx"]
    assert "gone" not in client.get("/alerts").text
