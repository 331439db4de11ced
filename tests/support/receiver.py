"""A receiver of webhooks: keeps every request, and fails when it is told to."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Received(NamedTuple):
    """One request, with the status that it was answered with."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def message(self) -> dict[str, Any]:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def transitions(self) -> list[dict[str, Any]]:
        """The transitions in the body."""
        return self.message["fademoe"]["transitions"]


class Receiver:
    """An HTTP server on a free port of loopback. `answer(number)` is the status of the number-th request, from 1.

    Every answer has these headers and this body.
    """

    def __init__(
        self,
        answer: Callable[[int], int] = lambda number: 200,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        self.requests: list[Received] = []
        self._answer, self._headers, self._lock = answer, headers or {}, threading.Lock()
        receiver, answered = self, body

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                names = {name.lower(): value for name, value in self.headers.items()}
                with receiver._lock:
                    status = receiver._answer(len(receiver.requests) + 1)
                    receiver.requests.append(Received(self.path, names, body, status))
                self.send_response(status)
                for name, value in receiver._headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answered)))
                self.end_headers()
                self.wfile.write(answered)

            def log_message(self, *_: Any) -> None:
                """Be silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def delivered(self) -> list[Received]:
        """The requests that were answered with 2xx."""
        return [one for one in self.requests if one.status < 300]

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
