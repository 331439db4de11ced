"""The data of OKX's channels: candles, funding, open interest, liquidations. A feed runs while it has subscribers."""

from collections.abc import Callable
from itertools import groupby

import orjson

from fademoe.simulator.clock import MINUTE_MS
from fademoe.simulator.decimals import to_fixed
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.market.candles import Bar, grow, replace_close
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.liquidations import Liquidation
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.okx.rows import build_funding, build_interest, encode_candles, find_interest_stamp_ms

SECOND_MS = 1_000
CLOSE_FAULTS = ("lost_close", "duplicate_close", "changed_close", "late_bars")
SHORTEST_FUNDING_MS, LONGEST_FUNDING_MS = 30_000, 90_000  # shortest and longest time between two messages
EARLIEST_EVENT_MS, LATEST_EVENT_MS = 200, 1_500  # shortest and longest delay of a message
REPEATED, UNSIDED, LATE = 12, 4, 10  # 1 message in 12 is repeated, 1 in 4 has no sides, 1 in 10 may be late

Publish = Callable[[str, bytes], None]


class Feed:
    """The feed of one topic. `newest` is the message that a new subscriber gets at once."""

    def __init__(self, exchange: Exchange, topic: str, publish: Publish) -> None:
        """Prepare the envelope; the feed of a contract starts with `follow`."""
        self.exchange = exchange
        self.topic = topic
        self.newest = b""
        self.is_over = False
        self._publish = publish
        channel, _, what = topic.partition(":")
        name = "instType" if channel == "liquidation-orders" else "instId"
        self._head = b'{"arg":%b,"data":[' % orjson.dumps({"channel": channel, name: what})

    def follow(self, instrument: Instrument) -> None:
        """Start to publish the data of a contract."""

    def end(self) -> None:
        """Stop publishing."""
        self.is_over = True

    def has_ended(self) -> bool:
        """Tell whether the feed has stopped; one without subscribers stops, and a new feed takes its place."""
        self.is_over = self.is_over or not self.exchange.hub.has_listeners(self.topic)
        return self.is_over

    def send(self, row: bytes) -> None:
        """Publish one row."""
        self.newest = self._head + row + b"]}"
        self._publish(self.topic, self.newest)


