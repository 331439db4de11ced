"""OKX v5 swaps over REST. Streams are in stream.py and feeds.py, rows in rows.py, rate limits in limits.py.

The project's fact sheet of the exchange says what is reproduced and what is unknown; where sources differ there is an
option.
"""

import argparse
import re
from collections.abc import Callable, Mapping

import orjson

from fademoe.simulator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.simulator.exchange import Call, Exchange, Reply, Simulation
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.marks import grow_mark
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.market.tiers import Tier, list_tiers
from fademoe.simulator.market.truth import Row
from fademoe.simulator.okx import listing as okx_listing
from fademoe.simulator.okx.archive import PREFIX, OkxArchive
from fademoe.simulator.okx.limits import (
    RULES,
    OkxLimits,
    OkxRefusal,
    make_limit_refusal,
    make_missing_parameter,
    make_unknown_instrument,
    make_wrong_parameter,
)
from fademoe.simulator.okx.rows import (
    build_funding,
    build_interest,
    build_settlement,
    build_tier,
    encode_candles,
    encode_interest,
    encode_marks,
    encode_premiums,
    encode_ratio,
)
from fademoe.simulator.okx.stream import OkxStreams
from fademoe.simulator.okx.truth import adapt_truth
from fademoe.simulator.pages import Chunk, RowSource, cut_page
from fademoe.simulator.sockets import Socket

CANDLES_KEPT = 1_440  # candles of market/candles, the open one included
CANDLES_DEFAULT, CANDLES_MAX = 100, 300
PREMIUMS_MAX, SETTLEMENTS_MAX, SAMPLES_MAX, MARKS_MAX = 100, 400, 100, 100
PREMIUM_KEPT_MS = 184 * DAY_MS
SETTLEMENTS_KEPT_MS = 93 * DAY_MS
SAMPLE_MS = 5 * MINUTE_MS
MOST_FAMILIES = 5  # of a request for tiers
SAMPLES_KEPT = 1_440
PREMIUM_LAG_MS = 3_000
SETTLING_MS = 20_000  # delay of a settlement in the history
EARLIEST_LAG_MS, LATEST_LAG_MS = 66_000, 100_000  # delay of a statistics row after its stamp
KEPT_AFTER_DELISTING_MS = DAY_MS  # time after a delisting for which data are served; the list drops it at once

MAX_FAMILIES = 10  # of a list of files

_NAME = re.compile(r"\w+-\w+-\w+")
SampleRow = Callable[..., str]  # (market, instrument, ts, is_provisional=)


