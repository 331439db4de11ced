"""Where a sparse feed's silence is asked about again: an answer without a row is a fact of it, and may be a failure.

Two silences are doubtful. A settlement that was to come, by the one before it, did not: it may be late. Or a whole
answer about a day or more of a contract's life, up to a time of which the exchange keeps all rows, holds no event.
"""

from collections.abc import Sequence
from itertools import pairwise

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, merge, subtract
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import clip_to_listing
from fademoe.feeds.paging import compute_retained_from_ms, list_pages
from fademoe.jobs.fetch import DUE_TOLERANCE_MS, Fetched
from fademoe.jobs.window_run import Work
from fademoe.store import settlements
from fademoe.store.settlements import Settled


def find_silences(
    work: Work, endpoint: RestFeed, requested: Sequence[Window], fetched: Fetched, time_ms: int
) -> list[Window]:
    """Return what of ascending windows was answered with a doubtful silence; nothing of a feed that is not sparse."""
    if not endpoint.sparse:
        return []
    if endpoint.due_every_ms:
        silences = [
            silence for window in requested for silence in _find_overdue(work, endpoint, window, fetched, time_ms)
        ]
    else:
        silences = _find_empty_pages(work, endpoint, requested, fetched, time_ms)
    return [part for silence in silences for part in subtract(silence, subtract(silence, fetched.answered))]


def _find_overdue(work: Work, endpoint: RestFeed, window: Window, fetched: Fetched, time_ms: int) -> list[Window]:
    """Return where in a window a settlement was to come, by the one before it, and none is known.

    Between two settlements that is looked at beside the edges of the window; elsewhere the distances of their
    neighbours tell it (see `find_overdue`).
    """
    reach_ms = endpoint.due_every_ms + DUE_TOLERANCE_MS
    alive = clip_to_listing(work.instrument, window)
    found = [Settled(row.ts, getattr(row, "fr_hours", None)) for row in fetched.rows.values() if row.ts < window.end_ms]
    with work.services.database.open_transaction() as cursor:
        before = settlements.find_newest(cursor, *work.series, Window(window.start_ms - reach_ms, window.start_ms))
        inside = settlements.find_newest(cursor, *work.series, window)
    by_ts = {each.ts: each for each in (before, inside, *found) if each is not None}
    known = [by_ts[ts] for ts in sorted(by_ts)]
    between = list(pairwise(known))
    silences = [
        Window(_find_due_ms(endpoint, one), other.ts)
        for one, other in {*between[:2], *between[-1:]}
        if _find_due_ms(endpoint, one) + DUE_TOLERANCE_MS < other.ts
    ]
    if before is None and between and known[1].hours:  # nothing says whether one came before the first
        earlier_ms = known[0].ts - known[1].hours * HOUR_MS
        least_ms = max(alive.start_ms, compute_retained_from_ms(endpoint, time_ms))
        silences += [Window(earlier_ms, known[0].ts)] if earlier_ms >= least_ms else []
    due_ms = _find_due_ms(endpoint, known[-1]) if known else alive.end_ms
    if due_ms < alive.end_ms:
        grid_ms = endpoint.newest.grid_ms if endpoint.newest else 0
        is_alone = window.end_ms <= due_ms + grid_ms  # no other one can have been due behind it
        silences.append(Window(due_ms, due_ms + MINUTE_MS + DUE_TOLERANCE_MS if is_alone else window.end_ms))
    return merge(
        Window(max(floor_to(silence.start_ms, MINUTE_MS) - DUE_TOLERANCE_MS, window.start_ms), silence.end_ms)
        for silence in silences
        if window.start_ms <= silence.start_ms
    )


def _find_due_ms(endpoint: RestFeed, settled: Settled) -> int:
    """Return when the settlement after one is to come at the latest."""
    hours_ms = settled.hours * HOUR_MS if settled.hours else endpoint.due_every_ms
    return settled.ts + min(endpoint.due_every_ms, hours_ms)


def _find_empty_pages(
    work: Work, endpoint: RestFeed, requested: Sequence[Window], fetched: Fetched, time_ms: int
) -> list[Window]:
    """Return the requested parts of the pages that hold no row; what is older than is kept often has none."""
    retained_ms, times = compute_retained_from_ms(endpoint, time_ms), sorted(fetched.rows)
    empty: list[Window] = []
    for span, parts in list_pages(endpoint, requested):
        alive = [clip_to_listing(work.instrument, part) for part in parts]
        alive_ms = sum(max(0, part.end_ms - part.start_ms) for part in alive)
        is_empty = not any(span.start_ms <= ts < span.end_ms for ts in times)
        if is_empty and alive_ms >= DAY_MS and span.end_ms > retained_ms:
            empty += parts
    return empty
