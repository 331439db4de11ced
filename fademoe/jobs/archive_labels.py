"""Which instant the lines of a file describe: decided by the contract's closes, else as the reference's file was."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from fademoe.archives.closes import MinuteCloses
from fademoe.archives.labels import Form, Label, decide_label
from fademoe.archives.reading import FileRows, read_file
from fademoe.client.archive import Mismatch, RefusedFile
from fademoe.clock import DAY_MS, MINUTE_MS, Window
from fademoe.errors import RetryLater
from fademoe.feeds.archive import Archive, ArchiveFile, BadFile, Dataset
from fademoe.feeds.instrument import Instrument
from fademoe.jobs.archive_gathered import Gathered
from fademoe.jobs.archive_target import BAD_FILE_S, BAD_TRIES, REFUSALS, TRIES, Target, cut, find_life, is_answering
from fademoe.runtime.job_context import JobContext
from fademoe.store import files
from fademoe.store.files import FileState

log = logging.getLogger(__name__)

CLOSES = 0.95  # of a day: where fewer of its closes are stored, those of the archive are read


class Broken(RetryLater):
    """A file by which others are judged is broken; it is fetched again."""


class Undecided(BadFile):
    """The label of a file cannot be told; another try would not change that."""


def find_label(target: Target, gathered: Gathered, file: ArchiveFile, found: FileRows) -> Label:
    """Decide which instant the lines of a file describe: by its prices, else as the reference's file was decided."""
    reach_ms = max(target.dataset.shifts) + MINUTE_MS
    window = Window(file.window.start_ms - reach_ms, file.window.end_ms + reach_ms)
    if gathered.closes is None:
        gathered.closes = _load_closes(target)
    label = decide_label(found.prices, gathered.closes.read(window), target.dataset.shifts)
    if label.shift_ms is not None or not label.is_flat:
        return label
    form = Form.tell(found.find_times().tolist(), file.window)
    reference = _decide_by_reference(target, file, form)
    if reference is None or label.hints - {reference} or (form is None and not label.hints):
        return label
    return Label(reference, "by the reference's file")


def _load_closes(target: Target) -> MinuteCloses:
    """Return the closes of the period's minutes per unit of the contract's price: stored ones, else of the archive."""
    reach_ms = max(target.dataset.shifts) + MINUTE_MS
    period = Window(target.period.start_ms - DAY_MS, target.period.end_ms)  # see _list_needed_days
    window = Window(period.start_ms - reach_ms, period.end_ms + reach_ms)
    closes = MinuteCloses(window)
    with target.context.services.database.open_transaction() as cursor:
        times, stored = files.read_closes(cursor, target.name_series("ohlcv"), window)
    closes.put(times, stored * target.instrument.multiplier)
    days = [
        day
        for day in target.dataset.list_days(cut(period, find_life(target)))
        if closes.count(day) * MINUTE_MS < CLOSES * DAY_MS
    ]
    if days:
        names = target.names
        closes.add(read_archive_closes(target.context, target.archive, target.instrument, names, days, window))
    return closes


def read_archive_closes(
    context: JobContext,
    archive: Archive,
    instrument: Instrument,
    names: Sequence[str],
    days: Sequence[Window],
    window: Window,
) -> MinuteCloses:
    """Return closes of the archive's files of candles, per unit of the contract's price; nothing of it is stored.

    `names`: under which the archive may have the contract. `days`: those whose closes are needed, the last one of the
    period whose file is read. `window`: in which closes are taken. Raises Broken while a file is broken, at most TRIES.
    """
    candles, closes = archive.find_dataset("ohlcv"), MinuteCloses(window)
    if candles is None:
        return closes
    broken: Broken | None = None

    def read(paths: Sequence[ArchiveFile]) -> None:
        nonlocal broken
        try:
            _read_closes(context, archive, candles, instrument, paths, closes)
        except Broken as error:  # all are looked at in one run
            broken = error

    def lack(day: Window) -> bool:
        return not closes.has_any_hour(day)

    month = candles.find_period(days[-1].start_ms)
    of_month = [file for name in names for file in candles.list_month_files(name, month)]
    if len(days) > 1:
        read(of_month)
    for day in filter(lack, days):
        read([file for name in names for file in candles.list_day_files(name, day)])
    if len(days) == 1 and lack(days[0]):  # a day may lie in the month's file only
        read(of_month)
    if broken is not None:
        raise broken
    return closes


