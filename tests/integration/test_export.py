"""`fademoe export`: files that equal the database, are written once, and survive a kill."""

import json
import signal
import subprocess
import sys
import time
from decimal import Decimal
from importlib import import_module

import pytest

from fademoe.bulk.directory import CERTIFICATES, check, hash_table
from fademoe.bulk.export import Request, export
from fademoe.cli.main import main
from fademoe.clock import DAY_MS, MINUTE_MS, Window, now_ms
from fademoe.errors import ConfigError
from fademoe.feeds.grid import Grid, find_grid
from fademoe.feeds.registry import load_exchanges
from fademoe.metrics import Candle, Liquidations, OpenInterest
from fademoe.store import corrections
from fademoe.store.certificate import certify
from fademoe.store.corrections import Difference
from fademoe.store.coverage import Absence, Covered, Series
from fademoe.store.read.catalog import list_perpspecs
from fademoe.store.read.past import Knowledge, Moment
from fademoe.store.read.pool import Reader
from fademoe.store.writer import Batch, Writer, group_rows

START = 1_767_225_600_000  # 2026-01-01
END = START + 40 * DAY_MS
SYMBOLS = ("BTC", "42")
GRID = Grid("ohlcv", MINUTE_MS, is_sparse=False)
VALUES = ["0.0000001", "83155.70", "0", "-0.000000000000000001", "12345678901234567890.5", None]


@pytest.fixture
def reader(database_url):
    found = Reader(database_url)
    yield found
    found.close()


@pytest.fixture
def stored(database):
    """Two symbols over the turn of a month, with a hole."""
    for symbol in SYMBOLS:
        series = Series("bin-ohlcv", symbol)
        rows = [
            Candle(ts, "1.0", "2", "0.5", "1.50", VALUES[i % 5], VALUES[i % 6], i, VALUES[i % 6])
            for i, ts in enumerate(range(START + 25 * DAY_MS, END, 7 * MINUTE_MS))
        ]
        window = Window(START + 25 * DAY_MS, END)
        Writer(database).write([Batch("ohlcv", "1m", {series: rows})], [Covered(series, [window])])
    return database


def run(reader, folder, symbols=SYMBOLS, **options):
    with reader.read() as cursor:
        spec = list_perpspecs(cursor)[options.pop("source", "bin-ohlcv")]
    reported = []
    window = options.pop("window", Window(START, END))
    grid = options.pop("grid", GRID)
    request = Request(window=window, **options)
    summary = export(reader, folder, [(spec, symbol, grid) for symbol in symbols], request, reported.append)
    return summary, reported


def list_files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_database(database, symbol):
    with database.open_transaction() as cursor:
        cursor.execute("SELECT ts, o, h, l, c, v, qv, n, tbv FROM perp_data WHERE symbol = %s ORDER BY ts", (symbol,))
        return cursor.fetchall()


def test_every_reader_finds_what_the_database_has(stored, reader, tmp_path):
    parquet, polars, duckdb = map(import_module, ("pyarrow.parquet", "polars", "duckdb"))
    run(reader, tmp_path)
    names = ["ts", "time", "o", "h", "l", "c", "v", "qv", "n", "tbv"]
    for symbol in SYMBOLS:
        paths = sorted(tmp_path.glob(f"source=bin-ohlcv/symbol={symbol}/*.parquet"))
        assert [path.name for path in paths] == ["month=2026-01.parquet", "month=2026-02.parquet"]
        expected = read_database(stored, symbol)
        tables = [parquet.ParquetFile(path).read() for path in paths]
        assert tables[0].column_names == names
        types = [str(field.type) for field in tables[0].schema]
        assert types == ["int64", "timestamp[ms, tz=UTC]", *["decimal128(38, 18)"] * 6, "int64", "decimal128(38, 18)"]
        rows = [tuple(row[name] for name in names if name != "time") for table in tables for row in table.to_pylist()]
        assert rows == expected
        assert [int(row["time"].timestamp() * 1000) for row in tables[0].to_pylist()[:3]] == [
            r[0] for r in expected[:3]
        ]
        frame = polars.read_parquet(paths, hive_partitioning=False).drop("time")
        assert frame.rows() == expected
        found = duckdb.sql(
            f"SELECT * EXCLUDE (time) FROM read_parquet({[str(p) for p in paths]!r}, hive_partitioning=false)"
        )
        assert found.fetchall() == expected
    glob = str(tmp_path / "source=*" / "symbol=*" / "*.parquet")
    query = (
        f"SELECT DISTINCT symbol FROM read_parquet('{glob}', hive_partitioning=true, hive_types={{'symbol': VARCHAR}})"
    )
    assert sorted(duckdb.sql(query).fetchall()) == [("42",), ("BTC",)]


