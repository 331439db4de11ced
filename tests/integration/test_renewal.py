"""Connections that an exchange is going to close are replaced before, and nobody sees it in the rows."""

import pytest

from fademoe.clock import MINUTE_MS, floor_to, now_ms
from tests.support.clocks import sleep_until, until

NOTICE_AFTER_S = 40  # told at that age, as before a service upgrade
SYMBOLS = ["BTC", "ETH"]  # which trade in every minute: of others the channel may tell nothing


@pytest.mark.parametrize("fast_system", [["--okx-notice-after-s", str(NOTICE_AFTER_S)]], indirect=True)
@pytest.mark.waits(25)
def test_an_announced_end_of_a_connection_costs_no_minute(fast_system):
    system, simulator = fast_system, fast_system.simulator
    system.environment |= {
        "FADEMOE_OKX_REST_URL": simulator.url,
        "FADEMOE_OKX_WS_URL": simulator.url.replace("http", "ws"),
        "FADEMOE_EXCHANGES": "okx",
        "FADEMOE_SYMBOLS": ",".join(SYMBOLS),
    }
    # The first connection begins in the middle of a minute. It is told of its end, a minute ahead, within the next
    # minute, and has to watch that one to its end: the connection that takes over comes too late for it.
    sleep_until(floor_to(now_ms() + 30_000, MINUTE_MS) + 30_000)
    system.start("stream", "okx")
    until(system.streams, 40)
    start_ms = floor_to(now_ms(), MINUTE_MS) + MINUTE_MS
    end_ms = start_ms + MINUTE_MS
    for metric in ("lq", "ohlcv"):  # no other program brings them: a minute that is whole was watched by a connection
        until(lambda: system.covers(f"okx-{metric}", SYMBOLS, start_ms, end_ms), 60)  # noqa: B023
        for symbol in SYMBOLS:
            assert system.differences("okx", f"okx-{metric}", symbol, start_ms, end_ms) == []
    until(lambda: simulator.get("/sim/stats")["okx"]["sockets_closed"], 60)
    states = system.query("SELECT state FROM perp_status_history WHERE unit = 'stream okx' ORDER BY id")
    assert [state for (state,) in states if state == "waiting"][1:] == []  # at the start at most
