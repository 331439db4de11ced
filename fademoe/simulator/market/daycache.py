"""A cache of values per contract and day, in which a backfill of old days does not evict the days of live streams."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from fademoe.simulator.market.instrument import Instrument

Value = TypeVar("Value")
RECENT_DAYS = 2


class DayCache(Generic[Value]):
    """Values by (contract, day): many of the two newest requested days, few of earlier days."""

    def __init__(self, build: Callable[[Instrument, int], Value], *, recent: int = 4_096, older: int = 128) -> None:
        """Compute missing values with `build`; keep `recent` and `older` values."""
        self._build = build
        self._newest_day = 0
        self._recent: OrderedDict[tuple[Instrument, int], Value] = OrderedDict()
        self._older: OrderedDict[tuple[Instrument, int], Value] = OrderedDict()
        self._sizes = recent, older

    def __call__(self, instrument: Instrument, day: int) -> Value:
        """Return the value of a contract and day."""
        self._newest_day = max(self._newest_day, day)
        is_recent = day > self._newest_day - RECENT_DAYS
        values, size = (self._recent, self._sizes[0]) if is_recent else (self._older, self._sizes[1])
        key = instrument, day
        value = values.get(key)
        if value is None:
            value = values[key] = self._build(instrument, day)
            if len(values) > size:
                values.popitem(last=False)
        else:
            values.move_to_end(key)
        return value
