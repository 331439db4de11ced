"""Whole runs with faults, clocks and outages, minutes long: `pytest -m full`."""

import time
from pathlib import Path

import pytest

from fademoe.client import instruments
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.jobs import reconcile
from fademoe.queue.enqueue import enqueue_windows
from fademoe.queue.ids import Task, list_exchange_queues
from fademoe.queue.states import FAILED, connect_queue, read_job_states
from fademoe.store import coverage
from fademoe.store.coverage import Series
from tests.conftest import run_redis
from tests.support.clocks import fast_clock, settled_end, sleep_until, until
from tests.support.simulator import Simulator
from tests.support.system import System

pytestmark = [pytest.mark.full, pytest.mark.waits(600)]

SYMBOLS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "LINK", "LTC")
CODES = {"binance": "bin", "bybit": "byb", "okx": "okx", "coinalyze": "c-bin"}
KEPT_DAYS = {"coinalyze": 0.5}  # of minutes, whatever the time of day
# the library for a clock of its own of one process: apt install faketime
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
STEPS_MS = (10 * MINUTE_MS, -10 * MINUTE_MS, DAY_MS, -DAY_MS, 0)
NOT_THE_APIS = ("html_200", "empty_200", "string_200", "garbled_200", "html_502")
ODD_ROWS = ("nan", "blank", "null", "null_row", "negative_volume", "low_above_open", "missing_field", "duplicate_row")


@pytest.fixture
def build(tmp_path, database_url, redis_url):
    """Return a function that builds a system of exchanges over a simulator with options."""
    started = []

    def start(*options, exchanges, holes=False, **environment):
        simulator = Simulator(*([] if holes else ["--no-holes"]), *options)
        simulator.start()
        system = System(tmp_path, database_url, redis_url, simulator)
        started.append(system)
        for name in exchanges:
            system.environment[f"FADEMOE_{name.upper()}_REST_URL"] = simulator.url
        system.environment |= {
            "FADEMOE_EXCHANGES": ",".join(exchanges),
            "FADEMOE_COINALYZE_KEY": "demo",
            "FADEMOE_SYMBOLS": ",".join(SYMBOLS),
            **environment,
        }
        return system

    yield start
    for system in started:
        system.stop()
        system.simulator.stop()


def want(services, name, days, symbols=SYMBOLS, metrics=("ohlcv",)):
    """Want histories of an exchange up to today, and enqueue them; return how many windows that are."""
    exchange = registry.load_exchanges()[name]
    instruments.ensure(exchange, services.rest, services.database)
    until_ms = settled_end(DAY_MS)
    series = [Series(f"{CODES[name]}-{metric}", symbol) for metric in metrics for symbol in symbols]
    with services.database.open_transaction() as cursor:
        coverage.want(cursor, series, until_ms - days * DAY_MS, until_ms)
    return reconcile.enqueue_planned(services.redis, reconcile.plan_missing(services, exchange)[0])


def count_failed(services, exchanges):
    states = [read_job_states(services.redis, queue) for queue in list_exchange_queues(*exchanges)]
    return sum(list(each.values()).count(FAILED) for each in states)


def count_candles(system):
    """Return how many candles of each exchange are stored."""
    found = dict(system.query("SELECT source, count(*) FROM perp_data WHERE source LIKE '%%-ohlcv' GROUP BY 1"))
    return {name: found.get(f"{code}-ohlcv", 0) for name, code in CODES.items()}


