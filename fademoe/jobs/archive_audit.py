"""Files beside what is stored: a new one changes nothing, a rewritten one corrects what it had stored."""

from collections.abc import Collection, Sequence
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, Window, floor_to, merge, to_iso
from fademoe.feeds.blocks import Block
from fademoe.feeds.paging import compute_requested_from_ms
from fademoe.jobs.archive_files import raise_refusal, take
from fademoe.jobs.archive_gathered import Gathered, find_edges
from fademoe.jobs.archive_target import Target, cut, make_targets
from fademoe.queue.enqueue import enqueue_audits
from fademoe.queue.ids import Task
from fademoe.runtime.job_context import JobContext
from fademoe.store import arrivals, corrections, coverage, files
from fademoe.store.arrivals import Origin, Way
from fademoe.store.coverage import Covered, Series
from fademoe.store.files import FileState
from fademoe.store.status import State, Tracked
from fademoe.store.writer import store_block, store_rows


def compare(target: Target, gathered: Gathered) -> dict[str, int]:
    """Compare the files with rows that were stored before; return by path how many values differ.

    The days in which any does are audited over REST: a file changes nothing.
    """
    services = target.context.services
    counts: dict[str, int] = {}
    for metric, rows in gathered.rows.items():
        with services.database.open_transaction() as cursor:
            differences, _ = _compare_rows(cursor, target, metric, rows)
        for change in differences:
            path = gathered.find_file(metric, change.ts)
            counts[path] = counts.get(path, 0) + 1
        _enqueue_audits(target, metric, differences)
    return counts


def _enqueue_audits(target: Target, metric: str, differences: Sequence[corrections.Difference]) -> None:
    """Enqueue the audit of the days in which values differ."""
    days = sorted({floor_to(change.ts, DAY_MS) for change in differences})
    tasks = [Task(target.name_series(metric), Window(day, day + DAY_MS)) for day in days]
    enqueue_audits(target.context.services.redis, target.exchange.name, tasks)


def _compare_rows(
    cursor: Cursor, target: Target, metric: str, rows: Block
) -> tuple[list[corrections.Difference], list[int]]:
    """Compare rows with what is stored where the series is covered, day by day.

    Returns the values that differ, and the times of rows that are not stored.
    """
    series, interval = target.name_series(metric), target.get_feed(metric).interval
    differences: list[corrections.Difference] = []
    missing: list[int] = []
    if not rows:
        return differences, missing
    first_ms, last_ms = find_edges(rows)
    for window in coverage.find_covered(cursor, series, Window(first_ms, last_ms + 1)):
        for day in target.dataset.list_days(window):
            part = cut(day, window)
            known = rows.cut(part)
            stored = corrections.read_stored_rows(cursor, series, metric, interval, [part])
            differences += corrections.find_differences(metric, stored, known) if stored else []
            missing += known.without(stored).times.tolist()
    return differences, missing


def audit_files(context: JobContext, unit: Tracked, series: Series, window: Window) -> dict[str, int]:
    """Do the work of `reimport_file`: correct what the rewritten files of a window have otherwise, add what they have.

    A file corrects the rows that it had stored itself; such as came from elsewhere only where it was good before and
    REST does not have them any more; none that lies behind its own period. Where other rows differ, the day is audited
    over REST. Every change is in perp_corrections with the file. Nothing is removed, and coverage only grows.
    """
    counts = {"corrected": 0, "added": 0}
    for target in make_targets(context, unit, series, window):
        gathered = Gathered()
        paths = {file.path: file for file in (*target.list_month_files(), *target.list_day_files(window))}
        with context.services.database.open_transaction() as cursor:
            known = files.find(cursor, target.exchange.name, paths=list(paths))
        for record in known:
            if record.window == window and record.instrument == target.instrument.name:
                take(target, gathered, paths[record.path])
        raise_refusal(target, gathered)
        gathered.settle()
        if gathered.retry is not None:
            raise gathered.retry
        context.services.writer.make_room(ts for rows in gathered.rows.values() for ts in find_edges(rows))
        rewritten = {record.path for record in known if record.state in (FileState.OK, FileState.SHORT)}
        corrected, added, others = context.services.database.run(partial(_correct, target, gathered, rewritten))
        for metric, differences in others.items():
            _enqueue_audits(target, metric, differences)
        for download in gathered.downloads:
            download.discard()
        counts = {"corrected": counts["corrected"] + corrected, "added": counts["added"] + added}
    detail = f"{counts['corrected']} values corrected, {counts['added']} rows added"
    unit.report(State.DONE, f"rewritten files of {to_iso(window.start_ms)}: {detail}")
    return counts


def _find_own_times(
    cursor: Cursor,
    target: Target,
    metric: str,
    changes: Sequence[corrections.Difference],
    file_id: int,
    *,
    was_good: bool,
) -> set[int]:
    """Return the times of those rows that a file may correct: its own; if it was good, what REST has no more, too."""
    times = {change.ts for change in changes}
    stored_by = arrivals.find_files(cursor, target.name_series(metric), times)
    reachable_ms = compute_requested_from_ms(target.get_feed(metric), target.time_ms)
    gone = {ts for ts in times if target.is_unlisted or ts < reachable_ms} if was_good else set()
    return {ts for ts in times if ts in gone or stored_by.get(ts) == file_id}


def _correct(
    target: Target, gathered: Gathered, rewritten: Collection[str], cursor: Cursor
) -> tuple[int, int, dict[str, list[corrections.Difference]]]:
    """Store what `audit_files` does; return how many values were corrected, rows added, and what else differs.

    `rewritten`: the paths of files that were good before.
    """
    ids = files.save(cursor, gathered.records)
    corrected, added = 0, 0
    others: dict[str, list[corrections.Difference]] = {}
    answers: list[Covered] = []
    for metric, rows in gathered.rows.items():
        series, feed = target.name_series(metric), target.get_feed(metric)
        changes, missing = _compare_rows(cursor, target, metric, rows)
        strays = {ts for _, part in gathered.strays.get(metric, ()) for ts in part}
        for path, file_id in ids.items():
            mine = [change for change in changes if gathered.find_file(metric, change.ts) == path]
            of_file = _find_own_times(cursor, target, metric, mine, file_id, was_good=path in rewritten) - strays
            known = [change for change in mine if change.ts in of_file]
            corrected += corrections.correct(cursor, series, feed.interval, known, file_id)
            others.setdefault(metric, []).extend(sorted({*mine} - {*known}))
        for path, fresh in gathered.split(metric, rows.pick(missing)):
            corrections.record_missing(cursor, series, list(fresh), ids[path])
            added += store_block(cursor, fresh, feed.interval, series, Origin(Way.ARCHIVE, ids[path], None))
        if missing:
            step_ms = feed.interval_ms
            answers.append(Covered(series, merge(Window(ts, ts + step_ms) for ts in missing), interval_ms=step_ms))
    store_rows(cursor, [], answers)
    return corrected, added, others
