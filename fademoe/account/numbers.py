"""The arithmetic of accounts: decimals of 34 digits, half to even."""

from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction

DIGITS = 34
PLACES = 18
EXACT = Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, traps=[DivisionByZero, InvalidOperation, Overflow])
ZERO = Decimal(0)
ONE = Decimal(1)

_UNIT = Decimal(1).scaleb(-PLACES)
_WIDE = Context(prec=200, rounding=ROUND_HALF_EVEN)  # room for every digit in front of the 18 places


def round_money(value: Decimal) -> Decimal:
    """Round a price, fee or amount half to even to 18 places."""
    return value.quantize(_UNIT, context=_WIDE).normalize(_WIDE)


def round_fraction(value: Fraction) -> Decimal:
    """Round an exact ratio half to even to 18 places."""
    return _WIDE.divide(Decimal(round(value * 10**PLACES)), Decimal(10**PLACES)).normalize(_WIDE)


def round_to_lot(quantity: Decimal, lot: Decimal) -> Decimal:
    """Round a quantity towards zero to a multiple of the lot; one far above any account stays as it is."""
    if quantity.adjusted() - lot.adjusted() >= _WIDE.prec:
        return quantity
    return _WIDE.multiply(_WIDE.divide_int(quantity, lot), lot)


def format_decimal(value: Decimal) -> str:
    """Write a decimal in plain notation: no exponent, no trailing zeros, never -0."""
    text = str(value)  # the same digits as format "f", in half its time, where it needs no exponent
    if "E" in text:
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
