"""The certificate of a range of a series, as `fademoe verify` prints it."""

import msgspec
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, ceil_to, floor_to
from fademoe.errors import ConfigError
from fademoe.feeds.grid import find_grid
from fademoe.store.certificate import certify
from fademoe.store.coverage import Series
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.windows import hold_bulk
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
    """Return the certificate of a window, widened to the grid of the perpspec's rows."""
    try:
        grid = find_grid(spec.name)
    except ConfigError as error:  # no exchange that is installed writes it any more
        raise Problem(404, str(error)) from error
    window = Window(floor_to(window.start_ms, grid.interval_ms), ceil_to(window.end_ms, grid.interval_ms))
    with hold_bulk(cursor):
        found = certify(cursor, Series(spec.name, symbol), grid.metric, window, grid.interval_ms, sparse=grid.is_sparse)
    return msgspec.convert(found, Certificate)
