"""Liquidations (forced closes of positions) as single events."""

from typing import NamedTuple

from fademoe.simulator.clock import DAY_MS, MINUTE_MS
from fademoe.simulator.market.candles import Candles
from fademoe.simulator.market.holes import Holes
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.moves import Moves
from fademoe.simulator.market.noise import PPM, build_heavy_tail, draw_number, draw_words

_SIZES = build_heavy_tail(256, 8, 3)  # in 4096ths of a minute's usual turnover
_BURST = 12  # 1 minute of 12 with liquidations has several at once
_REACH_PPM = 4_000
_FORCED = 40  # in a minute in which one is forced by the other
_FORCED_SHARE = 4  # each of them is one part in so many of a minute's turnover


class Liquidation(NamedTuple):
    """A liquidation: `side` of the closed position, `size` in lots, both prices in price units."""

    ts: int
    side: str  # long or short
    price: int  # the closing order's average fill price
    limit_price: int  # the closing order's limit price: the bankruptcy price
    size: int


class Liquidations:
    """Random access to the liquidations of every contract."""

    def __init__(self, seed: int, candles: Candles, holes: Holes, moves: Moves) -> None:
        """Generate the liquidations of this seed; `candles` gives the prices."""
        self._seed = seed
        self._candles = candles
        self._holes = holes
        self._moves = moves

    def list_in_minute(self, instrument: Instrument, ts: int) -> list[Liquidation]:
        """Return all liquidations of the minute that opens at `ts`, in time order."""
        dice = draw_number(self._seed, "liquidations", instrument.key, ts)
        forced = self._moves.find_forced(instrument.coin, ts // MINUTE_MS)
        if dice % 1_000 >= _chance_permille(instrument) and not forced:
            return []
        day, ms = divmod(ts, DAY_MS)
        if not instrument.is_trading(ts) or ms // MINUTE_MS in self._holes.maintenance(instrument.exchange, day):
            return []
        if forced:
            words = draw_words(self._seed, "forced", instrument.key, ts, count=_FORCED, code="Q")
            return sorted(self._event(instrument, ts + (word >> 40) % MINUTE_MS, word, forced) for word in words)
        is_burst = dice >> 16 & 255 < 256 // _BURST
        count = 4 + (dice >> 24) % 7 if is_burst else 1 + (dice >> 24) % 2
        start_ms = ts + (dice >> 32) % 50_000 if is_burst else ts
        span_ms = 3_000 if is_burst else MINUTE_MS
        words = draw_words(self._seed, "liquidated", instrument.key, ts, count=count, code="Q")
        return sorted(self._event(instrument, start_ms + (word >> 40) % span_ms, word) for word in words)

    def list_largest_per_second(self, instrument: Instrument, ts: int) -> list[Liquidation]:
        """Return the largest liquidation of each second, as an exchange publishes that shows no other."""
        largest: dict[int, Liquidation] = {}
        for event in self.list_in_minute(instrument, ts):
            rival = largest.get(event.ts // 1_000)
            if rival is None or event.size * event.price > rival.size * rival.price:
                largest[event.ts // 1_000] = event
        return list(largest.values())

    def _event(self, instrument: Instrument, at_ms: int, word: int, forced: str | None = None) -> Liquidation:
        """Draw one event: a long is closed below the last price, a short above. `forced`: a large one of this side."""
        last = self._candles.read_price(instrument, at_ms)
        side = forced or ("long" if word & 1 else "short")
        away = max(1, last * ((word >> 1) % _REACH_PPM) // PPM // instrument.tick) * instrument.tick
        price, limit = (last - away // 3, last - away) if side == "long" else (last + away // 3, last + away)
        price = max(instrument.tick, price // instrument.tick * instrument.tick)
        turnover = instrument.usd_per_minute * 10**instrument.quote_decimals // max(1, last)
        share = turnover // _FORCED_SHARE if forced else turnover * _SIZES[word >> 14 & 255] >> 12
        size = 1 + (word >> 24) % 17 + share
        return Liquidation(at_ms, side, price, max(instrument.tick, limit), size)


def _chance_permille(instrument: Instrument) -> int:
    """Return in how many of 1000 minutes there is a liquidation."""
    turnover = instrument.usd_per_minute
    return 250 if turnover >= 1_000_000 else 90 if turnover >= 100_000 else 25
