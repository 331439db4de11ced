"""The files of a period: fetched, read and proved, or put into quarantine."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from fademoe.archives.labels import Form
from fademoe.archives.reading import FileRows, describe, read_file
from fademoe.client.archive import Download, Mismatch, RefusedFile
from fademoe.clock import DAY_MS, MINUTE_MS, Window, merge, subtract
from fademoe.errors import BadPayload, RetryLater
from fademoe.feeds.archive import ArchiveFile, BadFile
from fademoe.feeds.blocks import make_block, pack_rows
from fademoe.jobs.archive_gathered import Gathered, find_doubtful_holes, find_gathered_holes
from fademoe.jobs.archive_labels import Undecided, find_label, read_beside
from fademoe.jobs.archive_target import (
    BAD_FILE_S,
    BAD_TRIES,
    REFUSALS,
    TRIES,
    Target,
    cut,
    cut_times,
    find_life,
    find_metric_holes,
    is_answering,
    overlap,
)
from fademoe.jobs.threads import run_in_threads
from fademoe.store import coverage, files
from fademoe.store.files import FileRecord, FileState

CONNECTIONS = 4  # of one worker; two workers make the eight that are seen to work
SMALL_HOLE = 0.05  # of a day: REST answers for so little with one request, a file would be no better
NAMED_LINES = 5  # unreadable lines of a file that are recorded


def gather(target: Target) -> Gathered:
    """Fetch and read the files of a period: the month's where it is there and whole, else those of its days."""
    gathered = Gathered()
    month = _take_month(target, gathered)
    if gathered.retry is not None:
        return gathered
    days = _list_needed_days(target, gathered, month)
    if days and target.dataset.day is not None:
        _take_days(target, gathered, days)
    raise_refusal(target, gathered)
    gathered.settle()
    if target.dataset.link is not None:
        _link(target, gathered)
    return gathered


def raise_refusal(target: Target, gathered: Gathered) -> None:
    """Raise the refusal of a file that would be in quarantine for it, where the archive answers for no other one."""
    if gathered.refused is not None and not is_answering(target.context, target.archive):
        raise gathered.refused


def _take_month(target: Target, gathered: Gathered) -> FileRecord | None:
    """Take the month's file where it may be there by now; return its record, None where none was asked for."""
    dataset, period = target.dataset, target.period
    if period.end_ms + dataset.month_after_ms > target.time_ms:
        return None
    record = None
    for file in target.list_month_files():
        record = take(target, gathered, file)
        if record.state is not FileState.ABSENT:
            break
    return record


def _list_needed_days(target: Target, gathered: Gathered, month: FileRecord | None) -> list[Window]:
    """Return the days whose files are needed beside the month's, oldest first.

    The first point of a day may lie in the file of the day before, also of the day before the period.
    """
    if month is not None and month.state is FileState.OK:
        return []
    dataset = target.dataset
    is_read = month is not None and month.state is FileState.SHORT
    holes = [hole for window in target.wanted for hole in _holes_of(target, gathered, cut(window, target.life))]
    needed = set()
    for day in dataset.list_days(target.period):
        inside = [cut(day, hole) for hole in holes if overlap(day, hole)]
        least_ms = SMALL_HOLE * DAY_MS if is_read and not target.is_unlisted else 0
        if sum(part.end_ms - part.start_ms for part in inside) > least_ms:
            needed.add(day)
            if dataset.reaches_next_day and inside[0].start_ms == day.start_ms:
                needed.add(Window(day.start_ms - DAY_MS, day.start_ms))
    return sorted(day for day in needed if day.end_ms + dataset.day_after_ms <= target.time_ms)


def _holes_of(target: Target, gathered: Gathered, window: Window) -> list[Window]:
    """Return the parts of a window in which some metric has no row yet."""
    if window.start_ms >= window.end_ms:
        return []
    rows = [gathered.join(metric)[0] for metric in target.gaps]
    return merge(hole for each in rows for hole in find_gathered_holes(target, gathered, each, window))


