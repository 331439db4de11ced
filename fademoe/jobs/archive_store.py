"""What the files of a period prove: rows, coverage and reasons, stored with the ledger in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, floor_to, merge, now_ms, subtract
from fademoe.feeds.blocks import Block, make_block, pack_rows
from fademoe.feeds.paging import compute_requested_from_ms
from fademoe.jobs.archive_audit import compare
from fademoe.jobs.archive_gathered import Gathered, find_edges, find_gathered_holes
from fademoe.jobs.archive_target import Target, cut, find_life, overlap
from fademoe.jobs.linking import link_following
from fademoe.metrics import name_perpspec
from fademoe.queue.enqueue import enqueue_imports
from fademoe.queue.ids import REIMPORT, Task
from fademoe.store import files
from fademoe.store.arrivals import Origin, Way
from fademoe.store.coverage import DELISTED, Absence, Covered, Series
from fademoe.store.files import FileRecord, FileState
from fademoe.store.writer import store_block, store_rows

NOT_IN_ARCHIVE = "not in archive, not in REST"
UNREADABLE = "unreadable in archive, not in REST"


@dataclass(frozen=True, kw_only=True)
class Concluded:
    """What the files prove of a metric's gaps, the rows to store, and the ranges whose files may still come."""

    answer: Covered
    rows: Block
    awaited: Sequence[Window]


def store(target: Target, gathered: Gathered) -> tuple[int, bool]:
    """Store rows, coverage, the ledger and what was asked in one transaction.

    Files that were rewritten since another import took them are enqueued to be imported again: what they had stored is
    audited. Returns how many rows were new, and whether no file is waited for.
    """
    began_ms = now_ms()
    services = target.context.services
    concluded = {metric: _conclude(target, gathered, metric, gaps) for metric, gaps in target.gaps.items()}
    services.writer.make_room(ts for each in concluded.values() for ts in find_edges(each.rows))
    differing = compare(target, gathered)
    records = [replace(each, differing=differing.get(each.path, 0)) for each in gathered.records]
    first = Series(name_perpspec(target.code, target.dataset.metrics[0]), target.instrument.symbol)
    again = [Task(first, window) for window in _find_rewritten(target, records)]
    enqueue_imports(services.redis, again, kind=REIMPORT)  # now: afterwards nothing shows that they were rewritten
    new: int = services.database.run(partial(_write, target, gathered, records, concluded, began_ms))
    for metric, each in concluded.items():
        if each.rows or target.dataset.sparse:
            link_following(services.database, target.get_feed(metric), target.name_series(metric), each.answer.windows)
    return new, not any(each.awaited for each in concluded.values())


def _find_rewritten(target: Target, records: Sequence[FileRecord]) -> list[Window]:
    """Return the windows of the good files among `records` that the ledger has as good ones of another content."""
    good = (FileState.OK, FileState.SHORT)
    fresh = {each.path: each for each in records if each.state in good and each.etag}
    with target.context.services.database.open_transaction() as cursor:
        known = files.find(cursor, target.exchange.name, paths=list(fresh))
    return sorted(
        {each.window for each in known if each.state in good and each.etag not in ("", fresh[each.path].etag)}
    )


def _write(
    target: Target,
    gathered: Gathered,
    records: Sequence[FileRecord],
    concluded: Mapping[str, Concluded],
    began_ms: int,
    cursor: Cursor,
) -> int:
    ids = files.save(cursor, records)
    new = 0
    for metric, each in concluded.items():
        requested = [part for gap in target.gaps[metric] for part in subtract(gap, each.awaited)]
        files.add_asked(cursor, target.exchange.name, metric, target.instrument.name, requested)
        feed, series, rows = target.get_feed(metric), target.name_series(metric), each.rows
        for path, of_file in gathered.split(metric, rows) if rows else ():
            origin = Origin(Way.ARCHIVE, ids[path], began_ms)
            new += store_block(cursor, of_file, feed.interval, series, origin)
    store_rows(cursor, [], [each.answer for each in concluded.values() if each.answer.windows])
    return new


