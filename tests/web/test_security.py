"""Authorization, secrets, and the security headers."""

import re
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor
from redis import Redis

from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.settings import Settings
from fademoe.store.connection import Database
from fademoe.store.migrate import migrate
from fademoe.store.read.schema import TABLES
from fademoe.tokens import load_admin_token
from tests.support.web import BEARER, TOKEN, MakeApp

PAGES = (
    *("/", "/data", "/coverage", "/charts", "/queues", "/limits", "/archives", "/schema", "/alerts", "/api", "/login"),
    "/rq/",
)
CHANGES = (
    ("/control/apis", {"state": "off"}),
    ("/control/workers", {"state": "pause"}),
    ("/control/fill", {"perpspec": "bin-ohlcv", "symbol": "BTC"}),
    ("/control/retry", {"queue": "live"}),
    ("/control/acknowledge", {"alert": "x"}),
)


@pytest.mark.parametrize("path", [*PAGES, "/health", "/api/perpspecs", "/static/style.css", "/nothing"])
def test_every_answer_has_the_security_headers(client: FlaskClient, path: str):
    with client.get(path) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "unsafe-inline" not in policy.replace("style-src 'self' 'unsafe-inline'", "")
    assert path.startswith("/rq") or "unsafe-eval" not in policy


def test_scripts_of_rq_dashboard_need_the_nonce_of_their_answer(client: FlaskClient):
    """A script in a job's text has no nonce."""
    answers = [client.get("/rq/0/view/jobs") for _ in range(2)]
    nonces = [re.search(r"'nonce-([^']+)'", answer.headers["Content-Security-Policy"])[1] for answer in answers]
    assert nonces[0] != nonces[1]
    for answer, nonce in zip(answers, nonces, strict=True):
        assert answer.text.count("<script") == answer.text.count(f'<script nonce="{nonce}"') > 5


@pytest.mark.parametrize("path", [path for path in PAGES if not path.startswith("/rq")])
def test_pages_have_no_inline_script_and_no_foreign_content(client: FlaskClient, path: str):
    text = client.get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", text)
    loaded = re.sub(r"<a href=\"https://[^\"]*\" rel=\"noreferrer\">", "", text)  # a link loads nothing by itself
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", loaded)