def test_a_certificate_is_that_of_verify(stored, reader, tmp_path):
    parquet = import_module("pyarrow.parquet")
    run(reader, tmp_path)
    content = json.loads((tmp_path / CERTIFICATES).read_text())
    assert content["options"] == {"values": "decimal", "step": None, "as_of": None, "knowledge": None}
    assert sorted(content["files"]) == [
        f"source=bin-ohlcv/symbol={symbol}/month=2026-0{month}.parquet" for symbol in ("42", "BTC") for month in (1, 2)
    ]
    february = Window(START + 31 * DAY_MS, END)
    for symbol in SYMBOLS:
        name = f"source=bin-ohlcv/symbol={symbol}/month=2026-02.parquet"
        entry = content["files"][name]
        with stored.open_transaction() as cursor:
            expected = certify(cursor, Series("bin-ohlcv", symbol), "ohlcv", february, MINUTE_MS, sparse=False)
        assert {key: entry[key] for key in expected} == expected
        assert hash_table(parquet.ParquetFile(tmp_path / name).read()) == entry["sha256"]
        assert entry["attribution"] == []


@pytest.mark.parametrize("step", ["", "15m"])
def test_a_certificate_counts_the_points_of_the_grid_between_the_ends(database, reader, tmp_path, step):
    """A range that begins and ends between two marks, such as where another series is not due yet."""
    series = Series("bin-oi", "BTC")
    marks = [START + i * MINUTE_MS for i in range(0, 60, 5) if i != 30]
    rows = [(series, OpenInterest(ts, "1", None)) for ts in marks]
    hole = Absence(Window(START + 30 * MINUTE_MS, START + 35 * MINUTE_MS), "the exchange has no row")
    covered = Covered(series, [Window(START, START + 60 * MINUTE_MS)], [hole], 5 * MINUTE_MS)
    Writer(database).write([Batch("oi", "5m", group_rows(rows))], [covered])
    window = Window(START + 2 * MINUTE_MS, START + 57 * MINUTE_MS + 17_000)
    run(reader, tmp_path, ["BTC"], source="bin-oi", grid=find_grid("bin-oi"), window=window, step=step)
    (entry,) = json.loads((tmp_path / CERTIFICATES).read_text())["files"].values()
    counts = {name: entry[name] for name in ("expected", "present", "absent", "missing", "complete")}
    absent = {"the exchange has no row": 1}
    assert counts == {"expected": 11, "present": 10, "absent": absent, "missing": 0, "complete": True}


@pytest.mark.parametrize("source", ["bin-ohlcv", "bin-vwap"])
def test_a_certificate_has_the_attribution_of_what_came_from_archives(stored, reader, tmp_path, source):
    def enter(cursor):
        cursor.execute(
            "INSERT INTO perp_files"
            " (exchange, path, url, dataset, cadence, instrument, symbol, start_ms, end_ms, state)"
            " VALUES ('binance', 'p', 'u', 'klines', 'month', 'BTCUSDT', 'BTC', 0, 1, 'ok') RETURNING id"
        )
        cursor.execute("UPDATE perp_arrivals SET way = 'archive', file_id = %s WHERE symbol = 'BTC'", cursor.fetchone())

    stored.run(enter)
    run(reader, tmp_path, source=source, is_float=True)
    entries = json.loads((tmp_path / CERTIFICATES).read_text())["files"].values()
    found = {(entry["symbol"], *entry["attribution"]) for entry in entries if entry["rows"]}
    assert found == {("BTC", load_exchanges()["binance"].archive.attribution), ("42",)}


def test_a_certificate_as_of_a_moment_counts_what_was_known_then(database, reader, tmp_path):
    """Minutes without a row are absent; of liquidations, which are sparse, they are nothing."""
    hour, day = Window(START, START + 60 * MINUTE_MS), START + DAY_MS
    candles, sums = Series("bin-ohlcv", "BTC"), Series("bin-lq", "BTC")
    rows = [Candle(START + i * MINUTE_MS, "1", "1", "1", "1", "1") for i in range(60) if i != 8]
    absent = Window(START + 8 * MINUTE_MS, START + 9 * MINUTE_MS)
    batches = [
        Batch("ohlcv", "1m", {candles: rows}),
        Batch("lq", "1m", {sums: [Liquidations(START + 3 * MINUTE_MS, "5", "5")]}),
    ]
    answers = [Covered(candles, [hour], [Absence(absent, "the exchange has no row", 2)]), Covered(sums, [hour])]
    Writer(database).write(batches, answers)

    def count(source, at_ms, knowledge=Knowledge.MARKET):
        folder = tmp_path / f"{source} {at_ms} {knowledge}"
        grid = find_grid(source)
        run(reader, folder, ["BTC"], source=source, grid=grid, window=hour, moment=Moment(at_ms, knowledge))
        (entry,) = json.loads((folder / CERTIFICATES).read_text())["files"].values()
        return entry["present"], sum(entry["absent"].values()), entry["missing"], entry["complete"]

    assert count("bin-ohlcv", day) == (59, 1, 0, True)
    assert count("bin-ohlcv", START + 5 * MINUTE_MS + 62_000) == (6, 0, 54, False)
    assert count("bin-ohlcv", START + 10 * MINUTE_MS + 61_999) == (9, 1, 50, False)
    assert count("bin-ohlcv", day, Knowledge.RECORDED) == (0, 1, 59, False)
    assert count("bin-ohlcv", now_ms(), Knowledge.RECORDED) == (59, 1, 0, True)
    assert count("bin-lq", day) == (1, 0, 0, True)
    assert count("bin-lq", START + 30 * MINUTE_MS) == (1, 0, 30, False)
    assert count("bin-lq", day, Knowledge.RECORDED) == (0, 0, 1, False)


