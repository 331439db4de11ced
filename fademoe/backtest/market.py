"""All series that a run reads: what of each was known at a moment, and the hash of what was read.

Series are loaded in chunks of some days as the run reaches them, and let go when it has passed. Nothing is given out
but by functions that are told the moment, and that give what was known then.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fademoe.account.market import Settlement
from fademoe.account.numbers import ZERO
from fademoe.backtest.columns import Column, Table
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, subtract
from fademoe.errors import ConfigError, FadeMoeError
from fademoe.feeds.lags import find_lags
from fademoe.feeds.registry import find_parts
from fademoe.metrics import ACROSS_CODE, INTERVALS_MS, METRICS, Derived, Instant, name_perpspec
from fademoe.store.coverage import Series
from fademoe.store.read.market import Known

Value = Decimal | None

CHUNK_DAYS = 4
STALE_INTERVALS = 3  # of samples
USUAL_HOURS = 8  # between two settlements, where the exchange does not say
FUNDING = "fr"
CANDLES = "ohlcv"
FIRST = {CANDLES: ("o", "h", "l", "c", "v"), "mark": ("mark_o", "mark_h", "mark_l", "mark_c")}  # parsed together


class NotCovered(FadeMoeError):
    """A strategy asked for a series of which a part of the run is missing."""

    def __init__(self, missing: Sequence[tuple[Series, Window]]) -> None:
        super().__init__(f"{missing[0][0].source} {missing[0][0].symbol}: a part of the range is not stored")
        self.missing = missing


class UnknownColumn(ConfigError):
    """A strategy asked for a column that no metric has, or of an exchange that does not have it."""


class Loader(Protocol):
    """Where rows come from."""

    def read(self, series: Series, metric: str, window: Window, *, timed: bool = False) -> bytes:
        """Return the rows of a window as `store.read.market.read_lines` does."""

    def read_known(self, series: Series) -> Known:
        """Return what is covered and absent of a series."""


class SeriesHash(NamedTuple):
    """What was read of a series: its rows within the run, and the rows before it that were looked back at."""

    source: str
    symbol: str
    rows: int
    sha256: str
    look_back_ms: int
    rows_before: int
    sha256_before: str


class _Reading:
    """One series while a run reads it: its chunks, and the hash of those that are passed."""

    def __init__(self, market: "Market", series: Series, metric: str) -> None:
        self.series = series
        self.metric = metric
        self.look_back_ms = 0
        self._market = market
        self._columns = [column.name for column in METRICS[metric].columns]
        self._numbers = [column.name for column in METRICS[metric].columns if not column.text]
        self._tables: dict[int, Table] = {}
        self._lines: dict[int, bytes] = {}  # of chunks that are not hashed yet, and of those before the run
        self._digest = hashlib.sha256()
        self._rows = 0
        self.first = self.last = b""  # rows of the run
        self._hashed = 0  # chunks of the run

    @property
    def is_timed(self) -> bool:
        return METRICS[self.metric].instant is Instant.MOMENT

    def chunk_of(self, ts: int) -> int:
        return (ts - self._market.since) // self._market.chunk_ms

    def window_of(self, chunk: int) -> Window:
        start = self._market.since + chunk * self._market.chunk_ms
        end = start + self._market.chunk_ms
        return Window(start, min(end, self._market.until) if chunk >= 0 else min(end, self._market.since))

    def load(self, chunk: int) -> Table:
        """Return the rows of a chunk."""
        if chunk not in self._tables:
            window = self.window_of(chunk)
            lines = b""
            if window.start_ms < window.end_ms:
                lines = self._market.loader.read(self.series, self.metric, window, timed=self.is_timed)
            if chunk < 0 or chunk >= self._hashed:
                self._lines.setdefault(chunk, lines)
            self._tables[chunk] = Table(lines, self._columns, FIRST.get(self.metric, ()), timed=self.is_timed)
        return self._tables[chunk]

    def look_back_to(self, ts: int) -> None:
        """Note that rows from `ts` on were looked at."""
        self.look_back_ms = max(self.look_back_ms, self._market.since - ts)

    def pass_until(self, chunk: int) -> None:
        """Hash the chunks of the run before this one, and let go of what is too old to be looked back at."""
        while self._hashed < chunk:
            self.load(self._hashed)
            lines = self._lines.pop(self._hashed)
            self._rows += self._add(self._digest, lines)
            if lines:
                self.first = self.first or lines[: lines.index(b"\n")]
                self.last = lines[lines.rfind(b"\n", 0, -1) + 1 : -1]
            self._hashed += 1
        oldest = chunk - 2 - self.look_back_ms // self._market.chunk_ms
        for passed in [number for number in self._tables if number < oldest]:
            del self._tables[passed]
        self._forget(oldest)

    def _forget(self, chunk: int) -> None:
        """Let go of what was made of the chunks before this one."""

    def close(self) -> SeriesHash:
        """Return the hash of all that was read."""
        last = self.chunk_of(self._market.until - 1)
        self.pass_until(last + 1)
        before, rows_before = hashlib.sha256(), 0
        start = self._market.since - self.look_back_ms
        for chunk in sorted(number for number in self._lines if number < 0):
            lines = self._lines[chunk].splitlines(keepends=True)
            kept = [line for line in lines if int(line.partition(b"\t")[0]) >= start]
            rows_before += self._add(before, b"".join(kept))
        return SeriesHash(
            *self.series, self._rows, self._digest.hexdigest(), self.look_back_ms, rows_before, before.hexdigest()
        )

    def _add(self, digest: "hashlib._Hash", lines: bytes) -> int:
        """Add rows to a hash as `certify` does; return how many."""
        if self.is_timed:
            split = (line.split(b"\t", 2) for line in lines.splitlines(keepends=True))
            lines = b"".join(ts + b"\t" + values for ts, _, values in split)
        digest.update(lines)
        return lines.count(b"\n")


class Bars(_Reading):
    """A series on a grid: candles, marks, values of a minute, sums of a minute."""

    def __init__(self, market: "Market", series: Series, metric: str) -> None:
        super().__init__(market, series, metric)
        self.step_ms = INTERVALS_MS[METRICS[metric].interval]
        self._per_day = DAY_MS // self.step_ms
        self._days: dict[str, dict[int, list[Value]]] = {}
        self._spread: dict[tuple[int, str], Column] = {}
        self._floats: dict[str, tuple[int, NDArray[np.float64]]] = {}  # of one chunk
        lags = market.find_lags(series.source)
        at_minute_end = not find_parts(series.source) and any(lag.at_minute_end for lag in find_lags(series.source))
        self._lag_ms = self.step_ms + (0 if at_minute_end else max(lags.values()))

    def find_last(self, column: str, at_ms: int) -> int:  # of any column the same
        """Return the newest grid point that is known at `at_ms`."""
        return floor_to(at_ms - self._lag_ms, self.step_ms)

    def get(self, column: str, ts: int) -> Value:
        """Return the value of a grid point."""
        day, place = divmod((ts - self._market.since) // self.step_ms, self._per_day)
        if ts < self._market.since:
            self.look_back_to(ts)
        return self.read_day(column, day)[place]

    def list_points(self, column: str, last: int, count: int) -> list[Value]:
        """Return the values of `count` grid points up to `last`, oldest first."""
        day, place = divmod((last - self._market.since) // self.step_ms, self._per_day)
        first = place + 1 - count
        if first >= 0:
            if day < 0:
                self.look_back_to(last - (count - 1) * self.step_ms)
            return self.read_day(column, day)[first : place + 1]
        self.look_back_to(last - (count - 1) * self.step_ms)
        parts = [self.read_day(column, day)[: place + 1]]
        while first < 0:
            day -= 1
            parts.append(self.read_day(column, day)[max(first + self._per_day, 0) :])
            first += self._per_day
        return [value for part in reversed(parts) for value in part]

    def list_known(
        self, column: str, at_ms: int, count: int, offset_ms: int = 0, step_ms: int | None = None
    ) -> list[Value]:
        """Return the values that are known at `at_ms` at `count` points, the last one `offset_ms` before the newest."""
        last = self.find_last(column, at_ms) - offset_ms
        if step_ms in (None, self.step_ms):
            return self.list_points(column, last, count)
        return [self.get(column, last - back * step_ms) for back in range(count - 1, -1, -1)]

    def read_day(self, column: str, day: int) -> list[Value]:
        """Return all values of a day of the run; days before the run have negative numbers."""
        days = self._days.get(column)
        if days is None:
            days = self._days[column] = {}
        values = days.get(day)
        if values is None:
            values = days[day] = self._make_day(column, day)
        return values

    def _make_day(self, column: str, day: int) -> list[Value]:
        chunk, within = divmod(day, self._market.chunk_days)
        start = within * self._per_day
        values = self.get_column(column, chunk).read_decimals(start, start + self._per_day)
        values += [None] * (self._per_day - len(values))
        if METRICS[self.metric].zero_when_empty:
            self._fill_covered(values, self._market.since + day * DAY_MS)
        return values

    def read_points(self, columns: Sequence[str], day: int, place: int) -> list[Value] | None:
        """Return the values of columns at one point of a day, None where the first has none; for few points of a day.

        Not for metrics whose empty points are zero.
        """
        chunk, within = divmod(day, self._market.chunk_days)
        at = within * self._per_day + place
        first, *others = [self.get_column(name, chunk) for name in columns]
        value = first.read_decimal(at) if at < len(first) else None
        return None if value is None else [value, *[column.read_decimal(at) for column in others]]

    def read_floats(self, column: str, day: int) -> NDArray[np.float64]:
        """Return the values of a day as floats, NaN where there is none; shorter at the end of the run."""
        chunk, within = divmod(day, self._market.chunk_days)
        if self._floats.get(column, (None,))[0] != chunk:
            self._floats[column] = (chunk, self.get_column(column, chunk).read_floats())
        start = within * self._per_day
        return self._floats[column][1][start : start + self._per_day]

    def _fill_covered(self, values: list[Value], start: int) -> None:
        known = self._market.get_known(self.series)
        for covered in (part for window in known.covered for part in subtract(window, list(known.absent))):
            low = max(0, -(-(covered.start_ms - start) // self.step_ms))
            high = min(len(values), (covered.end_ms - start) // self.step_ms)
            for place in range(low, high):
                if values[place] is None:
                    values[place] = ZERO

    def get_column(self, name: str, chunk: int) -> Column:
        """Return the values of a column on the grid of a chunk."""
        key = (chunk, name)
        if key not in self._spread:
            table, window = self.load(chunk), self.window_of(chunk)
            length = max(0, window.end_ms - window.start_ms) // self.step_ms
            offsets = table.ts - window.start_ms
            column = table.get_column(name)
            on_grid = offsets % self.step_ms == 0
            if not on_grid.all():
                raise FadeMoeError(f"{self.series.source} {self.series.symbol}: a row lies between the grid's points")
            self._spread[key] = column.spread(offsets // self.step_ms, length)
        return self._spread[key]

    def _forget(self, chunk: int) -> None:
        for key in [key for key in self._spread if key[0] < chunk]:
            del self._spread[key]
        for days in self._days.values():
            for day in [day for day in days if day < chunk * self._market.chunk_days]:
                del days[day]

    def let_go(self, day: int) -> None:
        """Release the decimals of days before `day` that no strategy reads again."""
        oldest = day - 1 - self.look_back_ms // DAY_MS
        for days in self._days.values():
            for passed in [number for number in days if number < oldest]:
                del days[passed]


class _Rows(NamedTuple):
    """Samples of a chunk, oldest first."""

    ts: list[int]
    known_ms: list[int]
    columns: dict[str, list[Value]]
    places: dict[int, int]


class Samples(_Reading):
    """A series of samples: rows on the grid's points, and, followed live, between them."""

    def __init__(self, market: "Market", series: Series, metric: str) -> None:
        super().__init__(market, series, metric)
        self.step_ms = INTERVALS_MS[METRICS[metric].interval]
        self._lags = market.find_lags(series.source)
        self._slowest_ms = max(self._lags.values())
        self._rows_of: dict[int, _Rows] = {}

    def find_last(self, column: str, at_ms: int) -> int:
        """Return the newest grid point whose value is known at `at_ms`, at least the one that must be by now."""
        due = floor_to(at_ms - self._slowest_ms, self.step_ms)
        for ts in range(floor_to(at_ms, self.step_ms), due, -self.step_ms):
            rows = self._rows_at(ts)
            place = rows.places.get(ts)
            if place is not None and rows.known_ms[place] <= at_ms and rows.columns[column][place] is not None:
                return ts
        return due

    def list_known(
        self, column: str, at_ms: int, count: int, offset_ms: int = 0, step_ms: int | None = None
    ) -> list[Value]:
        """Return the values that are known at `at_ms` at `count` points, the last one `offset_ms` before the newest."""
        last, step_ms = self.find_last(column, at_ms) - offset_ms, step_ms or self.step_ms
        return [self._get(column, last - back * step_ms, at_ms) for back in range(count - 1, -1, -1)]

    def _get(self, column: str, ts: int, at_ms: int) -> Value:
        """Return the value of the row at a grid point, None where it is not known yet."""
        if ts < self._market.since:
            self.look_back_to(ts)
        rows = self._rows_at(ts)
        place = rows.places.get(ts)
        return None if place is None or rows.known_ms[place] > at_ms else rows.columns[column][place]

    def find_newest(self, column: str, at_ms: int) -> Value:
        """Return the newest value that is known at `at_ms`; None when it is older than three intervals."""
        oldest = at_ms - STALE_INTERVALS * self.step_ms
        chunk = self.chunk_of(at_ms)
        while chunk >= self.chunk_of(oldest):
            rows = self._load_rows(chunk)
            for place in range(bisect_right(rows.ts, at_ms) - 1, -1, -1):
                if rows.ts[place] < oldest:
                    break
                if rows.known_ms[place] <= at_ms and rows.columns[column][place] is not None:
                    if rows.ts[place] < self._market.since:
                        self.look_back_to(rows.ts[place])
                    return rows.columns[column][place]
            chunk -= 1
        return None

    def _rows_at(self, ts: int) -> _Rows:
        return self._load_rows(self.chunk_of(ts))

    def _load_rows(self, chunk: int) -> _Rows:
        if chunk not in self._rows_of:
            table = self.load(chunk)
            ts = table.ts.tolist()
            slowest = self._slowest_ms
            known = [at + self._lags.get(name, slowest) for at, name in zip(ts, table.intervals, strict=True)]
            columns = {name: table.get_column(name).read_decimals() for name in self._numbers}
            self._rows_of[chunk] = _Rows(ts, known, columns, {at: place for place, at in enumerate(ts)})
        return self._rows_of[chunk]

    def _forget(self, chunk: int) -> None:
        for passed in [number for number in self._rows_of if number < chunk]:
            del self._rows_of[passed]


