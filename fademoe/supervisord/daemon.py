"""One supervisord: that of a home. Starts it, asks it, stops it; `supervisorctl` does the same by hand.

supervisord listens on a socket in the home. conf/supervisord.conf names one fixed path, `var/supervisor.sock` in the
checkout, so that supervisorctl works from any shell: a link there points at what was started last.
"""

import http.client
import logging
import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from fademoe.errors import ConfigError, StoreError
from fademoe.supervisord.processes import CONTROL_SOCKET, end_processes, find_processes
from fademoe.supervisord.streams import write_stream_programs

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[2]
SERVERS = ("postgres", "redis")
ANSWER_S = 20.0  # how long a new supervisord may take to answer
STOP_S = 90.0  # longer than any stopwaitsecs in conf/supervisord.conf
RUNNING = "RUNNING"
MOVING = ("STARTING", "STOPPING", "BACKOFF", RUNNING)
PREVIOUS = "supervisor.previous"  # in run/: where the checkout's link pointed before


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program as supervisord sees it."""

    name: str  # group:name for the programs of a group, as supervisorctl wants it
    group: str
    state: str
    pid: int
    uptime_s: int
    exit_code: int
    log_path: Path
    was_started: bool  # since supervisord runs: a second host starts a part of the programs only

    @property
    def is_fine(self) -> bool:
        """Whether it runs, or has ended because it is not needed."""
        return self.state == RUNNING or self.is_unneeded

    @property
    def is_unneeded(self) -> bool:
        """Whether it has ended by itself with exit code 0: a server that is given, a stream that is not enabled."""
        return self.state == "EXITED" and self.exit_code == 0


class Supervisord:
    """The supervisord of one home."""

    def __init__(self, home: Path, checkout: Path = CHECKOUT) -> None:
        """Name the places; nothing is touched."""
        self.home = home
        self.socket = home / "run" / CONTROL_SOCKET
        self.link = checkout / "var" / "supervisor.sock"
        self._checkout = checkout

    def is_running(self) -> bool:
        """Tell whether it answers."""
        try:
            self._call("getState")
        except StoreError:
            return False
        return True

    def start(self, conf: str, environ: Mapping[str, str], streamed: Iterable[str]) -> None:
        """Start it, with no program yet; `streamed` are the exchanges that get a stream program.

        Raises ConfigError with its own words when it refuses.
        """
        path = self._checkout / "conf" / conf
        if not path.is_file():
            raise ConfigError(f"{str(path)!r} is missing: run FadeMoe from its checkout (pip install -e .)")
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(path), "--identifier", str(self.home)]
        if os.geteuid() == 0:
            command += ["--user", "root"]  # said on purpose: otherwise it warns
        environ = {**environ, **write_stream_programs(self.home, streamed)}
        done = subprocess.run(command, cwd=self._checkout, env=environ, capture_output=True, text=True, check=False)
        deadline = time.monotonic() + ANSWER_S
        while done.returncode == 0 and not self.is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
        if not self.is_running():
            words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
            raise ConfigError(f"supervisord does not start: {words or self.home / 'log' / 'supervisord.log'}")
        self._point_link()

    def programs(self) -> list[Program]:
        """Return all programs, in the order of their names."""
        return [
            Program(
                name=row["name"] if row["name"] == row["group"] else f"{row['group']}:{row['name']}",
                group=row["group"],
                state=row["statename"],
                pid=row["pid"],
                uptime_s=max(0, row["now"] - row["start"]) if row["statename"] == RUNNING else 0,
                exit_code=row["exitstatus"],
                log_path=Path(row["stdout_logfile"]),
                was_started=row["start"] > 0,
            )
            for row in self._call("getAllProcessInfo")
        ]

    def start_programs(self, only: Collection[str] = ()) -> list[str]:
        """Start what is stopped, of the programs and groups named in `only` or of all; return what was started.

        Raises ConfigError that names the valid ones.
        """
        programs = self.programs()
        valid = {name for program in programs for name in (program.name, program.group)}
        unknown = sorted(set(only) - valid)
        if unknown:
            raise ConfigError(f"unknown program {', '.join(unknown)}: valid are {', '.join(sorted(valid))}")
        wanted = [program for program in programs if not only or {program.name, program.group} & set(only)]
        stopped = [program for program in wanted if program.state not in MOVING and not program.is_unneeded]
        for program in stopped:
            try:
                self._call("startProcess", program.name, False)  # noqa: FBT003 - supervisord's own interface
            except xmlrpc.client.Fault as fault:
                raise ConfigError(f"supervisord cannot start {program.name}: {fault.faultString}") from fault
        return [program.name for program in stopped]

    def stop(self, say: Callable[[str], None]) -> None:
        """Stop all programs, the servers last, then supervisord itself; end what is left of it and remove its files.

        Raises StoreError when a process cannot be ended.
        """
        if self.is_running():
            self._stop_programs([row for row in self.programs() if row.group not in SERVERS])
            self._stop_programs([row for row in self.programs() if row.group in SERVERS])
            self._call("shutdown")
            deadline = time.monotonic() + STOP_S
            while self._has_process() and time.monotonic() < deadline:
                time.sleep(0.1)
        if not end_processes(self.home, say):
            left = ", ".join(f"{process.pid} ({process.title})" for process in find_processes(self.home))
            raise StoreError(f"these processes of {str(self.home)!r} cannot be ended: {left}")
        self._restore_link()
        for path in (self.home / "run").iterdir():  # sockets and pid files of processes that are gone
            path.unlink()

    def _stop_programs(self, programs: Collection[Program]) -> None:
        """Stop programs at the same time: supervisord's own shutdown takes one group after the other."""
        for program in programs:
            if program.state in MOVING:
                try:
                    self._call("stopProcess", program.name, False)  # noqa: FBT003 - supervisord's own interface
                except xmlrpc.client.Fault as fault:
                    log.info("%s is stopped already: %s", program.name, fault.faultString)
        names = {program.name for program in programs}
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            if not any(program.state in MOVING for program in self.programs() if program.name in names):
                return
            time.sleep(0.1)

    def _has_process(self) -> bool:
        return any(process.role == "supervisord" for process in find_processes(self.home))

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            server = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
            return getattr(server.supervisor, method)(*arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise StoreError(f"supervisord of {str(self.home)!r} does not answer: {error}") from error
        finally:
            transport.close()

    def _point_link(self) -> None:
        """Point the checkout's link at this supervisord, and remember what it pointed at."""
        previous = self._linked()
        self.link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if previous and previous != self.socket:
            _replace_link(self.home / "run" / PREVIOUS, previous)
        _replace_link(self.link, self.socket)

    def _restore_link(self) -> None:
        """Point the checkout's link back at what still runs, or remove it."""
        if self._linked() != self.socket:
            return
        remembered = self.home / "run" / PREVIOUS
        previous = remembered.readlink() if remembered.is_symlink() else None
        if previous and Supervisord(previous.parent.parent).is_running():
            _replace_link(self.link, previous)
        else:
            self.link.unlink()

    def _linked(self) -> Path | None:
        return self.link.readlink() if self.link.is_symlink() else None


def linked_home(checkout: Path = CHECKOUT) -> Path | None:
    """Return the home that was started last from this checkout, if it was not stopped since."""
    link = checkout / "var" / "supervisor.sock"
    return link.readlink().parent.parent if link.is_symlink() else None


def _replace_link(link: Path, target: Path) -> None:
    fresh = link.with_name(f"{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)
