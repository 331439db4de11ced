"""Seed, fetch and store history with real workers, against the simulator and its faults."""

import os
import signal
import time

import pytest

from fademoe.client import instruments
from fademoe.client.rate_limit import usage
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.queue.enqueue import enqueue_windows
from fademoe.queue.ids import Task, list_window_queues
from fademoe.queue.states import UNREADABLE, connect_queue, read_job_states, read_windows_in_queues
from fademoe.store.coverage import Series
from tests.support.clocks import until
from tests.support.simulator import Simulator

SETTLED_MS = 300_000  # a hole of the exchange that is younger than three minutes is not confirmed yet


@pytest.fixture
def recent():
    """The last three hours that are surely closed: (start, end)."""
    end_ms = floor_to(now_ms() - SETTLED_MS, MINUTE_MS)
    return end_ms - 3 * HOUR_MS, end_ms


def seed(system, *arguments, since_ms, until_ms):
    return system.run("seed", "--since", str(since_ms), "--until", str(until_ms), "--metrics", "ohlcv", *arguments)


def work(system):
    system.environment["FADEMOE_SYMBOLS"] = "UNI"  # whose newest candles are requested: no fault of a test is for it
    return [system.start("worker"), system.start("worker", "--live"), system.start("scheduler")]


def covered(system, symbols, since_ms, until_ms):
    return system.covers("bin-ohlcv", symbols, since_ms, until_ms)


def test_ten_days_are_stored_exactly_and_seeding_twice_does_nothing(system):
    work(system)
    symbols = ("BTC", "PEPE", "币安人生")
    done = system.run("seed", "--days", "10", "--metrics", "ohlcv", "--symbols", ",".join(symbols), "--wait")
    assert done.returncode == 0, done.stderr
    end_ms = floor_to(now_ms() - 2 * MINUTE_MS, MINUTE_MS)
    start_ms = end_ms - 10 * DAY_MS + 10 * MINUTE_MS
    for symbol in symbols:
        assert system.differences("binance", "bin-ohlcv", symbol, start_ms, end_ms) == []
    holes = system.query("SELECT count(*) FROM perp_absence WHERE reason = 'the exchange has no row'")[0][0]
    assert holes > 0
    again = system.run("seed", "--days", "10", "--metrics", "ohlcv", "--symbols", ",".join(symbols))
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == "0 windows enqueued, 0 were waiting already"
    assert read_windows_in_queues(system.context().redis, list_window_queues("binance")) == {}


def test_a_dry_run_plans_and_stores_nothing(system, recent):
    planned = seed(system, "--symbols", "BTC,ETH", "--dry-run", since_ms=recent[0] - 20 * DAY_MS, until_ms=recent[1])
    assert planned.returncode == 0, planned.stderr
    line = next(line for line in planned.stdout.splitlines() if line.startswith("bin-ohlcv"))
    perpspec, series, windows, requests, rows = line.split()
    assert (perpspec, series) == ("bin-ohlcv", "2")
    assert int(windows) >= 4
    assert int(requests) >= 2 * 20 * 1440 / 499
    assert int(rows.replace(",", "")) == 2 * (20 * 1440 + 180)
    assert system.query("SELECT count(*) FROM perp_coverage") == [(0,)]
    assert read_windows_in_queues(system.context().redis, list_window_queues("binance")) == {}


BAD = ("nan", "negative_volume", "missing_field", "seconds")
BROKEN = ("truncated", "html_502", "reset", "error_503", "error_200")
VICTIMS = dict(zip((*BAD, *BROKEN), ("XRP", "DOGE", "ADA", "AVAX", "LINK", "SOL", "LTC", "BNB", "TRX"), strict=True))


def test_faults_delay_windows_and_spoil_no_row(system, simulator, recent):
    for kind, symbol in VICTIMS.items():
        simulator.fault(exchange="binance", path="/fapi/v1/klines", symbol=f"{symbol}USDT", kind=kind, count=1)
    work(system)
    symbols = list(VICTIMS.values())
    assert seed(system, "--symbols", ",".join(symbols), since_ms=recent[0], until_ms=recent[1]).returncode == 0
    until(lambda: covered(system, symbols, *recent), 60)
    for symbol in symbols:
        assert system.differences("binance", "bin-ohlcv", symbol, *recent) == []
    errors = {
        unit.rpartition(" ")[2]: rest
        for unit, *rest in system.query("SELECT unit, class, request, excerpt FROM perp_errors ORDER BY id")
    }
    for kind in BAD:
        name, request, excerpt = errors[VICTIMS[kind]]
        assert name == "BadPayload"
        assert request.startswith("/fapi/v1/klines")
        assert excerpt
    assert system.query("SELECT count(*) FROM perp_status WHERE state = 'error'") == [(0,)]


