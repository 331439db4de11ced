"""Months of everything by files that have every known fault: exact, and nothing is missing without a reason."""

import contextlib
import json
import os
import time
from datetime import UTC, datetime
from itertools import pairwise

import psycopg2
import pytest
import requests
from redis import Redis

from fademoe.clock import DAY_MS
from fademoe.metrics import METRICS
from fademoe.queue.ids import list_window_queues
from fademoe.queue.states import list_failed_jobs
from tests.support.clocks import until
from tests.support.installation import Installation
from tests.support.memory import find_peak_bytes
from tests.support.simulator import Simulator
from tests.support.system import System

# OMG has ended and is on the list, NEAR has ended and is on no list, ZEC was given to another coin, PEPE is traded by
# the thousand; more contracts than these, and more months than two, when asked for.
CONTRACTS = ("BTC", "OMG", "NEAR", "ZEC", "PEPE", "LTC", "XRP", "ADA", "C98", "DOT", "UNI", "TRX")
CONTRACTS = CONTRACTS[: int(os.environ.get("ARCHIVES_TEST_SYMBOLS", "5"))]
MONTHS = int(os.environ.get("ARCHIVES_TEST_MONTHS", "2"))
MOST_BYTES = 150_000_000  # of a worker that imports files
KILLED_SYMBOLS = ("BTC", "LTC", "XRP", "ADA")
SOURCES = ("bin-ohlcv", "bin-pfr", "bin-mark", "bin-fr", "bin-oi", "bin-lsr")
REST_SOURCES = SOURCES[:4]  # whose history REST has, too


def to_ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


OMG_ENDED_MS = to_ms("2025-01-31T09:00")
NEAR_ENDED_MS = to_ms("2024-03-20T09:00")
ZEC_ENDED_MS, ZEC_AGAIN_MS = to_ms("2024-02-20T09:00"), to_ms("2024-03-12T14:45")
CHANGES = (
    {"instrument": "NEARUSDT", "delisted_ms": NEAR_ENDED_MS, "forgotten_ms": NEAR_ENDED_MS},
    {
        "instrument": "ZECUSDT",
        "halted_from_ms": ZEC_ENDED_MS,
        "halted_until_ms": ZEC_AGAIN_MS,
        "shown_listed_ms": ZEC_AGAIN_MS,
        "forgotten_ms": ZEC_AGAIN_MS,
        "relisted_factor": 7,
    },
)
# The label of metrics changes within, on 2024-03-04; of a year and more the end of OMG lies within, too.
LAST = 2024 * 12 + 3 if MONTHS <= 12 else 2025 * 12 + 3
EDGES = [f"{at // 12}-{at % 12 + 1:02}-01" for at in range(LAST - MONTHS, LAST + 1)]
SINCE, UNTIL = EDGES[0], EDGES[-1]
WINDOW = to_ms(SINCE), to_ms(UNTIL)
LIVES = {  # symbol: contract and the part of the window in which it traded
    **{symbol: (symbol, WINDOW) for symbol in CONTRACTS},
    "OMG": ("OMG", (WINDOW[0], min(WINDOW[1], OMG_ENDED_MS))),
    "NEAR": ("NEAR", (WINDOW[0], NEAR_ENDED_MS)),
    "ZEC": ("ZECUSDT", (ZEC_AGAIN_MS, WINDOW[1])),
    "ZEC_2": ("ZECUSDT", (WINDOW[0], ZEC_ENDED_MS)),
}
SYMBOLS = [symbol for symbol in LIVES if symbol.removesuffix("_2") in CONTRACTS]
FORGOTTEN = ("NEAR", "ZEC_2")  # REST has nothing of them


