"""Files of archives as pure data: where they lie, how they are read, what is refused, which label they get."""

import os
import signal
import tracemalloc
import zipfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest

from fademoe.archives.labels import Label, decide_label
from fademoe.archives.listing import read_page
from fademoe.archives.plain import read_plain
from fademoe.archives.reading import describe, find_holes, read_file
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, parse_time
from fademoe.errors import BadPayload, RetryLater
from fademoe.feeds import registry
from fademoe.feeds.archive import ArchiveFile, BadFile, split_settled
from fademoe.feeds.blocks import make_block, pack_rows
from fademoe.feeds.instrument import Instrument
from fademoe.metrics import Candle, Funding, LongShortRatio, OpenInterest, Premium
from fademoe.store.coverage import Series
from fademoe.store.writer import write_copy_text

DAY = Window(parse_time("2024-11-01"), parse_time("2024-11-02"))
BINANCE, OKX = (registry.load_exchanges()[name].archive for name in ("binance", "okx"))
BTC = Instrument(exchange="binance", code="bin", name="BTCUSDT", symbol="BTC")
PEPE = Instrument(exchange="binance", code="bin", name="1000PEPEUSDT", symbol="PEPE", multiplier=1000)
SWAP = Instrument(exchange="okx", code="okx", name="BTC-USDT-SWAP", symbol="BTC", contract_value="0.01")


def dataset(archive, metric):
    return archive.find_dataset(metric)


def kline(ts, o="10.00", c="10.50", v="3.000", n=4):
    return f"{ts},{o},10.60,9.90,{c},{v},{ts + MINUTE_MS - 1},31.50000,{n},1.000,10.50000,0"


def write(folder: Path, file: ArchiveFile, lines, *, member=None, more=()) -> Path:
    path = folder / file.path.rpartition("/")[2]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member or f"{file.stem}.csv", "\n".join(lines) + "\n")
        for name in more:
            archive.writestr(name, "x")
    return path


def day_file(archive, metric, name, day=DAY):
    return dataset(archive, metric).list_day_files(name, day)[0]


def read(folder, archive, metric, instrument, lines, *, day=DAY, **options):
    file = day_file(archive, metric, instrument.name, day)
    return read_file(write(folder, file, lines, **options), file, dataset(archive, metric), instrument)


def test_archives_hold_metrics_that_rest_has_too():
    for exchange in registry.load_exchanges().values():
        datasets = exchange.archive.datasets if exchange.archive else ()
        assert all(exchange.find_rest_feed(metric) for each in datasets for metric in each.metrics)


def test_paths_of_files():
    month = dataset(BINANCE, "ohlcv").find_period(DAY.start_ms)
    assert month == Window(parse_time("2024-11-01"), parse_time("2024-12-01"))
    [file] = dataset(BINANCE, "ohlcv").list_month_files("BTCUSDT", month)
    assert file.path == "data/futures/um/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-11.zip"
    assert file.stem == "BTCUSDT-1m-2024-11"
    assert BINANCE.checksum(file.path) == f"{file.path}.CHECKSUM"
    [premium] = dataset(BINANCE, "pfr").list_day_files("BTCUSDT", DAY)
    assert premium.path == "data/futures/um/daily/premiumIndexKlines/BTCUSDT/1m/BTCUSDT-1m-2024-11-01.zip"
    [metrics] = dataset(BINANCE, "oi").list_day_files("BTCUSDT", DAY)
    assert metrics.path == "data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2024-11-01.zip"
    assert dataset(BINANCE, "oi").list_month_files("BTCUSDT", month) == []
    [funding] = dataset(BINANCE, "fr").list_month_files("BTCUSDT", month)
    assert funding.path == "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-11.zip"