def test_a_row_that_stays_odd_is_not_requested_every_minute(system, simulator, recent):
    """The fault: every reconcile run requested it again, twice, and recorded two errors, for ever."""
    simulator.fault(exchange="binance", path="/fapi/v1/klines", symbol="XRPUSDT", kind="nan")
    work(system)
    waited = seed(system, "--symbols", "XRP", "--wait", since_ms=recent[0], until_ms=recent[1])
    assert "complete" not in waited.stdout or waited.returncode != 0
    redis, names = system.context().redis, list_window_queues("binance")
    until(lambda: {state for name in names for state in read_job_states(redis, name).values()} == {UNREADABLE}, 90)
    rests = [redis.ttl(key) for key in redis.scan_iter("rq:job:bf-*")]
    assert 60 < max(rests) <= 120, "the first time it rests for two minutes, however old it is"
    [before] = system.query("SELECT count(*) FROM perp_errors")
    for _ in range(3):
        assert system.run("reconcile").returncode == 0
    assert {state for name in names for state in read_job_states(redis, name).values()} == {UNREADABLE}
    assert system.query("SELECT count(*) FROM perp_errors") == [before]
    rows = (recent[1] - recent[0]) // MINUTE_MS
    assert system.query("SELECT count(*) FROM perp_data WHERE symbol = 'XRP'")[0][0] >= rows - 12
    assert UNREADABLE in system.run("gaps").stdout
    assert system.query("SELECT count(*) FROM perp_status WHERE state = 'error'") == [(0,)]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["html_404", "html_200", "redirect_302", "empty_202", "error_200"])
def test_a_window_without_usable_answers_waits_and_uses_up_no_attempt(system, simulator, recent, kind):
    """The fault: it rested for a day, at once or after five tries within two minutes."""
    simulator.fault(exchange="binance", kind=kind, path="/fapi/v1/klines", symbol="ETHUSDT")
    services = system.context()
    task = Task(Series("bin-ohlcv", "ETH"), Window(*recent))
    enqueue_windows(services.redis, "binance", [task])
    system.start("worker")
    system.start("scheduler")
    queue, before = connect_queue(services.redis, "binance"), simulator.get("/sim/stats")["binance"]["faults"]
    until(lambda: simulator.get("/sim/stats")["binance"]["faults"].get(kind, 0) >= before.get(kind, 0) + 2, 60)
    (message,) = until(lambda: system.query("SELECT message FROM perp_status WHERE state = 'waiting'"), 20)[0]
    assert ("error on the exchange's side" if kind == "error_200" else "not the API's") in message
    job = queue.fetch_job(task.job_id)
    assert job.meta.get("failures", 0) == 0 and queue.failed_job_registry.count == 0
    simulator.clear()
    until(lambda: covered(system, ["ETH"], *recent), 60)
    assert system.differences("binance", "bin-ohlcv", "ETH", *recent) == []
    services.close()


def test_a_ban_closes_the_exchange_and_uses_up_no_attempt(system, simulator, recent):
    simulator.fault(exchange="binance", kind="banned", path="/fapi/v1/klines", count=1)
    work(system)
    assert seed(system, "--symbols", "ETH", since_ms=recent[0], until_ms=recent[1]).returncode == 0
    message = until(lambda: system.query("SELECT message FROM perp_status WHERE state = 'waiting'"), 20)[0][0]
    assert "banned" in message
    closed = [budget for budget in usage.list_budget_uses(system.context().redis) if budget.closed_until_ms]
    assert {"weight", "funding", "futures-data"} == {budget.name for budget in closed}
    waiting = connect_queue(system.context().redis, "binance-requested")
    (job_id,) = until(lambda: waiting.scheduled_job_registry.get_job_ids(), 20)
    assert waiting.fetch_job(job_id).meta.get("failures", 0) == 0
    assert waiting.fetch_job(job_id).meta["delay_s"] > 60
    assert all(budget.closed_until_ms > now_ms() + 60_000 for budget in closed), "two minutes at least"


@pytest.mark.long
@pytest.mark.waits(60)
def test_an_exchange_in_maintenance_is_hardly_asked_and_all_is_done_after_its_return(system, simulator, recent):
    """The fault: each waiting window asked every five seconds, and each answer was an error of its own."""
    tasks = [
        Task(Series("bin-ohlcv", symbol), Window(start_ms, start_ms + 10 * MINUTE_MS))
        for symbol in ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA")
        for start_ms in range(recent[0], recent[0] + 2 * HOUR_MS, 10 * MINUTE_MS)
    ]
    services = system.context()
    instruments.refresh(registry.load_exchanges()["binance"], services.rest, services.database)
    simulator.fault(exchange="binance", kind="error_503")
    before = simulator.requests("binance")
    enqueue_windows(services.redis, "binance", tasks)
    work(system)
    until(lambda: simulator.requests("binance") > before, 30)
    time.sleep(40)  # pauses of 5, 10, 20 and 40 s begin in it
    assert simulator.requests("binance") - before <= 20
    assert system.query("SELECT count(*) FROM perp_errors")[0][0] <= 20
    assert connect_queue(services.redis, "binance").failed_job_registry.count == 0
    simulator.clear()
    rows = len(tasks) * 10
    until(lambda: system.query("SELECT count(*) FROM perp_data")[0][0] >= rows * 0.99, 120)
    assert usage.list_outages(services.redis) == []


