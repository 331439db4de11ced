"""Binance USDⓈ-M futures over REST. Streams are in stream.py and feeds.py, rate limits in limits.py.

The project's fact sheet of the exchange says what is reproduced and what is unknown; where sources differ there is an
option.
"""

import argparse
from collections.abc import Callable, Mapping

import orjson

from fademoe.simulator.binance import listing as binance_listing
from fademoe.simulator.binance.archive import BUCKET, PREFIX, BinanceArchive
from fademoe.simulator.binance.feeds import MarkPrices
from fademoe.simulator.binance.limits import (
    DATA,
    FREE,
    FUNDING,
    WEIGHT,
    BinanceLimits,
    BinanceRefusal,
    make_limit_refusal,
)
from fademoe.simulator.binance.rows import (
    INTERVALS_MS,
    PERIODS_MS,
    PREMIUM_SAMPLES,
    SampleRow,
    aggregate,
    convert_marks,
    convert_premiums,
    encode_account_ratio,
    encode_klines,
    encode_open_interest,
    encode_premiums,
    encode_taker_ratio,
    grow_premium,
)
from fademoe.simulator.binance.stream import BinanceStreams
from fademoe.simulator.clock import DAY_MS, MINUTE_MS
from fademoe.simulator.decimals import rescale, to_fixed
from fademoe.simulator.exchange import Call, Exchange, Reply, Simulation
from fademoe.simulator.market.candles import BarTuple
from fademoe.simulator.market.funding import RATE_DECIMALS, Settlement
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.marks import find_mark_decimals, grow_mark
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.market.truth import SETTLEMENT_PRICE_SINCE_MS
from fademoe.simulator.pages import Chunk, RowSource, cut_page
from fademoe.simulator.sockets import Socket

KLINES_DEFAULT, KLINES_MAX = 500, 1_500
FUNDING_DEFAULT, FUNDING_MAX = 100, 1_000
SAMPLES_DEFAULT, SAMPLES_MAX = 30, 500
RETENTION_MS = 30 * DAY_MS
EARLIEST_LAG_MS, LATEST_LAG_MS = 70_000, 200_000
LATEST_JITTER_MS = 20  # largest delay of the printed time of a settlement
RESTRICTED = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in https://www.binance.com/en/terms. "
    "Please contact customer service if you believe you received this message in error."
)


