"""Coinalyze: an aggregator of the other simulated exchanges' data, over REST only, with a key.

No recorded answer of it is public; where the documentation is silent the stricter behaviour is reproduced, or there is
an option.
"""

import argparse
from collections.abc import Callable
from typing import Any

import orjson

from fademoe.simulator.clock import DAY_MS, MINUTE_MS
from fademoe.simulator.coinalyze import listing
from fademoe.simulator.coinalyze.limits import CoinalyzeLimits, CoinalyzeRefusal
from fademoe.simulator.coinalyze.listing import Market
from fademoe.simulator.coinalyze.rows import (
    INTERVALS_MS,
    PERCENT_DECIMALS,
    RowMaker,
    Span,
    format_number,
    list_candles,
    list_funding,
    list_liquidations,
    list_open_interest,
    list_predicted_funding,
    list_ratios,
    read_open_interest,
)
from fademoe.simulator.coinalyze.truth import list_truth
from fademoe.simulator.exchange import Call, Exchange, Reply, Simulation
from fademoe.simulator.market.truth import Row
from fademoe.simulator.pages import Chunk, RowSource, cut_page

MOST_SYMBOLS = 20
MOST_ROWS = 1_000_000
FINAL_MS = 5_000  # delay after which all minutes of a day are final
UPDATE_MS = 5_000  # interval in which current values change
FUNDED_MS = 16 * 3_600_000  # every contract settled a rate within this time
Choices = tuple[str, ...]


