"""Finds and ends the processes of a home, also those that a killed supervisord has left.

A process is recognised by its arguments and environment, not by a pid file: the number in one may belong to another
process by now.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from fademoe.settings import PREFIX
from fademoe.supervisord.client import CONTROL_SOCKET

ROLES = ("supervisord", "program", "server")  # in the order in which they are ended
END_TIMEOUT_S = {"supervisord": 90.0, "program": 15.0, "server": 15.0}  # then a process is killed
POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of a home."""

    pid: int
    title: str
    role: str  # one of ROLES

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended meanwhile."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def find_processes(home: Path) -> list[Process]:
    """Return the processes that belong to `home`, this one excepted.

    A process of another user, whose arguments or environment may not be read, is not found.
    """
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or it belongs to another user
            if process.pid != os.getpid() and (identified := _identify(process, home)):
                processes.append(identified)
    return processes


def end_processes(home: Path, say: Callable[[str], None]) -> bool:
    """End all processes of `home`: supervisord, then the programs, then the servers.

    Tells `say` each of them. Returns whether all have ended.
    """
    for role in ROLES:
        remaining = _processes_with_role(home, role)
        for process in remaining:
            say(f"ending process {process.pid}, left over: {process.title}")
            # INT is PostgreSQL's fast shutdown; with TERM it waits for its clients
            process.send(signal.SIGINT if process.title == "postgres" else signal.SIGTERM)
        deadline = time.monotonic() + END_TIMEOUT_S[role]
        while remaining and time.monotonic() < deadline:
            time.sleep(POLL_S)
            remaining = _processes_with_role(home, role)
        for process in remaining:
            say(f"process {process.pid} ({process.title}) did not end: killing it")
            process.send(signal.SIGKILL)
    time.sleep(POLL_S)
    return not find_processes(home)


def read_settings(pid: int) -> dict[str, str]:
    """Return the FADEMOE_* variables that a process was started with; {} when it cannot be read."""
    try:
        environ = psutil.Process(pid).environ()
    except (psutil.Error, ValueError):
        return {}
    return {name: value for name, value in environ.items() if name.startswith(PREFIX)}


def _processes_with_role(home: Path, role: str) -> list[Process]:
    return [process for process in find_processes(home) if process.role == role]


def _identify(process: psutil.Process, home: Path) -> Process | None:
    """Return the process when it belongs to `home`; raise psutil.Error when it cannot be read."""
    arguments = process.cmdline()
    if str(home / "redis") in arguments and "--unixsocket" in arguments:
        return Process(pid=process.pid, title="redis", role="server")
    if str(home / "postgres") in arguments and "-D" in arguments:
        return Process(pid=process.pid, title="postgres", role="server")
    if "supervisor.supervisord" in arguments and str(home) in arguments:
        return Process(pid=process.pid, title="supervisord", role="supervisord")
    # supervisord gives each program the address of its own socket, and children of a program inherit it
    address = f"unix://{home / 'run' / CONTROL_SOCKET}"
    if arguments and process.environ().get("SUPERVISOR_SERVER_URL") == address:
        title = " ".join(Path(argument).name for argument in arguments[1:5])
        return Process(pid=process.pid, title=title, role="program")
    return None
