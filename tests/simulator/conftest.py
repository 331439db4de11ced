"""A running simulator for the tests of this folder: a process of its own, on a free port, asked as any client would."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import requests
import websocket

from fademoe.simulator.market.market import Market

MINUTE_MS = 60_000
DAY_MS = 86_400_000


class Simulator:
    """A simulator process and what the tests ask of it."""

    def __init__(self, *options: str) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "fademoe.simulator", "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if "http://" not in line:
            self.process.stdout.close()
            raise AssertionError(f"the simulator ended with status {self.process.wait(5)}")
        self.url = "http://" + line.strip().rpartition("http://")[2]
        self.sockets: list[websocket.WebSocket] = []
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str, **query: object) -> requests.Response:
        """Ask with GET."""
        return self.session.get(self.url + path, params=query, timeout=10)

    def rows(self, path: str, **query: object) -> list:
        """Return the JSON of an answer that has to be good."""
        response = self.get(path, **query)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: object) -> dict:
        """Ask with POST."""
        response = self.session.post(self.url + path, data=json.dumps(body), timeout=10)
        assert response.status_code == 200, response.text
        return response.json()

    def fault(self, **fault: object) -> int:
        """Put a fault in force and return its id."""
        return self.post("/sim/faults", fault)["faults"][0]["id"]

    def truth(self, metric: str, symbol: str, start_ms: int, end_ms: int, **query: object) -> list[dict]:
        """Return Binance's rows that a collector must have."""
        query |= {"exchange": "binance", "metric": metric, "symbol": symbol, "from": start_ms, "to": end_ms}
        return self.get("/sim/truth", **query).json()["rows"]

    def now_ms(self) -> int:
        """Return the exchanges' time."""
        return self.get("/sim/clock").json()["now_ms"]

    def set_time(self, now_ms: int) -> None:
        """Let the exchanges' clock go on from `now_ms`."""
        host_ms = time.time_ns() // 1_000_000
        self.post("/sim/clock", {"offset_ms": now_ms - host_ms})

    def set_second(self, second: float) -> int:
        """Let the exchanges' clock go on from a second of the next minute and return that minute."""
        minute_ms = self.now_ms() // MINUTE_MS * MINUTE_MS + MINUTE_MS
        self.set_time(minute_ms + int(second * 1000))
        return minute_ms

    def connect(self, path: str, **options: object) -> websocket.WebSocket:
        """Open a WebSocket."""
        self.sockets.append(websocket.create_connection(self.url.replace("http", "ws") + path, timeout=5, **options))
        return self.sockets[-1]

    def close_sockets(self) -> None:
        """Close the client's ends."""
        for socket in self.sockets:
            socket.shutdown()
        self.sockets.clear()

    @staticmethod
    def receive_for(socket: websocket.WebSocket, seconds: float) -> list[dict]:
        """Return all messages of the next seconds."""
        messages = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            socket.settimeout(left)
            try:
                messages.append(json.loads(socket.recv()))
            except websocket.WebSocketTimeoutException:
                break
        return messages

    @staticmethod
    def receive_until(socket: websocket.WebSocket, wanted: Callable[[dict], bool], seconds: float = 5) -> dict:
        """Return the first message of a kind."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            socket.settimeout(left)
            message = json.loads(socket.recv())
            if wanted(message):
                return message
        raise AssertionError("the message did not come")

    def stop(self) -> int:
        """Stop the process and return its exit status."""
        self.close_sockets()
        self.session.close()
        self.process.terminate()
        self.process.stdout.close()
        return self.process.wait(5)


@pytest.fixture(scope="session")
def shared() -> Iterator[Simulator]:
    """One simulator for all tests that leave it as they found it."""
    simulator = Simulator("--no-limits")
    yield simulator
    assert simulator.stop() == 0


@pytest.fixture
def sim(shared: Simulator) -> Iterator[Simulator]:
    """The shared simulator, without faults and with the host's clock before and after."""
    yield shared
    shared.close_sockets()
    shared.post("/sim/faults", {"clear": True})
    shared.post("/sim/clock", {"offset_ms": 0})


@pytest.fixture(scope="session")
def other() -> Iterator[Simulator]:
    """One simulator with the other readings and short times, for tests that change its contracts."""
    simulator = Simulator(
        "--no-limits", "--binance-page-keeps", "newest", "--binance-ping-s", "0.3", "--binance-lifetime-s", "0.7"
    )
    yield simulator
    assert simulator.stop() == 0


@pytest.fixture
def start() -> Iterator[Callable[..., Simulator]]:
    """Start a simulator with options of its own."""
    started: list[Simulator] = []

    def start_one(*options: str) -> Simulator:
        started.append(Simulator(*options))
        return started[-1]

    yield start_one
    for simulator in started:
        simulator.stop()


@pytest.fixture
def market(shared: Simulator) -> Market:
    """The shared simulator's truth, in this process."""
    return Market(1, shared.now_ms())


@pytest.fixture
def connect(sim: Simulator) -> Callable[..., websocket.WebSocket]:
    """Open a WebSocket that is closed after the test."""
    return sim.connect