@pytest.mark.waits(10)
def test_an_endpoint_of_the_time_that_fails_holds_up_no_history(system, simulator, recent):
    simulator.fault(exchange="binance", kind="error_503", path="/fapi/v1/time")
    work(system)
    assert seed(system, "--symbols", "BTC", since_ms=recent[0], until_ms=recent[1]).returncode == 0
    until(lambda: covered(system, ["BTC"], *recent), 30)
    assert system.differences("binance", "bin-ohlcv", "BTC", *recent) == []


@pytest.mark.long
@pytest.mark.waits(12)
def test_killed_workers_lose_nothing(system, simulator, recent):
    start_ms = recent[0] - 20 * DAY_MS
    programs = work(system)
    symbols = ["BTC", "ETH", "SOL"]
    assert seed(system, "--symbols", ",".join(symbols), since_ms=start_ms, until_ms=recent[1]).returncode == 0
    until(lambda: system.query("SELECT 1 FROM perp_status WHERE kind = 'backfill' AND state = 'done'"), 30)
    os.kill(programs[0].pid, signal.SIGKILL)
    programs[0].wait()
    system.start("worker")
    until(lambda: covered(system, symbols, start_ms, recent[1]), 200)
    for symbol in symbols:
        assert system.differences("binance", "bin-ohlcv", symbol, start_ms, recent[1]) == []


def test_a_lost_queue_is_made_again(system, recent):
    assert seed(system, "--symbols", "BTC,ETH", since_ms=recent[0], until_ms=recent[1]).returncode == 0
    system.context().redis.flushall()
    work(system)
    until(lambda: covered(system, ["BTC", "ETH"], *recent), 30)
    assert system.differences("binance", "bin-ohlcv", "ETH", *recent) == []


def stalled(simulator):
    return simulator.get("/sim/stats")["binance"]["faults"].get("stall", 0)


def test_sigterm_ends_a_busy_worker_within_ten_seconds(system, simulator, recent):
    before = stalled(simulator)
    simulator.fault(exchange="binance", kind="stall", path="/fapi/v1/klines", seconds=25)
    system.start("worker")
    seeded = seed(system, "--symbols", "BTC", since_ms=recent[0] - DAY_MS, until_ms=recent[0])
    until(lambda: stalled(simulator) > before, 60)
    system.stop()  # asserts the ten seconds
    queued = read_windows_in_queues(system.context().redis, list_window_queues("binance"))
    assert sum(map(len, queued.values())) == int(seeded.stdout.splitlines()[-1].split()[0])


@pytest.mark.long
@pytest.mark.waits(20)
def test_without_the_exchange_jobs_wait_and_then_go_on_by_themselves(system, recent):
    simulator = Simulator("--no-limits")
    system.environment["FADEMOE_BINANCE_REST_URL"] = simulator.url
    system.simulator = simulator
    work(system)
    asked = seed(system, "--symbols", "BTC", since_ms=recent[0], until_ms=recent[1])
    assert asked.returncode == 0, asked.stderr
    assert "cannot be reached" in asked.stderr
    row = until(lambda: system.query("SELECT state, message FROM perp_status WHERE kind = 'backfill'"), 30)
    assert row[0][0] == "waiting"
    assert "cannot be reached" in row[0][1]
    simulator.start()
    try:
        until(lambda: covered(system, ["BTC"], *recent), 60)
        assert system.differences("binance", "bin-ohlcv", "BTC", *recent) == []
    finally:
        simulator.stop()


@pytest.mark.long
def test_all_symbols_of_an_exchange_without_its_list_are_not_called_complete(system, recent):
    nobody = Simulator("--no-limits")
    system.environment |= {"FADEMOE_EXCHANGES": "binance,okx", "FADEMOE_OKX_REST_URL": nobody.url}
    system.start("worker")
    options = ("--symbols", "all", "--exchanges", "binance,okx", "--metrics", "fr", "--wait")
    asked = seed(system, *options, since_ms=recent[0], until_ms=recent[1])
    assert "nothing of okx is requested" in asked.stderr
    assert asked.returncode == 1, asked.stdout + asked.stderr
    assert system.query("SELECT DISTINCT source FROM perp_coverage WHERE NOT isempty(wanted)") == [("bin-fr",)]


def test_an_odd_settlement_that_stays_costs_no_other_one(system, simulator, recent):
    """The fault: nothing of the whole page was stored, for as long as the odd row was sent."""
    since_ms = floor_to(recent[1] - 30 * DAY_MS, DAY_MS)
    simulator.fault(exchange="binance", path="/fapi/v1/fundingRate", symbol="XRPUSDT", kind="null")
    work(system)
    seed = ("seed", "--since", str(since_ms), "--until", str(recent[1]), "--metrics", "fr", "--symbols", "XRP")
    assert system.run(*seed, "--exchanges", "binance").returncode == 0
    until(lambda: system.query("SELECT 1 FROM perp_errors WHERE unit = 'backfill bin-fr XRP'"), 60)
    until(lambda: system.query("SELECT count(*) FROM perp_data WHERE source = 'bin-fr'")[0][0] >= 60, 30)
    assert not system.covers("bin-fr", ["XRP"], since_ms, recent[1]), "which one is missing cannot be told"