class Okx(Exchange):
    """OKX as its clients see it."""

    name = "okx"
    rest_prefixes = ("/api/v5/", PREFIX)
    stream_prefixes = ("/ws/v5/",)
    symbol_parameter = "instId"

    def __init__(self, simulation: Simulation) -> None:
        """Set up the routes."""
        super().__init__(simulation)
        self._limits = OkxLimits(simulation.options)
        self._archive = OkxArchive(simulation, self.name)
        self._streams = OkxStreams(self)
        self._lists: dict[str, tuple[int, bytes]] = {}
        self._routes: dict[str, Callable[[Call], bytes]] = {
            "/api/v5/market/candles": self._newest_candles,
            "/api/v5/market/history-candles": self._older_candles,
            "/api/v5/market/mark-price-candles": self._newest_marks,
            "/api/v5/market/history-mark-price-candles": self._older_marks,
            "/api/v5/public/premium-history": self._premium,
            "/api/v5/public/funding-rate": self._funding,
            "/api/v5/public/funding-rate-history": self._settlements,
            "/api/v5/public/position-tiers": self._tiers,
            "/api/v5/public/open-interest": self._interest,
            "/api/v5/public/instruments": self._instruments,
            "/api/v5/public/market-data-history": self._list_files,
            "/api/v5/public/time": lambda call: b'[{"ts":"%d"}]' % call.now_ms,
            "/api/v5/rubik/stat/contracts/open-interest-history": lambda call: self._samples(call, encode_interest),
            "/api/v5/rubik/stat/contracts/long-short-account-ratio-contract": (
                lambda call: self._samples(call, encode_ratio)
            ),
        }

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """Add options for behaviour on which the sources differ, and for rare events."""
        add = options.add_argument
        add(
            "--okx-history-page",
            type=int,
            choices=(100, 300),
            default=300,
            help="largest number of rows of history-candles",
        )
        add(
            "--okx-history-lag-min",
            type=int,
            default=3,
            help="largest number of newest candles that history-candles lacks",
        )
        add(
            "--okx-statistics-end",
            choices=("exclusive", "inclusive"),
            default="exclusive",
            help="whether begin and end belong to a range of the trading statistics",
        )
        add("--okx-void-requests", action="store_true", help="refuse a whole request for one unknown topic")
        add(
            "--okx-notice-after-s",
            type=float,
            default=0,
            help="age in seconds at which /public sockets get a notice of closure; 0: never",
        )
        add("--okx-notice-s", type=float, default=60, help="seconds from that notice to the closure")
        add(
            "--okx-silence-s",
            type=float,
            default=30,
            help="seconds without ping and data after which a socket is closed",
        )
        add(
            "--okx-late-liquidations-s",
            type=float,
            default=0,
            help="delay in seconds of one liquidation message in ten",
        )

    def answer(self, call: Call) -> Reply:
        """Answer a REST request."""
        if call.path.startswith(PREFIX):
            return self._archive.answer(call)
        handle = self._routes.get(call.path)
        try:
            if handle is None:
                raise OkxRefusal(404, "Not Found", 404, has_data=False)
            counted_by = RULES[call.path][1]
            self._limits.take(call.ip, call.path, call.query.get(counted_by, "") if counted_by else "")
            rows = handle(call)
        except OkxRefusal as refusal:
            if refusal.status == 200:
                self.stats.refusals[str(refusal.code)] += 1
            return Reply(refusal.body, refusal.status)
        if call.path.startswith("/api/v5/rubik/"):  # the order of members differs
            return Reply(b'{"code":"0","data":%b,"msg":""}' % rows)
        return Reply(b'{"code":"0","msg":"","data":%b}' % rows)

    def refuse(self, status: int, call: Call) -> Reply:
        """Return OKX's response for a status that a fault requests; it has no bans, blocked regions get code 51155."""
        if status in (418, 429):
            refusal = make_limit_refusal(is_gateway=True)
        elif status == 451:
            refusal = OkxRefusal(
                51155, "Trading of this instrument is restricted due to local compliance requirements."
            )
        else:
            refusal = OkxRefusal(50001, "Service temporarily unavailable. Please try again later.", 503)
        return Reply(refusal.body, refusal.status)

    def reply_error_in_200(self, call: Call) -> Reply:
        """Return a system error with status 200."""
        return Reply(OkxRefusal(50026, "System error. Try again later.").body)

    def find_rows(self, body: object) -> list[object]:
        """Return the rows in an envelope."""
        rows = body.get("data") if isinstance(body, dict) else None
        return rows if isinstance(rows, list) else []

    def report_limits(self) -> dict[str, object]:
        """Return the use of the rate limits."""
        return self._limits.report()

    def build_control_frames(self) -> list[bytes]:
        """Return the number of connections of a channel, and a notice other than that of a service upgrade."""
        count = {"event": "channel-conn-count", "channel": "candle1m", "connCount": "1", "connId": "abcd1234"}
        notice = {"event": "notice", "code": "64100", "msg": "for information", "connId": "abcd1234"}
        return [orjson.dumps(count), orjson.dumps(notice)]

    def open_socket(self, socket: Socket, path: str, query: Mapping[str, str]) -> None:
        """Open a socket of /public or /business."""
        self._streams.open(socket, path)

    def receive(self, socket: Socket, text: str) -> None:
        """Handle subscribe and ping."""
        self._streams.receive(socket, text)

    def restart_streams(self) -> None:
        """Schedule the running streams again."""
        self._streams.restart()

    def apply_contract_change(self, instrument: Instrument) -> None:
        """Build the list again, and restart the contract's feeds."""
        self._lists.clear()
        self._streams.forget_contract(instrument)

    def read_truth(self, metric: str, symbol: str, start_ms: int, end_ms: int, step_ms: int | None = None) -> list[Row]:
        """Return the rows that a collector must have stored by now (see `okx.truth`)."""
        return adapt_truth(metric, super().read_truth(metric, symbol, start_ms, end_ms, step_ms))

    def _instruments(self, call: Call) -> bytes:
        """Return the list of contracts, built once a minute."""
        kind = call.query.get("instType")
        if not kind:
            raise make_missing_parameter("instType")
        if kind not in ("SWAP", "FUTURES"):
            raise make_wrong_parameter("instType")
        minute = call.now_ms // MINUTE_MS
        if self._lists.get(kind, (0, b""))[0] != minute:
            self._lists[kind] = minute, okx_listing.encode_instruments(self.market, kind, call.now_ms)
        return self._lists[kind][1]

    def _list_files(self, call: Call) -> bytes:
        """Return the files of the archive of some families, days or months, the newest first."""
        query = call.query
        kinds = {"2": "candlesticks", "3": "fundingrates"}
        if query.get("instType") != "SWAP" or query.get("dateAggrType") not in ("daily", "monthly"):
            raise make_wrong_parameter("instType" if query.get("instType") != "SWAP" else "dateAggrType")
        begin_ms, end_ms = query.get("begin", ""), query.get("end", "")
        if not (begin_ms.isdecimal() and end_ms.isdecimal()):
            raise make_missing_parameter("begin")
        names = [f"{family}-SWAP" for family in query.get("instFamilyList", "").split(",") if family]
        details = [
            item
            for name in names[:MAX_FAMILIES]
            for item in self._archive.list_files(
                kinds.get(query.get("module", ""), ""), name, query["dateAggrType"], int(begin_ms), int(end_ms)
            )
        ]
        sizes = sum(float(str(item["groupSizeMB"])) for item in details)
        answer = {"dateAggrType": query["dateAggrType"], "details": details, "totalSizeMB": f"{sizes:.2f}"}
        return orjson.dumps([{**answer, "ts": str(call.now_ms)}])

    def _newest_candles(self, call: Call) -> bytes:
        """Return candles of the last 1440 minutes, the open one first."""
        return self._candles(call, *_newest_range(call), CANDLES_MAX)

    def _older_candles(self, call: Call) -> bytes:
        """Return candles without the newest minutes."""
        return self._candles(call, 0, self._find_history_end_ms(call), self.options.okx_history_page)

    def _newest_marks(self, call: Call) -> bytes:
        """Return candles of the mark price of the last 1440 minutes, the open one first."""
        return self._marks(call, *_newest_range(call))

    def _older_marks(self, call: Call) -> bytes:
        """Return candles of the mark price without the newest minutes."""
        return self._marks(call, 0, self._find_history_end_ms(call))

    def _find_history_end_ms(self, call: Call) -> int:
        """Return the open time of the first candle that the histories lack."""
        minute_ms = call.now_ms // MINUTE_MS * MINUTE_MS
        most: int = max(1, self.options.okx_history_lag_min)
        lag = 1 + draw_number(self.market.seed, "history lag", minute_ms) % most
        return minute_ms - lag * MINUTE_MS

    def _marks(self, call: Call, oldest_ms: int, newest_ms: int) -> bytes:
        """Return candles of the mark price with oldest_ms <= ts < newest_ms; the open one has confirm 0."""
        instrument, marks = self._instrument(call), self.market.marks
        if call.query.get("bar", "1m") != "1m":
            raise make_wrong_parameter("bar")
        start_ms, end_ms, limit = _window(call, "before", "after"), _end(call, "after"), _limit(call, MARKS_MAX)
        final_ms = self.market.find_final_end_ms(instrument, call.now_ms)
        tail = Chunk([], [])
        if min(end_ms, newest_ms) > final_ms:
            minutes = range(final_ms, min(newest_ms, call.now_ms + 1), MINUTE_MS)
            found = [(marks.read_mark(instrument, ts), ts) for ts in minutes if instrument.is_trading(ts)]
            bars = [grow_mark(bar, call.now_ms - ts) for bar, ts in found if bar is not None]
            tail = Chunk([bar.ts for bar in bars], encode_marks(instrument, bars, "0"), newest_first=True)

        def encode(day: int) -> Chunk:
            rows = marks.list_marks(instrument, day)
            return Chunk([row[0] for row in rows], encode_marks(instrument, rows), newest_first=True)

        def chunk(day: int) -> Chunk:
            return self.simulation.chunks.get((self.name, "marks", instrument, day), lambda: encode(day))

        start_ms = max(start_ms, oldest_ms, instrument.listed_ms)
        source = RowSource(chunk, min(final_ms, newest_ms), tail)
        return cut_page(source, start_ms, min(end_ms, newest_ms), limit, keep_newest=True, newest_first=True)

    def _candles(self, call: Call, oldest_ms: int, newest_ms: int, most: int) -> bytes:
        """Return candles with oldest_ms <= ts < newest_ms; those that are not final have confirm 0."""
        instrument = self._instrument(call)
        if call.query.get("bar", "1m") != "1m":
            raise make_wrong_parameter("bar")
        start_ms, end_ms, limit = _window(call, "before", "after"), _end(call, "after"), _limit(call, most)
        final_ms = self.market.find_final_end_ms(instrument, call.now_ms)
        tail = Chunk([], [])
        if min(end_ms, newest_ms) > final_ms:
            visible = [
                self.market.read_visible_bar(instrument, ts, call.now_ms)
                for ts in range(final_ms, min(newest_ms, call.now_ms + 1), MINUTE_MS)
            ]
            bars = [bar for bar in visible if bar is not None]
            tail = Chunk([bar.ts for bar in bars], encode_candles(instrument, bars, "0"), newest_first=True)

        def encode(day: int) -> Chunk:
            bars = self.market.candles.list_bars(instrument, day)
            return Chunk([bar[0] for bar in bars], encode_candles(instrument, bars), newest_first=True)

        def chunk(day: int) -> Chunk:
            return self.simulation.chunks.get((self.name, "candles", instrument, day), lambda: encode(day))

        start_ms = max(start_ms, oldest_ms, instrument.listed_ms)
        source = RowSource(chunk, min(final_ms, newest_ms), tail)
        return cut_page(source, start_ms, min(end_ms, newest_ms), limit, keep_newest=True, newest_first=True)

    def _premium(self, call: Call) -> bytes:
        """Return samples of the premium, newest first."""
        instrument = self._instrument(call)
        start_ms, end_ms, limit = _window(call, "before", "after"), _end(call, "after"), _limit(call, PREMIUMS_MAX)

        def encode(day: int) -> Chunk:
            times, rows = encode_premiums(self.market, instrument, day)
            return Chunk(times, rows, newest_first=True)

        def chunk(day: int) -> Chunk:
            return self.simulation.chunks.get((self.name, "samples", instrument, day), lambda: encode(day))

        start_ms = max(start_ms, call.now_ms - PREMIUM_KEPT_MS, instrument.listed_ms)
        source = RowSource(chunk, call.now_ms - PREMIUM_LAG_MS, Chunk([], []))
        return cut_page(source, start_ms, end_ms, limit, keep_newest=True, newest_first=True)

    def _settlements(self, call: Call) -> bytes:
        """Return settled rates of the last three months, newest first."""
        instrument = self._instrument(call)
        start_ms, end_ms = _window(call, "before", "after"), _end(call, "after")
        limit = _limit(call, SETTLEMENTS_MAX, SETTLEMENTS_MAX)
        start_ms = max(start_ms, call.now_ms - SETTLEMENTS_KEPT_MS)
        settled = self.market.funding.list_last_settlements(instrument, min(end_ms, call.now_ms - SETTLING_MS), limit)
        rows = [build_settlement(self.market, instrument, item) for item in reversed(settled) if item.ts >= start_ms]
        return orjson.dumps(rows)

    def _samples(self, call: Call, make_row: SampleRow) -> bytes:
        """Return rows of the trading statistics, newest first; the newest row changes once more."""
        instrument = self._instrument(call)
        if call.query.get("period", "5m") != "5m":
            raise make_wrong_parameter("period")
        is_inclusive = self.options.okx_statistics_end == "inclusive"
        start_ms, end_ms = _window(call, "begin", "end") - is_inclusive, _end(call, "end") + is_inclusive
        limit = _limit(call, SAMPLES_MAX)
        newest_ms = self._newest_sample(instrument, call.now_ms)
        tail = Chunk([], [])
        if self.market.gauges.has_sample(instrument, newest_ms):
            tail = Chunk([newest_ms], [make_row(self.market, instrument, newest_ms, is_provisional=True)])

        def encode(day: int) -> Chunk:
            grid = range(day * DAY_MS, (day + 1) * DAY_MS, SAMPLE_MS)
            times = [ts for ts in grid if self.market.gauges.has_sample(instrument, ts)]
            rows = [make_row(self.market, instrument, ts, is_provisional=False) for ts in times]
            return Chunk(times, rows, newest_first=True)

        def chunk(day: int) -> Chunk:
            return self.simulation.chunks.get((self.name, make_row, instrument, day), lambda: encode(day))

        start_ms = max(start_ms, newest_ms - (SAMPLES_KEPT - 1) * SAMPLE_MS, instrument.listed_ms)
        source = RowSource(chunk, newest_ms, tail)
        return cut_page(source, start_ms, end_ms, limit, keep_newest=True, newest_first=True)

    def _newest_sample(self, instrument: Instrument, now_ms: int) -> int:
        """Return the newest stamp with a row."""
        ts = now_ms // SAMPLE_MS * SAMPLE_MS
        spread = LATEST_LAG_MS - EARLIEST_LAG_MS + 1
        lag_ms = EARLIEST_LAG_MS + draw_number(self.market.seed, "lag", instrument.key, ts) % spread
        return ts if ts + lag_ms <= now_ms else ts - SAMPLE_MS

    def _funding(self, call: Call) -> bytes:
        """Return the current funding of one contract, or of all (ANY)."""
        if call.query.get("instId") == "ANY":
            instruments = [item for item in self._swaps() if item.is_trading(call.now_ms)]
        else:
            instruments = [self._instrument(call)]
        rows = []
        for instrument in instruments:
            bar = self.market.gauges.read_premium(instrument, call.now_ms // MINUTE_MS * MINUTE_MS)
            rows.append(build_funding(self.market, instrument, call.now_ms, bar.close if bar else 0))
        return orjson.dumps(rows)

    def _interest(self, call: Call) -> bytes:
        """Return the current open interest of one swap, or of all."""
        if call.query.get("instType") != "SWAP":
            raise make_missing_parameter("instType")
        instruments = [self._instrument(call)] if call.query.get("instId") else self._swaps()
        trading = [item for item in instruments if item.is_trading(call.now_ms)]
        return orjson.dumps([build_interest(self.market, item, call.now_ms) for item in trading])

    def _tiers(self, call: Call) -> bytes:
        """Return the tiers of margin of up to five families, in contracts."""
        for name in ("instType", "tdMode", "instFamily"):
            if not call.query.get(name):
                raise make_missing_parameter(name)
        if call.query["instType"] != "SWAP" or call.query["tdMode"] not in ("cross", "isolated"):
            raise make_wrong_parameter("instType")
        families = call.query["instFamily"].split(",")
        known = {item.name.removesuffix("-SWAP"): item for item in self._swaps()}
        if len(families) > MOST_FAMILIES or not all(family in known for family in families):
            raise make_wrong_parameter("instFamily")
        return orjson.dumps(
            [
                build_tier(family, number, *pair)
                for family in families
                for number, pair in self._list_steps(known[family])
            ]
        )

    def _list_steps(self, instrument: Instrument) -> list[tuple[int, tuple[Tier | None, Tier]]]:
        """Return the number of each tier, with the tier before it."""
        tiers = list_tiers(self.market.seed, instrument)
        return list(enumerate(zip([None, *tiers], tiers, strict=False), 1))

    def _swaps(self) -> list[Instrument]:
        """Return all swaps."""
        return [item for item in self.market.world.list_instruments(self.name) if item.kind != "dated"]

    def _instrument(self, call: Call) -> Instrument:
        """Return the contract of the request; one that is delisted or not yet detailed is unknown."""
        name = call.query.get("instId")
        if not name:
            raise make_missing_parameter("instId")
        if not _NAME.fullmatch(name):
            raise make_wrong_parameter("instId")
        instrument = self.market.world.find_instrument(self.name, name)
        if instrument is None or not okx_listing.is_known(instrument, call.now_ms):
            raise make_unknown_instrument()
        if instrument.delisted_ms is not None and call.now_ms >= instrument.delisted_ms + KEPT_AFTER_DELISTING_MS:
            raise make_unknown_instrument()
        return instrument


EXCHANGE = Okx


def _newest_range(call: Call) -> tuple[int, int]:
    """Return the range of the candles that are kept near: the last 1440, the open one included."""
    minute_ms = call.now_ms // MINUTE_MS * MINUTE_MS
    return minute_ms - (CANDLES_KEPT - 1) * MINUTE_MS, call.now_ms + 1


def _integer(call: Call, name: str, default: int) -> int:
    """Read a whole number of the query."""
    text = call.query.get(name)
    if not text:
        return default
    if not text.isdecimal():
        raise make_wrong_parameter(name)
    return int(text)


def _window(call: Call, newer_than: str, older_than: str) -> int:
    """Return the first time of a range with an exclusive start; refuse a range that ends before it starts."""
    start_ms = _integer(call, newer_than, -1) + 1
    if start_ms > _end(call, older_than):
        raise make_wrong_parameter(newer_than)
    return start_ms


def _end(call: Call, older_than: str) -> int:
    """Return the exclusive end of a range."""
    return _integer(call, older_than, call.now_ms + HOUR_MS)


def _limit(call: Call, most: int, default: int = CANDLES_DEFAULT) -> int:
    """Read the number of rows, at most `most`."""
    return max(1, min(most, _integer(call, "limit", default)))