@pytest.mark.parametrize(("path", "body"), CHANGES)
def test_changes_need_the_token_and_a_browser_the_csrf_token_too(
    client: FlaskClient, admin: FlaskClient, redis: Redis, path: str, body: dict[str, str]
):
    assert client.post(path, data=body).status_code == 401
    assert client.post(path, data=body, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get(path).status_code == 405
    assert admin.post(path, data=body).status_code == 403
    refused = admin.post(path, data=body | {"csrf": "wrong"})
    assert (refused.status_code, "CSRF token expired, reload the page" in refused.text) == (403, True)
    assert not redis.exists("rq:suspended")


def test_wrong_tokens_are_refused_and_limited(client: FlaskClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fademoe.web.http.session._wrong", [])
    for _ in range(10):
        assert client.post("/login", data={"token": "guess"}).status_code == 401
    answer = client.post("/login", data={"token": TOKEN})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")


def test_cookie_is_strict_and_hidden_from_scripts(client: FlaskClient):
    cookie = client.post("/login", data={"token": TOKEN}).headers["Set-Cookie"]
    assert "SameSite=Strict" in cookie
    assert "HttpOnly" in cookie
    assert TOKEN not in cookie


@pytest.mark.parametrize(
    "goal", ["//evil.test", "https://evil.test", "/\\evil.test", "javascript:alert(1)", "/\n/evil"]
)
def test_sign_in_redirects_to_no_other_site(client: FlaskClient, goal: str):
    answer = client.post("/login", data={"token": TOKEN, "next": goal})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")


def test_signing_out_ends_the_session(admin: FlaskClient):
    csrf = re.search(r'name="csrf" value="([^"]+)"', admin.get("/queues").text)[1]
    assert admin.post("/logout", data={"csrf": csrf}).status_code == 303
    assert "Sign in" in admin.get("/queues").text


def test_reads_need_the_token_when_the_host_is_not_loopback(settings: Settings, make_app: MakeApp):
    visitor = make_app(replace(settings, web_host="0.0.0.0")).test_client()
    for path in (*PAGES, "/api/perpspecs", "/metrics", "/part/status"):
        if path != "/login":
            assert visitor.get(path).status_code == 401, path
    assert visitor.get("/api/perpspecs").mimetype == "application/problem+json"
    assert "Database" not in visitor.get("/").text
    assert visitor.get("/login").status_code == 200
    assert visitor.get("/health").status_code == 200
    assert visitor.get("/api/perpspecs", headers=BEARER).status_code == 200


def test_reads_under_a_foreign_host_name_need_the_token(client: FlaskClient):
    """A foreign page whose name resolves to this server (DNS rebinding) must not read."""
    assert client.get("/api/perpspecs", headers={"Host": "evil.test"}).status_code == 401
    for name in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert client.get("/api/perpspecs", headers={"Host": name}).status_code == 200


def test_no_secret_is_in_any_page_or_log(
    settings: Settings, make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG", "fademoe")
    secret = "s3cr3t-word"
    with_secrets = replace(
        settings,
        database_url=f"postgresql://user:{secret}@127.0.0.1:1/db",
        redis_url=f"redis://:{secret}@127.0.0.1:1/0",
        keys={"coinalyze": secret},
    )
    visitor = make_app(with_secrets).test_client()
    for path in (*PAGES, "/health", "/api/system-summary", "/api/perpspecs", "/metrics", "/api/queues"):
        text = visitor.get(path).text
        assert secret not in text, path
        assert TOKEN not in text, path
    visitor.post("/control/workers", data={"state": "pause"}, headers=BEARER)
    visitor.post("/login", data={"token": f"{TOKEN} "})
    assert secret not in caplog.text
    assert TOKEN not in caplog.text


def test_stored_text_is_shown_as_text(client: FlaskClient, sql: Cursor):
    evil = "<script>alert(1)</script>\"'><img src=x>"
    sql.execute(
        "INSERT INTO perp_status (unit, kind, state, message) VALUES (%s, 'backfill', 'error', %s)", (evil, evil)
    )
    sql.execute(
        "INSERT INTO perp_errors (unit, class, fingerprint, message, request, excerpt)"
        " VALUES (%s, %s, 'f', %s, %s, %s)",
        (evil, evil, evil, evil, evil),
    )
    sql.execute(
        "INSERT INTO perp_coverage (source, symbol, wanted)"
        " VALUES ('bin-ohlcv', %s, '{[1767225600000,1767312000000)}')",
        (evil,),
    )
    for path in ("/", "/data?perpspec=bin-ohlcv", "/coverage?perpspec=bin-ohlcv", "/coverage?view=list"):
        text = client.get(path).text
        assert "<script>alert" not in text, path
        assert "<img" not in text, path


def test_the_database_session_can_only_read(app, sql: Cursor):
    reader = app.extensions["fademoe"].reader
    with pytest.raises(Exception, match="read-only"), reader.read() as cursor:
        cursor.execute("DELETE FROM perp_coverage")
    with reader.read() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("5s",)


def test_the_web_reads_as_a_role_that_can_change_nothing(client: FlaskClient, app, sql: Cursor):
    """Even in a session that is not read-only: no table accepts a change of this role."""
    with app.extensions["fademoe"].reader.read() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == ("fademoe_read",)
        cursor.execute("SET default_transaction_read_only = off")
        for table in TABLES:
            cursor.execute(f"SELECT * FROM {table} LIMIT 1")
            for change in (f"DELETE FROM {table}", f"TRUNCATE {table}", f"DROP TABLE {table}"):
                with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.WrongObjectType)):
                    cursor.execute(change)  # of the wrong type: perp_metadata is a view
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("CREATE TABLE mine (a int)")
    assert client.get("/api/perpspecs").status_code == 200


def test_migrate_grants_reads_of_later_tables(client: FlaskClient, database_url: str, sql: Cursor):
    sql.execute("REVOKE SELECT ON perpspec_schema FROM fademoe_read")
    answer = client.get("/api/perpspecs")
    assert (answer.status_code, "does not let the web read" in answer.get_json()["detail"]) == (503, True)
    database = Database(database_url)
    assert migrate(database, []) == []
    database.close()
    assert client.get("/api/perpspecs").status_code == 200


def test_a_user_without_the_right_to_create_roles_reads_without_the_role(
    postgres_url: str, settings: Settings, make_app: MakeApp
):
    """A user with rights on one database alone: migrations run, the web reads, and cannot write."""
    connection = psycopg2.connect(postgres_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE lodger LOGIN")
        cursor.execute("CREATE DATABASE lodging OWNER lodger")
    url = postgres_url.replace("//fademoe@/fademoe?", "//lodger@/lodging?")
    database = Database(url)
    try:
        migrate(database, list(registry.load_exchanges().values()))
        app = make_app(replace(settings, database_url=url))
        assert app.test_client().get("/api/perpspecs").get_json()["perpspecs"] != []
        reader = app.extensions["fademoe"].reader
        with reader.read() as cursor:
            cursor.execute("SELECT current_user")
            assert cursor.fetchone() == ("lodger",)
            with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
                cursor.execute("DELETE FROM perp_coverage")
        reader.close()
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE guest LOGIN")
        with database.open_transaction() as cursor:
            cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO guest")
        guest = Database(url.replace("//lodger@", "//guest@"))
        with pytest.raises(ConfigError, match="logs in as guest, and perp_data belongs to lodger"):
            migrate(guest, [])  # it could write, and would wait for ever in a month that has no partition yet
        guest.close()
    finally:
        database.close()
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE lodging WITH (FORCE)")
            cursor.execute("DROP ROLE lodger")
            cursor.execute("DROP ROLE IF EXISTS guest")
        connection.close()


def test_admin_token_is_created_once_and_readable_by_its_owner_alone(tmp_path: Path):
    settings = Settings(home=tmp_path / "home")
    made = load_admin_token(None, settings.home)
    assert len(made) >= 32
    assert load_admin_token(None, settings.home) == made
    assert (tmp_path / "home" / "admin_token").stat().st_mode & 0o777 == 0o600
    assert load_admin_token("given", settings.home) == "given"
    (tmp_path / "home" / "admin_token").write_text("")
    with pytest.raises(ConfigError, match="empty"):
        load_admin_token(None, settings.home)


def test_rq_dashboard_is_read_only(admin: FlaskClient, client: FlaskClient, redis: Redis):
    for path in ("/rq/requeue/live", "/rq/queue/live/failed/empty", "/rq/job/x/delete", "/rq/job/x/requeue"):
        for visitor in (client, admin):
            assert visitor.post(path).status_code in (401, 403), path
        assert client.get(path).status_code in (403, 405), path
        assert client.post(path, headers=BEARER).status_code == 403, path
