"""The supervisord of a home: starts it, starts and stops its programs, ends it. `supervisorctl` does the same by hand.

supervisord listens on a socket in the home. conf/supervisord.conf names one fixed path, `var/supervisor.sock` in the
checkout, so that supervisorctl works from any shell: a link there points at the socket of the home started last.

    checkout/var/supervisor.sock -> <home 2>/run/ctl.sock             home 2 was started last
    <home 2>/run/supervisor.previous -> <home 1>/run/ctl.sock         home 1 gets the link back when home 2 stops
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from fademoe.errors import ConfigError, StoreError
from fademoe.supervisord.client import Program, SupervisorClient
from fademoe.supervisord.processes import end_processes, find_processes
from fademoe.supervisord.streams import write_stream_programs

CHECKOUT = Path(__file__).resolve().parents[2]
SERVERS = ("postgres", "redis")
START_TIMEOUT_S = 20.0  # until a new supervisord answers
STOP_TIMEOUT_S = 90.0  # longer than any stopwaitsecs in conf/supervisord.conf
PREVIOUS_LINK = "supervisor.previous"  # in run/: the target of the checkout's link before this home


class Supervisord:
    """The supervisord of one home."""

    def __init__(self, home: Path, checkout: Path = CHECKOUT) -> None:
        """Name the places; nothing is touched."""
        self.home = home
        self.client = SupervisorClient(home / "run")
        self.link = checkout / "var" / "supervisor.sock"
        self._checkout = checkout

    @property
    def socket(self) -> Path:
        """Socket on which supervisord listens."""
        return self.client.socket

    def is_running(self) -> bool:
        """Return whether it answers."""
        return self.client.is_running()

    def list_programs(self) -> list[Program]:
        """Return all programs; raise StoreError when supervisord does not answer."""
        return self.client.list_programs()

    def start(self, conf: str, environ: Mapping[str, str], streamed: Iterable[str]) -> None:
        """Start it, with no program yet.

        `conf`: a file name in conf/ of the checkout; `streamed`: the exchanges that get a stream program.
        Raises ConfigError with its own message when it does not start.
        """
        path = self._checkout / "conf" / conf
        if not path.is_file():
            raise ConfigError(f"{str(path)!r} is missing: run FadeMoe from its checkout (pip install -e .)")
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(path), "--identifier", str(self.home)]
        command += ["--directory", str(self._checkout)]
        if os.geteuid() == 0:
            command += ["--user", "root"]  # explicit, otherwise supervisord warns
        environ = {**environ, **write_stream_programs(self.home, streamed)}
        done = subprocess.run(command, cwd=self._checkout, env=environ, capture_output=True, text=True, check=False)
        deadline = time.monotonic() + START_TIMEOUT_S
        while done.returncode == 0 and not self.is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
        if not self.is_running():
            message = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
            raise ConfigError(f"supervisord does not start: {message or self.home / 'log' / 'supervisord.log'}")
        self._point_link()

    def start_programs(self, only: Collection[str] = ()) -> list[str]:
        """Start the stopped programs, of those and of the groups in `only` or of all; return the names of the started.

        Raises ConfigError that names the valid ones.
        """
        programs = self.list_programs()
        valid = {name for program in programs for name in (program.name, program.group)}
        unknown = sorted(set(only) - valid)
        if unknown:
            raise ConfigError(f"unknown program {', '.join(unknown)}: valid are {', '.join(sorted(valid))}")
        wanted = [program for program in programs if not only or {program.name, program.group} & set(only)]
        stopped = [program for program in wanted if not program.is_changing and not program.is_unneeded]
        for program in stopped:
            self.client.start(program.name)
        return [program.name for program in stopped]

    def stop_programs(self, names: Collection[str]) -> None:
        """Stop programs at the same time and wait for their ends: supervisord's own shutdown stops group by group."""
        for program in self.list_programs():
            if program.name in names and program.is_changing:
                self.client.stop(program.name)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if not any(program.is_changing for program in self.list_programs() if program.name in names):
                return
            time.sleep(0.1)

    def stop(self, say: Callable[[str], None]) -> None:
        """Stop all programs, the servers last, then supervisord; end processes that are left and remove its files.

        Tells `say` each process that was left. Raises StoreError when a process cannot be ended.
        """
        if self.is_running():
            programs = self.list_programs()
            self.stop_programs([program.name for program in programs if program.group not in SERVERS])
            self.stop_programs([program.name for program in programs if program.group in SERVERS])
            self.client.shut_down()
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while self._has_process() and time.monotonic() < deadline:
                time.sleep(0.1)
        if not end_processes(self.home, say):
            remaining = ", ".join(f"{process.pid} ({process.title})" for process in find_processes(self.home))
            raise StoreError(f"these processes of {str(self.home)!r} cannot be ended: {remaining}")
        self._restore_link()
        for path in (self.home / "run").iterdir():  # sockets and pid files of processes that have ended
            if not path.is_dir():
                path.unlink()

    def _has_process(self) -> bool:
        return any(process.role == "supervisord" for process in find_processes(self.home))

    def _point_link(self) -> None:
        """Point the checkout's link at this supervisord, and keep its former target in PREVIOUS_LINK."""
        previous = _read_link(self.link)
        self.link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if previous and previous != self.socket:
            _replace_link(self.home / "run" / PREVIOUS_LINK, previous)
        _replace_link(self.link, self.socket)

    def _restore_link(self) -> None:
        """Point the checkout's link back at the former target if that still runs, else remove it."""
        if _read_link(self.link) != self.socket:
            return
        previous = _read_link(self.home / "run" / PREVIOUS_LINK)
        if previous and Supervisord(previous.parent.parent).is_running():
            _replace_link(self.link, previous)
        else:
            self.link.unlink()


def find_linked_home(checkout: Path = CHECKOUT) -> Path | None:
    """Return the home that was started last from this checkout, None when it was stopped since."""
    target = _read_link(checkout / "var" / "supervisor.sock")
    return target.parent.parent if target else None


def _read_link(link: Path) -> Path | None:
    return link.readlink() if link.is_symlink() else None


def _replace_link(link: Path, target: Path) -> None:
    """Make or change a link in one step."""
    fresh = link.with_name(f"{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)
