"""Readers of single values: exact, and strict enough that a wrong payload never becomes a row."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache, lru_cache
from math import ceil

import msgspec

from fademoe.clock import EARLIEST_MS, LATEST_MS
from fademoe.errors import BadPayload
from fademoe.feeds.instrument import Json

MEANT_DIGITS, FLOAT_ERROR = 12, Decimal("2e-14")  # noise was seen from the 15th digit on: 5e-15 of the value
_EXACT = Context(prec=300, traps=[Inexact])  # no product or sum of what `read_amount` lets through has more digits
# Possessive repetitions never give back what they matched: no second look at a digit, and half of the time.
_DECIMAL = re.compile(r"-?(?:[0-9]{1,30}+(?:\.[0-9]{1,30}+)?+|\.[0-9]{1,30}+)")
_EXPONENTIAL = re.compile(rf"{_DECIMAL.pattern}[eE][+-]?[0-9]{{1,3}}")
_UNSIGNED = re.compile(r"[0-9]{1,30}+(?:\.[0-9]{1,30}+)?+")
_UNSIGNED_LIST = re.compile(rf"{_UNSIGNED.pattern}(?:,{_UNSIGNED.pattern})*+")
_INTEGER = re.compile(r"[0-9]{1,18}")
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_NOT_A_NUMBER = Decimal("NaN")  # stands for what no reader takes for a number
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_UNREADABLE_CHARACTER = "\0"  # no name, no number and no text that is shown has it
MAX_COUNT = 2**63  # of a BIGINT
MOST_DIGITS = 30  # of a number, before or behind the point
MAX_INTEGER_LENGTH = 100  # of a JSON integer, in characters
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decode(content: bytes) -> Json:
    """Decode an answer or a stream message; numbers with a fraction or an exponent become Decimals, digits kept.

    NaN, Infinity and numbers of an absurd size become a Decimal that is not a number, and what is no character, such as
    half a surrogate pair, a NUL: so they void their own element only. Raises ValueError for what is not JSON apart from
    that, such as nesting without end.
    """
    try:
        try:
            return _DECODER.decode(content)
        except (msgspec.DecodeError, InvalidOperation, UnicodeDecodeError):
            return _decode_odd(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _decode_odd(content: bytes) -> Json:
    """Decode what the fast decoder refuses, for a number or a character in it may be the only reason."""
    value = json.loads(
        content.decode("utf-8", "surrogateescape"),
        parse_float=_to_decimal,
        parse_int=lambda digits: int(digits) if len(digits) <= MAX_INTEGER_LENGTH else _NOT_A_NUMBER,
        parse_constant=lambda _: _NOT_A_NUMBER,
    )
    return _void_half_characters(value)


def _void_half_characters(value: Json) -> Json:
    """Put a NUL in the place of each half of a character, in all texts of a decoded value."""
    if isinstance(value, str):
        return _HALF_CHARACTER.sub(_UNREADABLE_CHARACTER, value)
    if isinstance(value, list):
        return [_void_half_characters(each) for each in value]
    if isinstance(value, dict):
        return {_void_half_characters(name): _void_half_characters(each) for name, each in value.items()}
    return value


def _to_decimal(digits: str) -> Decimal:
    try:
        return Decimal(digits)
    except InvalidOperation:  # an exponent of an absurd size
        return _NOT_A_NUMBER


def to_ms(value: Json) -> int:
    """Read a time in ms, an integer or its digits; seconds, microseconds and times outside 2010-2100 are bad."""
    value = int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else to_integer(value)
    if type(value) is not int or not EARLIEST_MS <= value < LATEST_MS:
        raise BadPayload(f"{value!r} is not a time in ms")
    return value


def seconds_to_ms(value: Json) -> int:
    """Read a time in seconds, a JSON number or a decimal string, as ms; what is finer than a ms is cut off."""
    try:
        return to_ms(int(Decimal(read_amount(value)).scaleb(3)))
    except BadPayload as error:
        raise BadPayload(f"{str(value)[:50]!r} is not a time in seconds") from error


def iso_to_ms(value: Json) -> int:
    """Read a time in ISO 8601 with its zone ("2026-01-01T00:00:00.000Z") as ms; what is finer than a ms is cut off."""
    try:
        moment = datetime.fromisoformat(read_text(value))
        return to_ms((moment - EPOCH) // timedelta(milliseconds=1))
    except (BadPayload, ValueError, TypeError) as error:  # a TypeError where there is no zone
        raise BadPayload(f"{str(value)[:50]!r} is not a time in ISO 8601 with a zone") from error


def to_integer(value: Json) -> Json:
    """Return a whole JSON number as an integer, however it was written (4409, 4409.0, 4.409e3); else `value`."""
    is_short = isinstance(value, Decimal) and value.is_finite() and value.adjusted() <= MOST_DIGITS
    return int(value) if is_short and value == value.to_integral_value() else value


def read_number(value: Json) -> str:
    """Read a decimal that may be negative, digits kept: a decimal string, or a JSON number.

    Returns it in plain notation ("5E-7" is "0.0000005"). NaN, blanks, floats, and numbers of more than 30 digits before
    or behind the point are bad.
    """
    if type(value) is str and _DECIMAL.fullmatch(value):
        return value
    text = _to_plain(value)
    if text is None or not _DECIMAL.fullmatch(text):
        raise BadPayload(f"{str(value)[:50]!r} is not a decimal")
    return text


def read_amount(value: Json) -> str:
    """Read a decimal that cannot be negative (see `read_number`)."""
    if type(value) is str and _UNSIGNED.fullmatch(value):
        return value
    text = _to_plain(value)
    if text is None or not _UNSIGNED.fullmatch(text):
        raise BadPayload(f"{str(value)[:50]!r} is not a non-negative decimal")
    return text


def read_optional_amount(value: Json) -> str | None:
    """Read a decimal that cannot be negative; None where it is blank or missing."""
    return None if value is None or value == "" else read_amount(value)


def read_amounts(values: Sequence[Json]) -> Sequence[str]:
    """Read decimals that cannot be negative (see `read_number`): all by one match, as every candle has seven."""
    try:
        if _match_list(len(values))(",".join(values)):
            return values
    except TypeError:  # not all of them are strings
        pass
    return [read_amount(value) for value in values]


def are_amounts(values: Sequence[Json], whole_digits: int | None = None) -> bool:
    """Return whether all values are decimal strings that cannot be negative, by one match; of numbers it is False.

    `whole_digits`: and all of them have so many digits before the point.
    """
    try:
        joined = ",".join(values)
    except TypeError:
        return False
    match = _UNSIGNED_LIST.fullmatch if whole_digits is None else _match_whole_digits(whole_digits)
    return not values or (bool(match(joined)) and joined.count(",") == len(values) - 1)


@lru_cache(maxsize=MOST_DIGITS)
def _match_whole_digits(count: int) -> Callable[[str], object]:
    """Return what matches a list of decimals with exactly `count` digits before the point."""
    decimal = rf"[0-9]{{{min(max(count, 1), MOST_DIGITS)}}}+(?:\.[0-9]{{1,{MOST_DIGITS}}}+)?+"
    return re.compile(f"{decimal}(?:,{decimal})*+").fullmatch


@cache
def _match_list(count: int) -> Callable[[str], object]:
    """Return what matches a list of exactly `count` decimals; one with a comma of its own makes the list too long."""
    return re.compile(rf"{_UNSIGNED.pattern}(?:,{_UNSIGNED.pattern}){{{max(0, count - 1)}}}").fullmatch


def _to_plain(value: Json) -> str | None:
    """Return a number in plain notation, digits kept; None for what is none, or of an absurd size."""
    if type(value) is str and _EXPONENTIAL.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() and abs(value.adjusted()) <= MOST_DIGITS else None
    return str(value) if type(value) is int else None


def write_out(text: str) -> str:
    """Return a number with an exponent in plain notation, digits kept; any other text as it is."""
    return _to_plain(text) or text


def read_price(value: Json) -> str:
    """Read a decimal string above zero, digits kept."""
    text = read_amount(value)
    if not text.strip("0."):
        raise BadPayload(f"{value!r} is not a price: it is zero")
    return text


def read_optional_price(value: Json) -> str | None:
    """Read a decimal above zero; None where it is blank, missing or zero, which stands for a blank."""
    text = read_optional_amount(value)
    return text if text and text.strip("0.") else None


def read_count(value: Json) -> int:
    """Read a non-negative whole JSON number that a BIGINT holds."""
    value = to_integer(value)
    if type(value) is not int or not 0 <= value < MAX_COUNT:
        raise BadPayload(f"{value!r} is not a count")
    return value


def read_text(value: Json) -> str:
    """Read a string that is not blank and has no control characters."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise BadPayload(f"{value!r} is not a text")
    return value


