"""The rows that expressions read, in memory: exact, a few bytes for each value, one table for each source.

A value is kept as an integer of its last digit, its mantissa, with one number of decimal places for each series and
column, so that 8 bytes hold 18 digits. What does not fit is kept as a Decimal beside.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fademoe.clock import DAY_MS, HOUR_MS, Window
from fademoe.errors import ConfigError
from fademoe.expressions import Kind, Measure
from fademoe.expressions.numbers import CONTEXT
from fademoe.feeds.lags import Lag, find_lags
from fademoe.feeds.registry import find_parts
from fademoe.metrics import METRICS, Derived, name_perpspec

UNKNOWN = np.iinfo(np.int64).min
WIDE = UNKNOWN + 1  # the value stands in `wide`
LARGEST = 2**63 - 2
MOST_PLACES = 18
EXACT_FLOATS = 2**49  # the float of a decimal with a smaller mantissa rounds to exactly that mantissa
EXACT = Context(prec=1_000, traps=[])  # of values as they are stored, whatever their digits
SLACK = 64  # columns behind the newest, so that all is moved once an hour
FRESH_INTERVALS = 3  # a sample is read by its bare name until it is so many intervals old
MISSED_MS = 2 * DAY_MS  # so long a missed point is looked for
PREVIOUS_MS = DAY_MS  # so far before a row the one before it is looked for
USUAL_HOURS = 8  # of a settlement that does not say

Integers = npt.NDArray[np.int64]
Values = Sequence[Decimal | None]


class Reads(NamedTuple):
    """What is read of a source: its columns in order, how far back, and how.

    `is_bare`: samples are read between the grid's points too. `is_strict`: points, or windows of settlements, are.
    """

    code: str
    metric: str
    measures: tuple[Measure, ...]
    back_ms: int
    is_bare: bool
    is_strict: bool


def name_source(code: str, metric: str) -> str:
    """Return the perpspec of a metric of a code; one across exchanges has the metric's own name."""
    declared = METRICS.get(metric)
    is_across = isinstance(declared, Derived) and declared.is_across
    return metric if is_across else name_perpspec(code, metric)


def _find_lags(source: str, span_ms: int) -> tuple[Lag, ...]:
    """Return the lags of a perpspec, the slowest last; a derived one is known when all that it is computed from is."""
    parts = find_parts(source)
    try:
        if not parts:
            return find_lags(source)
        slowest: dict[str, Lag] = {}
        for lag in (lag for part in parts for name in part.inputs for lag in find_lags(name)):
            if lag.interval not in slowest or slowest[lag.interval].lag_ms < lag.lag_ms:
                slowest[lag.interval] = lag._replace(source=source, at_minute_end=False)
        return tuple(sorted(slowest.values(), key=lambda lag: lag.lag_ms))
    except ConfigError:
        return (Lag(source, "", span_ms, 0, "no feed writes it"),)


class Long(NamedTuple):
    """A whole column of a series: values (None: null), the decimal places that all need, and the greatest, unsigned."""

    values: Sequence[float | None]
    places: int
    largest: Decimal | int


class Lags:
    """When the rows of a source are known. A source that no feed writes is known at the end of its span."""

    def __init__(self, source: str, span_ms: int) -> None:
        """Look up the lags of a perpspec."""
        lags = _find_lags(source, span_ms)
        self.by_interval = {lag.interval: lag for lag in lags}
        self.slowest = lags[-1]
        self.fastest = lags[0]

    def find(self, interval: str) -> Lag:
        """Return the lag of the rows of an interval, the slowest where no feed writes it."""
        return self.by_interval.get(interval, self.slowest)

    def is_known(self, ts: int, interval: str, moment_ms: int) -> bool:
        """Return whether a row counts as known at a moment."""
        return self.compute_known_ms(ts, interval) <= moment_ms

    def compute_known_ms(self, ts: int, interval: str) -> int:
        """Return the moment from which expressions may read a row."""
        lag = self.find(interval)
        return ts + lag.span_ms + (0 if lag.at_minute_end else lag.lag_ms)


