"""The embedded servers keep committed data however they end, and refuse data that they cannot serve."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from redis import Redis
from redis.exceptions import RedisError

from fademoe.embedded import servers
from fademoe.errors import ConfigError, StoreError
from fademoe.settings import Settings

Process = subprocess.Popen[bytes]


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that the user of the servers can reach."""
    folder = Path(tempfile.mkdtemp(prefix="fademoe-"))
    folder.chmod(0o755)
    yield folder / "var"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A cluster that was never started, for copies: making one takes a second."""
    folder = Path(tempfile.mkdtemp(prefix="fademoe-"))
    os.close(servers.prepare_postgres(folder).lock)
    yield folder / "postgres"
    shutil.rmtree(folder)


@pytest.fixture
def made_home(home: Path, cluster: Path) -> Path:
    """A home with a cluster."""
    servers.make_home(home)
    shutil.copytree(cluster, home / "postgres")
    return home


@pytest.fixture
def running() -> Iterator[list[Process]]:
    """Servers that are killed after the test."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait(60)


def start(server: servers.Server, running: list[Process]) -> Process:
    """Start a server that inherits the lock."""
    process = subprocess.Popen(
        server.command, cwd="/", pass_fds=(server.lock,), stderr=subprocess.DEVNULL, **server.account.options
    )
    os.close(server.lock)
    running.append(process)
    return process


def connect(home: Path) -> psycopg2.extensions.connection:
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg2.connect(Settings(home=home).postgres_url)
        except psycopg2.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def open_redis(home: Path) -> Redis:
    client = Redis.from_url(Settings(home=home).queue_url)
    deadline = time.monotonic() + 60
    while True:
        try:
            client.ping()
        except RedisError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return client


def fill(home: Path) -> None:
    connection = connect(home)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
    connection.close()


def count(home: Path) -> int:
    connection = connect(home)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM kept")
        row = cursor.fetchone()
    connection.close()
    return row[0]


def test_committed_rows_survive_kill_9_and_a_stop_leaves_no_socket(made_home, running):
    process = start(servers.prepare_postgres(made_home), running)
    fill(made_home)
    process.kill()
    process.wait()
    process = start(servers.prepare_postgres(made_home), running)
    assert count(made_home) == 1000
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert list((made_home / "run").iterdir()) == []


def test_a_reused_process_number_in_the_pid_files_does_not_keep_postgres_down(made_home, running):
    process = start(servers.prepare_postgres(made_home), running)
    fill(made_home)
    process.kill()
    process.wait()
    stranger = subprocess.Popen(["sleep", "60"], **servers.prepare_home(made_home).options)
    running.append(stranger)
    for path in (made_home / "postgres" / "postmaster.pid", made_home / "run" / f"{servers.POSTGRES_SOCKET}.lock"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    start(servers.prepare_postgres(made_home), running)
    assert count(made_home) == 1000


def test_postgres_listens_on_no_port_and_keeps_its_data_safe(made_home, running):
    start(servers.prepare_postgres(made_home), running)
    connection = connect(made_home)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('listen_addresses'), current_setting('fsync'), current_setting('data_checksums'),"
            " current_setting('server_encoding'), pg_encoding_to_char(encoding), datcollate"
            " FROM pg_database WHERE datname = 'fademoe'"
        )
        assert cursor.fetchone() == ("", "on", "on", "UTF8", "UTF8", "C")
    connection.close()


def test_a_second_server_on_the_same_data_is_refused(made_home, running, monkeypatch):
    monkeypatch.setattr(servers, "LOCK_TIMEOUT_S", 0.2)
    start(servers.prepare_redis(made_home), running)
    start(servers.prepare_postgres(made_home), running)
    with pytest.raises(StoreError, match="runs already"):
        servers.prepare_redis(made_home)
    with pytest.raises(StoreError, match="runs already"):
        servers.prepare_postgres(made_home)


def test_an_unfinished_cluster_is_made_again(home, running):
    servers.make_home(home)
    unfinished = home / "postgres.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    start(servers.prepare_postgres(home), running)
    fill(home)
    assert count(home) == 1000
    assert not unfinished.exists()


