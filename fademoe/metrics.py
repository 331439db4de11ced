"""The metrics: what is measured, in which columns and units. Adding an entry here is all that a new metric needs."""

from dataclasses import dataclass
from typing import NamedTuple

from fademoe.clock import MINUTE_MS

Decimal = str  # a decimal number in plain notation, digits as the exchange sent them: no float on the way


class Candle(NamedTuple):
    """One closed minute of trading; prices are quote per one coin, volumes are coins."""

    ts: int
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741 - the column's fixed name
    c: Decimal
    v: Decimal
    qv: Decimal | None = None
    n: int | None = None
    tbv: Decimal | None = None


class Premium(NamedTuple):
    """Premium index at the end of a minute, a fraction."""

    ts: int
    pfr: Decimal


class Funding(NamedTuple):
    """A settled funding rate, a fraction per interval of `fr_hours` hours."""

    ts: int
    fr: Decimal
    fr_hours: int | None = None


class PredictedFunding(NamedTuple):
    """The running estimate of the next funding rate at the end of a minute, a fraction."""

    ts: int
    ppr: Decimal


class OpenInterest(NamedTuple):
    """Open contracts of one side at `ts`, in coins and in USD."""

    ts: int
    oi: Decimal
    oi_usd: Decimal | None = None


class LongShortRatio(NamedTuple):
    """Accounts net long divided by accounts net short at `ts`."""

    ts: int
    lsr: Decimal


class Liquidations(NamedTuple):
    """USD of long and of short positions that were liquidated within a minute."""

    ts: int
    lql: Decimal
    lqs: Decimal


Row = Candle | Premium | Funding | PredictedFunding | OpenInterest | LongShortRatio | Liquidations


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column that a metric brings into `perp_data`."""

    name: str
    unit: str
    title: str
    whole: bool = False  # BIGINT instead of NUMERIC


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A kind of measurement. `columns` follow `ts` in the order of `row_type`."""

    name: str
    title: str
    row_type: type[Row]
    columns: tuple[Column, ...]
    interval: str = "1m"  # the value of the column `interval` unless the feed says otherwise

    def __post_init__(self) -> None:
        """Refuse a declaration whose columns are not the fields of its row type."""
        fields = self.row_type._fields
        if fields != ("ts", *(column.name for column in self.columns)):
            raise ValueError(f"metric {self.name}: columns differ from the fields of {self.row_type.__name__}")


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="ohlcv",
            title="Candles",
            row_type=Candle,
            columns=(
                Column(name="o", unit="quote per coin", title="Open"),
                Column(name="h", unit="quote per coin", title="High"),
                Column(name="l", unit="quote per coin", title="Low"),
                Column(name="c", unit="quote per coin", title="Close"),
                Column(name="v", unit="coins", title="Volume"),
                Column(name="qv", unit="quote", title="Quote volume"),
                Column(name="n", unit="trades", title="Trades", whole=True),
                Column(name="tbv", unit="coins", title="Taker buy volume"),
            ),
        ),
        Metric(
            name="pfr",
            title="Premium index",
            row_type=Premium,
            columns=(Column(name="pfr", unit="fraction", title="Premium index"),),
        ),
        Metric(
            name="fr",
            title="Funding rate",
            row_type=Funding,
            columns=(
                Column(name="fr", unit="fraction per interval", title="Settled funding rate"),
                Column(name="fr_hours", unit="hours", title="Funding interval", whole=True),
            ),
            interval="settlement",
        ),
        Metric(
            name="ppr",
            title="Predicted funding rate",
            row_type=PredictedFunding,
            columns=(Column(name="ppr", unit="fraction per interval", title="Predicted funding rate"),),
        ),
        Metric(
            name="oi",
            title="Open interest",
            row_type=OpenInterest,
            columns=(
                Column(name="oi", unit="coins, one side", title="Open interest"),
                Column(name="oi_usd", unit="USD", title="Open interest in USD"),
            ),
            interval="5m",
        ),
        Metric(
            name="lsr",
            title="Long/short ratio",
            row_type=LongShortRatio,
            columns=(Column(name="lsr", unit="long accounts / short accounts", title="Long/short ratio"),),
            interval="5m",
        ),
        Metric(
            name="lq",
            title="Liquidations",
            row_type=Liquidations,
            columns=(
                Column(name="lql", unit="USD", title="Longs liquidated"),
                Column(name="lqs", unit="USD", title="Shorts liquidated"),
            ),
        ),
    )
}

INTERVALS_MS = {"1m": MINUTE_MS, "5m": 5 * MINUTE_MS}


def perpspec(code: str, metric: str) -> str:
    """Name the series kind of an exchange code and a metric: the value of the column `source`, such as `bin-ohlcv`."""
    return f"{code}-{metric}"
