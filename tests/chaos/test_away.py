"""Servers, disks and clocks that fail for a while, and SIGTERM in the middle of everything."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, monotonic_s, now_ms
from fademoe.embedded import servers
from fademoe.queue.ids import list_window_queues
from fademoe.queue.states import RUNNING, list_failed_jobs, read_job_states
from fademoe.supervisord.daemon import CHECKOUT
from tests.support.chaos import (
    EXCHANGES,
    assert_exact,
    assert_nothing_invented,
    installation,
    is_hole,
    minute_of,
    missing,
)
from tests.support.clocks import FAST, fast_clock, sleep_until, until
from tests.support.installation import Installation
from tests.support.simulator import Simulator

LIVE = ("ohlcv", "ppr", "lq")
MAY_LACK = "okx-ppr"  # the exchange's channel does not tell it in every minute
STREAMS = [f"stream-{name}" for name in EXCHANGES]
AWAY_S = 60
MOST_GROWTH_MB = 30  # of a stream process while PostgreSQL is away for a minute
TERM_S = 20  # ten, and as much again for a machine that runs the other tests meanwhile


@pytest.fixture
def simulator():
    """A simulator of this test's own."""
    running = Simulator("--no-limits")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def system(folder, simulator):
    """A system that is down, and is taken down afterwards."""
    yield from take_down(installation(folder, simulator))


@pytest.fixture
def fast_installation(folder):
    """As `system`; its clocks and those of its simulator run several times as fast as the host's."""
    with fast_clock(FAST) as clock:
        simulator = Simulator("--no-limits", "--clock", clock)
        simulator.start()
        try:
            yield from take_down(installation(folder, simulator, FADEMOE_CLOCK=clock))
        finally:
            simulator.stop()


def take_down(system):
    """Yield a system and take it down; say what it lacks, for the report of a test that has failed."""
    yield system
    if system.answers():
        print(system.run("gaps").stdout[-4000:])
        print(system.query("SELECT unit, state, message FROM perp_status WHERE state IN ('error', 'waiting')"))
    system.down()


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def start_again(system: Installation, name: str) -> None:
    """Start a program that was stopped, and wait until it runs."""
    system.supervisord.start_programs([name])
    until(lambda: name in system.pids() and (name != "postgres" or system.answers()), 60)


def stop(system: Installation, *names: str) -> float:
    """Stop programs as supervisorctl does; return the seconds that it took."""
    begin_s = time.monotonic()
    system.supervisord.stop_programs(names)
    return time.monotonic() - begin_s


def wait_until_watched(
    system: Installation, start_ms: int, end_ms: int, seconds: float, metrics: Sequence[str] = LIVE
) -> None:
    """Wait until the streams have covered a range of all contracts; of a minute without trades they may not hear."""

    def unwatched() -> list[tuple]:
        found = [row for metric in metrics for row in missing(system, metric, start_ms, end_ms)]
        found = [row for row in found if row[0] != MAY_LACK]
        return [row for row in found if not (row[0].endswith("-ohlcv") and is_hole(system, row, quiet=True))]

    try:
        until(lambda: not unwatched(), seconds)
    except BaseException:
        print(unwatched())
        raise


@pytest.mark.long
@pytest.mark.waits(50)
def test_streams_outlive_a_database_that_is_away_and_lose_no_bar(fast_installation):
    """Only the streams run, so nothing else could bring the rows."""
    system = fast_installation
    only = ["postgres", "redis", *STREAMS]
    system.up(only)
    until(lambda: system.streams() == set(EXCHANGES), 60)
    first_ms = minute_of(now_ms()) + MINUTE_MS  # watched from its first moment
    sleep_until(first_ms + 20 * SECOND_MS)
    before = system.pids()
    memory = {name: resident_mb(before[name]) for name in STREAMS}
    stop(system, "postgres")
    begin_s, most = monotonic_s(), dict(memory)
    while monotonic_s() - begin_s < AWAY_S:
        for name in STREAMS:
            most[name] = max(most[name], resident_mb(before[name]))
        time.sleep(0.2)
    start_again(system, "postgres")
    wait_until_watched(system, first_ms, first_ms + MINUTE_MS, 30)
    assert {name: system.pids()[name] for name in STREAMS} == {name: before[name] for name in STREAMS}
    growth = {name: round(most[name] - memory[name], 1) for name in STREAMS}
    print(f"memory of the streams grew by {growth} MB while PostgreSQL was away for {AWAY_S} s")
    assert max(growth.values()) < MOST_GROWTH_MB, growth
    # and now SIGTERM while it is away: what they hold waits on the disk
    sleep_until(first_ms + 110 * SECOND_MS)
    stop(system, "postgres")
    second_ms = minute_of(now_ms())
    sleep_until(second_ms + 68 * SECOND_MS)
    assert stop(system, *STREAMS) < TERM_S
    assert len(list((system.home / "spill").iterdir())) == len(EXCHANGES)
    start_again(system, "postgres")
    for name in STREAMS:
        start_again(system, name)
    # liquidations of a minute are claimed when a later one shows that the feed was alive: SIGTERM may come before it
    wait_until_watched(system, second_ms, second_ms + MINUTE_MS, 60, ("ohlcv", "ppr"))
    for metric in LIVE:
        assert_nothing_invented(system, metric, first_ms, second_ms + MINUTE_MS)
    assert list((system.home / "spill").iterdir()) == []


