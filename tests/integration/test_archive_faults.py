"""Faults of archives that touch more than one file: rewritten, late and broken ones, lives that share a day."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import requests

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, ceil_to, now_ms
from fademoe.errors import BadPayload, RetryLater
from fademoe.feeds import registry
from fademoe.jobs import archive_files, archive_labels
from fademoe.jobs.archive_audit import audit_files
from fademoe.jobs.archive_check import check_archive
from fademoe.jobs.archive_gathered import CONFLICT
from fademoe.jobs.archive_store import NOT_IN_ARCHIVE, UNREADABLE
from fademoe.jobs.archive_target import TRIES
from fademoe.jobs.dead import find_dead
from fademoe.metrics import Premium
from fademoe.queue.ids import ARCHIVES, REIMPORT, Task, parse_job_id
from fademoe.queue.states import read_job_states
from fademoe.runtime.job_context import use_services
from fademoe.store.coverage import DELISTED, Covered, Series
from fademoe.store.writer import Batch
from tests.support.clocks import settled_end
from tests.support.importing import KLINES, SAMPLE_MS, month, to_ms

OI = Series("bin-oi", "ETH")
CANDLES = Series("bin-ohlcv", "LTC")
FUNDING = Series("okx-fr", "BTC")
DAY = Window(to_ms("2024-05-02"), to_ms("2024-05-03"))
METRICS = f"{KLINES}/daily/metrics/ETHUSDT/ETHUSDT-metrics-2024-05-02"
SWAP_RATES = "/cdn/okex/traderecords/swaprates/monthly"


def check(importer):
    """Compare the ledger of Binance with its listing; return what was found, and the windows that are enqueued."""
    binance = registry.load_exchanges()["binance"]
    checked = check_archive(importer.services, binance, binance.archive)
    return checked, [parse_job_id(job_id)[1] for job_id in read_job_states(importer.services.redis, ARCHIVES)]


def absences(importer, source, start_ms):
    """Return (first minute, last minute, reason) of the absent ranges of a source, counted from `start_ms`."""
    return importer.system.query(
        "SELECT (start_ms - %s) / 60000, (end_ms - %s) / 60000, reason FROM perp_absence WHERE source = %s ORDER BY 1",
        start_ms,
        start_ms,
        source,
    )


def test_what_a_rewritten_file_has_behind_its_day_overwrites_nothing(importer, monkeypatch):
    """Files of May 2024 hold the first sample of the next day, some with another value than its own file."""
    window = Window(DAY.start_ms, DAY.end_ms + DAY_MS)
    importer.take(OI, window)
    assert importer.differences("bin-oi", "ETH", window) == []

    def add_next_day(lines):
        _, name, _, *rest = lines[-1].split(",")
        return [*lines, ",".join(["2024-05-03 00:00:00", name, "777.0", *rest])]

    importer.edit(monkeypatch, "ETHUSDT-metrics-2024-05-02", add_next_day)
    assert importer.run(OI, DAY, audit_files)["corrected"] == 0
    assert importer.differences("bin-oi", "ETH", window) == []
    assert importer.system.query("SELECT * FROM perp_corrections") == []


def test_a_file_that_comes_late_does_not_overwrite_rows_of_rest(importer, simulator):
    series, day = Series("bin-pfr", "LTC"), Window(to_ms("2025-09-29"), to_ms("2025-09-30"))
    for cadence in ("daily", "monthly"):
        simulator.fault(kind="lost_file", exchange="binance", path=f"{KLINES}/{cadence}/premiumIndexKlines/LTCUSDT")
    importer.take(series, day)
    assert importer.missing(series, day) == [day]
    rows = [Premium(ts, "0.0005") for ts in range(*day, MINUTE_MS)]
    importer.services.writer.write([Batch("pfr", "1m", {series: rows})], [Covered(series, [day], [], MINUTE_MS)])
    simulator.clear()
    checked, tasks = check(importer)
    assert len(checked.new) == 2
    for task in tasks:
        assert importer.run(*task, audit_files)["corrected"] == 0
    assert importer.system.query("SELECT count(*) FROM perp_data WHERE pfr = 0.0005") == [(len(rows),)]
    audits = [name for name in importer.services.redis.scan_iter("rq:job:*") if b"byb" not in name and b"pfr" in name]
    assert audits, "the days that differ are audited over REST"


def rewrite_noon(importer, patch, day):
    """Let the files of the premium index have another close at noon of a day."""
    noon = f"{day.start_ms + 12 * HOUR_MS},"

    def change(line):
        return re.sub(r"^((?:[^,]*,){4})[^,]*", r"\g<1>0.00077", line) if line.startswith(noon) else line

    importer.edit(patch, "premiumIndexKlines", lambda lines: [change(line) for line in lines])


def test_a_rewritten_file_corrects_its_own_rows_and_none_of_rest(importer, monkeypatch):
    """An hour came over REST, the rest of the day from the file."""
    series, day = Series("bin-pfr", "LTC"), Window(to_ms("2025-09-29"), to_ms("2025-09-30"))
    hour = Window(day.start_ms, day.start_ms + HOUR_MS)
    rows = [Premium(ts, "0.0005") for ts in range(*hour, MINUTE_MS)]
    importer.services.writer.write([Batch("pfr", "1m", {series: rows})], [Covered(series, [hour], [], MINUTE_MS)])
    importer.take(series, day)
    (window,) = {Window(*each) for each in importer.files("start_ms, end_ms")}

    rewrite_noon(importer, monkeypatch, day)
    assert importer.run(series, window, audit_files)["corrected"] == 1
    kept = importer.system.query("SELECT count(*) FROM perp_data WHERE source = 'bin-pfr' AND pfr = 0.0005")
    assert kept == [(len(rows),)]
    assert importer.system.query("SELECT count(*) FROM perp_corrections WHERE ts < %s", hour.end_ms) == [(0,)]


def test_a_file_that_was_rewritten_twice_and_once_broken_corrects_its_own_rows(importer, simulator, monkeypatch):
    series, day = Series("bin-pfr", "LTC"), Window(to_ms("2025-09-29"), to_ms("2025-09-30"))
    importer.take(series, day)
    simulator.fault(kind="wrong_checksum", exchange="binance", path=f"{KLINES}/monthly/premiumIndexKlines/LTCUSDT")
    (window,) = {Window(*each) for each in importer.files("start_ms, end_ms")}
    for _ in range(TRIES - 1):
        with pytest.raises(RetryLater):
            importer.run(series, window, audit_files)
    importer.run(series, window, audit_files)
    assert importer.files("state") == [("quarantined",)]
    simulator.clear()

    rewrite_noon(importer, monkeypatch, day)
    assert importer.run(series, window, audit_files)["corrected"] == 1


def test_a_rewritten_file_that_another_metric_fetches_is_audited(importer, simulator):
    ratio = Series("bin-lsr", "ETH")
    simulator.fault(kind="zero_rows", exchange="binance", path=METRICS)
    importer.take(OI, DAY)
    assert importer.differences("bin-oi", "ETH", DAY)
    assert read_job_states(importer.services.redis, ARCHIVES) == {}
    simulator.clear()
    importer.take(ratio, DAY)
    [job_id] = read_job_states(importer.services.redis, ARCHIVES)
    kind, task = parse_job_id(job_id)
    assert (kind, task) == (REIMPORT, Task(OI, DAY))
    assert importer.run(*task, audit_files)["added"] > 0
    assert importer.differences("bin-oi", "ETH", DAY) == []


@pytest.mark.long
@pytest.mark.parametrize("kind", ["wrong_checksum", "cut_zip"])
def test_a_broken_file_neither_shortens_nor_prolongs_a_life(importer, simulator, monkeypatch, kind):
    """A contract that ended this month: its days' files tell of the end, and one of them is broken."""
    binance, name = registry.load_exchanges()["binance"], "RUNEUSDT"
    use_services(importer.services)
    ended_ms = settled_end(DAY_MS) - 10 * DAY_MS + 5 * HOUR_MS
    change = {"exchange": "binance", "instrument": name}
    requests.post(f"{simulator.url}/sim/contracts", json=change | {"delisted_ms": ended_ms}, timeout=60)
    parse = binance.archive.parse_contract
    archive = replace(binance.archive, parse_contract=lambda each: parse(each) if each == name else None)
    monkeypatch.setitem(registry.load_exchanges(), "binance", replace(binance, archive=archive))
    query = importer.system.query
    try:
        query("DELETE FROM perp_lives WHERE instrument = %s RETURNING 1", name)
        last = f"{datetime.fromtimestamp(ended_ms / 1000, UTC):%Y-%m-%d}"
        simulator.fault(kind=kind, exchange="binance", path=f"{KLINES}/daily/klines/{name}/1m/{name}-1m-{last}")
        find_dead("binance")
        assert query("SELECT * FROM perp_lives WHERE instrument = %s", name) == [], "its end is not known yet"
        for _ in range(2):
            find_dead("binance")
        whole_day = (ceil_to(ended_ms, DAY_MS),)  # which it may have traded
        assert query("SELECT delisted_ms FROM perp_lives WHERE instrument = %s", name) == [whole_day]
        for distance in (None, -3, 1):  # of the broken file's day; on the next day it did not trade: 19 hours were flat
            query("DELETE FROM perp_lives WHERE instrument = %s RETURNING 1", name)
            simulator.clear()
            if distance:
                date = f"{datetime.fromtimestamp((ended_ms + distance * DAY_MS) / 1000, UTC):%Y-%m-%d}"
                path = f"{KLINES}/daily/klines/{name}/1m/{name}-1m-{date}"
                simulator.fault(kind=kind, exchange="binance", path=path)
            for _ in range(3):
                find_dead("binance")
            assert query("SELECT delisted_ms FROM perp_lives WHERE instrument = %s", name) == [(ended_ms,)]
    finally:
        simulator.clear()
        requests.post(f"{simulator.url}/sim/contracts", json=change | {"delisted_ms": None}, timeout=60)


