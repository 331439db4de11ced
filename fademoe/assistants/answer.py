"""The one shape of every result: texts with units, the coverage of the question, a bound of the size."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mcp_types import CallToolResult, TextContent
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

MAX_BYTES = 256 * 1024  # of the whole result as it is sent: the table, and the same once more as text
ENVELOPE_BYTES = 1_024  # what the protocol puts around it
BLANKS = str.maketrans("\t\n\r", "   ")  # a value ends neither its cell nor its line


class Gap(TypedDict):
    """A range [since, until) of a series without rows; `reason` is why.

    `state`: absent, missing (still to be fetched), not due yet (too new), not requested.
    """

    source: str
    symbol: str
    since: str
    until: str
    state: str
    reason: str


class Coverage(TypedDict):
    """How complete one series is over the range that was asked for, in ms of it.

    `requested_ms`: in the range, requested. `covered_ms`: of that, fetched or known to be absent. `absent_ms`: of that,
    without a row for a reason. `missing_ms`: still to be fetched. `not_due_ms`: too new to be there.
    `not_requested_ms`: of the range, never requested: nothing is known about it. `is_complete`: covered end to end.
    `gaps`: the first ranges without rows, 100 at most; the tool `coverage` lists all of them.
    """

    source: str
    symbol: str
    since: str
    until: str
    requested_ms: int
    covered_ms: int
    absent_ms: int
    missing_ms: int
    not_due_ms: int
    not_requested_ms: int
    is_complete: bool
    gaps: list[Gap]


class Answer(TypedDict):
    """`rows` hold texts in the order of `columns`, null where there is no value; `units` belong to the columns.

    `truncated`: rows were left out, because of the limit or of the size of an answer.
    """

    columns: list[str]
    units: list[str | None]
    rows: list[list[str | None]]
    coverage: list[Coverage]
    truncated: bool


def make_answer(
    columns: Sequence[str],
    units: Sequence[str | None],
    rows: Iterable[Sequence[Any]],
    coverage: Sequence[Coverage] = (),
    *,
    truncated: bool = False,
) -> CallToolResult:
    """Return a result that is at most MAX_BYTES as it is sent, as a table and as text.

    What does not fit is left out: first the ranges of the coverage, then rows at the end.
    """
    answer = Answer(columns=list(columns), units=list(units), rows=[], coverage=list(coverage), truncated=truncated)
    left = _measure_left(answer)
    while left < MAX_BYTES // 2 and any(series["gaps"] for series in answer["coverage"]):
        fullest = max(answer["coverage"], key=lambda series: len(series["gaps"]))
        del fullest["gaps"][len(fullest["gaps"]) // 2 :]
        answer["truncated"] = True
        left = _measure_left(answer)
    while left < MAX_BYTES // 2 and answer["coverage"]:
        del answer["coverage"][len(answer["coverage"]) // 2 :]
        answer["truncated"] = True
        left = _measure_left(answer)
    for row in rows:
        texts = [to_text(value) for value in row]
        left -= _measure(texts) + _measure(_write_line(texts)) + 2
        if left < 0:
            answer["truncated"] = True
            break
        answer["rows"].append(texts)
    return CallToolResult(
        content=[TextContent(type="text", text=write_text(answer))],
        structured_content=dict(answer),
    )


def write_text(answer: Answer) -> str:
    """Return an answer as text: lines about the coverage that begin with #, then tab-separated values."""
    lines = [_describe(series) for series in answer["coverage"]]
    if answer["truncated"]:
        lines.append("# truncated: rows were left out; ask for a shorter range, a coarser step or fewer columns")
    heads = [
        f"{name} ({unit})" if unit else name for name, unit in zip(answer["columns"], answer["units"], strict=True)
    ]
    return "\n".join([*lines, _write_line(heads), *map(_write_line, answer["rows"])])


def to_text(value: Any) -> str | None:
    """Return a value as the text that stands in a row."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _describe(series: Coverage) -> str:
    heading = f"# coverage of {series['source']} {series['symbol']} {series['since']} .. {series['until']}"
    if series["is_complete"] and not series["absent_ms"]:
        return f"{heading}: complete"
    parts = [
        f"{label} {series[key] / 60_000:.0f} min"  # type: ignore[literal-required]
        for label, key in (
            ("covered", "covered_ms"),
            ("of that absent for a reason", "absent_ms"),
            ("missing", "missing_ms"),
            ("too new to be there", "not_due_ms"),
            ("never requested", "not_requested_ms"),
        )
    ]
    reasons = sorted({gap["reason"] for gap in series["gaps"] if gap["reason"]})
    return "; ".join([f"{heading}: {', '.join(parts)}", *reasons])


def _write_line(texts: Sequence[str | None]) -> str:
    return "\t".join("" if text is None else text.translate(BLANKS) for text in texts)


def _measure_left(answer: Answer) -> int:
    return MAX_BYTES - ENVELOPE_BYTES - _measure(answer) - _measure(write_text(answer))


def _measure(value: Any) -> int:
    """Return how many bytes a part of an answer takes as JSON, or a few more: over HTTP all but ASCII is escaped."""
    return len(json.dumps(value))
