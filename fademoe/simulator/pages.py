"""Pages of rows: a contract's day is encoded once; a page is then a slice of bytes."""

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from fademoe.simulator.clock import DAY_MS


class Chunk:
    """Encoded rows with their times, oldest first; the bytes may be stored newest first, as the exchange sends them."""

    __slots__ = ("_blob", "_is_newest_first", "_offsets", "times")

    def __init__(self, times: Sequence[int], rows: Sequence[str], *, newest_first: bool = False) -> None:
        """Encode `rows` (texts of JSON values) in the order of `times`, oldest first."""
        self.times = array("q", times)
        self._is_newest_first = newest_first
        ordered = rows[::-1] if newest_first else rows
        text = ",".join(ordered)
        self._blob = text.encode()
        sizes = map(len, ordered) if len(text) == len(self._blob) else (len(row.encode()) for row in ordered)
        self._offsets = array("L", accumulate((size + 1 for size in sizes), initial=0))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.times)

    def cut(self, first: int, last: int) -> bytes:
        """Return rows [first, last), counted from the oldest, joined by commas in the exchange's order."""
        if self._is_newest_first:
            first, last = len(self.times) - last, len(self.times) - first
        return self._blob[self._offsets[first] : self._offsets[last] - 1] if first < last else b""


class ChunkStore:
    """An LRU cache of at most `capacity` chunks."""

    def __init__(self, capacity: int) -> None:
        """Start empty."""
        self._capacity = capacity
        self._chunks: OrderedDict[Hashable, Chunk] = OrderedDict()

    def get(self, key: Hashable, build: Callable[[], Chunk]) -> Chunk:
        """Return the chunk of `key`; build it when it is missing."""
        chunk = self._chunks.get(key)
        if chunk is None:
            chunk = self._chunks[key] = build()
            if len(self._chunks) > self._capacity:
                self._chunks.popitem(last=False)
        else:
            self._chunks.move_to_end(key)
        return chunk


@dataclass(frozen=True)
class RowSource:
    """The rows of one series: final days, and the last rows, which may still change."""

    day_chunk: Callable[[int], Chunk]  # by day since the epoch; may contain the future
    settled_ms: int  # rows of `day_chunk` before this time are final
    tail: Chunk  # rows from `settled_ms` on


def cut_page(
    source: RowSource, start_ms: int, end_ms: int, limit: int, *, keep_newest: bool, newest_first: bool = False
) -> bytes:
    """Return a JSON array of the rows with start_ms <= time < end_ms, at most `limit` of them.

    `keep_newest` says which end wins when there are more rows, `newest_first` in which order the chunks are encoded.
    """
    chunks_end = min(end_ms, source.settled_ms)
    pieces: list[bytes] = []
    days: Sequence[int] = range(start_ms // DAY_MS, -(-chunks_end // DAY_MS)) if start_ms < chunks_end else range(0)
    if keep_newest:
        limit -= _take(source.tail, start_ms, end_ms, limit, pieces, keep_newest=True)
        days = days[::-1]
    for day in days:
        if limit <= 0:
            break
        limit -= _take(source.day_chunk(day), start_ms, chunks_end, limit, pieces, keep_newest=keep_newest)
    if not keep_newest:
        _take(source.tail, start_ms, end_ms, limit, pieces, keep_newest=False)
    if keep_newest != newest_first:
        pieces.reverse()
    return b"[" + b",".join(pieces) + b"]"


def _take(chunk: Chunk, start_ms: int, end_ms: int, limit: int, pieces: list[bytes], *, keep_newest: bool) -> int:
    """Append the chunk's share of a page to `pieces` and return its number of rows."""
    first, last = bisect_left(chunk.times, start_ms), bisect_left(chunk.times, end_ms)
    if last - first > limit:
        first, last = (last - limit, last) if keep_newest else (first, first + limit)
    if first < last and limit > 0:
        pieces.append(chunk.cut(first, last))
        return last - first
    return 0
