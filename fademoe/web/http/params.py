"""Parameters of a request: each is declared once, with its description, its JSON schema and how it is parsed."""

import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from fademoe.clock import parse_time
from fademoe.web.problem import BadParameter, Problem

MAX_CHARACTERS = 4_000  # of one parameter
TIME_FORMS = "ISO 8601 or an epoch in s or ms, from 2010 to 2100"
NEXT_FORM = "the value of `next` of the previous page, with the same order"
Json = dict[str, Any]
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_INTEGER = re.compile(r"[0-9]{1,9}")
_HALF = re.compile("[\ud800-\udfff]")  # of a character, as JSON can name one: no text that can be stored or sent


class Parameter(ABC, Generic[T_co]):
    """One parameter of a path, a query or a body; a request without it gets `default`."""

    is_list = False  # may be given more than once, which means the same as one comma list

    def __init__(
        self, name: str, description: str, default: T_co, *, example: str = "", is_required: bool = False
    ) -> None:
        self.schema: Json = {"type": "string"}
        self.name = name
        self.description = description
        self.default = default
        self.example = example
        self.is_required = is_required

    @abstractmethod
    def parse(self, text: str) -> T_co:
        """Return the value of a text; raise the 400 that names the parameter when it is not allowed."""


class Text(Parameter[str]):
    """Any text; a blank one counts as missing."""

    def __init__(
        self, name: str, description: str, default: str = "", *, example: str = "", is_required: bool = False
    ) -> None:
        super().__init__(name, description, default, example=example, is_required=is_required)

    def parse(self, text: str) -> str:
        """Return the text as it is."""
        return text or self.default


class Choice(Parameter[str]):
    """One of a few texts."""

    def __init__(
        self, name: str, description: str, allowed: Sequence[str], default: str = "", *, is_required: bool = False
    ) -> None:
        super().__init__(name, description, default, is_required=is_required)
        self.allowed = list(allowed)
        self.schema = {"type": "string", "enum": self.allowed}

    def parse(self, text: str) -> str:
        """Return the text when it is allowed."""
        if text not in self.allowed:
            raise BadParameter(self.name, text, self.allowed)
        return text


class OptionalChoice(Choice):
    """One of a few texts, or none; a blank one counts as missing."""

    def parse(self, text: str) -> str:
        """Return the text when it is allowed."""
        return super().parse(text) if text else self.default


class Integer(Parameter[int]):
    """A whole number within bounds."""

    def __init__(self, name: str, description: str, default: int, *, minimum: int, maximum: int) -> None:
        super().__init__(name, description, default)
        self.minimum, self.maximum = minimum, maximum
        self.schema = {"type": "integer", "minimum": minimum, "maximum": maximum}

    def parse(self, text: str) -> int:
        """Return the number."""
        if not _INTEGER.fullmatch(text) or not self.minimum <= int(text) <= self.maximum:
            raise BadParameter(self.name, text, f"{self.minimum} to {self.maximum}")
        return int(text)


class Time(Parameter[int | None]):
    """A time, as ISO 8601 or as an epoch in s or ms; its value is in ms. A blank one counts as missing."""

    def __init__(self, name: str, description: str, *, example: str = "") -> None:
        super().__init__(name, description, None, example=example)
        self.schema = {"type": "string", "pattern": r"^(|20[0-9]{2}-[0-9]{2}-[0-9]{2}.*|[0-9]{10}|[0-9]{13})$"}

    def parse(self, text: str) -> int | None:
        """Return the time in ms."""
        if not text:
            return None
        try:
            return parse_time(text)
        except (ValueError, OverflowError):
            raise BadParameter(self.name, text, TIME_FORMS) from None


class Names(Parameter[tuple[str, ...]]):
    """A comma list of names, each once, in the order given."""

    is_list = True

    def __init__(self, name: str, description: str, *, example: str = "", is_required: bool = False) -> None:
        super().__init__(name, description, (), example=example, is_required=is_required)

    def parse(self, text: str) -> tuple[str, ...]:
        """Return the names."""
        return tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))


FROM = Time("from", "the first time, included", example="2026-01-31T00:00Z")
TO = Time("to", "the end, not included", example="2026-02-01T00:00Z")
CURSOR = Text("cursor", "`next` of the previous page")


