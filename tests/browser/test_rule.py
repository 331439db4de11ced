"""A rule from the form to its card: checked while it is written, previewed, fired on the simulator, silenced."""

import re
import socket

import pytest
from playwright import sync_api
from playwright.sync_api import expect

from fademoe.supervisord.daemon import CHECKOUT
from tests.browser.conftest import faults, sign_in, watch
from tests.support.clocks import until
from tests.support.system import System
from tests.support.web import TOKEN

SCREENSHOTS = CHECKOUT / "build" / "screenshots"
SIZES = ((1400, 1000), (390, 844))


def show(page: sync_api.Page, name: str) -> None:
    """See that a page is whole on a desk and on a phone, and keep a picture of each."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
        page.screenshot(path=SCREENSHOTS / f"{name}-{width}.png", full_page=True)
        assert faults(page) == []
    page.set_viewport_size({"width": 1400, "height": 1000})


def is_open(port: int) -> bool:
    """Tell whether the web accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.long
@pytest.mark.waits(60)
def test_a_rule_is_written_previewed_fires_and_is_silenced(fast_system: System, chromium: sync_api.Browser):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fast_system.environment |= {"FADEMOE_SYMBOLS": "BTC", "FADEMOE_ADMIN_TOKEN": TOKEN, "FADEMOE_WEB_PORT": str(port)}
    for command in (("stream", "binance"), ("web",), ("alerts", "run")):
        fast_system.start(*command)
    until(lambda: fast_system.query("SELECT 1 FROM perp_data WHERE source = 'bin-ohlcv' LIMIT 1"), 60)
    until(lambda: fast_system.query("SELECT 1 FROM perp_alert_minutes LIMIT 1"), 60)  # the data rules
    until(lambda: is_open(port), 60)
    complaints: list[str] = []
    context = chromium.new_context(base_url=f"http://127.0.0.1:{port}", viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    watch(page, complaints)
    page.goto("/alerts/new")
    sign_in(page, TOKEN)
    page.get_by_label("Name").fill("up")
    page.get_by_label("Fires when").fill("clsoe > 1")
    expect(page.locator("#expr-fault")).to_contain_text("Character 1", timeout=90_000)
    page.get_by_label("Fires when").fill("close > 1 and volume >= 0")
    expect(page.locator("#expr-fault")).to_have_text("Correct: c > 1 and v >= 0", timeout=90_000)
    page.get_by_label("Exchanges").fill("bin")
    page.get_by_label("Coins").fill("BTC")
    page.get_by_label("Message").fill("{symbol} is at {close:,.1f}")
    page.locator("#preview-code").select_option("bin")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview-sum")).to_contain_text("It would have fired once", timeout=90_000)
    expect(page.locator("#preview")).to_contain_text("BTC is at")
    show(page, "rule-form")
    page.get_by_role("button", name="Add the rule").click()
    expect(page.get_by_role("status").first).to_have_text("rule up added")
    show(page, "rules")
    page.goto("/alerts")
    card = page.locator("[data-card='up bin BTC']")
    expect(card).to_contain_text("firing", timeout=90_000)
    expect(card).to_contain_text(re.compile(r"BTC is at [\d,]+\.\d"))
    expect(card.locator(".readings")).to_contain_text("> 1")
    expect(card.locator("svg.spark")).to_be_visible()
    card.get_by_role("button", name="Silence").click()
    expect(page.get_by_role("status").first).to_contain_text("is silent until")
    expect(page.locator("[data-card='up bin BTC']")).to_contain_text("silent for")
    show(page, "alerts")
    page.goto("/alerts/history?rule=up")
    expect(page.get_by_role("row").filter(has_text="BTC is at").first).to_contain_text("firing")
    show(page, "alert-history")
    page.goto("/screen?expr=chg(close,1m)")
    expect(page.get_by_role("row").filter(has_text="BTC").first).to_be_visible()
    show(page, "screen")
    context.close()
    assert complaints == []
