"""kill -9 of supervisord itself, then the demo again: nothing of the first one is left, nothing is missing."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fademoe.clock import DAY_MS, MINUTE_MS, now_ms
from fademoe.deploy.checks import find_free_port
from fademoe.settings import Settings
from fademoe.supervisord.daemon import CHECKOUT
from fademoe.supervisord.processes import find_processes
from tests.support.chaos import EXCHANGES, minute_of
from tests.support.clocks import FAST, fast_clock, until
from tests.support.simulator import Simulator
from tests.support.system import System

SYMBOLS = ("BTC", "PEPE")


class Demo(System):
    """`fademoe demo`, as make calls it, from a checkout of its own."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        for part in ("conf", "fademoe"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT / part, self.checkout / part, ignore=ignored)
        self.home = folder / "var" / "demo"
        self.environment = {
            "PYTHONPATH": str(self.checkout),
            "FADEMOE_HOME": str(folder / "var"),
            "FADEMOE_SYMBOLS": ",".join(SYMBOLS),
            "FADEMOE_EXCHANGES": ",".join(EXCHANGES),
            "FADEMOE_WORKERS": "2",
            "FADEMOE_WEB_PORT": str(find_free_port(0)),
        }
        self.database_url = Settings(home=self.home).postgres_url
        self.simulator = Simulator()
        self.programs = []

    def fademoe(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command from the checkout."""
        return subprocess.run(
            [sys.executable, "-m", "fademoe", command],
            env={**os.environ, **self.environment},
            cwd=self.checkout,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def up(self) -> set[int]:
        """Call the demo and return its processes."""
        done = self.fademoe("demo")
        assert done.returncode == 0, done.stdout + done.stderr
        self.simulator.port = int((self.home / "run" / "simulator.port").read_text())
        self.simulator.url = f"http://127.0.0.1:{self.simulator.port}"
        return {process.pid for process in find_processes(self.home)}


@pytest.fixture
def demo():
    """A demo that is taken down afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fademoe-"))
    folder.chmod(0o755)
    with fast_clock(FAST) as clock:
        made = Demo(folder)
        made.environment["FADEMOE_CLOCK"] = clock
        yield made
        made.fademoe("down")
    left = find_processes(made.home)
    shutil.rmtree(folder)
    assert left == []


@pytest.mark.full
def test_after_a_kill_of_supervisord_the_demo_leaves_no_orphan_and_becomes_complete(demo):
    start_ms = minute_of(now_ms()) - 2 * DAY_MS + 10 * MINUTE_MS  # the demo asks for two days
    first = demo.up()
    (supervisord,) = [process for process in find_processes(demo.home) if process.role == "supervisord"]
    os.kill(supervisord.pid, signal.SIGKILL)
    second = demo.up()
    assert first & second == set(), "processes of the first demo are left"
    assert not any(Path(f"/proc/{pid}").exists() for pid in first)
    assert len([process for process in find_processes(demo.home) if process.role == "supervisord"]) == 1
    end_ms = minute_of(now_ms())
    until(lambda: not missing(demo, start_ms, end_ms), 180)
    for exchange, code in EXCHANGES.items():
        for symbol in SYMBOLS:
            assert demo.differences(exchange, f"{code}-ohlcv", symbol, start_ms, end_ms) == []


def missing(demo, start_ms, end_ms):
    return demo.query(
        "SELECT source, symbol FROM perp_coverage WHERE source = ANY(%s)"
        " AND NOT covered @> int8multirange(int8range(%s, %s))",
        [f"{code}-ohlcv" for code in EXCHANGES.values()],
        start_ms,
        end_ms,
    )