class Params:
    """The parameters of one request; one that is not declared, or is given twice, is refused."""

    def __init__(
        self,
        given: Mapping[str, Sequence[str]],
        declared: Collection[Parameter[Any]],
        path: Mapping[str, str] | None = None,
    ) -> None:
        """Parse every declared parameter of `given` (texts by name) and of the `path`."""
        names = [parameter.name for parameter in declared if parameter.name not in (path or {})]
        for name in given:
            if name not in names:
                allowed = ", ".join(names) or "none"
                raise Problem(400, f"unknown parameter {name[:100]!r}; allowed: {allowed}", allowed=names)
        self._texts: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        for parameter in declared:
            in_path = (path or {}).get(parameter.name)
            text = _join(parameter, [in_path] if in_path else given.get(parameter.name, ()))
            if text is not None:
                self._texts[parameter.name] = text
            elif parameter.is_required:
                raise Problem(400, f"{parameter.name} is required: {parameter.description}", parameter=parameter.name)
            self._values[parameter.name] = parameter.default if text is None else parameter.parse(text)

    def __getitem__(self, parameter: Parameter[T]) -> T:
        """Return the value of a declared parameter."""
        value: T = self._values[parameter.name]
        return value

    def __contains__(self, parameter: Parameter[Any]) -> bool:
        """Return whether the request gives a declared parameter, and not blank."""
        return bool(self._texts.get(parameter.name))

    def declares(self, parameter: Parameter[Any]) -> bool:
        """Return whether the route has a parameter."""
        return parameter.name in self._values

    def get_text_of(self, name: str) -> str:
        """Return the parameter of a name as it was given, empty when it was not."""
        return self._texts.get(name, "")

    def get_text(self, parameter: Parameter[Any]) -> str:
        """Return a parameter as it was given, empty when it was not."""
        return self._texts.get(parameter.name, "")

    def set_default(self, parameter: Parameter[T], value: T) -> None:
        """Give a parameter that the request leaves blank a value that only the data tell."""
        if parameter not in self:
            self._values[parameter.name] = value

    def refuse(self, parameter: Parameter[Any], allowed: object) -> Problem:
        """Return the 400 of a parameter whose value is not allowed, for a reason that only the data tell."""
        return BadParameter(parameter.name, self.get_text(parameter), allowed)

    def get(self, parameter: Parameter[T | None], default: T) -> T:
        """Return the value of a declared parameter, `default` when the request has none."""
        value: T | None = self._values[parameter.name]
        return default if value is None else value

    def read_span(self) -> tuple[int | None, int | None]:
        """Return FROM and TO in ms, None where not given; refuse an end before its start."""
        start_ms, end_ms = self[FROM], self[TO]
        if start_ms is not None and end_ms is not None and start_ms > end_ms:
            raise self.refuse(TO, f"a time not before from={self.get_text(FROM)}")
        return start_ms, end_ms

    def read_cursor(self, kind: str, parts: int) -> tuple[str, ...] | None:
        """Return the parts of a CURSOR of this kind, None for the first page."""
        value = self[CURSOR]
        if not value:
            return None
        try:
            text = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("utf-8")
        except ValueError:
            text = ""
        fields = tuple(text.split("\n"))
        if len(fields) != parts + 1 or fields[0] != kind or "\0" in text or write_cursor(*fields) != value:
            raise self.refuse(CURSOR, NEXT_FORM)
        return fields[1:]

    def check_names(self, parameter: Names, allowed: Iterable[str]) -> tuple[str, ...]:
        """Return the names of a list; refuse one that is not in `allowed`, which only the data tell."""
        names = list(allowed)
        for name in self[parameter]:
            if name not in names:
                raise BadParameter(parameter.name, name, names)
        return self[parameter]


def write_cursor(*parts: str) -> str:
    """Return the opaque token of a kind and further parts."""
    return base64.urlsafe_b64encode("\n".join(parts).encode("utf-8")).decode("ascii").rstrip("=")


def _join(parameter: Parameter[Any], texts: Sequence[str]) -> str | None:
    """Return the one text of a parameter, None when it is not given."""
    if not texts:
        return None
    if len(texts) > 1 and not parameter.is_list:
        raise Problem(400, f"{parameter.name} is given more than once", parameter=parameter.name)
    text = ",".join(texts).strip()
    if "\0" in text or _HALF.search(text) or len(text) > MAX_CHARACTERS:
        raise BadParameter(parameter.name, text, f"at most {MAX_CHARACTERS} whole characters, without NUL")
    return text