class Table:
    """What all tables share: a source, its symbols as rows, and when its rows are known."""

    def __init__(self, reads: Reads) -> None:
        """Describe a table that holds nothing yet."""
        self.reads = reads
        self.source = name_source(reads.code, reads.metric)
        declared = METRICS.get(reads.metric)
        self.derived = declared if isinstance(declared, Derived) else None
        names = (name for part in find_parts(self.source) for name in part.inputs)
        self.inputs = tuple(dict.fromkeys(names)) or (self.source,)  # the sources whose rows it is computed from
        self.columns = tuple(measure.column for measure in reads.measures)
        self.lags = Lags(self.source, reads.measures[0].span_ms)
        self.rows: dict[str, int] = {}
        self.symbols: list[str] = []

    @property
    def is_derived(self) -> bool:
        """Whether its rows are computed from those of its inputs."""
        return self.derived is not None

    @property
    def is_across(self) -> bool:
        """Whether its rows are computed over several exchanges."""
        return self.derived is not None and self.derived.is_across

    @property
    def reach_ms(self) -> int:
        """How far before a row an input's row may lie that it is computed from."""
        if self.derived is None:
            return 0
        return PREVIOUS_MS if self.derived.needs_previous else self.derived.lag_ms

    def list_affected(self, ts: int, following: int | None) -> list[int]:
        """Return the ts of the rows that an input's row is a part of; `following`: that of the table's next row."""
        affected = [ts]
        if self.derived is not None and self.derived.lag_ms:
            affected.append(ts + self.derived.lag_ms)
        elif self.derived is not None and self.derived.needs_previous and following is not None:
            affected.append(following)
        return affected


