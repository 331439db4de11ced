"""Reads a file of an archive: one member of the right name, a known first line, each line on its grid in its window."""

import codecs
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import lt
from pathlib import Path

import numpy as np

from fademoe.archives.plain import read_plain
from fademoe.clock import Window, to_iso
from fademoe.errors import BadPayload, RetryLater
from fademoe.feeds.archive import ArchiveFile, BadFile, Dataset, Layout, Lines
from fademoe.feeds.blocks import Block, Times, Unordered, make_block, pack_rows
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.values import write_out

CHUNK_CHARACTERS = 100_000  # read at once
MOST_BYTES = 30_000_000  # of an unpacked file: a month of minutes has 5 million


@dataclass(kw_only=True)
class FileRows:
    """What an accepted file holds.

    `rows`: by metric, the label applied. `strays`: the ts that lie behind the file's own period. `unreadable`:
    (number of the line, reason). `doubles`: lines that came twice. `blanks`: by metric and ts, why there is no value.
    """

    rows: dict[str, Block] = field(default_factory=dict)
    blanks: dict[str, dict[int, str]] = field(default_factory=dict)
    partial: set[int] = field(default_factory=set)
    strays: set[int] = field(default_factory=set)
    prices: list[tuple[int, float]] = field(default_factory=list)
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    lines: int = 0
    has_header: bool = False
    doubles: int = 0
    is_unsorted: bool = False
    shift_ms: int = 0

    def find_times(self) -> Times:
        """Return the ts of all lines, ascending."""
        parts = [rows.times for rows in self.rows.values()]
        if len(parts) == 1 and not any(self.blanks.values()):
            return parts[0]
        times = {ts for part in parts for ts in part.tolist()}.union(*self.blanks.values())
        return np.fromiter(sorted(times), np.int64, len(times))

    def shift(self, shift_ms: int) -> None:
        """Move all rows by the label of the file."""
        self.shift_ms = shift_ms
        if not shift_ms:
            return
        self.rows = {metric: rows.shift(shift_ms) for metric, rows in self.rows.items()}
        self.blanks = {
            metric: {ts + shift_ms: reason for ts, reason in blanks.items()} for metric, blanks in self.blanks.items()
        }
        self.strays = {ts + shift_ms for ts in self.strays}


def read_file(path: Path, file: ArchiveFile, dataset: Dataset, instrument: Instrument) -> FileRows:
    """Return what a file holds, its label not applied; raise BadFile with the reason when it is not accepted."""
    lines = Lines()
    found = FileRows()
    content = _unpack(path, file)
    block = _read_at_once(content, file, dataset, instrument, found)
    if block is not None:
        found.rows[block.metric] = block
        found.lines = len(block)
        return found
    parts: dict[str, list[Unordered | Block]] = {}
    for number, (layout, chunk) in _read_chunks(content, dataset, found):
        read = _read_lines(layout, chunk, number, instrument, found)
        for metric, rows in read.rows.items():
            parts.setdefault(metric, []).append(pack_rows(metric, rows))
        lines.extend(replace(read, rows={}))
    if not found.lines:
        raise BadFile("it holds no line")
    if len(found.unreadable) * 2 > found.lines:
        number, reason = found.unreadable[0]
        raise BadFile(f"{len(found.unreadable)} of {found.lines} lines are unreadable; line {number}: {reason}")
    _check_times(lines, file, dataset, found)
    found.prices = lines.prices
    found.partial = lines.partial
    found.blanks = lines.blanks
    for metric, of_chunks in parts.items():
        found.rows[metric], differing = make_block(metric, of_chunks)
        if differing:
            raise BadFile(f"two lines of {to_iso(differing[0])} differ in {metric}")
    return found


