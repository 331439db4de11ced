"""The metrics: columns, units, how rows of a step are aggregated, and how each metric is drawn.

Everything that stores, serves or shows a metric reads this declaration: docs/adding-a-metric.md.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, get_args

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, ceil_to, floor_to

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
    """A settled funding rate, a fraction per interval of `fr_hours` hours, and the mark price it was charged on."""

    ts: int
    fr: Decimal
    fr_hours: int | None = None
    fr_mark: Decimal | None = None


class PredictedFunding(NamedTuple):
    """The running estimate of the next funding rate at the end of a minute, a fraction."""

    ts: int
    ppr: Decimal


class Mark(NamedTuple):
    """One closed minute of the mark price, quote per one coin. The open may lie outside low..high, the close not."""

    ts: int
    mark_o: Decimal
    mark_h: Decimal
    mark_l: Decimal
    mark_c: Decimal


class OpenInterest(NamedTuple):
    """Open contracts of one side at `ts`, in coins and in USD; a live row is the last sample before `ts`."""

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


Row = Candle | Premium | Funding | PredictedFunding | Mark | OpenInterest | LongShortRatio | Liquidations


# Which value stands for all rows of a step. A sum is null where one of them is null; with `none` it is always null.
Aggregate = Literal["first", "last", "max", "min", "sum", "none"]
Drawing = Literal["candles", "line", "step", "area"]
Format = Literal["number", "percent"]
CANDLE_COLUMNS = 4  # open, high, low, close
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")  # PostgreSQL cuts off longer names
# Columns that tables of rows and queries have of their own, those of every PostgreSQL table among them.
_TAKEN = frozenset(
    ["ts", "symbol", "source", "interval", "bars", "bucket", "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"]
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column that a metric brings into `perp_data`."""

    name: str
    unit: str
    title: str
    whole: bool = False  # BIGINT instead of NUMERIC
    text: bool = False  # TEXT instead of NUMERIC, of derived metrics alone
    signed: bool = False  # values may be negative; for the contract of exchanges, of stored metrics
    aggregate: Aggregate = "last"

    @property
    def type(self) -> Literal["decimal", "integer", "text"]:
        """The kind of its values, as catalog and API name it."""
        return "text" if self.text else "integer" if self.whole else "decimal"


