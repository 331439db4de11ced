"""Every page in a real browser: wide and narrow, without a mouse, without a complaint of the console."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from fademoe.clock import DAY_MS, to_iso
from tests.browser.conftest import PAGES, TOKEN, Site, faults, settle, sign_in

Open = Callable[..., "object"]
pytestmark = pytest.mark.long
PHONE_PATHS = [path for name, path in PAGES.items() if name != "rq"]


def test_every_page_is_whole(site: Site, open_page: Open):
    """No complaint, no sideways scrolling of a narrow page, its heading there."""
    for name, path in PAGES.items():
        page = open_page(path, width=360)
        settle(page, name)
        assert page.locator("h1").count() == 1, name
        assert "SIMULATED DATA" in page.inner_text("body"), name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert site.complaints == []


def test_axe_finds_nothing_serious_where_something_is_wrong(open_page: Open):
    """The pages with errors, failed jobs and alerts, and what an administrator can do about them."""
    page = open_page()
    sign_in(page)
    for path in ("/", "/queues", "/alerts", "/limits"):
        page.goto(path)
        assert faults(page) == []


def test_on_a_phone_the_content_begins_within_the_first_screen(site: Site, open_page: Open):
    """Navigation is in a menu, the status in one line; both open, by touch and by keyboard, and say so."""
    page = open_page("/", width=390, height=844)
    for path in PHONE_PATHS:
        page.goto(path)
        assert page.locator("h1").bounding_box()["y"] < 844 / 4, path
    link, menu = page.locator("nav.pages").get_by_role("link", name="Coverage"), page.get_by_role("button", name="Menu")
    expect(link).to_be_hidden()
    menu.click()
    expect(menu).to_have_attribute("aria-expanded", "true")
    assert faults(page) == []
    page.keyboard.press("Escape")
    expect(link).to_be_hidden()
    page.keyboard.press("Enter")  # the focus is on the button
    link.click()
    page.get_by_role("heading", name="Coverage").wait_for()
    tiles, status = page.locator("#tiles"), page.locator(".status-button")
    expect(status).to_contain_text("Error: ")
    expect(tiles).to_be_hidden()
    status.click()
    expect(tiles).to_be_visible()
    with page.expect_response("**/part/status"):
        pass
    expect(tiles).to_be_visible()
    expect(status).to_have_attribute("aria-expanded", "true")
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_a_wide_screen_the_status_closes_to_one_line(site: Site, open_page: Open):
    page = open_page("/schema")
    expect(page.locator(".status-button")).to_have_attribute("aria-expanded", "true")
    page.locator(".status-button").click()
    expect(page.locator("#tiles")).to_be_hidden()
    expect(page.get_by_role("button", name="Menu")).to_be_hidden()


def test_keyboard_reaches_the_content_and_every_page(site: Site, open_page: Open):
    page = open_page("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    reached = set()
    page.goto("/")
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href')"))
    assert {"/data", "/coverage", "/charts", "/queues", "/limits", "/schema", "/api", "/alerts"} <= reached


def test_heat_map_by_keyboard_from_cell_to_filling(own_site: Site, open_page: Open):
    """Arrow keys to the partial day, Enter, fill, preview, sign in, fill: the request is stored and a job is queued."""
    page = open_page("/coverage?perpspec=byb-oi&columns=14")
    cells = page.locator("table.heat td.cell a")
    assert page.locator('table.heat td.cell a[tabindex="0"]').count() == 1
    cells.first.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("ETH ")
    page.keyboard.press("Home")
    day = to_iso(own_site.begin_ms + 3 * DAY_MS)[:10]
    for _ in range(14):
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        if day in label:
            break
        page.keyboard.press("ArrowRight")
    assert label == f"ETH {day}: 60 % stored"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="ETH").wait_for()
    assert "Jobs here" in page.inner_text("main")
    page.get_by_role("link", name="Fill this …").press("Enter")
    assert "Windows" in page.inner_text("main")
    page.get_by_role("link", name="Sign in to fill").press("Enter")
    page.get_by_label("Admin token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Fill", exact=True).press("Enter")
    page.get_by_text("filling byb-oi ETH").wait_for()
    assert own_site.redis.llen("rq:queue:bybit-requested") == 1
    own_site.sql.execute("SELECT unit FROM perp_status_history WHERE unit = 'web fill'")
    assert own_site.sql.fetchall() == [("web fill",)]


def test_data_is_chosen_paged_and_shared_by_its_address(site: Site, open_page: Open):
    page = open_page("/data")
    page.get_by_label("Perpspec").select_option("byb-ohlcv")
    page.get_by_label("Symbols").fill("eth")
    page.locator("select[name=limit]").select_option("50")
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("c Close").check()
    page.get_by_role("button", name="Show").click()
    assert page.locator("table.figures tbody tr").count() == 50
    assert page.locator("table.figures thead th").count() == 3
    first = page.locator("table.figures tbody th").first.get_attribute("title")
    page.get_by_role("link", name="Next page").click()
    second = page.locator("table.figures tbody th").first.get_attribute("title")
    assert int(second) == int(first) - 50 * 60_000
    shared = open_page(page.url)
    assert shared.locator("table.figures tbody th").first.get_attribute("title") == second
    page.get_by_role("link", name="Next page").click()
    page.get_by_role("link", name="Previous page").click()
    assert page.locator("table.figures tbody th").first.get_attribute("title") == second
    page.get_by_role("link", name="Previous page").click()
    assert page.locator("table.figures tbody th").first.get_attribute("title") == first
    assert page.get_by_role("link", name="Previous page").count() == 0
    page.go_back()
    assert page.locator("table.figures tbody th").first.get_attribute("title") == second


def test_refresh_shows_new_rows_without_a_reload(own_site: Site, open_page: Open):
    page = open_page("/data?perpspec=bin-ohlcv&symbol=BTC&refresh=5")
    page.evaluate("window.stays = true")
    first = page.locator("table.figures tbody th").first
    before = int(first.get_attribute("title"))
    own_site.sql.execute(
        "INSERT INTO perp_data (ts, symbol, source, interval, c) VALUES (%s, 'BTC', 'bin-ohlcv', '1m', 1)",
        (before + 60_000,),
    )
    page.get_by_role("link", name="Refresh").click()
    expect(first).to_have_attribute("title", str(before + 60_000))
    own_site.sql.execute("UPDATE perp_data SET c = 4242 WHERE ts = %s AND symbol = 'BTC'", (before + 60_000,))
    page.mouse.click(5, 5)
    expect(page.locator("table.figures tbody")).to_contain_text("4\u2009242", timeout=90_000)
    assert page.evaluate("window.stays")


def test_actions_by_the_pages(own_site: Site, open_page: Open):
    page = open_page("/queues")
    assert page.get_by_label("DB APIs").get_by_role("button", name="Off").is_disabled()
    sign_in(page)
    page.get_by_role("button", name="Pause the workers").click()
    page.get_by_text("workers paused: ").wait_for()
    assert own_site.redis.exists("rq:suspended")
    assert page.get_by_label("DB APIs").get_by_role("button", name="Off").get_attribute("aria-pressed") == "true"
    page.get_by_label("DB APIs").get_by_role("button", name="On", exact=True).click()
    page.get_by_text("workers resumed").wait_for()
    assert not own_site.redis.exists("rq:suspended")
    page.get_by_role("button", name="Retry these 2").click()
    page.get_by_text("2 of 2 failed jobs of bybit queued again").wait_for()
    page.goto("/alerts")
    before = page.get_by_role("button", name="Acknowledge for a day").count()
    page.get_by_role("button", name="Acknowledge for a day").first.click()
    page.get_by_text("acknowledged for a day").wait_for()
    assert page.get_by_role("button", name="Acknowledge for a day").count() == before - 1
    page.get_by_role("button", name="Sign out").click()
    assert page.get_by_label("DB APIs").get_by_role("button", name="Off").is_disabled()


def test_status_box_follows_without_a_reload(own_site: Site, open_page: Open):
    page = open_page("/schema")
    assert "1 of 2 live" in page.inner_text("#box")
    own_site.sql.execute("UPDATE perp_status SET heartbeat = now() + interval '1 hour' WHERE kind = 'stream'")
    expect(page.locator("#box")).to_contain_text("2 of 2 live", timeout=90_000)


def test_api_page_tries_an_operation(own_site: Site, open_page: Open):
    page = open_page("/api#listRows")
    panel = page.locator("#listRows")
    panel.locator("summary").click()
    panel.locator("[name=perpspec]").fill("bin-ohlcv")
    panel.locator("[name=symbol]").fill("BTC")
    panel.locator("[name=limit]").fill("2")
    panel.get_by_role("button", name="Try it").click()
    expect(panel.locator(".answer")).to_contain_text('"symbol": "BTC"')
    assert "200" in panel.locator(".answer-head").inner_text()


def test_pages_work_without_scripts(site: Site, chromium: object):
    context = chromium.new_context(base_url=site.address, java_script_enabled=False)
    page = context.new_page()
    for path in (path for name, path in PAGES.items() if name not in ("charts", "rq")):
        page.goto(path)
        assert page.locator("h1").count() == 1
    page.goto("/coverage?perpspec=byb-oi&columns=14")
    page.locator("table.heat td.cell a").first.click()
    assert "Missing here" in page.inner_text("main")
    context.close()
