"""Binance's archive of files, data.binance.vision: candles, premium index, settlements, open interest and ratios.

Facts: the repository binance-public-data and its issues, and measurements of others, read 2026-11-26. Whether a file's
klines are always those of REST is not known; both are compared where both are at hand.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import starmap

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds.archive import (
    Archive,
    Cadence,
    Columns,
    Dataset,
    Layout,
    Lines,
    PathOf,
    Plain,
    read_file_times,
    split_settled,
)
from fademoe.feeds.columns import MS_DIGITS, read_candles
from fademoe.feeds.columns import read_marks as read_mark_bars
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.limits import Budget
from fademoe.feeds.rows import check_name, to_coins
from fademoe.feeds.symbols import split_multiplier
from fademoe.feeds.values import are_amounts, read_amount, read_number, to_ms, write_out
from fademoe.metrics import Funding, LongShortRatio, OpenInterest, Premium, Row

FOLDER = "data/futures/um"
QUOTE = "USDT"
SAMPLE_MS = 5 * MINUTE_MS
LATEST_STAMP_MS = 30 * SECOND_MS  # lines of 2024 are stamped one to five seconds late
ZERO = "zero in archive"
BLANK = "blank in archive"
UNREADABLE = "unreadable in archive"
METRICS_SINCE_MS = 1_638_316_800_000  # 2021-12-01; of one contract from 2020-09-01
METRICS_SINCE_EARLIER_MS = {"BTCUSDT": 1_598_918_400_000}
KLINES_SINCE_MS = 1_577_750_400_000  # 2019-12-31
KLINE_NAMES = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
FUNDING_NAMES = ("calc_time", "funding_interval_hours", "last_funding_rate")
METRICS_NAMES = (
    "create_time",
    "symbol",
    "sum_open_interest",
    "sum_open_interest_value",
    "count_toptrader_long_short_ratio",
    "sum_toptrader_long_short_ratio",
    "count_long_short_ratio",
    "sum_taker_long_short_vol_ratio",
)
KLINES_AT_ONCE = Plain(
    metric="ohlcv", values=(1, 2, 3, 4, 5, 7, 8, 9), end=6, counts=(8,), high=2, low=3, between=(1, 4), above_zero=(3,)
)
PREMIUMS_AT_ONCE = Plain(metric="pfr", values=(4,), end=6, is_signed=True, per_coin=False)
MARKS_AT_ONCE = Plain(metric="mark", values=(1, 2, 3, 4), end=6, high=2, low=3, between=(4,), above_zero=(1, 3))


def read_klines(columns: Columns, instrument: Instrument) -> Lines:
    """Read lines of klines of a minute.

    1730419200000,70281.80,70300.00,70270.10,70299.90,41.230,1730419259999,2898013.55180,912,22.114,1554410.20310,0
    """
    times, *values, closes, quotes, trades, takers, taker_quotes, _ = columns
    opens_ms = read_file_times(times)
    _check_minutes(opens_ms, closes)
    if not are_amounts(taker_quotes):
        raise BadPayload("not all taker-buy quote volumes are amounts")
    rows: list[Row] = list(read_candles(instrument, opens_ms, [*values, quotes, takers], read_counts(trades)))
    return Lines(times=opens_ms, rows={"ohlcv": rows})


def read_premiums(columns: Columns, instrument: Instrument) -> Lines:
    """Read lines of the premium index, of which the close is kept; its volumes are 0.

    1730419200000,0.00012310,0.00018000,0.00009911,0.00015023,0,1730419259999,0,60,0,0,0
    """
    times, *values, closes, _, _, _, _, _ = columns
    opens_ms = read_file_times(times)
    _check_minutes(opens_ms, closes)
    opened, high, low, close = (list(map(read_number, column)) for column in values[:4])
    del opened, high, low
    rows: list[Row] = list(starmap(Premium, zip(opens_ms, close, strict=True)))
    return Lines(times=opens_ms, rows={"pfr": rows})


def read_marks(columns: Columns, instrument: Instrument) -> Lines:
    """Read lines of the mark price; its volumes are 0.

    1730419200000,70281.80000000,70300.00000000,70270.10000000,70299.90000000,0,1730419259999,0,60,0,0,0
    """
    times, *prices, _, closes, _, _, _, _, _ = columns
    opens_ms = read_file_times(times)
    _check_minutes(opens_ms, closes)
    rows: list[Row] = list(read_mark_bars(instrument, opens_ms, prices))
    return Lines(times=opens_ms, rows={"mark": rows})


def read_settlements(columns: Columns, instrument: Instrument) -> Lines:
    """Read lines of settlements; their time comes some milliseconds late and is floored to the minute, as REST's is.

    1730419200003,8,0.00010000: time, the hours since the settlement before, rate.
    """
    times, hours, rates = columns
    settled = [floor_to(ts, MINUTE_MS) for ts in read_file_times(times)]
    rows: list[Row] = [
        Funding(ts, read_number(rate), hour) for ts, rate, hour in zip(settled, rates, read_counts(hours), strict=True)
    ]
    return Lines(times=settled, rows={"fr": rows})


def read_samples(columns: Columns, instrument: Instrument) -> Lines:
    """Read lines of samples: open interest, its value, and the ratio of all accounts. Cells may be blank.

    2024-11-01 00:00:00,BTCUSDT,83012.45100000,5834127310.11020000,1.51200000,1.20110000,1.33870000,0.97310000

    Which instant a line describes is decided for the whole file (`Dataset.shifts`). An open interest of 0 is no value,
    nor is a value of 0 USD beside one that is. A cell that cannot be read costs no other one of its line.
    """
    found = Lines(rows={"oi": [], "lsr": []}, blanks={"oi": {}, "lsr": {}})
    for stamp, name, interest, value, _, _, ratio, _ in zip(*columns, strict=True):
        if name != split_settled(instrument.name):
            check_name(name, instrument)
        ts = read_stamp(stamp)
        found.times.append(ts)
        held, why_not = _read_cell(interest)
        if held is None:
            found.blanks["oi"][ts] = why_not
        else:
            usd, _ = _read_cell(value)
            found.rows["oi"].append(OpenInterest(ts, to_coins(held, instrument), usd))
            if usd is not None:
                found.prices.append((ts, float(usd) / float(held)))
        shares, why_not = _read_cell(ratio)
        if shares is None:
            found.blanks["lsr"][ts] = why_not
        else:
            found.rows["lsr"].append(LongShortRatio(ts, shares))
    return found


def _read_cell(text: str) -> tuple[str | None, str]:
    """Return the amount in a cell, or None and why there is none: it is blank, zero, or cannot be read."""
    if text == "":
        return None, BLANK
    try:
        amount = read_amount(text if text.replace(".", "", 1).isdecimal() else write_out(text))
    except BadPayload:
        return None, UNREADABLE
    return (amount, "") if amount.strip("0.") else (None, ZERO)


def parse_contract(name: str) -> Instrument | None:
    """Read a name of the listing: perpetuals in USDT, such as 1000PEPEUSDT; dated ones have an underscore."""
    if not name.endswith(QUOTE) or "_" in name or name == QUOTE:
        return None
    symbol, multiplier = split_multiplier(name.removesuffix(QUOTE))
    return Instrument(exchange="binance", code="bin", name=name, symbol=symbol.upper(), multiplier=multiplier)


def read_stamp(text: str) -> int:
    """Read `YYYY-MM-DD HH:MM:SS`, UTC, of a line that belongs to a multiple of five minutes; BadPayload for others."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadPayload(f"{text!r} is not a time") from error
    if moment.tzinfo is not None or len(text) != len("2024-11-01 00:00:00"):
        raise BadPayload(f"{text!r} is not a time")
    ts = to_ms(int(moment.replace(tzinfo=UTC).timestamp()) * SECOND_MS)
    if ts % SAMPLE_MS > LATEST_STAMP_MS:
        raise BadPayload(f"{text!r} does not lie on five minutes")
    return floor_to(ts, SAMPLE_MS)


