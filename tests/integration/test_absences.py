"""Proof before absence: what makes a range absent, and how it is taken back."""

import inspect
import json
import threading
import time

import pytest
import requests

from fademoe.client import instruments
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.feeds.paging import compute_closed_until_ms
from fademoe.jobs import audit, backfill, maintenance, polls, reconcile
from fademoe.jobs.feed_client import FeedClient, TimeUp
from fademoe.jobs.window_run import EMPTY
from fademoe.metrics import Candle, Funding, PredictedFunding
from fademoe.queue.enqueue import enqueue_windows
from fademoe.queue.ids import Task
from fademoe.queue.states import connect_queue
from fademoe.runtime.job_context import JobContext, use_services
from fademoe.store import coverage
from fademoe.store.connection import Database
from fademoe.store.coverage import DELISTED, ENDED, EXPIRED, NO_ROW, NOT_LISTED_YET, Absence, Covered, Series
from fademoe.store.writer import Batch, Writer
from tests.support.clocks import settled_end, until

BTC = Series("bin-ohlcv", "BTC")
START = 1_767_225_600_000
KLINES = "/fapi/v1/klines"


def minutes(start, end):
    return Window(START + start * MINUTE_MS, START + end * MINUTE_MS)


def candle(minute):
    return Candle(START + minute * MINUTE_MS, "1", "1", "1", "1", "1")


@pytest.fixture
def services(system):
    services = system.context()
    use_services(services)
    yield services
    services.close()


def absences(system, series=BTC):
    return system.query(
        "SELECT start_ms, end_ms, reason, checks FROM perp_absence WHERE source = %s AND symbol = %s ORDER BY 1",
        *series,
    )


def absent(system, series=BTC):
    statement = "SELECT lower(r), upper(r) FROM perp_coverage, unnest(absent) r WHERE source = %s AND symbol = %s"
    return system.query(f"{statement} ORDER BY 1", *series)


def test_an_absence_never_covers_a_stored_row(system, services):
    """The row is committed before the absence of a job that did not see it."""
    services.writer.write([Batch("ohlcv", "1m", {BTC: [candle(3)]})], [])
    answer = Covered(BTC, [minutes(0, 10)], [Absence(minutes(2, 6), NO_ROW)])
    services.writer.write([], [answer])
    kept = [tuple(minutes(2, 3)), tuple(minutes(4, 6))]
    assert [row[:2] for row in absences(system)] == absent(system) == kept


def test_an_absence_waits_for_a_row_that_is_being_stored(system, services):
    """Both transactions are open at once."""
    database = Database(system.database_url)
    done = threading.Event()

    def enter_absence():
        own = Database(system.database_url)
        Writer(own).write([], [Covered(BTC, [minutes(0, 10)], [Absence(minutes(2, 6), NO_ROW)])])
        own.close()
        done.set()

    services.writer.write([Batch("ohlcv", "1m", {BTC: [candle(0)]})], [Covered(BTC, [minutes(0, 1)])])
    with database.open_transaction() as cursor:
        cursor.execute(
            "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v)"
            " VALUES (%s, 'BTC', 'bin-ohlcv', '1m', 1, 1, 1, 1, 1)",
            (START + 3 * MINUTE_MS,),
        )
        coverage.record(cursor, [Covered(BTC, [minutes(3, 4)])])
        thread = threading.Thread(target=enter_absence)
        thread.start()
        time.sleep(0.5)
        assert not done.is_set()
    thread.join(10)
    database.close()
    assert [row[:2] for row in absences(system)] == absent(system) == [tuple(minutes(2, 3)), tuple(minutes(4, 6))]


def test_two_runs_ten_minutes_apart_confirm_an_absence(system, services):
    """The fault: one run took its second request within a second as proof, and nothing ever asked again."""
    answer = Covered(BTC, [minutes(0, 10)], [Absence(minutes(2, 6), NO_ROW)])
    services.writer.write([], [answer])
    services.writer.write([], [answer])
    assert absences(system) == [(*minutes(2, 6), NO_ROW, 1)], "two runs within ten minutes are one"
    with services.database.open_transaction() as cursor:
        assert coverage.list_rechecks(cursor, "bin-ohlcv", DAY_MS, 10) == []
    for age, checks in (("11 minutes", 2), ("61 minutes", 3), ("7 hours", 4), ("25 hours", 5), ("8 days", 6)):
        make_older(system, age)
        with services.database.open_transaction() as cursor:
            assert coverage.list_rechecks(cursor, "bin-ohlcv", DAY_MS, 10) == [(BTC, minutes(2, 6))]
        services.writer.write([], [Covered(BTC, [minutes(2, 6)], [Absence(minutes(2, 6), NO_ROW)])])
        assert absences(system) == [(*minutes(2, 6), NO_ROW, checks)]
    make_older(system, "90 days")
    with services.database.open_transaction() as cursor:
        assert coverage.list_rechecks(cursor, "bin-ohlcv", DAY_MS, 10) == []