def _take_days(target: Target, gathered: Gathered, days: Sequence[Window]) -> None:
    """Take the files of days; they are fetched beside each other, and read one after the other."""
    candidates = [target.list_day_files(day) for day in days]
    prefetches = [partial(_prefetch, target, paths) for paths in candidates]
    futures = run_in_threads(target.context.services.stop, prefetches, CONNECTIONS)
    errors = [error for future in futures if (error := future.exception()) is not None]
    errors = [error for error in errors if not isinstance(error, RefusedFile)]  # `take` counts these
    if errors:
        raise max(errors, key=lambda error: error.retry_after_s if isinstance(error, RetryLater) else 0)
    for paths in candidates:
        for file in paths:
            if take(target, gathered, file).state is not FileState.ABSENT:
                break


def _prefetch(target: Target, paths: Sequence[ArchiveFile]) -> None:
    """Fetch the first file of a day that is there; `take` finds it on disk, and counts one that is not right."""
    client = target.context.services.archive_client
    with suppress(Mismatch):
        for file in paths:
            if client.fetch(target.archive, file.path) is not None:
                return


def take(target: Target, gathered: Gathered, file: ArchiveFile) -> FileRecord:
    """Fetch, read and prove one file; add its rows and its record."""
    record = FileRecord(
        exchange=target.exchange.name,
        path=file.path,
        url=target.context.services.archive_client.make_url(target.archive, file.path),
        dataset=target.dataset.name,
        cadence=file.cadence,
        instrument=target.instrument.name,
        symbol=target.instrument.symbol,
        window=file.window,
        state=FileState.ABSENT,
        terms=target.archive.terms,
    )
    try:
        download = target.context.services.archive_client.fetch(target.archive, file.path)
        if download is None:
            gathered.records.append(record)
            return record
        record = replace(
            record,
            etag=download.etag,
            last_modified=download.last_modified,
            bytes=download.bytes,
            sha256=download.sha256,
            checksum_ok=download.checksum_ok,
        )
        gathered.downloads.append(download)
        found = _read(target, gathered, file, download)
    except RefusedFile as error:
        if target.context.count_failure(f"{BAD_TRIES}:refused:{file.path}") < REFUSALS:
            raise
        gathered.refused = error
        target.context.services.archive_client.forget(target.archive, file.path)
        return _quarantine(target, gathered, file, record, error)
    except (Mismatch, BadFile) as error:
        return _quarantine(target, gathered, file, record, error)
    _record_unreadable(target, file, found)
    record = _judge(target, file, record, found)
    gathered.add(file.path, found)
    gathered.records.append(record)
    return record


def _read(target: Target, gathered: Gathered, file: ArchiveFile, download: Download) -> FileRows:
    """Return the rows of a file, its label applied."""
    found = read_file(download.path, file, target.dataset, replace(target.instrument, name=file.contract))
    if len(target.dataset.shifts) > 1:
        label = find_label(target, gathered, file, found)
        if label.shift_ms is None:
            raise Undecided(label.reason)
        found.shift(label.shift_ms)
    return found


def _quarantine(
    target: Target, gathered: Gathered, file: ArchiveFile, record: FileRecord, error: Exception
) -> FileRecord:
    """Put a file into quarantine after TRIES; before that, note that the job has to run again."""
    key = f"{BAD_TRIES}:{file.path}"
    is_final = isinstance(error, Undecided | RefusedFile) or target.context.count_failure(key) >= TRIES
    if not is_final:
        for download in gathered.downloads:
            if download.path.name == file.path.rpartition("/")[2]:
                download.discard()
        gathered.retry = RetryLater(f"{file.path}: {error}", retry_after_s=BAD_FILE_S, exchange=target.exchange.name)
    else:
        refused = BadPayload(f"quarantined: {error}", exchange=target.exchange.name, request=file.path, http_status=200)
        target.unit.record(refused)
    record = replace(
        record,
        state=FileState.QUARANTINED,
        reason=str(error),
        checksum_ok=False if isinstance(error, Mismatch) else record.checksum_ok,
    )
    gathered.quarantined.append((file.window, f"quarantined: {record.name}: {error}"))
    gathered.records.append(record)
    return record


