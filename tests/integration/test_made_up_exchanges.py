"""Exchanges of other packages seed, stream, store, serve, chart and certify; nothing outside of them was changed.

No value depends on the time of day, no port is fixed.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location

import psycopg2
import pytest
import requests

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, floor_to, now_ms
from tests.support.clocks import FAST, fast_clock, sleep_until, until
from tests.support.installation import free_port
from tests.support.made_up import MADE_UP, MadeUpExchange, install
from tests.support.simulator import same
from tests.support.system import System

SEEDED_MS = 5 * HOUR_MS
SOME_MS = 1_767_225_600_000


@dataclass(frozen=True)
class MadeUp:
    """What is known of a made-up exchange: its contracts, and how its metrics come."""

    package: str
    name: str
    code: str
    contracts: dict[str, str]  # symbol -> the exchange's name
    histories: tuple[str, ...]
    streams: tuple[str, ...]
    polls: tuple[str, ...] = ()


POST = MadeUp("acme_post", "acmepost", "acp", {"BTC": "BTC", "PEPE": "kPEPE"}, ("ohlcv", "fr"), ("ohlcv",), ("oi",))
RPC = MadeUp(
    "acme_rpc",
    "acmerpc",
    "acr",
    {"BTC": "BTC_USDC-PERPETUAL", "ETH": "ETH_USDC-PERPETUAL"},
    ("ohlcv",),
    ("ohlcv", "oi", "lq"),
)


@pytest.fixture
def running(request, tmp_path, database_url, redis_url, monkeypatch):
    """FadeMoe and a made-up exchange, both at a fast clock."""
    made_up = request.param
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    install(MADE_UP / made_up.package, tmp_path / "site")
    with fast_clock(FAST) as clock:
        exchange = MadeUpExchange(made_up.package, clock)
        system = System(tmp_path / "home", database_url, redis_url, exchange)
        system.environment |= {
            "FADEMOE_CLOCK": clock,
            "FADEMOE_EXCHANGES": made_up.name,
            "FADEMOE_SYMBOLS": ",".join(made_up.contracts),
            f"FADEMOE_{made_up.name.upper()}_REST_URL": exchange.url,
            f"FADEMOE_{made_up.name.upper()}_WS_URL": exchange.url.replace("http", "ws"),
            "FADEMOE_WEB_PORT": str(free_port()),
        }
        try:
            yield made_up, exchange, system
            system.stop()
        finally:
            for program in system.programs:
                if program.poll() is None:
                    program.kill()
                    program.wait(60)
            exchange.stop()


def test_no_number_of_a_made_up_exchange_depends_on_the_time_of_day(database_url):
    """The fault: -0.0000 came back as 0.0000, and every 997th minute was taken for a wrong one."""
    post, basis = (load_server(package) for package in ("acme_post", "acme_basis"))
    sent = [post.rate("BTC", ts) for ts in range(SOME_MS, SOME_MS + 5_000 * HOUR_MS, HOUR_MS)]
    sent += [row[0] for row in basis.rows(SOME_MS, SOME_MS + 2_000 * MINUTE_MS).values()]
    assert {"-0.0000000", "-0.00000"} <= set(sent)
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT value::numeric::text FROM unnest(%s) WITH ORDINALITY AS n (value, at) ORDER BY at", (sent,)
        )
        found = [row[0] for row in cursor.fetchall()]
    connection.close()
    assert [(each, text) for each, text in zip(sent, found, strict=True) if not same(each, text)] == []


def load_server(package):
    """Return the module of a made-up exchange's server."""
    spec = spec_from_file_location(f"{package}_server", MADE_UP / package / f"{package}_server.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(system, source, symbol, columns, start_ms, end_ms):
    """Return the stored rows of a range, by ts."""
    rows = system.query(
        f"SELECT ts, {', '.join(f'{name}::text' for name in columns)} FROM perp_data"
        " WHERE source = %s AND symbol = %s AND ts >= %s AND ts < %s",
        source,
        symbol,
        start_ms,
        end_ms,
    )
    return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}


def assert_true(system, exchange, made_up, metric, start_ms, end_ms):
    """Assert that what is stored of a range is what the exchange sent, to the digit."""
    for symbol, name in made_up.contracts.items():
        truth = exchange.truth(metric, name, start_ms, end_ms)
        columns = sorted({column for row in truth.values() for column in row})
        rows = stored(system, f"{made_up.code}-{metric}", symbol, columns, start_ms, end_ms) if truth else {}
        wrong = [ts for ts in truth if ts in rows and not all(same(truth[ts][c], rows[ts][c]) for c in columns)]
        assert (sorted(rows), wrong) == (sorted(truth), []), f"{symbol} {metric}"


