"""`fademoe up`, `status` and `down` on the real programs, with exchanges that cannot be reached."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fademoe.deploy.checks import find_free_port
from fademoe.deploy.demo import Demo
from fademoe.settings import Settings
from fademoe.store.connection import Database
from fademoe.supervisord.daemon import CHECKOUT
from fademoe.supervisord.processes import find_processes

NOWHERE = "http://127.0.0.1:9"  # discard: no program listens there


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    """The environment of a small deployment with its own home and checkout."""
    folder = Path(tempfile.mkdtemp(prefix="fademoe-"))
    folder.chmod(0o755)
    checkout = folder / "checkout"
    for part in ("conf", "fademoe"):
        shutil.copytree(CHECKOUT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    environ = dict(os.environ) | {
        "PYTHONPATH": str(checkout),
        "FADEMOE_HOME": str(folder / "var"),
        "FADEMOE_WEB_PORT": str(find_free_port(0)),
        "FADEMOE_MCP_PORT": str(find_free_port(0)),
        "FADEMOE_WORKERS": "1",
        "FADEMOE_ADMIN_TOKEN": "one",
        "FADEMOE_EXCHANGES": "binance",
        "FADEMOE_BINANCE_REST_URL": NOWHERE,
        "FADEMOE_BINANCE_WS_URL": NOWHERE.replace("http", "ws"),
    }
    yield environ
    fademoe(environ, "down")
    shutil.rmtree(folder)


def fademoe(environ: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "fademoe", *arguments]
    return subprocess.run(
        command, env=environ, cwd=environ["PYTHONPATH"], capture_output=True, text=True, timeout=120, check=False
    )


def listening(home: Path) -> set[int]:
    """Return the TCP ports on which processes of a home listen."""
    connections = []
    for process in find_processes(home):
        with contextlib.suppress(psutil.NoSuchProcess):  # a work horse that has just ended
            connections += psutil.Process(process.pid).net_connections("tcp")
    return {item.laddr.port for item in connections if item.status == psutil.CONN_LISTEN}


@pytest.mark.long
def test_a_deployment_starts_and_stops_completely_even_when_supervisord_was_killed(environ):
    home = Path(environ["FADEMOE_HOME"])
    port = int(environ["FADEMOE_WEB_PORT"])
    came_up = fademoe(environ, "up")
    assert came_up.returncode == 0, came_up.stdout + came_up.stderr
    assert f"FadeMoe is up: http://127.0.0.1:{port}/" in came_up.stdout
    assert "no connection to" in came_up.stdout
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
        assert answer.status == 200
    assert port in listening(home)
    assert listening(home) <= {port, int(environ["FADEMOE_MCP_PORT"])}

    table = fademoe(environ, "status")
    assert table.returncode == 0, table.stdout
    assert "all programs run" in table.stdout
    assert re.search(r"^  worker +running +for 0:", table.stdout, re.MULTILINE)
    assert len(table.stdout.splitlines()) <= 18  # one line for each program, the workers together

    database = Database(Settings(home=home).postgres_url)  # as if this version were newer than what runs
    forget = "DELETE FROM schema_migrations WHERE name = '0006_rates_of_coinalyze'"
    database.run(lambda cursor: cursor.execute(forget))
    database.close()
    again = fademoe(environ | {"FADEMOE_WORKERS": "2", "FADEMOE_ADMIN_TOKEN": "two"}, "up").stdout
    assert "what runs is of an older FadeMoe: make down on every host, then make up" in again
    assert "all programs are already running" in again
    for name in ("WORKERS", "ADMIN_TOKEN"):
        assert f"FADEMOE_{name} has changed: it takes effect after make down" in again

    supervisord, *_ = (process for process in find_processes(home) if process.role == "supervisord")
    supervisord.send(signal.SIGKILL)
    assert fademoe(environ, "status").returncode == 1
    went_down = fademoe(environ, "down")
    assert went_down.returncode == 0
    assert "left over: postgres" in went_down.stdout
    assert find_processes(home) == []
    assert list((home / "run").iterdir()) == []
    assert fademoe(environ, "down").stdout == "FadeMoe is not running\n"
    assert not (Path(environ["PYTHONPATH"]) / "var" / "supervisor.sock").is_symlink()


def test_a_demo_that_runs_keeps_its_ports(tmp_path):
    """Also when the usual one was taken at its start, and is free now."""
    (tmp_path / "demo" / "run").mkdir(parents=True)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = Settings(home=tmp_path, mcp_port=other.getsockname()[1])
        first = Demo(settings, {}).make_environ(is_running=False)
    assert first["FADEMOE_MCP_PORT"] != str(settings.mcp_port)
    assert Demo(settings, {}).make_environ(is_running=True) == first
    given = {"FADEMOE_MCP_PORT": "7"}
    assert Demo(settings, given).make_environ(is_running=True)["FADEMOE_MCP_PORT"] == "7"


@pytest.mark.long
def test_a_used_port_is_refused_by_the_name_of_its_setting(environ):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = fademoe(environ | {"FADEMOE_WEB_PORT": str(port)}, "up")
    assert refused.returncode == 2
    assert f"FADEMOE_WEB_PORT is {port}" in refused.stderr
    assert find_processes(Path(environ["FADEMOE_HOME"])) == []
