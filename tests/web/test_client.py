"""The client: frames over HTTP and out of a directory, exact, side by side, with certificates."""

import threading
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module

import pytest
import requests
from flask import request
from werkzeug.serving import make_server

from fademoe.bulk.export import Request, export
from fademoe.client import Client, ClientError
from fademoe.clock import HOUR_MS, MINUTE_MS, Window
from fademoe.errors import ConfigError
from fademoe.feeds.grid import find_grid
from fademoe.metrics import Candle, OpenInterest
from fademoe.store import certificate
from fademoe.store.connection import Database
from fademoe.store.coverage import Covered, Series
from fademoe.store.read import bulk, windows
from fademoe.store.read.catalog import list_perpspecs
from fademoe.store.read.past import Knowledge, Moment
from fademoe.store.read.pool import Reader
from fademoe.store.writer import Batch, Writer
from fademoe.web.api import exports

START = 1_767_225_600_000  # 2026-01-01
SINCE, UNTIL = "2026-01-01", "2026-01-01T04:00"
WINDOW = Window(START, START + 4 * HOUR_MS)
PRICE = "0.000000012345678901"


@pytest.fixture
def database(database_url) -> Iterator[Database]:
    found = Database(database_url)
    rows = [
        Candle(START + i * MINUTE_MS, "1", "2", "0.5", PRICE if i == 7 else "1.50", "10", None, i, None)
        for i in range(240)
        if i != 5
    ]
    for symbol in ("BTC", "42"):
        series = Series("bin-ohlcv", symbol)
        Writer(found).write([Batch("ohlcv", "1m", {series: rows})], [Covered(series, [WINDOW])])
    interest = Series("byb-oi", "BTC")
    samples = [OpenInterest(START + i * 5 * MINUTE_MS, str(i), None) for i in range(48)]
    Writer(found).write([Batch("oi", "5m", {interest: samples})], [Covered(interest, [WINDOW])])
    yield found
    found.close()


