"""Bybit's tickers: all current values of a contract, over REST, and as a snapshot with sparse deltas on the stream."""

import datetime

import orjson

from fademoe.simulator.bybit.feeds import SECOND_MS, OnUnused
from fademoe.simulator.bybit.rows import VALUE_DECIMALS, sum_both_sides, sum_interest_values
from fademoe.simulator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.simulator.decimals import to_fixed, to_trimmed
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.market.funding import RATE_DECIMALS
from fademoe.simulator.market.gauges import PREMIUM_DECIMALS
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.noise import draw_number

PREMIUM_UNIT = 10 ** PREMIUM_DECIMALS["bybit"]
PERIODS_MS = ((1_000_000, 200), (300_000, 500), (60_000, 1_000), (0, 3_000))  # least USD per minute, ms between deltas
# Each delta has one group of the fast values. The slow ones change at full minutes: values first, amounts second.
FAST = (
    ("lastPrice", "tickDirection"),
    ("bid1Price", "bid1Size"),
    ("markPrice", "indexPrice"),
    ("ask1Price", "ask1Size"),
)
SLOW = (("openInterestValue", "singleOpenInterestValue"), ("openInterest", "singleOpenInterest"))
FUNDING = ("fundingRate", "nextFundingTime")


def read_slow_values(exchange: Exchange, instrument: Instrument, now_ms: int) -> dict[str, str]:
    """Return open interest and funding, which change at full minutes only; dated contracts have no funding."""
    market, lots = exchange.market, instrument.lot_decimals
    both_value, one_value = sum_interest_values(market, instrument, now_ms)
    is_funded = instrument.kind != "dated"
    rate = to_trimmed(market.funding.estimate(instrument, now_ms), RATE_DECIMALS) if is_funded else ""
    values = {
        "openInterest": to_trimmed(sum_both_sides(market, instrument, now_ms), lots),
        "openInterestValue": to_fixed(both_value, VALUE_DECIMALS),
        "singleOpenInterest": to_trimmed(market.gauges.read_open_interest(instrument, now_ms), lots),
        "singleOpenInterestValue": to_fixed(one_value, VALUE_DECIMALS),
        "fundingRate": rate,
        "nextFundingTime": str(market.funding.find_next_ms(instrument, now_ms)),
    }
    if exchange.options.bybit_no_single_side:
        values = {name: value for name, value in values.items() if not name.startswith("single")}
    return values


