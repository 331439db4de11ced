"""The attributes of a strategy as JSON text: they are part of an account's state, so a killed trader loses none."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from fademoe.errors import ConfigError

ALLOWED = "int, str, bool, float, Decimal, None, and lists, tuples, dicts and sets of them"


def write_attributes(attributes: Mapping[str, Any]) -> str:
    """Return attributes as text; raise ConfigError that names one which cannot be stored."""
    return json.dumps({name: _write(name, value) for name, value in attributes.items()}, sort_keys=True)


def read_attributes(text: str) -> dict[str, Any]:
    """Return what `write_attributes` wrote, each value with its type."""
    return {name: _read(value) for name, value in json.loads(text).items()}


def _write(name: str, value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (int, str, bool):
        return value
    if kind is float:
        return {"float": value.hex()}
    if kind is Decimal:
        return {"decimal": str(value)}
    if kind is list:
        return [_write(name, each) for each in value]
    if kind is tuple:
        return {"tuple": [_write(name, each) for each in value]}
    if kind is set:
        return {"set": sorted((_write(name, each) for each in value), key=json.dumps)}
    if kind is dict:
        return {"dict": [[_write(name, key), _write(name, each)] for key, each in value.items()]}
    raise ConfigError(f"attribute {name} of the strategy is {kind.__name__}: allowed are {ALLOWED}")


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(each) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "float":
        return float.fromhex(content)
    if kind == "decimal":
        return Decimal(content)
    if kind == "tuple":
        return tuple(_read(each) for each in content)
    if kind == "set":
        return {_read(each) for each in content}
    return {_read(key): _read(each) for key, each in content}