@dataclass(frozen=True, kw_only=True)
class Pane:
    """A part of the chart with a scale of its own; metrics that name the same pane share it."""

    title: str
    share: float = 1.4  # of the chart's height, relative to the other panes
    format: Format = "number"  # "percent" shows a fraction of 0.01 as 1 %


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One drawing of some columns of a metric in a pane.

    `candles` takes four columns (open, high, low, close) and shows further exchanges as lines of the last one. `line`
    joins the values, `step` holds a value until the next row, `area` fills from zero.
    """

    pane: Pane
    drawing: Drawing
    columns: tuple[str, ...]
    label: str  # beside the exchange's code where values are shown
    downward: bool = False  # draws values below zero, as the counterpart of another column


class Instant(StrEnum):
    """Which instant the `ts` of a row is; the same for history, stream and poll."""

    START = "start"  # the start of the interval that the value is of: bars, sums, values at the interval's end
    MOMENT = "moment"  # the instant at which the value is valid: samples, settlements


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A kind of measurement. `columns` follow `ts` in the order of `row_type`; without `plots` no chart shows it.

    `interval` is the value of that column in rows of the history. A live feed may have a finer one; where both have a
    row for a ts, the row of the history is kept.
    """

    name: str
    title: str
    row_type: type[Row]
    columns: tuple[Column, ...]
    plots: tuple[Plot, ...] = ()
    instant: Instant = Instant.START
    interval: str = "1m"  # a key of INTERVALS_MS, or a word for events; the value of the column `interval`
    zero_when_empty: bool = False  # a covered minute without a row is 0 in expressions: nothing happened

    def __post_init__(self) -> None:
        """Raise ValueError unless columns and plots fit the row type and each other, and names can be stored."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"metric {self.name!r}: a name is small letters, digits and underscores")
        if any(column.text for column in self.columns):
            raise ValueError(f"metric {self.name}: columns of text belong to derived metrics alone")
        if self.row_type._fields != ("ts", *(column.name for column in self.columns)):
            raise ValueError(f"metric {self.name}: columns differ from the fields of {self.row_type.__name__}")
        self.check_columns()

    def check_columns(self) -> None:
        """Raise ValueError unless the plots and aggregates fit the columns."""
        names = [column.name for column in self.columns]
        for column in self.columns:
            if not _NAME.fullmatch(column.name) or column.name in _TAKEN:
                raise ValueError(
                    f"metric {self.name}: a column cannot have the name {column.name!r}: small letters, digits and"
                    f" underscores, 63 at most, and none of {', '.join(sorted(_TAKEN))}"
                )
            if column.aggregate not in get_args(Aggregate):
                raise ValueError(f"metric {self.name}: column {column.name} has no aggregate {column.aggregate!r}")
        for plot in self.plots:
            wanted = CANDLE_COLUMNS if plot.drawing == "candles" else 1
            if plot.drawing not in get_args(Drawing) or plot.pane.format not in get_args(Format):
                raise ValueError(f"metric {self.name}: plot {plot.label!r} has an unknown drawing or format")
            if len(plot.columns) != wanted or not set(plot.columns) <= set(names):
                raise ValueError(f"metric {self.name}: {plot.drawing} takes {wanted} of its columns")

    def stamp(self, at_ms: int, interval_ms: int) -> int:
        """Return the ts of a sample or event of the time `at_ms`: START rounds down to the interval, MOMENT up.

        A sample that is rounded up is older than its ts, so no row tells of a later instant than its own.
        """
        return ceil_to(at_ms, interval_ms) if self.instant is Instant.MOMENT else floor_to(at_ms, interval_ms)

    def compute_final_ms(self, ts: int, interval_ms: int) -> int:
        """Return the time from which the row of `ts` cannot change any more: the end of its interval, or its moment."""
        return ts if self.instant is Instant.MOMENT else ts + interval_ms


@dataclass(frozen=True, kw_only=True)
class Derived(Metric):
    """A metric that is computed from stored rows whenever it is read, so it changes together with them.

    `inputs` are metrics; a row needs a row of each of them at its ts. `formulas` are one SQL expression a column, over
    the inputs' columns. Nothing of it is stored: its coverage is the intersection of its inputs' coverage.

    Unless `is_across`, it is a perpspec of each exchange code that serves the inputs and sends the columns `requires`;
    the expressions name the row `d`. With `lag_ms` they also name `p`, the row of the first input so much before, which
    then is needed too; with `needs_previous`, the row before, whose columns are null where there is none.

    With `is_across` it is one perpspec, of the metric's own name. Its expressions aggregate the rows `d` of all
    followed exchanges that list the coin at ts, aggregators left out; one that lists it and has no row: no row. A
    column named `sources` needs no formula: it names the codes.

    `from_steps`: over a step the formula is applied to the inputs' aggregates, instead of aggregating its own values.
    """

    row_type: type[Any] = tuple  # there are no rows outside PostgreSQL
    inputs: tuple[str, ...]
    formulas: tuple[str, ...]
    requires: tuple[str, ...] = ()
    is_across: bool = False
    lag_ms: int = 0
    needs_previous: bool = False
    from_steps: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError unless formulas, inputs and plots fit the columns."""
        computed = [column for column in self.columns if column.name != SOURCES.name]
        if len(computed) != len(self.formulas) or not set(self.inputs) <= set(METRICS):
            raise ValueError(f"metric {self.name}: a formula for each column and known inputs are needed")
        if self.is_across != (SOURCES in self.columns) or (self.is_across and self.columns[-1] != SOURCES):
            raise ValueError(f"metric {self.name}: across exchanges its last column is `sources`")
        self.check_columns()


ACROSS_CODE = "x"  # of metrics across exchanges: their names begin with it, and it is the exchange of their perpspecs
SOURCES = Column(name="sources", unit="codes", title="Exchanges", text=True)

