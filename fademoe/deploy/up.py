"""Bring everything up, take it down, say how it is: `fademoe up | down | status | demo`, and so make."""

import fcntl
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fademoe.deploy.checks import Web, check_servers, check_web_port, disk_trouble, unreachable
from fademoe.deploy.demo import Demo
from fademoe.embedded import servers
from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.settings import Settings
from fademoe.supervisord import streams
from fademoe.supervisord.client import Program
from fademoe.supervisord.daemon import SERVERS, Supervisord, linked_home
from fademoe.supervisord.processes import end_processes, find_processes

UP_S = 90.0  # how long the programs may take to come up
SERVERS_S = 20.0  # how long the others are held back for the servers
STEADY_S = 3.0  # programs count as up when they all are for so long
SAY_EVERY_S = 5.0
LOG_LINES = 10
STARTED_WITH = "settings"  # in run/: what supervisord was started with, secrets masked


def up(settings: Settings, only: Collection[str] = ()) -> int:
    """Start everything, or the programs and groups in `only`, and wait until it works; return the exit code.

    Safe to repeat: starts what is stopped. Raises ConfigError when a setting stands in the way.
    """
    supervisord = Supervisord(settings.home)
    with _alone(settings.home):
        _start(supervisord, settings, environment(os.environ, settings), "supervisord.conf", only)
    if not _wait_until_up(supervisord, settings, only):
        return 1
    for line in unreachable(registry.enabled(settings), settings):
        say(f"no connection to {line}; its programs keep trying")
    if not only or "web" in only:
        say(f"FadeMoe is up: {Web(settings).url}")
    _say_how(settings.home)
    return 0


def down(settings: Settings) -> int:
    """Stop everything that was started from here, the demo too; leave no process, socket or pid file behind."""
    exit_code = 0
    for title, home in _homes(settings):
        if not (home / servers.MARK).exists():
            continue
        supervisord = Supervisord(home)
        with _alone(home):
            is_alive = supervisord.is_running() or bool(find_processes(home))
            if is_alive:
                say(f"stopping {title} ({home})")
            try:
                supervisord.stop(say)
            except StoreError as error:
                say(str(error))
                exit_code = 1
            else:
                say(f"{title} is stopped" if is_alive else f"{title} was not running")
    return exit_code


def status(settings: Settings) -> int:
    """Print a table of all programs; return 0 when all run that were started, 1 otherwise."""
    shown, all_fine = 0, True
    for title, home in _homes(settings):
        supervisord = Supervisord(home)
        if supervisord.is_running():
            programs = supervisord.programs()
            say(f"{title} ({home})")
            say("\n".join(_table(programs)))
            if full := disk_trouble(home):
                say(f"  {full}")
            shown += 1
            started = [program.is_fine for program in programs if program.was_started]
            all_fine = all_fine and bool(started) and all(started) and not full
        elif left := find_processes(home):
            say(f"{title} ({home}): supervisord is gone; {len(left)} of its processes are left: make down ends them")
            shown += 1
            all_fine = False
    if not shown:
        say("FadeMoe is not running: make up starts it, make demo shows it without the internet")
    return 0 if shown and all_fine else 1


def demo(settings: Settings) -> int:
    """Start everything against the built-in simulator, in a home of its own, and wait until data are to be seen.

    Raises ConfigError when a setting stands in the way.
    """
    servers.own_home(settings.home)  # the demo's home lies in it, and the servers' user must be able to go there
    show = Demo(settings, os.environ)
    supervisord = Supervisord(show.home)
    with _alone(show.home):
        environ = environment(show.environ(is_running=supervisord.is_running()), show.settings)
        _start(supervisord, show.settings, environ, "demo.conf", ())
    if not _wait_until_up(supervisord, show.settings, ()):
        return 1
    if not show.seed(environ, say):
        return 1
    if not show.wait_for_data(say):
        _report(supervisord.programs(), show.elapsed_s)
        _say_how(show.home)
        return 1
    say(f"The demo is up: {Web(show.settings).url}")
    _say_how(show.home)
    return 0


