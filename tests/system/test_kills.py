"""kill -9 of each program in turn: supervisord brings it back, nothing is stored twice, nothing is lost."""

import time

import pytest

from fademoe.clock import HOUR_MS, MINUTE_MS, floor_to, now_ms
from tests.integration.conftest import Simulator, until
from tests.system.conftest import Installation

SYMBOLS = ["BTC", "ETH", "PEPE"]


@pytest.mark.waits
def test_every_program_comes_back_and_nothing_is_lost(folder):
    simulator = Simulator()
    simulator.start()
    system = Installation(folder, simulator, SYMBOLS, workers=2)
    try:
        system.up()
        begin_ms = floor_to(now_ms(), MINUTE_MS)
        start_ms = begin_ms - 50 * HOUR_MS
        seeded = system.run("seed", "--since", str(start_ms), "--metrics", "ohlcv", "--exchanges", "binance")
        assert seeded.returncode == 0, seeded.stderr
        victims = [*system.pids(), "horse"]
        before = system.pids()
        for name in victims:
            system.kill(name)
            time.sleep(2)
        until(lambda: all(program.is_fine for program in system.supervisord.programs()), 60)
        after = system.pids()
        assert {name for name in before if after[name] != before[name]} == set(before)
        end_ms = floor_to(now_ms(), MINUTE_MS) + MINUTE_MS  # the streams bring the minute that is open now
        until(system.answers, 20)
        until(lambda: is_covered(system, start_ms, end_ms), 240)
        for symbol in SYMBOLS:
            assert system.differences("binance", "bin-ohlcv", symbol, start_ms, end_ms) == []
        assert simulator.get("/sim/stats")["binance"]["refusals"] == {}
    finally:
        system.down()
        simulator.stop()


def is_covered(system, start_ms, end_ms):
    return system.query(
        "SELECT count(*) = %s FROM perp_coverage WHERE source = 'bin-ohlcv' AND symbol = ANY(%s)"
        " AND covered @> int8multirange(int8range(%s, %s))",
        len(SYMBOLS),
        SYMBOLS,
        start_ms,
        end_ms,
    )[0][0]