def measure_use(system, services, *names):
    """Return the requests of each exchange in two minutes of its clock, and the candles that a request brought."""
    begin, stored = system.simulator.get("/sim/stats"), count_candles(system)
    for name in names:
        want(services, name, 600 if name != "coinalyze" else 1)  # more than all measurements take
    workers = [system.start("worker") for _ in range(8)]
    programs = [*workers, system.start("scheduler")] if "coinalyze" in names else workers
    time.sleep(10)
    time.sleep((floor_to(now_ms(), MINUTE_MS) + MINUTE_MS - now_ms()) / 1000)
    before = system.simulator.get("/sim/stats")
    time.sleep(120)
    after = system.simulator.get("/sim/stats")
    for program in programs:
        program.terminate()
    for program in programs:
        program.wait(60)
        system.programs.remove(program)
    for queue in list_exchange_queues(*names):
        connect_queue(services.redis, queue).empty()
    end, candles = system.simulator.get("/sim/stats"), count_candles(system)
    requests = {name: after[name]["requests"] - before[name]["requests"] for name in names}
    effects = {
        name: (candles[name] - stored[name]) / (end[name]["requests"] - begin[name]["requests"]) for name in names
    }
    print(requests, effects)  # noqa: T201 - the figures of a run
    return requests, effects


def test_two_busy_exchanges_lose_nothing_beside_one_that_waits(build):
    """Two saturated exchanges beside a waiting third use at least 0.95 of what each uses alone, to as much effect."""
    system = build("--latency-ms", "80", exchanges=("binance", "okx", "coinalyze"), holes=True)
    services = system.context()
    alone = [measure_use(system, services, name) for name in ("binance", "okx")]
    together = measure_use(system, services, "binance", "okx", "coinalyze")
    services.close()
    for requests, effects in alone:
        for name in requests:
            assert together[0][name] >= 0.95 * requests[name]
            assert together[1][name] >= 0.9 * effects[name]


def test_an_exchange_that_is_down_costs_a_busy_one_nothing(build):
    """Beside 2,000 windows of an exchange that answers 503 another one is fetched at 0.95 of its speed at least."""
    system = build("--latency-ms", "80", exchanges=("binance", "okx"), holes=True)
    services = system.context()
    alone, _ = measure_use(system, services, "binance")
    okx = registry.load_exchanges()["okx"]
    instruments.ensure(okx, services.rest, services.database)
    end_ms = settled_end(DAY_MS)
    hours = [Window(at, at + HOUR_MS) for at in range(end_ms - 2000 * HOUR_MS, end_ms, HOUR_MS)]
    assert enqueue_windows(services.redis, "okx", [Task(Series("okx-ohlcv", "BTC"), hour) for hour in hours]) == 2000
    system.simulator.fault(exchange="okx", kind="error_503")
    beside, _ = measure_use(system, services, "binance")
    services.close()
    assert beside["binance"] >= 0.95 * alone["binance"]


@pytest.mark.parametrize("names", [("binance", "bybit"), ("okx", "coinalyze")], ids="-".join)
def test_a_seed_with_odd_rows_and_answers_is_complete(build, names):
    """One odd row per 10,000, one odd contract per list, 5 % of answers that are not the API's: no window rests."""
    symbols = SYMBOLS[1:]  # the first contract of the lists is the odd one
    system = build("--no-limits", exchanges=names)
    services = system.context()
    for kind in NOT_THE_APIS:
        system.simulator.fault(kind=kind, probability=0.05 / len(NOT_THE_APIS))
    for kind in ODD_ROWS:  # a page has some 500 rows
        system.simulator.fault(kind=kind, probability=0.05 / len(ODD_ROWS))
    for name in names:
        path = registry.load_exchanges()[name].instruments.path
        system.simulator.fault(kind="odd_contract", exchange=name, path=path)
    for command in (("worker",), ("worker",), ("worker", "--live"), ("scheduler",)):
        system.start(*command)
    until(lambda: all(_try(want, services, name, 30, symbols) is not None for name in names), 120)
    end_ms = settled_end(DAY_MS)
    window = Window(end_ms - 30 * DAY_MS, end_ms)
    begin_s = time.monotonic()
    until(lambda: all(system.covers(f"{CODES[name]}-ohlcv", symbols, *window) for name in names), 200)
    print(f"complete after {time.monotonic() - begin_s:.0f} s")  # noqa: T201 - the figures of a run
    assert count_failed(services, names) == 0
    messages = [message for (message,) in system.query("SELECT message FROM perp_errors")]
    assert any("element 0 is unreadable" in message for message in messages), "the odd contract is named"
    assert sum("is unreadable" in message or "differ" in message for message in messages) > 20, "odd rows are named"
    system.simulator.clear()
    for name in names:
        for symbol in symbols:
            start_ms = end_ms - int(KEPT_DAYS.get(name, 30) * DAY_MS)
            assert system.differences(name, f"{CODES[name]}-ohlcv", symbol, start_ms, end_ms) == []
    assert system.query("SELECT count(*) FROM perp_absence WHERE reason = 'the exchange has no row'") == [(0,)]
    services.close()


