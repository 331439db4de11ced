"""Rows of the market data through the API: pages, ranges, orders, formats."""

import csv
import gzip
import html
import io
import json
import re
from itertools import pairwise

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from tests.support.web import DAY, cover, day, minute, store_candles

pytestmark = pytest.mark.usefixtures("partitions")


def get(client: FlaskClient, path: str, status: int = 200) -> dict:
    answer = client.get(path)
    assert answer.status_code == status, answer.data
    return answer.get_json()


def read_all_pages(client: FlaskClient, path: str) -> list[list[dict]]:
    """Return all pages, following `next`."""
    pages, cursor = [], ""
    while cursor is not None:
        body = get(client, f"{path}&cursor={cursor}")
        pages.append(body["rows"])
        cursor = body["next"]
    return pages


def test_newest_rows_come_first_with_exact_numbers(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(5))
    sql.execute("UPDATE perp_data SET c = 0.000012340 WHERE ts = %s", (minute(4),))
    body = get(client, "/api/data/bin-ohlcv?symbol=btc&limit=2")
    assert body["perpspec"] == "bin-ohlcv"
    assert [row["ts"] for row in body["rows"]] == [minute(4), minute(3)]
    row = body["rows"][0]
    assert (row["symbol"], row["source"], row["interval"]) == ("BTC", "bin-ohlcv", "1m")
    assert (row["c"], row["h"], row["n"], row["tbv"]) == ("0.000012340", "4.50", 4, None)
    assert body["next"] is not None


def test_last_page_has_no_next(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(4))
    assert get(client, "/api/data/bin-ohlcv?limit=4")["next"] is None
    assert get(client, "/api/data/bin-ohlcv?limit=3")["next"] is not None
    assert get(client, "/api/data/byb-pfr") == {"perpspec": "byb-pfr", "rows": [], "next": None}


@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize("symbols", ["", "BTC", "AAA,BTC,ZZZ", "BTC,NONE"])
@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_all_pages_together_hold_every_row_once(client: FlaskClient, sql: Cursor, order: str, symbols: str, limit: int):
    """Uneven series: dense, sparse, ended long ago, of one row; pages end in the middle of a minute."""
    shapes = {"AAA": range(0, 60, 7), "BTC": range(40), "CCC": range(3), "ZZZ": range(30, 70), "ONE": range(20, 21)}
    for symbol, minutes in shapes.items():
        store_candles(sql, symbol, minutes)
    chosen = set(symbols.split(",")) if symbols else set(shapes)
    expected = [(minute(at), symbol) for symbol in chosen & set(shapes) for at in shapes[symbol]]
    expected.sort(key=lambda key: (key[0] if order == "asc" else -key[0], key[1]))
    pages = read_all_pages(client, f"/api/data/bin-ohlcv?symbol={symbols}&order={order}&limit={limit}")
    assert [(row["ts"], row["symbol"]) for page in pages for row in page] == expected
    assert all(len(page) == limit for page in pages[:-1])


@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize("symbols", ["", "BTC"])
@pytest.mark.parametrize("limit", [1, 4, 9])
def test_pages_backward_equal_the_pages_forward(client: FlaskClient, sql: Cursor, order: str, symbols: str, limit: int):
    """Uneven series, pages that end in the middle of a minute."""
    for symbol, minutes in {"AAA": range(0, 20, 3), "BTC": range(14), "ZZZ": range(9, 20)}.items():
        store_candles(sql, symbol, minutes)

    def read(address: str) -> tuple[list[str], dict[str, str]]:
        text = client.get(address).text
        links = {rel: html.unescape(href) for rel, href in re.findall(r'rel="(next|prev)" href="([^"]+)"', text)}
        return re.findall(r'<th scope="row" title="(\d+)">[^<]+</th><td>(\w+)</td>', text), links

    pages = [read(f"/data?perpspec=bin-ohlcv&symbol={symbols}&order={order}&limit={limit}")]
    while "next" in pages[-1][1]:
        pages.append(read(pages[-1][1]["next"]))
    assert "prev" not in pages[0][1]
    here = pages[-1]
    for rows, _ in reversed(pages[:-1]):
        here = read(here[1]["prev"])
        assert here[0] == rows
        assert "next" in here[1]
    assert "prev" not in here[1]


