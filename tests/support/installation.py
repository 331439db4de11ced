"""A whole FadeMoe under supervisord, in a home of its own, against a simulator of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import psycopg2

from fademoe.cli.environment import load_settings
from fademoe.deploy import up
from fademoe.embedded.servers import make_home
from fademoe.feeds import registry
from fademoe.supervisord.daemon import CHECKOUT, Supervisord
from fademoe.supervisord.processes import find_processes
from tests.support.clocks import until
from tests.support.simulator import Simulator
from tests.support.system import System


def free_port() -> int:
    """Return a TCP port of loopback that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Installation(System):
    """FadeMoe as `make up` runs it."""

    def __init__(self, folder: Path, simulator: Simulator, symbols: list[str], workers: int) -> None:
        self.home = folder / "home"
        checkout = folder / "checkout"
        shutil.copytree(CHECKOUT / "conf", checkout / "conf")
        make_home(self.home)
        self.web_port = free_port()
        self.environment = {
            "FADEMOE_HOME": str(self.home),
            "FADEMOE_SYMBOLS": ",".join(symbols),
            "FADEMOE_WORKERS": str(workers),
            "FADEMOE_WEB_PORT": str(self.web_port),
            "FADEMOE_MCP_PORT": str(free_port()),
        }
        for name, exchange in registry.load_exchanges().items():
            self.environment[f"FADEMOE_{name.upper()}_REST_URL"] = simulator.url
            self.environment[f"FADEMOE_{name.upper()}_WS_URL"] = simulator.url.replace("http", "ws")
            if exchange.needs_key:
                self.environment[f"FADEMOE_{name.upper()}_KEY"] = "demo"
        self.simulator = simulator
        self.programs = []
        self.with_settings()
        self.supervisord = Supervisord(self.home, checkout)

    def with_settings(self, **environment: str) -> "Installation":
        """Take these settings, too; to be called before it is up."""
        self.environment |= environment
        self.settings = load_settings(self.environment)
        self.database_url = self.settings.postgres_url
        return self

    def up(self, only: Collection[str] = ()) -> None:
        """Start supervisord and everything in it, or the programs in `only`."""
        environ = up.make_environment({**os.environ, **self.environment}, self.settings)
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
        if not self.supervisord.is_running():
            self.supervisord.start("supervisord.conf", environ, registry.list_streamed())
        self.supervisord.start_programs(only)
        until(lambda: all(row.is_fine for row in self.supervisord.list_programs() if not only or row.name in only), 60)
        until(self.answers, 60)

    def down(self) -> None:
        """Stop everything; nothing may be left."""
        self.supervisord.stop(lambda line: None)
        assert find_processes(self.home) == []
        assert [path.name for path in (self.home / "run").iterdir() if path.is_socket()] == []

    def pids(self) -> dict[str, int]:
        """Return the process of every running program by its name."""
        return {program.name: program.pid for program in self.supervisord.list_programs() if program.pid}

    def kill(self, name: str) -> None:
        """Kill a program with SIGKILL; `horse` is a work horse of any worker, if there is one."""
        pids = self.pids()
        if name != "horse":
            if name in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pids[name], signal.SIGKILL)
            return
        workers = ",".join(str(pid) for program, pid in pids.items() if program.startswith("worker"))
        children = subprocess.run(["pgrep", "-P", workers], capture_output=True, text=True, check=False).stdout.split()
        if children:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(int(children[0]), signal.SIGKILL)

    def answers(self) -> bool:
        """Tell whether PostgreSQL answers, with our tables in it."""
        try:
            self.query("SELECT 1 FROM perp_status LIMIT 1")
        except (psycopg2.OperationalError, psycopg2.errors.UndefinedTable):
            return False
        return True
