"""Acme Post's archive: a zipped CSV file of minutes for each day of a contract, from 2025 on."""

from fademoe.clock import DAY_MS, SECOND_MS
from fademoe.feeds.archive import Archive, Columns, Dataset, Layout, Lines, read_file_times
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.limits import Budget
from fademoe.feeds.rows import check_candle, to_coin_price, to_coins
from fademoe.feeds.values import read_count
from fademoe.metrics import Candle

SINCE_MS = 1_735_689_600_000  # 2025-01-01


def read_bars(columns: Columns, instrument: Instrument) -> Lines:
    """Read lines of closed bars: 1767225600000,0.01170,0.01183,0.01170,0.01180,52600.5,42."""
    times, *prices, volumes, trades = columns
    found = Lines(times=read_file_times(times))
    rows = found.rows.setdefault("ohlcv", [])
    for ts, volume, count, *bar in zip(found.times, volumes, trades, *prices, strict=True):
        opened, high, low, close = (to_coin_price(price, instrument) for price in bar)
        check_candle(opened, high, low, close)
        rows.append(Candle(ts, opened, high, low, close, to_coins(volume, instrument), None, read_count(int(count))))
    return found


ARCHIVE = Archive(
    exchange="acmepost",
    url="https://files.acme-post.test",
    licence="",
    terms="none: made up",
    terms_url="https://files.acme-post.test/terms",
    summary="free for any use",
    attribution="Data: Acme Post",
    budget=Budget(name="files", limit=10, period_ms=SECOND_MS, jitter_ms=100),
    datasets=(
        Dataset(
            name="candles",
            metrics=("ohlcv",),
            layouts=(Layout(names=("time", "open", "high", "low", "close", "volume", "trades"), read=read_bars),),
            day=lambda at: (f"candles/{at.contract}/{at.date}.zip",),
            since_ms=lambda name: SINCE_MS,
            day_after_ms=DAY_MS,
            source="made up",
        ),
    ),
)
