"""Endpoints of current values, which are polled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fademoe.clock import MINUTE_MS, SECOND_MS
from fademoe.feeds.instrument import Instrument, Json, ParseItem
from fademoe.feeds.request import Params, Request, to_request
from fademoe.feeds.values import get_member, read_text
from fademoe.metrics import Row


@dataclass(frozen=True, kw_only=True)
class PollFeed:
    """An endpoint of current values, asked once in each `every_ms`; Metric.stamp makes the ts of a sample.

    One request asks for up to `batch` instruments and costs `cost` for each; without a batch it asks for all and costs
    `cost` once. `items(answer)` are the samples; `name` is the member of a sample that holds the exchange's name of its
    instrument; `parse` reads one with its own ts, None where the exchange has none. `share`: the most instruments of
    one round, where the budget has no more for it; the next round goes on behind them. `params`, `body`, `serves`: see
    RestFeed.
    Where a stream has the metric too, a sample counts only for a minute of which the stream has none.
    `untimed`: no element has a time, so a sample is of the moment at which its answer came, by the exchange's clock;
    whatever `parse` returns as ts is not used.
    `lag_ms`: how long after its ts a sample counts as known; it was taken before (see feeds.lags).
    """

    metric: str
    path: str
    budget: str
    items: Callable[[Json], Sequence[Json]]
    name: str
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
    untimed: bool = False
    serves: Callable[[Instrument], bool] = lambda instrument: True
    lag_ms: int = 2 * SECOND_MS
    lag_why: str = "the sample of a minute is taken before its end"

    def make_request(self, instruments: Sequence[Instrument]) -> Request:
        """Return the request for the current values of `instruments`."""
        return to_request(self.path, self.params(instruments), self.body(instruments))

    def parse_at(self, item: Json, instrument: Instrument, answered_ms: int) -> Row | None:
        """Read a sample of an answer that came at `answered_ms`, None where the exchange has none."""
        row = self.parse(item, instrument)
        return row._replace(ts=answered_ms) if row is not None and self.untimed else row

    def read_instrument_name(self, item: Json) -> str:
        """Return the exchange's name of a sample's instrument; raise BadPayload where it has none."""
        return read_text(get_member(item, self.name))