def _conclude(target: Target, gathered: Gathered, metric: str, gaps: Sequence[Window]) -> Concluded:
    """Return what the files prove of a metric's gaps, and the rows to store.

    A hole that REST may fill, or a file that may still come, is left out; any other is absent, with the reason.
    """
    feed, life = target.get_feed(metric), find_life(target)
    nothing, _ = make_block(metric, [pack_rows(metric, [])])
    found = gathered.rows.get(metric, nothing)
    reachable_ms = max(compute_requested_from_ms(feed, target.time_ms), 0)
    coming = _find_coming(target, gathered)
    covered: list[Window] = []
    awaited: list[Window] = []
    absences: list[Absence] = []
    parts = [nothing]
    for gap in gaps:
        alive = cut(gap, life)
        if target.end_ms is not None and gap.end_ms > max(target.end_ms, gap.start_ms):
            ended = Window(max(target.end_ms, gap.start_ms), gap.end_ms)
            absences.append(Absence(ended, DELISTED))
            covered.append(ended)
        if alive.start_ms >= alive.end_ms:
            continue
        usable = found.cut(alive).without(set() if target.is_unlisted else gathered.partial)
        parts.append(usable)
        left: list[Window] = []
        for hole in find_gathered_holes(target, gathered, usable, alive):
            reached = [Window(max(hole.start_ms, reachable_ms), hole.end_ms)] if hole.end_ms > reachable_ms else []
            reached = [] if target.is_unlisted else reached
            left += reached
            for part in subtract(hole, reached):
                held = [cut(part, each) for each in coming if overlap(part, each)]
                awaited += held
                for absent in subtract(part, held):
                    absences += _explain(target, gathered, metric, absent)
        covered += subtract(alive, [*left, *awaited])
    answer = Covered(target.name_series(metric), merge(covered), absences, feed.interval_ms, "archive")
    rows, _ = make_block(metric, parts)
    return Concluded(answer=answer, rows=rows, awaited=awaited)


def _find_coming(target: Target, gathered: Gathered) -> list[Window]:
    """Return the windows of the files that are absent and may still be published."""
    dataset = target.dataset
    final_ms = {"month": dataset.month_final_ms, "day": dataset.day_final_ms}
    there = {record.window for record in gathered.records if record.state is not FileState.ABSENT}
    return merge(
        record.window
        for record in gathered.records
        if record.state is FileState.ABSENT
        and record.window not in there
        and record.window.end_ms + final_ms[record.cadence] > target.time_ms
    )


def _explain(target: Target, gathered: Gathered, metric: str, hole: Window) -> list[Absence]:
    """Return why there are no rows in a hole that REST does not reach either, each reason with its range."""
    step_ms = target.dataset.interval_ms
    blanks = gathered.blanks.get(metric, {})
    if target.dataset.sparse:  # a hole of several days is explained as a whole
        broken = [why for window, why in gathered.quarantined if overlap(window, hole)]
        broken += [why for ts, why in blanks.items() if hole.start_ms <= ts < hole.end_ms]
        broken += [UNREADABLE for window in gathered.find_doubtful() if overlap(window, hole)]
        return [Absence(hole, next(iter(broken), NOT_IN_ARCHIVE))]
    absences: list[Absence] = []
    for ts in range(floor_to(hole.start_ms, step_ms), hole.end_ms, step_ms):
        reason = blanks.get(ts) or _find_quarantine(target, gathered, ts) or NOT_IN_ARCHIVE
        part = Window(max(ts, hole.start_ms), min(ts + step_ms, hole.end_ms))
        if absences and absences[-1].reason == reason:
            absences[-1] = Absence(Window(absences[-1].window.start_ms, part.end_ms), reason)
        else:
            absences.append(Absence(part, reason))
    return absences


def _find_quarantine(target: Target, gathered: Gathered, ts: int) -> str:
    """Return why the file of a time is in quarantine, "" where it is not."""
    reach_ms = target.dataset.overhang_ms
    return next((why for window, why in gathered.quarantined if window.start_ms <= ts < window.end_ms + reach_ms), "")
