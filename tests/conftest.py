"""What all tests share: real servers from the wheels that FadeMoe runs, and an environment without its settings."""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import hypothesis
import psycopg2
import pytest
from redis import Redis
from redis.exceptions import RedisError

from fademoe.clock import Pace, set_pace
from fademoe.embedded import servers
from fademoe.feeds import registry
from fademoe.settings import PREFIX, Settings
from fademoe.store.connection import Database
from fademoe.store.migrate import migrate
from tests.support.clocks import FAST, fast_clock
from tests.support.simulator import Simulator
from tests.support.system import System

START_S = 120.0
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 8 << 30
TEMPLATE = "fademoe_template"
NUMBERS = count(1)
BUSY = 2  # of the processes of `make test`: one for each core; the others begin with tests that mostly wait
COSTLY = ("browser", "integration", "lifecycle", "web")  # folders whose fixtures take seconds: best kept together

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


# The same examples in every run: a run fails for what was changed, not by chance.
hypothesis.settings.register_profile("fademoe", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("fademoe")


@pytest.hookimpl(trylast=True)  # when all that is not to be run is left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests for `--dist worksteal`, which gives each process an equal number of those that follow each other.

    Some processes begin with tests that mostly wait, each with as many seconds of them; the others do the work of the
    machine meanwhile. Who is done takes from the end of what another still has.
    """
    processes = int(getattr(config, "workerinput", {}).get("workercount", 1))
    lanes: list[list[pytest.Item]] = [[] for _ in range(max(1, processes - BUSY))]
    for item in sorted(filter(_waits_s, items), key=_waits_s, reverse=True):
        min(lanes, key=lambda lane: sum(map(_waits_s, lane))).append(item)
    others = sorted((item for item in items if not _waits_s(item)), key=_cheap)
    share = len(items) // processes
    busy = _cut(others, share * (processes - len(lanes)))
    items[:] = [item for lane in lanes for item in (*lane, *_cut(others, max(0, share - len(lane))))] + others + busy


def _cut(items: list[pytest.Item], count: int) -> list[pytest.Item]:
    """Take that many items off a list."""
    taken = items[:count]
    del items[:count]
    return taken


def _cheap(item: pytest.Item) -> int:
    """Return the place of a test's folder in the order of their costs, the costly ones first."""
    folder = item.path.parent.name
    return COSTLY.index(folder) if folder in COSTLY else len(COSTLY)


def _waits_s(item: pytest.Item) -> float:
    """Return the seconds that a test says it waits: @pytest.mark.waits, or waits(seconds)."""
    marker = item.get_closest_marker("waits")
    return 0.0 if marker is None else float((*marker.args, 30)[0])


@pytest.fixture(autouse=True)
def _host_pace() -> Iterator[None]:
    """Let the clock run at the host's pace again after each test."""
    yield
    set_pace(Pace(1, 0))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take FadeMoe's own variables out of the environment."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server_home() -> Iterator[Path]:
    """A home for servers: short enough for sockets, and reachable for the user that they run as."""
    home = Path(tempfile.mkdtemp(prefix="fademoe-", dir=_find_memory()))
    yield home
    shutil.rmtree(home, ignore_errors=True)


def _find_memory() -> Path | None:
    """Return a folder in memory with room for the tests' databases: to make one costs an eighth of the CPU there."""
    try:
        return MEMORY if shutil.disk_usage(MEMORY).free >= MEMORY_BYTES else None
    except OSError:
        return None


@pytest.fixture(scope="session")
def postgres_url(server_home: Path) -> Iterator[str]:
    """The address of a PostgreSQL for the whole run, with an empty database."""
    server = servers.prepare_postgres(server_home)
    # safe against a killed test, not against a killed machine: a test's data are not worth the wait
    process = launch(server, "-c", "fsync=off", "-c", "max_wal_size=128MB", "-c", "log_min_messages=fatal")
    url = Settings(home=server_home).postgres_url
    _wait(process, lambda: psycopg2.connect(url).close(), psycopg2.OperationalError)
    yield url
    _end(process, signal.SIGINT)


@pytest.fixture(scope="session")
def _template(postgres_url: str) -> str:
    """The name of a database with the schema in it."""
    _execute(postgres_url, f"CREATE DATABASE {TEMPLATE}")
    database = Database(_of_database(postgres_url, TEMPLATE), "fademoe tests")
    migrate(database, list(registry.load_exchanges().values()))
    database.close()
    return TEMPLATE


@pytest.fixture
def database_url(postgres_url: str, _template: str) -> Iterator[str]:
    """The address of a database of this test's own, with the schema and no rows."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Connections of this process to a database of its own, which has all tables."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def other_database_url(postgres_url: str, _template: str) -> Iterator[str]:
    """The address of a second one, as another machine has it."""
    with fresh_database(postgres_url) as url:
        yield url


@contextmanager
def fresh_database(postgres_url: str) -> Iterator[str]:
    """Make a database with the schema and no rows, and drop it afterwards; needs the fixture `_template`."""
    name = f"fademoe_test_{next(NUMBERS)}"
    _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    yield _of_database(postgres_url, name)
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def run_redis(home: Path) -> Iterator[str]:
    """Run a Redis of the home; yield its address."""
    process = launch(servers.prepare_redis(home), "--loglevel", "warning")
    url = Settings(home=home).queue_url
    client = Redis.from_url(url)
    _wait(process, client.ping, RedisError)
    client.close()
    yield url
    _end(process, signal.SIGTERM)


@pytest.fixture(scope="session")
def _redis_server(server_home: Path) -> Iterator[str]:
    with run_redis(server_home) as url:
        yield url


@pytest.fixture
def redis_url(_redis_server: str) -> Iterator[str]:
    """The address of a Redis, empty before and after the test."""
    client = Redis.from_url(_redis_server)
    client.flushall()
    yield _redis_server
    client.flushall()
    client.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    path = Path(f"/tmp/fademoe-system-{os.getpid()}")
    path.mkdir()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """A simulator whose limits are off, so that tests wait for nothing but themselves."""
    running = Simulator("--no-limits", "--binance-ban-s", "4")
    running.start()
    yield running
    running.stop()


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
                    program.wait(60)
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
                program.wait(60)


def launch(server: servers.Server, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a prepared server as a child that ends when the tests are killed."""

    def become() -> None:
        server.account.become()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork beside threads; this one only execs
        process = subprocess.Popen(
            [*server.command, *arguments], preexec_fn=become, pass_fds=(server.lock,), cwd="/", stdin=subprocess.DEVNULL
        )
    os.close(server.lock)
    return process


def _wait(process: "subprocess.Popen[bytes]", probe: Callable[[], object], not_yet: type[Exception]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            probe()
        except not_yet:
            assert process.poll() is None, f"{process.args} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{process.args} does not answer"
            time.sleep(0.02)
        else:
            return


def _end(process: "subprocess.Popen[bytes]", number: int) -> None:
    process.send_signal(number)
    process.wait(timeout=60)


def _of_database(postgres_url: str, name: str) -> str:
    return postgres_url.replace("/fademoe?", f"/{name}?")


def _execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