@pytest.fixture
def web(app, database) -> Iterator[Client]:
    """A client of a web that listens on a port of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Client(f"http://127.0.0.1:{server.port}")
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def directory(database, database_url, tmp_path) -> Client:
    """A client of a directory that has the same rows."""
    reader = Reader(database_url)
    with reader.read() as cursor:
        specs = list_perpspecs(cursor)
    series = [
        (specs[source], symbol, find_grid(source))
        for source, symbol in (("bin-ohlcv", "BTC"), ("bin-ohlcv", "42"), ("byb-oi", "BTC"))
    ]
    export(reader, tmp_path, series, Request(window=WINDOW), print)
    reader.close()
    return Client(tmp_path)


@pytest.fixture(params=["web", "directory"])
def client(request: pytest.FixtureRequest) -> Client:
    """Each kind of client in turn."""
    return request.getfixturevalue(request.param)


def test_frames_have_every_row_with_exact_values(client, database):
    polars, pandas = import_module("polars"), import_module("pandas")
    with database.open_transaction() as cursor:
        cursor.execute(
            "SELECT ts, o, h, l, c, v, qv, n, tbv FROM perp_data"
            " WHERE symbol = '42' AND source = 'bin-ohlcv' ORDER BY ts"
        )
        expected = cursor.fetchall()
    frame = client.read("bin-ohlcv", "42", SINCE, UNTIL)
    assert frame.columns == ["ts", "o", "h", "l", "c", "v", "qv", "n", "tbv"]
    assert frame.rows() == expected
    assert (frame.schema["c"], frame.schema["n"]) == (polars.Decimal(38, 18), polars.Int64)
    assert client.read("bin-ohlcv", "42", SINCE, UNTIL, as_="rows")[6]["c"] == Decimal(PRICE)
    assert client.read("bin-ohlcv", "42", SINCE, UNTIL, as_="arrow").num_rows == 239
    table = client.read("bin-ohlcv", "42", SINCE, UNTIL, as_="pandas")
    assert isinstance(table, pandas.DataFrame)
    assert table["c"][6] == Decimal(PRICE)
    floats = client.read("bin-ohlcv", "42", SINCE, UNTIL, exact=False, columns=["c", "n"])
    assert floats.columns == ["ts", "c", "n"]
    assert (floats["c"][6], floats["n"][6]) == (float(PRICE), 7)
    part = client.read("bin-ohlcv", "42", START + HOUR_MS, START + 2 * HOUR_MS)
    assert (part["ts"][0], part.height) == (START + HOUR_MS, 60)


def test_series_side_by_side_have_every_minute(client):
    frame = client.join(["bin-ohlcv", "byb-oi"], "BTC", SINCE, UNTIL)
    assert frame.height == 240
    assert frame.columns[:2] == ["ts", "bin-ohlcv.o"]
    assert frame.columns[-2:] == ["byb-oi.oi", "byb-oi.oi_usd"]
    rows = frame.select("ts", "bin-ohlcv.c", "byb-oi.oi").rows()
    assert rows[4:8] == [
        (START + 4 * MINUTE_MS, Decimal("1.5"), None),
        (START + 5 * MINUTE_MS, None, Decimal(1)),
        (START + 6 * MINUTE_MS, Decimal("1.5"), None),
        (START + 7 * MINUTE_MS, Decimal(PRICE), None),
    ]


def test_a_certificate_is_that_of_verify(client, database):
    found = client.certificate("bin-ohlcv", "BTC", SINCE, UNTIL)
    with database.open_transaction() as cursor:
        expected = certificate.certify(cursor, Series("bin-ohlcv", "BTC"), "ohlcv", WINDOW, MINUTE_MS, sparse=False)
    assert {name: found[name] for name in expected} == expected
    assert (found["rows"], found["complete"]) == (239, False)
    assert client.coverage("bin-ohlcv", "BTC")["symbol"] == "BTC"


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("bin-ohlcv", "BTC", "yesterday"), {}, "ISO 8601"),
        (("bin-ohlcv", "BTC", UNTIL, SINCE), {}, "before since"),
        (("bin-ohlcv", "BTC"), {"step": "7m"}, "valid are"),
        (("bin-ohlcv", "BTC"), {"as_": "excel"}, "polars, pandas, arrow, rows"),
        (("bin-ohlcv", "BTC"), {"columns": "c"}, "a list"),
        (("bin-ohlcv", "BTC"), {"knowledge": "mine"}, "market, recorded"),
    ],
)
def test_wrong_arguments_are_named(client, arguments, options, words):
    with pytest.raises(ConfigError, match=words):
        client.read(*arguments, **options)


def test_the_web_reads_steps_moments_and_the_universe(web):
    hours = web.read("bin-ohlcv", "BTC", SINCE, UNTIL, step="1h")
    assert hours.select("ts", "bars", "expected", "complete").rows()[0] == (START, 59, 60, True)
    assert hours["c"].to_list() == [Decimal("1.5")] * 4
    early = web.read("bin-ohlcv", "BTC", as_of=START + HOUR_MS, columns=["c", "known_ms"])
    assert early["ts"][-1] == START + 58 * MINUTE_MS
    assert early["known_ms"][0] == START + 62_000
    assert web.read("bin-ohlcv", "BTC", as_of=START + HOUR_MS, knowledge="recorded").height == 0
    assert web.universe(SINCE) == []
    with pytest.raises(ConfigError, match="valid are"):
        web.read("bin-nothing", "BTC")
    with pytest.raises(ClientError, match="as_of"):
        web.read("bin-ohlcv", "BTC", as_of="2099-01-01")


def test_an_answer_that_breaks_off_is_no_frame(web, database, monkeypatch):
    """What came so far must not be taken for all of it."""
    monkeypatch.setattr(bulk, "WINDOW_ROWS", 50)
    copy = windows.copy_part
    calls = []

    def break_off(cursor, spec, selection, **options):
        calls.append(selection)
        if len(calls) == 3:
            cursor.execute("SELECT 1 / 0")
        return copy(cursor, spec, selection, **options)

    monkeypatch.setattr(windows, "copy_part", break_off)
    with pytest.raises(ClientError, match="not complete"):
        web.read("bin-ohlcv", "BTC", SINCE, UNTIL)


@pytest.fixture
def slots(monkeypatch) -> threading.Semaphore:
    """The one slot of exports, which is taken."""
    found = threading.BoundedSemaphore(1)
    monkeypatch.setattr(exports, "_slots", found)
    found.acquire()
    return found


def test_a_busy_web_is_asked_again_when_it_says(web, app, slots, monkeypatch):
    monkeypatch.setattr(exports, "RETRY_S", 1)
    refused = []

    def note(response):
        if response.status_code == 429:
            refused.append(response.headers["Retry-After"])
            if len(refused) == 2:
                slots.release()
        return response

    app.after_request_funcs.setdefault(None, []).append(note)
    assert web.read("bin-ohlcv", "BTC", SINCE, UNTIL).height == 239
    assert refused == ["1", "1"]


@pytest.mark.usefixtures("slots")
def test_a_web_that_stays_busy_is_asked_no_longer_than_one_may_wait(web):
    hasty = Client(web._origin._address, timeout_s=5)
    with pytest.raises(ClientError, match=r"HTTP 429: .*exports"):
        hasty.read("bin-ohlcv", "BTC", SINCE, UNTIL)


def test_the_environment_changes_no_question(web, app, monkeypatch, tmp_path):
    """No proxy stands before loopback, and an entry in .netrc replaces no token."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\nmachine far.test login me password mine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    sent = []
    app.before_request_funcs[None].insert(0, lambda: sent.append(request.headers.get("Authorization")))
    assert web.read("bin-ohlcv", "BTC", SINCE, UNTIL).height == 239
    assert set(sent) == {None}
    far = Client("http://far.test", token="t")._origin._session
    prepared = far.prepare_request(requests.Request("GET", "http://far.test/api/coverage"))
    assert prepared.headers["Authorization"] == "Bearer t"
    settings = far.merge_environment_settings(prepared.url, {}, None, None, None)
    assert settings["proxies"]["http"] == "http://127.0.0.1:9"


