"""Which window a worker takes, with real rq workers and a simulator that enforces its limits."""

import math
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fademoe.client import instruments
from fademoe.clock import DAY_MS, HOUR_MS, Window, split
from fademoe.feeds import registry
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument
from fademoe.jobs import reconcile
from fademoe.jobs.feed_client import FeedClient, TimeUp
from fademoe.jobs.seed import SeedRequest, carry_out, make_plan
from fademoe.queue.chores import CHORES
from fademoe.queue.dequeue import list_ready_queues, take_job
from fademoe.queue.enqueue import enqueue_windows, promote
from fademoe.queue.ids import Task, get_requested_queue, list_exchange_queues
from fademoe.queue.pauses import pause_budget, read_pauses, resume_budget
from fademoe.queue.states import RUNNING, connect_queue, read_job_states
from fademoe.store import coverage
from fademoe.store.coverage import Series
from tests.support.clocks import settled_end, until
from tests.support.simulator import Simulator
from tests.support.system import System

NAMES = ("okx", "coinalyze", "binance")
BTC = Instrument(exchange="okx", code="okx", name="BTC-USDT-SWAP", symbol="BTC", contract_value="0.01")
HERE = ["here"]  # names of egress addresses
SYMBOLS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "AVAX", "LINK")
MORE_SYMBOLS = ("BNB", "LTC", "TRX", "DOT", "UNI", "PEPE", "SHIB", "SUI")


def window_of(number: int) -> Window:
    return Window(number * HOUR_MS, (number + 1) * HOUR_MS)


def put(redis, queue, source, *numbers):
    tasks = [Task(Series(source, "BTC"), window_of(number)) for number in numbers]
    enqueue_windows(redis, queue, tasks)
    return [task.job_id for task in tasks]


def test_requested_windows_are_taken_first_and_exchanges_in_turn(system):
    redis = system.context().redis
    (okx,) = put(redis, "okx", "okx-ohlcv", 1)
    (binance,) = put(redis, "binance", "bin-ohlcv", 1)
    (requested,) = put(redis, "binance-requested", "bin-ohlcv", 2)
    names = list_exchange_queues("okx", "binance")
    assert list_ready_queues(redis, HERE, names) == ["binance-requested", "okx", "binance"]
    assert [take_job(redis, HERE, names) for _ in range(4)] == [
        ("binance-requested", requested),
        ("okx", okx),
        ("binance", binance),
        None,
    ]
    assert connect_queue(redis, "okx").intermediate_queue.get_job_ids() == [okx]


def test_a_window_whose_rate_limit_is_exhausted_is_passed_over(system):
    redis = system.context().redis
    ratios = put(redis, "okx", "okx-lsr", *range(700))
    (candles,) = put(redis, "okx", "okx-ohlcv", 1)
    (requested,) = put(redis, "okx-requested", "okx-lsr", 900)
    feed = registry.load_exchanges()["okx"].find_rest_feed("lsr")
    pause_budget(redis, HERE, "okx", feed.budget, 1.5)
    assert 1 < read_pauses(redis, HERE)["okx", feed.budget] <= 1.5
    assert take_job(redis, HERE, ["okx"]) == ("okx", candles)
    assert take_job(redis, HERE, ["okx"]) is None
    assert take_job(redis, HERE, ["okx-requested"]) == ("okx-requested", requested), (
        "requested work waits up to two seconds"
    )
    (key,) = redis.keys("paused:okx:*")
    redis.pexpire(key, 86_400_000)  # as it lasts when Redis's clock is set back by a day
    assert read_pauses(redis, HERE) == {}
    resume_budget(redis, HERE, "okx", feed.budget)
    assert not redis.exists(key)
    assert take_job(redis, HERE, ["okx"]) == ("okx", ratios[0])
    pause_budget(redis, HERE, "okx", feed.budget, 600)
    resume_budget(redis, HERE, "okx", feed.budget)
    assert take_job(redis, HERE, ["okx", "okx-requested"]) is None, "a closure stays"
    assert take_job(redis, ["elsewhere"], ["okx"]) == ("okx", ratios[1]), "another address may be asked"


def test_a_waiting_window_that_is_requested_moves_to_the_front(system):
    redis = system.context().redis
    jobs = put(redis, "binance", "bin-ohlcv", 1, 2, 3)
    assert promote(redis, ["binance", "live"], [jobs[1], jobs[2], "bf-none_BTC_0_1"], "binance-requested") == 2
    requested = connect_queue(redis, "binance-requested")
    assert requested.get_job_ids() == [jobs[2], jobs[1]]
    assert requested.fetch_job(jobs[1]).origin == "binance-requested"
    assert enqueue_windows(redis, "binance", [Task(Series("bin-ohlcv", "BTC"), window_of(2))]) == 0