def test_range_is_half_open_in_every_notation(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(10))
    expected = [minute(at) for at in (5, 4, 3, 2)]
    notations = [
        (f"{minute(2)}", f"{minute(6)}"),
        (f"{minute(2) // 1000}", f"{minute(6) // 1000}"),
        ("2026-01-01T00:02:00Z", "2026-01-01T00:06:00Z"),
        ("2026-01-01 00:02", "2026-01-01T01:06:00%2B01:00"),
    ]
    for start, end in notations:
        body = get(client, f"/api/data/bin-ohlcv?from={start}&to={end}")
        assert [row["ts"] for row in body["rows"]] == expected, start


def test_cursor_stays_inside_the_range(client: FlaskClient, sql: Cursor):
    for symbol in ("A", "B"):
        store_candles(sql, symbol, range(10))
    path = f"/api/data/bin-ohlcv?from={minute(2)}&to={minute(5)}&limit=2"
    times = {
        row["ts"]
        for order in ("asc", "desc")
        for page in read_all_pages(client, f"{path}&order={order}")
        for row in page
    }
    assert times == {minute(2), minute(3), minute(4)}


def test_columns_are_chosen(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(2))
    body = get(client, "/api/data/bin-ohlcv?columns=c,v&columns=n")
    assert list(body["rows"][0]) == ["ts", "symbol", "source", "interval", "c", "v", "n"]


def test_iso_times_on_request(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(1))
    row = get(client, "/api/data/bin-ohlcv?ts=iso")["rows"][0]
    assert (row["ts"], row["time"]) == (DAY, "2026-01-01T00:00:00Z")


def test_csv_and_ndjson_hold_the_same_rows(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(4))
    rows = get(client, "/api/data/bin-ohlcv?limit=3")["rows"]
    as_csv = client.get("/api/data/bin-ohlcv?limit=3&format=csv")
    assert as_csv.mimetype == "text/csv"
    read = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert read == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    as_lines = client.get("/api/data/bin-ohlcv?limit=3", headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line) for line in as_lines.text.splitlines()] == rows
    assert 'rel="next"' in as_csv.headers["Link"]


def test_link_header_names_the_next_page(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(4))
    answer = client.get("/api/data/bin-ohlcv?limit=3&symbol=BTC")
    address = answer.headers["Link"].partition(">")[0].lstrip("<")
    assert [row["ts"] for row in get(client, address)["rows"]] == [minute(0)]


def test_next_link_keeps_every_parameter(client: FlaskClient, sql: Cursor):
    """The fault: `symbol` given twice was cut to the first."""
    for symbol in ("BTC", "ETH", "XRP"):
        store_candles(sql, symbol, range(3))
    for path in ("/api/data/bin-ohlcv", "/metric/ohlcv"):
        address, symbols = f"{path}?symbol=BTC&symbol=ETH&columns=c&columns=v&limit=2", []
        while address:
            answer = client.get(address)
            symbols += [row["symbol"] for row in answer.get_json()["rows"]]
            address = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        assert symbols == ["BTC", "ETH"] * 3, path


@pytest.mark.parametrize("path", ["/data", "/coverage", "/coverage?view=list", "/coverage/fill", "/"])
def test_page_links_to_its_twin_keep_every_parameter(client: FlaskClient, sql: Cursor, path: str):
    """Links of pages as well."""
    for symbol in ("BTC", "ETH", "XRP"):
        store_candles(sql, symbol, range(3))
        cover(sql, "bin-ohlcv", symbol, "0-3")
    query = "kind=stream&find=b" if path == "/" else "perpspec=bin-ohlcv&symbol=BTC&symbol=ETH"
    page = client.get(f"{path}{'&' if '?' in path else '?'}{query}").text
    twin = re.search(r'<p class="twin">(.*?)</p>', page, re.DOTALL)[1]
    links = [html.unescape(link) for link in re.findall(r'href="([^"]+)"', twin)]
    kept = [link for link in links if link.startswith("/api/") and "summary" not in link]
    assert kept
    for link in kept:
        assert ("kind=stream" if path == "/" else "symbol=BTC%2CETH") in link, link
        with client.get(link) as answer:
            assert answer.status_code == 200, link


@pytest.mark.parametrize("path", ["/data", "/coverage", "/coverage?view=list", "/coverage/fill"])
def test_every_link_and_form_of_a_page_keeps_all_symbols(client: FlaskClient, sql: Cursor, path: str):
    """The form of the coverage page, the way back from a fill, and all others but those to one symbol."""
    for symbol in ("BTC", "ETH", "币"):
        store_candles(sql, symbol, range(9))
        cover(sql, "bin-ohlcv", symbol, "0-3")
    page = client.get(f"{path}{'&' if '?' in path else '?'}perpspec=bin-ohlcv&symbol=BTC&symbol=ETH&symbol=币").text
    content = html.unescape(page[page.index("<main") :])
    links = re.findall(r'(?:href|data-part|name="back" value)="(/[^"]*)"', content)
    own = [link for link in links if "perpspec=" in link or "/bin-ohlcv" in link]
    single = re.compile(r"[?&]symbol=(BTC|ETH|币|%E5%B8%81)(&|$)")
    assert [link for link in own if "symbol=BTC%2CETH%2C%E5%B8%81" not in link and not single.search(link)] == []
    assert any("symbol=BTC%2CETH" in link for link in own)
    assert re.findall(r'name="symbol" value="([^"]*)"', content) == ["BTC,ETH,币"]


