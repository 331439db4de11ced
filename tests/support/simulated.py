"""A simulator process and a plain client of it, for the tests of the simulator and of what exchanges send."""

import json
import os
import time
from collections.abc import Callable

import requests
import websocket

from tests.support import programs

MINUTE_MS = 60_000


class SimulatorProcess:
    """A simulator in a process of its own on a free port, and a plain client of it."""

    def __init__(self, *options: str) -> None:
        """Start the process with these options and wait until it listens; no maintenance is near (see --open)."""
        self.open_ms = time.time_ns() // 1_000_000
        reading, writing = os.pipe()
        self.process = programs.start(
            ("simulator", "--port", "0", "--open", str(self.open_ms), *options), os.environ, stdout=writing
        )
        os.close(writing)
        self.output = os.fdopen(reading)
        line = self.output.readline()
        if "http://" not in line:
            self.output.close()
            raise AssertionError(f"the simulator ended with status {self.process.wait(60)}")
        self.url = "http://" + line.strip().rpartition("http://")[2]
        self.sockets: list[websocket.WebSocket] = []
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str, **query: object) -> requests.Response:
        """Send a GET request."""
        return self.session.get(self.url + path, params=query, timeout=60)

    def rows(self, path: str, **query: object) -> list:
        """Return the JSON of an answer that must have status 200."""
        response = self.get(path, **query)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: object) -> dict:
        """Send a POST request with JSON; return the JSON of an answer that must have status 200."""
        response = self.session.post(self.url + path, data=json.dumps(body), timeout=60)
        assert response.status_code == 200, response.text
        return response.json()

    def fault(self, **fault: object) -> int:
        """Activate a fault and return its id."""
        return self.post("/sim/faults", fault)["faults"][0]["id"]

    def truth(self, metric: str, symbol: str, start_ms: int, end_ms: int, **query: object) -> list[dict]:
        """Return the rows of Binance that a collector must have stored."""
        query |= {"exchange": "binance", "metric": metric, "symbol": symbol, "from": start_ms, "to": end_ms}
        return self.get("/sim/truth", **query).json()["rows"]

    def now_ms(self) -> int:
        """Return the exchanges' time."""
        return self.get("/sim/clock").json()["now_ms"]

    def set_time(self, now_ms: int) -> None:
        """Set the exchanges' clock to `now_ms`; it continues from there."""
        host_ms = time.time_ns() // 1_000_000
        self.post("/sim/clock", {"offset_ms": now_ms - host_ms})

    def set_second(self, second: float) -> int:
        """Set the exchanges' clock to a second of the next minute; return the start of that minute in ms."""
        minute_ms = self.now_ms() // MINUTE_MS * MINUTE_MS + MINUTE_MS
        self.set_time(minute_ms + int(second * 1000))
        return minute_ms

    def connect(self, path: str, **options: object) -> websocket.WebSocket:
        """Open a WebSocket, which `close_sockets` closes."""
        self.sockets.append(websocket.create_connection(self.url.replace("http", "ws") + path, timeout=60, **options))
        return self.sockets[-1]

    def close_sockets(self) -> None:
        """Close all opened WebSockets."""
        for socket in self.sockets:
            socket.shutdown()
        self.sockets.clear()

    @staticmethod
    def receive_for(socket: websocket.WebSocket, seconds: float) -> list[dict]:
        """Return all messages received in the next seconds."""
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
    def receive_until(socket: websocket.WebSocket, wanted: Callable[[dict], bool], seconds: float = 60) -> dict:
        """Return the first message for which `wanted` is true; AssertionError without one in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            socket.settimeout(left)
            message = json.loads(socket.recv())
            if wanted(message):
                return message
        raise AssertionError("the message did not arrive")

    def stop(self) -> int:
        """Stop the process and return its exit status."""
        self.close_sockets()
        self.session.close()
        self.process.terminate()
        self.output.close()
        return self.process.wait(60)
