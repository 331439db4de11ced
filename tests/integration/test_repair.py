"""Gaps are closed automatically; the others have a reason and are not requested again needlessly."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.jobs.reconcile import mark_unrecoverable
from fademoe.queue.enqueue import enqueue_windows
from fademoe.queue.ids import Task, list_window_queues
from fademoe.queue.reaper import Reaper
from fademoe.queue.states import connect_queue, list_failed_jobs, read_windows_in_queues
from fademoe.store.coverage import Series
from tests.integration.test_backfill import covered, recent, seed, work  # noqa: F401 - recent is a fixture
from tests.support.clocks import settled_end, until
from tests.support.system import System

KLINES = "/fapi/v1/klines"
SCHEDULED = "rq:scheduled:binance-requested"  # of what was seeded
NO_ROW = "the exchange has no row"


def absences(system, source, symbol):
    return system.query(
        "SELECT start_ms, end_ms, reason FROM perp_absence WHERE source = %s AND symbol = %s ORDER BY start_ms",
        source,
        symbol,
    )


def reconcile(system, symbol):
    """Reconcile and return the windows of a symbol's candles that wait, run or rest then."""
    assert system.run("reconcile").returncode == 0
    series = Series("bin-ohlcv", symbol)
    return [
        Task(series, window)
        for window in read_windows_in_queues(system.context().redis, list_window_queues("binance")).get(series, ())
    ]


def klines_asked(simulator):
    return simulator.get("/sim/stats")["binance"]["paths"].get(KLINES, 0)


@pytest.mark.long
@pytest.mark.waits(56)
def test_a_queue_that_is_flushed_in_the_middle_of_a_backfill_is_made_again(system, recent):  # noqa: F811
    symbols = ["BTC", "ETH", "SOL", "XRP"]
    start_ms = recent[0] - 40 * DAY_MS
    work(system)
    system.start("worker")
    assert seed(system, "--symbols", ",".join(symbols), since_ms=start_ms, until_ms=recent[1]).returncode == 0
    until(lambda: system.query("SELECT 1 FROM perp_data LIMIT 1"), 30)
    redis = system.context().redis
    assert read_windows_in_queues(redis, list_window_queues("binance"))
    redis.flushall()
    assert not covered(system, symbols, start_ms, recent[1])
    until(lambda: covered(system, symbols, start_ms, recent[1]), 150)
    for symbol in symbols:
        assert system.differences("binance", "bin-ohlcv", symbol, start_ms, recent[1]) == []
    until(lambda: not read_windows_in_queues(redis, list_window_queues("binance")), 60)


def test_a_job_that_a_dying_worker_has_taken_and_not_started_is_made_again(system):
    redis = system.context().redis
    task = Task(Series("bin-ohlcv", "BTC"), Window(0, MINUTE_MS))
    assert enqueue_windows(redis, "binance", [task]) == 1
    assert enqueue_windows(redis, "binance", [task]) == 0
    redis.lpop("rq:queue:binance")  # as the worker does, which is then killed
    assert enqueue_windows(redis, "binance", [task]) == 1
    assert connect_queue(redis, "binance").get_job_ids() == [task.job_id]
    redis.flushall()
    redis.hset(f"rq:job:{task.job_id}", "last_heartbeat", "x")  # what a worker writes last, after a flush
    assert enqueue_windows(redis, "binance", [task]) == 1


def test_a_job_that_is_stuck_on_the_way_to_a_worker_is_given_back(system):
    redis = system.context().redis
    task = Task(Series("bin-ohlcv", "BTC"), Window(0, MINUTE_MS))
    enqueue_windows(redis, "binance", [task])
    redis.lmove("rq:queue:binance", "rq:queue:binance:intermediate")  # a worker with one queue takes a job so
    reaper = Reaper(redis, ["binance"])
    assert enqueue_windows(redis, "binance", [task]) == 0
    assert reaper.reap() == 0
    assert reaper.reap() == 1
    assert connect_queue(redis, "binance").get_job_ids() == [task.job_id]
    redis.lpop("rq:queue:binance")
    redis.zadd("rq:wip:binance", {f"{task.job_id}:1": time.time() - 1})  # leased, and not begun when both died
    assert reaper.reap() == 1
    assert connect_queue(redis, "binance").get_job_ids() == [task.job_id]


def test_a_window_that_failed_rests_for_a_day(system):
    redis = system.context().redis
    task = Task(Series("bin-ohlcv", "BTC"), Window(0, MINUTE_MS))
    enqueue_windows(redis, "binance", [task])
    target = connect_queue(redis, "binance")
    job = target.fetch_job(task.job_id)
    redis.lpop(target.key)
    job.failed_job_registry.add(job, ttl=job.failure_ttl)
    assert enqueue_windows(redis, "binance", [task]) == 0
    assert [task for _, task in list_failed_jobs(redis, ["binance"])] == [task]
    assert abs(redis.zscore(job.failed_job_registry.key, task.job_id) - time.time() - 86_400) < 60
    redis.zadd(job.failed_job_registry.key, {task.job_id: time.time() - 1})  # a day later
    assert read_windows_in_queues(redis, ["binance"]) == {}
    assert enqueue_windows(redis, "binance", [task]) == 1


