"""What the files of a period gave: their rows joined, and what becomes of each file."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fademoe.archives.closes import MinuteCloses
from fademoe.archives.reading import FileRows
from fademoe.client.archive import Download, RefusedFile
from fademoe.clock import Window, merge, subtract
from fademoe.errors import RetryLater
from fademoe.feeds.blocks import Block, make_block, pack_rows
from fademoe.jobs.archive_target import Target, cut, find_life, find_metric_holes, overlap
from fademoe.jobs.fetch import DUE_TOLERANCE_MS, find_overdue
from fademoe.store.files import FileRecord, FileState

CONFLICT = "archive conflict: two files differ"


@dataclass(kw_only=True)
class Gathered:
    """What the files of a period gave: rows and reasons by metric, and what becomes of each file.

    `parts`: each file with its rows, in the order in which they count. `strays`: such as lie behind the end of a file.
    `rows`: of all parts, from `settle` on. `unreadable`: the paths of files with a line that could not be read.
    """

    parts: dict[str, list[tuple[str, Block]]] = field(default_factory=dict)
    strays: dict[str, list[tuple[str, Block]]] = field(default_factory=dict)
    rows: dict[str, Block] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    blanks: dict[str, dict[int, str]] = field(default_factory=dict)
    partial: set[int] = field(default_factory=set)
    quarantined: list[tuple[Window, str]] = field(default_factory=list)
    records: list[FileRecord] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    closes: MinuteCloses | None = None
    retry: RetryLater | None = None
    refused: RefusedFile | None = None

    def add(self, path: str, found: FileRows) -> None:
        """Add the rows of a file."""
        for metric, rows in found.rows.items():
            self.parts.setdefault(metric, []).append((path, rows.without(found.strays)))
            if found.strays:
                self.strays.setdefault(metric, []).append((path, rows.pick(found.strays)))
        for metric, blanks in found.blanks.items():
            self.blanks.setdefault(metric, {}).update(blanks)
        self.partial |= found.partial
        if found.unreadable:
            self.unreadable.add(path)

    def find_proved(self) -> list[Window]:
        """Return the windows of the good files: where they have no row of a sparse dataset, there may be none."""
        good = (FileState.OK, FileState.SHORT)
        return merge(record.window for record in self.records if record.state in good)

    def find_doubtful(self) -> list[Window]:
        """Return the windows in which a line could not be read, and that no file has whose lines all could."""
        good = (FileState.OK, FileState.SHORT)
        whole = [each.window for each in self.records if each.state in good and each.path not in self.unreadable]
        doubtful = [each.window for each in self.records if each.path in self.unreadable]
        return merge(part for window in doubtful for part in subtract(window, merge(whole)))

    def join(self, metric: str) -> tuple[Block, list[int]]:
        """Return the rows of a metric, and the times for which two files have different rows."""
        return make_block(metric, [rows for _, rows in self.parts.get(metric, [])] or [pack_rows(metric, [])])

    def settle(self) -> None:
        """Join the rows: what lies behind the end of a file counts where the file of its own day has nothing.

        Where two files have different rows for a time, neither is taken.
        """
        for metric, strays in self.strays.items():
            of_own_day, _ = self.join(metric)
            known = {*of_own_day, *self.blanks.get(metric, {})}
            self.parts[metric] += [(path, rows.without(known)) for path, rows in strays]
        for metric in self.parts:
            rows, differing = self.join(metric)
            self.blanks.setdefault(metric, {}).update(dict.fromkeys(differing, CONFLICT))
            self.rows[metric] = rows.without(set(differing))

    def split(self, metric: str, rows: Block) -> Iterator[tuple[str, Block]]:
        """Yield some of the rows of a metric with the file that they came from, file by file."""
        for path, part in self.parts[metric]:
            mine = rows.pick(part.times)
            if mine:
                yield path, mine
                rows = rows.without(part.times)

    def find_file(self, metric: str, ts: int) -> str:
        """Return the path of the file that a row came from."""
        return next(path for path, part in self.parts[metric] if ts in part)


def find_gathered_holes(target: Target, gathered: Gathered, rows: Block, window: Window) -> list[Window]:
    """Return the parts of a window that have none of `rows`; of a sparse dataset, too, what no good file is of."""
    holes = find_metric_holes(target, rows.times, window)
    if not target.dataset.sparse:
        return holes
    doubtful = [
        cut(hole, window) for hole in find_doubtful_holes(target, gathered, rows.metric) if overlap(hole, window)
    ]
    return merge([*holes, *doubtful, *subtract(window, gathered.find_proved())])


def find_doubtful_holes(target: Target, gathered: Gathered, metric: str) -> list[Window]:
    """Return the ranges of a sparse dataset in which a row may be lost, each up to the next row.

    There a line that could not be read may have been, by the distances of the rows beside, or two files have different
    rows.
    """
    doubtful = [cut(window, find_life(target)) for window in gathered.find_doubtful()]
    conflicts = sorted(ts for ts, why in gathered.blanks.get(metric, {}).items() if why == CONFLICT)
    if not doubtful and not conflicts:
        return []
    joined, _ = gathered.join(metric)
    times = [ts for ts in joined if ts not in set(conflicts)]
    holes = [
        cut(hole, window)
        for window in doubtful
        if window.start_ms < window.end_ms
        for hole in find_overdue(times, _begin_before(window), target.dataset.due_every_ms, at_edges=True)
    ]
    end_ms = max(record.window.end_ms for record in gathered.records)
    return [*holes, *(Window(ts, next((each for each in times if each > ts), end_ms)) for ts in conflicts)]


def _begin_before(window: Window) -> Window:
    """Return a window that begins so early that a row is missing where the first one is a whole interval behind it."""
    return Window(window.start_ms - DUE_TOLERANCE_MS - 1, window.end_ms)


def find_edges(rows: Block) -> list[int]:
    """Return the first and the last time of rows, none where there are no rows."""
    return rows.times[[0, -1]].tolist() if rows else []
