"""Finds and ends the processes of a home whose supervisord is gone: nobody else would ever end them.

They are recognised by what they were started with, not by pid files, whose numbers may belong to strangers by now.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

CONTROL_SOCKET = "ctl.sock"
END_S = 15.0  # how long a process may take to end before it is killed


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of a home."""

    pid: int
    title: str
    role: str  # "supervisord", "server" or "program"

    def send(self, number: int) -> None:
        """Send a signal; a process that has ended meanwhile is fine."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            log.debug("process %s has ended already", self.pid)


def find_processes(home: Path) -> list[Process]:
    """Return the processes that belong to `home`, this one excepted."""
    return [process for pid in _pids() if pid != os.getpid() and (process := _inspect(pid, home))]


def end_processes(home: Path, say: Callable[[str], None]) -> bool:
    """End all processes of `home`: supervisord, then the programs, then the servers; tell whether all have ended."""
    for role in ("supervisord", "program", "server"):
        left = _of_role(home, role)
        for process in left:
            say(f"ending process {process.pid}, left over: {process.title}")
            # INT is PostgreSQL's fast shutdown; TERM would wait for its clients
            process.send(signal.SIGINT if process.title == "postgres" else signal.SIGTERM)
        deadline = time.monotonic() + END_S * (6 if role == "supervisord" else 1)
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            left = _of_role(home, role)
        for process in left:
            say(f"process {process.pid} ({process.title}) did not end: killing it")
            process.send(signal.SIGKILL)
    time.sleep(0.1)
    return not find_processes(home)


def _of_role(home: Path, role: str) -> list[Process]:
    return [process for process in find_processes(home) if process.role == role]


def _pids() -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            yield int(folder.name)


def _inspect(pid: int, home: Path) -> Process | None:
    """Return the process when it belongs to `home`."""
    arguments = _fields(pid, "cmdline")
    if not arguments:
        return None
    run = home / "run"
    if str(home / "redis") in arguments and "--unixsocket" in arguments:
        return Process(pid=pid, title="redis", role="server")
    if str(home / "postgres") in arguments and "-D" in arguments:
        return Process(pid=pid, title="postgres", role="server")
    if "supervisor.supervisord" in arguments and str(home) in arguments:
        return Process(pid=pid, title="supervisord", role="supervisord")
    # supervisord tells each program where its own socket is; what a program starts inherits that
    if f"SUPERVISOR_SERVER_URL=unix://{run / CONTROL_SOCKET}" in _fields(pid, "environ"):
        return Process(pid=pid, title=" ".join(Path(part).name for part in arguments[1:5]), role="program")
    return None


def _fields(pid: int, name: str) -> list[str]:
    """Read a list that the kernel keeps of a process; empty when it has ended or belongs to somebody else."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/{name}").read_bytes()).split("\0")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return []