def test_two_reconcilers_at_once_do_no_harm(system, recent):  # noqa: F811
    symbols = ["BTC", "ETH", "SOL", "XRP", "DOGE", "ADA"]
    start_ms = recent[0] - 30 * DAY_MS
    assert seed(system, "--symbols", ",".join(symbols), since_ms=start_ms, until_ms=recent[1]).returncode == 0
    context = system.context()
    windows = read_windows_in_queues(context.redis, list_window_queues("binance"))
    context.redis.flushall()
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: system.run("reconcile"), range(2)))
    counts = [int(one.stdout.split()[1]) for one in done]
    assert sum(counts) == sum(map(len, windows.values()))
    assert {
        series: sorted(found)
        for series, found in read_windows_in_queues(context.redis, list_window_queues("binance")).items()
    } == {series: sorted(found) for series, found in windows.items()}
    assert system.run("reconcile").stdout == "binance: 0 windows enqueued\n"


def test_a_hole_of_the_exchange_is_absent_after_one_confirmation_and_not_asked_for_again(system, simulator):
    until_ms = settled_end(DAY_MS)
    since_ms = until_ms - 20 * DAY_MS
    there = set(simulator.truth("binance", "ohlcv", "BTC", since_ms, until_ms))
    hole_ms = next(ts for ts in range(since_ms, until_ms, MINUTE_MS) if ts not in there)
    window = (hole_ms - hole_ms % HOUR_MS, hole_ms - hole_ms % HOUR_MS + 2 * HOUR_MS)
    gone = [ts for ts in range(*window, MINUTE_MS) if ts not in there]
    before = klines_asked(simulator)
    system.environment["FADEMOE_SYMBOLS"] = "NOPE"  # so nothing is followed: only what is seeded is asked for
    work(system)
    assert seed(system, "--symbols", "BTC", since_ms=window[0], until_ms=window[1]).returncode == 0
    until(lambda: covered(system, ["BTC"], *window), 30)
    found = absences(system, "bin-ohlcv", "BTC")
    assert [ts for start_ms, end_ms, _ in found for ts in range(start_ms, end_ms, MINUTE_MS)] == gone
    assert {reason for _, _, reason in found} == {NO_ROW}
    assert klines_asked(simulator) - before == 1 + len(found)
    assert reconcile(system, "BTC") == []
    assert seed(system, "--symbols", "BTC", since_ms=window[0], until_ms=window[1]).returncode == 0
    time.sleep(3)
    assert klines_asked(simulator) - before == 1 + len(found)
    verified = json.loads(verify(system, "BTC", *window).stdout)
    assert (verified["absent"], verified["complete"]) == ({NO_ROW: len(gone)}, True)


def verify(system, symbol, start_ms, end_ms):
    options = ("--source", "bin-ohlcv", "--symbol", symbol, "--since", str(start_ms), "--until", str(end_ms))
    return system.run("verify", *options, "--json")


def test_what_the_exchange_does_not_keep_is_absent_as_expired(system):
    work(system)
    seeded = system.run("seed", "--days", "40", "--metrics", "oi", "--symbols", "BTC", "--wait")
    assert seeded.returncode == 0, seeded.stderr
    expired = [found for found in absences(system, "bin-oi", "BTC") if found[2].startswith("expired")]
    end_ms = max(end_ms for _, end_ms, _ in expired)
    assert sum(end_ms - start_ms for start_ms, end_ms, _ in expired) > 9 * DAY_MS
    assert abs(now_ms() - 30 * DAY_MS - end_ms) < HOUR_MS
    assert system.query("SELECT min(ts) FROM perp_data WHERE source = 'bin-oi'")[0][0] - end_ms < HOUR_MS


def retried_at_once(redis, seen):
    """Let the retries that are scheduled be due now; add the pauses they would have made, in seconds, to `seen`."""
    for name, due_s in redis.zrange(SCHEDULED, 0, -1, withscores=True):
        if due_s > time.time() + 1:
            seen.append(round(due_s - time.time()))
            redis.zadd(SCHEDULED, {name: time.time()}, xx=True)


