"""The actions: what they change and record, and that nothing else changes."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from fademoe.clock import now_ms
from fademoe.settings import Settings
from fademoe.web.model.failed_jobs import find_group, group_failed
from tests.support.web import BEARER, MakeApp, cover, day, fail

CONF = """
[unix_http_server]
file = {run}/ctl.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisord]
nodaemon = true
pidfile = {run}/supervisord.pid
logfile = {run}/supervisord.log
childlogdir = {run}
[program:stream-one]
command = sleep 600
startsecs = 0
[program:stream-two]
command = sleep 600
startsecs = 0
[program:scheduler]
command = sleep 600
startsecs = 0
"""


@pytest.fixture
def supervisord(settings: Settings) -> Iterator[None]:
    """A real supervisord with two streams and a scheduler."""
    run = settings.run_dir
    run.mkdir(parents=True)
    conf = run / "conf"
    conf.write_text(CONF.format(run=run))
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)]
    if os.geteuid() == 0:
        command += ["--user", "root"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        if (run / "ctl.sock").exists():
            break
        time.sleep(0.1)
    yield
    process.terminate()
    process.wait(60)


def csrf_of(admin: FlaskClient) -> str:
    """Return the token that the forms of a session hold."""
    return re.search(r'name="csrf" value="([^"]+)"', admin.get("/limits").text)[1]


def history(sql: Cursor) -> list[tuple[str, str]]:
    """Return (unit, message) of the changes recorded in the history."""
    sql.execute("SELECT unit, message FROM perp_status_history WHERE unit LIKE 'web %' ORDER BY id")
    return sql.fetchall()


def post(client: FlaskClient, path: str, body: dict[str, str], status: int = 200) -> str:
    """Post as a program; return the words of the answer."""
    answer = client.post(path, json=body, headers=BEARER)
    assert answer.status_code == status, answer.data
    return answer.get_json().get("done") or answer.get_json()["detail"]


def test_workers_are_paused_and_resumed(client: FlaskClient, admin: FlaskClient, redis: Redis, sql: Cursor):
    csrf = csrf_of(admin)
    answer = admin.post("/control/workers", data={"csrf": csrf, "state": "pause", "back": "/queues"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/queues")
    assert redis.exists("rq:suspended")
    page = admin.get("/queues").text
    assert "workers paused" in page
    assert "The workers are paused" in page
    assert client.get("/api/queues").get_json()["paused"] is True
    post(client, "/control/workers", {"state": "resume"})
    assert not redis.exists("rq:suspended")
    assert [unit for unit, _ in history(sql)] == ["web pause", "web resume"]


def test_apis_are_switched_off_and_on(client: FlaskClient, redis: Redis, sql: Cursor, supervisord: None, settings):
    from_outside = [
        sys.executable,
        "-m",
        "supervisor.supervisorctl",
        "-s",
        f"unix://{settings.run_dir}/ctl.sock",
        "status",
    ]

    def states() -> dict[str, str]:
        lines = subprocess.run(from_outside, capture_output=True, text=True, check=False).stdout.splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def wait_for(expected: dict[str, str]) -> None:
        for _ in range(100):
            if states() == expected:
                return
            time.sleep(0.1)
        assert states() == expected

    running = dict.fromkeys(("stream-one", "stream-two", "scheduler"), "RUNNING")
    wait_for(running)
    assert "streams stopped: stream-one, stream-two" in post(client, "/control/apis", {"state": "off"})
    assert redis.exists("rq:suspended")
    wait_for(running | {"stream-one": "STOPPED", "stream-two": "STOPPED"})
    assert "streams started: stream-one, stream-two" in post(client, "/control/apis", {"state": "on"})
    assert not redis.exists("rq:suspended")
    wait_for(running)
    assert [unit for unit, _ in history(sql)] == ["web DB APIs off", "web DB APIs on"]


def test_switching_off_without_supervisord_reports_the_streams(client: FlaskClient, redis: Redis):
    words = post(client, "/control/apis", {"state": "off"})
    assert "workers paused" in words
    assert "could not be stopped" in words
    assert "ctl.sock" in words
    assert redis.exists("rq:suspended")


def test_fill_requests_the_range_and_enqueues_reconcile(client: FlaskClient, redis: Redis, sql: Cursor):
    cover(sql, "bin-ohlcv", "BTC", "0-2", "0-2")
    body = {"perpspec": "bin-ohlcv", "symbol": "btc", "from": str(day(4)), "to": "2026-01-07"}
    assert "enqueued now" in post(client, "/control/fill", body)
    sql.execute("SELECT wanted::text, covered::text FROM perp_coverage")
    assert sql.fetchall() == [(f"{{[{day(0)},{day(2)}),[{day(4)},{day(6)})}}", f"{{[{day(0)},{day(2)})}}")]
    [job] = Queue("binance-requested", connection=redis, serializer=JSONSerializer).get_jobs()
    assert job.func_name == "fademoe.jobs.seed.fill"
    assert job.args == ["bin-ohlcv", ["BTC"], day(4), day(6)]
    assert "is queued already" in post(client, "/control/fill", body)
    assert len(history(sql)) == 2


def test_fill_of_several_symbols_takes_all_of_them(client: FlaskClient, admin: FlaskClient, sql: Cursor):
    """The form of the page filled the first symbol only."""
    for symbol in ("BTC", "ETH", "XRP"):
        cover(sql, "bin-ohlcv", symbol, "0-2")
    page = admin.get(f"/coverage/fill?perpspec=bin-ohlcv&symbol=BTC&symbol=ETH&from={day(4)}&to={day(5)}").text
    form = page[page.index('action="/control/fill"') :]
    body = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form[: form.index("</form>")]))
    assert admin.post("/control/fill", data=body).status_code == 303
    sql.execute("SELECT symbol FROM perp_coverage WHERE wanted @> %s::bigint ORDER BY symbol", (day(4),))
    assert sql.fetchall() == [("BTC",), ("ETH",)]


def test_fill_of_a_whole_perpspec_changes_no_requested_range(client: FlaskClient, sql: Cursor):
    for symbol in ("BTC", "ETH"):
        cover(sql, "bin-ohlcv", symbol, "0-2")
    before = "SELECT symbol, wanted::text FROM perp_coverage ORDER BY 1"
    sql.execute(before)
    wishes = sql.fetchall()
    assert "2 series" in post(client, "/control/fill", {"perpspec": "bin-ohlcv"})
    sql.execute(before)
    assert sql.fetchall() == wishes


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"perpspec": "bin-nope"}, 404),
        ({"perpspec": "bin-ohlcv"}, 409),
        ({"perpspec": "bin-ohlcv", "symbol": "B'C"}, 400),
        ({"perpspec": "bin-ohlcv", "symbol": "BTC", "from": "2026-01-01"}, 400),
        ({"perpspec": "bin-ohlcv", "symbol": "BTC", "from": "2026-01-02", "to": "2026-01-01"}, 400),
        ({"perpspec": "bin-ohlcv", "symbol": "BTC", "from": "2090-01-02", "to": "2091-01-01"}, 400),
        ({"perpspec": "bin-ohlcv", "symbols": "BTC"}, 400),
    ],
)
def test_fill_refuses_invalid_requests(client: FlaskClient, sql: Cursor, body: dict[str, str], status: int):
    post(client, "/control/fill", body, status)
    sql.execute("SELECT count(*) FROM perp_coverage")
    assert sql.fetchone() == (0,)
    assert history(sql) == []


def list_contracts(sql: Cursor, code: str, *symbols: str) -> None:
    for symbol in symbols:
        sql.execute(
            "INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms) VALUES ('e', %s, %s, %s, 1)",
            (code, f"{symbol}USDT", symbol),
        )


def test_fill_refuses_a_coin_without_a_contract(client: FlaskClient, sql: Cursor):
    """It would be wanted, and missing, for ever."""
    list_contracts(sql, "bin", "BTC", "ETH")
    body = {"perpspec": "bin-ohlcv", "from": str(day(4)), "to": str(day(6))}
    words = post(client, "/control/fill", body | {"symbol": "BTC,BTTC"}, 400)
    assert words.startswith("unknown symbol BTTC: close are BTC; valid are the 2 symbols of binance")
    assert "unknown symbol BTTC" in post(client, "/control/retry", {"perpspec": "bin-ohlcv", "symbol": "BTTC"}, 400)
    sql.execute("SELECT count(*) FROM perp_coverage")
    assert sql.fetchone() == (0,)
    assert history(sql) == []
    assert "enqueued now" in post(client, "/control/fill", body | {"symbol": "ETH"})


def test_fill_and_retry_refuse_what_nobody_fetches(
    client: FlaskClient, sql: Cursor, settings: Settings, make_app: MakeApp
):
    """What is left out of FADEMOE_EXCHANGES, computed, or of an exchange whose package is gone."""
    sql.execute(
        "INSERT INTO perpspec_schema (perpspec_name, exchange, metric, fields)"
        " VALUES ('old-ohlcv', 'old', 'ohlcv', '[]')"
    )
    add_error = "INSERT INTO perp_errors (unit, class, fingerprint, message) VALUES (%s, 'Refused', %s, 'm')"
    sql.execute(add_error, ("backfill old-ohlcv BTC", "gone"))
    sql.execute(add_error, ("backfill old-ohlcv BTC", "some"))
    sql.execute(add_error, ("backfill bin-ohlcv BTC", "some"))
    part = make_app(replace(settings, exchanges=("binance",))).test_client()
    assert "FADEMOE_EXCHANGES leaves bybit out" in part.get("/api/fill/byb-ohlcv").get_json()["reason"]
    for path in ("/control/fill", "/control/retry"):
        words = post(part, path, {"perpspec": "byb-ohlcv", "symbol": "BTC"}, 409)
        assert words == "FADEMOE_EXCHANGES leaves bybit out, so byb-ohlcv is not fetched"
        assert "is computed from" in post(client, path, {"perpspec": "x-oi", "symbol": "BTC"}, 400)
        assert "unknown perpspec 'old-ohlcv'" in post(client, path, {"perpspec": "old-ohlcv", "symbol": "BTC"}, 409)
    assert "unknown perpspec" in post(client, "/control/retry", {"error": "gone"}, 409)
    assert history(sql) == []
    assert "filling bin-ohlcv BTC" in post(client, "/control/retry", {"error": "some"})


def test_preview_counts_windows_requests_and_minutes(client: FlaskClient, sql: Cursor):
    cover(sql, "bin-ohlcv", "BTC", "0-30", "0-10")
    text = client.get("/coverage/fill?perpspec=bin-ohlcv").text
    facts = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", text))
    assert facts["Windows"] in ("2", "3")
    assert facts["Rows, at most"] == "28\u2009800"
    assert int(facts["Requests, at most"]) > 15
    assert "Nothing is missing" in client.get("/coverage/fill?perpspec=byb-ohlcv").text
    one = client.get(f"/coverage/fill?perpspec=bin-ohlcv&symbol=BTC&from={day(5)}&to={day(11)}").text
    assert "1\u2009440" in one
    plan = client.get(f"/api/fill/bin-ohlcv?symbol=BTC&from={day(5)}&to={day(11)}").get_json()
    assert (plan["series"], plan["windows"], plan["rows"], plan["reason"]) == (1, 1, 1440, None)
    assert client.get(f"/api/fill/bin-ohlcv?from={day(5)}").status_code == 400


def test_failed_jobs_are_retried_one_by_one_by_group_and_all(client: FlaskClient, redis: Redis, sql: Cursor):
    fail(redis, "live", "a", "b", "c")
    queue = Queue("live", connection=redis, serializer=JSONSerializer)
    [group] = client.get("/api/queues").get_json()["failed"]
    assert "1 of 1" in post(client, "/control/retry", {"queue": "live", "job": "b"})
    assert queue.get_job_ids() == ["b"]
    assert "2 of 2" in post(client, "/control/retry", {"queue": "live", "group": group["fingerprint"]})
    assert sorted(queue.get_job_ids()) == ["a", "b", "c"]
    post(client, "/control/retry", {"queue": "live"}, 409)
    post(client, "/control/retry", {"queue": "elsewhere"}, 400)
    assert [unit for unit, _ in history(sql)] == ["web retry", "web retry"]


def test_failed_windows_of_a_series_are_retried(client: FlaskClient, redis: Redis, sql: Cursor):
    fail(redis, "binance", "bf-bin-ohlcv_BTC_1_2", "bf-bin-ohlcv_BTC_2_3", "bf-bin-ohlcv_ETH_1_2")
    series = {"perpspec": "bin-ohlcv", "symbol": "BTC"}
    assert "2 of 2" in post(client, "/control/retry", series)
    requested = Queue("binance-requested", connection=redis, serializer=JSONSerializer)
    assert sorted(requested.get_job_ids()) == ["bf-bin-ohlcv_BTC_1_2", "bf-bin-ohlcv_BTC_2_3"]
    queue = Queue("binance", connection=redis, serializer=JSONSerializer)
    assert queue.failed_job_registry.get_job_ids() == ["bf-bin-ohlcv_ETH_1_2"]
    assert "enqueued now" in post(client, "/control/retry", series)
    post(client, "/control/retry", {"perpspec": "nope", "symbol": "BTC"}, 404)
    assert [unit for unit, _ in history(sql)] == ["web retry", "web fill"]


def test_all_failed_jobs_are_retried_also_those_that_the_page_does_not_group(
    client: FlaskClient, redis: Redis, sql: Cursor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fademoe.web.model.failed_jobs.BATCH", 2)
    fail(redis, "live", *"abcdefg")
    [group] = group_failed(redis, ["live"], 3)
    assert group.count == 3
    jobs, error = find_group(redis, "live", group.fingerprint)
    assert (sorted(jobs), error) == (list("abcdefg"), group.error)
    assert "7 of 7" in post(client, "/control/retry", {"queue": "live"})


def test_every_series_affected_by_an_error_is_retried(client: FlaskClient, redis: Redis, sql: Cursor):
    fail(redis, "binance", "bf-bin-ohlcv_BTC_1_2", "bf-bin-ohlcv_ETH_2_3", "bf-bin-ohlcv_XRP_1_2")
    for unit in ("backfill bin-ohlcv BTC", "backfill bin-ohlcv ETH", "backfill bin-ohlcv ETH", "stream binance"):
        sql.execute(
            "INSERT INTO perp_errors (unit, class, fingerprint, message) VALUES (%s, 'Refused', 'f', 'm')", (unit,)
        )
    sql.execute("INSERT INTO perp_errors (unit, class, fingerprint, message) VALUES ('scheduler', 'X', 'g', 'm')")
    assert "2 of 2" in post(client, "/control/retry", {"error": "f"})
    queue = Queue("binance", connection=redis, serializer=JSONSerializer)
    assert queue.failed_job_registry.get_job_ids() == ["bf-bin-ohlcv_XRP_1_2"]
    assert "filling 2 series" in post(client, "/control/retry", {"error": "f"})
    post(client, "/control/retry", {"error": "g"}, 409)
    post(client, "/control/retry", {"error": "nothing"}, 409)
    assert [unit for unit, _ in history(sql)] == ["web retry", "web fill"]


def test_alert_is_acknowledged_for_a_day(client: FlaskClient, redis: Redis, sql: Cursor):
    now = now_ms()
    redis.hset("budget:slots1:acme:ip:home", mapping={"closed_until": now + 60_000, "closed_why": "HTTP 418"})
    alerts = client.get("/api/alerts").get_json()["alerts"]
    [ban] = [alert for alert in alerts if alert["kind"] == "ban"]
    assert "HTTP 418" in ban["text"]
    post(client, "/control/acknowledge", {"alert": ban["id"]})
    alerts = client.get("/api/alerts").get_json()["alerts"]
    assert [alert["kind"] for alert in alerts if alert["acknowledged"]] == ["ban"]
    assert alerts[-1]["kind"] == "ban"
    assert 0 < redis.ttl(f"web:acknowledged:{ban['id']}") <= 86_400
    post(client, "/control/acknowledge", {"alert": "nothing"}, 409)
    assert len(history(sql)) == 1


def test_alerts_name_what_needs_attention(client: FlaskClient, redis: Redis, sql: Cursor):
    sql.execute(
        "INSERT INTO perp_status (unit, kind, state, interval_s, heartbeat)"
        " VALUES ('stream okx', 'stream', 'running', 5, now() - interval '1 hour')"
    )
    sql.execute(
        "INSERT INTO perp_errors (unit, class, fingerprint, message, exchange)"
        " VALUES ('stream okx', 'BadPayload', 'f', 'k is missing', 'acme')"
    )
    cover(sql, "bin-ohlcv", "BTC", "0-", "0-1")
    fail(redis, "live", "a")
    kinds = {alert["kind"] for alert in client.get("/api/alerts").get_json()["alerts"]}
    assert {"stream", "drift", "gap", "failed", "workers"} <= kinds
    page = client.get("/alerts").text
    assert "acme changed its answers" in page
    assert f"{len(kinds)}</b>" in page


def test_body_that_is_no_json_object_of_texts_is_a_400(client: FlaskClient, tmp_path: Path):
    for data in ("[]", "{", '"x"', '{"state": 1}', '{"state": "on\\u0000"}'):
        answer = client.post("/control/apis", data=data, content_type="application/json", headers=BEARER)
        assert answer.status_code == 400, data
