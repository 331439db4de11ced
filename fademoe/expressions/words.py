"""The names of the language: which column of which metric of which exchange, and how its values lie in time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fademoe.clock import MINUTE_MS
from fademoe.metrics import ACROSS_CODE, INTERVALS_MS, METRICS, Derived, Instant, Metric

ALIASES = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}


class Kind(StrEnum):
    """How the values of a metric lie in time."""

    BAR = "bar"  # one value for each minute: known a span and a lag after its ts
    SAMPLE = "sample"  # values at instants on a grid; a live feed may have more between the grid's points
    SETTLEMENT = "settlement"  # values at instants without a grid, each in force until the next one


@dataclass(frozen=True)
class Measure:
    """A column and what evaluation has to know of its metric.

    `grid_ms` is the distance of its points (a minute for settlements, which have none), `span_ms` the time after `ts`
    that a row tells of. `zero_when_empty`: a covered minute without a row is 0.
    """

    column: str
    metric: str
    kind: Kind
    grid_ms: int
    span_ms: int
    zero_when_empty: bool = False


def measure(metric: Metric, column: str) -> Measure:
    """Describe a column of a metric."""
    interval_ms = INTERVALS_MS.get(metric.interval)
    if interval_ms is None:
        return Measure(column, metric.name, Kind.SETTLEMENT, MINUTE_MS, 0)
    if metric.instant is Instant.MOMENT:
        return Measure(column, metric.name, Kind.SAMPLE, interval_ms, 0)
    return Measure(column, metric.name, Kind.BAR, interval_ms, interval_ms, metric.zero_when_empty)


def _measure_columns(metric: Metric) -> dict[str, Measure]:
    """Describe the columns of a metric that are numbers."""
    return {column.name: measure(metric, column.name) for column in metric.columns if not column.text}


def write_code(code: str) -> str:
    """Write an exchange's code as a word of the language: `c-bin` is `c_bin`."""
    return code.replace("-", "_")


@dataclass(frozen=True)
class Vocabulary:
    """The valid names: columns that stand alone (those of the rule's own code), and columns behind a code.

    `by_code` maps a code as stored (`bin`, `c-bin`) to its columns.
    """

    columns: Mapping[str, Measure]
    by_code: Mapping[str, Mapping[str, Measure]] = field(default_factory=dict)

    @classmethod
    def build(cls, perpspecs: Iterable[str] = (), metrics: Mapping[str, Metric] = METRICS) -> "Vocabulary":
        """Build the vocabulary of all metrics, with the codes and their metrics that `perpspecs` name (`bin-ohlcv`).

        A perpspec of a metric that is not in `metrics` is left out.
        """
        columns: dict[str, Measure] = {}
        for metric in metrics.values():
            if not (isinstance(metric, Derived) and metric.is_across):
                for name, described in _measure_columns(metric).items():
                    columns.setdefault(name, described)
        by_code: dict[str, dict[str, Measure]] = {}
        for perpspec in perpspecs:
            across = metrics.get(perpspec)
            code, _, name = (ACROSS_CODE, "", perpspec) if across else perpspec.rpartition("-")
            for column, described in _measure_columns(metrics[name]).items() if name in metrics else ():
                by_code.setdefault(code, {}).setdefault(column, described)
        return cls(columns, by_code)

    @property
    def codes(self) -> dict[str, str]:
        """The codes by the word that stands for each."""
        return {write_code(code): code for code in self.by_code}

    def find(self, code: str | None, column: str) -> Measure | None:
        """Return the measure of a column as it is written, or None where it is unknown."""
        columns = self.columns if code is None else self.by_code.get(code, {})
        return columns.get(ALIASES.get(column, column))

    def list_columns(self, code: str | None = None) -> tuple[str, ...]:
        """Return the valid columns behind a code, or alone, with the long words."""
        columns = self.columns if code is None else self.by_code.get(code, {})
        return (*columns, *(word for word, column in ALIASES.items() if column in columns))
