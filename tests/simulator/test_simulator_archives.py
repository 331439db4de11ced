"""The simulated archives: the same truth as REST, in files with all that is odd about the real ones."""

import hashlib
import io
import zipfile
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fademoe.archives.listing import read_page
from tests.support.simulated import SimulatorProcess

DAY_MS = 86_400_000
FILES = "/data/futures/um"
LIST = "/data.binance.vision"
KLINES = f"{FILES}/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-11.zip"


def to_ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


@pytest.fixture(scope="module")
def simulator():
    process = SimulatorProcess("--no-limits", "--cache-chunks", "20")
    yield process
    process.stop()


@pytest.fixture(autouse=True)
def _no_faults(simulator):
    yield
    simulator.session.delete(simulator.url + "/sim/faults", timeout=60)


def lines(simulator, path, encoding="utf-8"):
    response = simulator.get(path)
    assert response.status_code == 200, (path, response.text[:200])
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        [name] = archive.namelist()
        assert name == path.rpartition("/")[2].replace(".zip", ".csv")
        return [line.split(",") for line in archive.read(name).decode(encoding).splitlines()]


def test_a_month_is_the_truth(simulator):
    header, *rows = lines(simulator, KLINES)
    assert header[0] == "open_time"
    truth = simulator.truth("ohlcv", "BTC", to_ms("2024-11-01"), to_ms("2024-12-01"))
    assert len(rows) == len(truth) > 42_000
    for row, expected in zip(rows[::97], truth[::97], strict=True):
        assert int(row[0]) == expected["ts"]
        for cell, column in ((1, "o"), (2, "h"), (3, "l"), (4, "c"), (5, "v"), (7, "qv"), (8, "n"), (9, "tbv")):
            assert Decimal(row[cell]) == Decimal(expected[column])
    premium = lines(simulator, KLINES.replace("klines", "premiumIndexKlines"))
    assert premium[1][4] != rows[0][4]


def test_checksums_etags_and_ranges(simulator):
    path = f"{FILES}/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-11-03.zip"
    whole = simulator.get(path)
    digest, name = simulator.get(f"{path}.CHECKSUM").text.split("  ")
    assert digest == hashlib.sha256(whole.content).hexdigest()
    assert name == "BTCUSDT-1m-2024-11-03.zip\n"
    assert whole.headers["ETag"] == f'"{hashlib.md5(whole.content).hexdigest()}"'
    part = simulator.session.get(simulator.url + path, headers={"Range": "bytes=100-"}, timeout=60)
    assert (part.status_code, part.content) == (206, whole.content[100:])
    simulator.fault(kind="wrong_checksum", exchange="binance", path=path)
    assert simulator.get(f"{path}.CHECKSUM").text.split("  ")[0] != digest
    missing = simulator.get(path.replace("BTCUSDT", "NOPEUSDT"))
    assert missing.status_code == 404
    assert "<Code>NoSuchKey</Code>" in missing.text


def test_listings_come_in_pages(simulator):
    prefix = "data/futures/um/daily/metrics/BTCUSDT/"
    keys, marker = [], ""
    for _ in range(3):
        page = read_page(simulator.get(LIST, prefix=prefix, marker=marker, **{"max-keys": 40}).content)
        keys += [file.path for file in page.files]
        marker = page.marker
    assert keys == sorted(keys)
    assert len(keys) == 120
    assert keys[1] == f"{keys[0]}.CHECKSUM"
    assert keys[0].endswith("BTCUSDT-metrics-2020-09-01.zip")
    text = simulator.get(LIST, prefix=prefix, **{"max-keys": 40}).text
    assert "NextMarker" not in text
    folders = read_page(simulator.get(LIST, prefix="data/futures/um/monthly/klines/", delimiter="/").content)
    assert "data/futures/um/monthly/klines/1000PEPEUSDT/" in folders.folders
    assert (
        "NextMarker"
        in simulator.get(LIST, prefix="data/futures/um/monthly/klines/", delimiter="/", **{"max-keys": 3}).text
    )


def test_headers_flat_bars_and_what_comes_later(simulator):
    old = lines(simulator, KLINES.replace("2024-11", "2021-03"))
    assert old[0][0].isdecimal()
    dead = lines(simulator, f"{FILES}/monthly/klines/OMGUSDT/1m/OMGUSDT-1m-2025-03.zip")[1:]
    assert len(dead) == 31 * 1440
    assert {(row[5], row[8]) for row in dead} == {("0.000", "0")} or {row[8] for row in dead} == {"0"}
    rates = lines(simulator, f"{FILES}/monthly/fundingRate/OMGUSDT/OMGUSDT-fundingRate-2025-03.zip")[1:]
    assert {row[2] for row in rates} == {"0.00010000"}
    month = datetime.fromtimestamp(simulator.now_ms() / 1000, UTC).strftime("%Y-%m")
    assert simulator.get(KLINES.replace("2024-11", month)).status_code == 404