def test_a_second_run_writes_what_has_changed_alone(stored, reader, tmp_path):
    first, reported = run(reader, tmp_path)
    assert (first.written, first.kept, len(reported)) == (4, 0, 4)
    before = list_files(tmp_path)
    again, reported = run(reader, tmp_path)
    assert (again.written, again.kept, reported) == (0, 4, [])
    assert list_files(tmp_path) == before
    changed = Difference(START + 25 * DAY_MS, "c", "1.50", "1.6")
    stored.run(lambda cursor: corrections.correct(cursor, Series("bin-ohlcv", "42"), "1m", [changed]))
    third, reported = run(reader, tmp_path)
    assert (third.written, third.kept) == (1, 3)
    assert reported[0].startswith("source=bin-ohlcv/symbol=42/month=2026-01.parquet")
    assert check(tmp_path) == []


@pytest.mark.parametrize("step", ["", "1h"])
def test_a_narrower_range_throws_nothing_away(stored, reader, tmp_path, step):
    """A month that is there already is made of both ranges and of what lies between them."""
    run(reader, tmp_path / "grown", ["BTC"], window=Window(START, START + 31 * DAY_MS), step=step)
    run(reader, tmp_path / "grown", ["BTC"], window=Window(START + 29 * DAY_MS, START + 33 * DAY_MS), step=step)
    run(reader, tmp_path / "whole", ["BTC"], window=Window(START, START + 33 * DAY_MS), step=step)
    assert list_files(tmp_path / "grown") == list_files(tmp_path / "whole")
    summary, reported = run(reader, tmp_path / "grown", ["BTC"], window=Window(START, START + DAY_MS), step=step)
    assert (summary.written, summary.kept, reported) == (0, 1, [])  # a day without a row
    assert list_files(tmp_path / "grown") == list_files(tmp_path / "whole")
    apart = tmp_path / "apart"
    for days in (24, 26), (30, 40):
        run(reader, apart, ["BTC"], window=Window(START + days[0] * DAY_MS, START + days[1] * DAY_MS), step=step)
    entries = json.loads((apart / CERTIFICATES).read_text())["files"].values()
    spans = [(entry["from"], entry["to"]) for entry in entries]
    assert spans == [
        ("2026-01-25T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("2026-02-01T00:00:00Z", "2026-02-10T00:00:00Z"),
    ]
    assert check(apart) == []


def test_a_change_behind_the_end_of_the_range_is_in_its_last_step(stored, reader, tmp_path):
    parquet = import_module("pyarrow.parquet")
    window = Window(START, START + 33 * DAY_MS + 7 * MINUTE_MS)
    run(reader, tmp_path, ["BTC"], window=window, step="1h")
    ts = next(row[0] for row in reversed(read_database(stored, "BTC")) if row[0] < START + 33 * DAY_MS + 60 * MINUTE_MS)
    assert ts > window.end_ms
    changed = Difference(ts, "h", "2", "9")
    stored.run(lambda cursor: corrections.correct(cursor, Series("bin-ohlcv", "BTC"), "1m", [changed]))
    summary, _ = run(reader, tmp_path, ["BTC"], window=window, step="1h")
    assert (summary.written, summary.kept) == (1, 1)
    path = tmp_path / "source=bin-ohlcv" / "symbol=BTC" / "month=2026-02.parquet"
    assert parquet.ParquetFile(path).read()["h"].to_pylist()[-1] == 9


def test_the_check_names_what_is_wrong(stored, reader, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fademoe.logs.set_up", lambda: None)  # of a program, not of a test
    run(reader, tmp_path)
    assert main(["export", "--check", str(tmp_path)]) == 0
    files = sorted(tmp_path.glob("source=*/symbol=*/*.parquet"))
    content = bytearray(files[0].read_bytes())
    content[100] ^= 1
    files[0].write_bytes(content)
    files[1].unlink()
    (files[2].parent / "month=2020-01.parquet").write_bytes(files[2].read_bytes())
    assert main(["export", "--check", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines[1:4]] == [
        "not in _certificates.json",
        "its bytes are not those that were written",
        "missing",
    ]
    assert main(["export", "--check", str(tmp_path / "nowhere")]) == 2


def test_floats_steps_and_moments(stored, reader, tmp_path):
    parquet = import_module("pyarrow.parquet")
    run(reader, tmp_path / "f", is_float=True)
    (path, *_) = sorted((tmp_path / "f").glob("source=*/symbol=BTC/*.parquet"))
    table = parquet.ParquetFile(path).read()
    assert str(table.schema.field("v").type) == "double"
    assert table["v"].to_pylist()[:2] == [0.0000001, 83155.7]
    run(reader, tmp_path / "h", step="1h")
    (path, *_) = sorted((tmp_path / "h").glob("source=*/symbol=BTC/*.parquet"))
    hours = parquet.ParquetFile(path).read().to_pylist()
    assert (hours[0]["ts"], hours[0]["bars"], hours[0]["expected"], hours[0]["complete"]) == (
        START + 25 * DAY_MS,
        9,
        60,
        True,
    )
    assert sum(hour["bars"] for hour in hours) == table.num_rows
    assert hours[0]["c"] == Decimal("1.5")
    early = Moment(START + 26 * DAY_MS, Knowledge.MARKET)
    summary, _ = run(reader, tmp_path / "p", moment=early)
    assert summary.rows == 2 * sum(row[0] + 62_000 <= START + 26 * DAY_MS for row in read_database(stored, "BTC"))
    run(reader, tmp_path / "s", step="1h", moment=early)
    known = [
        row["bars"]
        for path in (tmp_path / "s").glob("source=*/symbol=*/*.parquet")
        for row in parquet.ParquetFile(path).read().to_pylist()
    ]
    assert sum(known) == summary.rows
    assert all(check(tmp_path / name) == [] for name in "fhps")
    with pytest.raises(ConfigError, match="it was made with values 'float'"):
        run(reader, tmp_path / "f")


COMMAND = """
import sys, time
from pathlib import Path
from tests.integration.test_export import SYMBOLS, run
from fademoe.bulk import export as module
from fademoe.store.read.pool import Reader

write_file = module.write_file
def write_slowly(path, table):
    entry = write_file(path, table)
    print("written", flush=True)
    time.sleep(0.3)
    return entry
module.write_file = write_slowly
run(Reader(sys.argv[1]), Path(sys.argv[2]))
"""


def test_an_export_that_was_killed_ends_with_the_same_files(stored, reader, database_url, tmp_path):
    run(reader, tmp_path / "whole")
    for files in (1, 2):
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, database_url, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True
        )
        for _ in range(files):
            assert process.stdout.readline() == "written\n"
        if files == 2:
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        leftover = tmp_path / "killed" / "source=bin-ohlcv" / "symbol=42" / "month=2026-01.parquet.part"
        leftover.parent.mkdir(parents=True, exist_ok=True)
        leftover.write_bytes(b"half a file")
        assert check(tmp_path / "killed") != []
    summary, _ = run(reader, tmp_path / "killed")
    assert summary.kept >= 1
    assert list_files(tmp_path / "killed") == list_files(tmp_path / "whole")
    assert check(tmp_path / "killed") == []


def test_the_command_exports_and_refuses_wrong_arguments(
    stored, database_url, redis_url, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("fademoe.logs.set_up", lambda: None)  # of a program, not of a test
    monkeypatch.setenv("FADEMOE_DATABASE_URL", database_url)
    monkeypatch.setenv("FADEMOE_REDIS_URL", redis_url)
    out = str(tmp_path / "out")
    span = ["--since", "2026-01-20", "--until", "2026-02-10", "--out", out]
    assert main(["export", "--source", "bin-ohlcv", "--symbols", "all", *span]) == 0
    assert "in 4 files, 0 of them unchanged; 4 of 4 months" in capsys.readouterr().out
    assert main(["export", "--source", "bin-ohlcv", "--symbols", "42,BTC", *span]) == 0
    assert "4 of them unchanged" in capsys.readouterr().out
    wrong = {
        ("--source", "bin-nothing", "--symbols", "all", *span): "valid are",
        ("--source", "bin-ohlcv", "--symbols", "all"): "are required",
        ("--source", "bin-ohlcv", "--symbols", "all", *span, "--as-of", "2099-01-01"): "up to now",
        ("--source", "bin-ohlcv", "--symbols", "all", *span, "--knowledge", "market"): "--as-of",
        ("--source", "bin-ohlcv", "--symbols", "all", *span, "--float"): "made with values 'decimal'",
    }
    for arguments, words in wrong.items():
        assert main(["export", *arguments]) == 2
        assert words in capsys.readouterr().err
