"""A simulator process and its control plane."""

import contextlib
import os
import signal
import socket
from decimal import Decimal
from pathlib import Path

import requests

from fademoe.clock import now_ms
from tests.support import programs
from tests.support.clocks import until


class Simulator:
    """A simulator process and its control plane."""

    def __init__(self, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = ("--open", str(now_ms()), *options)  # or each test of live rows fails on some days at some hours
        self.process = None

    def start(self) -> None:
        """Start the process; return when it answers."""
        command = ("simulator", "--port", str(self.port), *self.options)
        with Path(os.devnull).open("wb") as nothing:
            self.process = programs.start(command, os.environ, stdout=nothing.fileno())
        try:
            until(lambda: self.get("/sim/health"), 60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process, if it runs."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = None

    def get(self, path: str, **params):
        """Return the decoded answer of a GET, None without a connection."""
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(self.url + path, params=params, timeout=60).json()
        return None

    def fault(self, **fault) -> None:
        """Add a fault."""
        requests.post(f"{self.url}/sim/faults", json=fault, timeout=60).raise_for_status()

    def clear(self) -> None:
        """Remove all faults."""
        requests.delete(f"{self.url}/sim/faults", timeout=60)

    def set_clock(self, ahead_ms: int) -> None:
        """Set the exchanges' clocks `ahead_ms` ahead of this machine's."""
        requests.post(f"{self.url}/sim/clock", json={"offset_ms": ahead_ms}, timeout=60).raise_for_status()

    def requests(self, exchange: str) -> int:
        """Return how many REST requests an exchange has got."""
        return sum(self.get("/sim/stats")[exchange]["paths"].values())

    def truth(self, exchange: str, metric: str, symbol: str, start_ms: int, end_ms: int) -> dict[int, dict]:
        """Return the true rows of a range by ts."""
        rows = self.get(
            "/sim/truth", exchange=exchange, metric=metric, symbol=symbol, **{"from": start_ms, "to": end_ms}
        )
        return {row.pop("ts"): row for row in rows["rows"]}


def same(expected, stored: str | None) -> bool:
    """Return whether two numbers are equal to the digit."""
    if expected is None or stored is None:
        return expected is stored
    return Decimal(str(expected)) == Decimal(stored)