def read_counts(column: Sequence[str]) -> list[int]:
    """Read a column of counts; raise BadPayload where one is none."""
    if not all(map(str.isdecimal, column)):
        raise BadPayload("not all counts are whole numbers")
    return list(map(int, column))


def _check_minutes(opens_ms: Sequence[int], closes: Sequence[str]) -> None:
    """Raise BadPayload unless all lines are of a minute."""
    if read_ends(closes) != [open_ms + MINUTE_MS - 1 for open_ms in opens_ms]:
        raise BadPayload("not all lines are of a minute")


def read_ends(column: Sequence[str]) -> list[int]:
    """Read a column of closing times in ms, or in microseconds."""
    if not all(map(str.isdecimal, column)):
        raise BadPayload("not all closing times are whole numbers")
    return (
        list(map(int, column))
        if all(len(text) == MS_DIGITS for text in column)
        else [int(t[:MS_DIGITS]) for t in column]
    )


def find_minute_files(dataset: str) -> tuple[Callable[[PathOf], tuple[str, ...]], Callable[[PathOf], tuple[str, ...]]]:
    """Return the paths of the month's and of the day's file of a dataset of minutes."""

    def month(at: PathOf) -> tuple[str, ...]:
        return (f"{FOLDER}/monthly/{dataset}/{at.contract}/1m/{at.contract}-1m-{at.date}.zip",)

    def day(at: PathOf) -> tuple[str, ...]:
        return (f"{FOLDER}/daily/{dataset}/{at.contract}/1m/{at.contract}-1m-{at.date}.zip",)

    return month, day