def environment(given: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the environment that supervisord and its programs get."""
    kept = {name: value for name, value in given.items() if not name.startswith(("MAKE", "SUPERVISOR_", "MFLAGS"))}
    programs = str(Path(sys.executable).parent)
    return kept | {
        "FADEMOE_HOME": str(settings.home),
        "FADEMOE_WORKERS": str(settings.workers),
        "AUTORESTART_POSTGRES": "unexpected" if settings.database_url else "true",
        "AUTORESTART_REDIS": "unexpected" if settings.redis_url else "true",
        "PATH": os.pathsep.join(dict.fromkeys([programs, *given.get("PATH", os.defpath).split(os.pathsep)])),
        "PYTHONUNBUFFERED": "1",
    }


def say(text: str) -> None:
    """Print a line for the user."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Let one up or down at a time work on a home: the second waits."""
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


def _start(
    supervisord: Supervisord, settings: Settings, environ: Mapping[str, str], conf: str, only: Collection[str]
) -> None:
    """Start supervisord unless it runs, and then what is stopped."""
    record = settings.run_dir / STARTED_WITH
    rows = [f"{name}={value}" for name, value in settings.rows()]
    if supervisord.is_running():
        say(f"FadeMoe is running already ({settings.home})")
        before = record.read_text().splitlines() if record.exists() else rows
        for changed in sorted({row.partition("=")[0] for row in set(rows) ^ set(before)}):
            say(f"{changed} has changed since: it takes effect after make down")
        if streams.has_changed(settings.home, registry.streamed()):
            say("the exchanges with a stream have changed since: it takes effect after make down")
    else:
        servers.check(settings)
        registry.enabled(settings)  # raises ConfigError when a key is missing
        if not end_processes(settings.home, say):
            raise StoreError(f"processes of {str(settings.home)!r} are left over and cannot be ended")
        if not only or "web" in only:
            check_web_port(settings)
        check_servers(settings)
        supervisord.start(conf, environ, registry.streamed())
        record.write_text("\n".join(rows) + "\n")
    # the servers first: on a small host a dozen starting programs would keep them from their work
    programs = [name for name in SERVERS if not only or name in only]
    say(f"starting {', '.join(only) or 'the servers and then the rest'}")
    started = supervisord.start_programs(programs) if programs else []
    deadline = time.monotonic() + SERVERS_S
    while programs and not servers.accepting(settings) and time.monotonic() < deadline:
        time.sleep(0.1)
    started += supervisord.start_programs(only)
    say(f"started {_counted(started)}" if started else "nothing was stopped")


def _wait_until_up(supervisord: Supervisord, settings: Settings, only: Collection[str]) -> bool:
    """Wait until the web is healthy and all programs run; say what is not when that takes too long."""
    web = Web(settings) if not only or "web" in only else None
    begin = said = calm_since = time.monotonic()
    while True:
        now = time.monotonic()
        programs = [row for row in supervisord.programs() if not only or {row.name, row.group} & set(only)]
        trouble = [f"{program.name} is {program.state.lower()}" for program in programs if not program.is_fine]
        if web and (words := web.health()):
            trouble.append(f"web: {words}")
        if not trouble and (web or now - calm_since >= STEADY_S):
            return True
        if trouble:
            calm_since = now
        if now - begin > UP_S:
            say(f"after {UP_S:.0f} s not everything is up: {'; '.join(trouble)}")
            _report(programs, now - begin)
            return False
        if trouble and now - said >= SAY_EVERY_S:
            said = now
            say(f"{now - begin:4.0f} s  waiting: {'; '.join(trouble[:4])}")
        time.sleep(0.25)


def _report(programs: Collection[Program], elapsed_s: float) -> None:
    """Print the last log lines of each program that is not up or was started again; when none is, of all kinds."""
    suspect = [row for row in programs if not row.is_fine or (row.pid and row.uptime_s < elapsed_s / 2)]
    for program in suspect or {row.group: row for row in programs}.values():
        say(f"\n{program.name}: {program.state.lower()}, the end of {program.log_path}:")
        lines = program.log_path.read_text(errors="replace").splitlines() if program.log_path.exists() else []
        say("\n".join(f"    {line}" for line in lines[-LOG_LINES:]) or "    (empty)")


def _say_how(home: Path) -> None:
    say(f"  logs     {home / 'log'}")
    say("  status   make status, or supervisorctl -c conf/supervisord.conf status")
    say("  stop     make down")


def _table(programs: Collection[Program]) -> list[str]:
    width = max((len(program.name) for program in programs), default=0)
    return [f"  {row.name:<{width}}  {_state(row):<22}  {_uptime(row)}".rstrip() for row in programs]


def _counted(names: Collection[str]) -> str:
    """Write program names with one entry for each group of them."""
    groups = Counter(name.partition(":")[0] for name in names)
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in groups.items())


def _state(program: Program) -> str:
    if program.is_unneeded:
        return "not needed"
    if not program.was_started:
        return "not started"
    if program.state == "EXITED":
        return f"ended, exit code {program.exit_code}"
    return program.state.lower()


def _uptime(program: Program) -> str:
    if not program.pid:
        return ""
    minutes, seconds = divmod(program.uptime_s, 60)
    hours, minutes = divmod(minutes, 60)
    return f"pid {program.pid:<8} up {hours}:{minutes:02}:{seconds:02}"


def _homes(settings: Settings) -> list[tuple[str, Path]]:
    """Return (title, home) of what may run: the demo, FadeMoe itself, and what was started last with another home."""
    homes = {settings.home / "demo": "the demo", settings.home: "FadeMoe"}
    linked = linked_home()
    if linked and linked.is_dir():
        homes.setdefault(linked, "FadeMoe of another FADEMOE_HOME")
    return [(title, home) for home, title in homes.items()]
