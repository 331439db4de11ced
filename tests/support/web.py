"""What tests of the web store and send: coverage, candles, failed jobs, the token."""

from collections.abc import Callable

from flask import Flask
from psycopg2.extensions import cursor as Cursor
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from fademoe.backtest.request import RunRequest, list_examples
from fademoe.clock import DAY_MS, MINUTE_MS, ceil_to
from fademoe.trader.accounts import add_account
from fademoe.trader.switches import TraderSettings

TOKEN = "a-token-of-the-tests"
DAY = 1_767_225_600_000  # 2026-01-01
BEARER = {"Authorization": f"Bearer {TOKEN}"}

MakeApp = Callable[..., Flask]


def store_candles(sql: Cursor, symbol: str, minutes: range, source: str = "bin-ohlcv") -> None:
    """Store a candle at each of these minutes after DAY; its close is its number, its volume null every third time."""
    sql.execute(
        "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v, n)"
        " SELECT %s + i * 60000, %s, %s, '1m', i, i + 0.50, i - 0.50, i, CASE WHEN i %% 3 > 0 THEN i END, i"
        " FROM unnest(%s::int[]) AS i",
        (DAY, symbol, source, list(minutes)),
    )


def cover(sql: Cursor, source: str, symbol: str, wanted: str, covered: str = "{}", absent: str = "{}") -> None:
    """Enter the coverage of a series, in ranges of days after DAY such as `0-10 12-`."""
    sql.execute(
        "INSERT INTO perp_coverage (source, symbol, wanted, covered, absent)"
        " VALUES (%s, %s, %s::int8multirange, %s::int8multirange, %s::int8multirange)",
        (source, symbol, *(_ranges(text) for text in (wanted, covered, absent))),
    )


def minute(number: int) -> int:
    """Return the time of a minute after DAY."""
    return DAY + number * MINUTE_MS


def day(number: float) -> int:
    """Return the time of a day after DAY, on a whole minute."""
    return ceil_to(DAY + round(number * DAY_MS), MINUTE_MS)


def _ranges(text: str) -> str:
    if text == "{}":
        return text
    parts = (part.partition("-") for part in text.split())
    return "{" + ",".join(f"[{day(float(a))},{day(float(b)) if b else ''})" for a, _, b in parts) + "}"


def report(sql: Cursor, unit: str, state: str, silent_s: int = 0, interval_s: int = 60, message: str = "") -> None:
    """Store the state of a unit whose last heartbeat is `silent_s` old."""
    sql.execute(
        "INSERT INTO perp_status (unit, kind, state, message, interval_s, heartbeat)"
        " VALUES (%s, %s, %s, %s, %s, now() - %s * interval '1 second')",
        (unit, unit.split()[0], state, message, interval_s, silent_s),
    )


def fail(redis: Redis, queue: str, *names: str) -> None:
    """Run jobs that fail in a queue."""
    target = Queue(queue, connection=redis, serializer=JSONSerializer)
    for name in names:
        target.enqueue("json.loads", "no json", job_id=name, failure_ttl=600)
    SimpleWorker([target], connection=redis, serializer=JSONSerializer).work(burst=True, logging_level="CRITICAL")


def add_run(sql: Cursor, run_id: str) -> None:
    """Store a run of the backtester."""
    sql.execute(
        "INSERT INTO perp_backtests (id, kind, state, title, plan, certificate, report) VALUES"
        " (%s, 'run', 'done', 'a.py', '{}', '{}', '{}')",
        (run_id,),
    )


def add_paper_account(sql: Cursor, name: str) -> None:
    """Store a paper account of an example strategy on BTC of Binance."""
    sql.execute(
        "INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms)"
        " VALUES ('binance', 'bin', 'BTCUSDT', 'BTC', 1) ON CONFLICT DO NOTHING"
    )
    path = next(path for path in list_examples() if path.name == "sma_cross.py")
    asked = RunRequest(
        name=path.name,
        text=path.read_text(encoding="utf-8"),
        exchange="binance",
        symbols="BTC",
        since=DAY,
        until=DAY + MINUTE_MS,
    )
    add_account(sql, name, asked, TraderSettings(path=str(path)))
