"""Every snippet of docs/use-it-from.md is run as it stands, apart from the address, the directory and the database."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from fademoe.bulk.export import Request, export
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window
from fademoe.embedded import servers
from fademoe.feeds.grid import find_grid
from fademoe.metrics import Candle, Funding, OpenInterest
from fademoe.store.connection import Database
from fademoe.store.coverage import Covered, Series
from fademoe.store.read.catalog import list_perpspecs
from fademoe.store.read.pool import Reader
from fademoe.store.writer import Batch, Writer

ROOT = Path(__file__).resolve().parents[2]
START = 1_767_225_600_000  # 2026-01-01, as on the page
WINDOW = Window(START, START + DAY_MS)
BARS = 1440
SNIPPETS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "use-it-from.md").read_text(encoding="utf-8"), re.DOTALL)


def write(database: Database, source: str, symbol: str, interval: str, rows: list) -> None:
    series = Series(source, symbol)
    metric = source.rpartition("-")[2]
    Writer(database).write([Batch(metric, interval, {series: rows})], [Covered(series, [WINDOW])])


@pytest.fixture
def database(database_url) -> Iterator[Database]:
    found = Database(database_url)
    for symbol in ("BTC", "42"):
        bars = [Candle(START + i * MINUTE_MS, "1", f"{i + 2}", "0.5", "1.50", "10", "15", i) for i in range(BARS)]
        write(found, "bin-ohlcv", symbol, "1m", bars)
    write(found, "byb-oi", "BTC", "5m", [OpenInterest(START + i * 5 * MINUTE_MS, str(i)) for i in range(288)])
    for code, rate in (("bin", "0.0001"), ("byb", "0.0003")):
        settlements = [Funding(START + i * 8 * HOUR_MS, rate if i == 1 else "0.0001", 8) for i in range(3)]
        write(found, f"{code}-fr", "BTC", "settlement", settlements)
    yield found
    found.close()


@pytest.fixture
def address(app, database) -> Iterator[str]:
    """The address of a web that listens on a port of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def folder(database, database_url, tmp_path, monkeypatch) -> Path:
    """The working directory, with an export in it."""
    reader = Reader(database_url)
    with reader.read() as cursor:
        specs = list_perpspecs(cursor)
    series = [(specs["bin-ohlcv"], symbol, find_grid("bin-ohlcv")) for symbol in ("BTC", "42")]
    export(reader, tmp_path / "exported", series, Request(window=WINDOW), print)
    reader.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def list_snippets(language: str, address: str) -> list[str]:
    return [text.replace("http://127.0.0.1:8000", address) for name, text in SNIPPETS if name == language]


def test_every_snippet_is_of_a_kind_that_is_run():
    assert {name for name, _ in SNIPPETS} == {"python", "r", "sh", "sql"}


def test_python(address, folder):
    spaces: list[dict] = []
    for text in list_snippets("python", address):
        spaces.append({})
        exec(compile(text, "docs/use-it-from.md", "exec"), spaces[-1])
    client, csv, parquet, polars, many, duckdb = spaces
    assert client["frame"].height == client["both"].height == BARS
    assert client["hours"].select("bars", "complete").rows() == [(60, True)] * 24
    assert (client["floats"]["c"].tolist(), client["floats"].columns.tolist()) == ([1.5] * BARS, ["ts", "c", "v"])
    assert client["both"]["byb-oi.oi"][5] == 1
    assert client["then"]["ts"][-1] == START + 12 * HOUR_MS - 2 * MINUTE_MS
    assert client["proof"]["complete"]
    assert (len(csv["frame"]), csv["frame"]["symbol"][0], str(csv["frame"]["time"][1])) == (
        BARS,
        "BTC",
        "2026-01-01 00:01:00+00:00",
    )
    assert (len(parquet["frame"]), parquet["frame"]["c"][0]) == (BARS, Decimal("1.5"))
    assert polars["frame"]["ts"].to_list() == [START + i * MINUTE_MS for i in range(BARS)]
    assert (many["frame"].height, many["frame"]["symbol"][0], many["frame"]["c"][0]) == (BARS, "BTC", Decimal("1.5"))
    assert duckdb["frame"] == [("42", BARS, Decimal(BARS + 1)), ("BTC", BARS, Decimal(BARS + 1))]


@pytest.mark.elsewhere
def test_r(address, folder):
    for text in list_snippets("r", address):
        done = subprocess.run(["Rscript", "-e", text], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.split() == [str(BARS), str(START), "1.5"], done.stderr


def test_curl(address, folder):
    (text,) = list_snippets("sh", address)
    done = subprocess.run(["sh", "-e", "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert (folder / "btc.csv").read_text().count("\n") == BARS + 1
    assert f'"c":"1.50","known_ms":{START + 62_000}' in done.stdout


def test_psql(database, database_url):
    program = shutil.which("psql") or servers.find_psql()
    assert program, "psql comes with the embedded PostgreSQL"
    outputs = []
    for text in list_snippets("sql", ""):
        command = [str(program), database_url, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text]
        environ = os.environ | {"PGTZ": "UTC"}
        outputs.append(
            subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environ).stdout
        )
    assert outputs[0].splitlines() == [
        "2026-01-01 00:00:00+00|1.50",
        "2026-01-01 00:01:00+00|1.50",
        "2026-01-01 00:02:00+00|1.50",
        f"1.5|{BARS + 1}",
        f"{START}|1.500000000000000000",
    ]
    assert outputs[1].splitlines()[:2] == ["ts,o,h,l,c,v", f"{START},1,2,0.5,1.50,10"]
    assert outputs[1].count("\n") == BARS + 1


def test_the_example_finds_plots_and_certifies_a_divergence(address, folder):
    command = [
        sys.executable,
        str(ROOT / "examples" / "funding_divergence.py"),
        address,
        "BTC",
        "2026-01-01",
        "2026-01-02",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "3 settlements at the same time; the widest gap is -21.90% a year at 2026-01-01 08:00:00"
    assert [line.rpartition(" ")[0] for line in lines[1:]] == [
        f"{source}: complete True, 3 rows, sha256" for source in ("bin-fr", "byb-fr")
    ]
    assert "plotly" in (folder / "funding_divergence.html").read_text(encoding="utf-8")
