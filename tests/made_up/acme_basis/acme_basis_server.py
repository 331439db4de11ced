"""The made-up exchange Acme Basis itself: `python acme_basis_server.py --clock 1@0` prints the port that it serves."""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from fademoe.clock import MINUTE_MS, Pace, now_ms, set_pace


def rows(start_ms: int, end_ms: int) -> dict[int, tuple[str, int]]:
    """Return basis and trades by minute."""
    minutes = range(-(-start_ms // MINUTE_MS) * MINUTE_MS, min(end_ms, now_ms() - MINUTE_MS), MINUTE_MS)
    return {ts: (f"-0.{ts // MINUTE_MS % 997:05d}", ts // MINUTE_MS % 7) for ts in minutes}


class Acme(BaseHTTPRequestHandler):
    """GET /list, /basis, and /truth: what FadeMoe should store."""

    def do_GET(self) -> None:
        """Answer a request."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/list":
            self.answer({"names": ["BTC", "ETH"]})
            return
        minutes = rows(int(query["from"]), int(query["to"]))
        if url.path == "/basis":
            self.answer([[ts, basis, trades] for ts, (basis, trades) in list(minutes.items())[:500]])
        else:
            self.answer({ts: {"basis": basis, "basis_trades": trades} for ts, (basis, trades) in minutes.items()})

    def answer(self, body: object) -> None:
        """Send JSON."""
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clock", default="1@0", help="SPEED@SINCE_MS, as FADEMOE_CLOCK")
    set_pace(Pace(*map(int, parser.parse_args().clock.split("@"))))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Acme)
    print(server.server_port, flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
