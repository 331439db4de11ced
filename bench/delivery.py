"""Alerts: from the end of a bar to the first attempt of delivery, with the streams of 3 × 500 symbols running."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median

from bench.report import Report, Table
from bench.stage import stage, until
from bench.stream import EXCHANGES, SEED, SYMBOLS, UNIVERSE, list_common_symbols, read_running
from fademoe.alerts.files import apply_rules
from fademoe.alerts.rules import parse_rule_file
from fademoe.clock import MINUTE_MS, SECOND_MS, floor_to, now_ms
from fademoe.runtime.services import Services
from fademoe.simulator.market.market import Market

RULES = 20
MINUTES = 5
SETTLE_S = 8  # for the messages of the last minute
AT_MOST_S = 3 + 2  # the simulator sends the last closed candles 2 s after their minute
RULE = """
[[rule]]
name = "rises-{number}"
expr = "chg(close, 1m) > 0.043{number:02}%"
channels = ["desk"]
"""
CHANNEL = """
[[channel]]
name = "desk"
url = "http://127.0.0.1:{port}"
"""


def run() -> Report:
    """Follow the exchanges, evaluate rules that fire for hundreds of contracts every minute, and receive them."""
    with stage("--universe-size", str(UNIVERSE), "--seed", str(SEED), "--no-holes") as servers, _Receiver() as receiver:
        symbols = list_common_symbols(Market(SEED, now_ms(), universe_size=UNIVERSE))
        servers.environ["FADEMOE_SYMBOLS"] = ",".join(symbols)
        started = [*(servers.start("stream", name) for name in EXCHANGES), servers.start("worker", "--notify")]
        started += [servers.start("scheduler"), servers.start("worker", "--live")]
        context = servers.context()
        until(lambda: read_running(context) == len(EXCHANGES), 90)
        text = "".join(RULE.format(number=number) for number in range(RULES)) + CHANNEL.format(port=receiver.port)
        apply_rules(context.database, "bench.toml", parse_rule_file(text))
        started.append(servers.start("alerts", "run"))
        first = floor_to(now_ms(), MINUTE_MS) + MINUTE_MS
        time.sleep((first + MINUTES * MINUTE_MS - now_ms()) / SECOND_MS + SETTLE_S)
        found = _measure(context, first)
        servers.stop(*started)
        context.close()
    table = Table(columns=("from the end of a bar to", "count", "p50 s", "p95 s", "max s", "p95 at most"))
    for title, delays, limit in found:
        table.rows.append((title, len(delays), median(delays), delays[len(delays) * 95 // 100], delays[-1], limit))
    notes = [
        f"{RULES} rules over {SYMBOLS} symbols of {len(EXCHANGES)} exchanges, {MINUTES} minutes; a message holds all"
        " contracts for which a rule changed in a minute,"
        f" {receiver.transitions // max(receiver.requests, 1)} on average. The simulator sends a closed bar 0.2 to 2 s"
        " after its minute, so that the last of 1,500 comes after 2 s; a minute is evaluated when all are stored. OKX"
        " sends none for a minute without trades: those are requested over REST. None is left out: a minute waits up to"
        " 30 s for a bar that does not come.",
    ]
    return Report(title="alerts on their way", tables=[table], notes=notes)


def _measure(context: Services, first: int) -> list[tuple[str, list[float], object]]:
    """Return, for the minutes from `first` on, the seconds to their evaluation and to the attempts, ascending."""
    window = (first, first + MINUTES * MINUTE_MS)
    with context.database.open_transaction() as cursor:
        cursor.execute("SELECT minute, evaluated_ms FROM perp_alert_minutes WHERE minute >= %s AND minute < %s", window)
        found: list[tuple[str, list[float], object]] = [
            ("the rows of the minute, read", _to_delays(cursor.fetchall()), "")
        ]
        cursor.execute(
            "SELECT minute, min(at_ms) FROM perp_deliveries d JOIN perp_attempts a ON a.delivery = d.id"
            " WHERE minute >= %s AND minute < %s GROUP BY d.id, minute",
            window,
        )
        found.append(("the first attempt of a message", _to_delays(cursor.fetchall()), AT_MOST_S))
    return found


def _to_delays(rows: list[tuple[int, int]]) -> list[float]:
    return sorted((at_ms - minute - MINUTE_MS) / SECOND_MS for minute, at_ms in rows)


class _Receiver:
    """A server that takes every message."""

    def __init__(self) -> None:
        self.requests = self.transitions = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests += 1
                receiver.transitions += body.count(b'"generatorURL"')
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Be silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    def __enter__(self) -> "_Receiver":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
