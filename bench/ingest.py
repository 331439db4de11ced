"""Rows per second: the writer alone, and end to end without limits, each beside bare COPY of the same rows."""

import time
from collections.abc import Callable, Sequence
from io import StringIO
from statistics import median

from bench import cpu
from bench.report import Report, Table
from bench.stage import Stage, stage, until
from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms, split
from fademoe.metrics import METRICS, Candle
from fademoe.runtime.services import Services
from fademoe.store import coverage
from fademoe.store.connection import Database
from fademoe.store.coverage import Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.writer import KEY_COLUMNS, Batch, Writer, write_copy_text

ROWS = 14_400  # of one window: ten days of minutes
ROUNDS = 31
DAYS = 30
SYMBOLS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB", "ADA", "AVAX", "LINK", "LTC", "TRX", "DOT")
WORKERS = 3
# Without limits: so many addresses, each with the exchange's whole budget, that no budget is ever waited for.
EGRESS = {"binance": 24, "bybit": 3}
COLUMNS = ", ".join((*KEY_COLUMNS, *(column.name for column in METRICS["ohlcv"].columns)))
NOISY = "The machine is shared: each figure is the median of its rounds, and what is compared was measured in turns."


def run() -> Report:
    """Measure the writer, then the whole path of each exchange."""
    with stage(with_simulator=False) as servers:
        alone = _writer_alone(servers.context())
    whole = Table(columns=("exchange", "rows", "workers", "end to end rows/s", "bare COPY rows/s", "ratio", "at least"))
    use = Table(columns=("exchange", "CPU µs a row: workers", "PostgreSQL", "simulator", "Redis", "bare COPY, all"))
    for exchange in EGRESS:
        with stage("--no-limits", "--cache-chunks", "2000") as servers:
            rates, spent = _end_to_end(servers, exchange)
            whole.rows.append(rates)
            use.rows.append(spent)
    notes = [
        NOISY,
        f"Writer: windows of {ROWS:,} candles, one transaction each; bare COPY is given its text ready-made, the writer"
        " makes it of parsed rows and enters the coverage.",
        "Covered: what a job does for a window that is answered already. Uncovered: the rows are there, the coverage is"
        " not; the writer finds every row by its key and writes none.",
        f"End to end: {DAYS} days of {len(SYMBOLS)} symbols, from enqueuing to the last commit: RQ, budgets in Redis,"
        f" REST from the simulator on the same two cores, parsing, checks, the writer, status. Budgets do not hold it"
        f" back: there are {EGRESS['binance']} and {EGRESS['bybit']} egress addresses. Bare COPY: the very same rows,"
        f" exported and copied back into the emptied table by one connection, {ROWS:,} a transaction.",
    ]
    return Report(title="rows per second beside bare COPY", tables=[alone, whole, use], notes=notes)


def _writer_alone(context: Services) -> Table:
    """Compare the writer with bare COPY and with staged inserts, window by window in turns."""
    database, writer = context.database, context.writer
    end_ms = floor_to(now_ms(), DAY_MS)
    window = Window(end_ms - ROWS * MINUTE_MS, end_ms)
    Partitions(database).ensure(window)
    made = candles(window)
    taken: dict[str, list[float]] = {"bare": [], "fresh": [], "staged": [], "uncovered": [], "covered": []}
    for number in range(ROUNDS):
        ours, bare = Series("bin-ohlcv", f"OURS{number}"), Series("bin-ohlcv", f"BARE{number}")
        batch = Batch("ohlcv", "1m", {ours: made})
        answer = Covered(ours, [window])
        text = _text(bare, made)
        taken["bare"].append(seconds(bare_copy, database, [text]))
        taken["fresh"].append(seconds(write, writer, batch, answer, ROWS))
        taken["staged"].append(seconds(_staged, database, text))
        taken["uncovered"].append(seconds(write, writer, batch, answer, 0))
        taken["covered"].append(seconds(_find_missing, database, ours, window))
    context.close()
    rate = {name: ROWS / median(seconds) for name, seconds in taken.items()}
    table = Table(columns=("window", "by", "rows/s", "beside", "ratio", "at least"))
    table.rows += [
        ("fresh", "bare COPY", rate["bare"], "", "", ""),
        ("fresh", "writer", rate["fresh"], "bare COPY", rate["fresh"] / rate["bare"], 0.85),
        ("existing", "staged INSERT … ON CONFLICT", rate["staged"], "", "", ""),
        ("existing, uncovered", "writer", rate["uncovered"], "staged INSERT", rate["uncovered"] / rate["staged"], 5),
        ("existing, covered", "find_missing", rate["covered"], "staged INSERT", rate["covered"] / rate["staged"], 5),
    ]
    return table