@pytest.mark.long
@pytest.mark.waits(89)
def test_a_full_disk_is_said_and_outlived(folder):
    home = folder / "home"
    home.mkdir(mode=0o700)
    namespace = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps", "--mount"]
    mount = 'mount -t tmpfs -o size=256m,mode=700 fademoe "$1" && shift && exec "$@"'
    run = [sys.executable, "-m", "tests.chaos.full_disk", str(folder)]
    done = subprocess.run(
        ["unshare", *namespace, "sh", "-c", mount, "sh", str(home), *run],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.waits(30)
@pytest.mark.parametrize(
    ("fast_system", "skew"),
    [
        (["--clock-offset-ms", "-300000"], "ahead of"),
        pytest.param(["--clock-offset-ms", "300000"], "behind", marks=pytest.mark.full),
    ],
    indirect=["fast_system"],
)
def test_a_wrong_clock_changes_no_row_and_is_said(fast_system, skew):
    """The exchanges' clock is off, which looks to the programs as if the host's were wrong."""
    system, simulator = fast_system, fast_system.simulator
    system.environment |= {
        "FADEMOE_OKX_REST_URL": simulator.url,
        "FADEMOE_OKX_WS_URL": simulator.url.replace("http", "ws"),
        "FADEMOE_EXCHANGES": "binance,okx",
        "FADEMOE_SYMBOLS": "BTC,PEPE",
    }
    programs = (("stream", "binance"), ("stream", "okx"), ("worker",), ("worker", "--live"), ("scheduler",))
    for program in programs:
        system.start(*program)
    reports = "SELECT unit FROM perp_status WHERE message ~ %s"
    until(lambda: len(system.query(reports, f"this host's clock is (299|300|301) s {skew}")) == 2, 40)
    start_ms = minute_of(simulator.get("/sim/clock")["now_ms"]) - 3 * HOUR_MS
    seeded = system.run("seed", "--since", str(start_ms), "--metrics", "ohlcv", "--wait")
    assert seeded.returncode == 0, seeded.stdout + seeded.stderr
    sleep_until(minute_of(now_ms()) + 85 * SECOND_MS)
    exchange_ms = simulator.get("/sim/clock")["now_ms"]
    for exchange, code in (("binance", "bin"), ("okx", "okx")):
        for symbol in ("BTC", "PEPE"):
            end_ms = minute_of(exchange_ms) - MINUTE_MS
            until(lambda: system.covers(f"{code}-ohlcv", [symbol], start_ms, end_ms), 30)  # noqa: B023
            later = exchange_ms + DAY_MS  # a row of an open bar would be too much
            differences = system.differences(exchange, f"{code}-ohlcv", symbol, start_ms, later)
            assert [line for line in differences if not line.startswith("missing")] == []
            assert all(int(line.split()[1]) >= end_ms for line in differences), differences
    newest = system.query("SELECT max(upper(covered)) FROM perp_coverage WHERE source LIKE '%%-ohlcv'")[0][0]
    assert newest <= simulator.get("/sim/clock")["now_ms"]
    assert system.run("gaps", "--source", "bin-ohlcv").stdout == "0 gaps\n"


@pytest.mark.long
@pytest.mark.waits(70)
def test_every_program_ends_within_ten_seconds_of_sigterm_and_gives_back_what_it_held(system):
    simulator = system.simulator
    system.up()
    start_ms = minute_of(now_ms()) - 3 * DAY_MS
    simulator.fault(kind="stall", path="/fapi/v1/klines", probability=0.5, seconds=25)
    simulator.fault(kind="stall", path="/v5/market/kline", probability=0.5, seconds=25)
    assert system.run("seed", "--since", str(start_ms), "--metrics", "ohlcv").returncode == 0
    redis = system.context().redis
    until(lambda: any(RUNNING in read_job_states(redis, name).values() for name in list_window_queues(*EXCHANGES)), 30)
    for name, pid in sorted(system.pids().items()):
        if name in ("postgres", "redis"):
            continue
        os.kill(pid, signal.SIGTERM)
        begin_s = time.monotonic()
        until(lambda: not Path(f"/proc/{pid}").exists(), TERM_S)  # noqa: B023
        assert time.monotonic() - begin_s < TERM_S, name
        print(f"{name} ended after {time.monotonic() - begin_s:.1f} s")
    assert stop(system, "postgres") < TERM_S
    assert stop(system, "redis") < TERM_S
    start_again(system, "redis")
    start_again(system, "postgres")
    simulator.clear()
    end_ms = minute_of(now_ms())
    until(lambda: servers.are_accepting(system.settings), 60)
    assert list_failed_jobs(redis, list_window_queues(*EXCHANGES)) == []
    until(lambda: system.answers() and not missing(system, "ohlcv", start_ms, end_ms), 150)
    assert_exact(system, "ohlcv", start_ms, end_ms)
    in_error = "SELECT unit, message FROM perp_status WHERE state = 'error'"
    until(lambda: not system.query(in_error), 90)  # a poll that PostgreSQL's end met is in error until its next round