class Coinalyze(Exchange):
    """Coinalyze as its clients see it."""

    name = "coinalyze"
    rest_prefixes = ("/v1/",)
    symbol_parameter = "symbols"

    def __init__(self, simulation: Simulation) -> None:
        """Set up the routes."""
        super().__init__(simulation)
        self._limits = CoinalyzeLimits(simulation.options)
        self._listed: tuple[int, dict[str, Market]] = (-1, {})
        self._histories: dict[str, RowMaker] = {
            "/v1/ohlcv-history": list_candles,
            "/v1/open-interest-history": list_open_interest,
            "/v1/funding-rate-history": list_funding,
            "/v1/predicted-funding-rate-history": list_predicted_funding,
            "/v1/long-short-ratio-history": list_ratios,
            "/v1/liquidation-history": list_liquidations,
        }
        self._currents: dict[str, Callable[[Market, int, Call], str | None]] = {
            "/v1/open-interest": self._open_interest,
            "/v1/funding-rate": self._funding_rate,
            "/v1/predicted-funding-rate": self._predicted_rate,
        }
        self._lists: dict[str, Callable[[int], bytes]] = {
            "/v1/exchanges": lambda now_ms: listing.encode_exchanges(),
            "/v1/future-markets": lambda now_ms: listing.encode_markets(self.list_markets(now_ms).values()),
        }

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """Add options for the limits, and for behaviour on which the sources differ."""
        add = options.add_argument
        add("--coinalyze-limit", type=int, default=40, help="calls per key in any 60 seconds; every symbol is a call")
        add("--coinalyze-key", help="the accepted key; any key if unset")
        add("--coinalyze-points", type=int, default=1_500, help="rows of a series that the daily trim keeps")
        add("--coinalyze-lag-s", type=float, default=20, help="age in seconds of the newest data in histories")
        add("--coinalyze-no-forming", action="store_true", help="leave out buckets that are not over")
        add("--coinalyze-whole-waits", action="store_true", help="send Retry-After in whole seconds")
        add(
            "--coinalyze-bybit-suffix",
            choices=("", "_PERP"),
            default="",
            help="text between pair and exchange in the names of Bybit's perpetuals",
        )

    def answer(self, call: Call) -> Reply:
        """Answer a REST request; a refused request costs nothing."""
        try:
            if call.path not in (*self._lists, *self._currents, *self._histories):
                raise CoinalyzeRefusal(404, f"no route {call.path}")
            key = self._limits.read_key(call)
            if call.path in self._lists:
                self._limits.take(key, 1, call.now_ms)
                return Reply(self._lists[call.path](call.now_ms))
            symbols = _symbols(call)
            handle = self._read_history(call) if call.path in self._histories else self._read_current(call)
            self._limits.take(key, len(symbols), call.now_ms)
            listed = self.list_markets(call.now_ms)
            parts = [handle(listed[name]) for name in symbols if name in listed]
            return Reply(b"[" + b",".join(part for part in parts if part) + b"]")
        except CoinalyzeRefusal as refusal:
            return refusal.reply

    def list_markets(self, now_ms: int) -> dict[str, Market]:
        """Return the markets by name, listed again once a minute."""
        minute = now_ms // MINUTE_MS
        if self._listed[0] != minute:
            suffix = self.options.coinalyze_bybit_suffix
            self._listed = minute, listing.list_markets(self.market.world, now_ms, suffix)
        return self._listed[1]

    def read_truth(self, metric: str, symbol: str, start_ms: int, end_ms: int, step_ms: int | None = None) -> list[Row]:
        """Return the rows that a collector must have stored by now; LookupError for an unknown market.

        `symbol` is Coinalyze's name of a market, or a coin when `metric` is a perpspec: c-bin-oi and BTC.
        """
        now_ms = self.clock.now_ms()
        code, _, plain = metric.rpartition("-")
        market = self.list_markets(now_ms).get(symbol)
        if market is None and code:
            market = next(
                (item for item in self.list_markets(now_ms).values() if _is_perpetual(item, code, symbol)), None
            )
        if market is None or (code and market.code != code):
            raise LookupError(
                f"coinalyze has no market {symbol} for {metric}: a coin needs a perpspec such as c-bin-oi"
            )
        window = (start_ms, end_ms)
        return list_truth(self.market, market, plain, window, as_of_ms=self._as_of(now_ms), step_ms=step_ms)

    def refuse(self, status: int, call: Call) -> Reply:
        """Return the service's response for a status that a fault requests."""
        return self._limits.refuse(status, "refused", wait_ms=1_500).reply

    def reply_error_in_200(self, call: Call) -> Reply:
        """Return an error with status 200; whether the real service ever sends one is unknown."""
        return Reply(b'{"message":"Internal server error"}')

    def find_rows(self, body: object) -> list[Any]:
        """Return the rows of the first market of a history, else the list itself."""
        if isinstance(body, list) and body and isinstance(body[0], dict) and "history" in body[0]:
            body = body[0]["history"]
        return body if isinstance(body, list) else []

    def report_limits(self) -> dict[str, object]:
        """Return the use of each key, without the keys."""
        return self._limits.report(self.clock.now_ms())

    def _as_of(self, now_ms: int) -> int:
        """Return the newest instant in histories."""
        return now_ms - int(self.options.coinalyze_lag_s * 1000)

    def _read_current(self, call: Call) -> Callable[[Market], bytes]:
        """Return a function that encodes a market's current value; update times are in milliseconds."""
        value_of = self._currents[call.path]
        _in_usd(call)
        update_ms = call.now_ms - call.now_ms % UPDATE_MS

        def handle(market: Market) -> bytes:
            value = value_of(market, update_ms, call)
            head = b'{"symbol":%b,"value":' % orjson.dumps(market.name)
            return b"" if value is None else head + b'%b,"update":%d}' % (value.encode(), update_ms)

        return handle

    def _read_history(self, call: Call) -> Callable[[Market], bytes]:
        """Return a function that encodes a market's rows; b"" for a market without rows, which is left out.

        Milliseconds in from and to are in the far future, so they find no rows, with status 200.
        """
        step_ms = INTERVALS_MS.get(call.query.get("interval", ""))
        if step_ms is None:
            raise CoinalyzeRefusal(400, f"interval must be one of {', '.join(INTERVALS_MS)}")
        start_ms, end_ms = _seconds(call, "from") * 1000, _seconds(call, "to") * 1000 + 1
        span = Span(start_ms, end_ms, step_ms, self._as_of(call.now_ms), _in_usd(call))
        make = self._histories[call.path]

        def handle(market: Market) -> bytes:
            rows = self._rows(make, market, span, call.now_ms)
            head = b'{"symbol":%b,"history":' % orjson.dumps(market.name)
            return b"" if rows == b"[]" else head + rows + b"}"

        return handle

    def _rows(self, make: RowMaker, market: Market, span: Span, now_ms: int) -> bytes:
        """Return the rows of a market in a span as a JSON array, oldest first."""
        step_ms, in_usd = span.step_ms, span.in_usd
        final_ms = span.as_of_ms
        if make is list_candles:
            final_ms = self.market.find_final_end_ms(market.instrument, span.as_of_ms)
        settled_ms = final_ms - final_ms % step_ms

        def chunk(day: int) -> Chunk:
            key = (self.name, make, step_ms, in_usd, market, day)
            whole = Span(day * DAY_MS, (day + 1) * DAY_MS, step_ms, (day + 1) * DAY_MS + FINAL_MS, in_usd)
            return self.simulation.chunks.get(key, lambda: _chunk(make(self.market, market, whole)))

        tail = Chunk([], [])
        if span.end_ms > settled_ms and not self.options.coinalyze_no_forming:
            forming = span._replace(start_ms=settled_ms, end_ms=span.as_of_ms + 1)
            tail = _chunk(make(self.market, market, forming))
        start_ms = max(span.start_ms, market.instrument.listed_ms)
        start_ms = max(start_ms, self._oldest_ms(make, step_ms, start_ms, chunk, now_ms))
        source = RowSource(chunk, settled_ms, tail)
        return cut_page(source, start_ms, span.end_ms, MOST_ROWS, keep_newest=False)

    def _oldest_ms(
        self, make: RowMaker, step_ms: int, start_ms: int, chunk: Callable[[int], Chunk], now_ms: int
    ) -> int:
        """Return the start of a series: `points` rows before the last midnight; daily rows are never trimmed."""
        points = self.options.coinalyze_points
        midnight_ms = now_ms - now_ms % DAY_MS
        oldest_ms: int = midnight_ms - points * step_ms
        if step_ms == DAY_MS:
            return 0
        if make is not list_liquidations or start_ms >= oldest_ms:
            return oldest_ms
        for day in range(midnight_ms // DAY_MS - 1, start_ms // DAY_MS - 1, -1):
            rows = chunk(day)
            if len(rows) >= points:
                return int(rows.times[len(rows) - points])
            points -= len(rows)
        return start_ms

    def _open_interest(self, market: Market, at_ms: int, call: Call) -> str | None:
        """Return the current open interest."""
        return format_number(*read_open_interest(self.market, market, at_ms, in_usd=_in_usd(call)))

    def _funding_rate(self, market: Market, at_ms: int, call: Call) -> str | None:
        """Return the last settled rate, in percent."""
        settled = self.market.funding.list_settlements(market.instrument, at_ms - FUNDED_MS, at_ms + 1)
        return format_number(settled[-1].rate, PERCENT_DECIMALS) if settled else None

    def _predicted_rate(self, market: Market, at_ms: int, call: Call) -> str | None:
        """Return the current estimate, in percent."""
        if market.instrument.kind == "dated":
            return None
        return format_number(self.market.funding.estimate(market.instrument, at_ms), PERCENT_DECIMALS)


EXCHANGE = Coinalyze


def _chunk(rows: list[tuple[int, str]]) -> Chunk:
    """Encode rows."""
    return Chunk([ts for ts, _ in rows], [text for _, text in rows])


def _is_perpetual(market: Market, code: str, coin: str) -> bool:
    """Tell whether a market is the USDT perpetual on a coin at the exchange of a code."""
    instrument = market.instrument
    return (
        market.code == code and instrument.is_perpetual and (instrument.quote, instrument.coin.name) == ("USDT", coin)
    )


def _symbols(call: Call) -> Choices:
    """Read the markets of the query."""
    symbols = tuple(name for name in call.query.get("symbols", "").split(",") if name)
    if not 0 < len(symbols) <= MOST_SYMBOLS:
        raise CoinalyzeRefusal(400, f"symbols must name 1 to {MOST_SYMBOLS} markets")
    return symbols


def _seconds(call: Call, name: str) -> int:
    """Read a time in seconds of the query."""
    text = call.query.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise CoinalyzeRefusal(400, f"{name} must be a time in seconds")
    return int(text)


def _in_usd(call: Call) -> bool:
    """Read the parameter convert_to_usd."""
    value = call.query.get("convert_to_usd", "false")
    if value not in ("true", "false"):
        raise CoinalyzeRefusal(400, "convert_to_usd must be true or false")
    return value == "true"
