"""Insert rate and bytes per row at 1, 10 and 30 million rows."""

from statistics import median

from bench import rows
from bench.ingest import ROWS, candles, seconds, write
from bench.report import Report, Table
from bench.stage import stage
from fademoe.clock import MINUTE_MS, Window
from fademoe.runtime.services import Services
from fademoe.store.coverage import Covered, Series
from fademoe.store.writer import Batch

ROUNDS = 31


def run() -> Report:
    """Grow perp_data and write fresh windows at each size."""
    table = Table(columns=("rows", "writer rows/s", "against 1 M", "at least", "bytes per row", "heap", "indexes"))
    with stage(with_simulator=False) as servers:
        context = servers.context()
        first, end_ms = 0.0, rows.last_ms()
        for number, (sources, minutes) in enumerate(rows.STAGES):
            rows.fill(context.database, sources, minutes, end_ms)
            rate = _insert_rate(context, number, end_ms)
            first = first or rate
            there, size = rows.count(context.database), rows.size(context.database)
            each = [part / there for part in (size.heap + size.indexes, size.heap, size.indexes)]
            table.rows.append((there, rate, rate / first, 0.7 if number else "", *each))
        context.close()
    notes = [
        "Candles with all columns, monthly partitions, primary key (source, symbol, ts) and an index on ts. The rate is"
        f" the median of {ROUNDS} fresh windows of {ROWS:,} rows through FadeMoe's writer, one transaction each, into"
        " the months that the rows before are in.",
    ]
    return Report(title="insert rate and size as the table grows", tables=[table], notes=notes)


def _insert_rate(context: Services, number: int, end_ms: int) -> float:
    """Return the rows per second of fresh windows at the newest end."""
    window = Window(end_ms - ROWS * MINUTE_MS, end_ms)
    made = candles(window)
    with context.database.open_transaction() as cursor:
        cursor.execute("CHECKPOINT")
    taken = []
    for turn in range(ROUNDS):
        series = Series(rows.SOURCES[turn % len(rows.SOURCES)], f"NEW{number}{turn:03}")
        batch = Batch("ohlcv", "1m", {series: made})
        taken.append(seconds(write, context.writer, batch, Covered(series, [window]), ROWS))
    return ROWS / median(taken)
