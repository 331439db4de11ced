"""Imports files of archives in the test's process, and edits files on their way."""

import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from fademoe.client import instruments
from fademoe.clock import MINUTE_MS, Window
from fademoe.feeds import registry
from fademoe.jobs import archive as jobs
from fademoe.runtime.job_context import JobContext
from fademoe.store import coverage
from fademoe.store.status import Tracked

SAMPLE_MS = 5 * MINUTE_MS
KLINES = "/data/futures/um"


def to_ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def month(text):
    year, number = map(int, text.split("-"))
    return Window(to_ms(f"{text}-01"), to_ms(f"{year + number // 12}-{number % 12 + 1:02}-01"))


@dataclass(frozen=True, kw_only=True)
class CountingContext(JobContext):
    """The context of a job that keeps its counts from run to run, without a worker."""

    tries: Counter

    def count_failure(self, key):
        self.tries[key] += 1
        return self.tries[key]


class Importer:
    def __init__(self, system):
        self.system = system
        self.services = system.context()
        self.tries = Counter()
        for name in ("binance", "okx"):
            instruments.refresh(registry.load_exchanges()[name], self.services.rest, self.services.database)

    def want(self, window, *series):
        self.services.database.run(lambda cursor: coverage.want(cursor, series, *window))

    def run(self, series, window, work=jobs.import_window):
        """Run as the job does that is run again: it counts the tries of a file."""
        unit = Tracked(database=self.services.database, unit="archive test", **series._asdict())
        return work(CountingContext(services=self.services, tries=self.tries), unit, series, window)

    def take(self, series, window):
        self.want(window, series)
        return self.run(series, window)

    def missing(self, series, window):
        with self.services.database.open_transaction() as cursor:
            return coverage.find_missing(cursor, series, window)

    def files(self, columns="path, state"):
        return self.system.query(f"SELECT {columns} FROM perp_files ORDER BY path")

    def leftovers(self):
        return [path for path in (self.services.settings.home / "archive").rglob("*") if path.is_file()]

    def differences(self, source, symbol, window, exchange="binance"):
        return self.system.differences(exchange, source, symbol, *window)

    def edit(self, patch: pytest.MonkeyPatch, part: str, change: Callable[[list[str]], Sequence[str]]) -> None:
        """Let `change` make the lines of each file whose path has `part`, after it was fetched."""
        client, fetch = self.services.archive_client, self.services.archive_client.fetch

        def fetch_edited(archive, path, *, use="import"):
            download = fetch(archive, path, use=use)
            if download is not None and part in path:
                with zipfile.ZipFile(download.path) as packed:
                    (name,) = packed.namelist()
                    lines = packed.read(name).decode().splitlines()
                with zipfile.ZipFile(download.path, "w", zipfile.ZIP_DEFLATED) as packed:
                    packed.writestr(name, "".join(f"{line}\n" for line in change(lines)))
            return download

        patch.setattr(client, "fetch", fetch_edited)