def test_days_and_months_of_utc_8():
    candles = dataset(OKX, "ohlcv")
    december = candles.find_period(parse_time("2021-11-30T16:00:00Z"))
    assert december == Window(parse_time("2021-11-30T16:00:00Z"), parse_time("2021-12-31T16:00:00Z"))
    assert candles.find_period(december.start_ms - 1).end_ms == december.start_ms
    [file] = candles.list_month_files("BTC-USDT-SWAP", december)
    assert file.path == "candlesticks/monthly/202112/BTC-USDT-SWAP-candlesticks-2021-12.zip"
    day = candles.list_days(december)[0]
    [file] = candles.list_day_files("BTC-USDT-SWAP", day)
    assert file.path == "candlesticks/daily/20211201/BTC-USDT-SWAP-candlesticks-2021-12-01.zip"
    assert day.start_ms == december.start_ms
    new, old = (file.path for file in dataset(OKX, "fr").list_day_files("BTC-USDT-SWAP", day))
    assert new == "swaprates/daily/20211201/allswap-fundingrates-2021-12-01.zip"
    assert old == "swaprate/monthly/202112/allswaprate-swaprate-2021-12-01.zip"
    utc_month = Window(parse_time("2021-12-01"), parse_time("2022-01-01"))
    assert len(candles.list_periods(utc_month)) == 2


@pytest.mark.parametrize("header", [True, False])
def test_klines_are_read_as_rest_reads_them(tmp_path, header):
    names = [",".join(dataset(BINANCE, "ohlcv").layouts[0].names)] if header else []
    lines = [*names, *(kline(DAY.start_ms + at * MINUTE_MS) for at in range(3))]
    found = read(tmp_path, BINANCE, "ohlcv", PEPE, lines)
    assert found.has_header is header
    assert list(found.rows["ohlcv"]) == [DAY.start_ms + at * MINUTE_MS for at in range(3)]
    row = found.rows["ohlcv"][DAY.start_ms]
    assert row == Candle(DAY.start_ms, "0.01000", "0.01060", "0.00990", "0.01050", "3000", "31.50000", 4, "1000")


def change(random, lines):
    """Return lines of which some characters, cells or lines are others."""
    lines = list(lines)
    for _ in range(random.choice((0, 1, 1, 2))):
        at = random.randrange(len(lines))
        line = lines[at] or "0"
        place = random.randrange(len(line))
        cells = line.split(",")
        odd = (
            "",
            "-1",
            "1e3",
            "007",
            ".5",
            "5.",
            "1.2.3",
            "-",
            "0",
            "0.00",
            "NaN",
            "9" * 31,
            "1" * 17,
            " 1",
            '"1"',
            "-0.0",
        )
        cells[random.randrange(len(cells))] = random.choice(odd)
        lines[at] = random.choice(
            (
                line[:place] + random.choice('0123456789.,-e"\r\n x/:é') + line[place + 1 :],
                line[:place] + line[place + 1 :],
                ",".join(cells),
                f"{line}\n{line}",
                f"{line}\r",
                "",
            )
        )
    if random.random() < 0.1:
        random.shuffle(lines)
    return lines


@pytest.mark.parametrize("metric", ["ohlcv", "pfr", "mark"])
def test_reading_at_once_gives_what_reading_line_by_line_gives(tmp_path, metric):
    random = Random(metric)
    file, whole = day_file(BINANCE, metric, "BTCUSDT"), dataset(BINANCE, metric)
    slow = replace(whole, layouts=tuple(replace(layout, plain=None) for layout in whole.layouts))
    at_once = 0
    for number in range(150):
        times = range(DAY.start_ms, DAY.start_ms + 8 * MINUTE_MS, MINUTE_MS)
        closes = random.choice((("10.50",), ("10.50", "9.9", "10.6"), ("10.50", "10.60", "10.61")))
        lines = change(random, [kline(ts, c=random.choice(closes)) for ts in times])
        header = [",".join(whole.layouts[0].names)] if number % 2 else []
        path = write(tmp_path, file, [*header, *lines])
        at_once += read_plain("".join(f"{line}\n" for line in lines).encode(), whole.layouts[0], BTC) is not None
        seen = []
        for each in (whole, slow):
            try:
                found = read_file(path, file, each, BTC)
            except BadFile as error:
                seen.append(str(error))
            else:
                rows = {name: dict(rows) for name, rows in found.rows.items()}
                seen.append((rows, found.find_times().tolist(), describe(found), found.lines, found.strays))
        assert seen[0] == seen[1], lines
    assert at_once > 15


