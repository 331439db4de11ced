"""PostgreSQL or Redis unavailable, nothing stored, no tables: every page renders and names the reason."""

from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from fademoe.settings import Settings
from tests.support.web import BEARER, MakeApp

PAGES = (
    "/",
    "/data",
    "/coverage",
    "/charts",
    "/compare",
    "/queues",
    "/limits",
    "/archives",
    "/schema",
    "/alerts",
    "/api",
    "/part/status",
)
CELL = "/coverage/cell?perpspec=bin-ohlcv&symbol=BTC"
STORED = ("/api/perpspecs", "/api/data/bin-ohlcv", "/api/coverage", "/api/schema", "/api/units", "/metric")
QUEUED = ("/api/queues", "/api/limits")


@pytest.fixture
def nowhere(tmp_path: Path) -> str:
    """An address without PostgreSQL."""
    return f"postgresql://fademoe@/fademoe?host={tmp_path}"


def test_pages_of_an_empty_database_name_the_reason(client: FlaskClient):
    for path in (
        *PAGES,
        CELL,
        "/coverage/fill?perpspec=bin-ohlcv",
        "/coverage?view=list",
        "/data?symbol=BTC&order=asc",
    ):
        assert client.get(path).status_code == 200, path
    assert "No rows here" in client.get("/data").text
    assert "No series of bin-ohlcv is wanted" in client.get("/coverage?perpspec=bin-ohlcv").text
    assert "No unit has reported yet" in client.get("/").text
    for path in (*STORED, *QUEUED, "/api/system-summary", "/api/alerts", "/metrics"):
        assert client.get(path).status_code == 200, path


def test_postgresql_unavailable(settings: Settings, make_app: MakeApp, nowhere: str):
    client = make_app(replace(settings, database_url=nowhere)).test_client()
    for path in (*PAGES, CELL, "/coverage/fill?perpspec=bin-ohlcv"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "unavailable" in answer.text, path
    health = client.get("/health")
    assert health.status_code == 503
    assert health.get_json() | {"database": ""} == {
        "live": True,
        "ready": False,
        "database": "",
        "redis": "ok",
        "simulated": False,
    }
    assert "PostgreSQL" in health.get_json()["database"]
    for path in STORED:
        answer = client.get(path)
        assert (answer.status_code, answer.mimetype) == (503, "application/problem+json"), path
        assert answer.headers["Retry-After"]
    assert client.get("/api/system-summary").get_json()["streams"] is None
    assert 'fademoe_up{server="postgresql"} 0.0' in client.get("/metrics").text
    assert client.get("/api/queues").status_code == 200


def test_redis_unavailable(settings: Settings, make_app: MakeApp, tmp_path: Path):
    client = make_app(replace(settings, redis_url=f"unix://{tmp_path}/none.sock")).test_client()
    for path in (*PAGES, CELL):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "unavailable" in answer.text, path
    assert client.get("/rq/").status_code == 503
    assert client.get("/health").get_json()["ready"] is False
    for path in QUEUED:
        assert client.get(path).status_code == 503, path
    assert client.get("/api/data/bin-ohlcv").status_code == 200
    assert client.get("/api/system-summary").get_json()["queues"] is None
    assert client.post("/control/workers", data={"state": "pause"}, headers=BEARER).status_code == 503


def test_supervisord_unavailable(client: FlaskClient):
    """The streams cannot be switched, and every page shows it beside the switch."""
    for path in (*(page for page in PAGES if page != "/part/status"), CELL, "/login"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "supervisord unavailable" in answer.text, path
        assert "ctl.sock does not answer" in answer.text, path


def test_both_unavailable(settings: Settings, make_app: MakeApp, nowhere: str, tmp_path: Path):
    settings = replace(settings, database_url=nowhere, redis_url=f"unix://{tmp_path}/none.sock")
    client = make_app(settings).test_client()
    for path in (*PAGES, CELL):
        assert client.get(path).status_code == 200, path


def test_database_without_our_tables(settings: Settings, make_app: MakeApp, database_url: str, sql: Cursor):
    sql.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    client = make_app(settings).test_client()
    for path in (*PAGES, CELL):
        answer = client.get(path)
        assert answer.status_code == 200, path
    assert "tables are not in it yet" in client.get("/data").text
    assert client.get("/health").status_code == 503
    assert client.get("/api/perpspecs").status_code == 503


def test_reader_recovers_after_its_connections_were_cut(client: FlaskClient, database_url: str):
    """After a restart of PostgreSQL idle connections are dead; the next request succeeds all the same."""
    for _ in range(3):
        assert client.get("/api/perpspecs").status_code == 200
    killer = psycopg2.connect(database_url)
    killer.autocommit = True
    with killer.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'fademoe web'"
        )
        assert cursor.fetchone()[0] >= 1
    killer.close()
    assert client.get("/api/perpspecs").status_code == 200


def test_a_read_that_takes_too_long_is_cancelled(
    client: FlaskClient, app, monkeypatch: pytest.MonkeyPatch, sql: Cursor
):
    """A statement that exceeds its time limit is a 503 with advice."""
    sql.execute("DROP TABLE metric_catalog CASCADE")
    sql.execute(
        "CREATE VIEW metric_catalog AS SELECT 'x' AS metric, 'x' AS title, '1m' AS interval, '[]'::jsonb AS columns"
        " FROM pg_sleep(60)"
    )
    sql.execute("GRANT SELECT ON metric_catalog TO fademoe_read")
    monkeypatch.setattr("fademoe.store.read.pool.STATEMENT_TIMEOUT_S", 1)
    answer = client.get("/api/perpspecs")
    assert answer.status_code == 503
    assert "shorter range" in answer.get_json()["detail"]


def test_every_page_marks_simulated_data(settings: Settings, make_app: MakeApp):
    simulated = replace(settings, rest_urls={"binance": "http://127.0.0.1:9"})
    client = make_app(simulated).test_client()
    for path in (*(page for page in PAGES if page != "/part/status"), CELL, "/login", "/rq/", "/nothing"):
        assert "SIMULATED DATA" in client.get(path).text, path
    assert client.get("/health").get_json()["simulated"] is True
    assert "SIMULATED" not in make_app(settings).test_client().get("/").text
