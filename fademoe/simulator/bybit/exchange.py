"""Bybit v5, category linear, over REST. Streams are in stream.py and feeds.py, the rate limit in limits.py.

Where the exchange's behaviour is unknown there is an option, or the module states its assumption. Candles are served
for the interval of one minute only.
"""

import argparse
from collections.abc import Callable, Mapping

from fademoe.simulator.bybit import listing as bybit_listing
from fademoe.simulator.bybit.limits import (
    CLOUDFRONT,
    PARAMETER,
    PROTECTION,
    TOO_FREQUENT,
    TOO_MANY,
    TOO_MANY_TEXT,
    Banned,
    BybitLimits,
    BybitRefusal,
    encode_error,
)
from fademoe.simulator.bybit.rows import (
    PERIODS_MS,
    PREMIUM_SAMPLES,
    SampleRow,
    chain_opens,
    encode_interest,
    encode_klines,
    encode_marks,
    encode_premiums,
    encode_ratio,
    encode_risk_limits,
    encode_settlement,
    grow_premium,
)
from fademoe.simulator.bybit.stream import BybitStreams
from fademoe.simulator.bybit.tickers import encode_ticker
from fademoe.simulator.bybit.truth import adapt_truth
from fademoe.simulator.clock import DAY_MS, MINUTE_MS
from fademoe.simulator.exchange import Call, Exchange, Reply, Simulation
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.marks import grow_mark
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.market.truth import Row
from fademoe.simulator.pages import Chunk, RowSource, cut_page
from fademoe.simulator.sockets import Socket

KLINES_DEFAULT, KLINES_MAX = 200, 1_000
FUNDING_DEFAULT, FUNDING_MAX = 200, 200
INTEREST_DEFAULT, INTEREST_MAX = 50, 200
RATIO_DEFAULT, RATIO_MAX = 50, 500
LISTING_DEFAULT, LISTING_MAX = 500, 1_000
RISK_LIMITS = 15  # contracts of a page
SETTLED_AFTER_MS = 8_000  # delay of a rate in the history after its settlement
INTEREST_LAG_MS, RATIO_LAG_MS = (5_000, 40_000), (20_000, 130_000)  # shortest and longest delay of a new row
UNKNOWN_SYMBOL = "Not supported symbols"


