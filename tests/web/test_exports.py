"""Exports: all rows, exact, streamed; a transfer that fails is never a complete file."""

import csv
import gzip
import io
import json
from decimal import Context, Decimal
from importlib import import_module

import psutil
import psycopg2
import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from fademoe.errors import StoreError
from fademoe.store.read import bulk
from tests.support.clocks import until
from tests.support.web import minute, store_candles

pytestmark = pytest.mark.usefixtures("partitions")
COUNT = 23_000  # more than two pages


@pytest.fixture
def stored(sql: Cursor) -> None:
    """Candles of two symbols."""
    store_candles(sql, "BTC", range(COUNT))
    store_candles(sql, "ETH", range(10))


def test_csv_holds_every_row(client: FlaskClient, stored: None):
    answer = client.get("/api/export/bin-ohlcv?format=csv&order=asc")
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0][:6] == ["ts", "symbol", "source", "interval", "o", "h"]
    assert len(rows) == 1 + COUNT + 10
    assert [row[0] for row in rows[1:] if row[1] == "BTC"] == [str(minute(at)) for at in range(COUNT)]
    assert "attachment" in answer.headers["Content-Disposition"]


def test_ndjson_of_one_symbol_and_range_compressed(client: FlaskClient, stored: None):
    path = f"/api/export/bin-ohlcv?format=ndjson&symbol=BTC&from={minute(5)}&to={minute(9)}&columns=c"
    answer = client.get(path, headers={"Accept-Encoding": "gzip"})
    lines = [json.loads(line) for line in gzip.decompress(answer.data).splitlines()]
    assert [(line["ts"], line["c"]) for line in lines] == [(minute(at), str(at)) for at in (8, 7, 6, 5)]


def test_parquet_is_exact(client: FlaskClient, stored: None, sql: Cursor):
    parquet = import_module("pyarrow.parquet")
    sql.execute("UPDATE perp_data SET c = 0.000000012345678901 WHERE symbol = 'BTC' AND ts = %s", (minute(3),))
    answer = client.get("/api/export/bin-ohlcv?format=parquet&symbol=BTC&order=asc")
    table = parquet.read_table(io.BytesIO(answer.data))
    assert table.num_rows == COUNT
    row = table.slice(3, 1).to_pylist()[0]
    assert (row["c"], row["n"], row["v"], row["symbol"]) == (Decimal("0.000000012345678901"), 3, None, "BTC")
    assert row["ts"] == minute(3)
    assert int(row["time"].timestamp() * 1000) == minute(3)
    assert str(table.schema.field("c").type) == "decimal128(38, 18)"
    assert [str(table.schema.field(name).type) for name in ("ts", "n", "symbol")] == ["int64", "int64", "string"]


@pytest.mark.parametrize("value", ["12345678901.123456789012345678901", "99999999999999999999.999999999999999999"])
def test_parquet_takes_numbers_of_more_than_28_digits(client: FlaskClient, stored: None, sql: Cursor, value: str):
    """Such a number aborted the transfer."""
    parquet = import_module("pyarrow.parquet")
    sql.execute("UPDATE perp_data SET v = %s WHERE symbol = 'ETH' AND ts = %s", (value, minute(3)))
    answer = client.get("/api/export/bin-ohlcv?format=parquet&symbol=ETH&columns=v&order=asc")
    rounded = Decimal(value).quantize(Decimal("1e-18"), context=Context(prec=60))
    assert parquet.read_table(io.BytesIO(answer.data)).to_pylist()[3]["v"] == rounded


@pytest.mark.parametrize("value", ["100000000000000000000", "-1e25", "NaN"])
def test_parquet_refuses_too_large_numbers_before_the_first_byte(
    client: FlaskClient, stored: None, sql: Cursor, value: str
):
    """Also when the number is in a later part of the file; other columns and formats remain."""
    sql.execute("UPDATE perp_data SET v = %s WHERE symbol = 'BTC' AND ts = %s", (value, minute(2)))
    path = "/api/export/bin-ohlcv?symbol=BTC&format="
    answer = client.get(f"{path}parquet")
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert "more than 20 digits" in answer.get_json()["detail"]
    for other in (f"{path}csv", f"{path}parquet&columns=c", f"{path}parquet&from={minute(5)}"):
        with client.get(other) as other_answer:
            assert other_answer.status_code == 200


