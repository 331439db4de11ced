"""Years of history by files and REST together, with real workers: complete, exact, and the same as by REST alone."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from fademoe.clock import DAY_MS
from tests.support.clocks import until
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


def test_without_the_setting_nothing_is_asked_of_an_archive(fast_system):
    url = fast_system.simulator.url
    fast_system.environment |= {
        "FADEMOE_BINANCE_ARCHIVE_URL": url,
        "FADEMOE_BINANCE_ARCHIVE_LIST_URL": f"{url}/data.binance.vision",
    }
    plan = seed(fast_system, "--dry-run")
    assert "needs FADEMOE_ARCHIVES=binance:cc-by-nc-sa" in plan.stdout
    assert "2 files" in plan.stdout
    assert fast_system.run("worker", "--archive").returncode == 0
    assert fast_system.run("archive", "check").returncode == 2
    assert requests_of(fast_system.simulator) == {}


@pytest.mark.full
def test_a_month_of_files_has_the_certificate_of_a_month_over_rest(
    fast_system, other_database_url, redis_url, tmp_path
):
    allow(fast_system, fast_system.simulator.url)
    plan = seed(fast_system, "--dry-run", metrics="ohlcv,mark")
    assert plan.returncode == 0, plan.stderr
    assert "from its archive: 4 files" in plan.stdout
    work(fast_system)
    assert "2 of them months of files" in seed(fast_system, metrics="ohlcv,mark").stdout
    until(lambda: fast_system.covers("bin-ohlcv", ["LTC"], SINCE_MS, UNTIL_MS), 120)
    until(lambda: fast_system.covers("bin-mark", ["LTC"], SINCE_MS, UNTIL_MS), 120)
    assert fast_system.differences("binance", "bin-ohlcv", "LTC", SINCE_MS, UNTIL_MS) == []
    assert "klines" in fast_system.run("archive", "status").stdout
    files = {path: count for path, count in requests_of(fast_system.simulator).items() if ".zip" in path}
    assert set(files.values()) == {1}
    assert not [path for path in (fast_system.context().settings.home / "archive").rglob("*") if path.is_file()]
    of_files = [certify(fast_system, source) for source in ("bin-ohlcv", "bin-mark")]
    fast_system.stop()
    Redis.from_url(redis_url).flushall()
    alone = System(tmp_path / "alone", other_database_url, redis_url, fast_system.simulator)
    alone.environment["FADEMOE_CLOCK"] = fast_system.environment["FADEMOE_CLOCK"]
    fast_system.programs += [alone.start("worker"), alone.start("worker", "--live"), alone.start("scheduler")]
    assert seed(alone, metrics="ohlcv,mark").returncode == 0
    until(lambda: alone.covers("bin-ohlcv", ["LTC"], SINCE_MS, UNTIL_MS), 120)
    until(lambda: alone.covers("bin-mark", ["LTC"], SINCE_MS, UNTIL_MS), 120)
    assert [certify(alone, source) for source in ("bin-ohlcv", "bin-mark")] == of_files


def certify(system, source):
    range_ = ("--since", "2025-09-01", "--until", "2025-10-01")
    done = system.run("verify", "--source", source, "--symbol", "LTC", *range_)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.full
def test_a_worker_that_is_killed_in_a_download_fetches_nothing_twice(fast_system):
    allow(fast_system, fast_system.simulator.url)
    symbols = "LTC,ETH,XRP,ADA"
    assert seed(fast_system, metrics="pfr", symbols=symbols).returncode == 0
    worker = fast_system.start("worker", "--archive")
    fast_system.start("scheduler")
    until(lambda: fast_system.query("SELECT count(*) FROM perp_files")[0][0] >= 1, 60)
    children = map(int, Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split())
    for pid in (*children, worker.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    worker.wait(60)
    done = {path for (path,) in fast_system.query("SELECT path FROM perp_files")}
    before = requests_of(fast_system.simulator)
    fast_system.start("worker", "--archive")
    until(lambda: fast_system.query("SELECT count(*) FROM perp_files WHERE cadence = 'month'")[0][0] == 4, 120)
    after = requests_of(fast_system.simulator)
    assert all(after[f"/{path}"] == before[f"/{path}"] for path in done)
    for symbol in symbols.split(","):
        start_ms = UNTIL_MS - 2 * DAY_MS
        found = fast_system.differences("binance", "bin-pfr", symbol, start_ms, UNTIL_MS)
        assert all(each.startswith("missing") for each in found)
        assert len(found) < 200
    until(lambda: not list((fast_system.context().settings.home / "archive").rglob("*.part")), 20)
