"""What a worker's processes are like: imported before the fork, small at any window, and at home behind any address."""

import json
import subprocess
import sys

import pytest

from fademoe.client.rate_limit.keys import make_budget_key
from fademoe.clock import DAY_MS
from tests.support.clocks import settled_end, until

RUN = """
import json, pathlib, re, sys
from fademoe.cli import worker as worker_command
from fademoe.cli.environment import load_settings
from fademoe.runtime.startup import wait_until_ready
from fademoe.clock import Window
from fademoe.jobs import backfill
from fademoe.runtime.job_context import JobContext
from fademoe.store.coverage import Series

services = wait_until_ready(load_settings())
before = set(sys.modules)
stored = backfill.run_window(JobContext(services=services), Series("bin-ohlcv", "BTC"), Window(*map(int, sys.argv[1:])))
late = sorted(set(sys.modules) - before)
# not getrusage: its figure begins with the memory of the process that forked this one
most_kb = int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
print(json.dumps([{"rows": stored.rows, "absent": stored.absent}, late, most_kb]))
"""


def run_window(system, days: int) -> tuple[dict, list[str], int]:
    """Fetch a window of so many days in a process of its own: (counts, modules imported late, most memory in kB)."""
    end_ms = settled_end(DAY_MS) - DAY_MS
    command = [sys.executable, "-c", RUN, str(end_ms - days * DAY_MS), str(end_ms)]
    done = subprocess.run(
        command, env={"PATH": "", **system.environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout))


def test_a_work_horse_imports_nothing(system):
    counts, late, _ = run_window(system, 2)
    assert counts["rows"] + counts["absent"] == 2 * 1440
    assert late == []


@pytest.mark.long
def test_memory_does_not_grow_with_the_window(system):
    counts, _, most_kb = run_window(system, 90)
    assert counts["rows"] + counts["absent"] == 90 * 1440
    assert most_kb < 120 * 1024


@pytest.mark.long
def test_work_spreads_over_the_addresses_and_each_has_its_budget(system):
    system.environment |= {"FADEMOE_EGRESS": "127.0.0.2,second=127.0.0.3"}
    system.start("worker")
    done = system.run("seed", "--days", "20", "--metrics", "ohlcv", "--symbols", "BTC,ETH")
    assert done.returncode == 0, done.stderr
    redis = system.context().redis
    names = [make_budget_key("binance", "weight", name) for name in ("127.0.0.2", "second")]
    until(lambda: redis.exists(*names) == 2, 60)
    until(lambda: {"127.0.0.2", "127.0.0.3"} <= set(system.simulator.get("/sim/stats")["binance"]["budgets"]), 60)
    end_ms = settled_end(DAY_MS)
    window = (end_ms - 18 * DAY_MS, end_ms - DAY_MS)
    until(lambda: system.covers("bin-ohlcv", ["BTC", "ETH"], *window), 120)
    assert system.differences("binance", "bin-ohlcv", "BTC", *window) == []