class CandleFeed(Feed):
    """Publish candles, at most one a second, none in a minute without trades."""

    def follow(self, instrument: Instrument) -> None:
        """Start with the current minute, and with the previous one if it is not final."""
        market, now_ms = self.exchange.market, self.exchange.clock.now_ms()
        self._instrument = instrument
        self._steps = market.count_steps(instrument)
        self._period_ms = max(SECOND_MS, MINUTE_MS // self._steps)
        self._phase_ms = draw_number(market.seed, "phase", instrument.key) % self._period_ms
        self._ts = 0
        self._bar: Bar | None = None
        final_ms = market.find_final_end_ms(instrument, now_ms)
        if final_ms < now_ms // MINUTE_MS * MINUTE_MS:
            self._schedule_close(final_ms)
        self._tick(now_ms)

    def _tick(self, now_ms: int) -> None:
        """Publish the open candle; schedule the next possible change."""
        if self.has_ended():
            return
        ts = now_ms // MINUTE_MS * MINUTE_MS
        if ts != self._ts:
            self._ts, self._bar = ts, self.exchange.market.candles.read_bar(self._instrument, ts)
            self._schedule_close(ts)
        next_ms = ts + MINUTE_MS + self._phase_ms
        if self._bar is not None and self._bar.trades:
            step = (now_ms - ts) // self._period_ms
            next_ms = ts + (step + 1) * self._period_ms + self._phase_ms
            done = min(self._steps - 1, (now_ms - ts) * self._steps // MINUTE_MS)
            self.send(self._row(grow(self._bar, done, self._steps, self._instrument.tick), "0"))
        self.exchange.timeline.schedule(next_ms, self._tick)

    def _schedule_close(self, ts: int) -> None:
        """Schedule the confirmed candle for the time at which the minute is final."""
        bar = self.exchange.market.candles.read_bar(self._instrument, ts)
        if bar is not None and bar.trades:
            due_ms = ts + MINUTE_MS + self.exchange.market.find_final_delay_ms(self._instrument, ts)
            self.exchange.timeline.schedule(due_ms, lambda now_ms: self._close(bar, now_ms))

    def _close(self, bar: Bar, now_ms: int) -> None:
        """Publish the confirmed candle; an active fault drops, repeats, changes or delays it."""
        if self.has_ended():
            return

        def send(_now_ms: int, sent: Bar = bar) -> None:
            self.send(self._row(sent, "1"))

        fault = self.exchange.take_fault(CLOSE_FAULTS, symbol=self._instrument.name)
        kind = fault.kind if fault else ""
        if fault and kind == "late_bars":
            self.exchange.timeline.schedule(now_ms + int(fault.seconds * 1000), send)
        elif kind != "lost_close":
            send(now_ms, replace_close(bar) if kind == "changed_close" else bar)
        if kind in ("duplicate_close", "changed_close"):
            self.exchange.timeline.schedule(now_ms + SECOND_MS, send)

    def _row(self, bar: Bar, confirm: str) -> bytes:
        """Encode a candle."""
        return encode_candles(self._instrument, [bar], confirm)[0].encode()


class FundingFeed(Feed):
    """Publish funding with the premium every 30 to 90 s; the last message of a minute has the minute's premium."""

    def follow(self, instrument: Instrument) -> None:
        """Publish the first message at once."""
        self._instrument = instrument
        self._tick(self.exchange.clock.now_ms())

    def _tick(self, due_ms: int) -> None:
        """Publish the values of the time at which the message was due."""
        if self.has_ended():
            return
        market, instrument = self.exchange.market, self._instrument
        spread = LONGEST_FUNDING_MS - SHORTEST_FUNDING_MS + 1
        next_ms = due_ms + SHORTEST_FUNDING_MS + draw_number(market.seed, "push", instrument.key, due_ms) % spread
        bar = market.gauges.read_premium(instrument, due_ms // MINUTE_MS * MINUTE_MS)
        if bar is not None and instrument.is_trading(due_ms):
            is_last = next_ms // MINUTE_MS > due_ms // MINUTE_MS
            row = build_funding(market, instrument, due_ms, bar.close if is_last else bar.open)
            self.send(orjson.dumps(row))
        self.exchange.timeline.schedule(next_ms, lambda _now_ms: self._tick(next_ms))


class InterestFeed(Feed):
    """Publish open interest within three seconds of its change, which happens at full minutes."""

    def follow(self, instrument: Instrument) -> None:
        """Publish the first message at once."""
        self._instrument = instrument
        self._sent = ""
        self._tick(self.exchange.clock.now_ms())

    def _tick(self, due_ms: int) -> None:
        """Publish the open interest if it has changed."""
        if self.has_ended():
            return
        market, instrument = self.exchange.market, self._instrument
        minute_ms = due_ms // MINUTE_MS * MINUTE_MS
        if market.gauges.has_sample(instrument, minute_ms + MINUTE_MS):
            row = build_interest(market, instrument, due_ms)
            if row["oi"] != self._sent:
                self._sent = row["oi"]
                self.send(orjson.dumps(row))
        next_ms = find_interest_stamp_ms(market, instrument, minute_ms + MINUTE_MS)
        self.exchange.timeline.schedule(next_ms, lambda _now_ms: self._tick(next_ms))


class LiquidationFeed(Feed):
    """Publish liquidations of all swaps: several of a contract in one message, out of order, some messages twice."""

    def __init__(self, exchange: Exchange, topic: str, publish: Publish) -> None:
        """Start with the current minute."""
        super().__init__(exchange, topic, publish)
        self._scan(exchange.clock.now_ms())

    def _scan(self, now_ms: int) -> None:
        """Schedule the messages of the current minute, and the next scan."""
        if self.has_ended():
            return
        exchange, ts = self.exchange, now_ms // MINUTE_MS * MINUTE_MS
        for instrument in exchange.market.world.list_instruments(exchange.name):
            if instrument.kind != "dated":
                events = exchange.market.liquidations.list_in_minute(instrument, ts)
                for _, together in groupby(events, key=lambda event: event.ts // SECOND_MS):
                    self._schedule(instrument, list(together), now_ms)
        exchange.timeline.schedule(ts + MINUTE_MS, lambda _now_ms: self._scan(ts + MINUTE_MS))

    def _schedule(self, instrument: Instrument, events: list[Liquidation], now_ms: int) -> None:
        """Schedule one message; random numbers decide on a delay and on a repetition."""
        dice = draw_number(self.exchange.market.seed, "message", instrument.key, events[0].ts)
        due_ms = events[-1].ts + EARLIEST_EVENT_MS + dice % (LATEST_EVENT_MS - EARLIEST_EVENT_MS)
        if dice >> 16 & 0xFFFF < 0x10000 // LATE:
            due_ms += int(self.exchange.options.okx_late_liquidations_s * 1000)
        if due_ms <= now_ms:
            return
        has_sides = (dice >> 32) % UNSIDED != 0

        def send(_now_ms: int) -> None:
            now = self.exchange.market.world.find_instrument(self.exchange.name, instrument.name) or instrument
            if not self.has_ended():
                self.send(orjson.dumps(build_liquidation(now, events, has_sides=has_sides)))

        self.exchange.timeline.schedule(due_ms, send)
        if (dice >> 40) % REPEATED == 0:
            self.exchange.timeline.schedule(due_ms + SECOND_MS, send)


def build_liquidation(instrument: Instrument, events: list[Liquidation], *, has_sides: bool) -> dict[str, object]:
    """Build the element of one contract, newest detail first; side is that of the closing order."""
    family = f"{instrument.coin.name}-{instrument.quote}"
    details = [
        {
            "bkLoss": "0",
            "bkPx": to_fixed(event.limit_price, instrument.price_decimals),
            "ccy": "",
            "posSide": event.side if has_sides else "net",
            "side": "sell" if event.side == "long" else "buy",
            "sz": _contracts(instrument, event),
            "ts": str(event.ts),
        }
        for event in reversed(events)
    ]
    return {"details": details, "instFamily": family, "instId": instrument.name, "instType": "SWAP", "uly": family}


def _contracts(instrument: Instrument, event: Liquidation) -> str:
    """Return the size of an event in contracts as they were at its time."""
    shift = instrument.value_shift if event.ts >= instrument.value_changed_ms else 0
    decimals = instrument.lot_decimals + shift
    return to_fixed(event.size * 10 ** max(0, -decimals), max(0, decimals))