def _record_unreadable(target: Target, file: ArchiveFile, found: FileRows) -> None:
    """Record the lines of a file that could not be read; what they stand for stays missing."""
    for number, reason in found.unreadable[:NAMED_LINES]:
        error = BadPayload(f"line {number} is unreadable: {reason}")
        error.locate(target.exchange.name, file.path, reason)
        target.unit.record(error)


def _judge(target: Target, file: ArchiveFile, record: FileRecord, found: FileRows) -> FileRecord:
    """Clip a file to the contract's life and compare it with the calendar; return its record."""
    life = find_life(target)
    clipped = _clip(found, life)
    times = found.find_times()
    own = cut(_find_own_window(target, file, found), life)
    inside = cut_times(times, own)
    expected = target.dataset.count_rows(own)
    holes = find_metric_holes(target, inside, own) if own.start_ms < own.end_ms else []
    is_short = bool(holes or found.partial or (found.unreadable and target.dataset.sparse))
    return replace(
        record,
        state=FileState.SHORT if is_short else FileState.OK,
        reason=f"{len(inside)} rows of {expected}" if is_short else "",
        rows=len(inside),
        expected=expected,
        first_ts=int(times[0]) if len(times) else None,
        last_ts=int(times[-1]) if len(times) else None,
        shift_ms=found.shift_ms,
        clipped=clipped,
        details=describe(found),
    )


def _find_own_window(target: Target, file: ArchiveFile, found: FileRows) -> Window:
    """Return the window of the rows of a file: of one that goes to its end they lie a step later."""
    start_ms, end_ms = file.window
    raw = [ts - found.shift_ms for ts in found.find_times().tolist()] if target.dataset.overhang_ms else []
    later_ms = target.dataset.interval_ms if Form.tell(raw, file.window) is Form.TO_END else 0
    return Window(start_ms + found.shift_ms + later_ms, end_ms + found.shift_ms + later_ms)


def _clip(found: FileRows, life: Window) -> int:
    """Drop what lies outside a contract's life; return how many times that were."""
    before = found.find_times()
    if len(cut_times(before, life)) == len(before):
        return 0
    found.rows = {metric: rows.cut(life) for metric, rows in found.rows.items()}
    found.blanks = {
        metric: {ts: why for ts, why in blanks.items() if life.start_ms <= ts < life.end_ms}
        for metric, blanks in found.blanks.items()
    }
    return len(before) - len(found.find_times())


def _link(target: Target, gathered: Gathered) -> None:
    """Complete rows by the time of the row before; before the first one it is looked for in the database."""
    link = target.dataset.link
    if link is None:
        return
    for metric, rows in gathered.rows.items():
        if not rows:
            continue
        first_ms, series = int(rows.times[0]), target.name_series(metric)
        with target.context.services.database.open_transaction() as cursor:
            previous_ms = files.find_last_before(cursor, series, first_ms, target.dataset.due_every_ms + MINUTE_MS)
            is_next = previous_ms is not None and coverage.is_whole(
                cursor, series, Window(previous_ms, first_ms), gathered.find_proved()
            )
        if not is_next:
            previous_ms = _find_previous(target, first_ms)
        span = Window(first_ms, int(rows.times[-1]) + 1)
        holes = [*find_metric_holes(target, rows.times, span), *subtract(span, gathered.find_proved())]
        holes += find_doubtful_holes(target, gathered, metric)
        behind = {hole.end_ms for hole in holes}  # rows before which one may be missing
        linked = [
            row if row.ts in behind else link(row, previous)
            for row, previous in zip(rows.values(), [previous_ms, *rows], strict=False)
        ]
        gathered.rows[metric], _ = make_block(metric, [pack_rows(metric, linked)])


def _find_previous(target: Target, first_ms: int) -> int | None:
    """Return the time of the row before the first one, from the file of that day or of the day before.

    None where a line of such a file cannot be read: it may be that row.
    """
    for day in reversed(target.dataset.list_days(Window(first_ms - DAY_MS, first_ms))):
        for file in target.list_day_files(day):
            found = read_beside(target.context, target.archive, target.dataset, target.instrument, file)
            if found and found.unreadable:
                return None
            times: list[int] = [ts for ts in found.find_times().tolist() if ts < first_ms] if found else []
            if times:
                return max(times)
    return None