def test_a_chore_that_could_not_be_enqueued_is_tried_again_at_once(system):
    """Not only after its interval, which may be a day."""
    redis = system.context().redis
    keys = [f"rq:job:{chore.job_id}" for chore in CHORES]
    redis.config_resetstat()
    redis.config_set("min-replicas-to-write", 1)  # so Redis refuses to write, and answers what it is asked
    try:
        system.start("scheduler")
        until(lambda: redis.info("errorstats").get("errorstat_NOREPLICAS", {}).get("count", 0) >= 2, 30)
        assert redis.exists(*keys) == 0
    finally:
        redis.config_set("min-replicas-to-write", 0)
    until(lambda: redis.exists(*keys) == len(keys), 10)


def test_a_command_with_other_exchanges_leaves_what_is_computed_across_them(system):
    """One in a shell that names fewer made the sums of all exchanges those of a few, for every reader."""

    def codes():
        return sorted(system.query("SELECT code FROM perp_derived WHERE source = 'x-oi' AND is_followed"))

    system.environment["FADEMOE_EXCHANGES"] = "binance,okx"
    system.start("scheduler")
    until(lambda: codes() == [("bin",), ("okx",)], 30)
    for exchanges in ("binance", "binance,bybit,okx"):
        assert system.run("coverage", FADEMOE_EXCHANGES=exchanges).returncode == 0
        assert codes() == [("bin",), ("okx",)]


def test_a_new_database_is_computed_over_the_exchanges_of_who_made_it(system):
    system.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public; SELECT 1")
    assert system.run("migrate").returncode == 0
    assert system.query("SELECT code FROM perp_derived WHERE source = 'x-oi' AND is_followed") == [("bin",)]


@pytest.fixture
def limited(tmp_path, database_url, redis_url, request):
    """Programs against a simulator that enforces its limits; it has no holes, unless other options are given."""
    simulator = Simulator(*getattr(request, "param", ["--no-holes"]))
    simulator.start()
    running = System(tmp_path, database_url, redis_url, simulator)
    for name in NAMES:
        running.environment[f"FADEMOE_{name.upper()}_REST_URL"] = simulator.url
    running.environment |= {"FADEMOE_EXCHANGES": ",".join(NAMES), "FADEMOE_COINALYZE_KEY": "demo"}
    yield running
    running.stop()
    simulator.stop()


def want(services, name, days):
    """Want histories of an exchange as the system does, and enqueue them; return how many windows that are."""
    exchange = registry.load_exchanges()[name]
    contracts = instruments.ensure(exchange, services.rest, services.database)
    until_ms = settled_end(DAY_MS)
    with services.database.open_transaction() as cursor:
        for code, by_symbol in contracts.items():
            series = [
                Series(f"{code}-{feed.metric}", symbol)
                for symbol in SYMBOLS
                for feed in exchange.rest_feeds
                if symbol in by_symbol and feed.serves(by_symbol[symbol])
            ]
            coverage.want(cursor, series, until_ms - days * DAY_MS, until_ms)
    return reconcile.enqueue_planned(services.redis, reconcile.plan_missing(services, exchange)[0])


@pytest.mark.long
@pytest.mark.waits(30)
def test_a_requested_seed_begins_within_seconds_whatever_is_queued(limited):
    services = limited.context()
    for name in NAMES:
        assert want(services, name, 60) > 20
    for _ in range(2):
        limited.start("worker")
    redis = services.redis

    def are_busy():
        return sum(list(read_job_states(redis, name).values()).count(RUNNING) for name in NAMES) >= 2

    until(are_busy, 30)
    time.sleep(5)
    binance = registry.load_exchanges()["binance"]
    request = SeedRequest(
        exchanges=[binance],
        metrics=["ohlcv"],
        symbols=["BNB", "TRX"],
        since_ms=settled_end(DAY_MS) - 5 * DAY_MS,
        until_ms=settled_end(DAY_MS),
    )
    plan = make_plan(services, request)
    begin_s = time.monotonic()
    assert carry_out(services, request, plan) == 2
    queue = get_requested_queue("binance")

    def has_begun():
        return RUNNING in read_job_states(redis, queue).values() or covered(limited, request)

    until(has_begun, 10)
    took_s = time.monotonic() - begin_s
    until(lambda: covered(limited, request), 60)
    assert took_s < 4
    services.close()


