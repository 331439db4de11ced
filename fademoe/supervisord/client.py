"""The streams' programs, as the supervisord of this home runs them: seen, stopped and started over its socket."""

import http.client
import socket
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from supervisor.xmlrpc import SupervisorTransport

from fademoe.errors import StoreError
from fademoe.settings import Settings

SOCKET = "ctl.sock"  # conf/supervisord.conf
CONNECT_S = 0.5
STREAM_PREFIX = "stream-"
UP = ("RUNNING", "STARTING", "BACKOFF")


class Program(NamedTuple):
    """A program and its state in supervisord's words; `is_up` when it runs or is about to."""

    name: str
    state: str

    @property
    def is_up(self) -> bool:
        """Whether it runs, or tries to."""
        return self.state in UP


def absence(settings: Settings) -> str | None:
    """Return why supervisord cannot be asked here, None when it takes connections."""
    path = settings.run_dir / SOCKET
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_S)
            probe.connect(str(path))
    except OSError as error:
        return f"supervisord at {path} does not answer: {error.strerror or error}"
    return None


def streams(settings: Settings) -> list[Program]:
    """Return the stream programs; raise StoreError when supervisord does not answer."""
    with _supervisor(settings) as supervisor:
        rows = supervisor.getAllProcessInfo()
    return [Program(row["name"], row["statename"]) for row in rows if row["name"].startswith(STREAM_PREFIX)]


def stop_streams(settings: Settings) -> list[str]:
    """Stop every stream that is up, without waiting for its end; return their names."""
    found = [program.name for program in streams(settings) if program.is_up]
    with _supervisor(settings) as supervisor:
        for name in found:
            supervisor.stopProcess(name, False)  # noqa: FBT003 - supervisord's own interface
    return found


def start_streams(settings: Settings) -> list[str]:
    """Start every stream that is down; return their names. One that is not enabled ends by itself at once."""
    found = [program.name for program in streams(settings) if not program.is_up]
    with _supervisor(settings) as supervisor:
        for name in found:
            supervisor.startProcess(name, False)  # noqa: FBT003
    return found


@contextmanager
def _supervisor(settings: Settings) -> Iterator[Any]:
    path = settings.run_dir / SOCKET
    transport = SupervisorTransport(None, None, f"unix://{path}")
    try:
        yield xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor
    except xmlrpc.client.Fault as fault:
        raise StoreError(f"supervisord refuses: {fault.faultString}") from fault
    except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
        raise StoreError(f"supervisord at {path} does not answer: {error}") from error
    finally:
        transport.close()
