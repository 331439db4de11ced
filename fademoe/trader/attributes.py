"""The attributes of a strategy as JSON text: they are part of an account's state, so a killed trader loses none."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from fademoe.errors import ConfigError

ALLOWED = "int, str, bool, float, Decimal, None, and lists, tuples, dicts and sets of them"


def write_attributes(attributes: Mapping[str, Any]) -> str:
    """Return attributes as text; raise ConfigError that names one which cannot be stored.

    A list, set or dict that is held in several places is one again when it is read.
    """
    writer = _Writer()
    return json.dumps({name: writer.write(name, attributes[name]) for name in sorted(attributes)})


def read_attributes(text: str) -> dict[str, Any]:
    """Return what `write_attributes` wrote, each value with its type."""
    reader = _Reader()
    return {name: reader.read(value) for name, value in json.loads(text).items()}


class _Writer:
    """Writes values; lists, sets and dicts are counted in the order in which they are met first."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # by id

    def write(self, name: str, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (int, str, bool):
            return value
        if kind is float:
            return {"float": value.hex()}
        if kind is Decimal:
            return {"decimal": str(value)}
        if kind is tuple:
            return {"tuple": [self.write(name, each) for each in value]}
        if kind not in (list, set, dict):
            raise ConfigError(f"attribute {name} of the strategy is {kind.__name__}: allowed are {ALLOWED}")
        if id(value) in self._numbers:
            return {"same": self._numbers[id(value)]}
        self._numbers[id(value)] = len(self._numbers)
        if kind is list:
            return [self.write(name, each) for each in value]
        if kind is set:
            return {"set": sorted((self.write(name, each) for each in value), key=json.dumps)}
        return {"dict": [[self.write(name, key), self.write(name, each)] for key, each in value.items()]}


class _Reader:
    """Reads what `_Writer` wrote, in the same order."""

    def __init__(self) -> None:
        self._met: list[Any] = []

    def read(self, value: Any) -> Any:
        if isinstance(value, list):
            items: list[Any] = []
            self._met.append(items)
            items.extend(self.read(each) for each in value)
            return items
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "float":
            return float.fromhex(content)
        if kind == "decimal":
            return Decimal(content)
        if kind == "tuple":
            return tuple(self.read(each) for each in content)
        if kind == "same":
            return self._met[content]
        if kind == "set":
            members: set[Any] = set()
            self._met.append(members)
            members.update(self.read(each) for each in content)
            return members
        pairs: dict[Any, Any] = {}
        self._met.append(pairs)
        for key, each in content:
            name = self.read(key)
            pairs[name] = self.read(each)
        return pairs
