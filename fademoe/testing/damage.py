"""Payloads with one wrong value, and what a row must be like so that it may be stored."""

import copy
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from fademoe.clock import EARLIEST_MS, LATEST_MS
from fademoe.feeds.instrument import Json
from fademoe.metrics import METRICS

PLAIN = re.compile(r"-?[0-9]+([.][0-9]+)?")
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, float("nan"), 10**30, 1767225600, 1767225600000000, [], [1], {}, {"a": 1}),
    *("", "NaN", "Infinity", "-1", "1e5", "x", "\x00", "\uff11", "1" * 40, "1767225600"),
    *(Decimal("1e400"), Decimal("-0.5")),
)


def make_damaged(payload: Json) -> Iterator[Json]:
    """Yield wrong payloads: values of other kinds, and copies of `payload` with one value wrong or left out."""
    yield from WRONG
    for path in list(_places(payload))[1:]:
        for value in (*WRONG, Ellipsis):
            yield _changed(payload, path, value)


def is_good(row: Any, metric: str) -> bool:
    """Return whether a row is one of the metric, with a time in ms and plain decimal values.

    Values are negative only where their column says that they may be.
    """
    declared = METRICS[metric]
    if type(row) is not declared.row_type or type(row.ts) is not int:
        return False
    values = [(column, value) for column, value in zip(declared.columns, row[1:], strict=True) if value is not None]
    is_plain = all(_is_plain(value) and (column.signed or not str(value).startswith("-")) for column, value in values)
    return EARLIEST_MS <= row.ts < LATEST_MS and is_plain


def _is_plain(value: Any) -> bool:
    return abs(value) < 2**63 if type(value) is int else isinstance(value, str) and bool(PLAIN.fullmatch(value))


def _places(tree: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of a payload: every member, and the first element of every list."""
    yield path
    members = tree.items() if isinstance(tree, dict) else enumerate(tree[:1]) if isinstance(tree, list) else ()
    for name, value in members:
        yield from _places(value, (*path, name))


def _changed(tree: Json, path: tuple[Any, ...], value: Any) -> Json:
    """Return a payload with another value at a path, with none for Ellipsis; what is not changed is not copied."""
    name, *rest = path
    copied = copy.copy(tree)
    if rest:
        copied[name] = _changed(tree[name], tuple(rest), value)
    elif value is Ellipsis:
        del copied[name]
    else:
        copied[name] = value
    return copied
