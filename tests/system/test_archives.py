"""Years of history by files and REST together, with real workers: complete, exact, and the same as by REST alone."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fademoe.clock import DAY_MS
from tests.support.clocks import until
from tests.support.simulator import Simulator
from tests.support.system import System

MONTH = "2025-09"


def to_ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


SINCE_MS, UNTIL_MS = to_ms("2025-09-01"), to_ms("2025-10-01")
ALLOWED = "binance:cc-by-nc-sa"


def allow(system, url):
    system.environment |= {
        "FADEMOE_ARCHIVES": ALLOWED,
        "FADEMOE_BINANCE_ARCHIVE_URL": url,
        "FADEMOE_BINANCE_ARCHIVE_LIST_URL": f"{url}/data.binance.vision",
    }


def seed(system, *arguments, metrics="ohlcv", symbols="LTC"):
    range_ = ("--since", "2025-09-01", "--until", "2025-10-01")
    return system.run("seed", *range_, "--metrics", metrics, "--symbols", symbols, "--exchanges", "binance", *arguments)


def work(system, *, archive=True):
    started = [system.start("worker"), system.start("worker", "--live"), system.start("scheduler")]
    return [*started, *([system.start("worker", "--archive")] if archive else [])]


def requests_of(simulator):
    paths = simulator.get("/sim/stats")["binance"]["paths"]
    return {path: count for path, count in paths.items() if path.startswith("/data")}


@pytest.fixture
def own(tmp_path, database_url, redis_url):
    """A system over a simulator of its own, whose requests nobody else makes."""
    simulator = Simulator("--no-limits")
    simulator.start()
    running = System(tmp_path, database_url, redis_url, simulator)
    yield running
    for program in running.programs:
        if program.poll() is None:
            program.send_signal(signal.SIGTERM)
    for program in running.programs:
        program.wait(20)
    simulator.stop()


def test_without_the_setting_nothing_is_asked_of_an_archive(own):
    url = own.simulator.url
    own.environment |= {
        "FADEMOE_BINANCE_ARCHIVE_URL": url,
        "FADEMOE_BINANCE_ARCHIVE_LIST_URL": f"{url}/data.binance.vision",
    }
    plan = seed(own, "--dry-run")
    assert "needs FADEMOE_ARCHIVES=binance:cc-by-nc-sa" in plan.stdout
    assert "2 files" in plan.stdout
    assert own.run("worker", "--archive").returncode == 0
    assert own.run("archive", "check").returncode == 2
    assert requests_of(own.simulator) == {}


def test_a_month_comes_from_a_file_and_its_holes_over_rest(own):
    allow(own, own.simulator.url)
    plan = seed(own, "--dry-run", metrics="ohlcv,mark")
    assert plan.returncode == 0, plan.stderr
    assert "from its archive: 4 files" in plan.stdout
    work(own)
    done = seed(own, metrics="ohlcv,mark")
    assert "2 of them months of files" in done.stdout
    covers = (
        "SELECT covered @> int8multirange(int8range(%s, %s)) FROM perp_coverage WHERE source = %s AND symbol = 'LTC'"
    )

    def is_stored(source):
        # holes are doubted: another run asks for them ten minutes later
        return own.query(
            "SELECT count(*) FROM perp_data WHERE source = %s AND symbol = 'LTC' AND ts >= %s AND ts < %s",
            source,
            SINCE_MS,
            UNTIL_MS,
        )[0][0] == len(own.simulator.truth("binance", source[4:], "LTC", SINCE_MS, UNTIL_MS))

    until(lambda: is_stored("bin-ohlcv") and is_stored("bin-mark"), 120)
    assert own.differences("binance", "bin-ohlcv", "LTC", SINCE_MS, UNTIL_MS) == []
    until(lambda: own.query(covers, SINCE_MS, UNTIL_MS, "bin-ohlcv") == [(True,)], 120)
    verified = own.run(
        "verify", "--source", "bin-ohlcv", "--symbol", "LTC", "--since", "2025-09-01", "--until", "2025-10-01"
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    status = own.run("archive", "status")
    assert "klines" in status.stdout
    files = requests_of(own.simulator)
    assert max(files.values()) == 1
    assert not [path for path in (own.context().settings.home / "archive").rglob("*") if path.is_file()]


@pytest.mark.waits(40)
def test_a_worker_that_is_killed_in_a_download_fetches_nothing_twice(own):
    allow(own, own.simulator.url)
    symbols = "LTC,ETH,XRP,ADA"
    assert seed(own, metrics="pfr", symbols=symbols).returncode == 0
    worker = own.start("worker", "--archive")
    own.start("scheduler")
    until(lambda: own.query("SELECT count(*) FROM perp_files")[0][0] >= 1, 60)
    children = map(int, Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split())
    for pid in (*children, worker.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    worker.wait(10)
    done = {path for (path,) in own.query("SELECT path FROM perp_files")}
    before = requests_of(own.simulator)
    own.start("worker", "--archive")
    until(lambda: own.query("SELECT count(*) FROM perp_files WHERE cadence = 'month'")[0][0] == 4, 120)
    after = requests_of(own.simulator)
    assert all(after[f"/{path}"] == before[f"/{path}"] for path in done)
    for symbol in symbols.split(","):
        start_ms = UNTIL_MS - 2 * DAY_MS
        found = own.differences("binance", "bin-pfr", symbol, start_ms, UNTIL_MS)
        assert all(each.startswith("missing") for each in found)
        assert len(found) < 200
    until(lambda: not list((own.context().settings.home / "archive").rglob("*.part")), 20)
