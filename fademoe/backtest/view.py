"""What a strategy sees at the end of a minute, and the minute as the account sees it."""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from functools import partial
from types import NoneType
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fademoe.account.market import ASSUMED_TERMS, Candle, Mark, Settlement, Terms
from fademoe.account.state import Account
from fademoe.backtest.market import Bars, Market, Samples, Settlements, Value
from fademoe.backtest.rules import ExpressionView
from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to

CANDLE_COLUMNS = ("o", "h", "l", "c", "v")
MARK_COLUMNS = ("mark_o", "mark_h", "mark_l", "mark_c")
FEW = 128  # minutes of a day in which a symbol's bars are read; with more it is faster to make the whole day
_LOOK_BACK_MOST_DAYS = 3_660  # for the last close of a contract


Bar = TypeVar("Bar", Candle, Mark)
Floats = NDArray[np.float64]


class Lives:
    """When the contracts of a run are listed. The minute of a delisting belongs to no life."""

    def __init__(self, lives: Mapping[str, Sequence[Window]]) -> None:
        """Take the lives of each symbol, in ms; their edges are rounded down to the minute.

        A life that begins in the minute in which another one ends begins with the next minute.
        """
        self._lives = {symbol: _round_lives(windows) for symbol, windows in lives.items()}
        self._ends: dict[int, list[str]] = {}
        for symbol in sorted(self._lives):
            for life in self._lives[symbol]:
                self._ends.setdefault(life.end_ms, []).append(symbol)
        edges = {edge for windows in self._lives.values() for window in windows for edge in window}
        self._edges = sorted(edges)
        self._listed: tuple[str, ...] = ()
        self._listed_until = -1

    def is_listed(self, symbol: str, ts: int) -> bool:
        """Say whether a contract trades in the minute `ts`."""
        return any(life.start_ms <= ts < life.end_ms for life in self._lives.get(symbol, ()))

    def find_listed(self, ts: int) -> tuple[str, ...]:
        """Return the symbols that trade in any minute, ascending."""
        return tuple(symbol for symbol in sorted(self._lives) if self.is_listed(symbol, ts))

    def list_listed(self, ts: int) -> tuple[str, ...]:
        """Return the symbols that trade in the minute `ts`, ascending; asked for minutes in order."""
        if ts >= self._listed_until:
            self._listed = tuple(symbol for symbol in sorted(self._lives) if self.is_listed(symbol, ts))
            self._listed_until = next((edge for edge in self._edges if edge > ts), ts + DAY_MS * 100_000)
        return self._listed

    def list_ends(self, start_ms: int, end_ms: int) -> list[int]:
        """Return the minutes in [start_ms, end_ms) in which a contract ends."""
        return [ts for ts in self._ends if start_ms <= ts < end_ms]

    def list_ended(self, ts: int) -> Sequence[str]:
        """Return the symbols whose contract ends in the minute `ts`."""
        return self._ends.get(ts, ())


def _round_lives(lives: Sequence[Window]) -> list[Window]:
    ends = {floor_to(life.end_ms, MINUTE_MS) for life in lives}
    rounded = []
    for life in lives:
        start, end = floor_to(life.start_ms, MINUTE_MS), floor_to(life.end_ms, MINUTE_MS)
        rounded.append(Window(start + MINUTE_MS if start in ends else start, end))
    return rounded


class DayPrices(NamedTuple):
    """The prices of a symbol in the minutes of a day, as floats; NaN where there is none."""

    has_mark: NDArray[np.bool_]
    closes: Floats  # of the mark, else of the candle
    lows: Floats  # adverse extremes of the same: of longs
    highs: Floats  # and of shorts
    candle_lows: Floats
    candle_highs: Floats


class _Bars(Generic[Bar]):
    """Bars of the day, read one by one where few are asked for, else all at once."""

    def __init__(self, kind: type[Bar], columns: Sequence[str], bars: Mapping[str, Bars]) -> None:
        self.made: dict[str, list[Bar | None]] = {}  # all bars of the day, by symbol
        self._make: type[Bar] = kind
        self._columns = columns
        self._bars = bars
        self._request_counts: dict[str, int] = {}
        self._newest: dict[str, tuple[int, Bar | None]] = {}  # the place that was read last, and its bar

    def read(self, symbol: str, day: int, place: int) -> Bar | None:
        """Return a bar of a symbol of which not all are made."""
        newest = self._newest.get(symbol)
        if newest is not None and newest[0] == place:
            return newest[1]
        requested = self._request_counts[symbol] = self._request_counts.get(symbol, 0) + 1
        if requested > FEW:
            self.made[symbol] = _zip_day(self._make, self._bars[symbol], self._columns, day)
            return self.made[symbol][place]
        values = self._bars[symbol].read_points(self._columns, day, place)
        bar = None if values is None else tuple.__new__(self._make, values)
        self._newest[symbol] = place, bar
        return bar

    def clear(self) -> None:
        """Go to another day."""
        self.made.clear()
        self._request_counts.clear()
        self._newest.clear()