def covers(system, made_up, metric, start_ms, end_ms):
    return system.covers(f"{made_up.code}-{metric}", made_up.contracts, start_ms, end_ms)


@pytest.mark.waits(60)
@pytest.mark.parametrize(
    "running",
    [pytest.param(POST, id=POST.package), pytest.param(RPC, id=RPC.package, marks=pytest.mark.full)],
    indirect=True,
)
def test_an_exchange_of_another_package_does_all_that_ours_do(running):
    made_up, exchange, system = running
    migrated = system.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    for command in (("worker",), ("worker", "--live"), ("scheduler",), ("web",), ("stream", made_up.name)):
        system.start(*command)
    until(lambda: made_up.name in system.streams(), 30)
    streamed_ms = floor_to(now_ms(), MINUTE_MS) + MINUTE_MS  # the first minute that is watched from its begin
    since_ms = streamed_ms - SEEDED_MS
    seeded = system.run("seed", "--since", str(since_ms), "--symbols", ",".join(made_up.contracts), "--wait")
    assert seeded.returncode == 0, seeded.stdout + seeded.stderr
    end_ms = streamed_ms + 2 * MINUTE_MS
    sleep_until(end_ms)

    settled_ms = floor_to(streamed_ms - HOUR_MS, HOUR_MS)
    for metric in made_up.histories:
        until(lambda metric=metric: covers(system, made_up, metric, since_ms, settled_ms), 30)
        assert_true(system, exchange, made_up, metric, since_ms, settled_ms)
    for metric in made_up.streams:
        until(lambda metric=metric: covers(system, made_up, metric, streamed_ms, end_ms), 30)
        assert_true(system, exchange, made_up, metric, streamed_ms, end_ms)
    for metric in made_up.polls:
        sources = [f"{made_up.code}-{metric}"]
        until(lambda sources=sources: system.query("SELECT 1 FROM perp_data WHERE source = ANY(%s)", sources), 30)
    rows = system.query("SELECT sum(rows) FROM perp_status WHERE kind = 'stream'")[0][0]
    assert rows >= len(made_up.contracts) * 2, "the rows of the newest minutes come from the stream"
    assert not system.query("SELECT * FROM perp_errors"), "no message was odd"

    check_served(system, made_up, since_ms, end_ms)
    check_certified(system, made_up, since_ms, end_ms)
    check_protocol(made_up, exchange.stats())


@pytest.mark.long
@pytest.mark.waits(30)
@pytest.mark.parametrize("running", [pytest.param(POST, id=POST.package)], indirect=True)
def test_files_of_a_made_up_archive_have_what_its_history_has_no_longer(running):
    made_up, exchange, system = running
    name = made_up.name.upper()
    system.environment |= {"FADEMOE_ARCHIVES": made_up.name, f"FADEMOE_{name}_ARCHIVE_URL": exchange.url}
    assert system.run("migrate").returncode == 0
    for command in (("worker",), ("worker", "--live"), ("worker", "--archive"), ("scheduler",)):
        system.start(*command)
    end_ms = floor_to(now_ms(), DAY_MS) - 5 * DAY_MS  # the history has three and a half days
    since_ms = end_ms - 2 * DAY_MS
    window = ("--since", str(since_ms), "--until", str(end_ms), "--symbols", ",".join(made_up.contracts))
    seeded = system.run("seed", "--metrics", "ohlcv", *window, "--wait")
    assert seeded.returncode == 0, seeded.stdout + seeded.stderr
    assert covers(system, made_up, "ohlcv", since_ms, end_ms)
    assert_true(system, exchange, made_up, "ohlcv", since_ms, end_ms)
    assert system.query("SELECT state, count(*) FROM perp_files GROUP BY state") == [("ok", 4)]
    check_certified(system, made_up, since_ms, end_ms)
    assert not system.query("SELECT * FROM perp_errors")


