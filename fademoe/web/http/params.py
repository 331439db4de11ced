"""Parameters of a request: read once, checked, each fault a 400 that names the parameter and what is valid."""

import base64
import re
from collections.abc import Collection

from werkzeug.datastructures import MultiDict

from fademoe.clock import EARLIEST_MS, LATEST_MS, parse_time
from fademoe.errors import ConfigError
from fademoe.settings import check_symbol
from fademoe.web.problem import Problem, bad_parameter

SYMBOLS_MOST = 500
TEXT_MOST = 4_000  # characters of one parameter
TIME_WORDS = "ISO 8601 or an epoch in s or ms, from 2010 to 2100"
LISTS = ("symbol", "columns", "exchanges")  # may be given more than once; the same as one comma list

_INTEGER = re.compile(r"[0-9]{1,9}")


class Params:
    """The query of one request; a parameter that is not in `known`, or is given twice, is refused at once."""

    def __init__(self, query: MultiDict[str, str], known: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        for name in query:
            if name not in known:
                words = ", ".join(known) or "none"
                raise Problem(400, f"{name[:100]!r} is no parameter here: valid is {words}", allowed=list(known))
            given = query.getlist(name)
            if len(given) > 1 and name not in LISTS:
                raise Problem(400, f"{name} is given more than once", parameter=name)
            value = ",".join(given).strip()
            if "\0" in value or len(value) > TEXT_MOST:
                raise bad_parameter(name, value, f"at most {TEXT_MOST} characters, without NUL")
            self._values[name] = value

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter as it is, `default` when it is missing or blank."""
        return self._values.get(name) or default

    def choice(self, name: str, allowed: Collection[str], default: str) -> str:
        """Return one of `allowed`, `default` when the parameter is missing."""
        value = self._values.get(name)
        if value is None:
            return default
        if value not in allowed:
            raise bad_parameter(name, value, list(allowed))
        return value

    def choices(self, name: str, allowed: Collection[str]) -> tuple[str, ...]:
        """Return a comma list of members of `allowed`, empty when not given."""
        chosen = tuple(dict.fromkeys(filter(None, (part.strip() for part in self.text(name).split(",")))))
        for part in chosen:
            if part not in allowed:
                raise bad_parameter(name, part, list(allowed))
        return chosen

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        """Return a whole number within bounds, `default` when the parameter is missing."""
        value = self._values.get(name)
        if value is None:
            return default
        if not _INTEGER.fullmatch(value) or not lowest <= int(value) <= highest:
            raise bad_parameter(name, value, f"{lowest} to {highest}")
        return int(value)

    def time(self, name: str, default: int) -> int:
        """Return a time in ms."""
        value = self.text(name)
        return read_time(name, value) if value else default

    def span(self, default_from: int = EARLIEST_MS, default_to: int = LATEST_MS) -> tuple[int, int]:
        """Return [from, to) in ms; an end before its begin is refused."""
        start_ms, end_ms = self.time("from", default_from), self.time("to", default_to)
        if self.text("from") and self.text("to") and start_ms > end_ms:
            raise bad_parameter("to", self.text("to"), f"a time not before from={self.text('from')}")
        return start_ms, end_ms

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of `symbol`, one or a comma list, sorted; empty means all."""
        parts = {part.strip() for part in self.text("symbol").split(",") if part.strip()}
        if len(parts) > SYMBOLS_MOST:
            raise bad_parameter("symbol", f"{len(parts)} symbols", f"at most {SYMBOLS_MOST} symbols")
        try:
            return tuple(sorted({check_symbol(part) for part in parts}))
        except ConfigError:
            given = self.text("symbol")
            raise bad_parameter("symbol", given, "a coin such as BTC, or a comma list of them") from None

    def cursor(self, kind: str, parts: int) -> tuple[str, ...] | None:
        """Return what a cursor of this kind holds, None for the first page; the token is opaque to its user."""
        value = self.text("cursor")
        if not value:
            return None
        try:
            text = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("utf-8")
        except ValueError:
            text = ""
        found = tuple(text.split("\n"))
        if len(found) != parts + 1 or found[0] != kind or "\0" in text or write_cursor(*found) != value:
            raise bad_parameter("cursor", value, "the value of `next` of the page before, with the same order")
        return found[1:]


def read_time(name: str, value: str) -> int:
    """Return a time in ms; anything else is the 400 of the parameter `name`."""
    try:
        return parse_time(value)
    except (ValueError, OverflowError):
        raise bad_parameter(name, value, TIME_WORDS) from None


def write_cursor(*parts: str) -> str:
    """Return the token that holds a kind and further parts."""
    return base64.urlsafe_b64encode("\n".join(parts).encode("utf-8")).decode("ascii").rstrip("=")
