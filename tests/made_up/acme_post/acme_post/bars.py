"""A bar of Acme Post, as the history and the channel send it."""

from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.rows import check_candle, check_name, coin_price, coins
from fademoe.feeds.values import count, exact, member, to_ms
from fademoe.metrics import Candle


def parse_bar(item: Json, instrument: Instrument) -> Candle:
    """Read a bar; it does not say whether it is closed, and has no quote volume.

    {"t": 1767225600000, "s": "kPEPE", "i": "1m", "o": 0.01170, "h": 0.01183, "l": 0.01170, "c": 0.01180,
     "v": 52600.5, "n": 42}
    """
    check_name(member(item, "s"), instrument)
    opened, high, low, close = (coin_price(exact(member(item, name)), instrument) for name in "ohlc")
    check_candle(opened, high, low, close)
    volume = coins(exact(member(item, "v")), instrument)
    return Candle(to_ms(member(item, "t")), opened, high, low, close, volume, None, count(member(item, "n")))