class Bybit(Exchange):
    """Bybit as its clients see it."""

    name = "bybit"
    rest_prefixes = ("/v5/",)
    stream_prefixes = ("/v5/public/",)

    def __init__(self, simulation: Simulation) -> None:
        """Set up the routes."""
        super().__init__(simulation)
        self._limits = BybitLimits(simulation.options)
        self._streams = BybitStreams(self)
        self._listing: dict[str, tuple[int, list[tuple[str, bytes]]]] = {}
        self._routes: dict[str, Callable[[Call], bytes]] = {
            "/v5/market/time": lambda call: (
                b'{"timeSecond":"%d","timeNano":"%d"}' % (call.now_ms // 1000, call.now_ms * 1_000_000 + 229_586)
            ),
            "/v5/market/kline": self._klines,
            "/v5/market/premium-index-price-kline": self._premium_klines,
            "/v5/market/mark-price-kline": self._mark_klines,
            "/v5/market/funding/history": self._funding,
            "/v5/market/open-interest": self._open_interest,
            "/v5/market/account-ratio": self._account_ratio,
            "/v5/market/risk-limit": self._risk_limit,
            "/v5/market/tickers": self._tickers,
            "/v5/market/instruments-info": self._instruments_info,
        }

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """Add options for the limits, and for behaviour on which the sources differ."""
        add = options.add_argument
        add("--bybit-request-limit", type=int, default=600, help="requests per address in any 5 seconds")
        add("--bybit-ban-s", type=float, default=600, help="seconds of a ban after a request above the limit")
        add(
            "--bybit-page-keeps",
            choices=("newest", "oldest"),
            default="newest",
            help="rows that are returned of a window with both ends and more than the limit",
        )
        add("--bybit-stale-ms", type=int, default=0, help="age of REST answers in ms; their own time is as old")
        add("--bybit-no-quiet-candles", action="store_true", help="send no candle for minutes without trades")
        add(
            "--bybit-no-single-side",
            action="store_true",
            help="send the open interest of both sides only, as before June 2026",
        )
        add(
            "--bybit-seconds-at-the-end",
            action="store_true",
            help="send the last time of a page of open interest in seconds",
        )
        add("--bybit-idle-s", type=float, default=61, help="seconds after which a socket without topics is cut")
        add(
            "--bybit-args-limit",
            type=int,
            default=21_000,
            help="largest number of characters of all topics of a socket",
        )

    def answer(self, call: Call) -> Reply:
        """Answer a REST request; no limit header is sent, although documented: recorded public answers have none."""
        try:
            self._limits.take(call.ip, call.now_ms)
        except Banned:
            return Reply(TOO_FREQUENT, 403, content_type="text/plain")
        call = call._replace(now_ms=call.now_ms - self.options.bybit_stale_ms)
        route = self._routes.get(call.path)
        try:
            if route is None:
                raise BybitRefusal(10017, f"Path {call.path} not found", 404)
            if call.query.get("category", "linear") != "linear":
                raise BybitRefusal(PARAMETER, "params error: category only support linear")
            result = route(call)
        except BybitRefusal as refusal:
            self.stats.refusals[str(refusal.code)] += 1
            return Reply(encode_error(refusal.code, str(refusal), call.now_ms), refusal.status)
        return Reply(b'{"retCode":0,"retMsg":"OK","result":%b,"retExtInfo":{},"time":%d}' % (result, call.now_ms))

    def refuse(self, status: int, call: Call) -> Reply:
        """Return Bybit's response for a status that a fault requests; bans and blocked regions are 403 too."""
        if status == 418:
            return Reply(TOO_FREQUENT, 403, content_type="text/plain")
        if status in (403, 451):
            return Reply(CLOUDFRONT, 403, content_type="text/html")
        if status == 429:
            return Reply(encode_error(PROTECTION, "System level frequency protection", call.now_ms), 429)
        return Reply(encode_error(10016, "Server error.", call.now_ms), status)

    def reply_error_in_200(self, call: Call) -> Reply:
        """Return the public 10006 of January 2026: 123 bytes, without a header that says until when."""
        return Reply(encode_error(TOO_MANY, TOO_MANY_TEXT, call.now_ms))

    def find_rows(self, body: object) -> list[object]:
        """Return the list of a response."""
        result = body.get("result") if isinstance(body, dict) else None
        return result.get("list", []) if isinstance(result, dict) else []

    def report_limits(self) -> dict[str, object]:
        """Return the use of the rate limit by address."""
        return self._limits.report(self.clock.now_ms())

    def read_truth(self, metric: str, symbol: str, start_ms: int, end_ms: int, step_ms: int | None = None) -> list[Row]:
        """Return the rows that a collector must have stored by now (see `bybit.truth`)."""
        rows = super().read_truth(metric, symbol, start_ms, end_ms, step_ms)
        instrument = self.market.world.find_contract(self.name, symbol)
        return rows if instrument is None else adapt_truth(self, instrument, metric, rows, (start_ms, end_ms), step_ms)

    def open_socket(self, socket: Socket, path: str, query: Mapping[str, str]) -> None:
        """Open a socket; one without topics is cut after a time."""
        self._streams.open(socket)

    def receive(self, socket: Socket, text: str) -> None:
        """Handle subscribe, unsubscribe and ping."""
        self._streams.receive(socket, text)

    def restart_streams(self) -> None:
        """Schedule the running streams again."""
        self._streams.restart()

    def apply_contract_change(self, instrument: Instrument) -> None:
        """Build the list again; Bybit publishes no change."""
        self._listing.clear()

    def _klines(self, call: Call) -> bytes:
        """Return candles, the open one first."""
        instrument, start_ms, end_ms, keep_newest = self._window(call, "start", "end")
        settled_ms = self.market.find_final_end_ms(instrument, call.now_ms)
        quiet = not self.options.bybit_no_quiet_candles

        def chunk(day: int) -> Chunk:
            bars = [bar for bar in self.market.candles.list_bars(instrument, day) if quiet or bar[5]]
            return Chunk([bar[0] for bar in bars], encode_klines(instrument, bars), newest_first=True)

        visible = [self.market.read_visible_bar(instrument, ts, call.now_ms) for ts in _open_minutes(settled_ms, call)]
        tail = [bar for bar in visible if bar is not None and (quiet or bar.volume)]
        last = Chunk([bar.ts for bar in tail], encode_klines(instrument, tail), newest_first=True)
        source = RowSource(self._cache_days("candle", instrument, chunk), settled_ms, last)
        limit = _limit(call, KLINES_DEFAULT, KLINES_MAX)
        page = cut_page(source, start_ms, end_ms, limit, keep_newest=keep_newest, newest_first=True)
        return _result(call, instrument, page)

    def _premium_klines(self, call: Call) -> bytes:
        """Return the premium index, the open minute first; a row's open is the close of the previous row."""
        instrument, start_ms, end_ms, keep_newest = self._window(call, "start", "end")
        gauges = self.market.gauges
        settled_ms = self.market.find_final_end_ms(instrument, call.now_ms)

        def chunk(day: int) -> Chunk:
            before = gauges.read_premium(instrument, day * DAY_MS - MINUTE_MS)
            rows = chain_opens(gauges.list_premiums(instrument, day), before)
            return Chunk([row[0] for row in rows], encode_premiums(rows), newest_first=True)

        tail = []
        for ts in _open_minutes(settled_ms, call):
            bar = gauges.read_premium(instrument, ts)
            if bar is not None:
                tail.append(grow_premium(bar, min(PREMIUM_SAMPLES - 1, 1 + (call.now_ms - ts) // 5_000)))
        tail = chain_opens(tail, gauges.read_premium(instrument, settled_ms - MINUTE_MS))
        last = Chunk([row[0] for row in tail], encode_premiums(tail), newest_first=True)
        source = RowSource(self._cache_days("premium", instrument, chunk), settled_ms, last)
        limit = _limit(call, KLINES_DEFAULT, KLINES_MAX)
        page = cut_page(source, start_ms, end_ms, limit, keep_newest=keep_newest, newest_first=True)
        return _result(call, instrument, page)

    def _mark_klines(self, call: Call) -> bytes:
        """Return the mark price, the open minute first."""
        instrument, start_ms, end_ms, keep_newest = self._window(call, "start", "end")
        marks = self.market.marks
        settled_ms = self.market.find_final_end_ms(instrument, call.now_ms)

        def chunk(day: int) -> Chunk:
            rows = marks.list_marks(instrument, day)
            return Chunk([row[0] for row in rows], encode_marks(instrument, rows), newest_first=True)

        bars = [(marks.read_mark(instrument, ts), ts) for ts in _open_minutes(settled_ms, call)]
        tail = [grow_mark(bar, call.now_ms - ts) for bar, ts in bars if bar is not None and instrument.is_trading(ts)]
        last = Chunk([row.ts for row in tail], encode_marks(instrument, tail), newest_first=True)
        source = RowSource(self._cache_days("mark", instrument, chunk), settled_ms, last)
        limit = _limit(call, KLINES_DEFAULT, KLINES_MAX)
        page = cut_page(source, start_ms, end_ms, limit, keep_newest=keep_newest, newest_first=True)
        return _result(call, instrument, page)

    def _cache_days(self, kind: str, instrument: Instrument, build: Callable[[int], Chunk]) -> Callable[[int], Chunk]:
        """Return a function that gives the day chunks of a series from the cache."""
        chunks = self.simulation.chunks
        return lambda day: chunks.get((self.name, kind, instrument, day), lambda: build(day))

    def _funding(self, call: Call) -> bytes:
        """Return settled rates, newest first; a start without an end is an error."""
        _require(call, "category")
        instrument = self._instrument(call)
        if call.query.get("startTime") and not call.query.get("endTime"):
            raise BybitRefusal(PARAMETER, "params error: endTime is required")
        start_ms, end_ms = _integer(call, "startTime", 0), _integer(call, "endTime", call.now_ms)
        limit = _limit(call, FUNDING_DEFAULT, FUNDING_MAX)
        until_ms = min(end_ms + 1, call.now_ms - SETTLED_AFTER_MS)
        funding = self.market.funding
        if call.query.get("startTime"):
            settled = funding.list_settlements(instrument, max(start_ms, instrument.listed_ms), until_ms)[-limit:]
        else:
            settled = funding.list_last_settlements(instrument, until_ms, limit)
        rows = ",".join(encode_settlement(instrument, settlement) for settlement in reversed(settled))
        return f'{{"category":"linear","list":[{rows}]}}'.encode()

    def _open_interest(self, call: Call) -> bytes:
        """Return samples of the open interest."""
        has_single = not self.options.bybit_no_single_side

        def row(market: object, instrument: Instrument, ts: int) -> str:
            return encode_interest(self.market, instrument, ts, has_single=has_single)

        instrument, page, oldest_ms, cursor = self._samples(call, "intervalTime", row, INTEREST_DEFAULT, INTEREST_MAX)
        if self.options.bybit_seconds_at_the_end and oldest_ms:
            head, _, tail = page.rpartition(b'"%d"' % oldest_ms)
            page = head + b'"%d"' % (oldest_ms // 1000) + tail
        number = oldest_ms // (5 * MINUTE_MS) % 10**8
        after = f"lastid%3D{number}%26lasttime%3D{oldest_ms // 1000}" if cursor else ""
        return _result(call, instrument, page, b',"nextPageCursor":"%b"' % after.encode())

    def _account_ratio(self, call: Call) -> bytes:
        """Return samples of the shares of long and short accounts."""
        _, page, oldest_ms, cursor = self._samples(call, "period", encode_ratio, RATIO_DEFAULT, RATIO_MAX)
        after = f"lastid%3D0%26lasttime%3D{oldest_ms // 1000}" if cursor else ""
        return b'{"list":%b,"nextPageCursor":"%b"}' % (page, after.encode())

    def _samples(
        self, call: Call, parameter: str, make_row: SampleRow, default: int, most: int
    ) -> tuple[Instrument, bytes, int, bool]:
        """Return contract, page, time of the page's oldest row (0: no row), and whether another page follows.

        Both ends are inclusive. A start without an end is ignored without an error: the newest rows are returned.
        """
        _require(call, "category")
        instrument = self._instrument(call)
        period_ms = PERIODS_MS.get(call.query.get(parameter, ""))
        if period_ms is None:
            raise BybitRefusal(PARAMETER, "params error: intervalTime is invalid")
        start_ms, end_ms = self._sample_window(call, instrument)

        def chunk(day: int) -> Chunk:
            has_sample = self.market.gauges.has_sample
            times = [ts for ts in range(day * DAY_MS, (day + 1) * DAY_MS, period_ms) if has_sample(instrument, ts)]
            return Chunk(times, [make_row(self.market, instrument, ts) for ts in times], newest_first=True)

        lag = INTEREST_LAG_MS if parameter == "intervalTime" else RATIO_LAG_MS
        published_ms = self._published_until(instrument, call.now_ms, period_ms, lag)
        source = RowSource(self._cache_days(f"{parameter} {period_ms}", instrument, chunk), published_ms, Chunk([], []))
        limit = _limit(call, default, most)
        page = cut_page(source, start_ms, end_ms, limit, keep_newest=True, newest_first=True)
        stamp = page.rpartition(b'"timestamp":"')[2].partition(b'"')[0]
        oldest_ms = int(stamp) if stamp.isdigit() else 0
        is_full = page.count(b'"timestamp"') == limit
        return instrument, page, oldest_ms, is_full and oldest_ms - period_ms >= start_ms

    def _sample_window(self, call: Call, instrument: Instrument) -> tuple[int, int]:
        """Return the half-open window of a request for samples, cut by its cursor."""
        start_ms, end_ms = _integer(call, "startTime", 0), _integer(call, "endTime", call.now_ms)
        if not call.query.get("endTime"):
            start_ms = 0
        if start_ms > end_ms:
            raise BybitRefusal(PARAMETER, "params error: startTime is greater than endTime")
        cursor = call.query.get("cursor", "")
        if cursor:
            names, _, second = cursor.rpartition("lasttime=")
            if not (names.startswith("lastid=") and names.endswith("&") and second.isdecimal()):
                raise BybitRefusal(PARAMETER, "params error: cursor is invalid")
            end_ms = min(end_ms, int(second) * 1000 - 1)
        return max(start_ms, instrument.listed_ms), end_ms + 1

    def _published_until(self, instrument: Instrument, now_ms: int, period_ms: int, lag: tuple[int, int]) -> int:
        """Return the first time without a published sample."""
        ts = now_ms - now_ms % period_ms
        lag_ms = lag[0] + draw_number(self.market.seed, "lag", instrument.key, ts) % (lag[1] - lag[0] + 1)
        return ts + 1 if ts + lag_ms <= now_ms else ts

    def _risk_limit(self, call: Call) -> bytes:
        """Return the tiers of margin of one contract, or of fifteen with a cursor to the next ones."""
        _require(call, "category")
        if call.query.get("symbol"):
            listed, cursor = [self._instrument(call)], ""
        else:
            every = sorted(self.market.world.list_instruments(self.name), key=lambda item: item.name)
            first = _integer(call, "cursor", 0)
            listed, rest = every[first : first + RISK_LIMITS], every[first + RISK_LIMITS :]
            cursor = str(first + RISK_LIMITS) if rest else ""
        rows = ",".join(encode_risk_limits(self.market, item) for item in listed)
        return f'{{"category":"linear","list":[{rows}],"nextPageCursor":"{cursor}"}}'.encode()

    def _tickers(self, call: Call) -> bytes:
        """Return the current values of one contract or of all that trade."""
        _require(call, "category")
        listed = [self._instrument(call)] if call.query.get("symbol") else self.market.world.list_instruments(self.name)
        rows = [encode_ticker(self, item, call.now_ms) for item in listed if item.is_trading(call.now_ms)]
        return b'{"category":"linear","list":[%b]}' % b",".join(rows)

    def _instruments_info(self, call: Call) -> bytes:
        """Return a page of the contracts of one status, by default of those that trade."""
        _require(call, "category")
        status = call.query.get("status", "Trading")
        if status not in bybit_listing.STATUSES:
            raise BybitRefusal(PARAMETER, "params error: status is invalid")
        rows = self._rows_of(status, call.now_ms)
        if call.query.get("symbol"):
            rows = [row for row in rows if row[0] == call.query["symbol"]]
        limit = _limit(call, LISTING_DEFAULT, LISTING_MAX)
        try:
            page_rows, cursor = bybit_listing.cut_list(
                rows, limit, call.query.get("cursor", ""), is_trading=status == "Trading"
            )
        except ValueError as error:
            raise BybitRefusal(PARAMETER, "params error: cursor is invalid") from error
        return b'{"category":"linear","list":[%b],"nextPageCursor":"%b"}' % (b",".join(page_rows), cursor.encode())

    def _rows_of(self, status: str, now_ms: int) -> list[tuple[str, bytes]]:
        """Return (name, row) of the contracts of a status, sorted by name; built once a minute."""
        minute, rows = self._listing.get(status, (0, []))
        if minute != now_ms // MINUTE_MS:
            listed = self.market.world.list_instruments(self.name)
            chosen = sorted(
                (item for item in listed if bybit_listing.find_status(item, now_ms) == status),
                key=lambda item: item.name,
            )
            rows = [(item.name, bybit_listing.encode_contract(self.market, item, now_ms)) for item in chosen]
            self._listing[status] = now_ms // MINUTE_MS, rows
        return rows

    def _instrument(self, call: Call) -> Instrument:
        """Return the contract of the request; its name must be in upper case."""
        instrument = self.market.world.find_instrument(self.name, call.query.get("symbol", ""))
        if instrument is None:
            raise BybitRefusal(PARAMETER, UNKNOWN_SYMBOL)
        return instrument

    def _window(self, call: Call, start: str, end: str) -> tuple[Instrument, int, int, bool]:
        """Return contract, half-open window of open times, and whether the newest rows win.

        The candles that contain an unaligned start or end belong to the window.
        """
        instrument = self._instrument(call)
        if call.query.get("interval") != "1":
            raise BybitRefusal(PARAMETER, "params error: intervalTime is invalid")
        start_ms, end_ms = _integer(call, start, 0), _integer(call, end, call.now_ms)
        if start_ms > end_ms:
            raise BybitRefusal(PARAMETER, "params error: start is greater than end")
        has_start, has_end = bool(call.query.get(start)), bool(call.query.get(end))
        keep_newest = not has_start or (has_end and self.options.bybit_page_keeps == "newest")
        first_ms = max(start_ms - start_ms % MINUTE_MS, instrument.listed_ms)
        return instrument, first_ms, min(end_ms, call.now_ms) + 1, keep_newest


EXCHANGE = Bybit


def _open_minutes(settled_ms: int, call: Call) -> range:
    """Return the minutes that are not final."""
    return range(settled_ms, call.now_ms + 1, MINUTE_MS)


def _result(call: Call, instrument: Instrument, page: bytes, more: bytes = b"") -> bytes:
    """Return a result that names its contract once; the order of its keys varies, as recordings show."""
    names = [b'"symbol":"%b"' % instrument.name.encode(), b'"category":"linear"']
    head = b",".join(names if call.now_ms & 1 else reversed(names))
    return b'{%b,"list":%b%b}' % (head, page, more)


def _require(call: Call, name: str) -> None:
    """Refuse a request without this parameter."""
    if not call.query.get(name):
        raise BybitRefusal(PARAMETER, f"params error: {name} is required")


def _integer(call: Call, name: str, default: int) -> int:
    """Read a whole number of the query."""
    text = call.query.get(name)
    if not text:
        return default
    if not text.removeprefix("-").isdecimal():
        raise BybitRefusal(PARAMETER, f"params error: {name} is invalid")
    return int(text)


def _limit(call: Call, default: int, most: int) -> int:
    """Read the number of rows; a larger number than `most` becomes `most`, as was seen for settlements."""
    return min(most, max(1, _integer(call, "limit", default)))
