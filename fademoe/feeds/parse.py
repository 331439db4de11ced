"""Readers of single values: exact, and strict enough that a wrong payload never becomes a row."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal, Inexact
from functools import cache
from itertools import groupby, pairwise
from math import ceil

import orjson

from fademoe.clock import EARLIEST_MS, HOUR_MS, LATEST_MS, MINUTE_MS, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds.spec import Instrument, Json, ParseItem
from fademoe.metrics import Candle, Liquidations, Row

LONGEST_FUNDING_HOURS = 8
PER_COIN = (-1, -1, -1, -1, 1, 0, 1)  # which way a multiplier shifts the values of a candle, as `candle` takes them
MEANT_DIGITS, FLOAT_ERROR = 12, Decimal("2e-14")  # noise was seen from the 15th digit on: 5e-15 of the value
_EXACT = Context(prec=300, traps=[Inexact])  # no product of what `amount` lets through has more digits

_DECIMAL = re.compile(r"-?(?:[0-9]{1,30}(?:\.[0-9]{1,30})?|\.[0-9]{1,30})")
_UNSIGNED = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?")
_UNSIGNED_LIST = re.compile(rf"{_UNSIGNED.pattern}(?:,{_UNSIGNED.pattern})*")
_INTEGER = re.compile(r"[0-9]{1,18}")
_MULTIPLIED = re.compile(r"(?P<factor>10{3,6})(?P<coin>[^\W\d]\w*)|1M(?P<millions>[A-Z]{3,})|(?P<behind>[A-Z]{3,})1000")


def decode(content: bytes) -> Json:
    """Decode an answer; numbers with a fraction or an exponent become Decimals with the digits that were sent.

    Raises ValueError for what is not JSON to the letter, such as NaN, half a character, or lists in lists without end.
    """
    orjson.loads(content)  # the strict one of the two; the other keeps digits
    try:
        return json.loads(content, parse_float=Decimal)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def to_ms(value: Json) -> int:
    """Read a time in ms, an integer or its digits; seconds, microseconds and times outside 2010-2100 are bad."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int or not EARLIEST_MS <= value < LATEST_MS:
        raise BadPayload(f"{value!r} is not a time in ms")
    return value


def number(value: Json) -> str:
    """Read a decimal string that may be negative, digits kept; NaN, exponents, floats and blanks are bad."""
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise BadPayload(f"{value!r} is not a decimal string")
    return value


def amount(value: Json) -> str:
    """Read a decimal string that cannot be negative, digits kept."""
    if not isinstance(value, str) or not _UNSIGNED.fullmatch(value):
        raise BadPayload(f"{value!r} is not a non-negative decimal string")
    return value


def amounts(values: Sequence[Json]) -> Sequence[str]:
    """Read decimal strings that cannot be negative, digits kept: all by one match, for every candle has seven."""
    try:
        joined = ",".join(values)
    except TypeError:
        joined = ""
    if _UNSIGNED_LIST.fullmatch(joined) and joined.count(",") < len(values):
        return values
    return [amount(value) for value in values]  # one of them raises


def price(value: Json) -> str:
    """Read a decimal string above zero, digits kept."""
    text = amount(value)
    if not text.strip("0."):
        raise BadPayload(f"{value!r} is not a price: it is zero")
    return text


def count(value: Json) -> int:
    """Read a non-negative JSON integer that a BIGINT holds."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise BadPayload(f"{value!r} is not a count")
    return value


def text(value: Json) -> str:
    """Read a string that is not blank and has no control characters."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise BadPayload(f"{value!r} is not a text")
    return value


def records(value: Json) -> Sequence[Json]:
    """Read a list of rows."""
    if not isinstance(value, list):
        raise BadPayload(f"a list of rows was expected, not {type(value).__name__}")
    return value


def member(value: Json, name: str) -> Json:
    """Read one member of an object."""
    if not isinstance(value, dict) or name not in value:
        raise BadPayload(f"{name!r} is missing")
    return value[name]


def rows_of(value: Json, name: str) -> Sequence[Json]:
    """Read the member of an object that is a list of rows."""
    return records(member(value, name))


def element(value: Json, index: int) -> Json:
    """Read one element of an array."""
    if not isinstance(value, list) or index >= len(value):
        raise BadPayload(f"element {index} is missing")
    return value[index]


def by_name(rows: Json, name: str) -> list[tuple[str, Json]]:
    """Sort rows by instrument: the exchange's name of it, which is the member `name`, with each row."""
    return [(text(member(item, name)), item) for item in records(rows)]


def every(parse: ParseItem) -> Callable[[Json, Instrument], list[Row]]:
    """Make of a parser of one item, None where it is no row, a parser of a list of them."""

    def parse_all(items: Json, instrument: Instrument) -> list[Row]:
        rows = [parse(item, instrument) for item in records(items)]
        return [row for row in rows if row is not None]

    return parse_all