def _read_closes(
    context: JobContext,
    archive: Archive,
    candles: Dataset,
    instrument: Instrument,
    paths: Sequence[ArchiveFile],
    closes: MinuteCloses,
) -> None:
    """Add the closes of the first of some files that is there."""
    for file in paths:
        found = read_beside(context, archive, candles, instrument, file)
        if found is not None:
            rows = found.rows["ohlcv"]
            closes.put(rows.times, rows.read_floats("c") * instrument.multiplier)
            return


def read_beside(
    context: JobContext, archive: Archive, dataset: Dataset, instrument: Instrument, file: ArchiveFile
) -> FileRows | None:
    """Return the rows of a file by which another one is judged, and which are not stored; None without such a file.

    One that is broken, or does not fit its checksum, raises Broken as often as TRIES says; then it counts as none. One
    that is refused is asked for as often as REFUSALS says, and as long as no other file is answered.
    """
    try:
        download = context.services.archive_client.fetch(archive, file.path, use="closes")
        if download is None:
            return None
        try:
            return read_file(download.path, file, dataset, replace(instrument, name=file.contract))
        finally:
            download.discard()
    except RefusedFile as error:
        refusals = context.count_failure(f"{BAD_TRIES}:refused:beside:{file.path}")
        if refusals < REFUSALS or not is_answering(context, archive):
            raise
        context.services.archive_client.forget(archive, file.path, use="closes")
        log.warning("%s tells nothing of the files beside it: %s", file.path, error)
        return None
    except (Mismatch, BadFile) as error:
        if context.count_failure(f"{BAD_TRIES}:beside:{file.path}") < TRIES:
            raise Broken(f"{file.path}: {error}", retry_after_s=BAD_FILE_S, exchange=archive.exchange) from error
        log.warning("%s tells nothing of the files beside it: %s", file.path, error)
        return None


def _decide_by_reference(target: Target, file: ArchiveFile, form: Form | None) -> int | None:
    """Return the label of the same day's file of the contract that others are measured by, None where it has none.

    A file of another form than `form`, rewritten when this one was not, says nothing about this one. The form is None
    where a file has neither edge of the day, such as on the evening of a listing.
    """
    services, dataset = target.context.services, target.dataset
    name = dataset.reference
    if not name or name == target.instrument.name:
        return None
    paths = dataset.list_day_files(name, file.window)
    with services.database.open_transaction() as cursor:
        known = files.find(cursor, target.exchange.name, paths=[each.path for each in paths])
    for record in known:
        if record.state in (FileState.OK, FileState.SHORT):
            edges = [ts - record.shift_ms for ts in (record.first_ts, record.last_ts) if ts is not None]
            return record.shift_ms if form in (None, Form.tell(edges, record.window)) else None
    instrument = replace(target.instrument, name=name, multiplier=1)
    for path in paths:
        found = read_beside(target.context, target.archive, dataset, instrument, path)
        if found is None:
            continue
        if form not in (None, Form.tell(found.find_times().tolist(), path.window)):
            return None
        reach_ms = max(dataset.shifts) + MINUTE_MS
        around = Window(path.window.start_ms - reach_ms, path.window.end_ms + reach_ms)
        closes = read_archive_closes(target.context, target.archive, instrument, [name], [path.window], around)
        return decide_label(found.prices, closes.read(around), dataset.shifts).shift_ms
    return None
