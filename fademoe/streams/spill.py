"""Rows that memory cannot hold while PostgreSQL is away: a file of JSON lines under FADEMOE_HOME."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from fademoe.feeds.spec import StreamFeed
from fademoe.metrics import METRICS
from fademoe.store.coverage import Series
from fademoe.streams.minutes import Item

log = logging.getLogger(__name__)


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
        """Append rows; raise OSError when the disk refuses them."""
        lines = [
            json.dumps([item.feed.metric, item.feed.interval, *item.series, item.ts, item.row]) + "\n" for item in items
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def read(self) -> list[Item]:
        """Return all spilled rows; they stay until `clear`."""
        items = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                metric, interval, source, symbol, ts, row = json.loads(line)
                feed = self._feeds[metric, interval]
                values = METRICS[metric].row_type._make(row) if row is not None else None
            except (ValueError, KeyError, TypeError) as error:
                log.warning("%s: a line cannot be read back: %s", self._path, error)
                continue
            items.append(Item(feed, Series(source, symbol), ts, values))
        return items

    def clear(self) -> None:
        """Forget the rows, which are stored now."""
        self._path.unlink(missing_ok=True)
