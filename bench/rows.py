"""Tens of millions of candles, made by PostgreSQL itself, series after series as a backfill brings them."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from bench.ingest import COLUMNS
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.store.connection import Database
from fademoe.store.partitions import Partitions

SOURCES = ("bin-ohlcv", "byb-ohlcv", "okx-ohlcv")
SYMBOLS = tuple(f"SYM{n:03}" for n in range(50))
# (sources, minutes of each symbol): 1.2, 10 and 30 million rows; as in life older months come to the same symbols
STAGES = ((SOURCES[:1], 24_000), (SOURCES[:1], 200_000), (SOURCES, 200_000))

_FILL = f"""
    INSERT INTO perp_data ({COLUMNS})
    SELECT %(start)s + i * 60000, %(symbol)s, %(source)s, '1m', p, p + 12.3, p - 9.8, p + 1.7,
           (i * 7919 %% 100000) / 1000.0::numeric(10, 3), round(p * (i * 7919 %% 100000) / 1000, 5), i %% 5000,
           (i * 104729 %% 50000) / 1000.0::numeric(10, 3)
    FROM (SELECT i, 83000 + ((i * 7919 + %(number)s) %% 100000) / 100.0::numeric(10, 2) AS p
          FROM generate_series(0, (%(until)s - %(start)s) / 60000 - 1) AS i) AS rows
"""
_COVER = """
    INSERT INTO perp_coverage AS p (source, symbol, wanted, covered)
    VALUES (%(source)s, %(symbol)s, int8multirange(int8range(%(start)s, NULL)),
            int8multirange(int8range(%(start)s, %(until)s - 3600000)))
    ON CONFLICT (source, symbol) DO UPDATE
    SET wanted = p.wanted + excluded.wanted, covered = p.covered + excluded.covered
"""


class Size(NamedTuple):
    """What perp_data takes, in bytes."""

    heap: int
    indexes: int


def last_ms() -> int:
    """Return the end of all series: that of yesterday."""
    return floor_to(now_ms(), DAY_MS)


def fill(database: Database, sources: Sequence[str], minutes: int, end_ms: int) -> None:
    """Let perp_data hold so many minutes of every symbol of `sources`, up to `end_ms`, with statistics as they are."""
    start_ms = end_ms - minutes * MINUTE_MS
    Partitions(database).ensure(Window(start_ms, end_ms))
    for number, (source, symbol) in enumerate(product(sources, SYMBOLS)):
        with database.open_transaction() as cursor:
            cursor.execute("SELECT wanted_from FROM perp_coverage WHERE source = %s AND symbol = %s", (source, symbol))
            (until_ms,) = cursor.fetchone() or (end_ms,)
            if start_ms < until_ms:
                values = {"source": source, "symbol": symbol, "number": number, "start": start_ms, "until": until_ms}
                cursor.execute(_FILL, values)
                cursor.execute(_COVER, values)
    with database.open_transaction() as cursor:
        cursor.execute("ANALYZE perp_data")


def fill_symbol(database: Database, sources: Sequence[str], symbol: str, window: Window) -> None:
    """Let perp_data hold every minute of a window of one more symbol, covered until its end."""
    Partitions(database).ensure(window)
    for number, source in enumerate(sources):
        values = {"source": source, "symbol": symbol, "number": number, "start": window.start_ms}
        with database.open_transaction() as cursor:
            cursor.execute("SELECT FROM perp_coverage WHERE source = %s AND symbol = %s", (source, symbol))
            if cursor.fetchone():
                continue
            cursor.execute(_FILL, {**values, "until": window.end_ms})
            cursor.execute(_COVER, {**values, "until": window.end_ms + HOUR_MS})
    with database.open_transaction() as cursor:
        cursor.execute("ANALYZE perp_data")


def size(database: Database) -> Size:
    """Return the size of all partitions of perp_data."""
    with database.open_transaction() as cursor:
        cursor.execute(
            "SELECT sum(pg_table_size(inhrelid))::bigint, sum(pg_indexes_size(inhrelid))::bigint FROM pg_inherits"
            " WHERE inhparent = 'perp_data'::regclass"
        )
        return Size(*(cursor.fetchone() or (0, 0)))


def count(database: Database) -> int:
    """Return how many rows perp_data has."""
    with database.open_transaction() as cursor:
        cursor.execute("SELECT count(*) FROM perp_data")
        return int((cursor.fetchone() or (0,))[0])
