"""Compares the ledger of an archive with what the archive has now, and enqueues what has changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.archives.listing import Listed, skip_checksums
from fademoe.clock import DAY_MS, Window
from fademoe.errors import SourceError
from fademoe.feeds.archive import Archive, Dataset
from fademoe.feeds.exchange import Exchange
from fademoe.metrics import name_perpspec
from fademoe.queue.enqueue import enqueue_imports
from fademoe.queue.ids import REIMPORT, Task
from fademoe.runtime.services import Services
from fademoe.store import files
from fademoe.store.coverage import Series
from fademoe.store.files import FileRecord, FileState


@dataclass(kw_only=True)
class Checked:
    """What a check found: files that are as they were, rewritten ones, such that came, and such that are gone.

    `tried_again`: those in quarantine; they, their checksums or the candles beside them may have been repaired.
    """

    exchange: str
    same: int = 0
    rewritten: list[str] = field(default_factory=list)
    tried_again: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Say it, a line for each file that has changed."""
        lines = [
            f"{self.exchange}: {self.same} files are as they were, {len(self.rewritten)} rewritten,"
            f" {len(self.new)} new, {len(self.gone)} gone"
        ]
        changes = {"rewritten": self.rewritten, "tried again": self.tried_again, "new": self.new, "gone": self.gone}
        for what, paths in changes.items():
            lines += [f"{what}: {path}" for path in paths]
        return "\n".join([*lines, *(f"error: {error}" for error in self.errors)])


def check_archive(services: Services, exchange: Exchange, archive: Archive) -> Checked:
    """List the files of the ledger again; new and rewritten ones are imported as an audit.

    An archive without a listing is not checked.
    """
    checked = Checked(exchange=exchange.name)
    if not archive.list_url:
        checked.errors.append("this archive has no listing to compare with")
        return checked
    datasets = {dataset.name: dataset for dataset in archive.datasets}
    with services.database.open_transaction() as cursor:
        contracts = files.list_contracts(cursor, exchange.name)
    for name, instrument in contracts:
        if name not in datasets:
            continue
        for folder, records in _group_by_folder(services, exchange, name, instrument).items():
            try:
                listed = _list(services, archive, f"{folder}/", records)
            except SourceError as error:
                checked.errors.append(str(error))
                continue
            _compare(services, exchange, datasets[name], records, listed, checked)
    return checked


def _group_by_folder(
    services: Services, exchange: Exchange, dataset: str, instrument: str
) -> dict[str, list[FileRecord]]:
    """Return the files of one contract by folder: those of a whole archive would not fit into memory."""
    with services.database.open_transaction() as cursor:
        known = files.find(cursor, exchange.name, dataset=dataset, instrument=instrument)
    by_folder: dict[str, list[FileRecord]] = {}
    for record in known:
        by_folder.setdefault(record.path.rpartition("/")[0], []).append(record)
    return by_folder


def _list(services: Services, archive: Archive, folder: str, records: Sequence[FileRecord]) -> dict[str, Listed]:
    """Return the files of a folder from the first to the last of `records`; each has a checksum beside it."""
    first, last = (edge(record.path for record in records) for edge in (min, max))
    span_ms = max(record.window.end_ms for record in records) - min(record.window.start_ms for record in records)
    most = 2 * (span_ms // DAY_MS + 2)
    marker: str | None = first[:-1]
    found: dict[str, Listed] = {}
    while marker is not None and marker <= last:
        page = services.archive_client.list_page(archive, folder, marker, most=most)
        found.update({file.path: file for file in skip_checksums(page.files)})
        marker = page.marker
    return found


def _compare(
    services: Services,
    exchange: Exchange,
    dataset: Dataset,
    records: Sequence[FileRecord],
    listed: Mapping[str, Listed],
    checked: Checked,
) -> None:
    tasks: list[Task] = []
    again: dict[str, list[Window]] = {}
    for record in records:
        file = listed.get(record.path)
        source = name_perpspec(exchange.codes[0], dataset.metrics[0])
        if file is None:
            if record.state is not FileState.ABSENT:
                checked.gone.append(record.path)
        elif record.state is FileState.ABSENT:
            checked.new.append(record.path)
            again.setdefault(record.instrument, []).append(record.window)
            tasks.append(Task(Series(source, record.symbol), record.window))
        elif record.state is FileState.QUARANTINED or (record.etag and file.etag != record.etag):
            (checked.tried_again if record.etag in ("", file.etag) else checked.rewritten).append(record.path)
            tasks.append(Task(Series(source, record.symbol), record.window))
        else:
            checked.same += 1
    services.database.run(partial(_note, exchange.name, dataset, records, again))
    enqueue_imports(services.redis, tasks, kind=REIMPORT)


def _note(
    exchange: str,
    dataset: Dataset,
    records: Sequence[FileRecord],
    again: Mapping[str, Sequence[Window]],
    cursor: Cursor,
) -> None:
    for instrument, windows in again.items():
        files.remove_asked(cursor, exchange, dataset.metrics, instrument, windows)
    for instrument in {record.instrument for record in records}:
        files.note_checked(cursor, exchange, dataset.name, instrument)
