"""The charts page in a real browser: zoom, pan, crosshair, steps, ranges, the newest bar, and what is missing."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, floor_to, now_ms
from tests.browser.conftest import DAYS, Site, faults

Open = Callable[..., Page]
pytestmark = pytest.mark.long
TEN_THOUSAND_MS = 10_000 * MINUTE_MS
DRAWN_MS = 90_000  # at most
DRAWN = '#chart[data-drawn-ms][data-failed="0"]'  # a busy database may refuse some series at first


def open_chart(open_page: Open, query: str = "step=15m&range=1w", **size: int) -> Page:
    """Open the charts of BTC and wait until they are drawn."""
    page = open_page(f"/charts?symbol=BTC&exchanges=binance,bybit&{query}", **size)
    page.wait_for_selector(DRAWN, timeout=DRAWN_MS)
    return page


def view_of(page: Page) -> tuple[float, float]:
    """Return the range of time in view, as plotly has drawn it."""
    first, last = page.evaluate(
        "document.getElementById('plot').layout.xaxis.range.map((at) =>"
        " typeof at === 'number' ? at : Date.parse(`${String(at).replace(' ', 'T')}Z`))"
    )
    return first, last


def span_of(page: Page) -> float:
    """Return how much time is in view."""
    first, last = view_of(page)
    return last - first


def until(page: Page, condition: Callable[[], bool], wait_s: int = 30) -> None:
    """Wait until a condition about the page holds."""
    for _ in range(wait_s * 10):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError("the page does not come there")


def point(page: Page, x: float = 0.5, y: float = 0.2) -> None:
    """Move the mouse to a place of the chart, as shares of its width and of the height that the window shows."""
    box = page.locator("#chart").bounding_box()
    height = min(box["height"], page.viewport_size["height"] - box["y"])
    page.mouse.move(box["x"] + box["width"] * x, box["y"] + height * y)


def readings(page: Page) -> list[str]:
    """Return the values that stand in each pane."""
    return page.locator(".pane-reading:visible").all_inner_texts()


def test_ten_thousand_points_are_drawn_and_gaps_stay_gaps(site: Site, open_page: Open):
    begin = site.begin_ms
    page = open_chart(open_page, f"step=1m&from={begin}&to={begin + TEN_THOUSAND_MS}")
    traces = "document.getElementById('plot').data"
    assert page.evaluate(f"{traces}[0].x.length") >= 10_000 - 1
    gaps = page.evaluate(
        f"{traces}.filter((trace) => trace.fill !== 'tozeroy' && trace.mode !== 'markers')"
        ".map((trace) => (trace.y || trace.close).filter((y) => y === null).length)"
    )
    assert min(gaps) > 100
    assert page.evaluate(f"{traces}.every((trace) => !trace.connectgaps)")
    assert site.complaints == []


def test_the_wheel_zooms_at_the_pointer_and_a_drag_pans(site: Site, open_page: Open):
    page = open_chart(open_page, "step=5m&range=1d")
    whole = span_of(page)
    point(page)
    page.mouse.wheel(0, -400)
    until(page, lambda: span_of(page) < whole * 0.95)
    page.wait_for_timeout(400)  # a wheel has ended
    first, last = view_of(page)
    axis = page.evaluate("document.getElementById('plot').layout.yaxis.range")
    point(page)
    page.mouse.down()
    point(page, 0.8)
    page.mouse.up()
    until(page, lambda: view_of(page)[1] < last - (last - first) * 0.2)
    assert abs(span_of(page) - (last - first)) < MINUTE_MS
    until(page, lambda: page.evaluate("document.getElementById('plot').layout.yaxis.range") != axis)
    expect(page.get_by_role("button", name="Newest")).to_have_attribute("aria-pressed", "false")
    page.locator("#chart").dblclick()
    expect(page.get_by_role("button", name="Newest")).to_have_attribute("aria-pressed", "true")
    until(page, lambda: view_of(page)[1] > now_ms())
    assert site.complaints == []


def test_panning_beyond_what_is_loaded_loads_more(site: Site, open_page: Open):
    page = open_chart(open_page, "step=5m&range=1d")
    with page.expect_response("**/api/chart/bin-ohlcv*"):
        for _ in range(4):
            page.get_by_role("button", name="Earlier").click()
    until(page, lambda: view_of(page)[1] < now_ms() - DAY_MS)
    first, last = view_of(page)
    drawn = page.evaluate("document.getElementById('plot').data[0].x")
    assert drawn[0] <= first + HOUR_MS
    assert drawn[-1] >= last - HOUR_MS


def test_one_crosshair_shows_the_values_of_all_panes(site: Site, open_page: Open):
    page = open_chart(open_page)
    point(page, 0.6)
    time = page.locator(".cross-tag-x").inner_text()
    texts = readings(page)
    assert len(texts) == page.evaluate(
        "Object.keys(document.getElementById('plot').layout).filter((name) => name.startsWith('yaxis')).length"
    )
    assert "bin" in texts[0]
    assert "byb" in texts[0]
    line = page.locator(".cross-x").bounding_box()
    assert line["height"] > page.locator("#chart").bounding_box()["height"] * 0.8
    point(page, 0.3, 0.5)
    until(page, lambda: page.locator(".cross-tag-x").inner_text() != time)
    assert readings(page) != texts
    page.mouse.move(5, 5)
    expect(page.locator(".cross-x")).to_be_hidden()


def test_the_crosshair_shows_the_stored_values(site: Site, open_page: Open):
    page = open_chart(open_page, "step=1m&range=1d")
    page.locator("#chart").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    time = page.locator(".cross-tag-x").inner_text()
    site.sql.execute(
        "SELECT o::float8, h::float8, l::float8, c::float8 FROM perp_data WHERE source = 'bin-ohlcv' AND symbol = 'BTC'"
        " AND to_char(to_timestamp(ts / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') = %s",
        (time,),
    )
    (row,) = site.sql.fetchall()
    spoken = page.locator("#chart-reading").inner_text()
    assert spoken.startswith(f"{time} UTC. Price: bin ")
    assert f"{row[3]:,.8g}"[:6] in spoken


def test_steps_and_ranges_are_buttons_and_the_address_holds_them(site: Site, open_page: Open):
    page = open_chart(open_page, "step=1h&range=1w")
    steps, ranges = page.get_by_role("group", name="Step"), page.get_by_role("group", name="Range")
    assert steps.get_by_role("button").all_inner_texts() == ["1m", "5m", "15m", "1h", "4h", "1d"]
    ranges.get_by_role("button", name="1 day").click()
    until(page, lambda: abs(span_of(page) - DAY_MS) < HOUR_MS)
    expect(ranges.get_by_role("button", name="1 day")).to_have_attribute("aria-pressed", "true")
    steps.get_by_role("button", name="5m", exact=True).click()
    until(page, lambda: page.evaluate("document.getElementById('plot').data[0].x[1] - plot.data[0].x[0]") == 300_000)
    assert "step=5m" in page.url
    ranges.get_by_role("button", name="1 year").click()  # 100,000 steps of 5m would be too many
    until(page, lambda: page.get_attribute("#chart", "data-step") == "1d")
    ranges.get_by_role("button", name="1 day").click()
    until(page, lambda: page.get_attribute("#chart", "data-step") == "1m")
    page.reload()
    page.wait_for_selector(DRAWN, timeout=DRAWN_MS)
    assert page.get_attribute("#chart", "data-step") == "1m"
    assert abs(span_of(page) - DAY_MS) < HOUR_MS


def test_the_address_holds_what_is_in_view_after_a_zoom(site: Site, open_page: Open):
    """A reload brings back the metrics that were chosen and the range that was zoomed to."""
    page = open_chart(open_page, "step=15m&range=1d&metrics=ohlcv")
    for _ in range(2):
        page.get_by_role("button", name="Zoom out").click()
    until(page, lambda: span_of(page) > 3.5 * DAY_MS)
    until(page, lambda: "from=" in page.url)
    expect(page.get_by_role("button", name="1 day")).to_have_attribute("aria-pressed", "false")
    panes = page.locator(".pane-reading:visible b").all_inner_texts()
    page.reload()
    page.wait_for_selector(DRAWN, timeout=DRAWN_MS)
    assert 3.5 * DAY_MS < span_of(page) < 4.5 * DAY_MS
    assert page.locator(".pane-reading:visible b").all_inner_texts() == panes == ["Price", "Volume, coins"]


def test_the_newest_bar_stays_in_view_while_it_is_zoomed_to(site: Site, open_page: Open):
    page = open_chart(open_page, "step=1m&range=1d")
    for _ in range(7):  # the space beside the newest bar shrinks with the range
        page.get_by_role("button", name="Zoom in").click()
    until(page, lambda: span_of(page) < DAY_MS / 100)
    first, last = view_of(page)
    assert first < now_ms() < last
    assert now_ms() - first > (last - first) * 0.7
    expect(page.get_by_role("button", name="Newest")).to_have_attribute("aria-pressed", "true")


def test_a_step_that_is_too_short_for_the_range_becomes_longer(site: Site, open_page: Open):
    """The form keeps the step and no range: a week of minutes is more than a chart has."""
    page = open_chart(open_page, "step=1m")
    assert page.get_attribute("#chart", "data-step") == "5m"
    page = open_chart(open_page, "step=1m&from=2011-01-01&to=2099-01-01")
    assert page.get_attribute("#chart", "data-step") == "1d"
    for _ in range(3):  # before 2010 there is nothing to zoom out to
        page.get_by_role("button", name="Zoom out").click()
        page.get_by_role("button", name="Earlier").click()
    until(page, lambda: not page.locator("#chart-state").inner_text().startswith("Loading"))
    assert "Not loaded" not in page.locator("#chart-state").inner_text()
    assert site.complaints == []


def test_the_labels_of_an_axis_differ_whatever_the_price_is(own_site: Site, open_page: Open):
    """A coin of which a million are one contract costs a billionth; one that stands still keeps its scale."""
    for symbol, price in (("TINY", "0.000000001 * (1 + 0.01 * sin(ts / 4000000.0))"), ("STILL", "0.0001 + 0 * ts")):
        begin = floor_to(now_ms(), HOUR_MS) - DAY_MS
        own_site.sql.execute(
            "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v)"
            f" SELECT ts, %s, 'bin-ohlcv', '1m', p, p, p, p, 1 FROM (SELECT ts, ({price})::numeric AS p"
            " FROM generate_series(%s::bigint, %s::bigint, 60000) AS ts) AS x",
            (symbol, begin, begin + DAY_MS - MINUTE_MS),
        )
        own_site.sql.execute(
            "INSERT INTO perp_coverage (source, symbol, wanted, covered) VALUES ('bin-ohlcv', %s, %s, %s)",
            (symbol, *[f"{{[{begin},{begin + DAY_MS})}}"] * 2),
        )
        page = open_page(f"/charts?symbol={symbol}&step=15m&range=1d&exchanges=binance&metrics=ohlcv")
        page.wait_for_selector(DRAWN, timeout=DRAWN_MS)
        labels = page.locator("#plot .ytick text").all_text_contents()
        assert len(labels) > 2
        assert len(set(labels)) == len(labels)
        low, high = page.evaluate("document.getElementById('plot').layout.yaxis.range")
        assert high < 2 * max(low, 0.0000000005), (symbol, low, high)


def test_a_row_that_comes_late_is_drawn(own_site: Site, open_page: Open):
    """A minute that a stream missed is fetched later, behind newer ones: an open page shows it without a reload."""
    ts = floor_to(now_ms(), MINUTE_MS) - 30 * MINUTE_MS
    late = f"int8multirange(int8range({ts}, {ts + MINUTE_MS}))"
    where = f"WHERE source = 'bin-ohlcv' AND symbol = 'BTC' AND ts = {ts}"
    own_site.sql.execute(f"CREATE TEMP TABLE late AS SELECT * FROM perp_data {where}")
    own_site.sql.execute(f"DELETE FROM perp_data {where}")
    own_site.sql.execute(f"UPDATE perp_coverage SET covered = covered - {late} WHERE source = 'bin-ohlcv'")
    page = open_chart(open_page, "step=1m&range=1d")
    closes = (
        "(() => { const { x, close, y } = document.getElementById('plot').data.find((one) => one.name === 'bin price');"
        f" return (close || y)[x.indexOf({ts})]; }})()"
    )
    assert page.evaluate(closes) is None
    own_site.sql.execute("INSERT INTO perp_data SELECT * FROM late")
    own_site.sql.execute(f"UPDATE perp_coverage SET covered = covered + {late} WHERE source = 'bin-ohlcv'")
    until(page, lambda: page.evaluate(closes) is not None, 60)


def test_the_newest_bar_is_live(own_site: Site, open_page: Open):
    """A closed minute appears by itself, and the bar of its hour changes; in the past the page says what is newest."""
    page = open_chart(open_page, "step=1m&range=1d")
    live = page.locator("#chart-live")
    expect(live).to_contain_text("Live: ")
    ts = floor_to(now_ms(), MINUTE_MS)
    own_site.sql.execute("DELETE FROM perp_data WHERE source = 'byb-ohlcv' AND ts >= %s", (ts - MINUTE_MS,))
    own_site.sql.execute(
        "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v) VALUES"
        " (%s, 'BTC', 'bin-ohlcv', '1m', 90001, 90003, 89999, 90002.25, 1)"
        " ON CONFLICT (source, symbol, ts) DO UPDATE SET c = excluded.c, h = excluded.h, l = excluded.l",
        (ts,),
    )
    expect(live).to_contain_text("90,002.25", timeout=90_000)
    assert int(page.get_attribute("#chart", "data-newest")) == ts
    page.get_by_role("group", name="Step").get_by_role("button", name="1h").click()
    expect(live).to_contain_text("90,002.25", timeout=90_000)
    own_site.sql.execute(
        "UPDATE perp_data SET c = 90002.5 WHERE source = 'bin-ohlcv' AND symbol = 'BTC' AND ts = %s", (ts,)
    )
    expect(live).to_contain_text("90,002.5", timeout=90_000)
    for _ in range(3):
        page.get_by_role("button", name="Earlier").click()
    expect(live).to_contain_text("Newest bar: ")


def test_what_is_missing_or_absent_is_shaded_and_named(site: Site, open_page: Open):
    """The fixture leaves out 0.4 of the fourth day everywhere; the first day of PEPE is absent."""
    page = open_page(
        f"/charts?symbol=PEPE&step=1h&from={site.begin_ms}&to={site.begin_ms + 5 * DAY_MS}&exchanges=binance"
    )
    page.wait_for_selector(DRAWN, timeout=DRAWN_MS)
    shapes = page.evaluate("document.getElementById('plot').layout.shapes.map((s) => [s.name, s.x0, s.x1])")
    gap = [site.begin_ms + 3 * DAY_MS, floor_to(site.begin_ms + int(3.4 * DAY_MS), HOUR_MS) + HOUR_MS]
    assert ["all missing", *gap] in shapes
    assert ["all absent", site.begin_ms, site.begin_ms + DAY_MS] in shapes
    legend = page.locator("#chart-legend").inner_text()
    assert "missing: wanted, but not stored yet" in legend
    assert "absent: the exchange does not have it" in legend
    point(page, (3.2 / 5) * 0.93)
    assert "bin missing" in readings(page)[0]


def test_the_name_of_a_shaded_band_is_in_the_middle_of_what_can_be_seen_of_it(site: Site, open_page: Open):
    """Bands go on beside the view, so that dragging shows no white."""
    begin = site.begin_ms + 3 * DAY_MS + 2 * HOUR_MS
    page = open_page(f"/charts?symbol=PEPE&step=1h&from={begin}&to={begin + 12 * HOUR_MS}&exchanges=binance")
    page.wait_for_selector(DRAWN, timeout=DRAWN_MS)
    view = page.evaluate("document.getElementById('plot').layout.xaxis.range.map(Number)")
    shapes = page.evaluate(
        "document.getElementById('plot').layout.shapes.map((s) => [s.name, s.x0, s.x1, s.label && s.label.text])"
    )
    texts = [shape for shape in shapes if shape[3]]
    assert "missing" in [text for *_, text in texts]
    assert all(view[0] <= x0 < x1 <= view[1] for _, x0, x1, _ in texts)


def test_each_exchange_has_one_colour_that_no_candle_has(site: Site, open_page: Open):
    page = open_chart(open_page)
    traces = page.evaluate(
        "document.getElementById('plot').data.map((t) => [t.legendgroup, t.line?.color, t.increasing?.line.color])"
    )
    colours: dict[str, set[str]] = {}
    for code, colour, _ in traces:
        if colour:
            colours.setdefault(code, set()).add(colour)
    candles = {rising for _, _, rising in traces if rising}
    assert all(len(own) == 1 for own in colours.values())
    assert len(set.union(*colours.values())) == len(colours)
    assert candles
    assert not candles & set.union(*colours.values())
    chip = page.locator("#chart-legend").get_by_role("button", name="byb", exact=True)
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "false")
    until(page, lambda: not page.evaluate("document.getElementById('plot').data.some((t) => t.legendgroup === 'byb')"))


def test_the_chart_by_keyboard_and_for_a_screen_reader(site: Site, open_page: Open):
    page = open_chart(open_page)
    chart, reading = page.locator("#chart"), page.locator("#chart-reading")
    chart.focus()
    page.keyboard.press("End")
    newest = reading.inner_text()
    page.keyboard.press("ArrowLeft")
    assert reading.inner_text() != newest
    assert "Price: bin " in reading.inner_text()
    whole = span_of(page)
    page.keyboard.press("+")
    until(page, lambda: span_of(page) < whole)
    page.keyboard.press("PageUp")
    until(page, lambda: view_of(page)[1] < now_ms())
    page.keyboard.press("Escape")
    expect(page.locator(".cross-x")).to_be_hidden()
    assert faults(page) == []


def test_fingers_pan_and_zoom_and_the_page_still_scrolls(site: Site, chromium: object):
    """Chromium's own touch events, on a phone."""
    context = chromium.new_context(
        base_url=site.address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto("/charts?symbol=BTC&step=15m&range=1d")
    page.wait_for_selector(DRAWN, timeout=DRAWN_MS)
    assert page.locator("#chart").bounding_box()["y"] < 844
    page.locator("#chart").scroll_into_view_if_needed()
    box = page.locator("#chart").bounding_box()
    middle = box["y"] + 80
    first, last = view_of(page)
    session = context.new_cdp_session(page)

    def touch(kind: str, *xs: float) -> None:
        points = [{"x": x, "y": middle, "id": number} for number, x in enumerate(xs)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 120)
    for x in range(130, 260, 10):
        touch("touchMove", x)
    touch("touchEnd")
    until(page, lambda: view_of(page)[1] < last - (last - first) * 0.2)
    page.wait_for_timeout(400)
    touch("touchStart", 150, 200)
    for by in range(5, 60, 5):
        touch("touchMove", 150 - by, 200 + by)
    touch("touchEnd")
    until(page, lambda: span_of(page) < (last - first) * 0.8)
    assert page.evaluate("getComputedStyle(document.getElementById('chart')).touchAction") == "pan-y"
    context.close()


def test_what_could_not_be_loaded_is_loaded_again(site: Site, open_page: Open):
    page = open_page("/schema")
    refused = []
    page.route("**/api/chart/bin-ohlcv*", lambda route: (refused.append(route.request.url), route.abort()))
    page.goto("/charts?symbol=BTC&step=15m&range=1d")
    expect(page.locator("#chart-state")).to_contain_text("Not loaded: ", timeout=90_000)
    assert "bin" not in page.locator(".pane-reading").first.inner_text()
    page.unroute("**/api/chart/bin-ohlcv*")
    expect(page.locator(".pane-reading").first).to_contain_text("bin", timeout=90_000)
    expect(page.locator("#chart-state")).not_to_contain_text("Not loaded")
    assert refused


def test_a_symbol_without_rows_says_so(site: Site, open_page: Open):
    page = open_page("/charts?symbol=NOTHING")
    expect(page.locator("#chart-state")).to_have_text("No rows of NOTHING in this range.")
    assert DAYS > 1
    assert site.complaints == []
