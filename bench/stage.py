"""What the benchmarks measure on: FadeMoe's own programs in a home of their own, and the simulator beside them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import requests

from fademoe.cli.environment import load_settings
from fademoe.feeds import registry
from fademoe.runtime.services import Services
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import PREFIX

STOP_S = 70.0


class Stage:
    """A home with PostgreSQL, Valkey and, when asked for, a simulator; programs run with `environ`."""

    def __init__(self, home: Path) -> None:
        """Begin without a program."""
        self.home = home
        self.logs = Path(f"{home}-logs")
        # used shares are measured against the whole limit, as on versions that know no share
        self.environ = {"FADEMOE_HOME": str(home), "FADEMOE_LIMIT_SHARE": "1"}
        self.simulator_url = ""
        self._programs: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Start `fademoe COMMAND` beside the others; its output goes to `logs`."""
        base = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        number = len(self._programs)
        with (self.logs / f"{number:02}-{command[0]}.log").open("wb") as log:
            program = subprocess.Popen(
                [sys.executable, "-m", "fademoe", *command],
                env={**base, **self.environ, **environ},
                stdout=log,
                stderr=log,
            )
        self._programs.append(program)
        return program

    def stop(self, *programs: "subprocess.Popen[bytes]") -> None:
        """End programs with SIGTERM, all at once, and wait for them."""
        for program in programs:
            program.send_signal(signal.SIGTERM)
        for program in programs:
            program.wait(STOP_S)
            self._programs.remove(program)

    def owns(self, pid: int) -> bool:
        """Return whether a process is a program of this stage, or was started by one."""
        started = {program.pid for program in self._programs}
        return pid in started or psutil.Process(pid).ppid() in started

    def restart_postgres(self) -> None:
        """Stop the first program, PostgreSQL, and start it again in the same place."""
        first = self._programs.pop(0)
        first.send_signal(signal.SIGINT)
        first.wait(STOP_S)
        self._programs.insert(0, self.start("postgres"))
        self._programs.pop()

    def start_simulator(self, *options: str) -> None:
        """Start the simulator and let every exchange's addresses point to it."""
        port = _free_port()
        self.simulator_url = f"http://127.0.0.1:{port}"
        self.start("simulator", "--port", str(port), *options)
        until(lambda: self.ask("/sim/health"), 30)
        for name, exchange in registry.load_exchanges().items():
            self.environ[f"{PREFIX}{name.upper()}_REST_URL"] = self.simulator_url
            self.environ[f"{PREFIX}{name.upper()}_WS_URL"] = self.simulator_url.replace("http", "ws")
            if exchange.needs_key:
                self.environ[f"{PREFIX}{name.upper()}_KEY"] = "bench"

    def ask(self, path: str, **params: object) -> object:
        """Return an answer of the simulator's control plane, None while it does not answer."""
        try:
            return requests.get(self.simulator_url + path, params=params, timeout=120).json()  # type: ignore[arg-type]
        except requests.ConnectionError:
            return None

    def context(self, environ: Mapping[str, str] | None = None) -> Services:
        """Return a context over the servers, the schema up to date."""
        return wait_until_ready(load_settings({**self.environ, **(environ or {})}))

    def close(self) -> None:
        """End everything, the servers last."""
        for program in reversed(self._programs):
            program.send_signal(signal.SIGTERM if self._programs.index(program) else signal.SIGINT)
            program.wait(STOP_S)
        self._programs.clear()


@contextmanager
def stage(
    *simulator: str, with_servers: bool = True, with_simulator: bool = True, kept_as: str = ""
) -> Iterator[Stage]:
    """Yield a stage with, unless told otherwise, fresh servers and a simulator with these options.

    With a name in `kept_as` and BENCH_HOME in the environment, the home is that directory's of this name, with what an
    earlier run filled, and stays there.
    """
    kept = os.environ.get("BENCH_HOME") if kept_as else None
    home = Path(kept, kept_as) if kept else Path(tempfile.mkdtemp(prefix="fademoe-bench-"))
    home.mkdir(parents=True, exist_ok=True)
    built = Stage(home)
    built.logs.mkdir(exist_ok=True)
    try:
        if with_servers:
            built.start("postgres")
            built.start("redis")
            built.context().close()
        if with_simulator:
            built.start_simulator(*simulator)
        yield built
    finally:
        built.close()
        if not kept:
            shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(built.logs, ignore_errors=True)


def until(probe: Callable[[], object], seconds: float, every_s: float = 0.1) -> object:
    """Return what `probe` gives as soon as it is true; raise TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = probe()
        if value:
            return value
        time.sleep(every_s)
    raise TimeoutError(f"still not so after {seconds:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