def test_the_label_of_metrics_changes_at_an_instant(simulator):
    def of(day):
        return lines(simulator, f"{FILES}/daily/metrics/ETHUSDT/ETHUSDT-metrics-{day}.zip")[1:]

    def truth(day):
        start = to_ms(day)
        query = {"exchange": "binance", "metric": "oi", "symbol": "ETH", "from": start, "to": start + 2 * DAY_MS}
        return {row["ts"]: row["oi"] for row in simulator.get("/sim/truth", **query).json()["rows"]}

    for day, shift in (("2024-03-03", 0), ("2024-03-04", 300_000)):
        found, known = of(day), truth(day)
        assert all(Decimal(row[2]) == Decimal(known[to_ms(row[0]) + shift]) for row in found)
    path = f"{FILES}/daily/metrics/ETHUSDT/ETHUSDT-metrics-2024-05-04.zip"
    etag = simulator.get(path).headers["ETag"]
    simulator.fault(kind="old_form", exchange="binance", path=path)
    assert simulator.get(path).headers["ETag"] != etag
    assert of("2024-05-04")[0][0] == "2024-05-04 00:05:00"
    assert of("2024-05-04")[-1][0] == "2024-05-05 00:00:00"


@pytest.mark.parametrize("kind", ["cut_zip", "bad_crc", "two_members", "html_file", "lost_file"])
def test_broken_files(simulator, kind):
    path = f"{FILES}/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-11-03.zip"
    simulator.fault(kind=kind, exchange="binance", path=path)
    with pytest.raises((AssertionError, ValueError, zipfile.BadZipFile)):
        lines(simulator, path)


def test_okx_has_days_of_utc_8_and_all_swaps_in_one_file(simulator):
    folder = "/cdn/okex/traderecords"
    header, *rows = lines(simulator, f"{folder}/candlesticks/monthly/202111/BTC-USDT-SWAP-candlesticks-2021-11.zip")
    assert header[0] == "instrument_name"
    assert int(rows[0][8]) == to_ms("2021-10-31T16:00:00")
    assert {row[9] for row in rows} == {"0"}
    assert {"None", "0"} <= {row[6] for row in rows}
    rows = lines(simulator, f"{folder}/swaprates/daily/20241103/allswap-fundingrates-2024-11-03.zip")[1:]
    assert len({row[0] for row in rows}) > 30
    old = f"{folder}/swaprate/monthly/202204/allswaprate-swaprate-2022-04-02.zip"
    assert lines(simulator, old, "gbk")[0][0] == "合约"
    assert simulator.get(f"{folder}/swaprates/daily/20220402/allswap-fundingrates-2022-04-02.zip").status_code == 404


def test_okx_lists_its_files(simulator):
    query = {"module": "2", "instType": "SWAP", "instFamilyList": "BTC-USDT", "dateAggrType": "daily"}
    range_ = {"begin": to_ms("2024-11-03"), "end": to_ms("2024-11-05")}
    [answer] = simulator.get("/api/v5/public/market-data-history", **query, **range_).json()["data"]
    [detail] = answer["details"]
    names = [file["filename"][-14:-4] for file in detail["groupDetails"]]
    assert names == ["2024-11-05", "2024-11-04", "2024-11-03"]
    assert all("dateTs" in file or "dataTs" in file for file in detail["groupDetails"])
    path = detail["groupDetails"][0]["url"].removeprefix("https://static.okx.com")
    content = simulator.get(path).content
    assert abs(float(detail["groupDetails"][0]["sizeMB"]) * 1e6 - len(content)) < 100
    nothing = {"begin": to_ms("2015-11-03"), "end": to_ms("2015-11-05")}
    [empty] = simulator.get("/api/v5/public/market-data-history", **query, **nothing).json()["data"]
    assert empty["details"] == []


def test_a_host_in_a_hurry_is_refused():
    process = SimulatorProcess("--archive-rate", "2")
    try:
        path = f"{FILES}/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-11-03.zip"
        assert {process.get(path).status_code for _ in range(6)} >= {200, 503, 403}
    finally:
        process.stop()
