"""A system whose disk is full for a while: test_away.py runs this where its home is a small tmpfs of its own."""

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from fademoe.clock import DAY_MS, now_ms
from tests.support.chaos import EXCHANGES, assert_exact, installation, minute_of, missing
from tests.support.clocks import until
from tests.support.simulator import Simulator

FULL_S = 45
LOGS_BYTES = 500_000  # what all programs together may write meanwhile


def fill(ballast: Path) -> None:
    """Write until the disk takes no more."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1_000_000, 4_096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and body of a page of the web."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def logged(home: Path) -> int:
    """Return the size of all logs."""
    return sum(path.stat().st_size for path in (home / "log").iterdir())


def live_through(folder: Path) -> None:
    """Fill the disk in the middle of a backfill; nothing may crash for good, and all is there when there is room."""
    simulator = Simulator("--no-limits")
    simulator.start()
    system = installation(folder, simulator)
    ballast = system.home / "ballast"
    try:
        system.up()
        start_ms = minute_of(now_ms()) - DAY_MS
        assert system.run("seed", "--since", str(start_ms), "--metrics", "ohlcv").returncode == 0
        until(lambda: system.query("SELECT 1 FROM perp_data LIMIT 1"), 60)
        fill(ballast)
        before, begin_s = logged(system.home), time.monotonic()
        until(lambda: "No space left" in ask(system.web_port, "/health")[1] or not system.answers(), 30)
        assert ask(system.web_port, "/health")[0] == 503
        alerts = json.loads(ask(system.web_port, "/api/alerts")[1])
        assert "disk" in [alert["kind"] for alert in alerts["alerts"]], alerts
        result = system.run("status")
        assert result.returncode == 1
        assert "the disk is full: 0 MB are free" in result.stdout, result.stdout
        time.sleep(max(0.0, FULL_S - (time.monotonic() - begin_s)))
        written = logged(system.home) - before
        assert written < LOGS_BYTES, f"{written} bytes of logs in {FULL_S} s"
        assert {program.state for program in system.supervisord.list_programs()} <= {
            "RUNNING",
            "STARTING",
            "BACKOFF",
            "EXITED",
        }
        end_ms = minute_of(now_ms())
        ballast.unlink()
        until(lambda: system.answers() and not missing(system, "ohlcv", start_ms, end_ms), 240)
        assert_exact(system, "ohlcv", start_ms, end_ms)
        until(lambda: all(program.is_fine for program in system.supervisord.list_programs()), 60)
        until(lambda: ask(system.web_port, "/health")[0] == 200, 30)
        print(f"{len(EXCHANGES)} exchanges, {written} bytes of logs in {FULL_S} s of a full disk")
    finally:
        ballast.unlink(missing_ok=True)
        system.down()
        simulator.stop()


if __name__ == "__main__":
    live_through(Path(sys.argv[1]))
