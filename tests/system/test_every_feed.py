"""Every metric of every exchange, history and live, against the simulator's truth: 0 wrong, 0 missing, 0 extra."""

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, floor_to, now_ms
from tests.support.clocks import FAST, fast_clock, settled_end, until
from tests.support.installation import Installation
from tests.support.simulator import Simulator

SYMBOLS = ["BTC", "PEPE", "SHIB"]
HISTORY = {
    "binance": ("bin", ("ohlcv", "pfr", "mark", "fr", "oi", "lsr")),
    "bybit": ("byb", ("ohlcv", "pfr", "mark", "fr", "oi", "lsr")),
    "okx": ("okx", ("ohlcv", "pfr", "mark", "fr", "oi", "lsr")),
}
LIVE = {"binance": "bin", "bybit": "byb", "okx": "okx"}
LIVE_METRICS = ("ohlcv", "ppr", "mark", "lq")
NEWEST_MS = 20 * MINUTE_MS  # what may still come by the next poll


@pytest.mark.long
@pytest.mark.waits(60)
def test_every_cell_is_stored_exactly(folder):
    with fast_clock(FAST) as clock:
        simulator = Simulator("--no-limits", "--clock", clock)
        simulator.start()
        compare_every_cell(Installation(folder, simulator, SYMBOLS, workers=3).with_settings(FADEMOE_CLOCK=clock))


def compare_every_cell(system):
    try:
        system.up()
        until(lambda: system.streams() == set(LIVE), 60)
        live_ms = floor_to(now_ms(), MINUTE_MS) + MINUTE_MS
        since_ms = settled_end(HOUR_MS) - DAY_MS
        seeded = system.run("seed", "--since", str(since_ms), "--exchanges", "binance,bybit,okx", "--wait")
        assert seeded.returncode == 0, seeded.stdout + seeded.stderr
        for exchange, (code, metrics) in HISTORY.items():
            for metric in metrics:
                for symbol in SYMBOLS:
                    window = (since_ms + (12 * HOUR_MS if metric == "fr" else 0), live_ms - NEWEST_MS)
                    found = system.differences(exchange, f"{code}-{metric}", symbol, *window)
                    assert found == [], f"{exchange} {metric} {symbol}"
        assert_units_agree(system, live_ms - NEWEST_MS)
        for exchange, code in LIVE.items():
            sources = [f"{code}-{metric}" for metric in LIVE_METRICS]
            minute_ms = system.wait_for_minutes(sources, SYMBOLS)
            for metric, source in zip(LIVE_METRICS, sources, strict=True):
                for symbol in SYMBOLS:
                    found = system.differences(exchange, source, symbol, minute_ms, minute_ms + MINUTE_MS)
                    assert found == [], f"{exchange} live {metric} {symbol}"
        assert system.query("SELECT DISTINCT unit, message FROM perp_errors") == []
    finally:
        system.down()
        system.simulator.stop()


def assert_units_agree(system, at_ms):
    """Prices are per coin and volumes in coins: a coin costs the same everywhere, give or take a spread."""
    for symbol in SYMBOLS:
        prices = system.query(
            "SELECT avg(c), avg(v), avg(qv / nullif(v, 0)) FROM perp_data WHERE symbol = %s AND ts >= %s AND ts < %s"
            " AND source LIKE '%%-ohlcv' GROUP BY source",
            symbol,
            at_ms - 6 * HOUR_MS,
            at_ms,
        )
        assert len(prices) == 3
        for close, _, paid in prices:
            assert abs(close / prices[0][0] - 1) < 0.02
            assert abs(paid / close - 1) < 0.05
