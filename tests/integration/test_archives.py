"""Files of archives into the database, against the simulator: exact, proved, never over what is stored."""

import time

import psycopg2
import pytest
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from fademoe.archives.labels import UNCHECKED
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, now_ms
from fademoe.errors import RetryLater
from fademoe.feeds import registry
from fademoe.jobs import reconcile
from fademoe.jobs.archive_audit import audit_files
from fademoe.jobs.archive_check import check_archive
from fademoe.jobs.archive_plan import load_state, split_gaps
from fademoe.jobs.archive_store import NOT_IN_ARCHIVE
from fademoe.metrics import OpenInterest
from fademoe.queue.enqueue import enqueue_imports
from fademoe.queue.ids import ARCHIVES, IMPORT, Task, make_job_id, parse_job_id
from fademoe.queue.states import connect_queue, read_job_states, read_windows_in_queues
from fademoe.store import corrections
from fademoe.store.corrections import Difference
from fademoe.store.coverage import NOT_LISTED_YET, Absence, Covered, Series
from fademoe.store.read.catalog import list_perpspecs
from fademoe.store.read.past import EXTRAS, Knowledge, Moment
from fademoe.store.read.rows import Selection, read_page
from fademoe.store.writer import Batch
from tests.support.importing import KLINES, SAMPLE_MS, month, to_ms


@pytest.mark.parametrize(("metric", "days"), [("ohlcv", 8), ("pfr", 3), ("mark", 3)])
def test_a_month_is_stored_as_rest_has_it(importer, metric, days):
    series, whole = Series(f"bin-{metric}", "PEPE"), month("2025-10")
    window = Window(whole.end_ms - days * DAY_MS, whole.end_ms)
    counts = importer.take(series, window)
    assert counts["rows"] > days * 1_380
    assert importer.differences(series.source, "PEPE", window) == []
    missing = importer.missing(series, window)
    assert 0 < sum(end - start for start, end in missing) < days * HOUR_MS  # holes of the exchange: REST says so
    [(state, rows, expected, checksum, terms)] = importer.files("state, rows, expected, checksum_ok, terms")
    assert (state, checksum, expected) == ("short", True, 31 * 1440)
    assert counts["rows"] <= rows < expected
    assert "CC BY-NC-SA 4.0" in terms
    assert importer.run(series, window) == {"files": 0, "rows": 0}
    ways = importer.system.query("SELECT DISTINCT way, file_id FROM perp_arrivals WHERE symbol = 'PEPE'")
    assert ways == [("archive", importer.system.query("SELECT id FROM perp_files")[0][0])]
    assert importer.leftovers() == []


def test_days_fill_a_short_month_and_what_no_file_has_is_left(importer, simulator):
    whole = month("2025-09")
    window = Window(whole.end_ms - 4 * DAY_MS, whole.end_ms)
    series = Series("bin-ohlcv", "ETH")
    simulator.fault(kind="short_month", exchange="binance", path=f"{KLINES}/monthly/klines/ETHUSDT")
    simulator.fault(
        kind="lost_file", exchange="binance", path=f"{KLINES}/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2025-09-30"
    )
    importer.take(series, window)
    states = dict(importer.files())
    assert states[f"{KLINES[1:]}/monthly/klines/ETHUSDT/1m/ETHUSDT-1m-2025-09.zip"] == "short"
    assert states[f"{KLINES[1:]}/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2025-09-30.zip"] == "absent"
    assert len(states) == 3
    missing = importer.missing(series, window)
    assert missing[-1] == Window(window.end_ms - DAY_MS, window.end_ms)
    end_ms = window.end_ms - DAY_MS
    found = importer.differences("bin-ohlcv", "ETH", Window(window.start_ms, end_ms))
    holes = [ts for start, end in missing for ts in range(start, min(end, end_ms), MINUTE_MS)]
    assert set(found) <= {f"missing {ts}" for ts in holes}
    assert len(holes) < 120  # holes of the exchange, and of the day's file of the 28th at most


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("wrong_checksum", "does not fit its checksum"),
        ("cut_zip", "its zip is broken"),
        ("bad_crc", "its zip is broken"),
        ("two_members", "instead of"),
        ("html_file", "its zip is broken"),
        ("conflicting_rows", "differ in ohlcv"),
    ],
)
def test_a_bad_file_is_fetched_thrice_and_then_named(importer, simulator, kind, reason):
    whole, series = month("2025-09"), Series("bin-ohlcv", "LTC")
    window = Window(whole.end_ms - 2 * DAY_MS, whole.end_ms)
    simulator.fault(kind=kind, exchange="binance", path=f"{KLINES}/monthly/klines/LTCUSDT")
    importer.want(window, series)
    for _ in range(2):
        with pytest.raises(RetryLater) as later:
            importer.run(series, window)
        assert later.value.retry_after_s == 60
    importer.run(series, window)
    *days, month_file = importer.files("state, reason, cadence")
    assert month_file[0] == "quarantined"
    assert reason in month_file[1]
    assert {state for state, _, _ in days} <= {"ok", "short"}
    assert len(days) == 2
    assert importer.differences("bin-ohlcv", "LTC", window) == []
    errors = importer.system.query("SELECT message, request FROM perp_errors WHERE class = 'BadPayload'")
    assert any("quarantined" in message and "LTCUSDT-1m-2025-09.zip" in request for message, request in errors)
    assert importer.leftovers() == []