def check_name(name: Json, instrument: Instrument) -> None:
    """Raise BadPayload unless a row or page is of the instrument that was asked for."""
    if name != instrument.name:
        raise BadPayload(f"{instrument.name} was asked for, not {name!r}")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read the header Retry-After in seconds, rounded up to a whole one; None when it is missing or no number."""
    value = headers.get("Retry-After", "").strip()
    return float(max(1, ceil(float(value)))) if _UNSIGNED.fullmatch(value) else None


def newest_of_each(rows: Json, time: str, value: str, step_ms: int) -> list[Json]:
    """Return of each interval of `step_ms` the row with the newest `time`; a bad `value` of any row spoils all.

    `rows` come newest first, so of equal times the first counts.
    """
    newest: dict[int, tuple[int, Json]] = {}
    for row in records(rows):
        ts = to_ms(member(row, time))
        number(member(row, value))
        if ts > newest.get(floor_to(ts, step_ms), (0, None))[0]:
            newest[floor_to(ts, step_ms)] = ts, row
    return [row for _, row in newest.values()]


def with_previous(rows: Json, name: str) -> list[Json]:
    """Add to each row the time of the row before it as "previous"; `name` is the member that holds a row's time.

    A row that is sent twice is one.
    """
    ordered = [row for row, _ in groupby(sorted(records(rows), key=lambda row: to_ms(member(row, name))))]
    return [{**row, "previous": to_ms(before[name])} for before, row in pairwise([*ordered[:1], *ordered])]


def hours_since(previous: Json, ts: int) -> int | None:
    """Return the funding interval that ended at `ts`: whole hours since the settlement before, None if unknown.

    No exchange sends it with a settlement, and it changes in a contract's life.
    """
    hours = round((ts - previous) / HOUR_MS)
    is_whole = abs(ts - previous - hours * HOUR_MS) < MINUTE_MS
    return hours if is_whole and 1 <= hours <= LONGEST_FUNDING_HOURS else None


def check_candle(o: str, h: str, l: str, c: str) -> None:  # noqa: E741 - the columns' names
    """Raise BadPayload unless low <= open, close <= high."""
    low, high = float(l), float(h)
    if not (low <= float(o) <= high and low <= float(c) <= high):
        raise BadPayload(f"candle o={o} h={h} l={l} c={c}: open and close must lie between low and high")


def coins(value: Json, instrument: Instrument) -> str:
    """Read an amount of the contract's quoted unit as coins: 1.5 of 1000PEPE are 1500 PEPE."""
    return shift(amount(value), power_of_ten(instrument.multiplier))


def coin_price(value: Json, instrument: Instrument) -> str:
    """Read a price of the contract's quoted unit as the price of one coin."""
    return shift(price(value), -power_of_ten(instrument.multiplier))


def candle(instrument: Instrument, ts: int, values: Sequence[Json]) -> Candle:
    """Make the row of a closed candle, per one coin, of values in the exchange's unit.

    They are open, high, low, close, volume and quote volume, and where these are sent trades and taker-buy volume.
    """
    numbers = amounts([*values[:6], *values[7:8]])
    power = power_of_ten(instrument.multiplier)
    if power:
        numbers = [shift(value, power * way) for value, way in zip(numbers, PER_COIN, strict=False)]
    opened, high, low, close, volume, quote, *taker = numbers
    check_candle(opened, high, low, close)
    if not low.strip("0."):
        raise BadPayload(f"{low!r} is not a price: it is zero")
    return Candle(ts, opened, high, low, close, volume, quote, count(values[6]) if taker else None, *taker)


def liquidation(ts: int, usd: str, *, of_long: bool) -> Liquidations:
    """Make the row of one liquidated position."""
    return Liquidations(ts, lql=usd if of_long else "0", lqs="0" if of_long else usd)


def shift(value: str, power: int) -> str:
    """Multiply a decimal string by 10**power by moving its point; exact, digits kept."""
    if power == 0:
        return value
    sign, digits = ("-", value[1:]) if value.startswith("-") else ("", value)
    whole, _, fraction = digits.partition(".")
    if power > 0:
        fraction = fraction.ljust(power, "0")
        whole, fraction = whole + fraction[:power], fraction[power:]
    else:
        whole = whole.rjust(1 - power, "0")
        whole, fraction = whole[:power], whole[power:] + fraction
    whole = whole.lstrip("0") or "0"
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


def product(*factors: str) -> str:
    """Multiply decimal strings exactly; the result is in plain notation."""
    result = Decimal(1)
    for factor in factors:
        result = _EXACT.multiply(result, Decimal(factor))
    return f"{result:f}"


def without_noise(value: str) -> str:
    """Round a decimal string to twelve significant digits where it is off them by the error of floats only.

    2752527.40000001374 is 2752527.4, 26631.0729999999861 is 26631.073; every other value is kept as it was sent.
    """
    exact = Decimal(value)
    if len(exact.as_tuple().digits) <= MEANT_DIGITS:
        return value
    near = Context(prec=MEANT_DIGITS).plus(exact)
    return f"{near.normalize():f}" if abs(near - exact) <= near.copy_abs() * FLOAT_ERROR else value


@cache
def power_of_ten(multiplier: int) -> int:
    """Return n for a multiplier of 10**n; raise ValueError for any other."""
    digits = str(multiplier)
    if multiplier < 1 or digits.strip("0") != "1":
        raise ValueError(f"multiplier {multiplier} is not a power of ten")
    return len(digits) - 1


def split_multiplier(base: str) -> tuple[str, int]:
    """Split an exchange's base asset into (coin, coins per quoted unit): 1000PEPE is 1000 PEPE, SHIB1000 1000 SHIB.

    Only 1000 to 1000000 in front of a letter, 1M in front of three, or 1000 behind three count: 1INCH, C98, API3 and
    LUNA2 are coins. No exchange states the multiplier; its own list of base assets is the only source.
    """
    match = _MULTIPLIED.fullmatch(base)
    if not match:
        return base, 1
    if match["behind"]:
        return match["behind"], 1000
    if match["millions"]:
        return match["millions"], 1_000_000
    return match["coin"], int(match["factor"])