def test_after_five_failures_a_window_rests_until_it_is_asked_for(system, simulator, recent):  # noqa: F811
    simulator.fault(exchange="binance", path=KLINES, symbol="SOLUSDT", kind="seconds")
    system.environment["FADEMOE_SYMBOLS"] = "NOPE"  # so nothing is followed: only what is seeded is asked for
    work(system)
    assert seed(system, "--symbols", "SOL", since_ms=recent[0], until_ms=recent[1]).returncode == 0
    redis, pauses = system.context().redis, []

    def is_resting():
        retried_at_once(redis, pauses)
        return system.query("SELECT 1 FROM perp_status WHERE kind = 'backfill' AND state = 'error'")

    until(is_resting, 60)
    # what is left of each delay when it is seen
    assert all(
        before < left <= delay for before, left, delay in zip((0, 8, 16, 32), pauses, (8, 16, 32, 64), strict=True)
    )
    errors = system.query("SELECT class, request, count FROM perp_errors WHERE unit = 'backfill bin-ohlcv SOL'")
    assert {name for name, _, _ in errors} == {"BadPayload"}
    assert sum(count for _, _, count in errors) == 5
    assert all(request.startswith(KLINES) and "symbol=SOLUSDT" in request for _, request, _ in errors)
    assert reconcile(system, "SOL") == [Task(Series("bin-ohlcv", "SOL"), Window(*recent))]
    missing = system.run("gaps", "--source", "bin-ohlcv", "--json")
    assert missing.returncode == 1
    assert [(gap["symbol"], gap["why"]) for gap in json.loads(missing.stdout)] == [
        ("SOL", "paused after repeated failures")
    ]
    simulator.clear()
    assert system.run("retry", "--source", "bin-ohlcv", "--symbol", "SOL").stdout.startswith("1 windows")
    until(lambda: covered(system, ["SOL"], *recent), 30)
    assert system.differences("binance", "bin-ohlcv", "SOL", *recent) == []
    complete = system.run("gaps", "--source", "bin-ohlcv")
    assert (complete.stdout, complete.returncode) == ("0 gaps\n", 0)


def test_what_was_missed_live_and_has_no_history_is_abandoned(system):
    context = system.context()
    now = floor_to(now_ms(), MINUTE_MS)
    system.query(
        "INSERT INTO perp_coverage (source, symbol, wanted, covered) VALUES"
        " ('bin-lq', 'BTC', int8multirange(int8range(%s, NULL)), int8multirange(int8range(%s, %s))) RETURNING 1",
        now - HOUR_MS,
        now - 50 * MINUTE_MS,
        now - 5 * MINUTE_MS,
    )
    assert json.loads(system.run("gaps", "--source", "bin-lq", "--json").stdout)[0]["start_ms"] == now - HOUR_MS
    mark_unrecoverable(context, next(iter(registry.select_enabled(context.settings))))
    found = absences(system, "bin-lq", "BTC")
    assert [(start_ms, end_ms) for start_ms, end_ms, _ in found] == [(now - HOUR_MS, now - 50 * MINUTE_MS)]
    assert "no history" in found[0][2]
    context.close()


@pytest.mark.full
def test_the_certificate_is_the_same_on_two_machines(
    system,
    tmp_path,
    other_database_url,
    redis_url,
    simulator,
    recent,  # noqa: F811
):
    other = System(
        tmp_path / "other", other_database_url, redis_url.replace("redis.sock", "redis.sock?db=1"), simulator
    )
    start_ms, end_ms = recent[0], floor_to(now_ms() + 30_000, MINUTE_MS) + MINUTE_MS
    system.environment["FADEMOE_SYMBOLS"] = "BTC,PEPE"
    system.start("stream", "binance")
    work(system)
    try:
        assert seed(system, "--symbols", "BTC,PEPE", since_ms=start_ms, until_ms=recent[1] - HOUR_MS).returncode == 0
        until(lambda: is_live(system, end_ms), 150)
        assert seed(system, "--symbols", "BTC,PEPE", since_ms=start_ms, until_ms=end_ms).returncode == 0
        until(lambda: covered(system, ["BTC", "PEPE"], start_ms, end_ms), 60)
        work(other)
        until(lambda: now_ms() > end_ms + 15_000, 30)
        assert seed(other, "--symbols", "BTC,PEPE", since_ms=start_ms, until_ms=end_ms).returncode == 0
        until(lambda: covered(other, ["BTC", "PEPE"], start_ms, end_ms), 60)
        for symbol in ("BTC", "PEPE"):
            one, two = verify(system, symbol, start_ms, end_ms), verify(other, symbol, start_ms, end_ms)
            assert one.returncode == two.returncode == 0, one.stdout
            assert one.stdout == two.stdout
            assert json.loads(one.stdout)["sha256"]
    finally:
        other.stop()


def is_live(system, end_ms):
    return system.query(
        "SELECT count(*) = 2 FROM perp_coverage WHERE source = 'bin-ohlcv' AND covered @> %s::bigint",
        end_ms - MINUTE_MS,
    )[0][0]