PRICE = Pane(title="Price", share=4)
VOLUME = Pane(title="Volume, coins", share=1.3)
OPEN_INTEREST = Pane(title="Open interest, coins", share=1.6)
FUNDING = Pane(title="Premium and funding", share=1.6, format="percent")
LONG_SHORT = Pane(title="Long/short ratio")
LIQUIDATED = Pane(title="Liquidated, USD")
BALANCE = Pane(title="Taker buys less sells, coins")
CHANGE = Pane(title="Change of open interest, coins")
YEARLY = Pane(title="Funding of a year", format="percent")
ALL_INTEREST = Pane(title="Open interest of all exchanges, coins", share=1.6)
ALL_FUNDING = Pane(title="Funding of an hour, by open interest", format="percent")
ALL_LIQUIDATED = Pane(title="Liquidated on all exchanges, USD")
SPREAD = Pane(title="Spread of closes, bps")

METRICS: dict[str, Metric] = {}


def declare(metric: Metric) -> None:
    """Add a metric to METRICS. A package that brings an exchange calls it when it is imported.

    Raises ValueError if the name is taken, or if a column of the same name is declared otherwise.
    """
    if METRICS.get(metric.name, metric) != metric:
        raise ValueError(f"metric {metric.name} is declared twice")
    declared = {column.name: column for other in METRICS.values() for column in other.columns}
    for column in metric.columns:
        if declared.get(column.name, column) != column:
            raise ValueError(f"metric {metric.name}: column {column.name} is declared otherwise by another metric")
    METRICS[metric.name] = metric


for _metric in (
    Metric(
        name="ohlcv",
        title="Candles",
        row_type=Candle,
        columns=(
            Column(name="o", unit="quote per coin", title="Open", aggregate="first"),
            Column(name="h", unit="quote per coin", title="High", aggregate="max"),
            Column(name="l", unit="quote per coin", title="Low", aggregate="min"),
            Column(name="c", unit="quote per coin", title="Close"),
            Column(name="v", unit="coins", title="Volume", aggregate="sum"),
            Column(name="qv", unit="quote", title="Quote volume", aggregate="sum"),
            Column(name="n", unit="trades", title="Trades", whole=True, aggregate="sum"),
            Column(name="tbv", unit="coins", title="Taker buy volume", aggregate="sum"),
        ),
        plots=(
            Plot(pane=PRICE, drawing="candles", columns=("o", "h", "l", "c"), label="price"),
            Plot(pane=VOLUME, drawing="area", columns=("v",), label="volume"),
        ),
    ),
    Metric(
        name="pfr",
        title="Premium index",
        row_type=Premium,
        columns=(Column(name="pfr", unit="fraction", title="Premium index", signed=True),),
        plots=(Plot(pane=FUNDING, drawing="line", columns=("pfr",), label="premium"),),
    ),
    Metric(
        name="fr",
        title="Funding rate",
        row_type=Funding,
        instant=Instant.MOMENT,
        columns=(
            Column(name="fr", unit="fraction per interval", title="Settled funding rate", aggregate="sum", signed=True),
            Column(name="fr_hours", unit="hours", title="Funding interval", whole=True),
            Column(name="fr_mark", unit="quote per coin", title="Mark price of the settlement"),
        ),
        interval="settlement",
        plots=(Plot(pane=FUNDING, drawing="step", columns=("fr",), label="funding"),),
    ),
    Metric(
        name="ppr",
        title="Predicted funding rate",
        row_type=PredictedFunding,
        columns=(Column(name="ppr", unit="fraction per interval", title="Predicted funding rate", signed=True),),
        plots=(Plot(pane=FUNDING, drawing="line", columns=("ppr",), label="predicted"),),
    ),
    Metric(
        name="mark",
        title="Mark price",
        row_type=Mark,
        columns=(
            Column(name="mark_o", unit="quote per coin", title="Mark price, open", aggregate="first"),
            Column(name="mark_h", unit="quote per coin", title="Mark price, high", aggregate="max"),
            Column(name="mark_l", unit="quote per coin", title="Mark price, low", aggregate="min"),
            Column(name="mark_c", unit="quote per coin", title="Mark price, close"),
        ),
        plots=(Plot(pane=PRICE, drawing="line", columns=("mark_c",), label="mark"),),
    ),
    Metric(
        name="oi",
        title="Open interest",
        row_type=OpenInterest,
        instant=Instant.MOMENT,
        columns=(
            Column(name="oi", unit="coins, one side", title="Open interest"),
            Column(name="oi_usd", unit="USD", title="Open interest in USD"),
        ),
        interval="5m",
        plots=(Plot(pane=OPEN_INTEREST, drawing="line", columns=("oi",), label="open interest"),),
    ),
    Metric(
        name="lsr",
        title="Long/short ratio",
        row_type=LongShortRatio,
        instant=Instant.MOMENT,
        columns=(Column(name="lsr", unit="long accounts / short accounts", title="Long/short ratio"),),
        interval="5m",
        plots=(Plot(pane=LONG_SHORT, drawing="line", columns=("lsr",), label="long/short"),),
    ),
    Metric(
        name="lq",
        title="Liquidations",
        row_type=Liquidations,
        zero_when_empty=True,
        columns=(
            Column(name="lql", unit="USD", title="Longs liquidated", aggregate="sum"),
            Column(name="lqs", unit="USD", title="Shorts liquidated", aggregate="sum"),
        ),
        plots=(
            Plot(pane=LIQUIDATED, drawing="area", columns=("lql",), label="longs"),
            Plot(pane=LIQUIDATED, drawing="area", columns=("lqs",), label="shorts", downward=True),
        ),
    ),
):
    declare(_metric)

