"""The data of Binance's streams: klines, mark prices, liquidations. A feed runs while it has subscribers."""

from collections.abc import Callable

import orjson

from fademoe.simulator.binance.listing import COIN_MARGINED
from fademoe.simulator.binance.rows import encode_kline_event
from fademoe.simulator.clock import MINUTE_MS
from fademoe.simulator.decimals import rescale, to_fixed
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.market.candles import Bar, grow, replace_close
from fademoe.simulator.market.funding import RATE_DECIMALS
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.liquidations import Liquidation
from fademoe.simulator.market.noise import draw_number

SECOND_MS = 1_000
TRADFI_OFFSET_MS = 684  # delay of the frame with TradFi rows behind the frame with crypto rows
FORCE_ORDER_DELAY_MS = 1_005
FORCE_ORDERS = "!forceOrder@arr"
CLOSE_FAULTS = ("lost_close", "duplicate_close", "changed_close", "late_bars")
PREMIUM_UNIT = 10**8

OnUnused = Callable[[str], None]


def wrap(topic: str, payload: bytes) -> bytes:
    """Return the envelope of /stream."""
    return b'{"stream":"%b","data":%b}' % (topic.encode(), payload)


class KlineFeed:
    """Publish the kline events of one contract."""

    def __init__(self, exchange: Exchange, topic: str, instrument: Instrument, on_unused: OnUnused) -> None:
        """Start with the current minute, and with the previous one if it is not final."""
        self._exchange = exchange
        self._topic = topic
        self._instrument = instrument
        self._on_unused = on_unused
        market = exchange.market
        self._steps = market.count_steps(instrument)
        self._period_ms = MINUTE_MS // self._steps
        self._phase_ms = draw_number(market.seed, "phase", instrument.key) % self._period_ms
        self._ts = 0
        self._bar: Bar | None = None
        self._sent_trades = 0
        now_ms = exchange.clock.now_ms()
        final_ms = market.find_final_end_ms(instrument, now_ms)
        if final_ms < now_ms // MINUTE_MS * MINUTE_MS:
            self._schedule_close(final_ms)
        self.tick(now_ms)

    def tick(self, now_ms: int) -> None:
        """Publish the open candle if it has changed; schedule the next possible change."""
        exchange = self._exchange
        if not exchange.hub.has_listeners(self._topic):
            self._on_unused(self._topic)
            return
        ts = now_ms // MINUTE_MS * MINUTE_MS
        if ts != self._ts:
            self._ts, self._sent_trades = ts, 0
            self._bar = exchange.market.candles.read_bar(self._instrument, ts)
            if self._bar is not None:
                self._schedule_close(ts)
        next_ms = ts + MINUTE_MS + self._phase_ms
        if self._bar is not None and self._bar.trades:
            step = (now_ms - ts) // self._period_ms
            next_ms = ts + (step + 1) * self._period_ms + self._phase_ms
            bar = grow(self._bar, min(step, self._steps - 1), self._steps, self._instrument.tick)
            if bar.trades > self._sent_trades:
                self._sent_trades = bar.trades
                exchange.hub.publish(
                    self._topic, encode_kline_event(self._instrument, bar, now_ms, is_closed=False), wrap
                )
        exchange.timeline.schedule(next_ms, self.tick)

    def _schedule_close(self, ts: int) -> None:
        """Schedule the closed candle for the time at which the minute is final."""
        due_ms = ts + MINUTE_MS + self._exchange.market.find_final_delay_ms(self._instrument, ts)
        self._exchange.timeline.schedule(due_ms, lambda now_ms: self._close(ts, now_ms))

    def _close(self, ts: int, now_ms: int) -> None:
        """Publish the closed candle; an active fault drops, repeats, changes or delays it."""
        exchange = self._exchange
        bar = exchange.market.candles.read_bar(self._instrument, ts)
        if bar is None or (not bar.trades and exchange.options.binance_no_quiet_closes):
            return

        def send(at_ms: int, sent: Bar = bar) -> None:
            exchange.hub.publish(self._topic, encode_kline_event(self._instrument, sent, at_ms, is_closed=True), wrap)

        fault = exchange.take_fault(CLOSE_FAULTS, symbol=self._instrument.name)
        kind = fault.kind if fault else ""
        if fault and kind == "late_bars":
            exchange.timeline.schedule(now_ms + int(fault.seconds * 1000), send)
        elif kind != "lost_close":
            send(now_ms, replace_close(bar) if kind == "changed_close" else bar)
        if kind in ("duplicate_close", "changed_close"):
            exchange.timeline.schedule(now_ms + SECOND_MS, send)