class PointTable(Table):
    """Bars or samples on a grid. Only rows that are known at the moment of the table are put into it."""

    def __init__(self, reads: Reads, moment_ms: int) -> None:
        """Begin empty, for moments from `moment_ms` on."""
        super().__init__(reads)
        first = reads.measures[0]
        self.grid_ms, self.is_sample, self.zero_when_empty = (
            first.grid_ms,
            first.kind is Kind.SAMPLE,
            first.zero_when_empty,
        )
        spread_ms = self.lags.slowest.lag_ms - self.lags.fastest.lag_ms
        self.width = (reads.back_ms + spread_ms) // self.grid_ms + 4
        self.capacity = self.width + SLACK
        self.base_ms = self.find_due(moment_ms) - (self.width - 1) * self.grid_ms
        self.oldest_ms = moment_ms - (FRESH_INTERVALS + 1) * self.grid_ms  # earlier samples are forgotten
        self.mantissas: dict[str, Integers] = {
            column: np.empty((0, self.capacity), np.int64) for column in self.columns
        }
        self.places: dict[str, Integers] = {column: np.empty(0, np.int64) for column in self.columns}
        self.wide: dict[tuple[str, int, int], Decimal] = {}
        self.present = np.empty((0, self.capacity), np.bool_)
        self.missed: list[set[int]] = []  # points that were never known while they were read
        self.recent: list[dict[int, Values]] = []  # samples by ts, also between the grid's points

    def find_due(self, moment_ms: int) -> int:
        """Return the newest grid point whose row has to be known at a moment, by the slowest feed."""
        return self.lags.slowest.find_last_known(moment_ms, self.grid_ms)

    def find_newest(self, moment_ms: int) -> int:
        """Return the newest grid point whose row may be known at a moment, by the fastest feed."""
        return self.lags.fastest.find_last_known(moment_ms, self.grid_ms)

    def find_last(self, column: str, moment_ms: int) -> Integers:
        """Return last(T) of every row: the newest grid point not before due(T) with a known value, else due(T)."""
        due = self.find_due(moment_ms)
        last = np.full(len(self.symbols), due, np.int64)
        for ts in range(due + self.grid_ms, self.find_newest(moment_ms) + 1, self.grid_ms):
            last[self.mantissas[column][:, self._column_of(ts)] != UNKNOWN] = ts
        return last

    def add_symbols(self, symbols: Iterable[str]) -> list[str]:
        """Add rows for symbols that have none and return them."""
        added = [symbol for symbol in symbols if symbol not in self.rows]
        count = len(added)
        if not count:
            return []
        for symbol in added:
            self.rows[symbol] = len(self.symbols)
            self.symbols.append(symbol)
            self.recent.append({})
            self.missed.append(set())
        for column in self.columns:
            fresh = np.full((count, self.capacity), UNKNOWN, np.int64)
            self.mantissas[column] = np.concatenate((self.mantissas[column], fresh))
            self.places[column] = np.concatenate((self.places[column], np.zeros(count, np.int64)))
        self.present = np.concatenate((self.present, np.zeros((count, self.capacity), np.bool_)))
        return added

    def move_to(self, moment_ms: int) -> None:
        """Make room for what may be known at a moment, and forget what is not read any more."""
        column = (self.find_newest(moment_ms) - self.base_ms) // self.grid_ms
        if column >= self.capacity:
            gone = column - self.width + 1
            self._remember_missed(gone, moment_ms)
            for array, empty in (
                *((mantissas, UNKNOWN) for mantissas in self.mantissas.values()),
                (self.present, False),
            ):
                kept = max(self.capacity - gone, 0)
                array[:, :kept] = array[:, self.capacity - kept :].copy()
                array[:, kept:] = empty
            self.base_ms += gone * self.grid_ms
            self.wide = {key: value for key, value in self.wide.items() if key[2] >= self.base_ms}
        self.oldest_ms = moment_ms - (FRESH_INTERVALS + 1) * self.grid_ms
        for samples in self.recent if self.reads.is_bare and self.is_sample else ():
            for ts in [ts for ts in samples if ts < self.oldest_ms]:
                del samples[ts]

    def note_missed(self, symbol: str, ts: int) -> None:
        """Look from now on for a missed point before the oldest column."""
        if symbol in self.rows and ts < self.base_ms and (ts - self.base_ms) % self.grid_ms == 0:
            self.missed[self.rows[symbol]].add(ts)

    def _remember_missed(self, gone: int, moment_ms: int) -> None:
        """Keep for two days which points of the first `gone` columns were missed."""
        for row in np.flatnonzero(~self.present[:, :gone].all(axis=1)):
            columns = np.flatnonzero(~self.present[row, :gone])
            self.missed[row].update((self.base_ms + columns * self.grid_ms).tolist())
            self.missed[row] = {ts for ts in self.missed[row] if ts > moment_ms - MISSED_MS}

    def has(self, symbol: str, ts: int) -> bool:
        """Return whether the row of a symbol and ts was put in, or need not be."""
        row = self.rows[symbol]
        if ts in self.missed[row]:
            return False
        if ts in self.recent[row]:
            return True
        column = self._column_of(ts)
        if (ts - self.base_ms) % self.grid_ms:
            return ts < self.oldest_ms or not (self.is_sample and self.reads.is_bare)
        return not 0 <= column < self.capacity or bool(self.present[row, column])

    def holds(self, symbol: str, ts: int) -> bool:
        """Return whether the row of a symbol and ts is in the table."""
        row, column = self.rows[symbol], self._column_of(ts)
        is_point = (ts - self.base_ms) % self.grid_ms == 0 and 0 <= column < self.capacity
        return ts in self.recent[row] or (is_point and bool(self.present[row, column]))

    def find_following(self, symbol: str, ts: int) -> int | None:
        """Return the ts of the next point that is held behind one."""
        first = max(self._column_of(ts) + 1, 0)
        found = np.flatnonzero(self.present[self.rows[symbol], first:])
        return self.base_ms + (first + int(found[0])) * self.grid_ms if len(found) else None

    def put(self, symbol: str, ts: int, values: Values) -> None:
        """Enter a row; `values` are those of the table's columns."""
        row = self.rows[symbol]
        self.missed[row].discard(ts)
        if self.is_sample and self.reads.is_bare:
            self.recent[row][ts] = values
        column_index = self._column_of(ts)
        if (ts - self.base_ms) % self.grid_ms or not 0 <= column_index < self.capacity:
            return
        self.present[row, column_index] = True
        for column, value in zip(self.columns, values, strict=True):
            self.mantissas[column][row, column_index] = self._encode(column, row, ts, value)

    def put_zeroes(self, symbol: str, windows: Iterable[Window]) -> list[int]:
        """Enter 0 for the minutes of covered windows that have no row; return which."""
        row = self.rows[symbol]
        missed = self.missed[row]
        windows = list(windows)
        entered = [ts for ts in missed if any(w.start_ms <= ts and ts + self.grid_ms <= w.end_ms for w in windows)]
        missed.difference_update(entered)
        for window in windows:
            first = max(-(-(window.start_ms - self.base_ms) // self.grid_ms), 0)
            last = min((window.end_ms - self.base_ms) // self.grid_ms, self.capacity)
            empty = first + np.flatnonzero(~self.present[row, first:last]) if first < last else np.empty(0, np.intp)
            self.present[row, empty] = True
            for mantissas in self.mantissas.values():
                mantissas[row, empty] = 0
            entered += (self.base_ms + empty * self.grid_ms).tolist()
        return entered

    def put_long(self, symbol: str, times: Sequence[int], columns: Sequence[Long]) -> bool:
        """Enter whole series into an empty row; return False, and enter nothing, where floats lack the digits."""
        if any(column.largest * 10**column.places >= EXACT_FLOATS for column in columns):
            return False
        row = self.rows[symbol]
        offsets = np.array(times, np.int64) - self.base_ms
        kept = (offsets % self.grid_ms == 0) & (offsets >= 0) & (offsets < self.capacity * self.grid_ms)
        places = offsets[kept] // self.grid_ms
        self.present[row, places] = True
        for name, column in zip(self.columns, columns, strict=True):
            values = np.array(column.values, np.float64)[kept]
            is_null = np.isnan(values)
            mantissas = np.rint(np.where(is_null, 0.0, values) * 10.0**column.places).astype(np.int64)
            self.mantissas[name][row, places] = np.where(is_null, UNKNOWN, mantissas)
            self.places[name][row] = column.places
        return True

    def erase(self, symbol: str, ts: int) -> None:
        """Take a row out again."""
        row, column = self.rows[symbol], self._column_of(ts)
        self.recent[row].pop(ts, None)
        if (ts - self.base_ms) % self.grid_ms == 0 and 0 <= column < self.capacity:
            self.present[row, column] = False
            for mantissas in self.mantissas.values():
                mantissas[row, column] = UNKNOWN

    def list_missing(self, start_ms: int, end_ms: int) -> list[tuple[str, int]]:
        """Return the (symbol, ts) of start_ms < ts <= end_ms that are not known."""
        found = []
        for ts in range(start_ms + self.grid_ms, end_ms + 1, self.grid_ms):
            column = self._column_of(ts)
            if 0 <= column < self.capacity:
                found += [(self.symbols[row], ts) for row in np.flatnonzero(~self.present[:, column]).tolist()]
        return found

    def find_holes(self, end_ms: int) -> dict[str, Window]:
        """Return from the first to the last point before `end_ms` that is not known, of symbols that have such."""
        last = min(self._column_of(end_ms - 1) + 1, self.capacity)
        found: dict[str, Window] = {}
        for row in np.flatnonzero(~self.present[:, :last].all(axis=1)):
            columns = np.flatnonzero(~self.present[row, :last])
            found[self.symbols[row]] = Window(
                self.base_ms + int(columns[0]) * self.grid_ms, self.base_ms + int(columns[-1] + 1) * self.grid_ms
            )
        for symbol, missed in zip(self.symbols, self.missed, strict=True):
            if missed:
                held = found.get(symbol, Window(min(missed), max(missed) + self.grid_ms))
                found[symbol] = Window(min(min(missed), held.start_ms), max(max(missed) + self.grid_ms, held.end_ms))
        return found

    def read(self, column: str, symbol: str, end_ms: int, step_ms: int, count: int) -> list[Decimal | None]:
        """Return the values at end_ms - k * step_ms, oldest first."""
        row = self.rows.get(symbol)
        if row is None:
            return [None] * count
        last, step = self._column_of(end_ms), max(step_ms // self.grid_ms, 1)  # of one point any step will do
        mantissas, places = self.mantissas[column][row], int(self.places[column][row])
        result: list[Decimal | None] = []
        for index in range(last - (count - 1) * step, last + 1, step):
            mantissa = int(mantissas[index]) if 0 <= index < self.capacity else UNKNOWN
            if mantissa == UNKNOWN:
                result.append(None)
            elif mantissa == WIDE:
                result.append(self.wide[column, row, self.base_ms + index * self.grid_ms])
            else:
                result.append(Decimal(mantissa).scaleb(-places, CONTEXT))
        return result

    def read_newest_sample(self, column: str, symbol: str, moment_ms: int) -> Decimal | None:
        """Return the newest value known at a moment, None when it is too old."""
        row, index = self.rows.get(symbol), self.columns.index(column)
        samples = self.recent[row] if row is not None else {}
        oldest_ms = moment_ms - FRESH_INTERVALS * self.grid_ms
        known = (ts for ts, values in samples.items() if oldest_ms <= ts <= moment_ms and values[index] is not None)
        ts = max(known, default=None)
        return None if ts is None else samples[ts][index]

    def _column_of(self, ts: int) -> int:
        return (ts - self.base_ms) // self.grid_ms

    def _encode(self, column: str, row: int, ts: int, value: Decimal | None) -> int:
        if value is None:
            return UNKNOWN
        places = int(self.places[column][row])
        mantissa = value.scaleb(places, EXACT)
        if mantissa != mantissa.to_integral_value():
            if not self._refine(column, row, -int(value.normalize(EXACT).as_tuple().exponent)):
                self.wide[column, row, ts] = value
                return WIDE
            mantissa = value.scaleb(int(self.places[column][row]), EXACT)
        if abs(mantissa) > LARGEST:
            self.wide[column, row, ts] = value
            return WIDE
        return int(mantissa)

    def _refine(self, column: str, row: int, places: int) -> bool:
        """Keep a series with more decimal places; return False where its values would not fit any more."""
        mantissas = self.mantissas[column][row]
        factor = 10 ** (places - int(self.places[column][row]))
        held = mantissas > WIDE
        if places > MOST_PLACES or (held.any() and int(np.abs(mantissas[held]).max()) * factor > LARGEST):
            return False
        mantissas[held] *= factor
        self.places[column][row] = places
        return True


class SettlementTable(Table):
    """Settlements: rows at times without a grid."""

    def __init__(self, reads: Reads) -> None:
        """Begin empty."""
        super().__init__(reads)
        self.lag_ms = self.lags.slowest.lag_ms
        self.times: list[list[int]] = []
        self.values: list[dict[int, Values]] = []
        self.covered: list[list[Window]] = []
        self.unseen: list[set[int]] = []  # settlements that are stored, and that no minute has seen yet

    def add_symbols(self, symbols: Iterable[str]) -> list[str]:
        """Add rows for symbols that have none and return them."""
        added = [symbol for symbol in symbols if symbol not in self.rows]
        for symbol in added:
            self.rows[symbol] = len(self.symbols)
            self.symbols.append(symbol)
            self.times.append([])
            self.values.append({})
            self.covered.append([])
            self.unseen.append(set())
        return added

    def expect(self, symbol: str, ts: int) -> None:
        """Note that a settlement is stored, which is put in when a minute sees it."""
        self.unseen[self.rows[symbol]].add(ts)

    def has(self, symbol: str, ts: int) -> bool:
        """Return whether the settlement was put in."""
        return ts in self.values[self.rows[symbol]]

    def holds(self, symbol: str, ts: int) -> bool:
        """Return whether the settlement is in the table."""
        return self.has(symbol, ts)

    def find_following(self, symbol: str, ts: int) -> int | None:
        """Return the ts of the next settlement that is held behind a time."""
        times = self.times[self.rows[symbol]]
        index = bisect_right(times, ts)
        return times[index] if index < len(times) else None

    def put(self, symbol: str, ts: int, values: Values) -> None:
        """Enter a settlement."""
        row = self.rows[symbol]
        self.unseen[row].discard(ts)
        if ts not in self.values[row]:
            insort(self.times[row], ts)
        self.values[row][ts] = values

    def find_newest(self, symbol: str) -> int:
        """Return the ts of the newest settlement, 0 without any."""
        times = self.times[self.rows[symbol]]
        return times[-1] if times else 0

    def read_in_force(self, column: str, symbol: str, at_ms: int) -> Decimal | None:
        """Return the value of the settlement in force at a moment."""
        row = self.rows.get(symbol)
        index = bisect_right(self.times[row], at_ms - self.lag_ms) - 1 if row is not None else -1
        if row is None or index < 0 or at_ms > self._end_ms(row, index):
            return None
        return self.values[row][self.times[row][index]][self.columns.index(column)]

    def read_window(self, column: str, symbol: str, start_ms: int, end_ms: int) -> list[Decimal | None] | None:
        """Return the values that became known after start_ms, at end_ms at the latest; None where one may be missing.

        None is missing where the time up to the newest is covered and the next one is not due yet, or where all is
        covered and every settlement of it has been seen.
        """
        row = self.rows.get(symbol)
        if row is None:
            return None
        times, first_ms, known_ms = self.times[row], start_ms + 1 - self.lag_ms, end_ms - self.lag_ms
        last = bisect_right(times, known_ms) - 1
        newest_ms = times[last] if last >= 0 and end_ms <= self._end_ms(row, last) else None
        covered_ms = known_ms - 1 if newest_ms is None else newest_ms
        if first_ms <= covered_ms and not any(
            window.start_ms <= first_ms and covered_ms < window.end_ms for window in self.covered[row]
        ):
            return None
        if newest_ms is None and any(first_ms <= ts <= known_ms for ts in self.unseen[row]):
            return None
        index = self.columns.index(column)
        return [self.values[row][ts][index] for ts in times[bisect_left(times, first_ms) : last + 1]]

    def forget(self, before_ms: int) -> None:
        """Forget settlements that are not read any more."""
        for row, times in enumerate(self.times):
            gone = bisect_left(times, before_ms)
            for ts in times[:gone]:
                del self.values[row][ts]
            del times[:gone]

    def _end_ms(self, row: int, index: int) -> int:
        """Return until when a settlement is in force unless a newer one is known."""
        ts = self.times[row][index]
        hours = self.values[row][ts][self.columns.index("fr_hours")] if "fr_hours" in self.columns else None
        return ts + int(hours or USUAL_HOURS) * HOUR_MS + self.lag_ms
