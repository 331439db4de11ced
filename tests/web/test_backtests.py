"""The backtester on the web: a run is started from the form, run by a worker, read as page, JSON and CSV, cancelled."""

import csv
import io
import re
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from fademoe.backtest.database import add_sweep
from fademoe.backtest.request import RunRequest, make_plan
from fademoe.backtest.sweep import SweepRequest
from fademoe.clock import HOUR_MS, MINUTE_MS, Window, now_ms, to_iso
from fademoe.queue.enqueue import enqueue_backtest
from fademoe.queue.ids import RESEARCH
from fademoe.runtime.job_context import use_services
from fademoe.runtime.services import Services
from fademoe.settings import Settings
from fademoe.signals import StopSignal
from fademoe.store.backtests import LEDGER_COLUMNS
from fademoe.store.connection import Database
from fademoe.web.current import NAME
from fademoe.web.model.queue_rates import QueueRates
from tests.support.markets import START, draw_market, store_market
from tests.support.web import BEARER, add_run

MINUTES = 400
END = START + MINUTES * MINUTE_MS
FORM = {
    "strategy": "sma_cross.py",
    "symbols": "A",
    "exchange": "binance",
    "since": to_iso(START),
    "until": to_iso(END),
    "params": "fast=5, slow=20",
}


def start(admin: FlaskClient, **changes: str) -> str:
    page = admin.get("/backtester").get_data(as_text=True)
    token = page.partition('name="csrf" value="')[2].partition('"')[0]
    answer = admin.post("/control/backtest", data=FORM | {"csrf": token} | changes)
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return parse_qs(urlsplit(answer.location).query)["id"][0]


def test_the_time_left_is_told_by_the_progress_that_was_seen(app: Flask, client: FlaskClient, sql: Cursor):
    """Not by the time since the run was made: a run may have waited an hour in the queue."""
    add_run(sql, "abc")
    sql.execute("UPDATE perp_backtests SET state = 'running', progress = 0.5, made_at = now() - interval '1 hour'")
    page = "/backtester/run?id=abc"
    assert "50 %" in client.get(page).text and " s left" not in client.get(page).text
    seen = QueueRates()
    seen.add(now_ms() - 30_000, [("abc", 900_000)])
    app.extensions[NAME] = replace(app.extensions[NAME], run_rates=seen)
    assert re.search(r"about 3[678] s left", client.get(page).text)


def work(settings: Settings, redis: Redis) -> None:
    """Do what is queued, in this process."""
    services = Services(settings, StopSignal())
    use_services(services)
    queue = Queue(RESEARCH, connection=redis, serializer=JSONSerializer)
    SimpleWorker([queue], connection=redis, serializer=JSONSerializer).work(burst=True, logging_level="CRITICAL")
    services.close()


def test_a_run_from_the_form_to_its_report(
    admin: FlaskClient, client: FlaskClient, settings: Settings, redis: Redis, database_url: str
):
    store_market(database_url, draw_market(["A"], MINUTES), Window(START, END), {("bin", "A"): None})
    run_id = start(admin)
    assert "queued" in client.get(f"/backtester/run?id={run_id}").get_data(as_text=True)
    work(settings, redis)
    reported = client.get(f"/api/backtests/{run_id}").get_json()
    assert reported["state"] == "done", reported["message"]
    assert reported["certified"] is True
    assert reported["certificate"]["params"] == {"fast": 5, "slow": 20}
    page = client.get(f"/backtester/run?id={run_id}").get_data(as_text=True)
    assert "Certified" in page
    assert "/charts?symbol=A&amp;exchanges=binance&amp;step=1m&amp;from=" in page
    assert run_id in client.get("/backtester").get_data(as_text=True)
    assert [run["id"] for run in client.get("/api/backtests").get_json()["runs"]] == [run_id]

    rows, cursor = [], ""
    while True:
        part = client.get(f"/api/backtests/{run_id}/ledger?limit=7&cursor={cursor}").get_json()
        rows += part["rows"]
        cursor = part["next"]
        if cursor is None:
            break
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 7
    text = client.get(f"/api/backtests/{run_id}/ledger?format=csv").get_data(as_text=True)
    lines = list(csv.DictReader(io.StringIO(text)))
    assert list(lines[0]) == list(LEDGER_COLUMNS)
    assert [line["cash"] for line in lines] == [row["cash"] for row in rows]
    equity = client.get(f"/api/backtests/{run_id}/equity?limit=10000").get_json()["rows"]
    assert [row["ts"] for row in equity] == list(range(START, END, MINUTE_MS))
    assert equity[-1]["equity"] == reported["report"]["equity"]
    compared = client.get(f"/backtester/compare?ids={run_id}").get_data(as_text=True)
    assert "Deepest drawdown" in compared