def test_what_an_endpoint_that_lags_has_not_yet_is_asked_for_within_the_hour(system, services, simulator):
    """It was absent, confirmed ten minutes later, and requested again the next day."""
    exchange = registry.load_exchanges()["binance"]
    feed, series = exchange.find_rest_feed("lsr"), Series("bin-lsr", "BTC")
    instruments.ensure(exchange, services.rest, services.database)
    end_ms = compute_closed_until_ms(feed, services.clocks.ask(exchange, live=True))
    window = Window(end_ms - HOUR_MS, end_ms - 10 * MINUTE_MS)
    services.database.run(lambda cursor: coverage.want(cursor, [series], *window))
    simulator.fault(exchange="binance", kind="late_rows", path=feed.path, seconds=40 * 60)
    context = JobContext(services=services, job=None)
    assert backfill.run_window(context, series, window).absent > 0
    make_older(system, "11 minutes")
    backfill.recheck(*series, *window)
    assert [checks for *_, checks in absences(system, series)] == [2]
    simulator.clear()
    make_older(system, "61 minutes")
    assert reconcile.enqueue_rechecks(services, exchange) == 1
    backfill.recheck(*series, *window)
    assert system.differences("binance", "bin-lsr", "BTC", *window) == []


@pytest.mark.parametrize("name", ["binance", "bybit", "okx"])
@pytest.mark.parametrize("metric", ["ohlcv", "mark", "lsr"])
def test_rows_that_every_page_lacks_at_its_edges_are_not_absent(system, simulator, name, metric):
    """They were, and every later question, which was for the same range, confirmed it."""
    system.environment |= {"FADEMOE_EXCHANGES": name, f"FADEMOE_{name.upper()}_REST_URL": simulator.url}
    services, exchange = system.context(), registry.load_exchanges()[name]
    feed, series = exchange.find_rest_feed(metric), Series(f"{exchange.codes[0]}-{metric}", "BTC")
    instruments.ensure(exchange, services.rest, services.database)
    window = Window(settled_end(HOUR_MS) - DAY_MS, settled_end(HOUR_MS))
    services.database.run(lambda cursor: coverage.want(cursor, [series], *window))
    for each in filter(None, (feed, feed.recent)):
        simulator.fault(exchange=name, kind="lost_edges", path=each.path)
    backfill.run_window(JobContext(services=services, job=None), series, window)
    services.close()
    assert system.covers(series.source, ["BTC"], *window)
    assert system.differences(name, series.source, "BTC", *window) == []


def test_an_answer_about_neighbouring_absences_counts_for_each(system, services):
    """Together they counted as a new one, that nothing was known of."""
    for start, end in ((0, 4), (4, 8)):
        services.writer.write([], [Covered(BTC, [minutes(start, end)], [Absence(minutes(start, end), NO_ROW)])])
    make_older(system, "11 minutes")
    services.writer.write([], [Covered(BTC, [minutes(0, 10)], [Absence(minutes(2, 10), NO_ROW)])])
    assert absences(system) == [
        (*minutes(2, 4), NO_ROW, 2),
        (*minutes(4, 8), NO_ROW, 2),
        (*minutes(8, 10), NO_ROW, 1),
    ]


def make_older(system, age):
    system.query(
        "UPDATE perp_absence SET first_checked_at = now() - %s::interval, checked_at = now() - %s::interval"
        " RETURNING 1",
        age,
        age,
    )


def test_neighbouring_absences_of_one_reason_are_one(system, services):
    """The fault: a delisted contract got a row a minute."""
    for start in (0, 2, 1, 3):
        window = minutes(start, start + 1)
        services.writer.write([], [Covered(BTC, [window], [Absence(window, DELISTED)])])
    assert [row[:3] for row in absences(system)] == [(*minutes(0, 4), DELISTED)]
    services.writer.write([], [Covered(BTC, [minutes(4, 5)], [Absence(minutes(4, 5), EXPIRED)])])
    assert [row[2] for row in absences(system)] == [DELISTED, EXPIRED]


def test_a_whole_empty_page_is_confirmed_by_another_run(system, simulator, services):
    """ccxt#17269: the exchange answers [] for a while."""
    end_ms = settled_end(DAY_MS)
    window = Window(end_ms - DAY_MS, end_ms)
    simulator.fault(exchange="binance", path=KLINES, symbol="ETHUSDT", kind="empty_list")
    series = Series("bin-ohlcv", "ETH")
    system.start("worker")
    enqueue_windows(services.redis, "binance", [Task(series, window)])
    queue = connect_queue(services.redis, "binance")
    until(lambda: queue.scheduled_job_registry.get_job_ids(), 30)
    assert absences(system, series) == []
    assert not system.covers("bin-ohlcv", ["ETH"], *window)
    job = queue.fetch_job(Task(series, window).job_id)
    assert [note[:2] for note in job.meta[EMPTY]] == [list(window)] and "failures" not in job.meta
    simulator.clear()
    age_notes(job, 700)
    job.save_meta()
    services.redis.zadd("rq:scheduled:binance", {job.id: time.time()})
    system.start("scheduler")
    until(lambda: system.covers("bin-ohlcv", ["ETH"], *window), 30)
    assert system.differences("binance", "bin-ohlcv", "ETH", *window) == []


