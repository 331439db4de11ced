"""The data of Bybit's streams except tickers: candles and liquidations. A feed runs while it has subscribers."""

from collections.abc import Callable
from itertools import groupby

from fademoe.simulator.bybit.rows import encode_kline, encode_message
from fademoe.simulator.clock import MINUTE_MS
from fademoe.simulator.decimals import to_fixed, to_trimmed
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.market.candles import Bar, grow, replace_close
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.liquidations import Liquidation
from fademoe.simulator.market.noise import draw_number

SECOND_MS = 1_000
BATCH_MS = 500  # liquidations within this time share a frame
BATCH_DELAY_MS = 100
CLOSE_FAULTS = ("lost_close", "duplicate_close", "changed_close", "late_bars")
OnUnused = Callable[[str], object]  # called with a topic that has lost its last subscriber
TOGETHER = 6  # in 1 minute of 6 the closed candle is in one message with the open one


class KlineFeed:
    """Publish the candles of one contract: the open one once a second to once a minute, and each closed one.

    Unknown of the real exchange: how late the closed candle comes, and whether minutes without trades have messages;
    with --bybit-no-quiet-candles they have none.
    """

    def __init__(self, exchange: Exchange, topic: str, name: str, on_unused: OnUnused) -> None:
        """Start with the current minute, and with the previous one if it is not final."""
        self._exchange = exchange
        self._topic = topic
        self._name = name
        self._on_unused = on_unused
        self._ts = 0
        self._bar: Bar | None = None
        self._sent: Bar | None = None
        instrument = self._instrument
        self._steps = min(MINUTE_MS // SECOND_MS, exchange.market.count_steps(instrument))
        self._period_ms = MINUTE_MS // self._steps
        self._phase_ms = draw_number(exchange.market.seed, "phase", instrument.key) % self._period_ms
        now_ms = exchange.clock.now_ms()
        final_ms = exchange.market.find_final_end_ms(instrument, now_ms)
        if final_ms < now_ms // MINUTE_MS * MINUTE_MS:
            self._schedule_close(instrument, final_ms)
        self.tick(now_ms)

    @property
    def _instrument(self) -> Instrument:
        """The contract as it is listed now."""
        instrument = self._exchange.market.world.find_instrument("bybit", self._name)
        assert instrument is not None, "a topic is started for listed contracts only"
        return instrument

    def tick(self, now_ms: int) -> None:
        """Publish the open candle if it has changed; schedule the next possible change."""
        exchange = self._exchange
        if not exchange.hub.has_listeners(self._topic):
            self._on_unused(self._topic)
            return
        instrument = self._instrument
        ts = now_ms // MINUTE_MS * MINUTE_MS
        if ts != self._ts:
            self._ts, self._sent = ts, None
            bar = exchange.market.candles.read_bar(instrument, ts)
            self._bar = bar if bar is not None and self._is_shown(bar) else None
            if self._bar is not None:
                self._schedule_close(instrument, ts)
        bar = self._running(now_ms)
        if bar is not None and bar != self._sent:
            self._sent = bar
            element = encode_kline(instrument, bar, now_ms, is_closed=False)
            exchange.hub.publish(self._topic, encode_message(self._topic, element, now_ms))
        step = (now_ms - ts - self._phase_ms) // self._period_ms + 1
        exchange.timeline.schedule(ts + step * self._period_ms + self._phase_ms, self.tick)

    def _running(self, now_ms: int) -> Bar | None:
        """Return the open candle as it is now; None without one."""
        if self._bar is None:
            return None
        step = min((now_ms - self._bar.ts) // self._period_ms, self._steps - 1)
        return grow(self._bar, step, self._steps, self._instrument.tick)

    def _is_shown(self, bar: Bar) -> bool:
        """Return whether the candle of a minute is sent at all."""
        return bool(bar.trades) or not self._exchange.options.bybit_no_quiet_candles

    def _schedule_close(self, instrument: Instrument, ts: int) -> None:
        """Schedule the closed candle for the time at which the minute is final."""
        due_ms = ts + MINUTE_MS + self._exchange.market.find_final_delay_ms(instrument, ts)
        self._exchange.timeline.schedule(due_ms, lambda now_ms: self._close(ts, now_ms))

    def _close(self, ts: int, now_ms: int) -> None:
        """Publish the closed candle; an active fault drops, repeats, changes or delays it."""
        exchange, instrument = self._exchange, self._instrument
        bar = exchange.market.candles.read_bar(instrument, ts)
        if bar is None or not self._is_shown(bar):
            return

        def send(at_ms: int, sent: Bar = bar) -> None:
            elements = [encode_kline(instrument, sent, at_ms, is_closed=True)]
            running = self._running(at_ms)
            if running is not None and running.ts == ts + MINUTE_MS and bar.close % TOGETHER == 0:
                elements.append(encode_kline(instrument, running, at_ms, is_closed=False))
            exchange.hub.publish(self._topic, encode_message(self._topic, ",".join(elements), at_ms))

        fault = exchange.take_fault(CLOSE_FAULTS, symbol=self._name)
        kind = fault.kind if fault else ""
        if fault and kind == "late_bars":
            exchange.timeline.schedule(now_ms + int(fault.seconds * 1000), send)
        elif kind != "lost_close":
            send(now_ms, replace_close(bar) if kind == "changed_close" else bar)
        if kind in ("duplicate_close", "changed_close"):
            exchange.timeline.schedule(now_ms + SECOND_MS, send)


class LiquidationFeed:
    """Publish every liquidation of one contract; those of half a second share a frame."""

    def __init__(self, exchange: Exchange, topic: str, name: str, on_unused: OnUnused) -> None:
        """Start with the current minute, and with the frames of the previous one that are still due."""
        self._exchange = exchange
        self._topic = topic
        self._name = name
        self._on_unused = on_unused
        now_ms = exchange.clock.now_ms()
        self._schedule(now_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS, now_ms)
        self._scan(now_ms)

    def _scan(self, now_ms: int) -> None:
        """Schedule the frames of the current minute, and the next scan."""
        if not self._exchange.hub.has_listeners(self._topic):
            self._on_unused(self._topic)
            return
        ts = now_ms // MINUTE_MS * MINUTE_MS
        self._schedule(ts, now_ms)
        self._exchange.timeline.schedule(ts + MINUTE_MS, lambda _now_ms: self._scan(ts + MINUTE_MS))

    def _schedule(self, ts: int, now_ms: int) -> None:
        """Schedule the frames of the minute at `ts` that are not yet due."""
        exchange = self._exchange
        instrument = exchange.market.world.find_instrument("bybit", self._name)
        if instrument is None:
            return
        events = exchange.market.liquidations.list_in_minute(instrument, ts)
        for slot, batch in groupby(events, key=lambda event: event.ts // BATCH_MS):
            due_ms = (slot + 1) * BATCH_MS + BATCH_DELAY_MS
            if due_ms > now_ms:
                self._send_at(due_ms, ",".join(encode_liquidation(instrument, event) for event in batch))

    def _send_at(self, due_ms: int, data: str) -> None:
        """Schedule a frame."""

        def send(now_ms: int) -> None:
            self._exchange.hub.publish(self._topic, encode_message(self._topic, data, now_ms))

        self._exchange.timeline.schedule(due_ms, send)


def encode_liquidation(instrument: Instrument, event: Liquidation) -> str:
    """Encode an event: S is the side of the position, so Buy is a long; p is the bankruptcy price."""
    side = "Buy" if event.side == "long" else "Sell"
    size = to_trimmed(event.size, instrument.lot_decimals)
    price = to_fixed(event.limit_price, instrument.price_decimals)
    return f'{{"T":{event.ts},"s":"{instrument.name}","S":"{side}","v":"{size}","p":"{price}"}}'