def test_a_checksum_that_is_late_costs_a_minute(importer, simulator):
    window = month("2025-09")
    window = Window(window.end_ms - DAY_MS, window.end_ms)
    simulator.fault(kind="wrong_checksum", exchange="binance", path=f"{KLINES}/monthly/premiumIndexKlines/LTCUSDT")
    series = Series("bin-pfr", "LTC")
    importer.want(window, series)
    with pytest.raises(RetryLater):
        importer.run(series, window)
    simulator.clear()
    assert importer.run(series, window)["rows"] > 1_300
    assert importer.differences("bin-pfr", "LTC", window) == []


def test_an_archive_is_left_alone_as_long_as_it_asks_for(importer, simulator):
    """By all workers: the pause is that of its rate limit."""
    simulator.fault(kind="error_503", exchange="binance", path=f"{KLINES}/monthly", retry_after="90", count=1)
    client, archive = importer.services.archive_client, registry.load_exchanges()["binance"].archive
    paths = [f"{KLINES[1:]}/monthly/klines/LTCUSDT/1m/LTCUSDT-1m-2025-{month}.zip" for month in ("08", "09")]
    with pytest.raises(RetryLater) as asked:
        client.fetch(archive, paths[0])
    assert asked.value.retry_after_s == 90
    before = simulator.requests("binance")
    with pytest.raises(RetryLater) as held:
        client.fetch(archive, paths[1])
    assert 60 < held.value.retry_after_s <= 91
    assert simulator.requests("binance") == before


