"""GET /api/archives, the page Archives, and by which way the rows of a day came."""

from fademoe.clock import HOUR_MS
from tests.support.web import DAY, cover, day

PATH = "data/futures/um/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01.zip"


def store_file(sql, name, state, reason=""):
    sql.execute(
        "INSERT INTO perp_files (exchange, path, url, dataset, cadence, instrument, symbol, start_ms, end_ms, state,"
        " reason, terms, rows, expected, bytes)"
        " VALUES ('binance', %s, %s, 'klines', 'month', 'BTCUSDT', 'BTC', %s, %s, %s, %s,"
        " 'CC BY-NC-SA 4.0', 44640, 44640, 1800000) RETURNING id",
        (f"{PATH}{name}", f"https://files.test/{PATH}{name}", day(0), day(31), state, reason),
    )
    return sql.fetchone()[0]


def test_files_are_told_with_their_states_and_reasons(client, sql):
    assert client.get("/api/archives").get_json()["files"] == []
    for number in range(3):
        store_file(sql, f"?{number}", "ok")
    store_file(sql, "", "quarantined", "its zip is broken")
    body = client.get("/api/archives?limit=3").get_json()
    [dataset] = body["datasets"]
    assert (dataset["ok"], dataset["quarantined"], dataset["rows"]) == (3, 1, 4 * 44_640)
    newest = body["files"][0]
    assert (newest["state"], newest["reason"]) == ("quarantined", "its zip is broken")
    assert len(client.get(f"/api/archives?limit=3&cursor={body['next']}").get_json()["files"]) == 1
    assert len(client.get("/api/archives?state=quarantined").get_json()["files"]) == 1
    assert [(each["exchange"], each["word"], each["allowed"]) for each in body["archives"]] == [
        ("binance", "binance:cc-by-nc-sa", False),
        ("okx", "okx", False),
    ]
    assert client.get("/api/archives?exchange=nobody").status_code == 400
    page = client.get("/archives?state=quarantined").get_data(as_text=True)
    assert "its zip is broken" in page
    assert "CC BY-NC-SA 4.0" in page


def test_coverage_tells_by_which_way_a_day_came_and_links_to_the_file(client, sql, partitions):
    number = store_file(sql, "", "ok")
    cover(sql, "bin-ohlcv", "BTC", "0-3", "0-3")
    for start, end, way, file_id in ((0, 2, "archive", number), (2, 3, "history", None)):
        sql.execute(
            "INSERT INTO perp_arrivals (source, symbol, start_ms, end_ms, way, known_from_ms, known_to_ms, file_id)"
            " VALUES ('bin-ohlcv', 'BTC', %s, %s, %s, 0, 1, %s)",
            (day(start), day(end), way, file_id),
        )
    answer = client.get(f"/api/coverage/bin-ohlcv?to={day(3)}&columns=7").get_json()
    [line] = answer["symbols"]
    assert [cell["ways"] for cell in line["cells"]][-3:] == [["archive"], ["archive"], ["history"]]
    page = client.get(f"/coverage?perpspec=bin-ohlcv&to={day(3)}").get_data(as_text=True)
    assert "complete, from archive files" in page
    assert "complete, over REST" in page
    cell = client.get(f"/coverage/cell?perpspec=bin-ohlcv&symbol=BTC&from={day(0)}&to={day(0) + DAY}").get_data(
        as_text=True
    )
    assert f'href="https://files.test/{PATH}"' in cell
    cells = "ts, symbol, source, interval, o, h, l, c, v"
    sql.execute(f"INSERT INTO perp_data ({cells}) VALUES (%s, 'BTC', 'bin-ohlcv', '1m', 1, 1, 1, 1, 1)", (day(0),))
    export = client.get(f"/api/export/bin-ohlcv?symbol=BTC&from={day(0)}&to={day(1)}")
    assert "CC BY-NC-SA 4.0" in export.headers["X-FadeMoe-Attribution"]
    assert (
        "X-FadeMoe-Attribution" not in client.get(f"/api/export/bin-ohlcv?symbol=BTC&from={day(2)}&to={day(3)}").headers
    )


def test_an_export_of_what_is_derived_has_the_terms_of_its_inputs(client, sql):
    """A change of open interest takes the sample of five minutes before, too."""
    number = store_file(sql, "", "ok")
    for source, symbol in (("bin-ohlcv", "BTC"), ("bin-oi", "BTC"), ("byb-oi", "ETH")):
        sql.execute(
            "INSERT INTO perp_arrivals (source, symbol, start_ms, end_ms, way, known_from_ms, known_to_ms, file_id)"
            " VALUES (%s, %s, %s, %s, 'archive', 0, 1, %s)",
            (source, symbol, day(0) + 12 * HOUR_MS, day(1), number),
        )

    def has_terms(perpspec, start, end, step=""):
        answer = client.get(f"/api/export/{perpspec}?symbol=BTC&from={start}&to={end}&step={step}")
        assert answer.status_code == 200
        return "CC BY-NC-SA 4.0" in answer.headers.get("X-FadeMoe-Attribution", "")

    for perpspec in ("bin-vwap", "bin-cvd", "x-spread", "bin-oi_chg", "x-oi"):
        assert has_terms(perpspec, day(0), day(1)), perpspec
    assert has_terms("bin-oi_chg", day(1), day(2))
    assert not has_terms("bin-oi_chg", day(1) + 300_000, day(2))
    assert not has_terms("x-oi", day(1), day(2))
    assert not has_terms("x-oi", day(0), day(0) + 1)
    assert has_terms("x-oi", day(0), day(0) + 1, "1d"), "a bar is read to its end"
    assert not has_terms("byb-oi_chg", day(0), day(1))