def age_notes(job, age_s):
    for note in job.meta.get(EMPTY, []):
        note[2] -= age_s * 1000


def test_an_empty_page_that_stays_empty_is_absent_and_confirmed(system, simulator, services):
    """The second run is at least ten minutes after the first."""
    end_ms = settled_end(DAY_MS)
    window, series = Window(end_ms - DAY_MS, end_ms), Series("bin-ohlcv", "ETH")
    simulator.fault(exchange="binance", path=KLINES, symbol="ETHUSDT", kind="empty_list")
    enqueue_windows(services.redis, "binance", [Task(series, window)])
    job = connect_queue(services.redis, "binance").fetch_job(Task(series, window).job_id)
    context = JobContext(services=services, job=job)
    for age_s in (0, 300):
        age_notes(job, age_s)
        with pytest.raises(backfill.EmptyAnswer) as raised:
            backfill.run_window(context, series, window)
        assert raised.value.retry_after_s == pytest.approx(600 - age_s, abs=10)
    age_notes(job, 300)
    assert backfill.run_window(context, series, window).absent == 1440
    assert absences(system, series) == [(*window, NO_ROW, 2)]
    simulator.clear()
    make_older(system, "25 hours")
    assert reconcile.enqueue_rechecks(services, registry.load_exchanges()["binance"]) == 1
    system.start("worker")
    until(lambda: not system.differences("binance", "bin-ohlcv", "ETH", *window), 30)
    left = {ts for start, end, *_ in absences(system, series) for ts in range(start, end, MINUTE_MS)}
    assert left == set(range(*window, MINUTE_MS)) - set(simulator.truth("binance", "ohlcv", "ETH", *window))


def test_an_empty_answer_up_to_now_is_unconfirmed_too(system, simulator, services):
    """What is too young to be judged is not a part of the page that is judged."""
    until_ms = floor_to(now_ms(), MINUTE_MS)
    window, series = Window(until_ms - 2 * HOUR_MS, until_ms), Series("bin-ohlcv", "ETH")
    simulator.fault(exchange="binance", path=KLINES, symbol="ETHUSDT", kind="empty_list")
    with pytest.raises(backfill.EmptyAnswer):
        backfill.run_window(JobContext(services=services), series, window)
    assert absences(system, series) == []


def test_only_what_an_earlier_run_got_an_empty_answer_for_is_confirmed(system, simulator, services):
    """The older part of a window came from another endpoint, and only it was asked for by the first run."""
    end_ms = settled_end(HOUR_MS)
    window, series = Window(end_ms - 30 * HOUR_MS, end_ms), Series("bin-ohlcv", "ETH")
    older = Window(window.start_ms, window.start_ms + 20 * HOUR_MS)
    simulator.fault(exchange="binance", path=KLINES, symbol="ETHUSDT", kind="empty_list")
    enqueue_windows(services.redis, "binance", [Task(series, window)])
    job = connect_queue(services.redis, "binance").fetch_job(Task(series, window).job_id)
    context = JobContext(services=services, job=job)
    job.meta[EMPTY] = [[*older, now_ms() - 700_000]]
    with pytest.raises(backfill.EmptyAnswer):
        backfill.run_window(context, series, window)
    assert absences(system, series) == [(*older, NO_ROW, 2)]
    assert [tuple(note[:2]) for note in job.meta[EMPTY]] == [tuple(older), (older.end_ms, window.end_ms)]
    age_notes(job, 700)
    assert backfill.run_window(context, series, window).absent == 600
    assert {row[2:] for row in absences(system, series)} == {(NO_ROW, 2)}


def cut_short(monkeypatch, count, has_row=lambda ts: True):
    """Let runs end after `count` requests, and leave out some of Binance's candles; return what begins a run."""
    get, units = FeedClient.get, []

    def limited(client, feed, page, *, opportunistic=False):
        try:
            units.pop()
        except IndexError:
            raise TimeUp("this run has used its time", retry_after_s=0) from None
        return [row for row in get(client, feed, page, opportunistic=opportunistic) if has_row(row[0])]

    monkeypatch.setattr(FeedClient, "get", limited)
    return lambda: units.extend([None] * (count - len(units)))


def run_until_done(begin, run, most):
    """Run a job until it is not cut short; it must end within `most` runs."""
    for _ in range(most):
        begin()
        try:
            return run()
        except TimeUp:
            pass
    pytest.fail(f"still not done after {most} runs")


def make_context(services, series, window):
    enqueue_windows(services.redis, "binance", [Task(series, window)])
    job = connect_queue(services.redis, "binance").fetch_job(Task(series, window).job_id)
    return JobContext(services=services, job=job)


