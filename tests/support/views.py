"""A view of expressions over plain dictionaries, for tests."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from fademoe.clock import MINUTE_MS
from fademoe.expressions import Measure

Series = Mapping[int, Decimal | None]  # ts -> value


class ListView:
    """What is known at `moment_ms`, when every series is known up to `lag_ms` before.

    `series` maps (code, symbol, column) to values by ts; `settlements` maps (code, symbol) to (rate, hours) by ts;
    `zeroes` are the (code, symbol) whose minutes are all covered; `holes` those of which settlements may be missing.
    """

    def __init__(
        self,
        moment_ms: int,
        series: Mapping[tuple[str, str, str], Series],
        settlements: Mapping[tuple[str, str], Mapping[int, tuple[Decimal, int | None]]] | None = None,
        symbols: Sequence[str] = (),
        zeroes: frozenset[tuple[str, str]] = frozenset(),
        holes: frozenset[tuple[str, str]] = frozenset(),
        lags_ms: Mapping[str, int] | None = None,
    ) -> None:
        self.moment_ms = moment_ms
        self.series = series
        self.settlements = settlements or {}
        self.symbols = symbols
        self.zeroes = zeroes
        self.holes = holes
        self.lags_ms = lags_ms or {}

    def last_ms(self, measure: Measure) -> int:
        """Return the newest grid point of a measure that is known."""
        newest = self.moment_ms - measure.span_ms - self.lags_ms.get(measure.metric, 0)
        return newest - newest % measure.grid_ms

    def get_value(self, code, symbol, measure):
        """Return the value of a bare name, None when it is older than three intervals."""
        if measure.kind == "bar":
            return self.get_points(code, symbol, measure, 0, measure.grid_ms, 1)[0]
        newest = self.moment_ms - self.lags_ms.get(measure.metric, 0)
        known = [ts for ts in self.series.get((code, symbol, measure.column), {}) if ts <= newest]
        if not known or self.moment_ms - max(known) > 3 * measure.grid_ms:
            return None
        return self.series[code, symbol, measure.column][max(known)]

    def get_points(self, code, symbol, measure, offset_ms, step_ms, count):
        """Return the values at grid points, oldest first."""
        end_ms = self.last_ms(measure) - offset_ms
        values = self.series.get((code, symbol, measure.column), {})
        empty = Decimal(0) if measure.zero_when_empty and (code, symbol) in self.zeroes else None
        return [values.get(end_ms - k * step_ms, empty) for k in range(count - 1, -1, -1)]

    def get_settlement(self, code, symbol, measure, at_ms):
        """Return a column of the settlement in force, None without one."""
        lag_ms = self.lags_ms.get("fr", 0)
        known = {ts: row for ts, row in self.settlements.get((code, symbol), {}).items() if ts + lag_ms <= at_ms}
        if not known:
            return None
        rate, hours = known[max(known)]
        if at_ms > max(known) + (hours or 8) * 60 * MINUTE_MS + lag_ms:
            return None
        return rate if measure.column == "fr" else None if hours is None else Decimal(hours)

    def list_settlements(self, code, symbol, measure, start_ms, end_ms):
        """Return the rates settled in a range, oldest first; None where a row is missing."""
        if (code, symbol) in self.holes:
            return None
        rows, lag_ms = self.settlements.get((code, symbol), {}), self.lags_ms.get("fr", 0)
        return [rows[ts][0] for ts in sorted(rows) if start_ms < ts + lag_ms <= end_ms]

    def list_symbols(self, code):
        """Return the symbols among which `rank` ranks."""
        return self.symbols

    def go_back(self):
        """Return what was known a minute before."""
        return ListView(
            self.moment_ms - MINUTE_MS,
            self.series,
            self.settlements,
            self.symbols,
            self.zeroes,
            self.holes,
            self.lags_ms,
        )
