"""A metric that another package declares ends on the chart page; no line of FadeMoe was changed for it."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser

from fademoe.clock import HOUR_MS, MINUTE_MS
from tests.browser.conftest import faults, watch
from tests.support.clocks import settled_end, until
from tests.support.installation import free_port
from tests.support.made_up import MADE_UP, MadeUpExchange, install
from tests.support.system import System

HOURS = 6


@pytest.fixture
def system(tmp_path: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """FadeMoe's programs, and the made-up exchange Acme Basis."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    install(MADE_UP / "acme_basis", tmp_path / "site")
    exchange = MadeUpExchange("acme_basis", "1@0")
    running = System(tmp_path / "home", database_url, redis_url, exchange)
    running.environment |= {
        "FADEMOE_EXCHANGES": "acmebasis",
        "FADEMOE_SYMBOLS": "BTC",
        "FADEMOE_ACMEBASIS_REST_URL": exchange.url,
        "FADEMOE_WEB_PORT": str(free_port()),
    }
    try:
        yield running
    finally:
        running.stop()
        exchange.stop()


@pytest.mark.long
def test_a_metric_of_another_package_is_stored_served_and_drawn(system: System, chromium: Browser):
    migrated = system.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    for command in (("worker",), ("scheduler",), ("web",)):
        system.start(*command)
    end_ms = settled_end(HOUR_MS)
    start_ms = end_ms - HOURS * HOUR_MS
    seeded = system.run("seed", "--since", str(start_ms), "--symbols", "BTC", "--metrics", "basis", "--wait")
    assert seeded.returncode == 0, seeded.stdout + seeded.stderr
    truth = system.simulator.truth("basis", "BTC", start_ms, end_ms)
    rows = system.query(
        "SELECT ts, basis, basis_trades FROM perp_data WHERE source = 'acb-basis' AND ts >= %s AND ts < %s ORDER BY ts",
        start_ms,
        end_ms,
    )
    assert rows == [(ts, Decimal(row["basis"]), row["basis_trades"]) for ts, row in truth.items()]
    assert len(rows) == HOURS * HOUR_MS // MINUTE_MS

    url = f"http://127.0.0.1:{system.environment['FADEMOE_WEB_PORT']}"
    until(lambda: is_healthy(url), 20)
    specs = requests.get(f"{url}/api/perpspecs", timeout=60).json()["perpspecs"]
    (spec,) = [spec for spec in specs if spec["perpspec"] == "acb-basis"]
    assert [(field["name"], field["aggregate"]) for field in spec["fields"]] == [
        ("basis", "last"),
        ("basis_trades", "sum"),
    ]
    assert [plot["pane"]["title"] for plot in spec["plots"]] == ["Basis", "Trades of the basis"]

    page = chromium.new_context(base_url=url, viewport={"width": 1400, "height": 1000}).new_page()
    complaints: list[str] = []
    watch(page, complaints)
    page.goto(f"/charts?symbol=BTC&step=1h&from={start_ms}&to={end_ms}")
    page.wait_for_selector("#chart[data-drawn-ms]")
    drawn = {
        trace["name"]: dict(zip(trace["x"], trace["y"], strict=True))
        for trace in page.evaluate("document.getElementById('plot').data.map(({ name, x, y }) => ({ name, x, y }))")
        if trace.get("name")
    }
    hours = range(start_ms, end_ms, HOUR_MS)
    minutes = {hour: [truth[ts] for ts in range(hour, hour + HOUR_MS, MINUTE_MS)] for hour in hours}
    line, area = drawn["acb basis"], drawn["acb trades"]
    assert [line[hour] for hour in hours] == [float(minutes[hour][-1]["basis"]) for hour in hours]
    assert [area[hour] for hour in hours] == [sum(row["basis_trades"] for row in minutes[hour]) for hour in hours]
    titles = [text.splitlines()[0] for text in page.locator(".pane-reading").all_inner_texts()]
    assert titles == ["Basis", "Trades of the basis"]
    assert "%" in page.locator(".pane-reading").first.inner_text()
    assert faults(page) == []
    assert complaints == []
    page.context.close()


def is_healthy(url: str) -> bool:
    """Return whether the web answers."""
    try:
        return requests.get(f"{url}/health", timeout=60).ok
    except requests.ConnectionError:
        return False