class Settlements(_Reading):
    """The settlements of a contract: all of them at once, there are few."""

    def __init__(self, market: "Market", series: Series, metric: str) -> None:
        super().__init__(market, series, metric)
        self.lag_ms = max(market.find_lags(series.source).values())
        window = Window(0, market.until)
        table = Table(market.loader.read(series, metric, window, timed=True), self._columns, timed=True)
        self._ts: list[int] = table.ts.tolist()
        self._values = {name: table.get_column(name).read_decimals() for name in self._numbers}

    def find_newest(self, column: str, at_ms: int) -> Value:
        """Return the value of the settlement in force; None when the next one should have been known by `at_ms`."""
        place = bisect_right(self._ts, at_ms - self.lag_ms) - 1
        if place < 0:
            return None
        ts, hours = self._ts[place], self._values.get("fr_hours", [None] * len(self._ts))[place]
        if ts < self._market.since:
            self.look_back_to(ts)
        if at_ms > ts + int(USUAL_HOURS if hours is None else hours) * HOUR_MS + self.lag_ms:
            return None
        return self._values[column][place]

    def list_newest(self, column: str, at_ms: int, count: int) -> list[Value]:
        """Return the last `count` values that are known at `at_ms`, None in front where there are fewer."""
        end = bisect_right(self._ts, at_ms - self.lag_ms)
        start = max(0, end - count)
        if start < end and self._ts[start] < self._market.since:
            self.look_back_to(self._ts[start])
        return [None] * (count - (end - start)) + self._values[column][start:end]

    def list_between(self, column: str, start_ms: int, end_ms: int) -> list[Value]:
        """Return the values that became known after start_ms, at end_ms at the latest."""
        first_ms, last_ms = start_ms + 1 - self.lag_ms, end_ms - self.lag_ms
        if first_ms < self._market.since:
            self.look_back_to(first_ms)
        return self._values[column][bisect_left(self._ts, first_ms) : bisect_right(self._ts, last_ms)]

    def is_whole(self, start_ms: int, end_ms: int) -> bool:
        """Return whether all settlements are there that may have become known after start_ms, up to end_ms."""
        window = Window(start_ms + 1 - self.lag_ms, end_ms - self.lag_ms)
        known = self._market.get_known(self.series)
        is_absent = any(each.start_ms < window.end_ms and each.end_ms > window.start_ms for each in known.absent)
        return not is_absent and not find_missing(known, window, (window,))

    def list_by_minute(self) -> dict[int, list[Settlement]]:
        """Return what was settled in each minute of the run."""
        found: dict[int, list[Settlement]] = {}
        marks = self._values.get("fr_mark", [None] * len(self._ts))
        for place in range(bisect_left(self._ts, self._market.since), len(self._ts)):
            rate = self._values[FUNDING][place]
            if rate is not None:
                settlement = Settlement(self._ts[place], rate, marks[place])
                found.setdefault(floor_to(settlement.ts, MINUTE_MS), []).append(settlement)
        return found

    def close(self) -> SeriesHash:
        """Return the hash of the rows of the run, and of those before it back to the oldest that was looked at."""
        since = self._market.since
        if self.look_back_ms:
            before = Window(since - self.look_back_ms, since)
            self._lines[-1] = self._market.loader.read(self.series, self.metric, before, timed=self.is_timed)
        return super().close()


