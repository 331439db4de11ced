"""What the files of a period gave: their rows joined, and what becomes of each file."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fademoe.archives.closes import MinuteCloses
from fademoe.archives.reading import FileRows
from fademoe.client.archive import Download, RefusedFile
from fademoe.clock import Window, merge, subtract
from fademoe.errors import RetryLater
from fademoe.feeds.blocks import Block, make_block, pack_rows
from fademoe.jobs.archive_target import Target, find_metric_holes
from fademoe.store.files import FileRecord, FileState

CONFLICT = "archive conflict: two files differ"


@dataclass(kw_only=True)
class Gathered:
    """What the files of a period gave: rows and reasons by metric, and what becomes of each file.

    `parts`: each file with its rows, in the order in which they count. `strays`: such as lie behind the end of a file.
    `rows`: of all parts, from `settle` on.
    """

    parts: dict[str, list[tuple[str, Block]]] = field(default_factory=dict)
    strays: dict[str, list[tuple[str, Block]]] = field(default_factory=dict)
    rows: dict[str, Block] = field(default_factory=dict)
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

    def find_proved(self) -> list[Window]:
        """Return the windows of the good files: where they have no row of a sparse dataset, there may be none."""
        good = (FileState.OK, FileState.SHORT)
        return merge(record.window for record in self.records if record.state in good)

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
    return merge([*holes, *subtract(window, gathered.find_proved())]) if target.dataset.sparse else holes


def find_edges(rows: Block) -> list[int]:
    """Return the first and the last time of rows, none where there are no rows."""
    return rows.times[[0, -1]].tolist() if rows else []
