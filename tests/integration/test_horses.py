"""Work horses: one takes many jobs, none outlives its worker, and a job is given back whenever a stop comes."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from fademoe.clock import DAY_MS, HOUR_MS, Window, split
from fademoe.queue.chores import CHORES, Chore, enqueue_chore
from fademoe.queue.enqueue import enqueue_windows
from fademoe.queue.ids import UPKEEP, Task, list_window_queues
from fademoe.queue.states import RUNNING, list_failed_jobs, read_job_states
from fademoe.store.coverage import Series
from fademoe.worker import worker
from fademoe.worker.horse import DONE, HandedOver, Horse
from tests.support.clocks import settled_end, until

BTC = Series("bin-ohlcv", "BTC")
SLOW_FORK = """
import os, sys, time
from pathlib import Path
fork = os.fork

def fork_slowly():
    pid = fork()
    if pid == 0:
        Path(os.environ["FORKED"]).touch()
        time.sleep(1)  # as on a host that is busy with other programs
    return pid

os.fork = fork_slowly
from fademoe.cli.main import main
main()
"""

PATIENT = """
from fademoe.cli.main import main
from fademoe.worker import worker
worker.HORSE_IDLE_S = 600.0  # so that no work horse ends while the test is held up
main()
"""

DEAF = """
import os, signal
from fademoe.cli.main import main
from fademoe.queue import dequeue
take_job = dequeue.take_job

def take_none(*args):
    dequeue.take_job = take_job
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Exception:  # as where the signal meets a destructor
        pass

