"""Faults that damage an answer: what a client must notice and refuse to store."""

import re
from collections.abc import Callable
from typing import Any

import orjson

FIRST_MS_OF_2001 = 978_307_200_000
_MULTIPLIED = re.compile(r"10{3,}(?=[A-Z])")
NOT_VALUES = ("symbol", "instId", "instType", "category")


def damage_body(kind: str, body: bytes, find_rows: Callable[[object], list[Any]], volume_index: int) -> bytes:
    """Return the body with a fault of `faults.AFTER_ANSWER` in it; rows are damaged in the middle of the page.

    `empty_list` takes all rows away. `rows_in` finds the rows in the decoded body, `volume_index` is the volume's
    place in a candle that is an array.
    """
    if kind == "truncated":
        return body[: max(1, len(body) * 2 // 3)]
    decoded = orjson.loads(body)
    rows = find_rows(decoded)
    if kind == "empty_list":
        rows.clear()
    elif rows:
        middle = len(rows) // 2
        if kind == "seconds":
            rows[:] = [_in_seconds(row) for row in rows]
        else:
            _DAMAGES[kind](rows[middle], volume_index)
    return orjson.dumps(decoded)


def damage_list(kind: str, body: bytes) -> bytes:
    """Return a list of contracts with a fault of `faults.LISTS` in it.

    `half_list`: its second half is missing. `sibling`: each contract that counts in thousands has another one beside
    it, on another coin, whose name is the same without the number; the copy is otherwise equal. `odd_contract`: of the
    first one every text but the names is null.
    """
    decoded = orjson.loads(body)
    contracts = _longest_list(decoded)
    if kind == "half_list":
        del contracts[len(contracts) // 2 :]
    elif kind == "odd_contract":
        names = ("symbol", "instId")
        contracts[0] |= {name: None for name, value in contracts[0].items() if type(value) is str and name not in names}
    else:
        contracts += [_sibling(contract) for contract in contracts if _is_multiplied(contract)]
    return orjson.dumps(decoded)


def _longest_list(value: Any) -> list[Any]:
    """Return the longest list inside a decoded answer."""
    members = value.values() if isinstance(value, dict) else ()
    lists = [value] if isinstance(value, list) else [_longest_list(member) for member in members]
    return max(lists, key=len, default=[])


def _is_multiplied(contract: dict[str, Any]) -> bool:
    """Tell whether a contract counts in thousands of its coin."""
    return any(isinstance(value, str) and _MULTIPLIED.match(value) for value in contract.values())


def _sibling(contract: dict[str, Any]) -> dict[str, Any]:
    """Return the contract with the multiplier taken from its names."""
    return {
        name: _MULTIPLIED.sub("", value, count=1) if isinstance(value, str) else value
        for name, value in contract.items()
    }


def _not_a_number(row: Any, _volume_index: int) -> None:
    """Put NaN in the place of the first value after the time."""
    row[_value_place(row)] = "NaN"


def _negative_volume(row: Any, volume_index: int) -> None:
    """Turn the volume, or the only value of a row without one, negative."""
    place = volume_index if isinstance(row, list) and len(row) > volume_index else _value_place(row)
    row[place] = f"-{str(row[place]).lstrip('-')}" if isinstance(row[place], str) else -abs(row[place]) - 1


def _missing_field(row: Any, _volume_index: int) -> None:
    """Leave out the last value and all after it, or one member."""
    if isinstance(row, list):
        del row[len(row) // 2 :]
    else:
        del row[_value_place(row)]


def _value_place(row: Any) -> Any:
    """Return the index or the name of a row's first value that is neither a time nor a name."""
    if isinstance(row, list):
        return 1
    return next(name for name, value in row.items() if name not in NOT_VALUES and not _is_time(value))


def _in_seconds(row: Any) -> Any:
    """Return a row with its times in seconds."""
    if isinstance(row, list):
        return [_to_seconds(value) for value in row]
    if isinstance(row, dict):
        return {name: _to_seconds(value) for name, value in row.items()}
    return row


def _to_seconds(value: Any) -> Any:
    """Return a time in seconds, anything else as it is."""
    if not _is_time(value):
        return value
    return str(int(value) // 1000) if isinstance(value, str) else value // 1000


def _is_time(value: Any) -> bool:
    """Tell whether a value is a time in milliseconds: thirteen digits, as number or text."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return len(text) == 13 and text.isdecimal() and int(text) > FIRST_MS_OF_2001


_DAMAGES: dict[str, Callable[[Any, int], None]] = {
    "nan": _not_a_number,
    "negative_volume": _negative_volume,
    "missing_field": _missing_field,
}
