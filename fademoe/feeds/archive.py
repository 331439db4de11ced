"""An exchange's archive of files: what it holds, where each file lies, and how its lines are read. Nothing does I/O."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from fademoe.clock import DAY_MS, SECOND_MS, Window, ceil_to, floor_to
from fademoe.errors import FadeMoeError
from fademoe.feeds.columns import read_times
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.limits import Budget
from fademoe.metrics import METRICS, Row

Cadence = Literal["month", "day"]
# For which of the missing ranges the files are taken: `bulk`: whenever a good part of a period is missing, or REST no
# longer has it; `expired`: what REST no longer has; `ended`: contracts that have ended and are on no list any more,
# which REST leaves out.
Use = Literal["bulk", "expired", "ended"]


MICROSECOND_DIGITS = 16
_SETTLED = re.compile(r"^(.+?)(?:_?SETTLED)+\d*$")


class BadFile(FadeMoeError):
    """A file is not what the archive documents: it is put into quarantine, and nothing of it is stored."""


@dataclass(frozen=True, kw_only=True)
class ArchiveFile:
    """One file: its path below the archive's address, and the window of the rows that belong to it.

    `contract`: the name under which the archive has the contract.
    """

    path: str
    contract: str
    window: Window
    cadence: Cadence

    @property
    def stem(self) -> str:
        """Name of the file without folders and ending; its one member is called so, too."""
        return self.path.rpartition("/")[2].partition(".")[0]


@dataclass(kw_only=True)
class Lines:
    """What lines of a file hold.

    `times`: of every line that was read, in their order, before the file's label is known. `rows`: by metric.
    `blanks`: by metric, the times at which a line has no value, with the reason. `prices`: (time, price) of lines, by
    which the label is decided. `partial`: times of rows that lack a value which REST has.
    """

    times: list[int] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    blanks: dict[str, dict[int, str]] = field(default_factory=dict)
    prices: list[tuple[int, float]] = field(default_factory=list)
    partial: set[int] = field(default_factory=set)

    def extend(self, other: "Lines") -> None:
        """Add what further lines hold."""
        self.times += other.times
        for metric, rows in other.rows.items():
            self.rows.setdefault(metric, []).extend(rows)
        for metric, blanks in other.blanks.items():
            self.blanks.setdefault(metric, {}).update(blanks)
        self.prices += other.prices
        self.partial |= other.partial


Columns = Sequence[Sequence[str]]  # of some lines: as many as a layout has names, all of one length
ReadColumns = Callable[[Columns, Instrument], Lines]  # raises BadPayload unless all lines are as expected


@dataclass(frozen=True, kw_only=True)
class Plain:
    """How lines whose cells are all plain decimals are read at once, as `Layout.read` would read them.

    Columns are given by their places. `values`: in the order of the columns of `metric`. `time`: when a bar opens;
    `end`: its last ms. `counts`: whole numbers. `between`: what lies between `low` and `high`. `above_zero`: prices.
    `is_signed`: cells may be negative. `per_coin`: values of a contract of many coins have to be divided.
    """

    metric: str
    values: tuple[int, ...]
    time: int = 0
    end: int | None = None
    counts: tuple[int, ...] = ()
    high: int | None = None
    low: int | None = None
    between: tuple[int, ...] = ()
    above_zero: tuple[int, ...] = ()
    is_signed: bool = False
    per_coin: bool = True


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One form of a dataset's lines: the names of its columns, and how lines are read.

    `plain`: how they are read at once where their cells allow that; None: never. `needs_header`: a file without the
    line of names is none of this layout. `any_header`: the names are in a language or an encoding of their own, so that
    their number alone tells the layout.
    """

    names: tuple[str, ...]
    read: ReadColumns
    plain: Plain | None = None
    needs_header: bool = True
    any_header: bool = False