OI, OI_USD, LQL, LQS = (METRICS[name].columns[at] for name, at in (("oi", 0), ("oi", 1), ("lq", 0), ("lq", 1)))

for _metric in (
    Derived(
        name="vwap",
        title="Volume-weighted price",
        inputs=("ohlcv",),
        requires=("qv",),
        columns=(Column(name="vwap", unit="quote per coin", title="Volume-weighted price"),),
        formulas=("d.qv / nullif(d.v, 0)",),
        from_steps=True,
        plots=(Plot(pane=PRICE, drawing="line", columns=("vwap",), label="vwap"),),
    ),
    Derived(
        name="cvd",
        title="Volume delta",
        inputs=("ohlcv",),
        requires=("tbv",),
        columns=(Column(name="cvd", unit="coins", title="Taker buys less sells", aggregate="sum"),),
        formulas=("2 * d.tbv - d.v",),
        from_steps=True,
        plots=(Plot(pane=BALANCE, drawing="line", columns=("cvd",), label="delta"),),
    ),
    Derived(
        name="fr_apr",
        title="Funding of a year",
        inputs=("fr",),
        instant=Instant.MOMENT,
        interval="settlement",
        columns=(
            Column(name="fr_apr", unit="fraction per year", title="Funding rate of a year"),
            METRICS["fr"].columns[1],
        ),
        formulas=(
            "d.fr * 8760 / coalesce(nullif(d.fr_hours, 0),"
            " CASE WHEN d.ts - p.ts <= 28800000 THEN nullif(round((d.ts - p.ts) / 3600000.0), 0) END)",
            "d.fr_hours",
        ),
        needs_previous=True,
        plots=(Plot(pane=YEARLY, drawing="step", columns=("fr_apr",), label="funding"),),
    ),
    Derived(
        name="oi_chg",
        title="Change of open interest",
        inputs=("oi",),
        instant=Instant.MOMENT,
        interval="5m",
        columns=(Column(name="oi_chg", unit="coins, one side", title="Change of open interest", aggregate="sum"),),
        formulas=("d.oi - p.oi",),
        lag_ms=5 * MINUTE_MS,
        plots=(Plot(pane=CHANGE, drawing="line", columns=("oi_chg",), label="change"),),
    ),
    Derived(
        name="x-oi",
        title="Open interest of all exchanges",
        inputs=("oi",),
        is_across=True,
        instant=Instant.MOMENT,
        interval="5m",
        columns=(OI, OI_USD, SOURCES),
        formulas=("sum(d.oi)", "CASE WHEN count(d.oi_usd) = count(*) THEN sum(d.oi_usd) END"),
        plots=(Plot(pane=ALL_INTEREST, drawing="line", columns=("oi",), label="open interest"),),
    ),
    Derived(
        name="x-fr",
        title="Funding of all exchanges, by open interest",
        inputs=("fr", "oi"),
        is_across=True,
        instant=Instant.MOMENT,
        interval="settlement",
        columns=(
            Column(name="fr_1h", unit="fraction per hour", title="Funding rate of an hour, by open interest"),
            SOURCES,
        ),
        # by USD where every exchange sends it, else by coins: one coin is worth the same everywhere
        formulas=(
            "CASE WHEN count(d.fr / nullif(d.fr_hours, 0)) < count(*) THEN NULL"
            " WHEN count(d.oi_usd) = count(*)"
            " THEN sum(d.oi_usd * (d.fr / nullif(d.fr_hours, 0))) / nullif(sum(d.oi_usd), 0)"
            " ELSE sum(d.oi * (d.fr / nullif(d.fr_hours, 0))) / nullif(sum(d.oi), 0) END",
        ),
        plots=(Plot(pane=ALL_FUNDING, drawing="step", columns=("fr_1h",), label="funding"),),
    ),
    Derived(
        name="x-lq",
        title="Liquidations of all exchanges",
        inputs=("lq",),
        is_across=True,
        zero_when_empty=True,
        columns=(LQL, LQS, SOURCES),
        formulas=("sum(d.lql)", "sum(d.lqs)"),
        plots=(
            Plot(pane=ALL_LIQUIDATED, drawing="area", columns=("lql",), label="longs"),
            Plot(pane=ALL_LIQUIDATED, drawing="area", columns=("lqs",), label="shorts", downward=True),
        ),
    ),
    Derived(
        name="x-spread",
        title="Spread of closes over exchanges",
        inputs=("ohlcv",),
        is_across=True,
        columns=(Column(name="spread_bps", unit="bps", title="Highest over lowest close"), SOURCES),
        formulas=("(max(d.c) / nullif(min(d.c), 0) - 1) * 10000",),
        plots=(Plot(pane=SPREAD, drawing="line", columns=("spread_bps",), label="spread"),),
    ),
):
    declare(_metric)

