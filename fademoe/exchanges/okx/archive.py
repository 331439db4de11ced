"""OKX's archive of files: candles and settlements. Its days and months are those of UTC+8.

Facts: the portal of historical data, and what downloaders of others have found, read 2026-11-26. There is neither a
listing nor a checksum; the names of files can be built.
"""

from collections.abc import Sequence
from decimal import Decimal

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds.archive import Archive, Columns, Dataset, Layout, Lines, PathOf, read_file_times
from fademoe.feeds.columns import read_candles
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.limits import Budget
from fademoe.feeds.rows import link_settlement
from fademoe.feeds.values import are_amounts, read_number, to_ms
from fademoe.metrics import Candle, Funding, Row

ZONE_MS = 8 * HOUR_MS
CANDLES_SINCE_MS = 1_609_430_400_000  # 2021-01-01, UTC+8
FUNDING_SINCE_MS = 1_646_064_000_000  # 2022-03-01, UTC+8
NO_VOLUME = ("", "None", "null")
CANDLE_NAMES = (
    "instrument_name",
    "open",
    "high",
    "low",
    "close",
    "vol",
    "vol_ccy",
    "vol_quote",
    "open_time",
    "confirm",
)
FUNDING_NAMES = ("instrument_name", "funding_rate", "funding_time")
OLD_FUNDING_NAMES = ("instId", "ctype", "funding_rate", "real_funding_rate", "funding_time")


def read_bars(columns: Columns, instrument: Instrument) -> Lines:
    """Read lines of candles of one contract.

    BTC-USDT-SWAP,94210.1,94222.0,94200.0,94219.9,1210.5,12.105,1140462.2,1777564800000,0: name, o, h, l, c, contracts,
    coins, USDT, open time, and a mark that says nothing. In files of 2021 and 2022 coins and USDT are 0 or `None`: the
    coins are the contracts times their size then, the USDT are unknown, and the row is `partial`.
    """
    names, *prices, contracts, coins, quotes, times, _ = columns
    if set(names) - {instrument.name}:
        raise BadPayload(f"not all lines are of {instrument.name}")
    opens_ms = read_file_times(times)
    if not are_amounts(contracts):
        raise BadPayload("not all numbers of contracts are amounts")
    without = {at for at, text in enumerate(contracts) if text.strip("0.") and _lacks(coins[at], quotes[at])}
    quiet = {at for at, text in enumerate(contracts) if not text.strip("0.")}
    coins = tuple("0" if at in without or at in quiet else text for at, text in enumerate(coins))
    quotes = tuple("0" if at in without or at in quiet else text for at, text in enumerate(quotes))
    rows: list[Row] = list(read_candles(instrument, opens_ms, [*prices, coins, quotes]))
    for at in without:
        row = rows[at]
        if isinstance(row, Candle):
            volume = Decimal(contracts[at]) * Decimal(instrument.contract_value)
            rows[at] = row._replace(v=f"{volume:f}", qv=None)
    return Lines(times=opens_ms, rows={"ohlcv": rows}, partial={opens_ms[at] for at in without})


def _lacks(coins: str, quotes: str) -> bool:
    """Return whether a bar with contracts lacks its coins or its USDT."""
    return any(text in NO_VOLUME or not text.strip("0.") for text in (coins, quotes))


def read_settlements(columns: Columns, instrument: Instrument) -> Lines:
    """Read the lines of one contract; a file may hold those of all. Times have a jitter of some seconds.

    BTC-USDT-SWAP,0.0000812,1777564801000
    """
    return _settlements([(rate, time) for name, rate, time in zip(*columns, strict=True) if name == instrument.name])


def read_old_settlements(columns: Columns, instrument: Instrument) -> Lines:
    """Read lines of the layout of 2022: BTC-USDT-SWAP,SWAP,0.0000812,0.0000812,1648771200000.

    The fourth value is the rate that was charged; where it is blank, the rate that stood.
    """
    return _settlements(
        [
            (charged or stood, time)
            for name, _, stood, charged, time in zip(*columns, strict=True)
            if name == instrument.name
        ]
    )


def _settlements(pairs: Sequence[tuple[str, str]]) -> Lines:
    """Make the settlements of (rate, time); `link_settlement` adds the hours."""
    rows: list[Row] = [Funding(floor_to(to_ms(time), MINUTE_MS), read_number(rate), None) for rate, time in pairs]
    return Lines(times=[row.ts for row in rows], rows={"fr": rows})


def find_settlement_days(at: PathOf) -> tuple[str, ...]:
    """Return the files of all swaps of a day, of today's layout and of the old one."""
    month = at.compact[:6]
    return (
        f"swaprates/daily/{at.compact}/allswap-fundingrates-{at.date}.zip",
        f"swaprate/monthly/{month}/allswaprate-swaprate-{at.date}.zip",
    )


ARCHIVE = Archive(
    exchange="okx",
    url="https://static.okx.com/cdn/okex/traderecords",
    licence="",
    terms="OKX API agreement of 2026-07-28 §9.4 and terms of historical data of 2023-10-26",
    terms_url="https://www.okx.com/historical-data",
    summary="for personal use that is not commercial, not to be passed on",
    attribution="Data: OKX historical data (www.okx.com/historical-data), not to be passed on",
    budget=Budget(name="files", limit=10, period_ms=SECOND_MS, jitter_ms=100),
    datasets=(
        Dataset(
            name="candlesticks",
            metrics=("ohlcv",),
            layouts=(Layout(names=CANDLE_NAMES, read=read_bars),),
            month=lambda at: (f"candlesticks/monthly/{at.compact}/{at.contract}-candlesticks-{at.date}.zip",),
            day=lambda at: (f"candlesticks/daily/{at.compact}/{at.contract}-candlesticks-{at.date}.zip",),
            zone_ms=ZONE_MS,
            since_ms=lambda name: CANDLES_SINCE_MS,
            bytes_per_row=26.0,
            source="files of the portal as downloaders of others describe them, read 2026-11-26",
        ),
        Dataset(
            name="fundingrates",
            metrics=("fr",),
            layouts=(
                Layout(names=FUNDING_NAMES, read=read_settlements),
                Layout(names=OLD_FUNDING_NAMES, read=read_old_settlements, any_header=True),
            ),
            month=lambda at: (f"swaprates/monthly/{at.compact}/{at.contract}-fundingrates-{at.date}.zip",),
            day=find_settlement_days,
            zone_ms=ZONE_MS,
            since_ms=lambda name: FUNDING_SINCE_MS,
            use="expired",
            interval_ms=MINUTE_MS,
            sparse=True,
            due_every_ms=8 * HOUR_MS,
            link=link_settlement,
            bytes_per_row=12.0,
            encoding="latin-1",
            day_final_ms=3 * DAY_MS,
            source="files of the portal as downloaders of others describe them, read 2026-11-26",
        ),
    ),
)
