"""Bulk reads beside `psql -c "COPY (…) TO STDOUT"` of the same rows: CSV, Parquet, and the client's frames."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable

import psutil
import requests

from bench import rows
from bench.read import start_web
from bench.report import Report, Table
from bench.stage import Stage, stage
from fademoe.client import Client
from fademoe.embedded.servers import find_psql

ROUNDS = int(os.environ.get("BENCH_EXPORT_ROUNDS", "3"))
CHOSEN = tuple(os.environ.get("BENCH_EXPORT_WAYS", "").split(","))  # what their names begin with
MINUTES = int(os.environ.get("BENCH_EXPORT_MINUTES", "600000"))  # of each of 50 symbols: 30 million rows
SOURCE = rows.SOURCES[0]
LEAST = {"CSV": 0.7, "Parquet": 0.35, "Client().read, Polars, exact": 0.3}
MOST_MB = 150
COLUMNS = "ts, symbol, source, interval, o, h, l, c, v, qv, n, tbv"


def run() -> Report:
    """Read all rows in turns, each way beside psql."""
    table = Table(columns=("read", "rows", "rows/s", "psql rows/s", "ratio", "at least", "web MB", "at most"))
    with stage(with_simulator=False, kept_as="export") as servers:
        context = servers.context()
        end_ms = rows.last_ms()
        rows.fill(context.database, rows.SOURCES[:1], MINUTES, end_ms)
        there, url = rows.count(context.database), context.settings.postgres_url
        address = start_web(servers)
        client = Client(address, timeout_s=3600)

        def read_symbols() -> None:
            """Read every symbol: a frame of all of them at once would not fit a small machine."""
            for symbol in rows.SYMBOLS:
                client.read(SOURCE, symbol)

        export = f"{address}/api/export/{SOURCE}?format="
        ways: dict[str, Callable[[], None]] = {
            "CSV": lambda: _fetch(f"{export}csv"),
            "Parquet": lambda: _fetch(f"{export}parquet"),
            "Client().read, Polars, exact": read_symbols,
        }
        ways = {name: read for name, read in ways.items() if name.startswith(CHOSEN)}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        sizes: dict[str, float] = {}
        psql: list[float] = []
        for _ in range(ROUNDS):
            psql.append(_seconds(lambda: _copy(url)))
            for name, read in ways.items():
                taken[name].append(_seconds(read))
                sizes[name] = _web_mb(servers)
        psql_s = min(psql)
        for name in ways:
            ours_s = min(taken[name])
            table.rows.append(
                (name, there, there / ours_s, there / psql_s, psql_s / ours_s, LEAST[name], sizes[name], MOST_MB)
            )
        context.close()
    notes = [
        f"{ROUNDS} rounds of psql and each way; the best of each counts, as the machine is shared.",
        "psql writes its text to /dev/null. The web's memory is the largest resident size of one of its processes.",
    ]
    return Report(title="bulk reads beside psql's COPY", tables=[table], notes=notes)


def _seconds(work: Callable[[], None]) -> float:
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s


def _copy(url: str) -> None:
    query = f"COPY (SELECT {COLUMNS} FROM perp_data WHERE source = '{SOURCE}') TO STDOUT"
    program = shutil.which("psql") or find_psql() or "psql"
    subprocess.run([program, url, "-X", "-c", query], stdout=subprocess.DEVNULL, check=True)


def _fetch(address: str) -> None:
    with requests.get(address, stream=True, timeout=3600, headers={"Accept-Encoding": "identity"}) as answer:
        answer.raise_for_status()
        for _ in answer.iter_content(1 << 20):
            pass


def _web_mb(servers: Stage) -> float:
    """Return the resident size of the largest process of the web."""
    sizes = []
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        command = process.info["cmdline"] or []
        if "fademoe" in command and "web" in command and servers.owns(process.pid):
            sizes.append(process.info["memory_info"].rss / 1e6)
    return max(sizes, default=0.0)
