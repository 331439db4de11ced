"""Rows per second of files of an archive, beside bare COPY of the same rows and beside the same range over REST."""

import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from bench import cpu
from bench.ingest import EGRESS, NOISY, bare_copy, empty, export_rows, has_begun, seconds
from bench.report import Report, Table
from bench.stage import Stage, stage, until
from fademoe.clock import DAY_MS, Window, now_ms
from fademoe.feeds import registry
from fademoe.runtime.services import Services
from fademoe.store.partitions import Partitions

EXCHANGE = "binance"
SYMBOLS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB", "ADA", "AVAX", "LINK", "LTC", "TRX", "DOT")
MONTHS = 2
ROUNDS = 3
WORKERS = 2
REST_WORKERS = 3
MB = 1_000_000


def run() -> Report:
    """Import whole months of candles, copy the same rows back, fetch the same range over REST without limits."""
    with stage("--no-limits", "--no-holes", "--cache-chunks", "2000") as servers:
        row, spent, memory = _measure(servers)
    table = Table(
        columns=(
            "rows",
            "files rows/s",
            "bare COPY rows/s",
            "ratio",
            "at least",
            "REST rows/s",
            "times REST",
            "at least ",
        ),
        rows=[row],
    )
    use = Table(columns=("way", "CPU µs a row: workers", "PostgreSQL", "simulator", "Redis"), rows=spent)
    most = Table(columns=("most memory of a worker, MB", "at most"), rows=[(memory / MB, 150)])
    notes = [
        NOISY,
        f"{MONTHS} months of {len(SYMBOLS)} symbols from enqueuing to the last commit by {WORKERS} workers: download"
        " from loopback, checksum, zip, parsing, proof, COPY with coverage and ledger. REST: the same range by"
        f" {REST_WORKERS} workers, budgets that do not hold it back. All on the same two cores, as is the simulator,"
        " whose files were made before.",
        "Memory: the private pages of a work horse at its end, with those that it shares with its worker (VmHWM).",
    ]
    return Report(title="files of an archive", tables=[table, use, most], notes=notes)


def _measure(servers: Stage) -> tuple[Sequence[object], list[Sequence[object]], float]:
    archive = registry.load_exchanges()[EXCHANGE].archive
    if archive is None:
        raise RuntimeError(f"{EXCHANGE} has no archive")
    addresses = ",".join(f"a{number}=127.0.0.{number + 1}" for number in range(1, EGRESS[EXCHANGE] + 1))
    servers.environ |= {
        "FADEMOE_EXCHANGES": EXCHANGE,
        "FADEMOE_EGRESS": addresses,
        "FADEMOE_SYMBOLS": ",".join(SYMBOLS),
        f"FADEMOE_{EXCHANGE.upper()}_ARCHIVE_URL": servers.simulator_url + urlsplit(archive.url).path,
    }
    context = servers.context()
    window = _find_window()
    Partitions(context.database).ensure(window)
    allowed = {"FADEMOE_ARCHIVES": f"{EXCHANGE}:{archive.licence}"}
    workers = [servers.start("worker", "--archive", **allowed) for _ in range(WORKERS)]
    _seed(servers, context, window, allowed)  # the simulator makes its files
    taken: list[float] = []
    seen: list[float] = []
    used: dict[str, list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        _forget(context)
        used.setdefault("files", []).append(cpu.by_program())
        taken.append(_seed(servers, context, window, allowed, lambda: seen.append(_find_memory(workers))))
    used["files"].append(cpu.by_program())
    servers.stop(*workers)
    texts = export_rows(context.database)
    rows = sum(text.count("\n") for text in texts)
    bare = []
    for _ in range(ROUNDS):
        empty(context.database)
        used.setdefault("bare COPY", []).append(_by_program())
        bare.append(seconds(bare_copy, context.database, texts))
    used["bare COPY"].append(_by_program())
    del texts
    rest_workers = [servers.start("worker") for _ in range(REST_WORKERS)]
    rest = []
    for _ in range(2):
        _forget(context)
        used.setdefault("REST", []).append(cpu.by_program())
        rest.append(_seed(servers, context, window, {}))
    used["REST"].append(cpu.by_program())
    servers.stop(*rest_workers)
    context.close()
    by_files, by_copy, by_rest = rows / median(taken), rows / median(bare), rows / rest[-1]
    return (
        (rows, by_files, by_copy, by_files / by_copy, 0.5, by_rest, by_files / by_rest, 3),
        _list_cpu(used, rows),
        max(seen),
    )


def _by_program() -> dict[str, float]:
    """Return the CPU seconds so far of the programs, this one as a worker."""
    return {**cpu.by_program(), "worker": time.process_time()}


def _list_cpu(used: dict[str, list[dict[str, float]]], rows: int) -> list[Sequence[object]]:
    """Return for each way the CPU µs of a row, of the last round."""
    lines: list[Sequence[object]] = []
    for way, readings in used.items():
        before, after = readings[-2:]
        names = ("worker", "postgres", "simulator", "valkey-server")
        lines.append((way, *((after.get(name, 0.0) - before.get(name, 0.0)) * 1e6 / rows for name in names)))
    return lines


def _find_window() -> Window:
    """Return the last whole months whose files have all appeared."""
    last = datetime.fromtimestamp((now_ms() - 10 * DAY_MS) / 1000, UTC).replace(day=1)
    months = last.year * 12 + last.month - 1
    ends = [datetime(at // 12, at % 12 + 1, 1, tzinfo=UTC) for at in (months - MONTHS, months)]
    start_ms, end_ms = (int(end.timestamp()) * 1000 for end in ends)
    return Window(start_ms, end_ms)


def _forget(context: Services) -> None:
    """Empty the tables, the ledger too."""
    empty(context.database)
    with context.database.open_transaction() as cursor:
        cursor.execute("TRUNCATE perp_files, perp_files_asked, perp_arrivals")


def _seed(
    servers: Stage,
    context: Services,
    window: Window,
    environ: dict[str, str],
    on_poll: Callable[[], object] = lambda: None,
) -> float:
    """Seed a window of all symbols; return the seconds from enqueuing until all of it is covered."""
    range_ = ("--since", str(window.start_ms), "--until", str(window.end_ms))
    seeding = servers.start("seed", *range_, "--metrics", "ohlcv", **environ)

    def is_done() -> bool:
        on_poll()
        with context.database.open_transaction() as cursor:
            cursor.execute(
                "SELECT count(*) FROM perp_coverage WHERE covered @> int8multirange(int8range(%s, %s))", window
            )
            return cursor.fetchone() == (len(SYMBOLS),)

    until(lambda: has_begun(context), 60, every_s=0.01)
    begin_s = time.monotonic()
    until(is_done, 900, every_s=0.05)
    took_s = time.monotonic() - begin_s
    seeding.wait(60)
    return took_s


def _find_memory(workers: Sequence["subprocess.Popen[bytes]"]) -> float:
    """Return the most memory that a worker or a work horse of now has held, in bytes."""
    pids = [worker.pid for worker in workers]
    most = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if int(status.parent.name) in pids or int(fields.get("PPid", "0")) in pids:
            most = max(most, int(fields.get("VmHWM", "0 kB").split()[0]) * 1024)
    return float(most)
