"""The web as a process: it binds its port or fails with one line, and ends on SIGTERM."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg2.extensions import cursor as Cursor

from fademoe.deploy.checks import Web
from fademoe.deploy.demo import Demo
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.settings import Settings
from fademoe.web.serve import run_web
from tests.support.web import store_candles

CODE = "import sys; from fademoe.__main__ import main; sys.exit(main(['web']))"


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(environ: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CODE]
    given = {name: value for name, value in os.environ.items() if not name.startswith("FADEMOE_")}
    return subprocess.Popen(command, env=given | environ, stderr=subprocess.PIPE, text=True)


def fetch(address: str, wait_s: float = 60) -> tuple[int, str]:
    """Return status and text of a page, waiting for the server to begin."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_it_serves_until_sigterm(port: int, tmp_path: Path, database_url: str, redis_url: str):
    environ = {
        "FADEMOE_HOME": str(tmp_path / "home"),
        "FADEMOE_WEB_PORT": str(port),
        "FADEMOE_DATABASE_URL": database_url,
        "FADEMOE_REDIS_URL": redis_url,
    }
    process = start(environ)
    try:
        status, text = fetch(f"http://127.0.0.1:{port}/health")
        assert (status, '"ready":true' in text) == (200, True)
        assert "<title>Status" in fetch(f"http://127.0.0.1:{port}/")[1]
        longest = quote(",".join(f"COIN{number:03}" for number in range(500)), safe="")
        assert fetch(f"http://127.0.0.1:{port}/api/data/bin-ohlcv?symbol={longest}")[0] == 200
        second = start(environ)
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 2
        [line] = errors.strip().splitlines()
        assert "FADEMOE_WEB_PORT" in line
        process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, time.monotonic() - begin < 8) == (0, True)
        assert "Traceback" not in errors
        assert (tmp_path / "home" / "admin_token").stat().st_mode & 0o777 == 0o600
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.long
def test_the_demo_sees_its_rows_behind_any_address(
    port: int, tmp_path: Path, database_url: str, redis_url: str, sql: Cursor, partitions: None
):
    """Behind an address that is not loopback reads need the token; what is not streamed has no live minute."""
    store_candles(sql, "BTC", range(5), "c-bin-ohlcv")
    environ = {
        "FADEMOE_HOME": str(tmp_path),
        "FADEMOE_WEB_HOST": "0.0.0.0",
        "FADEMOE_WEB_PORT": str(port),
        "FADEMOE_DATABASE_URL": database_url,
        "FADEMOE_REDIS_URL": redis_url,
        "FADEMOE_EXCHANGES": "coinalyze",
        "FADEMOE_COINALYZE_KEY": "demo",
    }
    process = start(environ)
    try:
        assert fetch(f"http://127.0.0.1:{port}/health")[0] == 200
        settings = Settings.read_env(environ, registry.list_names())
        said: list[str] = []
        assert Demo(settings, environ).wait_for_data(said.append), said
        rows, reason = Web(replace(settings, admin_token="another")).read_rows("c-bin-ohlcv", symbol="BTC")
        assert rows == [] and reason.startswith("/api/data/c-bin-ohlcv answers 401: reads need the admin token")
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.long
def test_it_answers_while_both_servers_are_unavailable(port: int, tmp_path: Path):
    process = start({"FADEMOE_HOME": str(tmp_path), "FADEMOE_WEB_PORT": str(port)})
    try:
        status, text = fetch(f"http://127.0.0.1:{port}/health")
        assert (status, "PostgreSQL" in text, "Redis" in text) == (503, True, True)
        assert "unavailable" in fetch(f"http://127.0.0.1:{port}/data")[1]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_port_in_use_and_bad_host_are_named(tmp_path: Path, port: int):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(ConfigError, match=rf"port {port} is not free .*FADEMOE_WEB_PORT"):
            run_web(Settings(home=tmp_path, web_port=port))
    with pytest.raises(ConfigError, match="FADEMOE_WEB_HOST"):
        run_web(Settings(home=tmp_path, web_host="203.0.113.9", web_port=port))