def _unpack(path: Path, file: ArchiveFile) -> bytes:
    """Return the content of a file's one member, without a byte order mark."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if names != [f"{file.stem}.csv"]:
                raise BadFile(f"it holds {', '.join(names[:3]) or 'nothing'} instead of {file.stem}.csv alone")
            if members[0].file_size > MOST_BYTES:
                raise BadFile(f"{members[0].file_size} bytes unpacked are more than such a file has")
            with archive.open(members[0]) as member:
                content = member.read(members[0].file_size + 1)  # with a bound it is not unpacked beyond it
    except FileNotFoundError:
        raise RetryLater(f"{file.path} was removed by another job", retry_after_s=1) from None
    # Runtime: encrypted; OS and Value: offsets that lie outside of the file
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as error:
        raise BadFile(f"its zip is broken: {error}") from error
    return content.removeprefix(codecs.BOM_UTF8)


def _read_at_once(
    content: bytes, file: ArchiveFile, dataset: Dataset, instrument: Instrument, found: FileRows
) -> Block | None:
    """Return the rows of a file of plain decimals, in order, on the grid and in its window; None for any other file."""
    if dataset.sparse or not any(layout.plain for layout in dataset.layouts):
        return None
    content = content if content.endswith(b"\n") else content + b"\n"
    end = content.index(b"\n") + 1
    try:
        layout, line = _find_layout(content[:end].decode(dataset.encoding), dataset, found)
    except UnicodeDecodeError:
        return None
    block = read_plain(content if line else memoryview(content)[end:], layout, instrument)
    if block is None or block.times[0] < file.window.start_ms or block.times[-1] >= file.window.end_ms:
        return None
    return None if (block.times % dataset.interval_ms).any() else block


def _read_chunks(content: bytes, dataset: Dataset, found: FileRows) -> Iterator[tuple[int, tuple[Layout, str]]]:
    """Yield the text of a file in chunks of whole lines, each with its first number and the layout."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding=dataset.encoding, newline=None)
    try:
        layout, first = _find_layout(text.readline(), dataset, found)
        number = 1 if first else 2
        while chunk := first + text.read(CHUNK_CHARACTERS) + text.readline():
            first = ""
            yield number, (layout, chunk)
            number += chunk.count("\n")
    except UnicodeDecodeError as error:
        raise BadFile(f"its text is not {dataset.encoding}") from error


def _find_layout(line: str, dataset: Dataset, found: FileRows) -> tuple[Layout, str]:
    """Return the layout of a file by its first line, and that line where it is data, otherwise ""."""
    line = line.rstrip("\r\n")
    names = line.split(",")
    for layout in dataset.layouts:
        if tuple(name.strip() for name in names) == layout.names:
            found.has_header = True
            return layout, ""
    for layout in dataset.layouts:
        if layout.any_header and len(names) == len(layout.names) and not any(map(_is_number, names)):
            found.has_header = True
            return layout, ""
        if not layout.needs_header and len(names) == len(layout.names) and _is_number(names[0]):
            return layout, f"{line}\n"
    raise BadFile(f"its first line is unknown: {line[:80]!r}")


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdecimal()


def _read_lines(layout: Layout, chunk: str, number: int, instrument: Instrument, found: FileRows) -> Lines:
    """Read lines column by column, or one by one where one of them is not as expected.

    A line with too few or too many values shifts the values of others into the wrong columns, where they are refused.
    """
    chunk, width = chunk.rstrip("\n"), len(layout.names)
    count, cells = chunk.count("\n") + 1, chunk.replace("\n", ",").split(",")
    try:
        if len(cells) == width * count:
            lines = layout.read([cells[at::width] for at in range(width)], instrument)
            found.lines += count
            return lines
    except BadPayload:
        pass  # which line it is, is found one by one
    read = Lines()
    for at, line in enumerate(chunk.split("\n")):
        if not line:
            continue
        found.lines += 1
        values = [write_out(text) for text in line.split(",")]
        try:
            if len(values) != width:
                raise BadPayload(f"{width} values were expected, not {len(values)}")
            read.extend(layout.read([[value] for value in values], instrument))
        except BadPayload as error:
            found.unreadable.append((number + at, f"{error}: {line[:120]}"))
    return read


def _check_times(lines: Lines, file: ArchiveFile, dataset: Dataset, found: FileRows) -> None:
    """Raise BadFile for a time that is off the grid or outside the file's window; note order, doubles, strays."""
    times = lines.times
    found.is_unsorted = not all(map(lt, times, times[1:])) and sorted(times) != times
    found.doubles = len(times) - len(set(times))
    start_ms, end_ms = file.window
    outside = [ts for ts in times if not start_ms <= ts < end_ms + dataset.overhang_ms]
    if outside:
        raise BadFile(f"{len(outside)} lines lie outside its window, such as {to_iso(outside[0])}")
    if not dataset.sparse and any(ts % dataset.interval_ms for ts in times):
        raise BadFile("not all lines lie on its grid")
    found.strays = {ts for ts in times if ts >= end_ms}


def find_holes(times: Iterable[int], window: Window, step_ms: int) -> list[Window]:
    """Return the parts of a window whose points of the grid have no row; `times` are ascending."""
    holes: list[Window] = []
    expected_ms = window.start_ms
    for ts in times:
        if ts >= window.end_ms:
            break
        if ts > expected_ms:
            holes.append(Window(expected_ms, ts))
        expected_ms = max(expected_ms, ts + step_ms)
    if expected_ms < window.end_ms:
        holes.append(Window(expected_ms, window.end_ms))
    return holes


def describe(found: FileRows) -> Mapping[str, object]:
    """Return what the ledger keeps of how a file was read."""
    return {
        "header": found.has_header,
        "doubles": found.doubles,
        "unsorted": found.is_unsorted,
        "unreadable": len(found.unreadable),
        "blanks": sum(map(len, found.blanks.values())),
        "partial": len(found.partial),
    }
