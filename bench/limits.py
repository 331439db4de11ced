"""How much of each exchange's budget the workers use while there is more to fetch than it allows."""

import os
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from bench.report import Report, Table
from bench.stage import Stage, stage, until

WORKERS = 16
LATENCY_MS = 80
WARM_S, MEASURED_S = 25, 180
# of a limit that FADEMOE_LIMIT_SHARE allows: all of it, what it is without the setting, half of it
SHARES = tuple(os.environ.get("BENCH_LIMITS_SHARES", "1,0.9,0.5").split(","))
# 127.0.0.0/8 is the host's own: the simulator sees the address that a request leaves by.
EGRESS = "127.0.0.2,127.0.0.3"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One budget, saturated: `cost` of a page in it, and days of 20 symbols that last longer than the measurement."""

    exchange: str
    metric: str
    budget: str
    path: str
    limit: int
    period_s: float
    cost: int
    days: int
    floor: float


CASES = (
    Case(
        exchange="binance",
        metric="ohlcv",
        budget="weight",
        path="/fapi/v1/klines",
        limit=2400,
        period_s=60,
        cost=2,
        days=130,
        floor=0.97,
    ),
    # its budget counts requests, and 120 pages of 1000 candles a second would measure the processor
    Case(
        exchange="bybit",
        metric="oi",
        budget="requests",
        path="/v5/market/open-interest",
        limit=600,
        period_s=5,
        cost=1,
        days=1100,
        floor=0.95,
    ),
    Case(
        exchange="okx",
        metric="ohlcv",
        budget="history-candles",
        path="/api/v5/market/history-candles",
        limit=20,
        period_s=2,
        cost=1,
        days=60,
        floor=0.92,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one run gave in `seconds`."""

    seconds: float
    requests: int
    rows: int
    refusals: int
    memory_mb: float
    windows: list[int]  # units in whole windows of the clock, where the exchange counts those


def run() -> Report:
    """Saturate each budget with 16 workers, and one of them by two addresses."""
    shares = Table(
        columns=("limit share", "budget", "used share", "at least", "refusals", "requests/s", "rows/s", "worker RSS MB")
    )
    for share, case in product(SHARES, CASES):
        found = saturate(case, MEASURED_S, share=share)
        shares.rows.append(
            (
                share,
                f"{case.exchange} {case.budget}",
                f"{used_share(case, found):.1%}",
                f"{0.48 if share == '0.5' else case.floor * float(share):.1%}",
                found.refusals,
                found.requests / found.seconds,
                found.rows / found.seconds,
                found.memory_mb,
            )
        )
        print(shares.markdown(), flush=True)
    addresses = Table(columns=("egress addresses", "rows/minute", "ratio", "at least", "refusals"))
    one, two = (saturate(CASES[0], MEASURED_S / 2, egress) for egress in ("127.0.0.2", EGRESS))
    rates = [found.rows / found.seconds * 60 for found in (one, two)]
    addresses.rows += [
        (1, rates[0], "", "", one.refusals),
        (2, rates[1], f"{rates[1] / rates[0]:.2f}", "1.9", two.refusals),
    ]
    return Report(
        title=f"used share of the budgets, {WORKERS} workers, {LATENCY_MS} ms latency",
        tables=[shares, addresses],
        notes=[f"each budget saturated for {MEASURED_S} s; requests and refusals as the simulator counted them"],
    )


def used_share(case: Case, found: Measured) -> float:
    """Return what was used of what the exchange allows, by whole windows where there are any."""
    if found.windows:
        return sum(found.windows) / len(found.windows) / case.limit
    return found.requests * case.cost / found.seconds * case.period_s / case.limit


def saturate(case: Case, seconds: float, egress: str = "", share: str = "1") -> Measured:
    """Let workers fetch for `seconds` after a warm-up and return what they did."""
    with stage("--latency-ms", str(LATENCY_MS)) as on:
        on.environ |= {"FADEMOE_EXCHANGES": case.exchange, "FADEMOE_EGRESS": egress, "FADEMOE_LIMIT_SHARE": share}
        workers = [on.start("worker") for _ in range(WORKERS)]
        scheduler = on.start("scheduler")  # brings back what has waited for its time
        seeding = ("seed", "--days", str(case.days), "--metrics", case.metric, "--exchanges", case.exchange)
        on.start(*seeding).wait(120)
        until(lambda: count(on, case)["requests"] > 0, 60)
        time.sleep(WARM_S)
        before, rows_before, begin_s = count(on, case), rows(on), time.monotonic()
        most_kb = 0
        while time.monotonic() - begin_s < seconds:
            time.sleep(2)
            most_kb = max([most_kb, *(memory_kb(worker.pid) for worker in workers)])
        after, rows_after, elapsed_s = count(on, case), rows(on), time.monotonic() - begin_s
        on.stop(scheduler, *workers)
    windows = [one["used"] for one in after["windows"] if one not in before["windows"]][1:]
    return Measured(
        seconds=elapsed_s,
        requests=after["requests"] - before["requests"],
        rows=rows_after - rows_before,
        refusals=after["refusals"],
        memory_mb=most_kb / 1024,
        windows=windows,
    )


def count(on: Stage, case: Case) -> dict[str, Any]:
    """Return the simulator's counts: requests for pages, refusals, whole windows of the clock."""
    stats: Any = on.ask("/sim/stats")
    stats = stats[case.exchange]
    addresses = [value for value in stats["budgets"].values() if isinstance(value, dict)]
    return {
        "requests": stats["paths"].get(case.path, 0),
        "refusals": sum(stats["refusals"].values()),
        "windows": [window for address in addresses for window in address.get("weight_windows", ())],
    }


def rows(on: Stage) -> int:
    """Return how many rows are stored."""
    context = on.context()
    with context.database.open_transaction() as cursor:
        cursor.execute("SELECT count(*) FROM perp_data")
        found = cursor.fetchone()
    context.close()
    return int(found[0]) if found else 0


def memory_kb(pid: int) -> int:
    """Return the largest resident memory of a worker's processes: its own or its work horse's."""
    most = 0
    for process in [pid, *children(pid)]:
        try:
            status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        except OSError:  # it has ended
            continue
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
        most = max(most, int(peak.split()[1]))
    return most


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(child) for child in listed.split()]
