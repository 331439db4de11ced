"""A backtest by the pages: started from the form, followed, its report read, a trade opened on the chart."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright import sync_api
from playwright.sync_api import expect
from redis import Redis

from fademoe.cli.environment import load_settings
from fademoe.clock import MINUTE_MS, Window, to_iso
from tests.browser.conftest import Site, settle, sign_in
from tests.browser.test_rule import show
from tests.support.markets import START, draw_market, store_market
from tests.web.test_backtests import work

MINUTES = 1500
END = START + MINUTES * MINUTE_MS


@pytest.mark.full
def test_a_run_is_started_followed_and_read(
    own_site: Site, open_page: Callable[..., sync_api.Page], tmp_path: Path, database_url: str, redis_url: str
):
    store_market(database_url, draw_market(["A"], MINUTES), Window(START, END), {("bin", "A"): None})
    page = open_page("/backtester?strategy=sma_cross.py")
    sign_in(page)
    show(page, "backtester")
    page.get_by_label("Symbols").fill("A")
    page.get_by_label("Since").fill(to_iso(START))
    page.get_by_label("Until, not included").fill(to_iso(END))
    page.get_by_label("Params").fill("fast=5, slow=20")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#live").get_by_role("status")).to_contain_text("queued: 0 %")
    environ = {
        "FADEMOE_HOME": str(tmp_path / "worker"),
        "FADEMOE_DATABASE_URL": database_url,
        "FADEMOE_REDIS_URL": redis_url,
    }
    redis = Redis.from_url(redis_url)
    work(load_settings(environ), redis)
    redis.close()
    expect(page.locator("#live").get_by_role("status")).to_contain_text("Certified", timeout=60_000)
    expect(page.locator("#curve .main-svg").first).to_be_visible(timeout=60_000)
    expect(page.get_by_role("row").filter(has_text="Deepest drawdown")).to_be_visible()
    show(page, "backtest")
    page.get_by_role("region", name="Trades").get_by_role("link").first.click()
    page.wait_for_url("**/charts?symbol=A&exchanges=binance&step=1m&from=**")
    settle(page, "charts")
    show(page, "backtest-trade")
    page.goto("/backtester")
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("row").filter(has_text="Deepest drawdown")).to_be_visible()
    show(page, "compare")
    assert own_site.complaints == []
