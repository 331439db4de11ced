"""Numbers and times as people read them; registered as filters of the templates."""

import re
from collections.abc import Sequence
from decimal import Context, Decimal, InvalidOperation

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, now_ms, to_iso
from fademoe.expressions import print_number

FIGURE_SPACE, POINT_SPACE = "\u2007", "\u2008"  # as wide as a digit, as wide as a point

SHORT_DIGITS = 10
_NUMBER = re.compile(r"(-?)([0-9]+)(\.[0-9]+)?")
_UNITS = ((DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "min"), (SECOND_MS, "s"))


def format_duration(ms: float | None) -> str:
    """Write a length of time with its two largest units: `3 d 4 h`, `40 s`."""
    if ms is None:
        return "–"
    left = int(ms)
    parts: list[str] = []
    for unit_ms, name in _UNITS:
        count, left = divmod(left, unit_ms)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts)) or ("under 1 s" if ms else "0 s")


def format_age(ms: int | None) -> str:
    """Write how long ago a time was, or how far ahead it is."""
    if ms is None:
        return "never"
    distance = now_ms() - ms
    if abs(distance) < SECOND_MS:
        return "now"
    return f"{format_duration(distance)} ago" if distance > 0 else f"in {format_duration(-distance)}"


def format_time(ms: int | None) -> str:
    """Write a time in UTC: `2026-11-22 14:05:00`; a time outside the calendar in ms."""
    if ms is None:
        return "–"
    try:
        return to_iso(ms).replace("T", " ").rstrip("Z")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def group_digits(value: object) -> str:
    """Write a number with thin spaces between thousands of its whole part; digits are never changed."""
    match = _NUMBER.fullmatch(str(value))
    if value is None or not match:
        return "–" if value is None else str(value)
    whole = f"{int(match[2]):,}".replace(",", "\u2009")
    return f"{match[1]}{whole}{match[3] or ''}"


def align_decimals(values: Sequence[object]) -> list[str]:
    """Pad a column of numbers so that their decimal points are below each other when aligned right."""
    places = [len(str(value).partition(".")[2]) for value in values if value is not None]
    longest = max(places, default=0)
    texts = []
    for value in values:
        own = len(str(value).partition(".")[2]) if value is not None else longest
        pad = FIGURE_SPACE * (longest - own) + (POINT_SPACE if longest and not own else "")
        texts.append(group_digits(value) + (pad if value is not None else ""))
    return texts


def shorten_number(value: object) -> str:
    """Write a number with at most ten significant digits, rounded, thousands apart; the whole one belongs beside it."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    text = f"{number.normalize(Context(prec=SHORT_DIGITS)):f}"
    return group_digits(text)


def shorten_value(text: str | None) -> str:
    """Write the value of an expression, a number with six significant digits at most; show the whole one beside it."""
    if text is None:
        return "unknown"
    if text in ("true", "false"):
        return text
    number = Decimal(text)
    return print_number(number) if len(text) <= 10 else f"{number:.6g}"


def format_bytes(count: int | None) -> str:
    """Write a number of bytes: `5.4 GB`."""
    if count is None:
        return "–"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count_noun(count: int, singular: str, plural: str | None = None) -> str:
    """Write a count with its noun: `1 worker`, `3 workers`."""
    return f"{group_digits(count)} {singular if count == 1 else plural or singular + 's'}"


FILTERS = {
    "duration": format_duration,
    "ago": format_age,
    "moment": format_time,
    "grouped": group_digits,
    "short": shorten_number,
    "short_value": shorten_value,
    "size": format_bytes,
    "iso": to_iso,
    "many": count_noun,
}