class MarkPrices:
    """Mark price, index price and funding estimate, for the streams and for premiumIndex."""

    def __init__(self, exchange: Exchange) -> None:
        """Read the market of `exchange`."""
        self._exchange = exchange
        self._minutes: dict[Instrument, tuple[int, int, int, int]] = {}

    def read_values(self, instrument: Instrument, now_ms: int) -> dict[str, str | int]:
        """Return p, ap, P, i, r, T as the stream names them, at the last full second.

        Contracts without funding have rate zero and time 0; ended contracts have an estimated settle price of zero too.
        """
        market = self._exchange.market
        minute = now_ms // MINUTE_MS
        minute_values = self._minutes.get(instrument)
        if minute_values is None or minute_values[0] != minute:
            premium = market.gauges.read_premium(instrument, minute * MINUTE_MS)
            is_funded = instrument.is_trading(now_ms)
            rate = market.funding.estimate(instrument, now_ms) if is_funded else 0
            next_ms = market.funding.find_next_ms(instrument, now_ms) if is_funded else 0
            minute_values = self._minutes[instrument] = minute, premium.close if premium else 0, rate, next_ms
        _, premium_close, rate, next_ms = minute_values
        at_ms = min(now_ms, instrument.delisted_ms or now_ms) // SECOND_MS * SECOND_MS
        price = rescale(market.candles.read_price(instrument, at_ms), instrument.price_decimals, 8)
        index = to_fixed(price - price * premium_close // PREMIUM_UNIT, 8)
        return {
            "p": to_fixed(price, 8),
            "ap": to_fixed(price, 8),
            "P": index if instrument.is_trading(now_ms) else "0.00000000",
            "i": index,
            "r": to_fixed(rate, RATE_DECIMALS),
            "T": next_ms,
        }

    def start(self, topic: str, seconds: int, instruments: list[Instrument] | None, on_unused: OnUnused) -> None:
        """Publish every `seconds`: the row of one contract, or (None) two frames with all rows, TradFi separately."""
        exchange = self._exchange

        def tick(now_ms: int) -> None:
            if not exchange.hub.has_listeners(topic):
                on_unused(topic)
                return
            if instruments is None:
                exchange.hub.publish(topic, self._frame("perpetual", now_ms), wrap)
                exchange.timeline.schedule(max(now_ms + 1, now_ms // SECOND_MS * SECOND_MS + TRADFI_OFFSET_MS), tradfi)
            else:
                exchange.hub.publish(topic, orjson.dumps(self._row(instruments[0], now_ms)), wrap)
            exchange.timeline.schedule((now_ms // (seconds * SECOND_MS) + 1) * seconds * SECOND_MS, tick)

        def tradfi(now_ms: int) -> None:
            exchange.hub.publish(topic, self._frame("tradfi", now_ms), wrap)

        tick(exchange.clock.now_ms())

    def _frame(self, kind: str, now_ms: int) -> bytes:
        """Return one of the two frames of the array stream; COIN-M rows are in the frame of crypto rows."""
        exchange = self._exchange
        instruments = exchange.market.world.list_instruments(exchange.name)
        rows = [
            self._row(instrument, now_ms)
            for instrument in instruments
            if (instrument.kind == "tradfi") == (kind == "tradfi") and now_ms >= instrument.listed_ms
        ]
        if kind != "tradfi":
            rows += [rows[0] | {"s": name, "st": 2} for name in COIN_MARGINED]
        return orjson.dumps(rows)

    def _row(self, instrument: Instrument, now_ms: int) -> dict[str, str | int]:
        """Build a markPriceUpdate."""
        head: dict[str, str | int] = {"e": "markPriceUpdate", "E": now_ms, "s": instrument.name}
        return head | self.read_values(instrument, now_ms) | {"st": 1}


class ForceOrders:
    """Publish liquidations: the largest of each contract and second, one frame each, a second late."""

    def __init__(self, exchange: Exchange) -> None:
        """Read the market of `exchange`."""
        self._exchange = exchange
        self._is_scanning = False

    def start(self) -> None:
        """Schedule the liquidations from the current minute on, unless that is already running."""
        if not self._is_scanning:
            self._is_scanning = True
            self._scan(self._exchange.clock.now_ms())

    def stop(self) -> None:
        """Mark the feed as stopped, after the timeline was cleared."""
        self._is_scanning = False

    def _scan(self, now_ms: int) -> None:
        """Schedule the liquidations of the current minute, and the next scan."""
        exchange = self._exchange
        ts = now_ms // MINUTE_MS * MINUTE_MS
        if not any(topic == FORCE_ORDERS or topic.endswith("@forceOrder") for topic in exchange.hub.list_topics()):
            self._is_scanning = False
            return
        for instrument in exchange.market.world.list_instruments(exchange.name):
            for event in exchange.market.liquidations.list_largest_per_second(instrument, ts):
                if event.ts + FORCE_ORDER_DELAY_MS > now_ms:
                    self._schedule(instrument, event)
        exchange.timeline.schedule(ts + MINUTE_MS, lambda _now_ms: self._scan(ts + MINUTE_MS))

    def _schedule(self, instrument: Instrument, event: Liquidation) -> None:
        """Schedule one liquidation for the all-market stream and for the contract's stream."""

        def send(now_ms: int) -> None:
            payload = encode_force_order(instrument, event, now_ms)
            for topic in (FORCE_ORDERS, f"{instrument.name.lower()}@forceOrder"):
                self._exchange.hub.publish(topic, payload, wrap)

        self._exchange.timeline.schedule(event.ts + FORCE_ORDER_DELAY_MS, send)


def encode_force_order(instrument: Instrument, event: Liquidation, now_ms: int) -> bytes:
    """Encode a forceOrder frame; S is the side of the closing order: SELL means that a long was liquidated."""
    size = to_fixed(event.size, instrument.lot_decimals)
    return orjson.dumps(
        {
            "e": "forceOrder",
            "E": now_ms,
            "o": {
                "s": instrument.name,
                "S": "SELL" if event.side == "long" else "BUY",
                "o": "LIMIT",
                "f": "IOC",
                "q": size,
                "p": to_fixed(event.limit_price, instrument.price_decimals),
                "ap": to_fixed(event.price, instrument.price_decimals),
                "X": "FILLED",
                "l": to_fixed(1 + event.size // 3, instrument.lot_decimals),
                "z": size,
                "T": event.ts,
                "ps": instrument.name,
                "st": 1,
            },
        }
    )
