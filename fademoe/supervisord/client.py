"""Client of a supervisord: lists, starts and stops its programs over its unix socket, without waiting for them."""

import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport, UnixStreamHTTPConnection

from fademoe.errors import StoreError

CONTROL_SOCKET = "ctl.sock"  # under run/ of a home, see conf/supervisord.conf
STREAM_PREFIX = "stream-"
RUNNING = "RUNNING"
UP_STATES = (RUNNING, "STARTING", "BACKOFF")
CONNECT_TIMEOUT_S = 0.5


TIMEOUT_S = 15.0  # of one call: each answers at once


class _Connection(UnixStreamHTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self.socketfile)


class _Transport(SupervisorTransport):
    """supervisor's transport with a timeout: a supervisord that is stopped accepts calls and never answers."""

    def __init__(self, path: Path) -> None:
        super().__init__(None, None, f"unix://{path}")
        self._path = path

    def _get_connection(self) -> _Connection:
        connection = _Connection("localhost")
        connection.socketfile = str(self._path)
        return connection


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program as supervisord reports it."""

    name: str  # group:name for the programs of a group, as supervisorctl expects it
    group: str
    state: str
    pid: int
    uptime_s: int
    exit_code: int
    log_path: Path
    was_started: bool  # since supervisord runs; `up --only` starts a part of the programs

    @property
    def is_up(self) -> bool:
        """Whether it runs, or supervisord is starting it."""
        return self.state in UP_STATES

    @property
    def is_changing(self) -> bool:
        """Whether it has a process or is about to get one."""
        return self.is_up or self.state == "STOPPING"

    @property
    def is_fine(self) -> bool:
        """Whether it runs, or has ended because the settings do not need it."""
        return self.state == RUNNING or self.is_unneeded

    @property
    def is_unneeded(self) -> bool:
        """Whether it ended by itself with exit code 0: a server given elsewhere, a stream that is not enabled."""
        return self.state == "EXITED" and self.exit_code == 0


class SupervisorClient:
    """Calls one supervisord. Every method raises StoreError when supervisord does not answer or refuses."""

    def __init__(self, run_dir: Path) -> None:
        """Name the socket in `run_dir`; connect to nothing."""
        self.socket = run_dir / CONTROL_SOCKET

    def find_connection_error(self) -> str | None:
        """Return why supervisord cannot be reached, None when it accepts connections."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(CONNECT_TIMEOUT_S)
                probe.connect(str(self.socket))
        except OSError as error:
            return f"supervisord at {self.socket} does not answer: {error.strerror or error}"
        return None

    def is_running(self) -> bool:
        """Return whether supervisord answers."""
        try:
            self._call("getState")
        except StoreError:
            return False
        return True

    def list_programs(self) -> list[Program]:
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

    def start(self, name: str) -> None:
        """Start a program; one that runs already is left alone."""
        self._call("startProcess", name, False, ignored=Faults.ALREADY_STARTED)  # noqa: FBT003 - not to wait for it

    def stop(self, name: str) -> None:
        """Stop a program; one that has ended already is left alone."""
        self._call("stopProcess", name, False, ignored=Faults.NOT_RUNNING)  # noqa: FBT003 - not to wait for it

    def start_streams(self) -> list[str]:
        """Start every stream that is down; return their names. One that is not enabled ends by itself at once."""
        names = [program.name for program in self._streams() if not program.is_up]
        for name in names:
            self.start(name)
        return names

    def stop_streams(self) -> list[str]:
        """Stop every stream that is up; return their names."""
        names = [program.name for program in self._streams() if program.is_up]
        for name in names:
            self.stop(name)
        return names

    def shut_down(self) -> None:
        """End supervisord itself."""
        self._call("shutdown")

    def _streams(self) -> list[Program]:
        return [program for program in self.list_programs() if program.name.startswith(STREAM_PREFIX)]

    def _call(self, method: str, *arguments: Any, ignored: int | None = None) -> Any:
        """Call a method; return its answer, None for the fault `ignored`."""
        transport = _Transport(self.socket)
        try:
            server = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
            return getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == ignored:
                return None
            action = " ".join([method, *(argument for argument in arguments if isinstance(argument, str))])
            raise StoreError(f"supervisord refuses {action}: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise StoreError(f"supervisord at {self.socket} does not answer: {error}") from error
        finally:
            transport.close()
