"""Runs of the backtester: their list, reports, ledgers and equity."""

from collections.abc import Iterator
from typing import Any

from flask import Response

from fademoe.store import backtests
from fademoe.store.backtests import EQUITY_COLUMNS, LEDGER_COLUMNS, Backtest
from fademoe.store.read.pool import Reader
from fademoe.web.api.ledger_pages import LIMIT, PAGE_MOST, RowsPage, answer_page, read_after, revalidate
from fademoe.web.current import get_services
from fademoe.web.http.formats import MEDIA_TYPES, encode_csv
from fademoe.web.http.params import CURSOR, Choice, Params, Text
from fademoe.web.http.routes import Bodies, Routes
from fademoe.web.model.answer import Answer
from fademoe.web.problem import Problem

routes = Routes("api_backtests")

LIST_MOST = 500

ID = Text("id", "the id of a run", example="0123456789ab")
FORMAT = Choice("format", "json by default; csv is the whole ledger", ("json", "csv"), "json")


class Runs(Answer):
    """The newest runs."""

    runs: list[dict[str, Any]]


class Report(Answer):
    """A run with what came of it; None until it is done."""

    id: str
    kind: str
    state: str
    strategy: str
    symbols: list[str]
    exchange: str | None
    since: int | None
    until: int | None
    made_ms: int
    ended_ms: int | None
    progress: float
    message: str
    certified: bool | None
    certificate: dict[str, Any] | None
    report: dict[str, Any] | None
    unknown: list[dict[str, Any]] | None


@routes.get("/api/backtests", "The newest runs of the backtester")
def list_backtests(params: Params) -> Runs:
    """Answer the newest runs."""
    with get_services().reader.read() as cursor:
        return Runs(runs=[backtests.summarise(run) for run in backtests.list_runs(cursor, LIST_MOST)])


@routes.get("/api/backtests/<id>", "A run with its certificate and report", (ID,))
def show_backtest(params: Params) -> Report:
    """Answer a run."""
    described = backtests.describe(find_run(params[ID]))
    return Report(**{name: value for name, value in described.items() if name not in ("profit", "return")})


@routes.get(
    "/api/backtests/<id>/ledger",
    "The ledger of a run, in order",
    (ID, CURSOR, LIMIT, FORMAT),
    bodies=Bodies(json=RowsPage, media={"text/csv": {"type": "string"}}),
)
def list_ledger(params: Params) -> Response:
    """Answer a page of the ledger, or all of it as CSV."""
    run = find_run(params[ID])
    if params[FORMAT] == "csv":
        return revalidate(Response(_stream_ledger(get_services().reader, run.id), content_type=MEDIA_TYPES["csv"]))
    with get_services().reader.read() as cursor:
        rows = backtests.read_ledger(cursor, run.id, read_after(params, 0), params[LIMIT] + 1)
    return answer_page(params, LEDGER_COLUMNS, rows)


@routes.get(
    "/api/backtests/<id>/equity",
    "Equity and cash of a run at the end of each minute",
    (ID, CURSOR, LIMIT),
    bodies=Bodies(json=RowsPage),
)
def list_equity(params: Params) -> Response:
    """Answer a page of the equity."""
    run = find_run(params[ID])
    with get_services().reader.read() as cursor:
        rows = backtests.read_equity(cursor, run.id, read_after(params, -1), params[LIMIT] + 1)
    return answer_page(params, EQUITY_COLUMNS, rows)


def find_run(run_id: str) -> Backtest:
    """Return a run; raise the 404 for an unknown one."""
    with get_services().reader.read() as cursor:
        found = backtests.find_run(cursor, run_id)
    if found is None:
        raise Problem(404, f"there is no run {run_id[:100]!r}: /api/backtests lists them")
    return found


def _stream_ledger(reader: Reader, run_id: str) -> Iterator[bytes]:
    yield encode_csv([LEDGER_COLUMNS])
    after = 0
    while True:
        with reader.read() as cursor:
            rows = backtests.read_ledger(cursor, run_id, after, PAGE_MOST)
        if not rows:
            return
        yield encode_csv(rows)
        after = rows[-1][0]