def check_served(system, made_up, since_ms, end_ms):
    """The API, the data page and the chart know the exchange."""
    url = f"http://127.0.0.1:{system.environment['FADEMOE_WEB_PORT']}"
    source, symbol = f"{made_up.code}-ohlcv", list(made_up.contracts)[-1]
    until(lambda: is_healthy(url), 20)
    query = {"symbol": symbol, "from": since_ms, "to": end_ms, "limit": 1000}
    served = requests.get(f"{url}/api/data/{source}", params=query, timeout=60).json()["rows"]
    assert len(served) == (end_ms - since_ms) // MINUTE_MS
    chart = requests.get(
        f"{url}/api/chart/{source}", params={"symbol": symbol, "from": since_ms, "to": end_ms}, timeout=5
    )
    assert chart.status_code == 200, chart.text
    for page, shown in (
        ("data", {"perpspec": source}),
        ("coverage", {"perpspec": source}),
        ("charts", {"symbol": symbol}),
    ):
        answer = requests.get(f"{url}/{page}", params=shown, timeout=60)
        assert answer.status_code == 200 and source in answer.text, page
    assert f"stream {made_up.name}" in requests.get(f"{url}/", timeout=60).text


def check_certified(system, made_up, since_ms, end_ms):
    """`fademoe verify` certifies the whole range."""
    for symbol in made_up.contracts:
        source = f"{made_up.code}-ohlcv"
        certificate = system.run(
            "verify", "--source", source, "--symbol", symbol, "--since", str(since_ms), "--until", str(end_ms)
        )
        assert certificate.returncode == 0, certificate.stdout + certificate.stderr


def check_protocol(made_up, stats):
    """Requests and sockets were spoken as the exchange wants them; no connection was cut."""
    assert stats.get("cut", 0) == 0
    if made_up is POST:
        assert stats["pings"] >= 1 and stats["POST candleSnapshot"] >= 2
    else:
        assert stats["heartbeats answered"] >= 2
        assert stats["tokens"] >= stats["connections"] >= 1 and "without token" not in stats


def is_healthy(url):
    try:
        return requests.get(f"{url}/health", timeout=60).ok
    except requests.ConnectionError:
        return False


def test_a_code_that_is_used_twice_stops_every_command(tmp_path, monkeypatch):
    site = tmp_path / "site"
    install(MADE_UP / "acme_rpc", site)
    (site / "acme_rpc").unlink()
    (site / "acme_rpc.py").write_text(
        "from dataclasses import replace\n"
        "from fademoe.exchanges.okx import EXCHANGE as OKX\n"
        "EXCHANGE = replace(OKX, name='acmerpc')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    done = subprocess.run(
        [sys.executable, "-m", "fademoe", "settings"], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "fademoe: the code okx is used twice: by okx and acmerpc\n"


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import no_such_module\n", ("ModuleNotFoundError: No module named 'no_such_module'", "acme_rpc.py, line 1")),
        ("\nEXCHANGE = 1 / 0\n", ("ZeroDivisionError", "acme_rpc.py, line 2")),
        ("EXCHANGES = ()\n", ("names no module that has EXCHANGE",)),
    ],
)
def test_a_package_that_cannot_be_used_is_named_in_one_line(tmp_path, monkeypatch, module, said):
    site = tmp_path / "site"
    install(MADE_UP / "acme_rpc", site)
    (site / "acme_rpc").unlink()
    (site / "acme_rpc.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(site))
    done = subprocess.run(
        [sys.executable, "-m", "fademoe", "settings"], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the exchange package acme-rpc (acmerpc = acme_rpc)" in done.stderr
    assert all(part in done.stderr for part in said)


def test_the_demo_leaves_out_what_the_simulator_does_not_play(tmp_path, monkeypatch):
    install(MADE_UP / "acme_post", tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    (tmp_path / "demo" / "run").mkdir(parents=True)
    code = (
        "import os, sys; from pathlib import Path; from fademoe.deploy.demo import Demo;"
        " from fademoe.settings import Settings;"
        "demo = Demo(Settings(home=Path(sys.argv[1])), os.environ); print(demo.make_environ(is_running=False));"
        " print(demo.settings.exchanges)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "('binance', 'bybit', 'okx', 'coinalyze')", done.stderr
    assert "ACMEPOST" not in done.stdout


def test_commands_name_the_exchanges_of_all_packages(system, tmp_path, monkeypatch):
    for package in ("acme_post", "acme_rpc"):
        install(MADE_UP / package, tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    unknown = system.run("settings", FADEMOE_EXCHANGES="mtgox")
    assert "acmepost" in unknown.stderr and "acmerpc" in unknown.stderr