@pytest.mark.long
@pytest.mark.parametrize("count", (4, 20))
def test_a_window_of_many_holes_is_done_by_runs_that_are_cut_short(system, services, monkeypatch, count):
    """Each run asked for all of them, was cut short before it had asked twice, and recorded nothing."""
    end_ms = settled_end(DAY_MS)
    window, series = Window(end_ms - 10 * DAY_MS, end_ms), Series("bin-ohlcv", "ETH")
    context = make_context(services, series, window)
    begin = cut_short(monkeypatch, count, lambda ts: ts // MINUTE_MS % 20)
    run_until_done(begin, lambda: backfill.run_window(context, series, window), 30 + 120 // count)
    assert system.covers("bin-ohlcv", ["ETH"], *window)
    assert len(absences(system, series)) >= 720


@pytest.mark.long
@pytest.mark.parametrize("count", (4, 20))
def test_an_empty_window_is_done_by_runs_that_are_cut_short(system, services, monkeypatch, count):
    end_ms = settled_end(DAY_MS)
    window, series = Window(end_ms - 10 * DAY_MS, end_ms), Series("bin-ohlcv", "ETH")
    context = make_context(services, series, window)
    begin = cut_short(monkeypatch, count, lambda ts: False)
    with pytest.raises(backfill.EmptyAnswer):
        run_until_done(begin, lambda: backfill.run_window(context, series, window), 10 + 120 // count)
    age_notes(context.job, 700)
    run_until_done(begin, lambda: backfill.run_window(context, series, window), 10 + 120 // count)
    assert {row[3] for row in absences(system, series)} == {2}
    assert system.covers("bin-ohlcv", ["ETH"], *window)


def test_an_audit_is_done_by_runs_that_are_cut_short(system, services, monkeypatch):
    """Each run began at the start."""
    end_ms = settled_end(DAY_MS)
    window, series = Window(end_ms - 10 * DAY_MS, end_ms), Series("bin-ohlcv", "ETH")
    stored = backfill.run_window(JobContext(services=services), series, window).rows
    context = make_context(services, series, window)
    begin = cut_short(monkeypatch, 5)
    result = run_until_done(begin, lambda: audit.audit(context, series, window), 15)
    assert (result.equal, result.corrected, result.missing, result.extra) == (stored, 0, 0, 0)


def test_a_recheck_of_many_holes_is_done_by_runs_that_are_cut_short(system, services, monkeypatch):
    end_ms = settled_end(DAY_MS)
    window, series = Window(end_ms - 10 * DAY_MS, end_ms), Series("bin-ohlcv", "ETH")
    holes = [Absence(Window(ts, ts + MINUTE_MS), NO_ROW) for ts in range(*window, 20 * MINUTE_MS)]
    services.writer.write([], [Covered(series, [window], holes)])
    make_older(system, "11 minutes")
    context = make_context(services, series, window)
    begin = cut_short(monkeypatch, 20, lambda ts: ts // MINUTE_MS % 20)
    monkeypatch.setattr(backfill, "run_job", lambda context, unit, work: work())
    run = inspect.unwrap(backfill.recheck)
    run_until_done(begin, lambda: run(context, *series, *window), 15)
    assert {row[3] for row in absences(system, series)} == {2}


def test_an_empty_answer_of_one_endpoint_leaves_the_other_to_be_asked(system, simulator):
    system.environment |= {
        "FADEMOE_EXCHANGES": "okx",
        "FADEMOE_OKX_REST_URL": simulator.url,
        "FADEMOE_OKX_WS_URL": simulator.url.replace("http", "ws"),
    }
    services = system.context()
    end_ms = settled_end(HOUR_MS)
    window, series = Window(end_ms - 30 * HOUR_MS, end_ms), Series("okx-ohlcv", "ETH")
    simulator.fault(exchange="okx", path="/api/v5/market/history-candles", kind="empty_list")
    with pytest.raises(backfill.EmptyAnswer):
        backfill.run_window(JobContext(services=services), series, window)
    assert system.covers("okx-ohlcv", ["ETH"], end_ms - 20 * HOUR_MS, end_ms)
    services.close()


def test_ten_days_without_a_settlement_are_not_confirmed(system, simulator, services):
    """The fault: ten days of `fr` were covered with no row and no second question."""
    end_ms = settled_end(DAY_MS)
    window, series = Window(end_ms - 10 * DAY_MS, end_ms), Series("bin-fr", "BTC")
    simulator.fault(exchange="binance", path="/fapi/v1/fundingRate", symbol="BTCUSDT", kind="empty_list")
    context = JobContext(services=services)
    with pytest.raises(backfill.EmptyAnswer):
        backfill.run_window(context, series, window)
    assert not system.covers("bin-fr", ["BTC"], *window)
    simulator.clear()
    assert backfill.run_window(context, series, window).rows == 30
    assert absences(system, series) == []


@pytest.mark.parametrize(
    ("symbol", "hole_ms", "count"), [("BTC", 16 * HOUR_MS, 1), ("BTC", 2 * DAY_MS, 5), ("PEPE", 8 * HOUR_MS, 1)]
)
def test_a_settlement_that_is_missing_among_others_is_a_hole(system, services, monkeypatch, symbol, hole_ms, count):
    """The fault: beside other settlements the ones that were not sent were covered without a second question, too.

    The settlement behind the hole gets its interval when the hole is filled; until then it is unknown.
    """
    end_ms = settled_end(DAY_MS)
    window, series = Window(end_ms - 10 * DAY_MS, end_ms), Series("bin-fr", symbol)
    hole = Window(end_ms - 7 * DAY_MS + MINUTE_MS, end_ms - 7 * DAY_MS + hole_ms)  # PEPE settles every four hours
    requests, get = [], FeedClient.get

    def without_hole(client, feed, page, *, opportunistic=False):
        requests.append(page)
        rows = get(client, feed, page, opportunistic=opportunistic)
        return [row for row in rows if not hole.start_ms < row["fundingTime"] < hole.end_ms]

    with monkeypatch.context() as patched:
        patched.setattr(FeedClient, "get", without_hole)
        with pytest.raises(backfill.EmptyAnswer):
            backfill.run_window(JobContext(services=services), series, window)
    assert len(requests) == 2, "one page, and a second question about the hole"
    with services.database.open_transaction() as cursor:
        ((start_ms, until_ms),) = coverage.find_missing(cursor, series, window)
    assert abs(start_ms - hole.start_ms) <= MINUTE_MS >= abs(until_ms - hole.end_ms)
    assert backfill.run_window(JobContext(services=services), series, window).rows == count
    assert system.differences("binance", "bin-fr", symbol, *window) == []
    assert absences(system, series) == []


@pytest.mark.parametrize("is_late", [True, False])
def test_a_settlement_that_was_to_come_is_asked_for_twice(system, simulator, services, is_late):
    """The fault: the minutes behind it were covered at once, and the settlement was missing in them."""
    due_ms, series = floor_to(now_ms() - HOUR_MS, 8 * HOUR_MS), Series("bin-fr", "BTC")
    backfill.run_window(JobContext(services=services), series, Window(due_ms - 2 * DAY_MS, due_ms - HOUR_MS))
    window = Window(due_ms - HOUR_MS, due_ms + 20 * MINUTE_MS)
    simulator.fault(exchange="binance", path="/fapi/v1/fundingRate", symbol="BTCUSDT", kind="empty_list")
    context = make_context(services, series, window)
    with pytest.raises(backfill.EmptyAnswer):
        backfill.run_window(context, series, window)
    with services.database.open_transaction() as cursor:
        missing = coverage.find_missing(cursor, series, window)
    assert missing == [Window(due_ms - MINUTE_MS, due_ms + 2 * MINUTE_MS)], "what follows is the next one's"
    if is_late:
        simulator.clear()
    age_notes(context.job, 700)
    assert backfill.run_window(context, series, window).rows == is_late
    assert system.covers("bin-fr", ["BTC"], *window)
    assert absences(system, series) == []


@pytest.mark.parametrize(("number", "stored"), [(0, False), (1, False), (0, True), (-2, False)])
def test_a_settlement_that_is_missing_beside_the_edges_is_asked_for_again(
    system, services, monkeypatch, number, stored
):
    """The fault: of a contract that settles every four hours it was covered at once, eight hours being allowed."""
    end_ms = settled_end(DAY_MS)
    window, series = Window(end_ms - 5 * DAY_MS, end_ms), Series("bin-fr", "PEPE")
    lost_ms = range(*window, 4 * HOUR_MS)[number]
    if stored:
        backfill.run_window(JobContext(services=services), series, Window(window.start_ms - DAY_MS, window.start_ms))
    get = FeedClient.get

    def without_one(client, feed, page, *, opportunistic=False):
        rows = get(client, feed, page, opportunistic=opportunistic)
        return [row for row in rows if abs(row["fundingTime"] - lost_ms) > MINUTE_MS]

    context = make_context(services, series, window)
    with monkeypatch.context() as patched:
        patched.setattr(FeedClient, "get", without_one)
        with pytest.raises(backfill.EmptyAnswer):
            backfill.run_window(context, series, window)
    with services.database.open_transaction() as cursor:
        ((start_ms, until_ms),) = coverage.find_missing(cursor, series, window)
    assert start_ms <= lost_ms < until_ms <= lost_ms + 4 * HOUR_MS + MINUTE_MS
    age_notes(context.job, 700)
    assert backfill.run_window(context, series, window).rows == 1
    assert system.differences("binance", "bin-fr", "PEPE", *window) == []
    assert absences(system, series) == []


def test_a_settlement_that_is_stored_already_is_not_waited_for(system, simulator, services):
    due_ms, series = floor_to(now_ms() - HOUR_MS, 8 * HOUR_MS), Series("bin-fr", "BTC")
    window = Window(due_ms - HOUR_MS, due_ms + 20 * MINUTE_MS)
    services.writer.write([Batch("fr", "settlement", {series: [Funding(due_ms, "0.0001", "8")]})], [])
    simulator.fault(exchange="binance", path="/fapi/v1/fundingRate", symbol="BTCUSDT", kind="empty_list")
    assert backfill.run_window(JobContext(services=services), series, window).rows == 0
    assert system.covers("bin-fr", ["BTC"], *window)


@pytest.mark.parametrize("is_quiet", [True, False])
def test_days_without_a_liquidation_are_asked_for_twice(system, simulator, is_quiet):
    """The fault: after one empty answer all but the newest day was absent for ever, and that day was zero."""
    system.environment |= {
        "FADEMOE_EXCHANGES": "coinalyze",
        "FADEMOE_COINALYZE_KEY": "demo",
        "FADEMOE_COINALYZE_REST_URL": simulator.url,
    }
    services, series = system.context(), Series("c-bin-lq", "BTC")
    end_ms = settled_end(HOUR_MS)
    window = Window(end_ms - 9 * DAY_MS, end_ms)
    simulator.fault(exchange="coinalyze", path="/v1/liquidation-history", kind="empty_list")
    enqueue_windows(services.redis, "coinalyze", [Task(series, window)])
    job = connect_queue(services.redis, "coinalyze").fetch_job(Task(series, window).job_id)
    context = JobContext(services=services, job=job)
    with pytest.raises(backfill.EmptyAnswer):
        backfill.run_window(context, series, window)
    with services.database.open_transaction() as cursor:
        assert coverage.find_missing(cursor, series, window) == [window]
    if not is_quiet:
        simulator.clear()
    age_notes(job, 700)
    stored = backfill.run_window(context, series, window)
    assert bool(stored.rows) is not is_quiet
    assert system.covers("c-bin-lq", ["BTC"], *window)
    assert {row[2] for row in absences(system, series)} <= {EXPIRED}
    services.close()


@pytest.mark.parametrize(
    "kind", ["low_above_open", "blank", "null", "null_row", "negative_volume", "nan", "missing_field", "duplicate_row"]
)
def test_an_odd_candle_stays_missing_is_named_and_costs_no_other_one(system, simulator, services, kind):
    """The fault: the whole page was refused, and its window rested after five tries."""
    end_ms = settled_end(HOUR_MS)
    window, series = Window(end_ms - HOUR_MS, end_ms), Series("bin-ohlcv", "ETH")
    simulator.fault(exchange="binance", path=KLINES, symbol="ETHUSDT", kind=kind)
    stored = backfill.run_window(JobContext(services=services), series, window)
    truth = simulator.truth("binance", "ohlcv", "ETH", *window)
    (difference,) = system.differences("binance", "bin-ohlcv", "ETH", *window)
    odd_ms = int(difference.removeprefix("missing "))
    assert stored.rows == len(truth) - 1 and odd_ms in truth
    with services.database.open_transaction() as cursor:
        assert coverage.find_missing(cursor, series, window) == [Window(odd_ms, odd_ms + MINUTE_MS)]
    assert system.query("SELECT DISTINCT class FROM perp_errors WHERE unit = 'backfill bin-ohlcv ETH'") == [
        ("BadPayload",)
    ]
    simulator.clear()
    before = simulator.get("/sim/stats")["binance"]["paths"].get(KLINES, 0)
    assert backfill.run_window(JobContext(services=services), series, window).rows == 1
    assert simulator.get("/sim/stats")["binance"]["paths"][KLINES] - before == 1
    assert system.differences("binance", "bin-ohlcv", "ETH", *window) == []


@pytest.mark.parametrize(("name", "code"), [("binance", "bin"), ("bybit", "byb"), ("okx", "okx")])
def test_one_question_before_the_listing_that_the_list_names(system, simulator, name, code):
    """Bybit BTCUSDT, contracts of OKX that were listed again: the list is later than the first trades."""
    system.environment |= {f"FADEMOE_{name.upper()}_REST_URL": simulator.url, "FADEMOE_EXCHANGES": name}
    services, series = system.context(), Series(f"{code}-ohlcv", "SOL")
    contracts = maintenance.instruments.ensure(registry.load_exchanges()[name], services.rest, services.database)
    path = registry.load_exchanges()[name].find_rest_feed("ohlcv").path
    listed_ms, context = floor_to(contracts[code]["SOL"].listed_ms, DAY_MS), JobContext(services=services)
    late_ms = listed_ms + 5 * DAY_MS
    system.query("UPDATE perp_metadata SET listed_ms = %s WHERE symbol = 'SOL' RETURNING 1", late_ms)
    window = Window(late_ms - DAY_MS, late_ms)
    assert backfill.run_window(context, series, window).rows > 1000
    assert [row for row in absences(system, series) if row[2] == NOT_LISTED_YET] == []
    system.query("UPDATE perp_metadata SET listed_ms = %s WHERE symbol = 'SOL' RETURNING 1", listed_ms)
    before = simulator.get("/sim/stats")[name]["paths"].get(path, 0)
    for days in (2, 3, 4):
        window = Window(listed_ms - days * DAY_MS, listed_ms - (days - 1) * DAY_MS)
        assert backfill.run_window(context, series, window).absent == 1440
    assert simulator.get("/sim/stats")[name]["paths"][path] - before <= 2, "one question per series"
    assert {row[2] for row in absences(system, series)} >= {NOT_LISTED_YET}
    services.close()


def test_what_an_exchange_does_not_serve_since_the_end_is_absent_and_no_failure(system, simulator):
    """The fault: OKX does not know an ended contract, so its windows failed each day, and were missing for ever."""
    system.environment |= {"FADEMOE_OKX_REST_URL": simulator.url, "FADEMOE_EXCHANGES": "okx"}
    services, series = system.context(), Series("okx-ohlcv", "SOL")
    exchange = registry.load_exchanges()["okx"]
    maintenance.instruments.ensure(exchange, services.rest, services.database)
    ended_ms = floor_to(now_ms() - 3 * DAY_MS, DAY_MS) + 8 * HOUR_MS
    ((name,),) = system.query("SELECT instrument FROM perp_lives WHERE exchange = 'okx' AND symbol = 'SOL'")
    day, context = Window(ended_ms - 8 * HOUR_MS, ended_ms + 16 * HOUR_MS), JobContext(services=services)
    known = Window(day.start_ms, day.start_ms + HOUR_MS)
    assert backfill.run_window(context, series, known).rows == 60
    system.query("UPDATE perp_lives SET delisted_ms = %s WHERE instrument = %s RETURNING 1", ended_ms, name)
    change = {"exchange": "okx", "instrument": name}
    requests.post(f"{simulator.url}/sim/contracts", json=change | {"delisted_ms": ended_ms}, timeout=60)
    assert backfill.run_window(context, series, day).absent == 23 * 60
    assert [row[:3] for row in absences(system, series)] == [
        (known.end_ms, ended_ms, ENDED), (ended_ms, day.end_ms, DELISTED)
    ]  # fmt: skip
    assert backfill.run_window(context, series, Window(day.start_ms - DAY_MS, day.start_ms)).absent == 1440
    assert system.query("SELECT unit, message FROM perp_errors") == []
    result = audit.audit(context, series, known)
    assert (result.expired, result.extra, result.missing) == (60, 0, 0)
    requests.post(f"{simulator.url}/sim/contracts", json=change | {"delisted_ms": None}, timeout=60)
    services.close()


def test_what_is_wanted_of_a_delisted_contract_ends_and_comes_back_with_a_listing(system, services):
    """The fault: it was wanted for ever, and each minute was a job."""
    exchange = registry.load_exchanges()["binance"]
    maintenance.instruments.ensure(exchange, services.rest, services.database)
    delisted_ms = floor_to(now_ms() - 5 * DAY_MS, DAY_MS) + HOUR_MS
    set_end = "UPDATE perp_metadata SET delisted_ms = %s WHERE exchange = 'binance' AND symbol = 'SOL' RETURNING 1"
    wanted = "SELECT upper_inf(wanted), upper(wanted), lower(wanted) FROM perp_coverage WHERE symbol = 'SOL'"
    with services.database.open_transaction() as cursor:
        coverage.want(cursor, [Series("bin-ohlcv", "SOL")], delisted_ms - DAY_MS, None)
    system.query(set_end, delisted_ms)
    reconcile.follow_listings(services, exchange)
    ((is_endless, end_ms, start_ms),) = system.query(wanted)
    assert not is_endless
    assert delisted_ms + DAY_MS <= end_ms <= delisted_ms + 3 * DAY_MS
    system.query(set_end, None)
    reconcile.follow_listings(services, exchange)
    assert system.query(wanted) == [(True, None, start_ms)], "not more than before, though it was listed long before"
    system.query(set_end, delisted_ms)
    reconcile.follow_listings(services, exchange)
    listed_ms = end_ms + 10 * DAY_MS
    system.query(
        "UPDATE perp_metadata SET delisted_ms = NULL, listed_ms = %s WHERE symbol = 'SOL' RETURNING 1", listed_ms
    )
    reconcile.follow_listings(services, exchange)
    with services.database.open_transaction() as cursor:
        gaps = coverage.find_gaps(cursor, "bin-ohlcv", listed_ms + DAY_MS, ["SOL"])
    assert [gap for _, gap in gaps] == [Window(start_ms, end_ms), Window(listed_ms, listed_ms + DAY_MS)]


def test_every_day_is_audited_once(system, services):
    """The fault: a day during which the host was off was never audited."""
    today_ms = settled_end(DAY_MS)
    services.writer.write([], [Covered(BTC, [Window(today_ms - 10 * DAY_MS, today_ms + DAY_MS)])])
    exchange = registry.load_exchanges()["binance"]
    assert audit.enqueue_days(services, exchange, today_ms - 3 * DAY_MS) == 1
    assert audit.enqueue_days(services, exchange, today_ms - 3 * DAY_MS) == 0
    assert audit.enqueue_days(services, exchange, today_ms) == 3
    ids = sorted(connect_queue(services.redis, "binance").get_job_ids())
    days = [today_ms - days * DAY_MS for days in (4, 3, 2, 1)]
    assert ids == [f"au-bin-ohlcv_BTC_{start}_{start + DAY_MS}" for start in days]


def test_days_are_audited_though_a_clock_was_ahead(system, services):
    """A host that was days ahead once noted them as audited, and nothing was audited until they had come."""
    exchange, today_ms = registry.load_exchanges()["binance"], settled_end(DAY_MS)
    services.writer.write([], [Covered(BTC, [Window(today_ms - 2 * DAY_MS, today_ms)])])
    assert audit.enqueue_days(services, exchange, today_ms + 40 * DAY_MS) == 0
    assert audit.enqueue_days(services, exchange, today_ms) == 1
    assert audit.enqueue_days(services, exchange, today_ms) == 0, "of one day once"


def test_days_are_audited_by_the_exchanges_time(system, services, simulator):
    day_ms = 4 * DAY_MS
    yesterday_ms = floor_to(now_ms() - day_ms, DAY_MS) - DAY_MS
    services.writer.write([], [Covered(BTC, [Window(yesterday_ms, yesterday_ms + DAY_MS)])])
    simulator.set_clock(-day_ms)  # as seen from the exchange, the host is four days ahead
    try:
        assert audit.enqueue_nightly() == {"binance": 1}
    finally:
        simulator.set_clock(0)


@pytest.mark.long
def test_a_long_audit_goes_on_window_by_window(system, services):
    """The fault: it ended after 40 seconds."""
    end_ms = settled_end(DAY_MS)
    window = Window(end_ms - 25 * DAY_MS, end_ms)
    context = JobContext(services=services)
    backfill.run_window(context, BTC, window)
    parts = [part for part, _ in audit.audit_range(context, BTC, window)]
    assert len(parts) >= 3 and (parts[0].start_ms, parts[-1].end_ms) == window
    done = system.run(
        "audit", "--source", "bin-ohlcv", "--symbol", "BTC", "--since", str(window[0]), "--until", str(end_ms)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" until ") >= 3, "progress"
    assert "0 corrected, 0 missing, 0 extra" in done.stdout


def test_samples_of_a_poll_are_kept_until_they_are_stored(system, services, monkeypatch):
    """The fault: two samples of one row killed the poll, what was due was lost with it, and nothing said so."""
    feed = registry.load_exchanges()["okx"].poll_feeds[0]
    series = Series("okx-ppr", "BTC")
    samples = [(series, PredictedFunding(START + at * MINUTE_MS, f"0.{at}")) for at in (0, 0, 1)]
    unit = "poll okx ppr"
    due, held = polls._hold_until_due(services, unit, feed, samples, START + 10 * MINUTE_MS)
    assert (len(due), held) == (2, [])
    again, _ = polls._hold_until_due(services, unit, feed, [], START + 10 * MINUTE_MS)
    assert again == due, "nothing was stored yet"
    assert polls._store(services, feed, due) == 2
    polls._keep_held(services, unit, held)
    assert polls._hold_until_due(services, unit, feed, [], START + 10 * MINUTE_MS) == ([], [])
    services.writer.write([], [Covered(series, [minutes(0, 1)]), Covered(series, [minutes(5, 6)])])
    assert system.covers("okx-ppr", ["BTC"], *minutes(5, 6))


def test_whatever_kills_a_poll_is_recorded(system, services, monkeypatch):
    monkeypatch.setattr(polls, "_store", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        polls.poll("binance", "oi")
    assert system.query("SELECT class FROM perp_errors WHERE unit = 'poll binance oi'") == [("ZeroDivisionError",)]


def test_a_certificate_tells_provisional_from_confirmed(system, services):
    services.database.run(lambda cursor: coverage.want(cursor, [BTC], *minutes(0, 10)))
    services.writer.write([], [Covered(BTC, [minutes(0, 10)], [Absence(minutes(2, 6), NO_ROW)])])
    options = ("--source", "bin-ohlcv", "--symbol", "BTC", "--since", str(START), "--until", str(minutes(0, 10)[1]))
    assert "provisional: 4\n" in system.run("verify", *options).stdout
    assert describe_coverage(system) == ("40.00", "40.00")
    make_older(system, "11 minutes")
    services.writer.write([], [Covered(BTC, [minutes(2, 6)], [Absence(minutes(2, 6), NO_ROW)])])
    assert "provisional: 0\n" in system.run("verify", *options).stdout
    assert describe_coverage(system) == ("40.00", "0.00")


def describe_coverage(system):
    """Return what `coverage` says of BTC's candles: percent absent, and absent without being confirmed."""
    [row] = json.loads(system.run("coverage", "--source", "bin-ohlcv", "--symbol", "BTC", "--json").stdout)
    return row["absent"], row["provisional"]


def test_a_certificate_ends_where_rows_are_not_due(system, services):
    """A range that reaches past the due edge was called incomplete for rows that could not be there yet."""
    until_ms = now_ms() + HOUR_MS
    hour = Window(floor_to(now_ms(), MINUTE_MS) - HOUR_MS, floor_to(now_ms(), MINUTE_MS))
    services.writer.write([], [Covered(BTC, [hour], [Absence(hour, NO_ROW)])])
    options = ("--source", "bin-ohlcv", "--symbol", "BTC", "--until", str(until_ms), "--json")
    done = system.run("verify", *options, "--since", str(hour.start_ms))
    certificate = json.loads(done.stdout)
    assert 50 < certificate["expected"] < 60 and certificate["complete"]
    assert "are not due yet" in done.stderr
    assert "are due until" in system.run("verify", *options, "--since", str(until_ms - MINUTE_MS)).stderr