class RunMinute:
    """A minute of a run, as the account sees it. `move` goes to the next one."""

    def __init__(
        self, market: Market, symbols: Sequence[str], lives: Lives, terms: Mapping[str, Sequence[tuple[int, Terms]]]
    ) -> None:
        """Take what trades. `terms`: of a symbol the terms with the minute from which they hold, the oldest first."""
        self.ts = market.since
        self._market = market
        self._lives = lives
        self._terms = terms
        self.day = 0  # of the run
        self.place = 0  # within the day
        self._candle_bars = {symbol: market.get_bars("ohlcv", symbol) for symbol in symbols}
        self._mark_bars = {symbol: market.get_bars("mark", symbol) for symbol in symbols}
        self._candles = _Bars(Candle, CANDLE_COLUMNS, self._candle_bars)
        self._marks = _Bars(Mark, MARK_COLUMNS, self._mark_bars)
        self._day_prices: dict[str, DayPrices] = {}
        settlements = {symbol: market.get_settlements(symbol) for symbol in symbols}
        self._settled = {symbol: each.list_by_minute() for symbol, each in settlements.items()}
        self._settling = {ts for by_minute in self._settled.values() for ts in by_minute}
        self._settling_in_order = sorted(self._settling)
        self._current: dict[str, Terms] = {}
        self._current_until = 0
        self._absent = {
            symbol: [w for w in market.get_known(each.series).absent if w.end_ms > market.since]
            for symbol, each in settlements.items()
        }
        self._has_absent = any(self._absent.values())

    def move(self, ts: int) -> None:
        """Go to the minute `ts`."""
        self.ts = ts
        day, self.place = divmod((ts - self._market.since) // MINUTE_MS, DAY_MS // MINUTE_MS)
        if day != self.day:
            self.day = day
            self._candles.clear()
            self._marks.clear()
            self._day_prices.clear()

    @property
    def left(self) -> int:
        """How many minutes there are from this one to the end of the day, or of the run."""
        return min(DAY_MS // MINUTE_MS - self.place, (self._market.until - self.ts) // MINUTE_MS)

    def find_candle(self, symbol: str) -> Candle | None:
        day = self._candles.made.get(symbol)
        return day[self.place] if day is not None else self._candles.read(symbol, self.day, self.place)

    def find_mark(self, symbol: str) -> Mark | None:
        day = self._marks.made.get(symbol)
        return day[self.place] if day is not None else self._marks.read(symbol, self.day, self.place)

    def find_close_before(self, symbol: str) -> Decimal | None:
        bars, place = self._candle_bars[symbol], self.place
        for day in range(self.day, self.day - _LOOK_BACK_MOST_DAYS, -1):
            closes = bars.read_day("c", day)
            for value in reversed(closes[:place] if day == self.day else closes):
                if value is not None:
                    return value
        return None

    def may_settle(self) -> bool:
        return self.ts in self._settling or self._has_absent

    def list_settlements(self, symbol: str) -> Sequence[Settlement]:
        return self._settled[symbol].get(self.ts, ())

    def find_absent_funding(self, symbol: str) -> tuple[int, int] | None:
        for start_ms, end_ms in self._absent[symbol]:
            if start_ms < self.ts + MINUTE_MS and end_ms > self.ts:
                return start_ms, end_ms
        return None

    def list_turns(self, symbols: Collection[str], count: int) -> list[range]:
        """Return the next minutes, counted from this one, in which more may happen to positions than a new price.

        Settlements, ends of contracts, other terms.
        """
        end = self.ts + count * MINUTE_MS
        settled = self._settling_in_order
        turns = [range(ts, ts + 1) for ts in settled[bisect_left(settled, self.ts) : bisect_left(settled, end)]]
        turns += [range(ts, ts + 1) for ts in self._lives.list_ends(self.ts, end)]
        turns += [range(*absent) for symbol in symbols for absent in self._absent[symbol]] if self._has_absent else []
        turns += [range(self._current_until, end)] if symbols else []
        return [
            range(max(0, (turn.start - self.ts) // MINUTE_MS), max(0, -((self.ts - turn.stop) // MINUTE_MS)))
            for turn in turns
        ]

    def read_day(self, symbol: str) -> "DayPrices":
        """Return the prices of the day as floats."""
        if symbol not in self._day_prices:
            candles, marks = self._candle_bars[symbol], self._mark_bars[symbol]
            o, h, l, c = (candles.read_floats(name, self.day) for name in "ohlc")  # noqa: E741 - the columns' names
            mark_o, mark_h, mark_l, mark_c = (marks.read_floats(name, self.day) for name in MARK_COLUMNS)
            has_mark = ~np.isnan(mark_o)
            self._day_prices[symbol] = DayPrices(
                has_mark,
                np.where(has_mark, mark_c, c),
                np.where(has_mark, np.minimum(mark_o, mark_l), np.minimum(o, l)),
                np.where(has_mark, np.maximum(mark_o, mark_h), np.maximum(o, h)),
                l,
                h,
            )
        return self._day_prices[symbol]

    def list_closes(self, symbol: str, first: int, last: int) -> list[Value]:
        """Return the closes of the marks, else of the candles, of the places [first, last) of the day."""
        closes = self._mark_bars[symbol].read_day("mark_c", self.day)[first:last]
        unmarked = np.flatnonzero(~self.read_day(symbol).has_mark[first:last]).tolist()
        if unmarked:
            traded = self._candle_bars[symbol].read_day("c", self.day)
            for place in unmarked:
                closes[place] = traded[first + place]
        return closes

    def list_delisted(self) -> Sequence[str]:
        return self._lives.list_ended(self.ts)

    def is_listed(self, symbol: str) -> bool:
        return self._lives.is_listed(symbol, self.ts)

    def get_terms(self, symbol: str) -> Terms:
        if self.ts >= self._current_until:
            self._find_current_terms()
        return self._current.get(symbol, ASSUMED_TERMS)

    def _find_current_terms(self) -> None:
        """Find the terms of this minute, and the minute in which the next ones begin to hold."""
        self._current_until = self._market.until
        for symbol, dated in self._terms.items():
            for since_ms, terms in dated:  # before the first ones the first ones hold
                if since_ms >= self.ts + MINUTE_MS and symbol in self._current:
                    self._current_until = min(self._current_until, floor_to(since_ms, MINUTE_MS))
                    break
                self._current[symbol] = terms


def _zip_day(kind: type[Bar], bars: Bars, columns: Sequence[str], day: int) -> list[Bar | None]:
    """Return the bars of a day, None for a minute without one."""
    values = [bars.read_day(column, day) for column in columns]
    make = partial(tuple.__new__, kind)  # as kind(*row) does, at a fifth of its time
    made: list[Bar | None] = list(map(make, zip(*values, strict=True)))
    if NoneType in map(type, values[0]):  # `None in` would compare each decimal with it
        made = [None if first is None else bar for first, bar in zip(values[0], made, strict=True)]
    return made


class RunView:
    """What is known at the end of a minute of a run. `move` goes to the next one."""

    def __init__(self, market: Market, account: Account, lives: Lives) -> None:
        self.ts = market.since
        self._market = market
        self._account = account
        self._lives = lives
        self.symbols: tuple[str, ...] = ()
        self._marked: Decimal | None = None
        self._found: dict[tuple[str, str, str | None], Bars | Samples | Settlements] = {}

    def move(self, ts: int, marked: Decimal | None = None) -> None:
        """Go to the end of the minute `ts`. `marked`: the equity then, where positions are not marked one by one."""
        self.ts = ts + MINUTE_MS
        self._marked = marked
        self.symbols = self._lives.list_listed(ts)

    @property
    def code(self) -> str:
        """The code of the run's exchange."""
        return self._market.code

    def as_expressions(self) -> ExpressionView:
        """Return the same minute as expressions ask for it."""
        return ExpressionView(self._market, self.symbols, self.ts, self._lives.find_listed)

    @property
    def equity(self) -> Decimal:
        return self._account.equity if self._marked is None else self._marked

    @property
    def cash(self) -> Decimal:
        return self._account.cash

    def position(self, symbol: str) -> Decimal:
        return self._account.hold(symbol)

    def entry(self, symbol: str) -> Decimal | None:
        held = self._account.positions.get(symbol)
        return None if held is None else held.entry

    def value(self, symbol: str, column: str, code: str | None = None) -> Decimal | None:
        reading = self._find(symbol, column, code)
        if isinstance(reading, Bars):
            return reading.get(column, reading.find_last(column, self.ts))
        return reading.find_newest(column, self.ts)

    def rows(self, symbol: str, column: str, n: int, code: str | None = None) -> list[Decimal | None]:
        reading = self._find(symbol, column, code)
        if n < 1:
            return []
        if isinstance(reading, Settlements):
            return reading.list_newest(column, self.ts, n)
        return reading.list_known(column, self.ts, n)

    def _find(self, symbol: str, column: str, code: str | None) -> Bars | Samples | Settlements:
        key = (symbol, column, code)
        reading = self._found.get(key)
        if reading is None:
            reading = self._found[key] = self._market.find_reading(symbol, column, code)
        return reading