dequeue.take_job = take_none
main()
"""


@pytest.fixture
def redis(system):
    system.environment["FADEMOE_SYMBOLS"] = "NOPE"  # so nothing is followed: only what is enqueued is asked for
    return system.context().redis


def enqueue(redis, window, size_ms=HOUR_MS):
    tasks = [Task(BTC, part) for part in split(window, size_ms)]
    assert enqueue_windows(redis, "binance", tasks) == len(tasks)


def list_horses(program):
    return {child.pid for child in psutil.Process(program.pid).children()}


@pytest.mark.parametrize("kind", [(), ("--research",)])
def test_an_idle_worker_stops_where_the_exception_of_the_signal_is_lost(system, redis, kind):
    environment = {**os.environ, **system.environment}
    program = subprocess.Popen([sys.executable, "-c", DEAF, "worker", *kind], env=environment)
    try:
        assert program.wait(30) == 0
    finally:
        program.kill()
        program.wait()


def test_a_work_horse_takes_many_jobs_and_ends_when_there_are_no_more(system, redis):
    end_ms = settled_end(DAY_MS)
    window, seen = Window(end_ms - DAY_MS, end_ms), set()
    enqueue(redis, window)
    program = system.start("worker")

    def is_done():
        seen.update(list_horses(program))
        return system.covers("bin-ohlcv", ["BTC"], *window)

    until(is_done, 60)
    assert len(seen) == 1, "24 jobs"
    until(lambda: not list_horses(program), 5 * worker.HORSE_IDLE_S)
    assert system.differences("binance", "bin-ohlcv", "BTC", *window) == []


def test_a_work_horse_that_dies_while_it_has_no_job_costs_none(system, redis):
    end_ms = settled_end(DAY_MS)
    program = system.start("worker")
    killed = 0
    for window in split(Window(end_ms - 5 * HOUR_MS, end_ms), HOUR_MS):
        enqueue(redis, window)
        until(lambda: system.covers("bin-ohlcv", ["BTC"], *window), 30)  # noqa: B023
        until(lambda: not read_job_states(redis, "binance"), 10)
        for pid in list_horses(program):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    assert killed >= 3
    assert list_failed_jobs(redis, list_window_queues("binance")) == []
    assert program.poll() is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_chore_whose_work_horse_is_killed_or_stopped_runs_again(system, redis, simulator, number):
    """Some are due once a day only, as the search for contracts that only an archive knows."""
    simulator.fault(exchange="binance", path="/fapi/v1/exchangeInfo", kind="stall", seconds=25)
    (chore,) = (each for each in CHORES if each.function.endswith(".refresh_instruments"))
    enqueue_chore(redis, chore)
    program = system.start("worker", "--live")
    until(lambda: read_job_states(redis, UPKEEP).get(chore.job_id) == RUNNING and list_horses(program), 30)
    time.sleep(1)
    simulator.clear()
    for pid in list_horses(program):
        os.kill(pid, number)
    until(lambda: chore.job_id not in read_job_states(redis, UPKEEP), 30)
    assert system.query("SELECT count(*) > 0 FROM perp_lives") == [(True,)]


def test_a_chore_that_raises_runs_once(system, redis, capfd):
    chore = Chore(function="fademoe.jobs.terms.refresh_terms", every_s=3600, arguments=("nowhere",))
    enqueue_chore(redis, chore)
    system.start("worker", "--live")
    until(lambda: chore.job_id not in read_job_states(redis, UPKEEP), 30)
    time.sleep(1)
    assert capfd.readouterr().err.count("KeyError: 'nowhere'") == 1


def test_a_job_ends_although_an_earlier_run_of_it_was_lost(system, redis):
    """rq could not delete it, made it again twenty times within two seconds, and paused it for a day."""
    end_ms = settled_end(DAY_MS)
    window = Window(end_ms - HOUR_MS, end_ms)
    redis.zadd(f"rq:executions:{Task(BTC, window).job_id}", {"lost": time.time() + 60})
    enqueue(redis, window)
    system.start("worker")
    until(lambda: system.covers("bin-ohlcv", ["BTC"], *window), 60)
    until(lambda: not read_job_states(redis, "binance"), 10)
    assert not list(redis.scan_iter("rq:*bf-bin-ohlcv_BTC*"))


def hold_hand_over(system, redis, program, first, handed_over):
    """Let a work horse do one window, hold it still, and hand it the next; return its pid."""
    enqueue(redis, first)
    until(lambda: system.covers("bin-ohlcv", ["BTC"], *first), 30)
    until(lambda: not read_job_states(redis, "binance"), 10)
    (pid,) = list_horses(program)
    os.kill(pid, signal.SIGSTOP)
    enqueue(redis, handed_over)
    until(lambda: RUNNING in read_job_states(redis, "binance").values(), 10)
    return pid


def test_a_work_horse_goes_on_when_a_flush_takes_the_job_that_is_handed_over(system, redis):
    end_ms = settled_end(DAY_MS)
    first, lost, window = split(Window(end_ms - 3 * HOUR_MS, end_ms), HOUR_MS)
    program = subprocess.Popen([sys.executable, "-c", PATIENT, "worker"], env={**os.environ, **system.environment})
    try:
        pid = hold_hand_over(system, redis, program, first, lost)
        redis.delete(f"rq:job:{Task(BTC, lost).job_id}")
        os.kill(pid, signal.SIGCONT)
        enqueue(redis, window)
        until(lambda: system.covers("bin-ohlcv", ["BTC"], *window), 30)
        assert list_horses(program) == {pid}
        program.terminate()
        assert program.wait(20) == 0
    finally:
        program.kill()


def test_a_job_whose_work_horse_dies_as_it_is_handed_over_is_in_one_place(system, redis):
    """It stayed among the taken ones beside the queue, where it was started from a second time."""
    end_ms = settled_end(DAY_MS)
    first, window = split(Window(end_ms - 2 * HOUR_MS, end_ms), HOUR_MS)
    program = subprocess.Popen([sys.executable, "-c", PATIENT, "worker"], env={**os.environ, **system.environment})
    try:
        pid = hold_hand_over(system, redis, program, first, window)
        os.kill(pid, signal.SIGKILL)
        until(lambda: system.covers("bin-ohlcv", ["BTC"], *window), 30)
        until(lambda: not read_job_states(redis, "binance"), 10)
        program.terminate()
        assert program.wait(20) == 0
    finally:
        program.kill()
        program.wait()


def test_a_stop_reaches_a_work_horse_that_has_not_begun(system, redis, simulator, tmp_path):
    """It took the handler of its worker with it, which did nothing there: the job went on to its end."""
    simulator.fault(exchange="binance", path="/fapi/v1/klines", kind="stall", seconds=25)
    end_ms = settled_end(DAY_MS)
    enqueue(redis, Window(end_ms - HOUR_MS, end_ms))
    forked = tmp_path / "forked"
    environment = {**os.environ, **system.environment, "FORKED": str(forked)}
    program = subprocess.Popen([sys.executable, "-c", SLOW_FORK, "worker"], env=environment)
    try:
        until(forked.exists, 30)
        time.sleep(0.3)
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0
    finally:
        program.kill()
    assert list(read_job_states(redis, "binance").values()) == ["queued"]
    assert list_failed_jobs(redis, list_window_queues("binance")) == []


def test_a_work_horse_that_is_killed_before_it_takes_its_job_has_ended():
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        theirs.sendall(DONE)
        signal.pause()
        os._exit(0)
    theirs.close()
    horse = Horse(ours, pid)
    assert horse.wait_until_done()
    os.kill(pid, signal.SIGSTOP)
    assert horse.hand_over(HandedOver("job", "binance", "execution"))
    os.kill(pid, signal.SIGKILL)
    assert not horse.wait_until_done()
    horse.end()
    assert not psutil.pid_exists(pid)


def test_memory_that_a_job_has_freed_goes_back_to_the_system():
    """What is still in use at its end kept the rest from it, and each job added to what the one before had left."""
    blocks = [bytes(700) for _ in range(100_000)]
    in_use = blocks[-1]
    del blocks
    before = worker.read_memory_bytes()
    worker.release_memory()
    assert before - worker.read_memory_bytes() > 50_000_000
    assert in_use
