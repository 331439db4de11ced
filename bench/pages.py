"""How soon every page and every read of the API begins to answer, over 30 million rows of 1,500 series."""

import http.client
import statistics
import threading
import time
from collections.abc import Iterator

import psycopg2

from bench.report import Report, Table
from bench.stage import Stage, stage, until
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.deploy.checks import find_free_port
from fademoe.feeds import registry
from fademoe.metrics import INTERVALS_MS, METRICS, name_perpspec
from fademoe.queue.enqueue import enqueue_windows
from fademoe.queue.ids import Task
from fademoe.runtime.services import Services
from fademoe.store.coverage import Series
from fademoe.store.partitions import Partitions

SERIES = 1_500
ROWS = 30_000_000
FILLERS = 2  # connections that write rows
HOLES = 40  # ranges missing of each series
UNITS_ERRORS = 20_000
JOBS = 5_000
TIMES = 15  # requests of each address, after one that warms up
AT_ONCE = 4  # readers beside each other in the second round
BOUND_MS = 300


def run() -> Report:
    """Fill a database, ask for every page and route one after the other, then with others reading as well."""
    with stage(with_simulator=False) as built:
        begin_s = time.monotonic()
        fill(built, SERIES, ROWS)
        filled_s = time.monotonic() - begin_s
        port = find_free_port(0)
        built.start("web", FADEMOE_WEB_PORT=str(port))
        until(lambda: _answers(port), 30)
        table = measure(port)
    slow = [str(row[0]) for row in table.rows if float(str(row[5])) > BOUND_MS]
    notes = [
        f"{SERIES:,} series, {ROWS:,} rows, {HOLES} holes in each series, {JOBS:,} jobs; filled in {filled_s:.0f} s",
        f"one request after the other; beyond {BOUND_MS} ms to the first byte: {', '.join(slow) or 'none'}",
    ]
    return Report(title="first byte of every page and route", tables=[table], notes=notes)


def measure(port: int) -> Table:
    """Ask for every address: once, again and again, and beside others."""
    busy = f"worst ms, {AT_ONCE} readers"
    table = Table(columns=("address", "status", "bytes", "first ms", "median ms", "worst ms", busy))
    for address in _addresses():
        cold_ms, status, length = _first_byte(port, address)
        times = [_first_byte(port, address)[0] for _ in range(TIMES)]
        together = max(_at_once(port, address))
        table.rows.append((address, status, length, cold_ms, statistics.median(times), max(times), together))
    return table