def read_records(value: Json) -> Sequence[Json]:
    """Read a list of rows."""
    if not isinstance(value, list):
        raise BadPayload(f"a list of rows was expected, not {type(value).__name__}")
    return value


def get_member(value: Json, name: str) -> Json:
    """Read one member of an object."""
    if not isinstance(value, dict) or name not in value:
        raise BadPayload(f"{name!r} is missing")
    return value[name]


def read_rows_of(value: Json, name: str) -> Sequence[Json]:
    """Read the member of an object that is a list of rows."""
    return read_records(get_member(value, name))


def get_element(value: Json, index: int) -> Json:
    """Read one element of an array."""
    if not isinstance(value, list) or index >= len(value):
        raise BadPayload(f"element {index} is missing")
    return value[index]


def read_retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read the header Retry-After in seconds, rounded up to a whole one; None when it is missing or no number."""
    value = headers.get("Retry-After", "").strip()
    return float(max(1, ceil(float(value)))) if _UNSIGNED.fullmatch(value) else None


def shift(value: str, power: int) -> str:
    """Multiply a decimal string by 10**power by moving its point; exact, digits kept."""
    if power == 0:
        return value
    sign, digits = ("-", value[1:]) if value[0] == "-" else ("", value)
    whole, _, fraction = digits.partition(".")
    if power < 0:
        whole = whole.zfill(1 - power)
        return f"{sign}{whole[:power].lstrip('0') or '0'}.{whole[power:]}{fraction}"
    if len(fraction) > power:
        return f"{sign}{(whole + fraction[:power]).lstrip('0') or '0'}.{fraction[power:]}"
    return f"{sign}{(whole + fraction.ljust(power, '0')).lstrip('0') or '0'}"


def multiply(*factors: str) -> str:
    """Multiply decimal strings exactly; the result is in plain notation."""
    result = Decimal(1)
    for factor in factors:
        result = _EXACT.multiply(result, Decimal(factor))
    return f"{result:f}"


def add(*terms: str) -> str:
    """Add decimal strings exactly; the result is in plain notation."""
    result = Decimal()
    for term in terms:
        result = _EXACT.add(result, Decimal(term))
    return f"{result:f}"


def remove_noise(value: str) -> str:
    """Round a decimal string to twelve significant digits where it is off them by the error of floats only.

    2752527.40000001374 is 2752527.4, 26631.0729999999861 is 26631.073; every other value is kept as it was sent.
    """
    exact = Decimal(value)
    if len(exact.as_tuple().digits) <= MEANT_DIGITS:
        return value
    near = Context(prec=MEANT_DIGITS).plus(exact)
    return f"{near.normalize():f}" if abs(near - exact) <= near.copy_abs() * FLOAT_ERROR else value