def test_what_differs_is_audited_and_nothing_is_overwritten(importer, system):
    whole, series = month("2025-09"), Series("bin-pfr", "XRP")
    first, rest = Window(whole.end_ms - 2 * DAY_MS, whole.end_ms - DAY_MS), Window(whole.end_ms - DAY_MS, whole.end_ms)
    importer.take(series, first)
    connection = psycopg2.connect(system.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("UPDATE perp_data SET pfr = 9 WHERE symbol = 'XRP' AND ts = %s", (first.start_ms + HOUR_MS,))
    connection.close()
    importer.take(series, rest)
    assert system.query("SELECT count(*) FROM perp_data WHERE pfr = 9") == [(1,)]
    [(differing,)] = importer.files("differing")
    assert differing == 1
    audits = [parse_job_id(each) for each in read_job_states(importer.services.redis, "binance")]
    assert audits == [("au", Task(series, first))]


def test_open_interest_of_years_meets_at_the_changed_label(importer, simulator):
    """Line T was the sample at T until 2024-03-03, and is the one at T + 5 min since 2024-03-04."""
    window = Window(to_ms("2024-03-02"), to_ms("2024-03-07"))
    folder = f"{KLINES}/daily/metrics/BTCUSDT/BTCUSDT-metrics"
    simulator.fault(kind="doubled_rows", exchange="binance", path=f"{folder}-2024-03-02")
    simulator.fault(kind="unsorted_rows", exchange="binance", path=f"{folder}-2024-03-03")
    simulator.fault(kind="late_stamps", exchange="binance", path=f"{folder}-2024-03-03")
    simulator.fault(kind="midnight_row", exchange="binance", path=f"{folder}-2024-03-05")
    simulator.fault(kind="old_form", exchange="binance", path=f"{folder}-2024-03-06")
    oi, lsr = Series("bin-oi", "BTC"), Series("bin-lsr", "BTC")
    importer.want(window, oi, lsr)
    importer.run(oi, window)
    [(first, _), *others] = importer.files("path, shift_ms")
    assert first.endswith("2024-03-01.zip")  # it may have the first sample
    shifts = {path[-14:-4]: shift for path, shift in others}
    five = SAMPLE_MS
    assert shifts == {"2024-03-02": 0, "2024-03-03": 0, "2024-03-04": five, "2024-03-05": five, "2024-03-06": 0}
    for series in (oi, lsr):
        assert importer.missing(series, window) == []
        found = importer.differences(series.source, "BTC", window)
        # the sample at the change is in no line, nor is the first one of the file in the old form
        lost = [f"missing {to_ms('2024-03-04')}"]
        assert found == lost
        reasons = importer.system.query(
            "SELECT reason FROM perp_absence WHERE source = %s AND start_ms = %s", series.source, to_ms("2024-03-04")
        )
        assert reasons == [(NOT_IN_ARCHIVE,)]
    doubled = importer.system.query("SELECT symbol, ts FROM perp_data GROUP BY source, symbol, ts HAVING count(*) > 1")
    assert doubled == []
    # The last file before the change is rewritten: in the old form it ends with the sample at the change.
    simulator.clear()
    simulator.fault(kind="old_form", exchange="binance", path=f"{folder}-2024-03-03")
    binance = registry.load_exchanges()["binance"]
    checked = check_archive(importer.services, binance, binance.archive)
    assert [path[-14:-4] for path in checked.rewritten] == ["2024-03-02", "2024-03-03", "2024-03-05", "2024-03-06"]
    for job_id in read_job_states(importer.services.redis, ARCHIVES):
        _, task = parse_job_id(job_id)
        importer.run(*task, audit_files)
    shifts = {path[-14:-4]: shift for path, shift in importer.files("path, shift_ms")}
    assert [shifts[f"2024-03-0{day}"] for day in range(2, 7)] == [0, 0, five, five, five]
    for series in (oi, lsr):
        assert importer.differences(series.source, "BTC", window) == []
        absent = "SELECT reason FROM perp_absence WHERE source = %s AND int8range(start_ms, end_ms) @> %s::bigint"
        assert importer.system.query(absent, series.source, to_ms("2024-03-04")) == []
    assert importer.system.query("SELECT count(*) FROM perp_corrections WHERE \"column\" <> ''") == [(0,)]


@pytest.mark.parametrize("form", ["new", "old"])
def test_the_sample_at_the_begin_of_a_month_or_a_gap_is_in_the_file_of_the_day_before(importer, simulator, form):
    """Line 23:55 of the new form is the sample of midnight, as is the last line, 00:00 of the next day, of the old."""
    window = Window(to_ms("2024-05-01"), to_ms("2024-05-02"))
    if form == "old":
        folder = f"{KLINES}/daily/metrics/ETHUSDT/ETHUSDT-metrics"
        for day in ("2024-04-30", "2024-05-01"):
            simulator.fault(kind="old_form", exchange="binance", path=f"{folder}-{day}")
    series = Series("bin-oi", "ETH")
    counts = importer.take(series, window)
    assert counts == {"files": 2, "rows": 288}
    assert importer.differences("bin-oi", "ETH", window) == []
    assert importer.missing(series, window) == []
    assert {state for _, state in importer.files()} == {"ok"}
    assert importer.system.query("SELECT reason FROM perp_absence WHERE source = 'bin-oi'") == []
    before = Window(window.start_ms - DAY_MS, window.start_ms)
    assert importer.take(series, before)["rows"] == 288
    assert importer.differences("bin-oi", "ETH", before) == []


def test_each_metric_of_a_file_is_asked_for_by_itself(importer):
    """Who has seeded open interest alone may seed the ratio of the same years later."""
    window = Window(to_ms("2024-05-01"), to_ms("2024-05-02"))
    oi, lsr = Series("bin-oi", "ETH"), Series("bin-lsr", "ETH")
    importer.take(oi, window)
    binance = registry.load_exchanges()["binance"]
    state = load_state(importer.services, binance, "bin")
    plans = [
        split_gaps(state, binance.find_rest_feed(metric), [(Series(f"bin-{metric}", "ETH"), window)])
        for metric in ("oi", "lsr")
    ]
    assert plans[0] == ([], [(oi, window)])
    assert [item.task for item in plans[1][0]] == [Task(oi, window)]  # the job has the name of the first metric
    assert plans[1][1] == []
    assert importer.take(lsr, window)["rows"] == 288


def test_what_was_left_to_files_goes_to_rest_when_the_setting_is_taken_back(importer, system):
    redis, day = importer.services.redis, Window(to_ms("2025-09-01"), to_ms("2025-09-02"))
    candles, others = Series("bin-ohlcv", "LTC"), Series("okx-ohlcv", "BTC")
    importer.want(day, candles)
    tasks = [Task(candles, day), Task(Series("bin-ohlcv", "ETH"), day)]
    enqueue_imports(redis, [*tasks, Task(others, day), Task(Series("gone-ohlcv", "BTC"), day)])
    failed = make_job_id(IMPORT, tasks[1])
    connect_queue(redis, ARCHIVES).remove(failed)
    job = Job.fetch(failed, redis, JSONSerializer)
    job.set_status(JobStatus.FAILED)
    FailedJobRegistry(queue=connect_queue(redis, ARCHIVES)).add(job, 3600)
    reconcile.enqueue_missing(importer.services)
    assert read_windows_in_queues(redis, ["binance"]) == {}
    system.environment["FADEMOE_ARCHIVES"] = "okx"
    services = system.context()
    reconcile.enqueue_missing(services)
    assert list(read_job_states(redis, ARCHIVES)) == [make_job_id(IMPORT, Task(others, day))]
    assert read_windows_in_queues(redis, ["binance"]) == {candles: [day]}


class Copies:
    """Copies of a series, each with its time, to compare with what is answered as of then."""

    def __init__(self, database, series):
        self.database, self.series = database, series
        self.taken = []

    def read(self, moment=None):
        with self.database.open_transaction() as cursor:
            spec = list_perpspecs(cursor)[self.series.source]
            names = tuple(field.name for field in spec.fields)
            window = {"start_ms": 0, "end_ms": 2**52, "newest_first": False}
            chosen = Selection(symbols=(self.series.symbol,), columns=names, limit=5000, moment=moment, **window)
            return read_page(cursor, spec, chosen).rows

    def take(self):
        time.sleep(0.01)  # times are in ms: what is stored now is stored before the time of the copy
        self.taken.append((now_ms(), self.read()))
        time.sleep(0.01)

    def compare(self):
        """Compare each copy with the answer as of its time; return how many different copies there were."""
        for at_ms, rows in self.taken:
            answered = self.read(Moment(at_ms, Knowledge.RECORDED))
            assert [row[: -len(EXTRAS)] for row in answered] == rows
            assert all(row[-len(EXTRAS)] <= at_ms for row in answered)
        return len({str(rows) for _, rows in self.taken})


def test_a_rewritten_file_is_an_audit(importer, simulator, system):
    """And what is answered as of a time before or after each step is what a copy of then has."""
    window = Window(to_ms("2024-05-02"), to_ms("2024-05-03"))
    copies = Copies(importer.services.database, Series("bin-oi", "ETH"))
    copies.take()
    early = [OpenInterest(window.start_ms + at * SAMPLE_MS, "7", None) for at in (3, 4, 6, 20)]
    importer.services.writer.write([Batch("oi", "5m", {copies.series: early})], [])
    copies.take()
    path = f"{KLINES}/daily/metrics/ETHUSDT/ETHUSDT-metrics-2024-05-02"
    series = Series("bin-oi", "ETH")
    simulator.fault(kind="zero_rows", exchange="binance", path=path)
    importer.take(series, window)
    copies.take()
    zeros = system.query("SELECT count(*) FROM perp_absence WHERE reason = 'zero in archive' AND source = 'bin-oi'")
    assert zeros[0][0] > 0
    assert importer.differences("bin-oi", "ETH", window)
    binance = registry.load_exchanges()["binance"]
    assert check_archive(importer.services, binance, binance.archive).same == 2
    simulator.clear()
    simulator.fault(kind="old_form", exchange="binance", path=path)
    checked = check_archive(importer.services, binance, binance.archive)
    assert [each.rpartition("/")[2] for each in checked.rewritten] == ["ETHUSDT-metrics-2024-05-02.zip"]
    [job_id] = read_job_states(importer.services.redis, ARCHIVES)
    kind, task = parse_job_id(job_id)
    assert (kind, task) == ("ai", Task(series, window))
    counts = importer.run(series, window, audit_files)
    assert counts["added"] > 0
    copies.take()
    (stored,) = [row for row in copies.taken[-1][1] if row[0] == early[-1].ts]
    changes = [Difference(stored[0], "oi", stored[3], "2.50"), Difference(stored[0], "oi_usd", stored[4], "3")]
    for change in (*changes, *(each._replace(old=each.new, new=each.old) for each in changes)):
        importer.services.database.run(lambda cursor, each=change: corrections.correct(cursor, series, "5m", [each]))
        copies.take()
    assert copies.compare() == 7
    assert importer.differences("bin-oi", "ETH", window) == []
    ids = system.query("SELECT DISTINCT file_id FROM perp_corrections WHERE file_id IS NOT NULL")
    assert ids == system.query("SELECT id FROM perp_files WHERE path LIKE '%%2024-05-02.zip'")


def test_nothing_from_before_the_listing_is_stored(importer, system):
    """A ticker that was given to another coin: the files of its first day begin with the old one's flat bars."""
    listed_ms = to_ms("2024-05-02T10:00:00")
    window, series = Window(to_ms("2024-05-02"), to_ms("2024-05-03")), Series("bin-oi", "ETH")
    system.query("UPDATE perp_lives SET listed_ms = %s WHERE instrument = 'ETHUSDT' RETURNING 1", listed_ms)
    importer.take(series, window)
    before = Window(window.start_ms, listed_ms)
    answer = Covered(series, [before], [Absence(before, NOT_LISTED_YET)], SAMPLE_MS)
    importer.services.writer.write([], [answer])
    importer.run(series, window, audit_files)
    assert system.query("SELECT min(ts) FROM perp_data") == [(listed_ms,)]
    [(first_ts, expected, clipped)] = importer.files("first_ts, expected, clipped")
    assert (first_ts, expected) == (listed_ms, 14 * 12 + 1)
    assert clipped > 100


def test_a_file_that_did_not_fit_its_checksum_is_tried_again_by_a_check(importer, simulator):
    """Its ETag would not tell: it may be the checksum that is repaired."""
    window, series = Window(to_ms("2024-05-02"), to_ms("2024-05-03")), Series("bin-oi", "ETH")
    path = f"{KLINES}/daily/metrics/ETHUSDT/ETHUSDT-metrics-2024-05-02"
    simulator.fault(kind="wrong_checksum", exchange="binance", path=path)
    importer.want(window, series)
    for _ in range(2):
        with pytest.raises(RetryLater):
            importer.run(series, window)
    assert importer.run(series, window)["rows"] == 1  # of the file of the day before
    assert dict(importer.files())[f"{path[1:]}.zip"] == "quarantined"
    simulator.clear()
    binance = registry.load_exchanges()["binance"]
    checked = check_archive(importer.services, binance, binance.archive)
    assert (checked.tried_again, checked.same) == ([f"{path[1:]}.zip"], 1)
    assert [parse_job_id(each)[1] for each in read_job_states(importer.services.redis, ARCHIVES)] == [
        Task(series, window)
    ]
    assert importer.run(series, window, audit_files)["added"] > 250
    assert importer.differences("bin-oi", "ETH", window) == []
    assert check_archive(importer.services, binance, binance.archive).same == 2


def test_undecided_and_mixed_files_are_named(importer, simulator, system):
    window = Window(to_ms("2024-06-01"), to_ms("2024-06-04"))
    folder = f"{KLINES}/daily/metrics/ADAUSDT/ADAUSDT-metrics"
    simulator.fault(kind="mixed_label", exchange="binance", path=f"{folder}-2024-06-01")
    simulator.fault(kind="few_values", exchange="binance", path=f"{folder}-2024-06-02")
    importer.take(Series("bin-oi", "ADA"), window)
    states = {path[-14:-4]: rest for path, *rest in importer.files("path, state, reason, shift_ms")}
    assert states["2024-06-01"][0] == "quarantined"
    assert "mixed meaning" in states["2024-06-01"][1]
    assert states["2024-06-02"][0] != "quarantined"  # as the reference's file of the day
    assert states["2024-06-02"][2] == SAMPLE_MS
    assert importer.missing(Series("bin-oi", "ADA"), window) == []
    [(reason,)] = system.query("SELECT DISTINCT reason FROM perp_absence WHERE reason LIKE 'quarantined%%'")
    assert "ADAUSDT-metrics-2024-06-01.zip" in reason


def test_a_mixed_file_is_not_labelled_by_the_references_where_its_candles_are_lost(importer, simulator):
    """Half of its values were stored five minutes off: without candles nothing shows that its halves differ."""
    window = Window(to_ms("2024-06-02"), to_ms("2024-06-03"))
    path = f"{KLINES}/daily/metrics/ADAUSDT/ADAUSDT-metrics-2024-06-02"
    simulator.fault(kind="mixed_label", exchange="binance", path=path)
    for cadence in ("daily", "monthly"):
        simulator.fault(kind="lost_file", exchange="binance", path=f"{KLINES}/{cadence}/klines/ADAUSDT")
    importer.take(Series("bin-oi", "ADA"), window)
    [(state, reason)] = [rest for file, *rest in importer.files("path, state, reason") if path[1:] in file]
    assert (state, reason) == ("quarantined", UNCHECKED)
    assert all(each.startswith("missing") for each in importer.differences("bin-oi", "ADA", window))


def test_few_prices_that_speak_against_it_keep_the_references_label_away(importer, simulator):
    """Two dozen prices decide nothing, but show that half of the file means other times."""
    window = Window(to_ms("2024-06-02"), to_ms("2024-06-03"))
    path = f"{KLINES}/daily/metrics/ADAUSDT/ADAUSDT-metrics-2024-06-02"
    for kind in ("few_values", "mixed_label"):
        simulator.fault(kind=kind, exchange="binance", path=path)
    importer.take(Series("bin-oi", "ADA"), window)
    [(state, reason)] = [rest for file, *rest in importer.files("path, state, reason") if path[1:] in file]
    assert (state, reason) == ("quarantined", "metrics label undecided")
    assert all(each.startswith("missing") for each in importer.differences("bin-oi", "ADA", window))


@pytest.mark.long
@pytest.mark.parametrize("is_known", [False, True], ids=["not imported", "in the ledger"])
def test_a_file_of_another_form_than_the_references_is_not_labelled_by_it(importer, simulator, is_known):
    """Files of both forms were published for one day, each with another label; prices tell it, but few are there."""
    day, window = "2024-06-02", Window(to_ms("2024-06-02"), to_ms("2024-06-03"))
    path = f"{KLINES}/daily/metrics/ADAUSDT/ADAUSDT-metrics-{day}"
    for kind in ("few_values", "old_form"):
        simulator.fault(kind=kind, exchange="binance", path=path)
    if is_known:
        importer.take(Series("bin-oi", "BTC"), window)
    importer.take(Series("bin-oi", "ADA"), window)
    found = {file.rpartition("/")[2]: rest for file, *rest in importer.files("path, state, reason")}
    assert found[f"ADAUSDT-metrics-{day}.zip"] == ["quarantined", "metrics label undecided"]
    assert all(each.startswith("missing") for each in importer.differences("bin-oi", "ADA", window))


def test_a_dead_contract_ends_at_its_end(importer, system):
    end_ms = 1_738_314_000_000  # 2025-01-31 09:00
    window = month("2025-01")
    candles, rates = Series("bin-ohlcv", "OMG"), Series("bin-fr", "OMG")
    importer.take(candles, window)
    importer.take(rates, window)
    importer.take(candles, Window(to_ms("2025-02-01"), to_ms("2025-02-02")))
    assert system.query("SELECT count(*) FROM perp_data WHERE symbol = 'OMG' AND ts >= %s", end_ms) == [(0,)]
    assert importer.differences("bin-ohlcv", "OMG", window) == []
    # of the settlements' mark prices the archive has none
    assert all("fr_mark: None" in each for each in importer.differences("bin-fr", "OMG", window))
    assert importer.missing(rates, window) == []
    clipped = dict(importer.files("dataset, clipped"))
    assert clipped["klines"] == 15 * 60
    assert clipped["fundingRate"] == 1
    reasons = system.query("SELECT reason FROM perp_absence WHERE symbol = 'OMG' AND start_ms = %s", end_ms)
    assert set(reasons) == {("after the delisting",)}


@pytest.mark.parametrize("is_old", [False, True])
def test_a_file_that_may_still_come_is_waited_for(importer, simulator, system, is_old):
    """Months of settlements come days after their end; after 35 days a month without a file has none."""
    series, rates = Series("bin-fr", "LTC"), registry.load_exchanges()["binance"].archive.find_dataset("fr")
    end_ms = rates.find_period(now_ms() - 2 * DAY_MS).start_ms
    window = rates.find_period(end_ms - 63 * DAY_MS if is_old else end_ms - 1)
    ended = "UPDATE perp_lives SET delisted_ms = %s, evidence = 'missing' WHERE instrument = 'LTCUSDT' RETURNING 1"
    system.query(ended, window.end_ms)
    simulator.fault(kind="lost_file", exchange="binance", path=f"{KLINES}/monthly/fundingRate/LTCUSDT")
    importer.want(window, series)
    asked = "SELECT asked::text FROM perp_files_asked WHERE metric = 'fr'"
    if is_old:
        importer.run(series, window)
        assert importer.missing(series, window) == []
        assert system.query(asked) == [(f"{{[{window.start_ms},{window.end_ms})}}",)]
        assert system.query("SELECT reason FROM perp_absence WHERE source = 'bin-fr'") == [(NOT_IN_ARCHIVE,)]
        return
    with pytest.raises(RetryLater, match="may still come") as later:
        importer.run(series, window)
    assert later.value.retry_after_s == 6 * 3600
    assert importer.missing(series, window) == [window]
    assert system.query(asked) == [("{}",)]
    assert dict(importer.files("state, reason")) == {"absent": ""}


@pytest.mark.parametrize("day", ["2025-10-05", "2022-01-05"])
def test_okx_candles_lie_on_months_of_utc_8(importer, day):
    series = Series("okx-ohlcv", "BTC")
    window = Window(to_ms(day), to_ms(day) + DAY_MS)
    importer.take(series, window)
    found = importer.differences("okx-ohlcv", "BTC", window, "okx")
    missing = importer.missing(series, window)
    if day > "2023":
        assert found == []
    else:  # without volumes the rows are left to REST
        assert sum(end - start for start, end in missing) >= len(found) * MINUTE_MS
    assert all("missing" in each for each in found)


def test_okx_settlements_of_years(importer):
    series = Series("okx-fr", "BTC")
    window = Window(to_ms("2024-10-31T16:00:00"), to_ms("2024-11-30T16:00:00"))
    importer.take(series, window)
    assert importer.differences("okx-fr", "BTC", window, "okx") == []
    assert importer.missing(series, window) == []


def test_okx_settlements_by_days_reach_to_the_window_s_end_and_name_what_is_broken(importer, simulator):
    """The last eight hours of a day of UTC lie in the file of the next day of UTC+8."""
    simulator.fault(kind="lost_file", exchange="okx", path="/cdn/okex/traderecords/swaprates/monthly")
    day = "/cdn/okex/traderecords/swaprates/daily/20241104/allswap-fundingrates-2024-11-04"
    simulator.fault(kind="bad_crc", exchange="okx", path=day)
    series, window = Series("okx-fr", "BTC"), Window(to_ms("2024-11-02"), to_ms("2024-11-06"))
    importer.want(window, series)
    for _ in range(2):
        with pytest.raises(RetryLater):
            importer.run(series, window)
    importer.run(series, window)
    lost = [f"missing {to_ms(at)}" for at in ("2024-11-03T16:00", "2024-11-04T00:00", "2024-11-04T08:00")]
    unknown = f"{to_ms('2024-11-04T16:00')} fr_hours: None instead of 8"  # the settlement before is lost
    assert importer.differences("okx-fr", "BTC", window, "okx") == [*lost, unknown]
    [(reason,)] = importer.system.query("SELECT reason FROM perp_absence WHERE source = 'okx-fr'")
    assert reason.startswith("quarantined: allswap-fundingrates-2024-11-04.zip")