def test_empty_selection_is_an_empty_file(client: FlaskClient):
    assert client.get("/api/export/bin-ohlcv?format=csv").text.count("\n") == 1
    assert client.get("/api/export/bin-ohlcv?format=ndjson").data == b""


def test_error_during_the_transfer_aborts_it(client: FlaskClient, stored: None, database_url: str, monkeypatch):
    """A file that ends early must not look complete."""
    monkeypatch.setattr(bulk, "WINDOW_ROWS", 5_000)
    answer = client.get("/api/export/bin-ohlcv?format=csv&symbol=BTC", buffered=False)
    parts = answer.iter_encoded()
    next(parts), next(parts)
    killer = psycopg2.connect(database_url)
    killer.autocommit = True
    with killer.cursor() as cursor:
        cursor.execute("ALTER TABLE perp_data RENAME TO gone")
    killer.close()
    with pytest.raises(StoreError):
        list(parts)
    answer.close()


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("symbols", ["", "&symbol=BTC"])
def test_what_processes_of_their_own_read_is_what_the_web_reads(
    client: FlaskClient, sql: Cursor, monkeypatch, symbols: str, order: str
):
    """Symbols sort by their characters, whatever the database's collation, and may need quotes."""
    names = ("BTC", "b", "42", 'A,"B', "币安人生")
    for index, name in enumerate(names):
        store_candles(sql, name, range(index * 7, 400))
    monkeypatch.setattr(bulk, "WINDOW_ROWS", 100)
    path = f"/api/export/bin-ohlcv?format=csv&order={order}{symbols}"
    ours = client.get(path).text
    monkeypatch.setattr(bulk, "MANY_WINDOWS", 2)
    assert client.get(path).text == ours
    rows = [(int(row[0]), row[1]) for row in list(csv.reader(io.StringIO(ours)))[1:]]
    sign = 1 if order == "asc" else -1
    assert rows == sorted(rows, key=lambda row: (sign * row[0], row[1]))
    assert len(rows) == (400 if symbols else sum(400 - index * 7 for index in range(len(names))))
    assert list_copiers() == []


def test_a_process_that_is_killed_ends_the_transfer(client: FlaskClient, stored: None, monkeypatch):
    answer, parts = begin_large(client, monkeypatch)
    killed, other = list_copiers()
    killed.kill()
    with pytest.raises(StoreError, match="has ended"):
        list(parts)
    answer.close()
    other.wait(60)
    assert list_copiers() == []


def test_a_reader_who_leaves_leaves_no_process(client: FlaskClient, stored: None, monkeypatch):
    answer, parts = begin_large(client, monkeypatch)
    assert len(list_copiers()) == 2
    answer.close()
    del parts
    until(lambda: list_copiers() == [], 10)


def begin_large(client: FlaskClient, monkeypatch):
    """Begin an export that processes of their own read; return the answer and its parts behind the first two."""
    monkeypatch.setattr(bulk, "WINDOW_ROWS", 500)
    answer = client.get("/api/export/bin-ohlcv?format=csv&symbol=BTC", buffered=False)
    parts = answer.iter_encoded()
    next(parts), next(parts)
    return answer, parts


def list_copiers() -> list[psutil.Process]:
    """Return the processes that read for this one."""
    children = psutil.Process().children()
    return [child for child in children if "fademoe.store.read.copier" in child.cmdline()]


def test_two_exports_at_a_time(client: FlaskClient, app, stored: None):
    running = [app.test_client().get("/api/export/bin-ohlcv", buffered=False) for _ in range(2)]
    third = client.get("/api/export/bin-ohlcv")
    assert (third.status_code, third.mimetype, third.headers["Retry-After"]) == (429, "application/problem+json", "30")
    for answer in running:
        answer.close()
    assert client.get("/api/export/bin-ohlcv?symbol=ETH").status_code == 200


def test_values_are_checked_only_by_an_export_that_has_its_turn(client: FlaskClient, app, stored: None, sql: Cursor):
    """The check reads as much as the export; what it refuses gives its turn back."""
    sql.execute("UPDATE perp_data SET v = 'NaN' WHERE symbol = 'BTC' AND ts = %s", (minute(2),))
    path = "/api/export/bin-ohlcv?symbol=BTC&format=parquet"
    running = [app.test_client().get("/api/export/bin-ohlcv", buffered=False) for _ in range(2)]
    assert client.get(path).status_code == 429
    for answer in running:
        answer.close()
    assert [client.get(path).status_code for _ in range(3)] == [400] * 3