Reading = Bars | Samples | Settlements


class Market:
    """The series of a run over [since, until) on the exchange with the code `code`."""

    def __init__(
        self,
        loader: Loader,
        code: str,
        since: int,
        until: int,
        lags: Mapping[str, Mapping[str, int]],
        lives: Mapping[tuple[str, str], Sequence[Window]] | None = None,
        chunk_days: int = CHUNK_DAYS,
    ) -> None:
        """Read from `loader`. `lags`: ms by source and interval; what is not in it is as declared.

        `lives`: of a code and symbol the times in which a contract traded; without it, always. `chunk_days`: how much
        of a series is read at once.
        """
        self.loader = loader
        self.code = code
        self.since = since
        self.until = until
        self.lags_used: dict[str, dict[str, int]] = {}
        self._lags = lags
        self._lives = lives
        self._readings: dict[tuple[str, str, str], Reading] = {}
        self._known: dict[Series, Known] = {}
        self.chunk_days = chunk_days
        self.chunk_ms = chunk_days * DAY_MS
        self.now = since  # the minute that the run has come to

    def find_lags(self, source: str) -> dict[str, int]:
        """Return the lags of a source by interval; what is derived is known when all is that it is computed from."""
        if source not in self.lags_used and find_parts(source):
            slowest: dict[str, int] = {}
            for name in (name for part in find_parts(source) for name in part.inputs):
                for interval, lag_ms in self.find_lags(name).items():
                    slowest[interval] = max(lag_ms, slowest.get(interval, 0))
            self.lags_used[source] = slowest
        if source not in self.lags_used:
            declared = {lag.interval: lag.lag_ms for lag in find_lags(source)}
            self.lags_used[source] = declared | {
                interval: lag_ms for interval, lag_ms in self._lags.get(source, {}).items() if interval in declared
            }
        return self.lags_used[source]

    def list_readings(self) -> list[Reading]:
        """Return the series that were asked for."""
        return list(self._readings.values())

    def get_known(self, series: Series) -> Known:
        """Return what is covered and absent of a series."""
        if series not in self._known:
            self._known[series] = self.loader.read_known(series)
        return self._known[series]

    def get_bars(self, metric: str, symbol: str) -> Bars:
        """Return a series of the run's own exchange that lies on a grid."""
        reading = self._get(self.code, symbol, metric, is_own=True)
        assert isinstance(reading, Bars)
        return reading

    def get_settlements(self, symbol: str) -> Settlements:
        """Return the settlements of the run's own exchange."""
        reading = self._get(self.code, symbol, FUNDING, is_own=True)
        assert isinstance(reading, Settlements)
        return reading

    def find_reading(self, symbol: str, column: str, code: str | None = None) -> Reading:
        """Return the series that has a column.

        Raises UnknownColumn, and NotCovered when a part of the rest of the run is missing of it.
        """
        metrics = _find_metrics(is_across=code == ACROSS_CODE)
        metric = metrics.get(column)
        if metric is None:
            raise UnknownColumn(f"unknown column {column!r}: valid are {', '.join(metrics)}")
        return self.find_series(code or self.code, symbol, metric)

    def find_series(self, code: str, symbol: str, metric: str) -> Reading:
        """Return the series of a metric; raise as `find_reading` does."""
        return self._get(code, symbol, metric, is_own=False)

    def _get(self, code: str, symbol: str, metric: str, *, is_own: bool) -> Reading:
        reading = self._readings.get((code, symbol, metric))
        if reading is None:
            series = Series(metric if code == ACROSS_CODE else name_perpspec(code, metric), symbol)
            if isinstance(METRICS[metric], Derived) and not find_parts(series.source):
                raise UnknownColumn(f"{code} does not have what {metric} is computed from")
            self.find_lags(series.source)  # raises ConfigError for a source that is not declared
            if not is_own:
                self._check_covered(code, series)
            is_settled = METRICS[metric].interval not in INTERVALS_MS
            kind = Settlements if is_settled else Samples if _is_sampled(metric) else Bars
            reading = self._readings[code, symbol, metric] = kind(self, series, metric)
        return reading

    def _check_covered(self, code: str, series: Series) -> None:
        """Raise NotCovered unless a series, or all that it is computed from, is covered from now on."""
        window = Window(self.now, self.until)
        parts = [(part.code, name) for part in find_parts(series.source) for name in part.inputs]
        missing = []
        for part_code, source in parts or [(code, series.source)]:
            each = Series(source, series.symbol)
            known = self.get_known(each)
            if code == ACROSS_CODE and not known.covered:
                continue  # an exchange that is not followed has no part in it
            lives = (window,) if self._lives is None else self._lives[part_code, series.symbol]
            missing += [(each, gap) for gap in find_missing(known, window, lives)]
        if missing:
            raise NotCovered(missing)

    def is_known(self, code: str, symbol: str) -> bool:
        """Return whether an exchange lists a coin, or once did."""
        return code == ACROSS_CODE or self._lives is None or bool(self._lives[code, symbol])

    def move(self, ts: int) -> None:
        """Note that the run has come to the minute `ts`; hash and let go of what lies behind."""
        self.now = ts
        passed = ts - self.since
        if passed and passed % DAY_MS == 0:
            for reading in self._readings.values():
                if isinstance(reading, Bars):
                    reading.let_go(passed // DAY_MS)
                if passed % self.chunk_ms == 0:
                    reading.pass_until(passed // self.chunk_ms)

    def close(self) -> list[SeriesHash]:
        """Return the hashes of all series that were read, by source and symbol."""
        return sorted(reading.close() for reading in self._readings.values())

    @property
    def edges(self) -> dict[str, tuple[Value, Value]]:
        """The first open and the last close of each symbol, once the market is closed."""
        found: dict[str, tuple[Value, Value]] = {}
        for (code, symbol, metric), reading in self._readings.items():
            if code == self.code and metric == CANDLES and reading.first:
                opened, closed = reading.first.split(b"\t")[1], reading.last.split(b"\t")[4]
                found[symbol] = (Decimal(opened.decode()), Decimal(closed.decode()))
        return found


def find_missing(known: Known, window: Window, lives: Iterable[Window]) -> list[Window]:
    """Return the parts of a window that lie within a contract's lives and are not covered."""
    missing = []
    for life in lives:
        start, end = max(window.start_ms, life.start_ms), min(window.end_ms, life.end_ms)
        for covered in known.covered:
            if covered.end_ms <= start:
                continue
            if covered.start_ms >= end:
                break
            if covered.start_ms > start:
                missing.append(Window(start, covered.start_ms))
            start = max(start, covered.end_ms)
        if start < end:
            missing.append(Window(start, end))
    return missing


@cache
def _find_metrics(*, is_across: bool) -> dict[str, str]:
    """Return the metric of each column that is a number: of an exchange's metrics, or of those across exchanges."""
    found: dict[str, str] = {}
    for name, metric in METRICS.items():
        if (isinstance(metric, Derived) and metric.is_across) == is_across:
            for column in metric.columns:
                if not column.text:
                    found.setdefault(column.name, name)
    return found


def _is_sampled(metric: str) -> bool:
    return METRICS[metric].instant is Instant.MOMENT