class Binance(Exchange):
    """Binance as its clients see it."""

    name = "binance"
    rest_prefixes = ("/fapi/", "/futures/data/", PREFIX, BUCKET)
    stream_prefixes = ("/market", "/public", "/private", "/ws", "/stream")

    def __init__(self, simulation: Simulation) -> None:
        """Set up the routes."""
        super().__init__(simulation)
        self._limits = BinanceLimits(simulation.options)
        self._archive = BinanceArchive(simulation, self.name)
        self._marks = MarkPrices(self)
        self._streams = BinanceStreams(self, self._marks)
        self._info: tuple[int, bytes] = (0, b"")
        self._routes: dict[str, tuple[str, int | Callable[[Mapping[str, str]], int], Callable[[Call], bytes]]] = {
            "/fapi/v1/ping": (WEIGHT, 1, lambda _call: b"{}"),
            "/fapi/v1/time": (WEIGHT, 1, lambda call: b'{"serverTime":%d}' % call.now_ms),
            "/fapi/v1/exchangeInfo": (WEIGHT, 1, self._exchange_info),
            "/fapi/v1/klines": (WEIGHT, weigh_klines, self._klines),
            "/fapi/v1/premiumIndexKlines": (WEIGHT, weigh_klines, self._premium_klines),
            "/fapi/v1/markPriceKlines": (WEIGHT, weigh_klines, self._mark_klines),
            "/fapi/v1/premiumIndex": (WEIGHT, lambda query: 1 if query.get("symbol") else 10, self._premium_index),
            "/fapi/v1/openInterest": (WEIGHT, 1, self._open_interest),
            "/fapi/v1/fundingRate": (FUNDING, 0, self._funding_rate),
            "/fapi/v1/fundingInfo": (FUNDING, 0, self._funding_info),
            "/futures/data/openInterestHist": (DATA, 0, lambda call: self._samples(call, encode_open_interest)),
            "/futures/data/globalLongShortAccountRatio": (
                DATA,
                0,
                lambda call: self._samples(call, encode_account_ratio),
            ),
            "/futures/data/takerlongshortRatio": (DATA, 0, lambda call: self._samples(call, encode_taker_ratio)),
        }

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """Add options for the limits, and for behaviour on which the sources differ."""
        add = options.add_argument
        add("--binance-weight-limit", type=int, default=2400, help="request weight per minute (UTC) and address")
        add("--binance-funding-limit", type=int, default=500, help="funding requests per 5 minutes and address")
        add("--binance-data-limit", type=int, default=1000, help="/futures/data requests per 5 minutes and address")
        add("--binance-ban-after", type=int, default=10, help="number of 429s within 5 minutes that causes a ban (418)")
        add(
            "--binance-ban-s",
            type=float,
            default=120,
            help="seconds of the first ban; each further ban lasts twice as long",
        )
        add(
            "--binance-page-keeps",
            choices=("earliest", "newest"),
            default="earliest",
            help="klines that are returned of a window with more than the limit",
        )
        add(
            "--binance-label-change-ms",
            type=int,
            default=1_709_510_400_000,
            help="from when on a line of an archived day of metrics is the sample five minutes after its time",
        )
        add("--binance-ping-s", type=float, default=180, help="seconds between protocol pings")
        add("--binance-lifetime-s", type=float, default=86_400, help="seconds after which a socket is closed")
        add("--binance-no-quiet-closes", action="store_true", help="send no closed kline for minutes without trades")

    def answer(self, call: Call) -> Reply:
        """Answer a REST request; a refused request costs its weight too."""
        if call.path.startswith((PREFIX, BUCKET)):
            return self._archive.answer(call)
        route = self._routes.get(call.path)
        headers: Mapping[str, str] = {}
        try:
            if route is None:
                raise BinanceRefusal(-5000, f"Path {call.path}, Method GET is invalid", 404)
            budget, cost, handle = route
            if budget != FREE:
                weight = cost(call.query) if callable(cost) else cost
                headers = self._limits.take(call.ip, budget, weight, call.now_ms)
            return Reply(handle(call), headers=headers)
        except BinanceRefusal as refusal:
            return Reply(refusal.body, refusal.status, headers or refusal.headers)

    def refuse(self, status: int, call: Call) -> Reply:
        """Return Binance's response for a status that a fault requests."""
        if status == 418:
            until_ms = call.now_ms + int(self.options.binance_ban_s * 1000)
            text = f"Way too many requests; IP({call.ip}) banned until {until_ms}. "
            return Reply(orjson.dumps({"code": -1003, "msg": text + "Please use the websocket for live updates."}), 418)
        if status == 451:
            return Reply(orjson.dumps({"code": 0, "msg": RESTRICTED}), 451)
        if status == 429:
            return Reply(make_limit_refusal(self.options.binance_weight_limit).body, 429)
        return Reply(orjson.dumps({"code": -1000, "msg": "Service Unavailable."}), status)

    def report_limits(self) -> dict[str, object]:
        """Return the use of the rate limits by address."""
        return self._limits.report(self.clock.now_ms())

    def build_control_frames(self) -> list[bytes]:
        """Return a serverShutdown notice, without and with an envelope."""
        notice = b'{"e":"serverShutdown","E":%d}' % self.clock.now_ms()
        return [notice, b'{"stream":"serverShutdown","data":%b}' % notice]

    def open_socket(self, socket: Socket, path: str, query: Mapping[str, str]) -> None:
        """Subscribe to the streams in the URL."""
        self._streams.open(socket, path, query)

    def receive(self, socket: Socket, text: str) -> None:
        """Handle SUBSCRIBE and the other methods."""
        self._streams.receive(socket, text)

    def restart_streams(self) -> None:
        """Schedule the running streams again."""
        self._streams.restart()

    def apply_contract_change(self, instrument: Instrument) -> None:
        """Publish !contractInfo and build exchangeInfo again."""
        self._info = (0, b"")
        self._streams.push_contract(instrument)

    def _exchange_info(self, call: Call) -> bytes:
        """Return the list of contracts, built once a minute."""
        minute = call.now_ms // MINUTE_MS
        if self._info[0] != minute:
            listed = self._list_known()
            limit = self.options.binance_weight_limit
            self._info = minute, binance_listing.encode_exchange_info(listed, call.now_ms, limit)
        return self._info[1]

    def _klines(self, call: Call) -> bytes:
        """Return candles, the open one last."""
        return self._kline_page(call, "klines", self.market.candles.list_bars, self._visible_candle, encode_klines)

    def _premium_klines(self, call: Call) -> bytes:
        """Return the premium index, the open minute last."""

        def list_bars(instrument: Instrument, day: int) -> list[BarTuple]:
            return convert_premiums(self.market.gauges.list_premiums(instrument, day))

        def texts(_instrument: Instrument, bars: list[BarTuple], interval_ms: int) -> list[str]:
            return encode_premiums(bars, interval_ms)

        return self._kline_page(call, "premium", list_bars, self._visible_premium, texts)

    def _mark_klines(self, call: Call) -> bytes:
        """Return the mark price, the open minute last."""

        def list_bars(instrument: Instrument, day: int) -> list[BarTuple]:
            return convert_marks(self.market.marks.list_marks(instrument, day))

        def texts(instrument: Instrument, bars: list[BarTuple], interval_ms: int) -> list[str]:
            return encode_premiums(bars, interval_ms, find_mark_decimals(instrument))

        return self._kline_page(call, "mark", list_bars, self._visible_mark, texts)

    def _visible_mark(self, instrument: Instrument, ts: int, now_ms: int) -> BarTuple | None:
        """Return a minute of the mark price as it is now."""
        bar = self.market.marks.read_mark(instrument, ts)
        if bar is None or ts > now_ms or not instrument.is_trading(ts):
            return None
        is_final = ts < self.market.find_final_end_ms(instrument, now_ms)
        return convert_marks([bar if is_final else grow_mark(bar, now_ms - ts)])[0]

    def _visible_candle(self, instrument: Instrument, ts: int, now_ms: int) -> BarTuple | None:
        """Return a candle as it is now; None without one."""
        return self.market.read_visible_bar(instrument, ts, now_ms)

    def _visible_premium(self, instrument: Instrument, ts: int, now_ms: int) -> BarTuple | None:
        """Return a minute of the premium index as it is now: one sample every five seconds."""
        bar = self.market.gauges.read_premium(instrument, ts)
        if bar is None or ts > now_ms:
            return None
        is_final = ts < self.market.find_final_end_ms(instrument, now_ms)
        return grow_premium(bar, PREMIUM_SAMPLES if is_final else min(PREMIUM_SAMPLES - 1, 1 + (now_ms - ts) // 5_000))

    def _kline_page(
        self,
        call: Call,
        kind: str,
        list_bars: Callable[[Instrument, int], list[BarTuple]],
        visible: Callable[[Instrument, int, int], BarTuple | None],
        texts: Callable[[Instrument, list[BarTuple], int], list[str]],
    ) -> bytes:
        """Return a page of klines; `visible` reads the minutes that are not final."""
        instrument = self._instrument(call)
        interval_ms = _choice(call, "interval", INTERVALS_MS, BinanceRefusal(-1120, "Invalid interval."))
        limit = _integer(call, "limit", KLINES_DEFAULT)
        if not 0 < limit <= KLINES_MAX:
            raise BinanceRefusal(-1130, "Data sent for parameter 'limit' is not valid.")
        start_ms, end_ms, has_start = _window(call, instrument)
        final_ms = self.market.find_final_end_ms(instrument, call.now_ms)
        settled_ms = final_ms - final_ms % interval_ms
        tail: list[BarTuple] = []
        if end_ms > settled_ms:
            for ts in range(settled_ms, call.now_ms + 1, MINUTE_MS):
                bar = visible(instrument, ts, call.now_ms)
                if bar is not None:
                    tail.append(bar)

        def encode(bars: list[BarTuple]) -> Chunk:
            joined = aggregate(bars, interval_ms)
            return Chunk([bar[0] for bar in joined], texts(instrument, joined, interval_ms))

        def chunk(day: int) -> Chunk:
            key = (self.name, kind, interval_ms, instrument, day)
            return self.simulation.chunks.get(key, lambda: encode(list_bars(instrument, day)))

        keep_newest = not has_start or self.options.binance_page_keeps == "newest"
        return cut_page(RowSource(chunk, settled_ms, encode(tail)), start_ms, end_ms, limit, keep_newest=keep_newest)

    def _premium_index(self, call: Call) -> bytes:
        """Return mark price, index price and funding estimate of one contract or of all."""
        if call.query.get("symbol"):
            return orjson.dumps(self._premium_row(self._instrument(call), call.now_ms))
        return orjson.dumps(
            [self._premium_row(item, call.now_ms) for item in self._list_known() if call.now_ms >= item.listed_ms]
        )

    def _premium_row(self, instrument: Instrument, now_ms: int) -> dict[str, object]:
        """Build a row of premiumIndex."""
        mark = self._marks.read_values(instrument, now_ms)
        return {
            "symbol": instrument.name,
            "markPrice": mark["p"],
            "indexPrice": mark["i"],
            "estimatedSettlePrice": mark["P"],
            "lastFundingRate": mark["r"],
            "interestRate": "0.00010000" if instrument.kind == "perpetual" else "0.00000000",
            "nextFundingTime": mark["T"],
            "time": now_ms // 1000 * 1000,
        }

    def _open_interest(self, call: Call) -> bytes:
        """Return the open interest of this minute."""
        instrument = self._instrument(call)
        interest = to_fixed(self.market.gauges.read_open_interest(instrument, call.now_ms), instrument.lot_decimals)
        return orjson.dumps({"symbol": instrument.name, "openInterest": interest, "time": call.now_ms})

    def _funding_info(self, call: Call) -> bytes:
        """Return the funding intervals and caps."""
        return binance_listing.encode_funding_info(self.market, call.now_ms)

    def _funding_rate(self, call: Call) -> bytes:
        """Return settled rates, oldest first; with a start the earliest rows win, without one the newest."""
        limit = min(FUNDING_MAX, max(1, _integer(call, "limit", FUNDING_DEFAULT)))
        if call.query.get("symbol"):
            instruments = [self._instrument(call)]
        else:
            instruments = [
                item for item in self.market.world.list_instruments(self.name) if item.is_trading(call.now_ms)
            ]
        rows: list[tuple[int, str, Instrument, Settlement]] = []
        for instrument in instruments:
            start_ms, end_ms, has_start = _window(call, instrument)
            if has_start:
                settled = self.market.funding.list_settlements(
                    instrument, start_ms - LATEST_JITTER_MS, end_ms, limit + 1
                )
            else:
                settled = self.market.funding.list_last_settlements(
                    instrument, end_ms, limit if len(instruments) == 1 else 1
                )
            for settlement in settled:
                printed_ms = settlement.ts + self.market.funding.draw_jitter_ms(instrument, settlement.ts)
                if start_ms <= printed_ms < end_ms:
                    rows.append((printed_ms, instrument.name, instrument, settlement))
        rows.sort(key=lambda row: row[:2])
        rows = rows[:limit] if call.query.get("startTime") else rows[-limit:]
        return orjson.dumps([_funding_row(instrument, item, printed_ms) for printed_ms, _, instrument, item in rows])

    def _samples(self, call: Call, make_row: SampleRow) -> bytes:
        """Return rows of /futures/data: the newest in the window win; an unknown symbol has no rows.

        A start without an end is ignored without an error, as the real service does: the most recent rows are returned.
        """
        if not call.query.get("symbol"):
            raise _missing("symbol")
        period_ms = _choice(
            call, "period", PERIODS_MS, BinanceRefusal(-1130, "Data sent for parameter 'period' is not valid.")
        )
        limit = min(SAMPLES_MAX, max(1, _integer(call, "limit", SAMPLES_DEFAULT)))
        oldest_ms = call.now_ms - RETENTION_MS
        start_ms, end_ms = _integer(call, "startTime", oldest_ms), _integer(call, "endTime", call.now_ms)
        if start_ms < oldest_ms:
            raise BinanceRefusal(-1130, "parameter 'startTime' is invalid.")
        if start_ms > end_ms:
            raise BinanceRefusal(-1130, "parameter 'endTime' is invalid.")
        instrument = self.market.world.find_instrument(self.name, call.query["symbol"].upper())
        if instrument is None or instrument.is_forgotten:
            return b"[]"
        if not call.query.get("endTime"):
            start_ms = oldest_ms
        is_bucket = make_row is encode_taker_ratio

        def chunk(day: int) -> Chunk:
            key = (self.name, make_row, period_ms, instrument, day)
            return self.simulation.chunks.get(key, lambda: self._sample_chunk(instrument, make_row, period_ms, day))

        settled_ms = self._published_until(instrument, call.now_ms, period_ms, is_bucket=is_bucket)
        source = RowSource(chunk, settled_ms, Chunk([], []))
        return cut_page(source, max(start_ms, instrument.known_from_ms), end_ms + 1, limit, keep_newest=True)

    def _sample_chunk(self, instrument: Instrument, make_row: SampleRow, period_ms: int, day: int) -> Chunk:
        """Encode a day of samples."""
        has_sample = self.market.gauges.has_sample
        times = [ts for ts in range(day * DAY_MS, (day + 1) * DAY_MS, period_ms) if has_sample(instrument, ts)]
        return Chunk(times, [make_row(self.market, instrument, ts, period_ms) for ts in times])

    def _published_until(self, instrument: Instrument, now_ms: int, period_ms: int, *, is_bucket: bool) -> int:
        """Return the first timestamp without a row: rows are published 70 to 200 s after the time that they cover."""
        ts = now_ms - now_ms % period_ms - (period_ms if is_bucket else 0)
        spread = LATEST_LAG_MS - EARLIEST_LAG_MS + 1
        lag_ms = EARLIEST_LAG_MS + draw_number(self.market.seed, "lag", instrument.key, ts) % spread
        covered_ms = ts + (period_ms if is_bucket else 0)
        return ts + 1 if covered_ms + lag_ms <= now_ms else ts

    def _list_known(self) -> list[Instrument]:
        """Return the contracts that are on the exchange's list, in order of listing."""
        return [item for item in self.market.world.list_instruments(self.name) if not item.is_forgotten]

    def _instrument(self, call: Call) -> Instrument:
        """Return the contract of the request, whose name may be in lower case."""
        name = call.query.get("symbol")
        if not name:
            raise _missing("symbol")
        instrument = self.market.world.find_instrument(self.name, name.upper())
        if instrument is None or instrument.is_forgotten:
            raise BinanceRefusal(-1121, "Invalid symbol.")
        return instrument


EXCHANGE = Binance


def weigh_klines(query: Mapping[str, str]) -> int:
    """Return the weight of a klines request as measured on 2026-10-07; the documented bounds are off by one."""
    text = query.get("limit", "")
    if not text.isdigit():
        return 5
    limit = int(text)
    return 1 if limit <= 100 else 2 if limit <= 500 else 5 if limit <= 1000 else 10


def _funding_row(instrument: Instrument, settled: Settlement, printed_ms: int) -> dict[str, object]:
    """Build a row of fundingRate; its time is some milliseconds late."""
    price = to_fixed(rescale(settled.price, instrument.price_decimals, 8), 8)
    return {
        "symbol": instrument.name,
        "fundingTime": printed_ms,
        "fundingRate": to_fixed(settled.rate, RATE_DECIMALS),
        "markPrice": price if settled.ts >= SETTLEMENT_PRICE_SINCE_MS else "",
        "rateType": "Regular",
    }


def _missing(name: str) -> BinanceRefusal:
    """Return the refusal for a missing parameter."""
    return BinanceRefusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def _integer(call: Call, name: str, default: int) -> int:
    """Read a whole number of the query."""
    text = call.query.get(name)
    if not text:
        return default
    if not text.removeprefix("-").isdecimal():
        raise _missing(name)
    return int(text)


def _choice(call: Call, name: str, choices: Mapping[str, int], refusal: BinanceRefusal) -> int:
    """Read a parameter with a list of allowed values."""
    text = call.query.get(name)
    if not text:
        raise _missing(name)
    if text not in choices:
        raise refusal
    return choices[text]


def _window(call: Call, instrument: Instrument) -> tuple[int, int, bool]:
    """Return the half-open window, cut to the contract's life and the present, and whether a start was sent."""
    start_ms, end_ms = _integer(call, "startTime", 0), _integer(call, "endTime", call.now_ms)
    if start_ms > end_ms:
        raise BinanceRefusal(-1023, "Start time is greater than end time.")
    return max(start_ms, instrument.known_from_ms), min(end_ms, call.now_ms) + 1, bool(call.query.get("startTime"))