def test_lives_that_end_and_begin_on_one_day_share_it(importer, simulator):
    day = Window(to_ms("2025-09-20"), to_ms("2025-09-21"))
    ended_ms, begun_ms = day.start_ms + 9 * HOUR_MS, day.start_ms + 12 * HOUR_MS
    columns = "exchange, code, symbol, multiplier, contract_value, seen_at, evidence, instrument"
    query = importer.system.query
    query(
        f"INSERT INTO perp_lives ({columns}, life, listed_ms, delisted_ms) SELECT {columns}, 2, %s, NULL"
        " FROM perp_lives WHERE instrument = 'LTCUSDT' RETURNING 1",
        begun_ms,
    )
    query("UPDATE perp_lives SET delisted_ms = %s WHERE instrument = 'LTCUSDT' AND life = 1 RETURNING 1", ended_ms)
    for cadence in ("daily", "monthly"):
        simulator.fault(kind="lost_file", exchange="binance", path=f"{KLINES}/{cadence}/klines/LTCUSDT")
    importer.take(CANDLES, day)
    absent = absences(importer, "bin-ohlcv", day.start_ms)
    assert absent == [(0, 9 * 60, NOT_IN_ARCHIVE), (9 * 60, 12 * 60, DELISTED)]
    assert importer.missing(CANDLES, day) == [Window(begun_ms, day.end_ms)]