def find_folder(dataset: Dataset, cadence: Cadence, contract: str) -> str | None:
    """Return the prefix under which the files of a contract are listed; without a contract, that of the contracts."""
    if (dataset.month if cadence == "month" else dataset.day) is None:
        return None
    folder = f"{FOLDER}/{'monthly' if cadence == 'month' else 'daily'}/{dataset.name}/"
    if not contract:
        return folder
    return f"{folder}{contract}/" + ("1m/" if dataset.interval_ms == MINUTE_MS and not dataset.sparse else "")


KLINES_MONTH, KLINES_DAY = find_minute_files("klines")
PREMIUM_MONTH, PREMIUM_DAY = find_minute_files("premiumIndexKlines")
MARK_MONTH, MARK_DAY = find_minute_files("markPriceKlines")

ARCHIVE = Archive(
    exchange="binance",
    url="https://data.binance.vision",
    list_url="https://s3-ap-northeast-1.amazonaws.com/data.binance.vision",
    licence="cc-by-nc-sa",
    terms="Binance Vision dataset terms v1.0 of 2026-08-26, CC BY-NC-SA 4.0",
    terms_url="https://data.binance.vision/Binance_Vision-Terms_of_Use.pdf",
    summary="not for commercial use, not for live trading, passed on with attribution and under the same licence only",
    attribution="Data: Binance Vision (data.binance.vision), CC BY-NC-SA 4.0",
    # no limit is published; 9 to 20 files a second were seen to work
    budget=Budget(name="files", limit=10, period_ms=SECOND_MS, jitter_ms=100),
    earlier=("SETTLED", "_SETTLED", "SETTLEDSETTLED"),
    checksum=lambda path: f"{path}.CHECKSUM",
    list_prefix=find_folder,
    parse_contract=parse_contract,
    datasets=(
        Dataset(
            name="klines",
            metrics=("ohlcv",),
            layouts=(Layout(names=KLINE_NAMES, read=read_klines, plain=KLINES_AT_ONCE, needs_header=False),),
            month=KLINES_MONTH,
            day=KLINES_DAY,
            since_ms=lambda name: KLINES_SINCE_MS,
            bytes_per_row=42.0,
            source="binance-public-data, README and issues #186 to #320, read 2026-11-26",
        ),
        Dataset(
            name="premiumIndexKlines",
            metrics=("pfr",),
            layouts=(Layout(names=KLINE_NAMES, read=read_premiums, plain=PREMIUMS_AT_ONCE, needs_header=False),),
            month=PREMIUM_MONTH,
            day=PREMIUM_DAY,
            since_ms=lambda name: KLINES_SINCE_MS,
            bytes_per_row=24.0,
            source="binance-public-data, README and issue #335, read 2026-11-26",
        ),
        Dataset(
            name="markPriceKlines",
            metrics=("mark",),
            layouts=(Layout(names=KLINE_NAMES, read=read_marks, plain=MARKS_AT_ONCE, needs_header=False),),
            month=MARK_MONTH,
            day=MARK_DAY,
            since_ms=lambda name: KLINES_SINCE_MS,
            bytes_per_row=25.0,
            source="binance-public-data, README and issues #483 and #484, read 2026-11-26",
        ),
        Dataset(
            name="fundingRate",
            metrics=("fr",),
            layouts=(Layout(names=FUNDING_NAMES, read=read_settlements),),
            month=lambda at: (f"{FOLDER}/monthly/fundingRate/{at.contract}/{at.contract}-fundingRate-{at.date}.zip",),
            since_ms=lambda name: KLINES_SINCE_MS,
            use="ended",  # REST is as fast for the others
            interval_ms=MINUTE_MS,
            sparse=True,
            due_every_ms=8 * HOUR_MS,
            bytes_per_row=10.0,
            source="binance-public-data, read 2026-11-26",
        ),
        Dataset(
            name="metrics",
            metrics=("oi", "lsr"),
            layouts=(Layout(names=METRICS_NAMES, read=read_samples),),
            day=lambda at: (f"{FOLDER}/daily/metrics/{at.contract}/{at.contract}-metrics-{at.date}.zip",),
            since_ms=lambda name: METRICS_SINCE_EARLIER_MS.get(name, METRICS_SINCE_MS),
            use="expired",
            interval_ms=SAMPLE_MS,
            # Until 2024-03-04 a line was the sample at its time, since then the one five minutes later; files were
            # rewritten in 2026, so that the date does not tell it.
            shifts=(0, SAMPLE_MS),
            reference="BTCUSDT",
            overhang_ms=SAMPLE_MS,
            bytes_per_row=36.0,
            day_final_ms=3 * DAY_MS,
            source="binance-public-data, issues #335, #350, #491 and #498, read 2026-11-26",
        ),
    ),
)
