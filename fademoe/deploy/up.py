"""Starts, stops and shows the whole system: `fademoe up | down | status | demo`, and so make."""

import fcntl
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fademoe.deploy.checks import Web, check_servers, check_web_port, describe_full_disk, find_unreachable
from fademoe.deploy.demo import Demo
from fademoe.embedded import servers
from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.settings import Settings
from fademoe.store.connection import Database
from fademoe.store.migrate import MIGRATING, list_pending
from fademoe.supervisord import streams
from fademoe.supervisord.client import Program
from fademoe.supervisord.daemon import SERVERS, Supervisord, find_linked_home
from fademoe.supervisord.processes import end_processes, find_processes

UP_TIMEOUT_S = 90.0  # until all programs run and the web is healthy
SERVERS_TIMEOUT_S = 20.0  # how long the other programs are held back for the servers
STABLE_AFTER_S = 3.0  # without a web to ask, programs count as up when all of them run for so long
PROGRESS_INTERVAL_S = 5.0
MAX_LOG_LINES = 10
MAX_PROBLEMS = 4  # in one line of progress
STARTED_WITH = "settings"  # in run/: the settings that supervisord was started with; of secrets a digest


@dataclass(frozen=True, kw_only=True)
class HomeStatus:
    """What runs in one home."""

    title: str
    home: Path
    programs: list[Program]
    problems: list[str]  # beside programs that do not run

    @property
    def is_fine(self) -> bool:
        """Whether all programs run that were started, and there is no other problem."""
        started = [program.is_fine for program in self.programs if program.was_started]
        return bool(started) and all(started) and not self.problems


def start_system(settings: Settings, only: Collection[str] = ()) -> int:
    """Start everything, or the programs and groups in `only`, and wait until it works; return the exit code.

    Safe to repeat: starts what is stopped. Raises ConfigError when a setting stands in the way.
    """
    start = _Start(settings, make_environment(os.environ, settings), "supervisord.conf", only)
    with _locked(settings.home):
        start.run_steps()
    if not start.wait_until_up():
        return 1
    for line in find_unreachable(registry.select_enabled(settings), settings):
        say(f"no connection to {line}; its programs keep trying")
    if start.includes("web"):
        say(f"FadeMoe is up: {Web(settings).url}")
    _say_next_steps(settings.home)
    return 0


def run_demo(settings: Settings) -> int:
    """Start everything against the built-in simulator, in a home of its own, and wait until its pages show data.

    Returns the exit code. Raises ConfigError when a setting stands in the way.
    """
    servers.prepare_home(settings.home)  # the demo's home is inside, and the servers' user must be able to enter
    shown = Demo(settings, os.environ)
    with _locked(shown.home):
        simulated = shown.make_environ(is_running=Supervisord(shown.home).is_running())
        environ = make_environment(simulated, shown.settings)
        start = _Start(shown.settings, environ, "demo.conf", ())
        start.run_steps()
    if not start.wait_until_up() or not shown.seed(environ, say):
        return 1
    shown.apply_rules(say)
    has_data = shown.wait_for_data(say)
    if has_data:
        say(f"The demo is up: {Web(shown.settings).url}")
    else:
        _print_logs(start.supervisord.list_programs(), shown.elapsed_s)
    _say_next_steps(shown.home)
    return 0 if has_data else 1


def stop_system(settings: Settings) -> int:
    """Stop everything that was started from here, the demo included; leave no process, socket or pid file behind.

    Prints one line for each system that was stopped. Returns the exit code.
    """
    exit_code, stopped = 0, 0
    for title, home in _homes(settings):
        if not (home / servers.MARK).exists():
            continue
        supervisord = Supervisord(home)
        with _locked(home):
            is_running = supervisord.is_running() or bool(find_processes(home))
            try:
                supervisord.stop(say)
            except StoreError as error:
                say(str(error))
                exit_code = 1
                continue
        if is_running:
            say(f"{title} is stopped ({home})")
            stopped += 1
    if not stopped and not exit_code:
        say("FadeMoe is not running")
    return exit_code


