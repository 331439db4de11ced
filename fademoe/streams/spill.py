"""Rows that memory cannot hold while PostgreSQL is away: a file of JSON lines under FADEMOE_HOME."""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from fademoe.feeds.stream import StreamFeed
from fademoe.metrics import METRICS, Instant
from fademoe.store.coverage import Series
from fademoe.streams.minutes import Item

log = logging.getLogger(__name__)

CHUNK_ROWS = 10_000  # in memory at a time when they are read back
VERSION = 2  # last member of a line; lines of the first version have none


class Spill:
    """The file of one stream process. A line that cannot be read back is passed over: its minute stays a gap."""

    def __init__(self, path: Path, feeds: Sequence[StreamFeed]) -> None:
        """Use the file at `path` for rows of `feeds`."""
        self._path = path
        self._feeds = {(feed.metric, feed.interval): feed for feed in feeds}

    def __bool__(self) -> bool:
        """Return whether any rows are spilled."""
        return self._path.exists()

    def write(self, items: Sequence[Item]) -> None:
        """Append rows; raise OSError when the disk refuses them, then the file is as it was."""
        lines = [
            json.dumps([item.feed.metric, item.feed.interval, *item.series, item.ts, item.row, item.replaces, VERSION])
            + "\n"
            for item in items
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        before = self._path.stat().st_size if self._path.exists() else 0
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        except OSError:
            if self._path.exists():
                os.truncate(self._path, before)
            raise

    def read_chunks(self) -> Iterator[list[Item]]:
        """Yield all spilled rows, some thousands at a time; they stay until `clear`."""
        with self._path.open("rb") as file:
            while lines := list(islice(file, CHUNK_ROWS)):
                yield [item for item in map(self._read, lines) if item is not None]

    def _read(self, line: bytes) -> Item | None:
        try:
            name, interval, source, symbol, ts, row, replaces, *version = json.loads(line.decode())
            feed, metric = self._feeds[name, interval], METRICS[name]
            if not version and metric.instant is Instant.MOMENT:  # of an older FadeMoe: stamped with the minute's start
                ts += feed.interval_ms
            values = metric.row_type._make(row)._replace(ts=ts) if row is not None else None
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s: a line cannot be read back: %s", self._path, error)
            return None
        return Item(feed, Series(source, symbol), ts, values, replaces=bool(replaces))

    def clear(self) -> None:
        """Forget the rows, which are stored now."""
        self._path.unlink(missing_ok=True)
