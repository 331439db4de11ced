"""SIGTERM while a job of upkeep or of the archives waits for an answer that stalls."""

import os
import signal
import threading
import time

import pytest
from rq import Retry

from fademoe.feeds import registry
from fademoe.jobs import maintenance, reconcile
from fademoe.jobs.dead import find_dead
from fademoe.runtime.job_context import use_services
from fademoe.signals import Stopped
from tests.support.clocks import until

STALL_S = 20.0
CLOCK = "/fapi/v1/time"
FILE = "data/futures/um/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-10.zip"


def get_archive():
    return registry.load_exchanges()["binance"].archive


CALLS = {
    "reconcile": (CLOCK, lambda services: reconcile.reconcile()),
    "instruments": ("/fapi/v1/exchangeInfo", lambda services: maintenance.refresh_instruments()),
    "retention": (CLOCK, maintenance.drop_expired),
    "lives": ("/fapi/v1/exchangeInfo", lambda services: find_dead("binance")),
    "file": (None, lambda services: services.archive_client.fetch(get_archive(), FILE)),
    "listing": (None, lambda services: services.archive_client.list_page(get_archive(), FILE.rpartition("/")[0])),
}

JOBS = ("reconcile", "instruments", "lives")


@pytest.fixture
def services(system, simulator):
    system.environment |= {
        "FADEMOE_EXCHANGES": "binance",
        "FADEMOE_ARCHIVES": "binance:cc-by-nc-sa",
        "FADEMOE_BINANCE_ARCHIVE_URL": simulator.url,
        "FADEMOE_BINANCE_ARCHIVE_LIST_URL": f"{simulator.url}/data.binance.vision",
    }
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    services = system.context()
    services.stop.install()
    use_services(services)
    yield services
    services.close()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", CALLS)
def test_a_stop_does_not_wait_for_an_answer(services, simulator, name):
    """It was noticed after up to 30 s for each exchange, and supervisord had killed the worker before."""
    path, call = CALLS[name]

    def count_stalled():
        return sum(each["faults"].get("stall", 0) for each in simulator.get("/sim/stats").values() if "faults" in each)

    before, stopped_s = count_stalled(), []

    def stop_when_stalled():
        until(lambda: count_stalled() > before, 15)
        stopped_s.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    simulator.fault(kind="stall", seconds=STALL_S, **({"path": path} if path else {}))
    killer = threading.Thread(target=stop_when_stalled)
    killer.start()
    if name in JOBS:
        assert isinstance(call(services), Retry), "the job is given back"
    else:
        with pytest.raises(Stopped):
            call(services)
    assert time.monotonic() - stopped_s[0] < 3
    killer.join()
    simulator.clear()
