"""Kinds of values that options take: symbols, perpspecs, times. An error names the option and the valid values."""

from collections.abc import Collection, Sequence

import click

from fademoe.clock import Window, parse_time
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.settings import check_symbol

EXAMPLE_TIMES = "ISO 8601 times, UTC unless they say otherwise, such as 2026-01-31 or 2026-01-31T12:00"
MAX_DAYS = 10_000
MAX_HOURS = 8_760  # of a silence: a year


class Time(click.ParamType[int]):
    """A time in ISO 8601; the value is in ms since the epoch, UTC."""

    name = "ISO 8601"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the time; fail with examples."""
        if isinstance(value, int):
            return value
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(f"{error}: valid are {EXAMPLE_TIMES}", param, ctx)


class Length(click.ParamType[float]):
    """A number of some unit of time, above 0."""

    def __init__(self, unit: str, most: int) -> None:
        """Name the unit, and the largest number."""
        self.name = unit
        self._most = most

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; fail with the valid range."""
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number <= self._most:
            self.fail(f"{value!r}: valid are numbers above 0 and up to {self._most}", param, ctx)
        return number


class Symbol(click.ParamType[str]):
    """A symbol; the value is in upper case."""

    name = "symbol"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the symbol; fail with examples."""
        try:
            return check_symbol(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Perpspec(click.ParamType[str]):
    """A perpspec that an exchange serves, or that is derived from such."""

    name = "perpspec"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the perpspec; fail with the valid ones."""
        try:
            if not registry.find_parts(value):
                registry.find_by_source(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        return value


TIME, SYMBOL, PERPSPEC = Time(), Symbol(), Perpspec()
DAYS, HOURS = Length("days", MAX_DAYS), Length("hours", MAX_HOURS)


def parse_names(option: str, text: str, every: Sequence[str], valid: Collection[str]) -> list[str]:
    """Return the names of a comma list, in lower case and each once; `all` stands for `every`.

    Raises ConfigError that names the option and the valid names.
    """
    if text.strip().lower() == "all":
        return list(every)
    names = list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in valid]
    if unknown or not names:
        raise ConfigError(f"{option} is {text!r}: valid are all, {', '.join(valid)}")
    return names


def make_window(since_ms: int, until_ms: int) -> Window:
    """Return the window of --since and --until; raise ConfigError when it is empty."""
    if since_ms >= until_ms:
        raise ConfigError("--until must lie after --since")
    return Window(since_ms, until_ms)