def test_a_settlement_behind_a_lost_one_has_no_interval(importer, monkeypatch):
    """A contract that settles every four hours: the one behind a hole would be taken for one of eight."""
    window = Window(to_ms("2024-10-31T16:00:00"), to_ms("2024-11-30T16:00:00"))
    times = range(*window, 4 * HOUR_MS)
    lost_ms = times[20]
    lines = [f"BTC-USDT-SWAP,{'NaN' if ts == lost_ms else '0.0001'},{ts}" for ts in times]
    importer.edit(monkeypatch, "swaprates/monthly", lambda old: [old[0], *lines])
    others = [f"ETH-USDT-SWAP,0.0001,{lost_ms}"] * 2
    importer.edit(monkeypatch, "fundingrates-2024-11-04", lambda old: [old[0], lines[20], *others])
    importer.take(FUNDING, window)
    found = dict(importer.system.query("SELECT ts, fr_hours FROM perp_data WHERE source = 'okx-fr' ORDER BY ts"))
    assert lost_ms not in found
    around = [found[ts] for ts in times[18:24] if ts != lost_ms]
    assert around == [4, 4, None, 4, 4]


@pytest.mark.parametrize("number", [0, 1, 20, -2, -1])
def test_a_settlement_that_is_unreadable_is_absent_wherever_it_lies(importer, simulator, monkeypatch, number):
    """Beside the edges of a file the hole of one settlement is no longer than those of other contracts."""
    simulator.fault(kind="lost_file", exchange="okx", path=SWAP_RATES.replace("monthly", "daily"))
    window = Window(to_ms("2024-10-31T16:00:00"), to_ms("2024-11-30T16:00:00"))
    times = range(*window, 4 * HOUR_MS)
    lines = [f"BTC-USDT-SWAP,{'NaN' if ts == times[number] else '0.0001'},{ts}" for ts in times]
    importer.edit(monkeypatch, "swaprates/monthly", lambda old: [old[0], *lines])
    importer.take(FUNDING, window)
    found = dict(importer.system.query("SELECT ts, fr_hours FROM perp_data WHERE source = 'okx-fr' ORDER BY ts"))
    before, following = [ts for ts in times if ts < times[number]], [ts for ts in times if ts > times[number]]
    assert sorted(found) == [*before, *following]
    unlinked = {ts for ts, hours in found.items() if hours is None}
    assert unlinked == {*following[:1], times[0]} - {times[number]}
    absent = importer.system.query("SELECT start_ms, end_ms, reason FROM perp_absence WHERE source = 'okx-fr'")
    begin, end = before[-1] + 1 if before else window.start_ms, following[0] if following else window.end_ms
    assert absent == [(begin, end, UNREADABLE)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_settlement_behind_a_lost_one_of_the_month_before_has_no_interval(importer, simulator, monkeypatch, order):
    simulator.fault(kind="lost_file", exchange="okx", path=SWAP_RATES.replace("monthly", "daily"))
    edges = [to_ms(f"2024-{date}T16:00:00") for date in ("10-31", "11-30", "12-31")]
    windows = [Window(*each) for each in pairwise(edges)]
    lost_ms = windows[0].end_ms - 4 * HOUR_MS
    for name, window in zip(("2024-11", "2024-12"), windows, strict=True):
        times = range(*window, 4 * HOUR_MS)
        lines = [f"BTC-USDT-SWAP,{'NaN' if ts == lost_ms else '0.0001'},{ts}" for ts in times]
        importer.edit(monkeypatch, f"fundingrates-{name}", lambda old, lines=lines: [old[0], *lines])
    for number in order:
        importer.take(FUNDING, windows[number])
    found = dict(importer.system.query("SELECT ts, fr_hours FROM perp_data WHERE source = 'okx-fr' ORDER BY ts"))
    assert lost_ms not in found
    begin_ms = windows[1].start_ms
    assert [found[begin_ms + hours * HOUR_MS] for hours in (-8, 0, 4)] == [4, None, 4]


def test_settlements_that_are_unreadable_beside_long_holes_are_absent_too(importer, simulator, monkeypatch):
    """Of eight hours: the first is lost, and the hole behind the second is longer than what is allowed."""
    simulator.fault(kind="lost_file", exchange="okx", path=SWAP_RATES.replace("monthly", "daily"))
    window = Window(to_ms("2024-10-31T16:00:00"), to_ms("2024-11-30T16:00:00"))
    times = range(*window, 8 * HOUR_MS)
    lines = [f"BTC-USDT-SWAP,{'NaN' if ts in (times[0], times[2]) else '0.0001'},{ts}" for ts in times]
    importer.edit(monkeypatch, "swaprates/monthly", lambda old: [old[0], *lines])
    importer.take(FUNDING, window)
    absent = importer.system.query("SELECT start_ms, end_ms FROM perp_absence WHERE source = 'okx-fr' ORDER BY 1")
    assert absent == [(times[0], times[1]), (times[1] + 1, times[3])]


def test_a_settlement_that_two_files_have_otherwise_is_absent(importer, monkeypatch):
    """The second of a month, beside one that the month's file lacks: no hole of eight hours tells of it."""
    window = Window(to_ms("2024-10-31T16:00:00"), to_ms("2024-11-30T16:00:00"))
    times = range(*window, 4 * HOUR_MS)
    month = [f"BTC-USDT-SWAP,0.0001,{ts}" for ts in times if ts not in times[2:5]]
    day = [f"BTC-USDT-SWAP,{'0.0002' if ts == times[1] else '0.0001'},{ts}" for ts in times[:6]]
    importer.edit(monkeypatch, "swaprates/monthly", lambda old: [old[0], *month])
    importer.edit(monkeypatch, "fundingrates-2024-11-01", lambda old: [old[0], *day])
    importer.take(FUNDING, window)
    found = dict(importer.system.query("SELECT ts, fr_hours FROM perp_data WHERE source = 'okx-fr' ORDER BY ts"))
    assert sorted(found) == [ts for ts in times if ts != times[1]]
    assert [found[ts] for ts in times[2:5]] == [None, 4, 4]
    absent = importer.system.query("SELECT start_ms, end_ms, reason FROM perp_absence WHERE source = 'okx-fr'")
    assert absent == [(times[1], times[2], CONFLICT)]


def test_a_few_hours_without_a_good_file_are_not_taken_for_hours_without_a_settlement(importer, simulator):
    """The fault: a range in which none need be due, of eight hours at most, was covered without any file."""
    simulator.fault(kind="lost_file", exchange="okx", path=SWAP_RATES)
    window = Window(to_ms("2024-11-10T14:00"), to_ms("2024-11-10T22:00"))
    importer.take(FUNDING, window)
    assert importer.differences("okx-fr", "BTC", window, "okx") == []
    simulator.fault(kind="lost_file", exchange="okx", path=SWAP_RATES.replace("monthly", "daily"))
    lost = Window(to_ms("2024-11-20T14:00"), to_ms("2024-11-20T22:00"))
    importer.take(FUNDING, lost)
    absent = importer.system.query("SELECT start_ms, end_ms, reason FROM perp_absence WHERE source = 'okx-fr'")
    assert absent == [(*lost, NOT_IN_ARCHIVE)]


def test_a_day_whose_candles_are_in_a_month_s_file_alone_is_labelled_by_them(importer, simulator):
    simulator.fault(kind="lost_file", exchange="binance", path=f"{KLINES}/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2024-05")
    importer.take(OI, DAY)
    assert importer.differences("bin-oi", "ETH", DAY) == []
    assert set(importer.files("shift_ms")) == {(SAMPLE_MS,)}, "none is in quarantine"


def test_the_first_settlement_of_a_window_has_its_interval(importer, simulator):
    simulator.fault(kind="lost_file", exchange="okx", path=SWAP_RATES)
    for begin, end in (("2024-11-10T16:00", "2024-11-12T16:00"), ("2024-11-20T08:00", "2024-11-21T16:00")):
        window = Window(to_ms(begin), to_ms(end))
        importer.take(FUNDING, window)
        assert importer.differences("okx-fr", "BTC", window, "okx") == []


@pytest.mark.long
@pytest.mark.parametrize("kind", ["wrong_checksum", "cut_zip"])
def test_samples_wait_for_candles_whose_file_is_broken(importer, simulator, kind):
    """Their label is decided by them. After three tries they are in quarantine, which a check looks at again."""
    for cadence in ("daily", "monthly"):
        simulator.fault(kind=kind, exchange="binance", path=f"{KLINES}/{cadence}/klines/ETHUSDT")
    importer.want(DAY, OI)
    for _ in range(2):
        with pytest.raises(RetryLater, match="klines/ETHUSDT"):
            importer.run(OI, DAY)
    assert importer.files() == []
    simulator.clear()
    importer.run(OI, DAY)
    assert importer.differences("bin-oi", "ETH", DAY) == []


@pytest.mark.long
def test_a_file_in_quarantine_is_tried_again_by_a_check(importer, simulator):
    for path in ("monthly/klines/ETHUSDT", "daily/klines/ETHUSDT/1m/ETHUSDT-1m-2024-05-02"):
        simulator.fault(kind="wrong_checksum", exchange="binance", path=f"{KLINES}/{path}")
    importer.want(DAY, OI)
    for _ in range(20):
        try:
            importer.run(OI, DAY)
        except RetryLater:
            continue
        break
    assert dict(importer.files())[f"{METRICS[1:]}.zip"] == "quarantined"
    simulator.clear()
    checked, tasks = check(importer)
    assert f"{METRICS[1:]}.zip" in checked.tried_again
    importer.tries.clear()
    assert sum(importer.run(*task, audit_files)["added"] for task in tasks) > 250
    assert importer.differences("bin-oi", "ETH", Window(DAY.start_ms + 10 * MINUTE_MS, DAY.end_ms)) == []


def test_a_month_may_come_for_a_dead_contract_although_a_day_is_lost(importer, simulator):
    """Its file may be the only one that has the day, and it may come a month after its end."""
    dataset = registry.load_exchanges()["binance"].archive.find_dataset("ohlcv")
    period = dataset.find_period(dataset.find_period(now_ms()).start_ms - 1)
    if now_ms() - period.end_ms < 3 * DAY_MS:
        period = dataset.find_period(period.start_ms - 1)
    day = Window(period.start_ms + 20 * DAY_MS, period.start_ms + 21 * DAY_MS)
    importer.system.query(
        "UPDATE perp_lives SET delisted_ms = %s, evidence = 'missing' WHERE instrument = 'LTCUSDT' RETURNING 1",
        day.end_ms + DAY_MS,
    )
    date = f"{datetime.fromtimestamp(day.start_ms / 1000, UTC):%Y-%m-%d}"
    for path in ("monthly/klines/LTCUSDT", f"daily/klines/LTCUSDT/1m/LTCUSDT-1m-{date}"):
        simulator.fault(kind="lost_file", exchange="binance", path=f"{KLINES}/{path}")
    importer.want(day, CANDLES)
    with pytest.raises(RetryLater, match="files may still come"):
        importer.run(CANDLES, day)
    assert absences(importer, "bin-ohlcv", day.start_ms) == []


def test_the_first_evening_of_a_contract_takes_the_label_of_the_reference(importer, monkeypatch):
    """Its file has neither edge of the day, and too few lines to decide by themselves."""
    listed_ms = to_ms("2024-05-02T20:30:00")
    importer.system.query("UPDATE perp_lives SET listed_ms = %s WHERE instrument = 'ETHUSDT' RETURNING 1", listed_ms)
    importer.edit(
        monkeypatch, "ETHUSDT-metrics-2024-05-02", lambda lines: [lines[0], *[x for x in lines if x[11:16] >= "20:30"]]
    )
    window = Window(listed_ms, DAY.end_ms)
    importer.take(OI, window)
    assert dict(importer.files())[f"{METRICS[1:]}.zip"] in ("ok", "short")
    assert len(importer.differences("bin-oi", "ETH", window)) <= 1  # the sample of the listing itself


def test_samples_of_a_day_whose_candles_are_stored_in_part(importer, simulator):
    window = Window(to_ms("2024-05-02T10:45"), DAY.end_ms)
    simulator.fault(kind="lost_file", exchange="binance", path=f"{KLINES}/monthly/klines/ETHUSDT")
    importer.take(Series("bin-ohlcv", "ETH"), window)
    importer.take(OI, window)
    assert importer.differences("bin-oi", "ETH", window) == []


@pytest.mark.parametrize("text", ["", "<html>Not now</html>", "0123456789abcdef"])
def test_a_checksum_that_is_none_puts_the_file_into_quarantine(importer, monkeypatch, text):
    client, whole = importer.services.archive_client, month("2025-09")
    read = client._read_excerpt

    def read_edited(response):
        return text if response.url.endswith("2025-09.zip.CHECKSUM") else read(response)

    monkeypatch.setattr(client, "_read_excerpt", read_edited)
    window = Window(whole.start_ms, whole.start_ms + DAY_MS)
    importer.want(window, CANDLES)
    for _ in range(2):
        with pytest.raises(RetryLater, match="holds no checksum"):
            importer.run(CANDLES, window)
    importer.run(CANDLES, window)
    assert dict(importer.files())[f"{KLINES[1:]}/monthly/klines/LTCUSDT/1m/LTCUSDT-1m-2025-09.zip"] == "quarantined"
    assert importer.differences("bin-ohlcv", "LTC", window)[:1] == [] or importer.missing(CANDLES, window)


def test_a_digest_without_a_line_end_is_a_checksum(importer, monkeypatch):
    client, whole = importer.services.archive_client, month("2025-09")
    read = client._read_excerpt
    monkeypatch.setattr(client, "_read_excerpt", lambda response: read(response)[:64])
    importer.take(CANDLES, Window(whole.start_ms, whole.start_ms + DAY_MS))
    assert importer.files("checksum_ok") == [(True,)]


def test_minutes_that_two_files_have_otherwise_are_named_so(importer, monkeypatch):
    """The month ends early, and one of its minutes differs from the day's file; no list has the contract any more."""
    whole = month("2025-09")
    window = Window(whole.end_ms - 2 * DAY_MS, whole.end_ms)
    odd_ms = window.start_ms + HOUR_MS
    importer.system.query(
        "UPDATE perp_lives SET delisted_ms = %s, evidence = 'missing' WHERE instrument = 'LTCUSDT' RETURNING 1",
        whole.end_ms,
    )

    def change(lines):
        kept = [line for line in lines if not line[0].isdecimal() or int(line[:13]) < window.start_ms + 12 * HOUR_MS]
        return [
            line.replace(line.split(",")[5], line.split(",")[5] + "1", 1) if line.startswith(str(odd_ms)) else line
            for line in kept
        ]

    importer.edit(monkeypatch, "monthly/klines/LTCUSDT", change)
    importer.take(CANDLES, window)
    reasons = {first: reason for first, _, reason in absences(importer, "bin-ohlcv", window.start_ms)}
    assert reasons[60] == CONFLICT


def test_a_listing_that_does_not_go_on_is_an_error(importer, monkeypatch):
    """A host that does not know the marker sends the first page each time."""
    client, archive = importer.services.archive_client, registry.load_exchanges()["binance"].archive
    prefix = f"{KLINES[1:]}/daily/klines/LTCUSDT/1m/"
    read = client._read_pieces
    contents = []

    def read_first(response):
        contents.append(b"".join(read(response)))
        return iter(contents[:1])

    monkeypatch.setattr(client, "_read_pieces", read_first)
    page = client.list_page(archive, prefix, most=2)
    assert page.marker
    with pytest.raises(BadPayload, match="does not go on"):
        client.list_page(archive, prefix, page.marker, most=2)


@pytest.mark.parametrize(
    "folder", [f"{KLINES}/monthly/klines/LTCUSDT", f"{KLINES}/daily/klines/LTCUSDT/1m/LTCUSDT-1m-2025-09-29"]
)
def test_a_file_that_is_always_refused_holds_up_no_other_one(importer, simulator, monkeypatch, folder):
    """S3 answers 403 or 503 for single files, too; the files of its period went on waiting for it for ever."""
    for module in (archive_files, archive_labels):
        monkeypatch.setattr(module, "REFUSALS", 2)
    window = Window(to_ms("2025-09-28"), to_ms("2025-10-01"))
    if "daily" in folder:
        simulator.fault(kind="lost_file", exchange="binance", path=f"{KLINES}/monthly/klines/LTCUSDT")
    simulator.fault(kind="error_503", exchange="binance", path=folder)
    importer.want(window, CANDLES)
    with pytest.raises(RetryLater, match="answers 503"):
        importer.run(CANDLES, window)
    assert importer.run(CANDLES, window)["rows"] > 2_700
    refused = [path for path, state in importer.files() if state == "quarantined"]
    assert [path.startswith(folder[1:]) for path in refused] == [True]
    day = Window(to_ms("2025-09-29"), to_ms("2025-09-30"))
    assert (day in importer.missing(CANDLES, window)) == ("daily" in folder), "REST has what the file does not bring"
    assert importer.leftovers() == []


@pytest.mark.long
def test_an_archive_that_refuses_every_file_is_waited_for(importer, simulator, monkeypatch):
    for module in (archive_files, archive_labels):
        monkeypatch.setattr(module, "REFUSALS", 2)
    simulator.fault(kind="error_503", exchange="binance", path=KLINES)
    importer.want(DAY, OI)
    for _ in range(4):
        with pytest.raises(RetryLater):
            importer.run(OI, DAY)
    assert importer.files() == []
    assert importer.missing(OI, DAY) == [DAY]