@pytest.mark.parametrize("was_cut_short", [False, True])
def test_a_run_that_waits_for_its_rate_limit_notices_requested_work(system, was_cut_short):
    """Also one that gives way to nothing else: it waited up to ten seconds for its units, and a person with it."""
    services = system.context()
    okx = registry.load_exchanges()["okx"]
    feed = okx.find_rest_feed("ohlcv")
    page = Page(instrument=BTC, start_ms=0, end_ms=HOUR_MS, limit=60)
    client = FeedClient(
        services=services,
        exchange=okx,
        queue="okx",
        deadline_s=math.inf,
        on_begin=lambda: None,
        gives_way=not was_cut_short,
        has_begun=True,
    )
    for name in services.egress_names:
        services.budgets.close(okx, [feed.budget], name, 8, "a test")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.get, feed, page)
        time.sleep(0.5)
        assert not answer.done()
        put(services.redis, "binance-requested", "bin-ohlcv", 1)
        with pytest.raises(TimeUp):
            answer.result(timeout=2)
    services.close()


@pytest.mark.long
@pytest.mark.waits(30)
@pytest.mark.parametrize("limited", [[]], indirect=True)
def test_what_is_fetched_is_stored_however_many_workers_share_a_rate_limit(limited):
    """Runs that gave way after their first page never got to the holes in it, and asked for the same page again."""
    limited.environment |= {"FADEMOE_EXCHANGES": "okx", "FADEMOE_LIMIT_SHARE": "okx=0.5"}  # 5 pages a second
    services = limited.context()
    want(services, "okx", 20)  # work of the system, beside the requested
    window = Window(settled_end(DAY_MS) - 20 * DAY_MS, settled_end(DAY_MS))
    tasks = [Task(Series("okx-ohlcv", symbol), part) for symbol in MORE_SYMBOLS for part in split(window, 10 * DAY_MS)]
    assert enqueue_windows(services.redis, "okx-requested", tasks) == len(tasks)
    for _ in range(8):
        limited.start("worker")
    path = "/api/v5/market/history-candles"
    until(lambda: limited.simulator.get("/sim/stats")["okx"]["paths"].get(path, 0) >= 150, 60)
    requests = limited.simulator.get("/sim/stats")["okx"]["paths"][path]
    limited.stop()
    (rows,) = limited.query("SELECT count(*) FROM perp_data WHERE source = 'okx-ohlcv'")[0]
    assert rows > 200 * requests  # a page has 300
    services.close()


def covered(system, request):
    return system.covers("bin-ohlcv", request.symbols, request.since_ms, request.until_ms)


@pytest.mark.long
def test_a_closed_exchange_costs_its_workers_nothing(limited):
    """Windows of an exchange that is closed stay queued, and the others are fetched at full speed."""
    services = limited.context()
    for budget in registry.load_exchanges()["okx"].budgets:
        pause_budget(services.redis, services.egress_names, "okx", budget.name, 300)
    assert want(services, "okx", 60) > 50
    waiting = sorted(connect_queue(services.redis, "okx").get_job_ids())
    requests = limited.simulator.get("/sim/stats")["okx"]["requests"]
    assert want(services, "binance", 3) >= len(SYMBOLS)
    limited.start("worker")
    days = Window(settled_end(DAY_MS) - 3 * DAY_MS, settled_end(DAY_MS))
    until(lambda: limited.covers("bin-ohlcv", SYMBOLS, *days), 40)
    assert sorted(connect_queue(services.redis, "okx").get_job_ids()) == waiting
    assert limited.simulator.get("/sim/stats")["okx"]["requests"] == requests
    assert limited.query("SELECT count(*) FROM perp_status WHERE source LIKE 'okx-%%'") == [(0,)]
    services.close()


@pytest.mark.long
@pytest.mark.waits(25)
def test_an_exchange_in_maintenance_is_not_hammered_by_what_is_queued(limited):
    """The fault: every window was sent every five seconds, and each left an error."""
    services = limited.context()
    count = want(services, "okx", 60) + want(services, "binance", 3)
    assert count > 80
    limited.simulator.fault(exchange="okx", kind="error_503")
    for program in (("worker",), ("worker",), ("scheduler",)):
        limited.start(*program)
    days = Window(settled_end(DAY_MS) - 3 * DAY_MS, settled_end(DAY_MS))
    until(lambda: limited.covers("bin-ohlcv", SYMBOLS, *days), 40)
    time.sleep(15)
    refused = limited.simulator.get("/sim/stats")["okx"]["faults"]["error_503"]
    errors = limited.query("SELECT count(*) FROM perp_errors WHERE exchange = 'okx'")[0][0]
    assert 3 <= refused < 40 and errors < 40, (refused, errors)
    limited.simulator.clear()
    rows = "SELECT count(*) FROM perp_data WHERE source LIKE 'okx-%%'"
    until(lambda: limited.query(rows)[0][0], 90)
    services.close()
