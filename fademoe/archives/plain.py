"""Reads the lines of a whole file at once where every cell is a plain decimal, as they are in nearly all files.

It accepts nothing that reading line by line would refuse, and gives the same values; whatever is not as expected is
left to that (`archives.reading`), which says what is wrong and where.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from fademoe.clock import EARLIEST_MS, LATEST_MS, MINUTE_MS
from fademoe.feeds.archive import Layout, Plain
from fademoe.feeds.blocks import Block, read_floats
from fademoe.feeds.columns import EXACT_LENGTH, MS_DIGITS
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.values import MOST_DIGITS

NEW_LINE, COMMA, MINUS, POINT, ZERO, NINE = b"\n,-.09"
PART_BYTES = 500_000  # looked at together: memory that is used again costs less than new memory
MOST_COUNT_DIGITS = 18  # every number of so many digits is a BIGINT


def read_plain(content: bytes | memoryview, layout: Layout, instrument: Instrument) -> Block | None:
    """Return the rows of lines, None where they have to be read one by one; `content` ends with a line's end."""
    plain = layout.plain
    if plain is None or (plain.per_coin and instrument.multiplier != 1):
        return None
    if not _are_decimals(content, len(layout.names), is_signed=plain.is_signed):
        return None
    cells = _split(content, len(layout.names))
    times = _read_times(cells[plain.time])
    if times is None or not _are_bars(plain, cells, times):
        return None
    return Block(plain.metric, times, [cells[at] for at in plain.values])


def _are_decimals(content: bytes | memoryview, width: int, *, is_signed: bool) -> bool:
    """Return whether each line has `width` cells, all of them plain decimals as `values.read_number` knows them."""
    characters = np.frombuffer(content, np.uint8)
    start = 0
    while start < len(characters):
        part = characters[start : start + PART_BYTES]
        ends = np.flatnonzero(part == NEW_LINE)
        if not len(ends) or not _are_lines_of_decimals(part[: ends[-1] + 1], width, is_signed=is_signed):
            return False
        start += int(ends[-1]) + 1
    return start > 0


def _are_lines_of_decimals(characters: npt.NDArray[np.uint8], width: int, *, is_signed: bool) -> bool:
    """Do what `_are_decimals` does for a part that ends with a line's end."""
    if characters.max() > NINE:
        return False
    places = np.flatnonzero(characters < ZERO)  # of all that is no digit
    marks = characters[places]
    is_minus = marks == MINUS
    if is_minus.any():
        signs = places[is_minus]
        before = characters[signs - 1]  # of the very first one it is the last line's end
        is_first = (before == NEW_LINE) | (before == COMMA)
        if not is_signed or not is_first.all() or not (characters[signs + 1] >= ZERO).all():
            return False
        places, marks = places[~is_minus], marks[~is_minus]
    is_point = marks == POINT
    lengths = places[1:] - places[:-1]  # of the digits before each mark, and the mark
    is_begun = bool(1 <= places[0] <= MOST_DIGITS)
    if not is_begun or lengths.min(initial=2) < 2 or lengths.max(initial=2) > MOST_DIGITS + 1:
        return False
    if (is_point[1:] & is_point[:-1]).any():
        return False
    separators = marks[~is_point]
    if len(separators) % width:
        return False
    lines = separators.reshape(-1, width)
    return bool((lines[:, :-1] == COMMA).all() and (lines[:, -1] == NEW_LINE).all())


def _split(content: bytes | memoryview, width: int) -> list[pa.StringArray]:
    """Return the columns of lines of plain decimals."""
    names = list(map(str, range(width)))
    table = csv.read_csv(
        pa.py_buffer(content),
        read_options=csv.ReadOptions(use_threads=False, column_names=names, block_size=len(content) + 1),
        parse_options=csv.ParseOptions(quote_char=False),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )
    return [table.column(at).combine_chunks() for at in range(width)]


def _read_times(cells: pa.StringArray) -> npt.NDArray[np.int64] | None:
    """Return a column of times in ms, strictly ascending; None for anything else."""
    if (_measure(cells) != MS_DIGITS).any():
        return None
    times = _read_integers(cells)
    if times is None or times[0] < EARLIEST_MS or times[-1] >= LATEST_MS or (np.diff(times) <= 0).any():
        return None
    return times


def _are_bars(plain: Plain, cells: list[pa.StringArray], times: npt.NDArray[np.int64]) -> bool:
    """Return whether bars are of a minute, their prices in order, and their counts whole numbers."""
    if plain.end is not None:
        ends = _read_integers(cells[plain.end])
        if ends is None or not np.array_equal(ends, times + (MINUTE_MS - 1)):
            return False
    for at in plain.counts:
        if (_measure(cells[at]) > MOST_COUNT_DIGITS).any() or _read_integers(cells[at]) is None:
            return False
    if plain.high is None or plain.low is None:
        return True
    prices = {at: cells[at] for at in {plain.high, plain.low, *plain.between, *plain.above_zero}}
    if any((_measure(each) > EXACT_LENGTH).any() for each in prices.values()):
        return False  # too long to be compared as floats
    known = {at: read_floats(each) for at, each in prices.items()}
    low, high = known[plain.low], known[plain.high]
    are_inside = all(((low <= known[at]) & (known[at] <= high)).all() for at in plain.between)
    return are_inside and all((known[at] > 0).all() for at in plain.above_zero)


def _measure(cells: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return the lengths of texts."""
    return np.diff(np.frombuffer(cells.buffers()[1], np.int32)[cells.offset : cells.offset + len(cells) + 1])


def _read_integers(cells: pa.StringArray) -> npt.NDArray[np.int64] | None:
    """Return texts as integers, None where one is none."""
    try:
        return np.frombuffer(cells.cast(pa.int64()).buffers()[1], np.int64)[: len(cells)]
    except pa.ArrowInvalid:
        return None