def test_data_of_another_major_version_are_refused(home):
    (home / "postgres").mkdir(parents=True)
    (home / servers.MARK).touch()
    (home / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(ConfigError, match="made by PostgreSQL 15"):
        servers.check(Settings(home=home))
    with pytest.raises(ConfigError, match="made by PostgreSQL 15"):
        servers.prepare_postgres(home)


def test_the_queue_survives_kill_9(home, running):
    process = start(servers.prepare_redis(home), running)
    open_redis(home).rpush("queue", *range(1000))
    process.kill()
    process.wait()
    process = start(servers.prepare_redis(home), running)
    client = open_redis(home)
    assert client.llen("queue") == 1000
    assert client.config_get("port") == {"port": "0"}
    process.terminate()
    assert process.wait(60) == 0
    assert list((home / "run").iterdir()) == []


def test_the_damaged_end_of_a_queue_is_cut_off(home, running):
    process = start(servers.prepare_redis(home), running)
    open_redis(home).rpush("queue", *range(1000))
    process.terminate()
    process.wait()
    (log,) = (home / "redis" / "appendonlydir").glob("*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*2\r\n$5\r\nRPUSH" + b"\0" * 4096)  # the rest of a write after a crash of the machine
    start(servers.prepare_redis(home), running)
    assert open_redis(home).llen("queue") == 1000


def append_only_files(home: Path) -> dict[str, Path]:
    """Return the files of the queue: `manifest`, `base`, `older` and `newest`."""
    folder = home / "redis" / "appendonlydir"
    newest = sorted(folder.glob("*.incr.aof"))
    return {
        "manifest": folder / "appendonly.aof.manifest",
        "base": next(folder.glob("*.base.rdb")),
        "older": newest[0],
        "newest": newest[-1],
    }


def make_queue(home: Path, running: list[Process]) -> dict[str, Path]:
    """Make a queue of several parts, as after a rewrite and a second one that was interrupted; stop its server."""
    process = start(servers.prepare_redis(home), running)
    client = open_redis(home)
    client.rpush("queue", *range(1000))
    client.bgrewriteaof()
    deadline = time.monotonic() + 60
    while client.info("persistence")["aof_rewrite_in_progress"] or client.info("persistence")["aof_rewrite_scheduled"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.rpush("queue", *range(1000))
    process.terminate()
    process.wait()
    manifest = append_only_files(home)["manifest"]
    newest = append_only_files(home)["newest"]
    added = newest.with_name("appendonly.aof.99.incr.aof")
    shutil.copy(newest, added)
    shutil.chown(added, newest.stat().st_uid, newest.stat().st_gid)
    manifest.write_text(manifest.read_text() + "file appendonly.aof.99.incr.aof seq 99 type i\n")
    return append_only_files(home)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def damage_middle(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2 : len(body) // 2 + 64] = b"\xff" * 64
    path.write_bytes(body)


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("manifest", empty),
        ("manifest", zero),
        ("manifest", Path.unlink),
        ("base", empty),
        ("base", zero),
        ("base", damage_middle),
        ("base", Path.unlink),
        ("older", zero),
        ("older", damage_middle),
        ("older", Path.unlink),
        ("newest", Path.unlink),
    ],
)
def test_damaged_files_of_the_queue_are_set_aside_and_the_server_starts(home, running, part, damage):
    damage(make_queue(home, running)[part])
    process = start(servers.prepare_redis(home), running)
    assert open_redis(home).llen("queue") == 0
    assert (home / "redis" / "appendonlydir.damaged").is_dir()
    open_redis(home).rpush("queue", 1)
    process.terminate()
    process.wait()
    start(servers.prepare_redis(home), running)
    assert open_redis(home).llen("queue") == 1


@pytest.mark.parametrize("damage", [None, zero, empty])
def test_the_undamaged_parts_of_the_queue_are_kept(home, running, damage):
    """The newest part alone can be repaired."""
    files = make_queue(home, running)
    if damage:
        damage(files["newest"])
    start(servers.prepare_redis(home), running)
    assert open_redis(home).llen("queue") == 2000 + 1000 * (damage is None)
    assert not (home / "redis" / "appendonlydir.damaged").exists()


@pytest.mark.long
@pytest.mark.parametrize("content", ["", "\0" * 64, "no number\n"])
def test_pid_files_that_a_power_loss_damaged_do_not_keep_postgres_down(made_home, running, content):
    process = start(servers.prepare_postgres(made_home), running)
    fill(made_home)
    process.kill()
    process.wait()
    for path in (made_home / "postgres" / "postmaster.pid", made_home / "run" / f"{servers.POSTGRES_SOCKET}.lock"):
        path.write_text(content)
    start(servers.prepare_postgres(made_home), running)
    assert count(made_home) == 1000


@pytest.mark.long
@pytest.mark.parametrize("name", ["a b%2F;#'[é]$~&?", 'a"b', "a\\b"])
def test_the_servers_run_in_a_home_of_any_name(home, running, name):
    start(servers.prepare_postgres(home / name), running)
    start(servers.prepare_redis(home / name), running)
    connect(home / name).close()
    assert open_redis(home / name).ping()


def test_a_path_too_long_for_a_socket_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="FADEMOE_HOME"):
        servers.make_home(tmp_path / ("x" * 100))


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    mode = tmp_path.stat().st_mode
    with pytest.raises(ConfigError, match="a folder of its own"):
        servers.prepare_home(tmp_path)
    assert mode == tmp_path.stat().st_mode


def test_with_urls_given_the_servers_are_not_needed(tmp_path):
    settings = Settings(home=tmp_path / "var", database_url="postgresql://a.test/x", redis_url="redis://a.test")
    assert servers.run_postgres(settings) == 0
    assert servers.run_redis(settings) == 0
    assert not settings.home.exists()


def test_a_program_that_just_started_waits_before_it_starts_again(tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "MIN_START_INTERVAL_S", 2.0)
    begin = time.monotonic()
    servers.wait_before_start(tmp_path / "mark")
    assert time.monotonic() - begin < 1.5
    servers.wait_before_start(tmp_path / "mark")
    assert time.monotonic() - begin >= 1.5