def list_homes(settings: Settings) -> list[HomeStatus]:
    """Return what runs, for each home that has any process."""
    return [shown for title, home in _homes(settings) if (shown := _home_status(title, home))]


def make_environment(given: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the environment that supervisord and its programs get."""
    kept = {name: value for name, value in given.items() if not name.startswith(("MAKE", "SUPERVISOR_", "MFLAGS"))}
    programs = str(Path(sys.executable).parent)
    return kept | {
        "FADEMOE_HOME": str(settings.home),
        "FADEMOE_WORKERS": str(settings.workers),
        "FADEMOE_ARCHIVE_WORKERS": str(settings.archive_workers),
        "FADEMOE_RESEARCH_WORKERS": str(settings.research_workers),
        "PROGRAM_LOGS": str(settings.log_dir).replace("%", "%%"),  # supervisord expands the names of logs twice
        "AUTORESTART_POSTGRES": "unexpected" if settings.database_url else "true",
        "AUTORESTART_REDIS": "unexpected" if settings.redis_url else "true",
        "PATH": os.pathsep.join(dict.fromkeys([programs, *given.get("PATH", os.defpath).split(os.pathsep)])),
        "PYTHONUNBUFFERED": "1",
    }


def say(text: str) -> None:
    """Print a line for the user at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class _Start:
    """The start of one home: supervisord, then the servers, then the other programs."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], conf: str, only: Collection[str]) -> None:
        """`conf`: file name in conf/ of the checkout; `only`: programs and groups to start, empty for all."""
        self.supervisord = Supervisord(settings.home)
        self._settings = settings
        self._environ = environ
        self._conf = conf
        self._only = only
        self._record = settings.run_dir / STARTED_WITH
        self._started: list[str] = []

    def includes(self, name: str) -> bool:
        """Return whether a program is among those to start."""
        return not self._only or name in self._only

    def run_steps(self) -> None:
        """Start what is stopped; the caller holds the lock of the home."""
        start_supervisord: list[Callable[[], None]] = [
            self._check_settings,
            self._end_leftovers,
            self._check_web_port,
            self._check_servers,
            self._start_supervisord,
        ]
        start_programs: list[Callable[[], None]] = [self._start_servers, self._wait_for_servers, self._start_programs]
        first = [self._report_changes] if self.supervisord.is_running() else start_supervisord
        for step in (*first, *start_programs):
            step()
        say(f"started {_count_groups(self._started)}" if self._started else "all programs are already running")

    def _report_changes(self) -> None:
        """Say which settings differ from those that supervisord was started with, and whether its code is older."""
        say(f"FadeMoe is running already ({self._settings.home})")
        rows = self._settings_rows()
        before = self._record.read_text().splitlines() if self._record.exists() else rows
        for variable in sorted({row.partition("=")[0] for row in set(rows) ^ set(before)}):
            say(f"{variable} has changed: it takes effect after make down")
        if streams.has_changed(self._settings.home, registry.list_streamed()):
            say("the exchanges that have streams have changed: it takes effect after make down")
        database = Database(self._settings.postgres_url, MIGRATING)
        with suppress(StoreError), closing(database):  # without the server nobody knows
            if list_pending(database):
                say("what runs is of an older FadeMoe: make down on every host, then make up")

    def _check_settings(self) -> None:
        servers.check(self._settings)
        registry.select_enabled(self._settings)  # raises ConfigError when a key is missing

    def _end_leftovers(self) -> None:
        if not end_processes(self._settings.home, say):
            raise StoreError(f"processes of {str(self._settings.home)!r} are left over and cannot be ended")

    def _check_web_port(self) -> None:
        if self.includes("web"):
            check_web_port(self._settings)

    def _check_servers(self) -> None:
        check_servers(self._settings)

    def _start_supervisord(self) -> None:
        self.supervisord.start(self._conf, self._environ, registry.list_streamed())
        self._record.write_text("\n".join(self._settings_rows()) + "\n")

    def _start_servers(self) -> None:
        """Start the servers before the rest: on a small host a dozen starting programs would slow them down."""
        if names := [name for name in SERVERS if self.includes(name)]:
            self._started += self.supervisord.start_programs(names)

    def _wait_for_servers(self) -> None:
        deadline = time.monotonic() + SERVERS_TIMEOUT_S
        while any(map(self.includes, SERVERS)) and time.monotonic() < deadline:
            if servers.are_accepting(self._settings):
                return
            time.sleep(0.1)

    def _start_programs(self) -> None:
        self._started += self.supervisord.start_programs(self._only)

    def wait_until_up(self) -> bool:
        """Wait until all programs run and the web is healthy; print what does not when that takes too long."""
        started_s = stable_since_s = printed_s = time.monotonic()
        while True:
            problems, now_s = self._find_problems(), time.monotonic()
            if problems:
                stable_since_s = now_s
            elif self.includes("web") or now_s - stable_since_s >= STABLE_AFTER_S:
                return True
            if now_s - started_s > UP_TIMEOUT_S:
                say(f"after {UP_TIMEOUT_S:.0f} s not everything is up: {'; '.join(problems)}")
                _print_logs(self._programs(), now_s - started_s)
                return False
            if problems and now_s - printed_s >= PROGRESS_INTERVAL_S:
                printed_s = now_s
                say(f"{now_s - started_s:4.0f} s  waiting: {'; '.join(problems[:MAX_PROBLEMS])}")
            time.sleep(0.25)

    def _find_problems(self) -> list[str]:
        problems = [f"{program.name} is {program.state.lower()}" for program in self._programs() if not program.is_fine]
        if self.includes("web") and (problem := Web(self._settings).read_health()):
            problems.append(f"web: {problem}")
        return problems

    def _programs(self) -> list[Program]:
        only = set(self._only)
        return [row for row in self.supervisord.list_programs() if not only or {row.name, row.group} & only]

    def _settings_rows(self) -> list[str]:
        return [f"{variable}={value}" for variable, value in self._settings.list_digests()]


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the lock of a home, so that one command at a time starts or stops it; a second one waits."""
    servers.make_home(home)
    handle = os.open(home / "run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another command is starting or stopping {home}: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _home_status(title: str, home: Path) -> HomeStatus | None:
    """Return what runs in a home, None when nothing does."""
    supervisord = Supervisord(home)
    if supervisord.is_running():
        problems = [problem for problem in [describe_full_disk(home)] if problem]
        return HomeStatus(title=title, home=home, programs=supervisord.list_programs(), problems=problems)
    if processes := find_processes(home):
        problem = f"supervisord has ended and {len(processes)} of its processes are left: make down ends them"
        return HomeStatus(title=title, home=home, programs=[], problems=[problem])
    return None


def _homes(settings: Settings) -> list[tuple[str, Path]]:
    """Return (title, home) of the demo, of FadeMoe itself, and of what was started last with another home."""
    homes = {settings.home / "demo": "the demo", settings.home: "FadeMoe"}
    linked = find_linked_home()
    if linked and linked.is_dir():
        homes.setdefault(linked, "FadeMoe of another FADEMOE_HOME")
    return [(title, home) for home, title in homes.items()]


def _print_logs(programs: Collection[Program], elapsed_s: float) -> None:
    """Print the last log lines of each program that is not up or was restarted; when there is none, of each group."""
    suspects = [row for row in programs if not row.is_fine or (row.pid and row.uptime_s < elapsed_s / 2)]
    for program in suspects or {row.group: row for row in programs}.values():
        say(f"\n{program.name}: {program.state.lower()}, the end of {program.log_path}:")
        lines = program.log_path.read_text(errors="replace").splitlines() if program.log_path.exists() else []
        say("\n".join(f"    {line}" for line in lines[-MAX_LOG_LINES:]) or "    (empty)")


def _say_next_steps(home: Path) -> None:
    say(f"  logs     {home / 'log'}")
    say("  status   make status, or .venv/bin/supervisorctl -c conf/supervisord.conf status")
    say("  stop     make down")


def _count_groups(names: Collection[str]) -> str:
    """Write the names of programs with one entry for each group of them."""
    groups = Counter(name.partition(":")[0] for name in names)
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in groups.items())
