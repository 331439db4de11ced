"""A simulator for the run, and FadeMoe's own programs against fresh servers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from decimal import Decimal
from pathlib import Path

import psycopg2
import pytest
import requests

from fademoe.cli.edge import load_settings
from fademoe.clock import Pace, now_ms, set_pace, to_host_s
from fademoe.runtime.context import Context
from fademoe.signals import StopSignal

FAST = 6  # times as fast as the host's the clocks of `fast_system` run


class Simulator:
    """A simulator process and its control plane."""

    def __init__(self, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = options
        self.process = None

    def start(self) -> None:
        command = [sys.executable, "-m", "fademoe", "simulator", "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            until(lambda: self.get("/sim/health"), 60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
            self.process = None

    def get(self, path: str, **params):
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(self.url + path, params=params, timeout=30).json()
        return None

    def fault(self, **fault) -> None:
        requests.post(f"{self.url}/sim/faults", json=fault, timeout=10).raise_for_status()

    def clear(self) -> None:
        requests.delete(f"{self.url}/sim/faults", timeout=10)

    def truth(self, exchange: str, metric: str, symbol: str, start_ms: int, end_ms: int) -> dict[int, dict]:
        rows = self.get(
            "/sim/truth", exchange=exchange, metric=metric, symbol=symbol, **{"from": start_ms, "to": end_ms}
        )
        return {row.pop("ts"): row for row in rows["rows"]}


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """A simulator whose limits are off, so that tests wait for nothing but themselves."""
    running = Simulator("--no-limits", "--binance-ban-s", "4")
    running.start()
    yield running
    running.stop()


class System:
    """FadeMoe's programs over one database, one Redis and one simulator."""

    def __init__(self, home: Path, database_url: str, redis_url: str, simulator: Simulator) -> None:
        self.simulator = simulator
        self.database_url = database_url
        self.environment = {
            "FADEMOE_HOME": str(home),
            "FADEMOE_DATABASE_URL": database_url,
            "FADEMOE_REDIS_URL": redis_url,
            "FADEMOE_BINANCE_REST_URL": simulator.url,
            "FADEMOE_BINANCE_WS_URL": simulator.url.replace("http", "ws"),
            "FADEMOE_EXCHANGES": "binance",
        }
        self.programs: list[subprocess.Popen] = []

    def context(self) -> Context:
        """Return a context in this process."""
        return Context(load_settings(self.environment), StopSignal())

    def start(self, *command: str) -> subprocess.Popen:
        """Start a program."""
        program = subprocess.Popen([sys.executable, "-m", "fademoe", *command], env={**os.environ, **self.environment})
        self.programs.append(program)
        return program

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "fademoe", *command],
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def stop(self) -> None:
        """End every program by SIGTERM; each has ten seconds."""
        for program in self.programs:
            if program.poll() is None:
                program.send_signal(signal.SIGTERM)
        for program in self.programs:
            program.wait(10)
        self.programs.clear()

    def query(self, statement: str, *values) -> list[tuple]:
        """Return the rows of a query."""
        connection = psycopg2.connect(self.database_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall()
        finally:
            connection.close()

    def covers(self, source: str, symbols: Collection[str], start_ms: int, end_ms: int) -> bool:
        """Tell whether nothing is missing of a range of some series, that is, also what is absent is known."""
        rows = self.query(
            "SELECT count(*) FROM perp_coverage WHERE source = %s AND symbol = ANY(%s)"
            " AND covered @> int8multirange(int8range(%s, %s))",
            source,
            list(symbols),
            start_ms,
            end_ms,
        )
        return bool(rows[0][0] == len(symbols))

    def streams(self) -> set[str]:
        """Return the exchanges whose streams run, every one of their topics."""
        rows = self.query("SELECT unit FROM perp_status WHERE kind = 'stream' AND state = 'running'")
        return {unit.removeprefix("stream ") for (unit,) in rows}

    def differences(self, exchange: str, source: str, symbol: str, start_ms: int, end_ms: int) -> list[str]:
        """Compare what is stored with the simulator's truth, value by value; [] when all is equal."""
        metric = source.rpartition("-")[2]
        truth = self.simulator.truth(exchange, metric, symbol, start_ms, end_ms)
        columns = sorted({name for row in truth.values() for name in row}) or ["ts"]
        names = ", ".join(f"{name}::text" for name in columns)
        stored = {
            row[0]: dict(zip(columns, row[1:], strict=True))
            for row in self.query(
                f"SELECT ts, {names} FROM perp_data WHERE source = %s AND symbol = %s AND ts >= %s AND ts < %s",
                source,
                symbol,
                start_ms,
                end_ms,
            )
        }
        found = [f"missing {ts}" for ts in sorted(truth.keys() - stored.keys())]
        found += [f"extra {ts}" for ts in sorted(stored.keys() - truth.keys())]
        for ts in sorted(truth.keys() & stored.keys()):
            for name in columns:
                if not same(truth[ts][name], stored[ts][name]):
                    found.append(f"{ts} {name}: {stored[ts][name]} instead of {truth[ts][name]}")
        return found


def same(expected, stored: str | None) -> bool:
    """Return whether two numbers are equal to the digit."""
    if expected is None or stored is None:
        return expected is stored
    return Decimal(str(expected)) == Decimal(stored)


def sleep_until(ts: int) -> None:
    """Sleep until this process's clock shows `ts`."""
    time.sleep(max(0.0, to_host_s((ts - now_ms()) / 1000)))


def until(probe: Callable[[], object], seconds: float) -> object:
    """Return what `probe` gives as soon as it is true; fail after `seconds`, and as many more for a busy machine."""
    begin_s = time.monotonic()
    while (waited_s := time.monotonic() - begin_s) < 2 * seconds:
        value = probe()
        if value:
            return value
        time.sleep(min(0.5, 0.1 + waited_s / 50))  # many wait beside each other, and a probe costs something
    pytest.fail(f"still not so after {seconds} s")


@contextlib.contextmanager
def fast_clock(speed: int) -> Iterator[str]:
    """Let the clock of this process run `speed` times as fast as the host's; yield it as FADEMOE_CLOCK takes it."""
    pace = Pace(speed, now_ms())
    set_pace(pace)
    yield f"{pace.speed}@{pace.since_ms}"


@pytest.fixture
def fast_system(tmp_path: Path, database_url: str, redis_url: str, request: pytest.FixtureRequest) -> Iterator[System]:
    """As `system`, over a simulator of its own; all their clocks run several times as fast as the host's.

    Options of the simulator come by `@pytest.mark.parametrize("fast_system", [[...]], indirect=True)`.
    """
    with fast_clock(FAST) as clock:
        simulator = Simulator("--no-limits", "--clock", clock, *getattr(request, "param", ()))
        simulator.start()
        running = System(tmp_path, database_url, redis_url, simulator)
        running.environment["FADEMOE_CLOCK"] = clock
        try:
            yield running
            running.stop()
        finally:
            for program in running.programs:
                if program.poll() is None:
                    program.kill()
                    program.wait(5)
            simulator.stop()


@pytest.fixture
def system(tmp_path: Path, database_url: str, redis_url: str, simulator: Simulator) -> Iterator[System]:
    """Programs that are ended after the test, over servers of its own."""
    running = System(tmp_path, database_url, redis_url, simulator)
    yield running
    simulator.clear()
    try:
        running.stop()
    finally:
        for program in running.programs:
            if program.poll() is None:
                program.kill()
                program.wait(5)