def test_a_failed_and_a_cancelled_run_say_so(
    admin: FlaskClient, client: FlaskClient, settings: Settings, redis: Redis, database_url: str
):
    failed, cancelled = start(admin, symbols="NOPE"), start(admin)
    answer = client.post("/control/backtest/cancel", json={"id": cancelled}, headers=BEARER)
    assert answer.get_json() == {"done": "the run is cancelled", "id": cancelled}
    work(settings, redis)
    assert "no contract of NOPE" in client.get(f"/backtester/run?id={failed}").get_data(as_text=True)
    assert client.get(f"/api/backtests/{cancelled}").get_json()["state"] == "cancelled"


def test_rules_are_run_from_their_text(client: FlaskClient, settings: Settings, redis: Redis, database_url: str):
    store_market(database_url, draw_market(["A"], 60), Window(START, END), {("bin", "A"): None})
    body = FORM | {"rules": 'long = "c > 0"', "params": "size=0.5", "until": to_iso(START + 60 * MINUTE_MS)}
    del body["strategy"]
    answer = client.post("/control/backtest", json=body, headers=BEARER)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    work(settings, redis)
    reported = client.get(f"/api/backtests/{answer.get_json()['id']}").get_json()
    assert (reported["state"], reported["strategy"], reported["report"]["rows"]) == ("done", "rules.toml", {"fill": 1})
    refused = client.post("/control/backtest", json=body | {"rules": 'long = "clsoe > 0"'}, headers=BEARER)
    assert refused.status_code == 400
    assert "close" in refused.get_data(as_text=True)


def test_a_sweep_is_run_by_a_worker(client: FlaskClient, settings: Settings, redis: Redis, database_url: str):
    store_market(database_url, draw_market(["A"], MINUTES), Window(START, END), {("bin", "A"): None})
    text = 'long = "c > sma(c, {n}m)"\nsize = 0.3\n[params]\nn = 5\n'
    request = RunRequest(name="up.toml", text=text, exchange="binance", symbols="A", since=START, until=END)
    database = Database(database_url)
    with database.open_transaction() as cursor:
        plan = make_plan(cursor, request)
    asked = [
        SweepRequest(grid=("n=5,20,60",), best=1),
        SweepRequest(grid=("n=5,20",), folds_ms=(2 * HOUR_MS, HOUR_MS)),
        SweepRequest(grid=("n=5,20",)),
    ]
    ids = [database.run(lambda cursor, one=one: add_sweep(cursor, plan, one)) for one in asked]
    for run_id in ids:
        enqueue_backtest(redis, run_id, "up")
    client.post("/control/backtest/cancel", json={"id": ids[2]}, headers=BEARER)
    work(settings, redis)
    database.close()
    swept, walked, cancelled = (client.get(f"/api/backtests/{run_id}").get_json() for run_id in ids)
    assert (swept["state"], swept["report"]["trials"], swept["report"]["best"]["agrees"]) == ("done", 3, True)
    assert (walked["state"], len(walked["report"]["folds"])) == ("done", 4)
    assert cancelled["state"] == "cancelled"
    assert "3 trials, 1 of them run exactly" in client.get(f"/backtester/run?id={ids[0]}").get_data(as_text=True)


def test_a_run_needs_the_token_and_right_arguments(client: FlaskClient):
    assert client.post("/control/backtest", json=FORM).status_code in (401, 403)
    for changes, word in (
        ({"strategy": "x.py"}, "sma_cross.py"),
        ({"exchange": "mtgox"}, "valid are binance"),
        ({"capital": "-1"}, "valid are numbers above 0"),
        ({"since": to_iso(END)}, "not before"),
    ):
        answer = client.post("/control/backtest", json=FORM | changes, headers=BEARER)
        assert answer.status_code == 400
        assert word in answer.get_data(as_text=True)
    assert client.get("/api/backtests/nope").status_code == 404
