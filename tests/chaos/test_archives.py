"""Months of everything by files that have every known fault: exact, and nothing is missing without a reason."""

import contextlib
import os
import time
from datetime import UTC, datetime
from itertools import pairwise

import psycopg2
import pytest

from fademoe.clock import DAY_MS
from fademoe.metrics import METRICS
from tests.support.clocks import until
from tests.support.installation import Installation
from tests.support.simulator import Simulator

# OMG has ended, PEPE is traded by the thousand; more of them, and more months than two, when asked for.
SYMBOLS = ("BTC", "LTC", "PEPE", "OMG", "ETH", "XRP", "ADA", "SHIB", "DOGE", "DOT", "UNI", "TRX")
SYMBOLS = SYMBOLS[: int(os.environ.get("ARCHIVES_TEST_SYMBOLS", "4"))]
MONTHS = int(os.environ.get("ARCHIVES_TEST_MONTHS", "2"))
ENDED_MS = 1_738_314_000_000  # of OMG, 2025-01-31 09:00
KILLED_SYMBOLS = ("BTC", "LTC", "XRP", "ADA")
SOURCES = ("bin-ohlcv", "bin-pfr", "bin-mark", "bin-fr", "bin-oi", "bin-lsr")


def to_ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


# The label of metrics changes within, on 2024-03-04; of a year and more the end of OMG lies within, too.
LAST = 2024 * 12 + 3 if MONTHS <= 12 else 2025 * 12 + 3
EDGES = [f"{at // 12}-{at % 12 + 1:02}-01" for at in range(LAST - MONTHS, LAST + 1)]
SINCE, UNTIL = EDGES[0], EDGES[-1]
WINDOW = to_ms(SINCE), to_ms(UNTIL)


@pytest.mark.full
@pytest.mark.parametrize("fast_system", [["--archive-faults", "--archive-rate", "60"]], indirect=True)
def test_months_of_everything_with_all_faults(fast_system):
    url = fast_system.simulator.url
    fast_system.environment |= {
        "FADEMOE_ARCHIVES": "binance:cc-by-nc-sa",
        "FADEMOE_BINANCE_ARCHIVE_URL": url,
        "FADEMOE_BINANCE_ARCHIVE_LIST_URL": f"{url}/data.binance.vision",
    }
    for command in (("worker",), ("worker",), ("worker", "--live"), ("worker", "--archive"), ("scheduler",)):
        fast_system.start(*command)
    metrics = ",".join(source.removeprefix("bin-") for source in SOURCES)
    done = fast_system.run(
        "seed", "--since", SINCE, "--until", UNTIL, "--metrics", metrics, "--symbols", ",".join(SYMBOLS)
    )
    assert done.returncode == 0, done.stderr
    until(lambda: all(fast_system.covers(source, SYMBOLS, *WINDOW) for source in SOURCES), 300 + 90 * MONTHS)
    for source in SOURCES:
        for symbol in SYMBOLS:
            found = [
                each
                for edges in pairwise(map(to_ms, EDGES))
                for each in fast_system.differences("binance", source, symbol, *edges)
            ]
            absent = fast_system.query(
                "SELECT start_ms, end_ms FROM perp_absence WHERE source = %s AND symbol = %s", source, symbol
            )
            lost = [int(each.split()[1]) for each in found if each.startswith("missing")]
            # a blank cell of a file is no value
            wrong = [each for each in found if not each.startswith("missing") and "oi_usd: None" not in each]
            assert wrong == [], (source, symbol)
            assert all(any(start <= ts < end for start, end in absent) for ts in lost), (source, symbol)
            if METRICS[source.removeprefix("bin-")].interval == "1m":
                assert lost == [], (source, symbol)  # what files lack, REST has
    states = dict(fast_system.query("SELECT state, count(*) FROM perp_files GROUP BY state"))
    assert states["ok"] > 0
    assert states["quarantined"] > 0
    behind = "SELECT count(*) FROM perp_data WHERE symbol = 'OMG' AND ts >= %s"
    assert fast_system.query(behind, ENDED_MS) == [(0,)]
    unnamed = fast_system.query("SELECT count(*) FROM perp_files WHERE state = 'quarantined' AND reason = ''")
    assert unnamed == [(0,)]
    assert not list((fast_system.context().settings.home / "archive").rglob("*.part"))


@pytest.mark.full
def test_an_import_survives_what_is_killed_under_it(folder):
    simulator = Simulator("--no-limits")
    simulator.start()
    system = Installation(folder, simulator, list(KILLED_SYMBOLS), workers=2)
    system.with_settings(
        FADEMOE_EXCHANGES="binance",
        FADEMOE_ARCHIVES="binance:cc-by-nc-sa",
        FADEMOE_BINANCE_ARCHIVE_URL=simulator.url,
        FADEMOE_BINANCE_ARCHIVE_LIST_URL=f"{simulator.url}/data.binance.vision",
    )
    done: dict[str, int] = {}

    def note() -> None:
        """Note how often each file that is done was asked for."""
        with contextlib.suppress(psycopg2.Error):
            stored = {path for (path,) in system.query("SELECT path FROM perp_files WHERE state <> 'absent'")}
            counts = simulator.get("/sim/stats")["binance"]["paths"]
            done.update({path: counts[f"/{path}"] for path in stored - done.keys()})

    try:
        system.up()
        symbols = ",".join(KILLED_SYMBOLS)
        range_ = ("--since", "2025-07-01", "--until", "2025-10-01")
        seeded = system.run("seed", *range_, "--metrics", "ohlcv,pfr,mark", "--symbols", symbols)
        assert seeded.returncode == 0, seeded.stderr
        turn = ["redis", "worker-archive:worker-archive_00", "postgres", "horse", "worker-archive:worker-archive_01"]
        for name in turn * 3:
            time.sleep(3)
            note()
            system.kill(name)
        until(system.answers, 60)
        window = to_ms("2025-07-01"), to_ms("2025-10-01")
        sources = ("bin-ohlcv", "bin-pfr", "bin-mark")
        until(lambda: all(system.covers(source, KILLED_SYMBOLS, *window) for source in sources), 300)
        for source in sources:
            for symbol in KILLED_SYMBOLS:
                for start_ms in (window[0], window[1] - 5 * DAY_MS):
                    found = system.differences("binance", source, symbol, start_ms, start_ms + 5 * DAY_MS)
                    assert found == [], (source, symbol)
        counts = simulator.get("/sim/stats")["binance"]["paths"]
        assert done
        assert {path: counts[f"/{path}"] for path in done} == done
        until(lambda: not list((system.home / "archive").rglob("*.part")), 60)
    finally:
        system.down()
        simulator.stop()