class PathOf(NamedTuple):
    """What a path is made of."""

    contract: str  # the exchange's name of the contract
    date: str  # 2024-11 of a month, 2024-11-03 of a day

    @property
    def compact(self) -> str:
        """The date without its hyphens."""
        return self.date.replace("-", "")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One kind of file.

    `metrics`: what its lines give, the first one names its jobs. `month`, `day`: the paths of the files of a period, in
    the order in which they are tried; None: there are no such files. `zone_ms`: by how much the archive's midnight is
    ahead of UTC's. `since_ms(name)`: from when on there are files of a contract. `use`: see `Use`.
    `interval_ms`: of its lines; `sparse`: lines come when something happens, at least every `due_every_ms`.
    `shifts`: what may have to be added to the times of a file's lines to have the instants that they describe; where
    there are several, the right one is decided for each file, else that of the file of the contract `reference`.
    `overhang_ms`: so far behind the end of its period may a file reach. `link(row, previous_ms)`: completes a row by
    the time of the one before it, None where that is unknown. `bytes_per_row`: of a zipped file, for estimates.
    """

    name: str
    metrics: tuple[str, ...]
    layouts: tuple[Layout, ...]
    source: str
    month: Callable[[PathOf], tuple[str, ...]] | None = None
    day: Callable[[PathOf], tuple[str, ...]] | None = None
    zone_ms: int = 0
    since_ms: Callable[[str], int] = lambda name: 0
    use: Use = "bulk"
    interval_ms: int = 60 * SECOND_MS
    sparse: bool = False
    due_every_ms: int = 0
    shifts: tuple[int, ...] = (0,)
    overhang_ms: int = 0
    reference: str = ""
    link: Callable[[Row, int | None], Row] | None = None
    bytes_per_row: float = 40.0
    encoding: str = "utf-8"
    day_after_ms: int = 2 * DAY_MS  # a day's file is there so long after the day's end, as a rule
    month_after_ms: int = DAY_MS  # a month's file is asked for so long after the month's end
    day_final_ms: int = 3 * DAY_MS  # a file that is absent so long after its period will not be published
    month_final_ms: int = 35 * DAY_MS

    @property
    def reaches_next_day(self) -> bool:
        """Whether the first point of a day may lie in the file of the day before."""
        return max(self.shifts) > 0 or self.overhang_ms > 0

    def find_period(self, ts: int) -> Window:
        """Return the calendar month of the archive that holds a time: the work of one job."""
        local = datetime.fromtimestamp((ts + self.zone_ms) // SECOND_MS, UTC)
        start = datetime(local.year, local.month, 1, tzinfo=UTC)
        end = datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=UTC)
        return Window(
            int(start.timestamp()) * SECOND_MS - self.zone_ms, int(end.timestamp()) * SECOND_MS - self.zone_ms
        )

    def list_periods(self, window: Window) -> list[Window]:
        """Return the periods that a window touches, newest first."""
        periods = []
        end_ms = window.end_ms
        while end_ms > window.start_ms:
            periods.append(self.find_period(end_ms - 1))
            end_ms = periods[-1].start_ms
        return periods

    def list_days(self, window: Window) -> list[Window]:
        """Return the archive's days that a window touches, oldest first."""
        first_ms = floor_to(window.start_ms + self.zone_ms, DAY_MS) - self.zone_ms
        return [Window(start_ms, start_ms + DAY_MS) for start_ms in range(first_ms, window.end_ms, DAY_MS)]

    def list_month_files(self, contract: str, period: Window) -> list[ArchiveFile]:
        """Return the files that a period may lie in as a whole, in the order in which they are tried."""
        return self._files(self.month, contract, period, "month")

    def list_day_files(self, contract: str, day: Window) -> list[ArchiveFile]:
        """Return the files that a day may lie in, in the order in which they are tried."""
        return self._files(self.day, contract, day, "day")

    def _files(
        self, paths: Callable[[PathOf], tuple[str, ...]] | None, contract: str, window: Window, cadence: Cadence
    ) -> list[ArchiveFile]:
        if paths is None:
            return []
        local = datetime.fromtimestamp((window.start_ms + self.zone_ms) // SECOND_MS, UTC)
        date = f"{local:%Y-%m}" if cadence == "month" else f"{local:%Y-%m-%d}"
        return [
            ArchiveFile(path=path, contract=contract, window=window, cadence=cadence)
            for path in paths(PathOf(contract, date))
        ]

    def count_rows(self, window: Window) -> int:
        """Return how many rows a whole window has; of a sparse dataset, the fewest."""
        step_ms = self.due_every_ms if self.sparse else self.interval_ms
        return max(0, ceil_to(window.end_ms, step_ms) - ceil_to(window.start_ms, step_ms)) // step_ms


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The files that an exchange publishes.

    `licence`: the word that FADEMOE_ARCHIVES has to name beside the exchange, "" where none is needed. `terms`: the
    terms in force, as the ledger keeps them. `earlier`: what stands behind the name of a contract's earlier life.
    `checksum(path)`: the path of a file's SHA-256, None where there is none.
    `list_url`: where keys are listed as S3 does, "" where they are not. `parse_contract(name)`: the contract that may
    lie under a name of the listing, without times; None for what is not followed.
    """

    exchange: str
    url: str
    licence: str
    terms: str
    terms_url: str
    summary: str
    attribution: str
    budget: Budget
    datasets: tuple[Dataset, ...]
    list_url: str = ""
    earlier: tuple[str, ...] = ()
    checksum: Callable[[str], str | None] = lambda path: None
    list_prefix: Callable[[Dataset, Cadence, str], str | None] = lambda dataset, cadence, contract: None
    parse_contract: Callable[[str], Instrument | None] = lambda name: None

    def __post_init__(self) -> None:
        """Refuse a table that contradicts itself."""
        served = [metric for dataset in self.datasets for metric in dataset.metrics]
        if len(served) != len(set(served)) or not set(served) <= set(METRICS):
            raise ValueError(f"archive of {self.exchange}: a metric is unknown or in two datasets")
        for dataset in self.datasets:
            if not dataset.source or not (dataset.month or dataset.day):
                raise ValueError(f"archive of {self.exchange}: {dataset.name} has no files or no source")

    @property
    def name(self) -> str:
        """The name under which its rate limit is kept."""
        return f"{self.exchange}-archive"

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Its rate limits: one, of files."""
        return (self.budget,)

    def get_budget(self, name: str) -> Budget:
        """Return the budget called `name`."""
        return next(budget for budget in self.budgets if budget.name == name)

    def list_names(self, contract: str, known: str | None = None, *, is_newest: bool) -> tuple[str, ...]:
        """Return the names under which the files of a life of a contract may lie, in the order in which they are tried.

        `known`: the one that its candles were found under. Other datasets of it may lie under the contract's own name,
        where later lives do not share any of its time.
        """
        if known is not None:
            return tuple(dict.fromkeys((known, contract)))
        earlier = () if is_newest else self.earlier
        return (*(contract + suffix for suffix in earlier), contract)

    def find_dataset(self, metric: str) -> Dataset | None:
        """Return the dataset that has a metric, None where none has."""
        return next((dataset for dataset in self.datasets if metric in dataset.metrics), None)


def read_file_times(column: Sequence[str]) -> list[int]:
    """Read a column of times in ms, or in microseconds as spot files have since 2025; BadPayload for other values."""
    if column and len(column[0]) == MICROSECOND_DIGITS:
        column = [text[:-3] if text.endswith("000") else "" for text in column]
    return read_times(column)


def split_settled(name: str) -> str | None:
    """Return the contract whose earlier life a name stands for, None for any other name."""
    match = _SETTLED.match(name)
    return match[1] if match else None
