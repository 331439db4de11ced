"""The certificate of a range of a series, as `fademoe verify` prints it."""

import msgspec
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, ceil_to, floor_to, now_ms, to_iso
from fademoe.errors import ConfigError
from fademoe.feeds.grid import compute_due_until_ms_of, find_grid
from fademoe.store.certificate import certify
from fademoe.store.coverage import Series
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.snapshot import hold_bulk_snapshot
from fademoe.web.model.answer import Answer
from fademoe.web.problem import Problem


class Certificate(Answer):
    """What a range has: expected, present, absent and missing points of the grid; a sparse series expects none."""

    source: str
    symbol: str
    start: str = msgspec.field(name="from")
    to: str
    expected: int | None
    present: int
    absent: dict[str, int]
    provisional: int
    missing: int
    complete: bool
    rows: int
    sha256: str


def certify_range(cursor: Cursor, spec: Perpspec, symbol: str, window: Window) -> Certificate:
    """Return the certificate of a window, widened to the grid of the perpspec's rows, up to the rows that are due.

    Raises the 400 when none of them is due.
    """
    try:
        grid = find_grid(spec.name)
    except ConfigError as error:  # no exchange that is installed writes it any more
        raise Problem(404, str(error)) from error
    due_until_ms = floor_to(compute_due_until_ms_of(spec.name, lambda exchange: now_ms()), grid.interval_ms)
    end_ms = min(ceil_to(window.end_ms, grid.interval_ms), due_until_ms)
    window = Window(floor_to(window.start_ms, grid.interval_ms), end_ms)
    if window.start_ms >= window.end_ms:
        allowed = f"a time before {to_iso(due_until_ms)}"
        detail = f"rows of {spec.name} are due until {to_iso(due_until_ms)}: from must be earlier"
        raise Problem(400, detail, parameter="from", allowed=allowed)
    with hold_bulk_snapshot(cursor):
        found = certify(cursor, Series(spec.name, symbol), grid.metric, window, grid.interval_ms, sparse=grid.is_sparse)
    return msgspec.convert(found, Certificate)