def _end_to_end(servers: Stage, exchange: str) -> tuple[Sequence[object], Sequence[object]]:
    """Backfill once to warm the simulator up, once to measure; then copy the same rows back: rates, and CPU used."""
    addresses = ",".join(f"a{number}=127.0.0.{number + 1}" for number in range(1, EGRESS[exchange] + 1))
    servers.environ |= {"FADEMOE_EXCHANGES": exchange, "FADEMOE_EGRESS": addresses}
    servers.environ["FADEMOE_SYMBOLS"] = ",".join(SYMBOLS)
    workers = [servers.start("worker") for _ in range(WORKERS)]
    context = servers.context()
    end_ms = floor_to(now_ms(), DAY_MS)
    window = Window(end_ms - DAYS * DAY_MS, end_ms)
    Partitions(context.database).ensure(window)
    _backfill(servers, context, window)
    empty(context.database)
    before = cpu.by_program()
    took_s = _backfill(servers, context, window)
    spent = {name: total_s - before.get(name, 0.0) for name, total_s in cpu.by_program().items()}
    servers.stop(*workers)
    texts = export_rows(context.database)
    rows = sum(text.count("\n") for text in texts)
    bare, bare_cpu_s = [], 0.0
    for _ in range(3):
        empty(context.database)
        before_s = cpu.by_program()["postgres"] + time.process_time()
        bare.append(seconds(bare_copy, context.database, texts))
        bare_cpu_s += (cpu.by_program()["postgres"] + time.process_time() - before_s) / 3
    context.close()
    ratio = median(bare) / took_s
    names = ("worker", "postgres", "simulator", "valkey-server")
    return (
        (exchange, rows, WORKERS, rows / took_s, rows / median(bare), ratio, 0.25),
        (exchange, *(spent[name] * 1e6 / rows for name in names), bare_cpu_s * 1e6 / rows),
    )


def _backfill(servers: Stage, context: Services, window: Window) -> float:
    """Seed a window of all symbols; return the seconds from enqueuing until all of it is covered."""
    command = ("seed", "--since", str(window.start_ms), "--until", str(window.end_ms), "--metrics", "ohlcv")
    seeding = servers.start(*command)

    def is_done() -> bool:
        with context.database.open_transaction() as cursor:
            cursor.execute(
                "SELECT count(*) FROM perp_coverage WHERE covered @> int8multirange(int8range(%s, %s))", window
            )
            return cursor.fetchone() == (len(SYMBOLS),)

    until(lambda: has_begun(context), 60, every_s=0.01)
    begin_s = time.monotonic()
    until(is_done, 600, every_s=0.05)
    took_s = time.monotonic() - begin_s
    seeding.wait(60)
    return took_s


def has_begun(context: Services) -> bool:
    """Return whether the first wish is stored: the next thing is the queue."""
    with context.database.open_transaction() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM perp_coverage)")
        return cursor.fetchone() == (True,)


def candles(window: Window) -> list[Candle]:
    """Return candles with as many digits as those of a big contract."""
    rows = []
    for number, ts in enumerate(range(window.start_ms, window.end_ms, MINUTE_MS)):
        wave = number * 7919 % 100_000
        opened, closed = f"{83_000 + wave / 100:.2f}", f"{83_000 + wave / 90:.2f}"
        volumes = (f"{wave / 1000:.3f}", f"{wave * 83.1379:.5f}", wave % 5000, f"{wave / 2100:.3f}")
        rows.append(Candle(ts, opened, f"{84_200 + wave / 100:.2f}", f"{82_000 + wave / 100:.2f}", closed, *volumes))
    return rows


def _text(series: Series, rows: Sequence[Candle]) -> str:
    return "".join(write_copy_text({series: rows}, "1m"))


def bare_copy(database: Database, texts: Sequence[str]) -> None:
    """COPY each text into perp_data, one transaction each."""
    for text in texts:
        with database.open_transaction() as cursor:
            cursor.copy_expert(f"COPY perp_data ({COLUMNS}) FROM STDIN WITH (NULL 'None')", StringIO(text))


def write(writer: Writer, batch: Batch, answer: Covered, new: int) -> None:
    """Write one window; RuntimeError unless so many rows were new."""
    _expect(new, writer.write([batch], [answer]))


def _staged(database: Database, text: str) -> None:
    """COPY into a temporary table, then INSERT … ON CONFLICT DO NOTHING, all of it there already."""
    with database.open_transaction() as cursor:
        cursor.execute("CREATE TEMP TABLE staged (LIKE perp_data) ON COMMIT DROP")
        cursor.copy_expert(f"COPY staged ({COLUMNS}) FROM STDIN WITH (NULL 'None')", StringIO(text))
        cursor.execute(f"INSERT INTO perp_data ({COLUMNS}) SELECT {COLUMNS} FROM staged ON CONFLICT DO NOTHING")
        _expect(0, cursor.rowcount)


def _find_missing(database: Database, series: Series, window: Window) -> None:
    with database.open_transaction() as cursor:
        _expect(0, len(coverage.find_missing(cursor, series, window)))


def export_rows(database: Database) -> list[str]:
    """Return the rows of perp_data as COPY text, in the order of the key, a window's worth a piece."""
    with database.open_transaction() as cursor:
        out = StringIO()
        order = "ORDER BY source, symbol, ts"
        cursor.copy_expert(f"COPY (SELECT {COLUMNS} FROM perp_data {order}) TO STDOUT WITH (NULL 'None')", out)
    lines = out.getvalue().splitlines(keepends=True)
    return ["".join(lines[window.start_ms : window.end_ms]) for window in split(Window(0, len(lines)), ROWS)]


def empty(database: Database) -> None:
    """Empty the tables of rows, coverage and status, and write a checkpoint."""
    for statement in ("TRUNCATE perp_data, perp_coverage, perp_absence, perp_status", "CHECKPOINT"):
        with database.open_transaction() as cursor:
            cursor.execute(statement)


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """Return how long a call takes."""
    begin_s = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin_s


def _expect(wanted: int, got: int) -> None:
    """Stop a benchmark that does not do what it says it measures."""
    if wanted != got:
        raise RuntimeError(f"{got} rows instead of {wanted}")