def read_fast_values(exchange: Exchange, instrument: Instrument, premium: int, now_ms: int) -> dict[str, str]:
    """Return prices and best orders; `premium` is the distance of the index from the mark price."""
    places, tick = instrument.price_decimals, instrument.tick
    price = exchange.market.candles.read_price(instrument, now_ms)
    noise = draw_number(exchange.market.seed, "best", instrument.key, now_ms)
    return {
        "tickDirection": ("PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick")[noise & 3],
        "lastPrice": to_fixed(price, places),
        "markPrice": to_fixed(price, places),
        "indexPrice": to_fixed(price - price * premium // PREMIUM_UNIT, places),
        "bid1Price": to_fixed(max(tick, price - tick), places),
        "bid1Size": to_fixed(1 + noise % 90_000, instrument.lot_decimals),
        "ask1Price": to_fixed(price, places),
        "ask1Size": to_fixed(1 + (noise >> 20) % 90_000, instrument.lot_decimals),
    }


def read_premium(exchange: Exchange, instrument: Instrument, now_ms: int) -> int:
    """Return the premium index of the current minute."""
    bar = exchange.market.gauges.read_premium(instrument, now_ms // MINUTE_MS * MINUTE_MS)
    return bar.close if bar else 0


def read_day_values(exchange: Exchange, instrument: Instrument, now_ms: int) -> dict[str, str]:
    """Return the values of the last day and hour; they are rough, as no collector stores them."""
    places, candles = instrument.price_decimals, exchange.market.candles
    hour, day = (candles.estimate_price(instrument, now_ms - ago_ms) for ago_ms in (HOUR_MS, DAY_MS))
    now = candles.estimate_price(instrument, now_ms)
    turnover = instrument.usd_per_minute * DAY_MS // MINUTE_MS
    return {
        "price24hPcnt": to_fixed((now - day) * 1_000_000 // max(1, day), 6),
        "prevPrice24h": to_fixed(day, places),
        "highPrice24h": to_fixed(max(now, day, hour) * 102 // 100, places),
        "lowPrice24h": to_fixed(min(now, day, hour) * 98 // 100, places),
        "prevPrice1h": to_fixed(hour, places),
        "turnover24h": to_fixed(turnover * 10_000, 4),
        "volume24h": to_fixed(turnover * 10_000 * 10**places // max(1, now), 4),
    }


def encode_ticker(exchange: Exchange, instrument: Instrument, now_ms: int) -> bytes:
    """Encode a row of /v5/market/tickers; values that do not apply are ""."""
    hours = exchange.market.funding.find_hours(instrument, now_ms)
    find_delivery_ms = instrument.delisted_ms if instrument.kind == "dated" else 0
    row = {"symbol": instrument.name}
    row |= read_fast_values(exchange, instrument, read_premium(exchange, instrument, now_ms), now_ms)
    row |= read_day_values(exchange, instrument, now_ms) | read_slow_values(exchange, instrument, now_ms)
    row |= {"predictedDeliveryPrice": "", "basisRate": "", "basis": "", "deliveryFeeRate": "", "preOpenPrice": ""}
    row |= {"deliveryTime": str(find_delivery_ms), "curPreListingPhase": "", "preQty": ""}
    row |= {"fundingIntervalHour": "" if find_delivery_ms else str(hours), "fundingCap": "0.00375", "basisRateYear": ""}
    del row["tickDirection"]
    return orjson.dumps(row)


class TickerFeed:
    """Publish the ticker of one contract: a snapshot for each new subscriber, deltas for all."""

    def __init__(self, exchange: Exchange, topic: str, name: str, on_unused: OnUnused) -> None:
        """Schedule the first delta for after the new subscriber's snapshot."""
        self._on_unused = on_unused
        self._exchange = exchange
        self._topic = topic
        self._name = name
        self._sent: dict[str, str] = {}
        self._minute = 0
        self._ticks = 0  # deltas sent in this minute
        self._slow: dict[str, str] = {}
        self._premium = 0
        turnover = self._instrument.usd_per_minute
        self._period_ms = next(period_ms for least, period_ms in PERIODS_MS if turnover >= least)
        # never at the full minute, when the slow values change
        self._phase_ms = 1 + draw_number(exchange.market.seed, "ticker", self._instrument.key) % (self._period_ms - 1)
        exchange.timeline.schedule(exchange.clock.now_ms() + SECOND_MS // 10, self.tick)

    @property
    def _instrument(self) -> Instrument:
        """The contract as it is listed now."""
        instrument = self._exchange.market.world.find_instrument("bybit", self._name)
        assert instrument is not None, "a topic is started for listed contracts only"
        return instrument

    def encode_snapshot(self, now_ms: int) -> bytes:
        """Encode all values; only dated contracts have a delivery time here, as a text."""
        instrument = self._instrument
        self._refresh(instrument, now_ms)
        data = {"symbol": instrument.name} | read_day_values(self._exchange, instrument, now_ms)
        data |= read_fast_values(self._exchange, instrument, self._premium, now_ms) | self._slow
        if instrument.kind == "dated" and instrument.delisted_ms:
            end = datetime.datetime.fromtimestamp(instrument.delisted_ms / 1000, datetime.UTC)
            data["deliveryTime"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._frame("snapshot", data, now_ms)

    def tick(self, now_ms: int) -> None:
        """Publish the next delta and schedule the one after it."""
        exchange = self._exchange
        if not exchange.hub.has_listeners(self._topic):
            self._on_unused(self._topic)
            return
        instrument = self._instrument
        if instrument.is_trading(now_ms):
            exchange.hub.publish(self._topic, self._delta(instrument, now_ms))
        step = (now_ms - self._phase_ms) // self._period_ms + 1
        exchange.timeline.schedule(step * self._period_ms + self._phase_ms, self.tick)

    def _delta(self, instrument: Instrument, now_ms: int) -> bytes:
        """Encode the next delta: one group of fast values, and slow values in the first two deltas of a minute."""
        self._refresh(instrument, now_ms)
        current = read_fast_values(self._exchange, instrument, self._premium, now_ms) | self._slow
        names: tuple[str, ...] = FAST[self._ticks % len(FAST)]
        names += (SLOW[self._ticks] if self._ticks < len(SLOW) else ()) + (FUNDING if self._ticks == 0 else ())
        self._ticks += 1
        changed = {name: current[name] for name in names if name in current and self._sent.get(name) != current[name]}
        self._sent |= changed
        return self._frame("delta", {"symbol": instrument.name} | changed, now_ms)

    def _refresh(self, instrument: Instrument, now_ms: int) -> None:
        """Compute the values of a new minute."""
        if self._minute != now_ms // MINUTE_MS:
            self._minute = now_ms // MINUTE_MS
            self._ticks = 0
            self._slow = read_slow_values(self._exchange, instrument, now_ms)
            self._premium = read_premium(self._exchange, instrument, now_ms)

    def _frame(self, kind: str, data: dict[str, str], now_ms: int) -> bytes:
        """Encode a message; `cs` is a sequence number over all contracts."""
        return orjson.dumps({"topic": self._topic, "type": kind, "data": data, "cs": now_ms * 9, "ts": now_ms})
