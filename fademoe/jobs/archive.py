"""The job of an archive's period: fetch its files, prove them, store what is missing of them with its coverage.

A period is a calendar month of the archive, of one dataset of one contract. Where a month's file is short or not there,
the days' files are taken; what is missing then is left to REST, or absent where REST does not reach. A file never
overwrites a row: values that are stored otherwise are audited.
"""

from typing import NamedTuple

from rq import Retry

from fademoe.clock import Window, to_iso
from fademoe.errors import RetryLater
from fademoe.jobs.archive_audit import audit_files
from fademoe.jobs.archive_files import gather
from fademoe.jobs.archive_store import store
from fademoe.jobs.archive_target import Target, make_targets
from fademoe.jobs.failures import run_job
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.store.coverage import Series
from fademoe.store.files import FileState
from fademoe.store.status import State, Tracked

AWAITED_S = 6 * 3600.0  # until a file that may still come is asked for again


@wrap_job
def import_period(context: JobContext, source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Import what is wanted and missing of a period of an archive's dataset, the one that has `source`.

    Returns counts, or a Retry as every job of a window does. A file that is broken, or that does not fit its checksum,
    is fetched TRIES times a minute apart; then it is in quarantine. One that is not there yet is asked for again after
    AWAITED_S, where nothing else has its rows.
    """
    series, window = Series(source, symbol), Window(start_ms, end_ms)
    unit = _unit_of(context, series)
    return run_job(context, unit, lambda: import_window(context, unit, series, window))


@wrap_job
def reimport_file(context: JobContext, source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Fetch the files of a window again that were rewritten since, and audit the stored rows by them."""
    series, window = Series(source, symbol), Window(start_ms, end_ms)
    unit = _unit_of(context, series)
    return run_job(context, unit, lambda: audit_files(context, unit, series, window))


def _unit_of(context: JobContext, series: Series) -> Tracked:
    return Tracked(
        database=context.services.database,
        unit=f"archive {series.source} {series.symbol}",
        source=series.source,
        symbol=series.symbol,
    )


def import_window(context: JobContext, unit: Tracked, series: Series, window: Window) -> dict[str, int]:
    """Do the work of `import_period`; raise SourceError, StoreError or Stopped."""
    counts = {"files": 0, "rows": 0}
    awaited: list[str] = []
    for target in make_targets(context, unit, series, window):
        if not target.wanted:
            continue
        imported = _import_target(target, window)
        counts = {"files": counts["files"] + imported.files, "rows": counts["rows"] + imported.rows}
        awaited += [] if imported.is_complete else [f"{target.dataset.name} of {target.instrument.name}"]
    if awaited:
        message = f"{to_iso(window.start_ms)}: files may still come: {', '.join(awaited)}"
        raise RetryLater(message, retry_after_s=AWAITED_S)
    return counts


class Imported(NamedTuple):
    """What became of a target: how many files were asked for, how many rows are new, whether no file is waited for."""

    files: int
    rows: int
    is_complete: bool


def _import_target(target: Target, window: Window) -> Imported:
    name, unit = f"{target.dataset.name} {to_iso(window.start_ms)}", target.unit
    unit.report(State.RUNNING, f"{name}: fetching")
    gathered = gather(target)
    if gathered.retry is not None:
        raise gathered.retry
    rows, is_complete = store(target, gathered)
    for download in gathered.downloads:
        download.discard()
    bad = [each for each in gathered.records if each.state is FileState.QUARANTINED]
    detail = f"{rows} new rows of {len(gathered.records)} files"
    detail += f", {len(bad)} in quarantine: {bad[0].name}: {bad[0].reason}" if bad else ""
    unit.report(State.DONE, f"{name}: {detail}", new_rows=rows, last_ts=window.end_ms)
    return Imported(len(gathered.records), rows, is_complete)