def fill(built: Stage, series: int, rows: int) -> None:
    """Store series of every perpspec, each the same number of rows up to now, with all that the pages show of them."""
    context = built.context()
    exchanges = registry.load_exchanges().values()
    specs = sorted({(code, metric) for one in exchanges for code in one.codes for metric in one.list_metrics()})
    symbols = [f"C{number:03}" for number in range(-(-series // len(specs)))]
    chosen = [(code, metric, symbol) for symbol in symbols for code, metric in specs][:series]
    each = rows // series
    end_ms = floor_to(now_ms(), MINUTE_MS)
    longest_ms = max(INTERVALS_MS.values()) * each
    Partitions(context.database).ensure(Window(end_ms - longest_ms, end_ms))
    threads = [
        threading.Thread(target=_store, args=(context.settings.postgres_url, chosen[number::FILLERS], end_ms, each))
        for number in range(FILLERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with context.database.open_transaction() as cursor:
        cursor.execute(_STATUS, {"errors": UNITS_ERRORS})
    connection = psycopg2.connect(context.settings.postgres_url)
    connection.autocommit = True
    connection.cursor().execute("VACUUM ANALYZE")
    connection.close()
    _enqueue(context, chosen, end_ms)
    context.close()


_ROWS = """
    INSERT INTO perp_data (ts, symbol, source, interval, {columns})
    SELECT ts, %(symbol)s, %(source)s, %(interval)s, {values}
    FROM generate_series(%(begin)s::bigint, %(end)s::bigint - %(step)s, %(step)s) AS ts
"""
_COVERAGE = """
    INSERT INTO perp_coverage (source, symbol, wanted, covered)
    SELECT %(source)s, %(symbol)s, int8multirange(int8range(%(begin)s, NULL)),
           int8multirange(int8range(%(begin)s, %(end)s)) - range_agg(int8range(hole, hole + %(step)s))
    FROM generate_series(%(begin)s::bigint + %(apart)s, %(end)s::bigint - %(apart)s, %(apart)s) AS hole
"""
_STATUS = """
    INSERT INTO perp_status (unit, kind, state, source, symbol, rows, message)
    SELECT 'backfill ' || source || ' ' || symbol, 'backfill', 'done', source, symbol, 20000, 'all there'
    FROM perp_coverage;
    INSERT INTO perp_status (unit, kind, state)
    VALUES ('stream one', 'stream', 'running'), ('scheduler', 'scheduler', 'running');
    INSERT INTO perp_status_history (unit, state, message)
    SELECT unit, state, message FROM perp_status CROSS JOIN generate_series(1, 100);
    INSERT INTO perp_errors (at, unit, class, fingerprint, message, request, http_status, excerpt)
    SELECT now() - i * interval '10 seconds', 'backfill bench C001', 'RetryLater', md5((i %% 300)::text), 'HTTP 503',
           '/x', 503, repeat('x', 200)
    FROM generate_series(1, %(errors)s) AS i;
"""


def _store(url: str, series: list[tuple[str, str, str]], end_ms: int, each: int) -> None:
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    for code, metric, symbol in series:
        columns, interval = METRICS[metric].columns, METRICS[metric].interval
        step_ms = INTERVALS_MS.get(interval, MINUTE_MS)
        values = {"source": name_perpspec(code, metric), "symbol": symbol, "interval": interval, "step": step_ms}
        values |= {"begin": end_ms - each * step_ms, "end": end_ms, "apart": each * step_ms // (HOLES + 1)}
        names = ", ".join(column.name for column in columns)
        numbers = ", ".join(
            f"ts %% {9_000 + place}" if column.whole else f"((ts / 1000 + {place}) %% 90000)::numeric / 100"
            for place, column in enumerate(columns)
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(_ROWS.format(columns=names, values=numbers), values)
            cursor.execute(_COVERAGE, values)
    connection.close()


def _enqueue(context: Services, series: list[tuple[str, str, str]], end_ms: int) -> None:
    """Put jobs into the queues of the exchanges, as many of each series as it takes."""
    names = {code: name for name, one in registry.load_exchanges().items() for code in one.codes}
    for number in range(JOBS):
        code, metric, symbol = series[number % len(series)]
        start_ms = end_ms - DAY_MS - number * HOUR_MS
        task = Task(Series(name_perpspec(code, metric), symbol), Window(start_ms, start_ms + HOUR_MS))
        enqueue_windows(context.redis, names[code], [task])


def _addresses() -> Iterator[str]:
    """Yield every page and every route that reads, with what makes it work the most."""
    exchange = next(one for one in registry.load_exchanges().values() if not one.needs_key)
    candles = name_perpspec(exchange.codes[0], "ohlcv")
    now = floor_to(now_ms(), MINUTE_MS)
    yield from ("/", "/part/status", "/data", f"/data?perpspec={candles}&limit=1000")
    yield from (f"/data?perpspec={candles}&symbol=C001", f"/data?perpspec={candles}&order=asc")
    yield from (f"/coverage?perpspec={candles}&columns=60", f"/coverage?perpspec={candles}&by=hour&columns=72")
    yield from (f"/coverage?perpspec={candles}&view=list", f"/coverage/cell?perpspec={candles}&symbol=C001")
    yield from (f"/coverage/fill?perpspec={candles}", "/charts?symbol=C001", "/queues", "/limits", "/schema", "/alerts")
    yield from ("/api", "/login", "/rq/", "/health", "/metrics", "/metric", "/metric/ohlcv")
    yield from ("/metric/ohlcv?symbol=C001", "/api/openapi.json", "/api/perpspecs", f"/api/data/{candles}")
    yield from (f"/api/data/{candles}?limit=10000", f"/api/data/{candles}?symbol=C001")
    yield from (f"/api/export/{candles}?symbol=C001", f"/api/export/{candles}")
    yield f"/api/chart/{candles}?symbol=C001&step=1m&from={now - 9_999 * MINUTE_MS}&to={now}"
    yield f"/api/chart/{candles}?symbol=C001&step=1d&from={now - 365 * DAY_MS}&to={now}"
    yield from (f"/api/coverage?source={candles}", "/api/coverage?limit=100", f"/api/coverage/{candles}?columns=60")
    yield from ("/api/system-summary", "/api/units", "/api/queues", "/api/limits", "/api/alerts", "/api/schema")
    yield "/api/schema/perp_data"


def _first_byte(port: int, address: str) -> tuple[float, int, int]:
    """Return milliseconds until the first byte of an answer, its status, and its length."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    begin_s = time.perf_counter()
    connection.request("GET", address)
    answer = connection.getresponse()
    first = answer.read(1)
    elapsed_ms = (time.perf_counter() - begin_s) * 1000
    length = len(first) + len(answer.read(1_000_000))
    connection.close()
    return elapsed_ms, answer.status, length


def _at_once(port: int, address: str) -> list[float]:
    found: list[float] = []

    def read() -> None:
        found.extend(_first_byte(port, address)[0] for _ in range(3))

    threads = [threading.Thread(target=read) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _answers(port: int) -> bool:
    try:
        return _first_byte(port, "/health")[1] == 200
    except OSError:
        return False