def test_a_signal_while_a_file_is_read_is_no_error_of_the_file():
    """A worker that is stopped ends its job when it likes: no try of it has failed."""
    caught, is_done = [], Event()
    before = signal.signal(signal.SIGTERM, lambda *_: caught.append(1))

    def send():
        while not is_done.wait(0.001):
            os.kill(os.getpid(), signal.SIGTERM)

    sender = Thread(target=send)
    content = "".join(f"{kline(DAY.start_ms + at * MINUTE_MS)}\n" for at in range(20_000)).encode()
    sender.start()
    try:
        blocks = [read_plain(content, dataset(BINANCE, "ohlcv").layouts[0], BTC) for _ in range(20)]
    finally:
        is_done.set()
        sender.join()
        signal.signal(signal.SIGTERM, before)
    assert {len(block) for block in blocks} == {20_000}
    assert caught


def test_a_block_is_cut_and_written_as_its_rows_are():
    times = [DAY.start_ms + at * MINUTE_MS for at in range(2_500)]
    lines = "".join(f"{kline(ts, c=f'10.{ts % 49:02}')}\n" for ts in times)
    block = read_plain(lines.encode(), dataset(BINANCE, "ohlcv").layouts[0], BTC)
    for window in (Window(times[0], times[-1] + 1), Window(times[3] - 1, times[2_400])):
        part = block.cut(window)
        rows = [row for ts, row in block.items() if window.start_ms <= ts < window.end_ms]
        assert list(part.values()) == rows
        text = "".join(write_copy_text({Series("bin-ohlcv", "BTC"): rows}, "1m"))
        assert b"".join(part.write_copy_text("BTC\tbin-ohlcv\t1m")).decode() == text
        assert part.list_hours() == sorted({ts // HOUR_MS * HOUR_MS for ts in part})
    assert len(block.cut(Window(0, 1))) == 0


def test_blocks_are_joined_as_dicts_of_rows_are():
    """Rows of made-up candles, with nulls, in any order and with doubles: equal ones, and such that differ."""
    random = Random(11)
    for _ in range(200):
        parts = []
        for _ in range(random.randrange(1, 4)):
            times = [DAY.start_ms + random.randrange(12) * MINUTE_MS for _ in range(random.randrange(6))]
            values = [random.choice(("1", "1.0", "1.00", "2")) for _ in times]
            parts.append(
                [
                    Candle(
                        ts, value, "3", "0.5", "1", "7", random.choice((None, "1.5")), random.choice((None, 4)), None
                    )
                    for ts, value in zip(times, values, strict=True)
                ]
            )
        expected, differing = {}, set()
        for row in (row for rows in parts for row in rows):
            first = expected.setdefault(row.ts, row)
            same = [Decimal(str(value or -1)) for value in first] == [Decimal(str(value or -1)) for value in row]
            differing |= set() if same else {row.ts}
        block, found = make_block("ohlcv", [pack_rows("ohlcv", rows) for rows in parts])
        assert list(block.values()) == [expected[ts] for ts in sorted(expected)]
        assert found == sorted(differing)
        sought = [DAY.start_ms + random.randrange(14) * MINUTE_MS for _ in range(4)]
        assert list(block.pick(sought)) == [ts for ts in block if ts in sought]
        assert list(block.without(sought).values()) == [row for ts, row in block.items() if ts not in sought]
        assert [ts in block for ts in sought] == [ts in expected for ts in sought]
        text = "".join(write_copy_text({Series("bin-ohlcv", "BTC"): list(block.values())} if block else {}, "1m"))
        assert b"".join(block.write_copy_text("BTC\tbin-ohlcv\t1m")).decode() == text


@pytest.mark.parametrize("header", [True, False])
def test_a_byte_order_mark_is_left_out_and_lines_are_counted_from_the_first(tmp_path, header):
    lines = [kline(DAY.start_ms + at * MINUTE_MS) for at in range(30)]
    lines[3] = lines[3].replace("10.50", "NaN")
    lines[:0] = [",".join(dataset(BINANCE, "ohlcv").layouts[0].names)] if header else []
    found = read(tmp_path, BINANCE, "ohlcv", BTC, [f"\ufeff{lines[0]}", *lines[1:]])
    assert len(found.rows["ohlcv"]) == 29
    assert [number for number, _ in found.unreadable] == [5 if header else 4]


def test_any_damage_to_a_zip_is_a_bad_file_or_none(tmp_path):
    """One byte after the other of its headers and its directory."""
    file = day_file(BINANCE, "ohlcv", "BTCUSDT")
    whole = write(tmp_path, file, [kline(DAY.start_ms + at * MINUTE_MS) for at in range(30)]).read_bytes()
    path, refused = tmp_path / "damaged.zip", 0
    for at in [*range(70), *range(len(whole) - 130, len(whole))]:
        for value in (0, 1, 12, 0x80, 0xFF):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                read_file(path, file, dataset(BINANCE, "ohlcv"), BTC)
            except BadFile:
                refused += 1
    assert refused > 200


def test_a_file_that_is_gone_is_asked_for_again(tmp_path):
    with pytest.raises(RetryLater, match="removed by another job"):
        read_file(tmp_path / "gone.zip", day_file(BINANCE, "ohlcv", "BTCUSDT"), dataset(BINANCE, "ohlcv"), BTC)


def test_microseconds_are_ms(tmp_path):
    ts = DAY.start_ms
    line = f"{ts}000,10.0,10.6,9.9,10.5,3.0,{ts + MINUTE_MS}000,31.5,4,1.0,10.5,0".replace(
        f"{ts + MINUTE_MS}000", f"{ts + MINUTE_MS - 1}999"
    )
    assert list(read(tmp_path, BINANCE, "ohlcv", BTC, [line]).rows["ohlcv"]) == [ts]


def test_what_is_not_such_a_file_is_refused(tmp_path):
    file = day_file(BINANCE, "ohlcv", "BTCUSDT")
    good = [kline(DAY.start_ms + at * MINUTE_MS) for at in range(1440)]
    whole = write(tmp_path, file, good).read_bytes()

    def refuse(content: bytes) -> str:
        path = tmp_path / "file.zip"
        path.write_bytes(content)
        with pytest.raises(BadFile) as refused:
            read_file(path, file, dataset(BINANCE, "ohlcv"), BTC)
        return str(refused.value)

    assert "zip is broken" in refuse(whole[: len(whole) // 2])
    assert "zip is broken" in refuse(b"<html>200</html>")
    at = len(whole) // 2
    assert "zip is broken" in refuse(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for options in ({"member": "BTCUSDT-1m-2024-11-02.csv"}, {"more": ["extra.csv"]}):
        assert "instead of BTCUSDT-1m-2024-11-01.csv" in refuse(write(tmp_path, file, good, **options).read_bytes())
    assert "first line is unknown" in refuse(write(tmp_path, file, ["time,open", *good]).read_bytes())
    outside = [kline(DAY.end_ms)]
    assert "outside its window" in refuse(write(tmp_path, file, [*good, *outside]).read_bytes())
    conflicting = [kline(DAY.start_ms, c="10.40")]
    assert "differ in ohlcv" in refuse(write(tmp_path, file, [*good, *conflicting]).read_bytes())
    unreadable = [line.replace("10.60", "NaN") for line in good]
    assert "1440 of 1440 lines are unreadable" in refuse(write(tmp_path, file, unreadable).read_bytes())
    assert "holds no line" in refuse(
        write(tmp_path, file, [",".join(dataset(BINANCE, "ohlcv").layouts[0].names)]).read_bytes()
    )


def test_a_zip_that_states_too_small_a_size_takes_no_memory(tmp_path):
    file = day_file(BINANCE, "ohlcv", "BTCUSDT")
    path, size = write(tmp_path, file, ["0" * 99_999_999]), 100_000_000
    path.write_bytes(path.read_bytes().replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match="zip is broken"):
            read_file(path, file, dataset(BINANCE, "ohlcv"), BTC)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_one_odd_line_costs_itself_only_and_doubles_and_disorder_nothing(tmp_path):
    lines = [kline(DAY.start_ms + at * MINUTE_MS) for at in range(10)]
    lines[3] = lines[3].replace("10.60", "NaN")
    lines = [*lines[5:], *lines[:5], lines[7]]
    found = read(tmp_path, BINANCE, "ohlcv", BTC, lines)
    assert len(found.rows["ohlcv"]) == 9
    assert (found.doubles, found.is_unsorted) == (1, True)
    [(number, reason)] = found.unreadable
    assert number == 9
    assert "NaN" in reason
    assert find_holes(sorted(found.rows["ohlcv"]), Window(DAY.start_ms, DAY.start_ms + 10 * MINUTE_MS), MINUTE_MS) == [
        Window(DAY.start_ms + 3 * MINUTE_MS, DAY.start_ms + 4 * MINUTE_MS)
    ]


def test_exponents_are_read_exactly(tmp_path):
    """As in answers over REST: who writes files with floats writes 5e-07, and 1E+2."""
    ts = [DAY.start_ms + at * MINUTE_MS for at in range(3)]
    lines = [kline(ts[0], v="3.0e2"), kline(ts[1]).replace("9.90", "5E-7"), kline(ts[2], v="1E999")]
    found = read(tmp_path, BINANCE, "ohlcv", PEPE, lines)
    assert [row.v for row in found.rows["ohlcv"].values()] == ["300000", "3000"]
    assert found.rows["ohlcv"][ts[1]].l == "0.0000000005"
    assert [number for number, _ in found.unreadable] == [3]
    day, names = dataset(OKX, "ohlcv").list_days(DAY)[0], ",".join(dataset(OKX, "ohlcv").layouts[0].names)
    bar = f"BTC-USDT-SWAP,1e1,10.6,9.9,1.05E1,1e2,1e0,1.05e1,{day.start_ms},0"
    found = read(tmp_path, OKX, "ohlcv", SWAP, [names, bar], day=day)
    assert found.rows["ohlcv"][day.start_ms] == Candle(day.start_ms, "10", "10.6", "9.9", "10.5", "1", "10.5")


def test_premiums_and_settlements(tmp_path):
    ts = DAY.start_ms
    line = f"{ts},0.00012310,0.00018000,-0.00009911,-0.00015023,0,{ts + 59_999},0,60,0,0,0"
    assert read(tmp_path, BINANCE, "pfr", BTC, [line]).rows["pfr"] == {ts: Premium(ts, "-0.00015023")}
    month = dataset(BINANCE, "fr").find_period(ts)
    [file] = dataset(BINANCE, "fr").list_month_files("BTCUSDT", month)
    lines = [
        ",".join(dataset(BINANCE, "fr").layouts[0].names),
        f"{ts + 3},8,0.00010000",
        f"{ts + 8 * HOUR_MS},4,-0.0002",
    ]
    found = read_file(write(tmp_path, file, lines), file, dataset(BINANCE, "fr"), BTC)
    assert list(found.rows["fr"].values()) == [
        Funding(ts, "0.00010000", 8),
        Funding(ts + 8 * HOUR_MS, "-0.0002", 4),
    ]


def metrics_lines(*cells):
    return [",".join(dataset(BINANCE, "oi").layouts[0].names), *cells]


def test_samples(tmp_path):
    ts = DAY.start_ms
    found = read(
        tmp_path,
        BINANCE,
        "oi",
        PEPE,
        metrics_lines(
            "2024-11-01 00:00:03,1000PEPEUSDT,12.5,25.0,1.5,1.2,1.3387000000000000,0.97",
            "2024-11-01 00:05:00,1000PEPEUSDT,0.00000000,0.0,,,,",
            "2024-11-01 00:10:00,1000PEPEUSDT,3,,1.5,1.2,1.4,0.97",
            "2024-11-02 00:00:00,1000PEPEUSDT,4,8,1.5,1.2,1.4,0.97",
            "2024-11-01 00:07:00,1000PEPEUSDT,4,8,1.5,1.2,1.4,0.97",
            "2024-11-01 00:15:00,BTCUSDT,4,8,1.5,1.2,1.4,0.97",
            "2024-11-01 00:20:00,1000PEPEUSDT,4,0.0000,1.5,1.2,1.4,0.97",
            "2024-11-01 00:25:00,1000PEPEUSDT,5E-7,NaN,1.5,1.2,NaN,0.97",
            "2024-11-01 00:30:00,1000PEPEUSDT,-4,8,1.5,1.2,1.4e0,0.97",
        ),
    )
    assert found.rows["oi"][ts] == OpenInterest(ts, "12500", "25.0")
    assert found.rows["oi"][ts + 10 * MINUTE_MS] == OpenInterest(ts + 10 * MINUTE_MS, "3000", None)
    assert found.rows["oi"][ts + 20 * MINUTE_MS] == OpenInterest(ts + 20 * MINUTE_MS, "4000", None)
    assert found.rows["oi"][ts + 25 * MINUTE_MS] == OpenInterest(ts + 25 * MINUTE_MS, "0.0005", None)
    assert found.rows["lsr"][ts] == LongShortRatio(ts, "1.3387000000000000")
    assert found.rows["lsr"][ts + 30 * MINUTE_MS] == LongShortRatio(ts + 30 * MINUTE_MS, "1.4")
    unreadable = "unreadable in archive"
    assert found.blanks == {
        "oi": {ts + 5 * MINUTE_MS: "zero in archive", ts + 30 * MINUTE_MS: unreadable},
        "lsr": {ts + 5 * MINUTE_MS: "blank in archive", ts + 25 * MINUTE_MS: unreadable},
    }
    assert found.strays == {DAY.end_ms}
    assert found.prices[0] == (ts, 2.0)
    assert len(found.unreadable) == 2
    found.shift(5 * MINUTE_MS)
    assert min(found.rows["oi"]) == ts + 5 * MINUTE_MS
    assert found.rows["oi"][ts + 5 * MINUTE_MS].ts == ts + 5 * MINUTE_MS


def test_bars_without_volumes_are_partial(tmp_path):
    day = dataset(OKX, "ohlcv").list_days(DAY)[0]
    ts, name = day.start_ms, "BTC-USDT-SWAP"
    found = read(
        tmp_path,
        OKX,
        "ohlcv",
        SWAP,
        [
            ",".join(dataset(OKX, "ohlcv").layouts[0].names),
            f"{name},94210.1,94222.0,94200.0,94219.9,1210.5,12.105,1140462.2,{ts},0",
            f"{name},94210.1,94222.0,94200.0,94219.9,1210.5,None,None,{ts + MINUTE_MS},0",
            f"{name},94210.1,94210.1,94210.1,94210.1,0,None,None,{ts + 2 * MINUTE_MS},0",
            f"{name},94210.1,94210.1,94210.1,94210.1,0,None,None,{ts + 2 * MINUTE_MS},0",
        ],
        day=day,
    )
    rows = found.rows["ohlcv"]
    assert rows[ts][5:7] == ("12.105", "1140462.2")
    assert Decimal(rows[ts + MINUTE_MS].v) == Decimal("12.105")
    assert rows[ts + MINUTE_MS].qv is None
    assert rows[ts + 2 * MINUTE_MS][5:7] == ("0", "0")
    assert found.partial == {ts + MINUTE_MS}
    assert found.doubles == 1


def test_settlements_of_all_swaps_in_both_layouts(tmp_path):
    funding = dataset(OKX, "fr")
    day = funding.list_days(DAY)[0]
    new, old = funding.list_day_files(SWAP.name, day)
    ts = day.start_ms
    lines = ["instrument_name,funding_rate,funding_time", f"ETH-USDT-SWAP,0.1,{ts}", f"{SWAP.name},0.0001,{ts + 1000}"]
    found = read_file(write(tmp_path, new, lines), new, funding, SWAP)
    assert found.rows["fr"] == {ts: Funding(ts, "0.0001", None)}
    path = tmp_path / "old.zip"
    with zipfile.ZipFile(path, "w") as archive:
        text = f"合约,类型,费率,实收,时间\n{SWAP.name},SWAP,0.0001,0.0002,{ts}\nETH-USDT-SWAP,SWAP,1,,{ts}\n"
        archive.writestr(f"{old.stem}.csv", text.encode("gbk"))
    found = read_file(path, old, funding, SWAP)
    assert found.rows["fr"] == {ts: Funding(ts, "0.0002", None)}
    assert funding.link(found.rows["fr"][ts], ts - 8 * HOUR_MS) == Funding(ts, "0.0002", 8)


def closes(start_ms, minutes):
    return {start_ms + at * MINUTE_MS: 100 + at % 977 * 0.01 + at % 13 for at in range(-10, minutes)}


def sampled(found, shift, start_ms, count):
    times = [start_ms + at * 5 * MINUTE_MS for at in range(count)]
    return [(ts, found[ts + shift - MINUTE_MS] * 1.00002) for ts in times]


def test_the_label_of_a_file_is_decided_by_its_prices():
    shifts = (0, 5 * MINUTE_MS)
    known = closes(DAY.start_ms, 1460)
    for shift in shifts:
        assert decide_label(sampled(known, shift, DAY.start_ms, 288), known, shifts).shift_ms == shift
    flat = dict.fromkeys(known, 100.0)
    undecided = decide_label(sampled(flat, 0, DAY.start_ms, 288), flat, shifts)
    assert undecided == Label(None, "metrics label undecided", is_flat=True)
    assert decide_label(sampled(known, 0, DAY.start_ms, 49), known, shifts).shift_ms is None
    mixed = [*sampled(known, 0, DAY.start_ms, 144), *sampled(known, shifts[1], DAY.start_ms + DAY_MS // 2, 144)]
    assert decide_label(mixed, known, shifts).reason.startswith("mixed meaning")
    for count in (0, 770, 900):  # of minutes of the day whose closes are known: its second half is not checked
        partly = {ts: close for ts, close in known.items() if ts < DAY.start_ms + count * MINUTE_MS}
        for prices in (mixed, sampled(known, 0, DAY.start_ms, 288)):
            expected = count == 900 and prices is not mixed
            found = decide_label(prices, partly, shifts)
            assert (found.shift_ms == 0, found.is_flat) == (expected, False), (count, found)


LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data</Name><Prefix>a/</Prefix><Marker></Marker>
{marker}<MaxKeys>1000</MaxKeys><IsTruncated>{truncated}</IsTruncated>
<Contents><Key>a/x.zip</Key><LastModified>2022-05-17T09:12:33.000Z</LastModified><ETag>"01ab"</ETag><Size>18</Size>
<StorageClass>STANDARD</StorageClass></Contents><CommonPrefixes><Prefix>a/b/</Prefix></CommonPrefixes></ListBucketResult>"""


def test_listings():
    page = read_page(LISTING.format(marker="<NextMarker>a/y</NextMarker>", truncated="true").encode())
    assert page.files[0][:3] == ("a/x.zip", "01ab", 18)
    assert page.folders == ["a/b/"]
    assert page.marker == "a/y"
    assert read_page(LISTING.format(marker="", truncated="true").encode()).marker == "a/x.zip"
    assert read_page(LISTING.format(marker="", truncated="false").encode()).marker is None
    for bad in (b"<html></html>", b"{}", b"<a><b></a>"):
        with pytest.raises(BadPayload):
            read_page(bad)


def test_folders_of_earlier_lives():
    names = ("LITUSDTSETTLED", "ICPUSDT_SETTLED", "AERGOUSDTSETTLEDSETTLED", "BTCUSDT")
    assert [split_settled(name) for name in names] == ["LITUSDT", "ICPUSDT", "AERGOUSDT", None]
