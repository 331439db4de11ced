"""Endpoints of current values, which are polled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fademoe.clock import MINUTE_MS
from fademoe.feeds.instrument import Instrument, Json, ParseItem
from fademoe.feeds.request import Params, Request, to_request


@dataclass(frozen=True, kw_only=True)
class PollFeed:
    """An endpoint of current values, asked once in each `every_ms`; Metric.stamp makes the ts of a sample.

    One request asks for up to `batch` instruments and costs `cost` for each; without a batch it asks for all and costs
    `cost` once. `items` sorts the answer by the exchange's name of the instrument; `parse` reads one sample with its
    own ts, None where the exchange has none. `share`: the most instruments of one round, where the budget has no more
    for it; the next round goes on behind them. `params`, `body`, `serves`: see RestFeed.
    Where a stream has the metric too, a sample counts only for a minute of which the stream has none.
    """

    metric: str
    path: str
    budget: str
    items: Callable[[Json], Sequence[tuple[str, Json]]]
    parse: ParseItem
    source: str
    params: Callable[[Sequence[Instrument]], Params] = lambda instruments: {}
    body: Callable[[Sequence[Instrument]], Json] = lambda instruments: None
    cost: int = 1
    batch: int | None = None
    share: int | None = None
    interval: str = "1m"
    interval_ms: int = MINUTE_MS
    every_ms: int = MINUTE_MS
    serves: Callable[[Instrument], bool] = lambda instrument: True

    def request(self, instruments: Sequence[Instrument]) -> Request:
        """Return the request for the current values of `instruments`."""
        return to_request(self.path, self.params(instruments), self.body(instruments))
