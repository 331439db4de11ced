"""A paper account by the pages: made, trading on the simulator, switched off and on, reconciled."""

import socket
import subprocess

import pytest
from playwright import sync_api
from playwright.sync_api import expect

from tests.browser.conftest import sign_in, watch
from tests.browser.test_rule import is_open, show
from tests.support.clocks import until
from tests.support.system import System
from tests.support.web import TOKEN

PROGRAMS = (("stream", "binance"), ("worker",), ("worker", "--live"), ("scheduler",), ("web",), ("trader", "run"))


@pytest.mark.full
def test_an_account_is_made_trades_and_is_switched(fast_system: System, chromium: sync_api.Browser):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fast_system.environment |= {"FADEMOE_SYMBOLS": "BTC", "FADEMOE_ADMIN_TOKEN": TOKEN, "FADEMOE_WEB_PORT": str(port)}
    for command in PROGRAMS:
        fast_system.start(*command)
    until(lambda: fast_system.query("SELECT 1 FROM perp_data WHERE source = 'bin-mark' LIMIT 1"), 90)
    until(lambda: is_open(port), 60)
    complaints: list[str] = []
    context = chromium.new_context(base_url=f"http://127.0.0.1:{port}", viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    watch(page, complaints)
    page.goto("/trader?strategy=sma_cross.py")
    sign_in(page, TOKEN)
    page.get_by_label("Name").fill("paper")
    page.get_by_label("Params").fill("fast=1, slow=2")
    page.get_by_role("button", name="Make").click()
    expect(page.get_by_role("status").first).to_contain_text("paper trades on paper")
    show(page, "trader")
    page.get_by_role("link", name="paper", exact=True).click()
    until(lambda: fast_system.query("SELECT 1 FROM perp_trader_ledger WHERE kind = 'fill' LIMIT 1"), 180)
    page.reload()
    expect(page.get_by_role("row").filter(has_text="fill").first).to_be_visible()
    page.get_by_label("Core Trader: paper accounts").get_by_role("button", name="Off").click()
    expect(page.get_by_role("status").first).to_contain_text("the core trader is off")
    until(lambda: fast_system.query("SELECT 1 FROM perp_trader_events WHERE is_off LIMIT 1"), 90)
    page.get_by_label("Core Trader: paper accounts").get_by_role("button", name="On").click()
    until(lambda: fast_system.query("SELECT 1 FROM perp_trader_events WHERE NOT is_off LIMIT 1"), 90)
    again: subprocess.CompletedProcess = fast_system.run("trader", "reconcile", "paper")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith("equal")
    page.reload()
    expect(page.locator("#curve .main-svg").first).to_be_visible()
    show(page, "account")
    context.close()
    assert complaints == []