def test_metric_has_the_values_of_all_exchanges_side_by_side(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(6))
    store_candles(sql, "BTC", range(3, 9), "byb-ohlcv")
    metrics = {entry["metric"]: entry for entry in get(client, "/metric")["metrics"]}
    assert {"bin-ohlcv", "byb-ohlcv"} <= set(metrics["ohlcv"]["perpspecs"])
    pages = read_all_pages(client, "/metric/ohlcv?symbol=BTC&limit=4&order=asc")
    rows = [row for page in pages for row in page]
    assert [row["ts"] for row in rows] == [minute(at) for at in range(9)]
    both = [(row["values"]["bin-ohlcv"] is not None, row["values"]["byb-ohlcv"] is not None) for row in rows]
    assert both == [(True, False)] * 3 + [(True, True)] * 3 + [(False, True)] * 3
    assert rows[3]["values"]["byb-ohlcv"]["c"] == "3"


def test_perpspecs_have_fields_series_and_first_and_last_ts(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(3, 6))
    store_candles(sql, "ETH", range(5))
    specs = {spec["perpspec"]: spec for spec in get(client, "/api/perpspecs")["perpspecs"]}
    candles = specs["bin-ohlcv"]
    assert (candles["series"], candles["first_ts"], candles["last_ts"]) == (2, minute(0), minute(5))
    assert candles["fields"][0] == {
        "name": "o",
        "unit": "quote per coin",
        "title": "Open",
        "type": "decimal",
        "aggregate": "first",
    }
    assert specs["byb-oi"]["series"] == 0
    assert specs["byb-oi"]["last_ts"] is None


def test_rows_are_revalidated_each_time(client: FlaskClient, sql: Cursor):
    """An audit or a fill changes rows of any age, so no answer is fresh without revalidation."""
    store_candles(sql, "BTC", range(100))
    cover(sql, "bin-ohlcv", "BTC", "0-3", "0-2")
    path = f"/api/data/bin-ohlcv?symbol=BTC&from={day(0)}&to={day(1)}"
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        answer = client.get(path, headers=headers)
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert {"Accept", "Accept-Encoding"} <= set(answer.vary.as_set(preserve_casing=True))
        tag, is_weak = answer.get_etag()
        assert tag
        assert not is_weak
        again = client.get(path, headers={"If-None-Match": f'"{tag}"', **headers})
        assert (again.status_code, again.data) == (304, b"")
        sql.execute("UPDATE perp_data SET c = c + 1 WHERE ts = %s", (minute(7),))
        corrected = client.get(path, headers={"If-None-Match": f'"{tag}"', **headers})
        assert (corrected.status_code, corrected.get_etag()[0] == tag) == (200, False)


def test_etag_depends_on_the_format(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(3))
    tags = {client.get("/api/data/bin-ohlcv", headers={"Accept": kind}).get_etag()[0] for kind in ("text/csv", "*/*")}
    assert len(tags) == 2


def test_answers_are_compressed_for_clients_that_accept_gzip(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(100))
    plain = client.get("/api/data/bin-ohlcv")
    small = client.get("/api/data/bin-ohlcv", headers={"Accept-Encoding": "gzip"})
    assert small.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in small.headers["Vary"]
    assert gzip.decompress(small.data) == plain.data
    refused = client.get("/api/data/bin-ohlcv", headers={"Accept-Encoding": "gzip;q=0"})
    assert refused.data == plain.data


def test_page_over_many_symbols_reads_little(client: FlaskClient, sql: Cursor):
    """A page of 10 rows over 50 symbols must not read every series 10 rows deep."""
    for number in range(50):
        store_candles(sql, f"C{number:02}", range(0, 200))
    sql.execute("ANALYZE perp_data")
    rows = get(client, "/api/data/bin-ohlcv?limit=60")["rows"]
    assert [row["ts"] for row in rows] == [minute(199)] * 50 + [minute(198)] * 10
    assert all(first["symbol"] < second["symbol"] for first, second in pairwise(rows[:50]))