def test_an_exchange_that_is_down_for_an_hour_is_left_alone(build):
    """503 for an hour with 2,000 windows queued: few requests, few errors, others at full speed, then all complete."""
    with fast_clock(20) as clock:
        system = build("--clock", clock, exchanges=("okx", "binance"), FADEMOE_CLOCK=clock)
        services = system.context()
        okx = registry.load_exchanges()["okx"]
        instruments.ensure(okx, services.rest, services.database)
        end_ms = settled_end(DAY_MS)
        hours = [Window(at, at + HOUR_MS) for at in range(end_ms - 2000 * HOUR_MS // len(SYMBOLS), end_ms, HOUR_MS)]
        tasks = [Task(Series("okx-ohlcv", symbol), hour) for symbol in SYMBOLS for hour in hours]
        assert enqueue_windows(services.redis, "okx", tasks) == 2000
        system.simulator.fault(exchange="okx", kind="error_503")
        asked = system.simulator.get("/sim/stats")["okx"]["requests"]
        began_ms = now_ms()
        assert want(services, "binance", 10) >= len(SYMBOLS)
        for command in (("worker",), ("worker",), ("worker", "--live"), ("scheduler",)):
            system.start(*command)
        days = Window(end_ms - 10 * DAY_MS, end_ms)
        until(lambda: system.covers("bin-ohlcv", SYMBOLS, *days), 120)
        print(f"binance complete after {(now_ms() - began_ms) / 60_000:.0f} minutes")  # noqa: T201 - figures of a run
        sleep_until(began_ms + HOUR_MS)
        sent = system.simulator.get("/sim/stats")["okx"]["requests"] - asked
        errors = system.query("SELECT count(*) FROM perp_errors WHERE exchange = 'okx'")[0][0]
        print(f"{sent} requests, {errors} rows of errors")  # noqa: T201 - figures of a run
        assert sent < 100
        assert errors < 50
        system.simulator.clear()
        back_s = time.monotonic()
        until(lambda: system.covers("okx-ohlcv", SYMBOLS, hours[0].start_ms, end_ms), 300)
        assert time.monotonic() - back_s < 600, "ten minutes of this host: it has to run 2,000 jobs"
        print(f"complete {time.monotonic() - back_s:.0f} host seconds after its return")  # noqa: T201 - figures of a run
        services.close()


def watch_steps(system, exchange, set_clock):
    """Set a clock by each step; assert that requests and rows go on within a minute, and that none is refused.

    Of Coinalyze requests alone count: it does not tell its time, so samples of its tomorrow are refused.
    """
    needed = {"rows": 2000, "requests": 20} if exchange != "coinalyze" else {"rows": 0, "requests": 5}

    def count():
        requests = sum(system.simulator.get("/sim/stats")[exchange]["paths"].values())
        return {"rows": system.query("SELECT count(*) FROM perp_data")[0][0], "requests": requests}

    until(lambda: count()["rows"] > needed["rows"], 60)
    least = count()["rows"]
    for ahead_ms in STEPS_MS:
        set_clock(ahead_ms)
        before, begin_s = count(), time.monotonic()
        until(lambda before=before: count()["requests"] >= before["requests"] + needed["requests"], 60)
        requests_s = time.monotonic() - begin_s
        until(lambda before=before: count()["rows"] >= before["rows"] + needed["rows"], 120)
        rows_s = time.monotonic() - begin_s
        print(f"{exchange} {ahead_ms} ms: requests after {requests_s:.0f} s, rows {rows_s:.0f} s")  # noqa: T201
        assert requests_s < 60
        time.sleep(10)
        assert count()["rows"] >= least, "nothing is deleted"
        least = count()["rows"]
    assert system.simulator.get("/sim/stats")[exchange]["refusals"] == {}
    stored = {symbol for (symbol,) in system.query("SELECT symbol FROM perp_metadata WHERE delisted_ms IS NULL")}
    assert set(SYMBOLS) <= stored


DAYS = 390  # of minutes: more than two workers store in all steps of a clock
PROGRAMS = (("worker",), ("worker",), ("worker", "--live"), ("scheduler",))


@pytest.mark.parametrize("exchange", ["binance", "bybit", "okx", "coinalyze"])
def test_a_step_of_the_exchanges_clock_stops_nothing(build, exchange):
    """Set ahead and back by ten minutes and a day: nothing is refused, REST goes on within a minute, nothing goes."""
    system = build("--latency-ms", "80", exchanges=(exchange,), FADEMOE_RETENTION_DAYS="400")
    services = system.context()
    want(services, exchange, DAYS if exchange != "coinalyze" else 1)
    for command in PROGRAMS:
        system.start(*command)
    watch_steps(system, exchange, system.simulator.set_clock)
    services.close()


@pytest.fixture
def fake_clock(folder):
    """Return environment variables that give a process a clock of its own, and a function that steps that clock."""
    assert Path(FAKETIME).exists(), "apt install faketime"
    file = folder / "offset"  # which the user of the servers can read
    file.write_text("+0s")
    # libfaketime 0.9.10 cannot sleep until a time of the monotonic clock, which is how Python sleeps
    slept = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"
    folder.joinpath("sitecustomize.py").write_text(slept)
    environment = {
        "PYTHONPATH": str(folder),
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

    def step(ahead_ms):
        written = file.with_suffix(".new")
        written.write_text(f"{ahead_ms // 1000:+d}s")
        written.chmod(0o644)
        written.replace(file)

    return environment, step


@pytest.mark.parametrize("exchange", ["binance", "bybit", "okx", "coinalyze"])
def test_a_step_of_the_workers_clock_stops_nothing(build, fake_clock, exchange):
    """The host of workers and scheduler is set, not that of the exchange."""
    environment, step = fake_clock
    system = build("--latency-ms", "80", exchanges=(exchange,), FADEMOE_RETENTION_DAYS="400")
    services = system.context()
    want(services, exchange, DAYS if exchange != "coinalyze" else 1)
    system.environment |= environment
    for command in PROGRAMS:
        system.start(*command)
    watch_steps(system, exchange, step)
    services.close()


@pytest.mark.parametrize("exchange", ["binance", "bybit", "okx", "coinalyze"])
def test_a_step_of_the_clock_of_redis_stops_nothing(build, fake_clock, folder, monkeypatch, exchange):
    """The host of Redis is set alone."""
    environment, step = fake_clock
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        server = run_redis(folder / "redis")
        url = server.__enter__()
    try:
        system = build("--latency-ms", "80", exchanges=(exchange,), FADEMOE_RETENTION_DAYS="400", FADEMOE_REDIS_URL=url)
        services = system.context()
        step(3_600_000)
        ahead_s = services.redis.time()[0] - time.time()
        assert ahead_s > 3_000, "Redis has a clock of its own"
        step(0)
        want(services, exchange, DAYS if exchange != "coinalyze" else 1)
        for command in PROGRAMS:
            system.start(*command)
        watch_steps(system, exchange, step)
        services.close()
        system.stop()
    finally:
        server.__exit__(None, None, None)


def _try(function, *arguments):
    """Return what a function returns, None when the exchange's answer was no good."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - of whatever kind: five answers in a hundred are bad
        print(error)  # noqa: T201
        return None
