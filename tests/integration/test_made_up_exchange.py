"""An exchange that another package brings by the entry point: it seeds, fetches, streams, stores, serves and shows."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
import requests

from fademoe.clock import HOUR_MS, MINUTE_MS, floor_to, now_ms
from tests.support.clocks import until

MODULE = '''
"""Acme: an exchange for a test."""
import orjson
from fademoe.errors import BadPayload, RetryLater
from fademoe.feeds import parse, spec
from fademoe.metrics import Premium

EXCHANGE = spec.Exchange(
    name="acme", title="Acme", codes=("acm",), rest_url="https://api.acme.test", stream_url="wss://ws.acme.test",
    budgets=(spec.Budget(name="ip", limit=1000, period_ms=1000, jitter_ms=20),),
    judge=lambda answer: None if answer.status == 200 else spec.Refusal(error=RetryLater, message="away"),
    clock=spec.ClockFeed(path="/time", budget="ip", cost=1, parse=lambda body: parse.to_ms(body["now"])),
    instruments=spec.InstrumentsFeed(
        path="/list", budget="ip", cost=1, params={}, source="made up",
        parse=lambda body: [spec.Instrument(exchange="acme", code="acm", name=n, symbol=n) for n in body["names"]],
    ),
    rest_feeds=(
        spec.RestFeed(
            metric="pfr", path="/premium", budget="ip", paging=spec.Paging(costs=((100, 1),)), source="made up",
            params=lambda page: {"name": page.instrument.name, "from": page.start_ms, "to": page.end_ms},
            items=lambda body, page: parse.records(body),
            parse=lambda item, instrument: Premium(parse.to_ms(item[0]), parse.number(item[1])),
        ),
    ),
)
'''


class Acme(BaseHTTPRequestHandler):
    """The made-up exchange: a premium for every minute."""

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/time":
            body = {"now": now_ms()}
        elif url.path == "/list":
            body = {"names": ["BTC", "ZZZ"]}
        else:
            body = [
                [ts, f"-0.{ts // MINUTE_MS % 997:04d}"] for ts in range(int(query["from"]), int(query["to"]), MINUTE_MS)
            ]
        text = orjson.dumps(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def acme():
    """The address of the made-up exchange."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Acme)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is installed beside FadeMoe, with its entry point."""
    site = tmp_path / "site"
    meta = site / "acme_fademoe-1.dist-info"
    meta.mkdir(parents=True)
    (site / "acme_fademoe.py").write_text(MODULE)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-fademoe\nVersion: 1\n")
    (meta / "entry_points.txt").write_text("[fademoe.exchanges]\nacme = acme_fademoe\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


def test_one_module_makes_an_exchange(system, acme, package, tmp_path):
    system.environment |= {"FADEMOE_EXCHANGES": "acme", "FADEMOE_ACME_REST_URL": acme}
    system.environment["FADEMOE_WEB_PORT"] = port = "18471"
    migrated = system.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    for command in (("worker",), ("worker", "--live"), ("scheduler",), ("web",)):
        system.start(*command)
    end_ms = floor_to(now_ms() - 30_000, MINUTE_MS)
    seeded = system.run("seed", "--since", str(end_ms - 5 * HOUR_MS), "--symbols", "BTC,ZZZ", "--wait")
    assert seeded.returncode == 0, seeded.stderr
    rows = system.query("SELECT ts, pfr::text FROM perp_data WHERE source = 'acm-pfr' AND symbol = 'ZZZ' ORDER BY ts")
    wanted = range(end_ms - 5 * HOUR_MS, end_ms, MINUTE_MS)
    assert [row for row in rows if row[0] < end_ms] == [(ts, f"-0.{ts // MINUTE_MS % 997:04d}") for ts in wanted]
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(f"{url}/health"), 20)
    served = requests.get(f"{url}/api/data/acm-pfr", params={"symbol": "ZZZ", "limit": 5}, timeout=5).json()
    assert len(served["rows"]) == 5
    assert "acm-pfr" in requests.get(f"{url}/data", params={"perpspec": "acm-pfr"}, timeout=5).text
    unknown = system.run("seed", "--days", "1", "--exchanges", "mtgox")
    assert "acme" in unknown.stderr


def answers(url):
    try:
        return requests.get(url, timeout=2).ok
    except requests.ConnectionError:
        return False


def test_a_name_used_twice_stops_every_command(system, package):
    (package / "acme_fademoe.py").write_text(MODULE.replace('codes=("acm",)', 'codes=("bin",)'))
    done = subprocess.run(
        [sys.executable, "-m", "fademoe", "settings"], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "used twice" in done.stderr
