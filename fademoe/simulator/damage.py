"""Faults that change an answer: a client must notice them and store nothing wrong."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson

from fademoe.clock import DAY_MS, HOUR_MS
from fademoe.simulator.faults import LISTS, ROWS

FIRST_MS_OF_2001 = 978_307_200_000
_MULTIPLIED = re.compile(r"10{3,}(?=[A-Z])")
NAMES = ("symbol", "instId")
NOT_VALUES = (*NAMES, "instType", "category", "t")
TYPES = ("contractType", "instCategory", "symbolType", "margined")  # members that say what kind of contract it is
UNKNOWN_TYPE = "HYBRID"
OPEN, LOW = 1, 3  # indexes in a candle that is an array


def damage_body(kind: str, body: bytes, find_rows: Callable[[object], list[Any]], volume_index: int) -> bytes:
    """Return the body of an answer with a fault of `faults.AFTER_ANSWER` other than error_200.

    `find_rows` returns the list of rows inside the decoded body, `volume_index` is the index of the volume in a candle
    that is an array. A body without rows stays as it is, except for the faults of lists.
    """
    if kind == "truncated":
        return body[: max(1, len(body) * 2 // 3)]
    decoded = orjson.loads(body)
    if kind in LISTS:
        elements = _longest_list(decoded)
        if elements:
            _LISTS[kind](elements)
        return orjson.dumps(decoded)
    rows = find_rows(decoded)
    if kind == "lost_edges":
        rows[:] = rows[1:-1] or rows
    elif rows and kind in ROWS:
        _ROWS[kind](rows, len(rows) // 2, volume_index)
    elif rows:
        rows[:] = [_in_seconds(row) for row in rows]
    return orjson.dumps(decoded)


def remove_young_rows(body: bytes, find_rows: Callable[[object], list[Any]], since_ms: int) -> bytes:
    """Return the body without the rows of `since_ms` and later."""
    decoded = orjson.loads(body)
    rows = find_rows(decoded)
    rows[:] = [row for row in rows if _read_time(row) < since_ms]
    return orjson.dumps(decoded)


def _read_time(row: Any) -> int:
    """Return the first time of a row, 0 without one."""
    values = row if isinstance(row, list) else row.values()
    return next((int(value) for value in values if _is_time(value)), 0)


def _halve(contracts: list[Any]) -> None:
    del contracts[len(contracts) // 2 :]


def _lose_contract(contracts: list[Any]) -> None:
    del contracts[len(contracts) // 2 : len(contracts) // 2 + 1]


def _blank_contract(contracts: list[Any]) -> None:
    """Set all texts of the first contract but its names to null."""
    contracts[0] |= {name: None for name, value in contracts[0].items() if type(value) is str and name not in NAMES}


def _double_contract(contracts: list[Any]) -> None:
    """Repeat the first contract with all its times an hour later."""
    contracts.insert(1, _later(contracts[0], HOUR_MS))


def _change_types(contracts: list[Any]) -> None:
    """Give the second half of the contracts a type that no client knows."""
    for contract in contracts[len(contracts) // 2 :]:
        contract |= {name: UNKNOWN_TYPE for name in TYPES if name in contract}


def _add_siblings(contracts: list[Any]) -> None:
    """Append a copy of each contract on thousands of a coin, with the multiplier removed from its names."""
    contracts += [_sibling(contract) for contract in contracts if _is_multiplied(contract)]


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


def _set_value(value: Any) -> Callable[[list[Any], int, int], None]:
    """Return a damage that writes `value` over the row's first value after the time."""

    def damage(rows: list[Any], index: int, _volume_index: int) -> None:
        rows[index][_value_place(rows[index])] = value

    return damage


def _set_null_row(rows: list[Any], index: int, _volume_index: int) -> None:
    rows[index] = None


def _negate_volume(rows: list[Any], index: int, volume_index: int) -> None:
    """Turn the volume, or the first value of a row without one, negative."""
    row = rows[index]
    place = _volume_place(row, volume_index)
    row[place] = f"-{str(row[place]).lstrip('-')}" if isinstance(row[place], str) else -abs(row[place]) - 1


def _raise_low(rows: list[Any], index: int, _volume_index: int) -> None:
    """Set the low of a candle above its open; leave other rows as they are."""
    row = rows[index]
    if isinstance(row, list) and len(row) > LOW + 1:
        row[LOW] = _raise(row[OPEN])
    elif isinstance(row, dict) and {"o", "l"} <= row.keys():
        row["l"] = _raise(row["o"])


def _remove_fields(rows: list[Any], index: int, _volume_index: int) -> None:
    """Remove the second half of the values, or the first value of an object."""
    row = rows[index]
    if isinstance(row, list):
        del row[len(row) // 2 :]
    else:
        del row[_value_place(row)]


def _repeat_row(rows: list[Any], index: int, volume_index: int) -> None:
    """Insert a copy of the row whose volume, or first value without one, is another one."""
    copy = rows[index].copy()
    place = _volume_place(copy, volume_index)
    copy[place] = _raise(copy[place])
    rows.insert(index, copy)


def _raise(value: Any) -> Any:
    """Return a positive number of more than ten times the size, as a text if `value` is a text."""
    return format(abs(Decimal(value)) * 10 + 1, "f") if isinstance(value, str) else abs(value) * 10 + 1


def _volume_place(row: Any, volume_index: int) -> Any:
    """Return the index of the volume of a candle that is an array, else the place of the first value."""
    return volume_index if isinstance(row, list) and len(row) > volume_index else _value_place(row)


def _value_place(row: Any) -> Any:
    """Return the index or the name of a row's first value that is neither a time nor a name; without one, the first."""
    if isinstance(row, list):
        return 1
    values = (name for name, value in row.items() if name not in NOT_VALUES and not _is_time(value))
    return next(values, next(iter(row)))


def _postpone(rows: list[Any], index: int, _volume_index: int) -> None:
    """Set all times of the row a day ahead."""
    rows[index] = _later(rows[index], DAY_MS)


def _later(row: Any, by_ms: int) -> Any:
    """Return a row or a contract with its times so much later."""
    pairs = enumerate(row) if isinstance(row, list) else row.items()
    changed = [(name, _add(value, by_ms) if _is_time(value) else value) for name, value in pairs]
    return [value for _, value in changed] if isinstance(row, list) else dict(changed)


def _add(value: Any, by_ms: int) -> Any:
    return str(int(value) + by_ms) if isinstance(value, str) else value + by_ms


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


_LISTS: dict[str, Callable[[list[Any]], None]] = {
    "empty_list": list.clear,
    "half_list": _halve,
    "lost_contract": _lose_contract,
    "odd_contract": _blank_contract,
    "doubled_contract": _double_contract,
    "unknown_type": _change_types,
    "sibling": _add_siblings,
}
_ROWS: dict[str, Callable[[list[Any], int, int], None]] = {
    "nan": _set_value("NaN"),
    "blank": _set_value(""),
    "null": _set_value(None),
    "null_row": _set_null_row,
    "exponent": _set_value("5E-7"),
    "negative_volume": _negate_volume,
    "low_above_open": _raise_low,
    "missing_field": _remove_fields,
    "tomorrow": _postpone,
    "duplicate_row": _repeat_row,
}