def test_a_value_that_a_frame_cannot_hold_is_refused(web, database):
    database.run(lambda cursor: cursor.execute("UPDATE perp_data SET c = 1e-19 WHERE ts = %s", (START,)))
    with pytest.raises(ClientError, match="exact=False"):
        web.read("bin-ohlcv", "BTC", SINCE, UNTIL)
    assert web.read("bin-ohlcv", "BTC", SINCE, UNTIL, exact=False)["c"][0] == 1e-19


def test_a_directory_of_a_moment_answers_for_that_moment_only(database, database_url, tmp_path):
    reader = Reader(database_url)
    with reader.read() as cursor:
        spec = list_perpspecs(cursor)["bin-ohlcv"]
    moment = Moment(START + HOUR_MS, Knowledge.RECORDED)
    export(reader, tmp_path, [(spec, "BTC", find_grid("bin-ohlcv"))], Request(window=WINDOW, moment=moment), print)
    reader.close()
    client = Client(tmp_path)
    with pytest.raises(ClientError, match="as_of is not given"):
        client.read("bin-ohlcv", "BTC")
    with pytest.raises(ClientError, match="knowledge is market"):
        client.read("bin-ohlcv", "BTC", as_of=START + HOUR_MS)


def test_a_quotient_is_rounded_to_what_a_frame_holds(web, database, database_url, tmp_path):
    """A price of 0.00000333… per coin has no last digit; stored values are never rounded."""
    series = Series("byb-ohlcv", "BTC")
    row = Candle(START, "1", "2", "0.5", "1.50", "30000", "0.1", 1, None)
    Writer(database).write([Batch("ohlcv", "1m", {series: [row]})], [Covered(series, [Window(START, START + 60_000)])])
    reader = Reader(database_url)
    with reader.read() as cursor:
        spec = list_perpspecs(cursor)["byb-vwap"]
    export(reader, tmp_path, [(spec, "BTC", find_grid("byb-vwap"))], Request(window=WINDOW), print)
    reader.close()
    for client in (web, Client(tmp_path)):
        assert client.read("byb-vwap", "BTC", as_="rows") == [{"ts": START, "vwap": Decimal("0.000003333333333333")}]
        assert client.join(["byb-vwap"], "BTC", SINCE, UNTIL)["byb-vwap.vwap"][0] == Decimal("0.000003333333333333")


def test_a_directory_answers_what_it_has(directory, tmp_path):
    with pytest.raises(ClientError, match="it has 2026-01-01T00:00:00Z to 2026-01-01T04:00:00Z"):
        directory.certificate("bin-ohlcv", "BTC", SINCE, "2026-01-02")
    with pytest.raises(ClientError, match="the directory has no okx-oi BTC: it has bin-ohlcv 42, bin-ohlcv BTC"):
        directory.read("okx-oi", "BTC")
    with pytest.raises(ClientError, match="step"):
        directory.read("bin-ohlcv", "BTC", step="1h")
    for since, until in (("2025-12-31", UNTIL), (SINCE, "2026-01-02"), ("2026-01-02", "2026-01-03")):
        with pytest.raises(ClientError, match=r"2026-01-01T00:00:00Z to 2026-01-01T04:00:00Z, not of"):
            directory.read("bin-ohlcv", "BTC", since, until)
    with pytest.raises(ClientError, match="the directory is of now"):
        directory.read("bin-ohlcv", "BTC", as_of=START + HOUR_MS)
    with pytest.raises(ClientError, match="knowledge"):
        directory.read("bin-ohlcv", "BTC", knowledge="recorded")
    with pytest.raises(ClientError, match="which contracts"):
        directory.universe()
    with pytest.raises(ConfigError, match="no directory"):
        Client(tmp_path / "nowhere")
    assert directory.read("bin-ohlcv", "BTC", "2027-01-01").height == 0
    empty = directory.read("bin-ohlcv", "BTC", "2027-01-01", columns=["v"], exact=False)
    assert empty.schema == directory.read("bin-ohlcv", "BTC", columns=["v"], exact=False).schema
    assert (empty.columns, empty.height) == (["ts", "v"], 0)
