"""`seed --wait` goes on for as long as a job will be tried again soon, and no longer."""

import threading
import time

import pytest

from fademoe.cli import progress
from fademoe.clock import HOUR_MS, Window
from fademoe.feeds import registry
from fademoe.queue.enqueue import enqueue_windows
from fademoe.queue.ids import Task
from fademoe.queue.states import connect_queue
from fademoe.store.coverage import Series
from tests.support.clocks import settled_end, until

KLINES = "/fapi/v1/klines"
SERIES = Series("bin-ohlcv", "ETH")
STALL_S = 2.0  # here; 180 s otherwise


@pytest.fixture
def services(system):
    services = system.context()
    yield services
    services.close()


@pytest.fixture
def window():
    end_ms = settled_end(HOUR_MS)
    return Window(end_ms - 2 * HOUR_MS, end_ms)


def begin_wait(services, window, monkeypatch):
    """Wait for the window in a thread; return the thread and the list that gets what it returns."""
    monkeypatch.setattr(progress, "STALL_TIMEOUT_S", STALL_S)
    found: list[bool] = []
    chosen = [registry.load_exchanges()["binance"]]
    waiting = threading.Thread(
        target=lambda: found.append(progress.wait_until_covered(services, {SERIES: window}, chosen)),
        daemon=True,  # it may wait for ever
    )
    waiting.start()
    return waiting, found


def make_due_in(services, job_id, delay_s):
    services.redis.zadd("rq:scheduled:binance", {job_id: time.time() + delay_s})


@pytest.mark.parametrize("delay_s", [600, 2 * 3600])
def test_a_job_that_is_tried_again_soon_is_waited_for(system, simulator, services, window, monkeypatch, delay_s, capfd):
    simulator.fault(exchange="binance", path=KLINES, symbol="ETHUSDT", kind="empty_list")
    system.start("worker")
    task = Task(SERIES, window)
    enqueue_windows(services.redis, "binance", [task])
    until(lambda: connect_queue(services.redis, "binance").scheduled_job_registry.get_job_ids(), 30)
    make_due_in(services, task.job_id, delay_s)
    waiting, found = begin_wait(services, window, monkeypatch)
    waiting.join(4 * STALL_S)
    is_soon = delay_s <= progress.LONGEST_WAIT_S
    assert waiting.is_alive() == is_soon
    if not is_soon:
        assert found == [False]
        return
    assert "1 waiting for its next attempt" in capfd.readouterr().err
    simulator.clear()
    job = connect_queue(services.redis, "binance").fetch_job(task.job_id)
    job.meta.clear()  # of the empty answer, which would not be requested again so soon
    job.save_meta()
    make_due_in(services, task.job_id, 0)
    system.start("scheduler")
    waiting.join(60)
    assert found == [True]


def test_without_a_worker_nothing_is_waited_for(services, window, monkeypatch, capfd):
    enqueue_windows(services.redis, "binance", [Task(SERIES, window)])
    waiting, found = begin_wait(services, window, monkeypatch)
    waiting.join(60)
    assert found == [False]
    assert "no worker runs; 1 queued" in capfd.readouterr().err