MAIN_METRIC = next(iter(METRICS))  # what pages show until another is chosen, and by which lag is measured

# Lengths of the values of `interval`; rows of any other interval are events, such as settlements, and are never joined.
INTERVALS_MS = {
    "1m": MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "1d": DAY_MS,
}

# Steps of coarser bars: each is a whole number of the one before it, and begins at a multiple of itself since 1970.
STEPS_MS = {name: INTERVALS_MS[name] for name in ("5m", "15m", "1h", "4h", "1d")}


def name_perpspec(code: str, metric: str) -> str:
    """Name the series kind of an exchange code and a metric: the value of the column `source`, such as `bin-ohlcv`."""
    return f"{code}-{metric}"


def rank_metric(metric: str) -> int:
    """Return the place of a metric in the order of the declarations; an undeclared one comes last."""
    return list(METRICS).index(metric) if metric in METRICS else len(METRICS)


def parse_metric(perpspec: str) -> str:
    """Return the metric of a perpspec."""
    return perpspec if perpspec in METRICS else perpspec.rpartition("-")[2]


def is_derived(perpspec: str) -> bool:
    """Return whether a perpspec's rows are computed when they are read: their quotients have no last digit."""
    return isinstance(METRICS.get(parse_metric(perpspec)), Derived)


def list_stored() -> tuple[str, ...]:
    """Return the metrics whose rows are stored, in the order of the declarations."""
    return tuple(name for name, metric in METRICS.items() if not isinstance(metric, Derived))