@pytest.mark.full
@pytest.mark.parametrize("fast_system", [["--archive-faults", "--archive-rate", "60"]], indirect=True)
def test_months_of_everything_with_all_faults(fast_system, other_database_url, redis_url, tmp_path):
    url = fast_system.simulator.url
    for change in CHANGES:
        response = requests.post(f"{url}/sim/contracts", json={"exchange": "binance", **change}, timeout=60)
        response.raise_for_status()
    fast_system.environment |= {
        "FADEMOE_ARCHIVES": "binance:cc-by-nc-sa",
        "FADEMOE_BINANCE_ARCHIVE_URL": url,
        "FADEMOE_BINANCE_ARCHIVE_LIST_URL": f"{url}/data.binance.vision",
    }
    for kind in ("", "", "--live"):
        fast_system.start("worker", *filter(None, [kind]))
    workers = [fast_system.start("worker", "--archive", fresh=True) for _ in range(2)]
    fast_system.start("scheduler")
    found = "SELECT symbol FROM perp_lives WHERE evidence = 'archive' AND symbol = ANY(%s)"
    until(lambda: len(fast_system.query(found, list(FORGOTTEN))) == len(FORGOTTEN), 300)
    seed(fast_system, SYMBOLS, SOURCES, SINCE)
    series = [(source, symbol) for source in SOURCES for symbol in SYMBOLS]
    peaks = []

    def is_imported():
        peaks.append(find_peak_bytes(workers))
        return all(fast_system.covers(source, [symbol], *LIVES[symbol][1]) for source, symbol in series)

    until(is_imported, 600 + 300 * MONTHS)  # a broken file is fetched again a minute later, some behind each other
    assert max(peaks) < MOST_BYTES
    for source, symbol in series:
        check_series(fast_system, source, symbol)
    assert list_parts(fast_system.context().settings.home) == []
    states = dict(fast_system.query("SELECT state, count(*) FROM perp_files GROUP BY state"))
    assert states["ok"] > 0
    assert states["quarantined"] > 0
    unnamed = fast_system.query("SELECT count(*) FROM perp_files WHERE state = 'quarantined' AND reason = ''")
    assert unnamed == [(0,)]
    labels = "SELECT DISTINCT shift_ms FROM perp_files WHERE dataset = 'metrics' AND state IN ('ok', 'short')"
    assert sorted(fast_system.query(labels)) == [(0,), (300_000,)]
    compared = [symbol for symbol in SYMBOLS if LIVES[symbol][1][1] == WINDOW[1]][:5]  # of the last month
    of_files = certify(fast_system, compared)
    fast_system.stop()
    Redis.from_url(redis_url).flushall()
    alone = System(tmp_path / "alone", other_database_url, redis_url, fast_system.simulator)
    alone.environment["FADEMOE_CLOCK"] = fast_system.environment["FADEMOE_CLOCK"]
    fast_system.programs += [alone.start("worker"), alone.start("worker", "--live"), alone.start("scheduler")]
    seed(alone, compared, REST_SOURCES, EDGES[-2])
    month = to_ms(EDGES[-2]), WINDOW[1]
    until(lambda: all(alone.covers(source, compared, *month) for source in REST_SOURCES), 300)
    assert certify(alone, compared) == of_files


def seed(system, symbols, sources, since):
    metrics = ",".join(source.removeprefix("bin-") for source in sources)
    done = system.run("seed", "--since", since, "--until", UNTIL, "--metrics", metrics, "--symbols", ",".join(symbols))
    assert done.returncode == 0, done.stderr


def list_parts(home):
    """Return the files that were fetched in part only."""
    return list((home / "archive").rglob("*.part"))


def certify(system, symbols):
    """Return the certificates of the last month of series that REST has, too.

    Without the number of provisional absences: one is provisional until it was found twice, ten minutes apart. In a
    long import it has been by now, in the short backfill beside it not yet.
    """
    certificates = {}
    for source in REST_SOURCES:
        for symbol in symbols:
            done = system.run(
                "verify", "--source", source, "--symbol", symbol, "--since", EDGES[-2], "--until", UNTIL, "--json"
            )
            assert done.returncode == 0, done.stdout + done.stderr
            certificates[source, symbol] = {**json.loads(done.stdout), "provisional": None}
    return certificates


def check_series(system, source, symbol):
    """Assert that each value is the truth's, that nothing is missing without a reason, and nothing outside a life."""
    contract, life = LIVES[symbol]
    edges = [ts for ts in map(to_ms, EDGES) if life[0] < ts < life[1]]
    found = [
        each
        for part in pairwise([life[0], *edges, life[1]])
        for each in system.differences("binance", source, symbol, *part, contract=contract)
    ]
    absent = system.query(
        "SELECT start_ms, end_ms FROM perp_absence WHERE source = %s AND symbol = %s AND reason <> ''", source, symbol
    )
    lost = [int(each.split()[1]) for each in found if each.startswith("missing")]
    wrong = [each for each in found if not each.startswith("missing") and not is_unknown(each, symbol)]
    assert wrong == [], (source, symbol)
    assert all(any(start <= ts < end for start, end in absent) for ts in lost), (source, symbol)
    if METRICS[source.removeprefix("bin-")].interval == "1m" and symbol not in FORGOTTEN:
        assert lost == [], (source, symbol)  # what files lack, REST has
    end_ms = life[1] if life[1] < WINDOW[1] else 2**62  # of what still trades newer rows are stored, too
    outside = "SELECT count(*) FROM perp_data WHERE source = %s AND symbol = %s AND (ts < %s OR ts >= %s)"
    assert system.query(outside, source, symbol, life[0], end_ms) == [(0,)], (source, symbol)


def is_unknown(difference, symbol):
    """Return whether a difference is a value that no file has: a blank cell, or what only REST tells of settlements."""
    names = ("oi_usd: None", "fr_mark: None") if symbol in FORGOTTEN else ("oi_usd: None",)
    return any(name in difference for name in names)


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
        until(lambda: all(system.covers(source, KILLED_SYMBOLS, *window) for source in sources), 900)
        for source in sources:
            for symbol in KILLED_SYMBOLS:
                for start_ms in (window[0], window[1] - 5 * DAY_MS):
                    found = system.differences("binance", source, symbol, start_ms, start_ms + 5 * DAY_MS)
                    assert found == [], (source, symbol)
        counts = simulator.get("/sim/stats")["binance"]["paths"]
        assert done
        assert {path: counts[f"/{path}"] for path in done} == done
        assert list_failed_jobs(system.context().redis, list_window_queues("binance")) == []
        until(lambda: not list_parts(system.home), 60)
    finally:
        print("left:", *list_parts(system.home))
        system.down()
        simulator.stop()
