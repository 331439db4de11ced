"""The OpenAPI document is complete, and every answer conforms to it."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema_rs
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor
from redis import Redis
from werkzeug.serving import make_server

from tests.support.web import TOKEN, add_paper_account, add_run, cover, day, fail, report, store_candles

EXAMPLES = {"perpspec": "bin-ohlcv", "table": "perp_data", "name": "ohlcv", "id": "0123456789ab"}
QUERIES = {
    "/api/chart/{perpspec}": ["?symbol=BTC", f"?symbol=BTC&step=5m&from={day(0)}&to={day(1)}"],
    "/api/data/{perpspec}": ["", "?limit=2&ts=iso", "?limit=0"],
    "/metric/{name}": ["", "?limit=1&symbol=BTC"],
    "/api/coverage": ["", "?limit=1"],
    "/api/units": ["", "?limit=1"],
}


@pytest.fixture
def stored(sql: Cursor, redis: Redis, partitions: None) -> None:
    """Rows in every table and queue, so that no list of an answer is empty."""
    store_candles(sql, "BTC", range(5))
    store_candles(sql, "ETH", range(5))
    cover(sql, "bin-ohlcv", "BTC", "0-3", "0-1", "0-0.5")
    cover(sql, "bin-ohlcv", "ETH", "0-")
    report(sql, "stream binance", "running", silent_s=900)
    report(sql, "backfill bin-ohlcv BTC", "error", message="Refused")
    sql.execute("INSERT INTO perp_errors (unit, class, fingerprint, message) VALUES ('u', 'BadPayload', 'f', 'm')")
    sql.execute("INSERT INTO perp_status_history (unit, state) VALUES ('stream binance', 'running')")
    add_run(sql, EXAMPLES["id"])
    add_paper_account(sql, EXAMPLES["name"])
    redis.hset("budget:slots1:binance:ip:home", mapping={"used": 1, "limit": 10, "period_ms": 60_000})
    fail(redis, "live", "a")


def validator(document: dict, schema: dict) -> jsonschema_rs.Validator:
    """Return a validator of one schema of a document."""
    return jsonschema_rs.validator_for(schema | {"components": document["components"]})


def test_every_route_of_the_api_is_described(app: Flask, client: FlaskClient):
    described = set(client.get("/api/openapi.json").get_json()["paths"])
    routes = set()
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(("/api/", "/metric", "/health", "/control")):
            routes.add(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
    assert routes - described == {"/api/openapi.json", "/metrics"}
    assert described <= routes


def test_operations_keep_their_names(client: FlaskClient):
    """Generated clients call these."""
    paths = client.get("/api/openapi.json").get_json()["paths"]
    names = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
    assert names == {
        *("listPerpspecs", "listRows", "exportRows", "listPoints", "listMetrics", "listMetricRows", "showHealth"),
        *("showSummary", "listCoverage", "listCells", "showPlan", "listUnits", "showQueues", "showLimits"),
        *("listAlerts", "listTables", "showTable", "switchApis", "pauseWorkers", "fill", "retry", "acknowledge"),
        *("listUniverse", "listArchives", "compareExchanges", "showCertificate"),
        *("listBacktests", "showBacktest", "listLedger", "listEquity", "startBacktest", "cancelBacktest"),
        *("listRules", "listTransitions", "checkRule", "previewRule", "screen"),
        *("writeRule", "removeRule", "addSilence", "endSilence"),
        *("listAccounts", "showAccount", "listAccountLedger", "listAccountEquity", "listAccountReconciliations"),
        *("switchTraderOn", "switchTraderOff", "switchTrader", "resetTrader"),
        *("addTraderAccount", "removeTraderAccount"),
    }


def test_answers_conform_to_their_schemas(client: FlaskClient, stored: None):
    document = client.get("/api/openapi.json").get_json()
    for template, operations in document["paths"].items():
        if "get" not in operations or template == "/api/export/{perpspec}":
            continue
        for query in QUERIES.get(template, [""]):
            path = template.format(**EXAMPLES) + query
            answer = client.get(path)
            declared = operations["get"]["responses"][str(answer.status_code)]["content"]
            schema = declared[answer.mimetype]["schema"]
            assert [str(error) for error in validator(document, schema).iter_errors(answer.get_json())] == [], path


def test_problems_conform_to_their_schema(client: FlaskClient):
    document = client.get("/api/openapi.json").get_json()
    of_problems = validator(document, document["components"]["schemas"]["ProblemBody"])
    for path in ("/api/data/nope", "/api/data/bin-ohlcv?limit=x", "/api/none", "/metric/none", "/api/schema/none"):
        assert of_problems.is_valid(client.get(path).get_json()), path


def test_page_has_a_form_for_every_operation(client: FlaskClient):
    page = client.get("/api").text
    for template in client.get("/api/openapi.json").get_json()["paths"]:
        assert f"<code>{template}</code>" in page


@pytest.mark.long
def test_schemathesis_finds_no_answer_that_is_not_declared(app: Flask, stored: None, tmp_path: Path):
    """Hundreds of generated requests; opaque cursors and times out of range may be refused with a declared 400."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/openapi.json", "--url", address]
    command += ["--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "8", "--generation-deterministic"]
    command += ["--exclude-checks", "positive_data_acceptance"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.returncode == 0, done.stdout[-4000:]
