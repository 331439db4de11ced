"""Runs of the backtester in the database: their plans, states, ledgers and reports."""

import io
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.store.queries import load_queries

SQL = load_queries("backtests")
RUN, SWEEP, WALK_FORWARD = "run", "sweep", "walk-forward"
QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
LEDGER_COLUMNS = ("seq", "ts", "kind", "symbol", "quantity", "price", "fee", "amount", "cash", "position", "reason")
EQUITY_COLUMNS = ("ts", "equity", "cash")


class Backtest(NamedTuple):
    """A run and what came of it; times in ms, `progress` a share from 0 to 1. None: not yet."""

    id: str
    kind: str
    state: str
    title: str
    plan: dict[str, Any]
    made_ms: int
    ended_ms: int | None
    progress: float
    message: str
    certified: bool | None
    certificate: str | None  # canonical JSON
    report: dict[str, Any] | None
    unknown: list[dict[str, Any]] | None


def add(cursor: Cursor, kind: str, title: str, plan: Mapping[str, Any], *, state: str = QUEUED) -> str:
    """Add a run and return its id."""
    run_id = secrets.token_hex(6)
    values = {"id": run_id, "kind": kind, "state": state, "title": title, "plan": json.dumps(plan)}
    cursor.execute(SQL["add"], values)
    return run_id


def count_queued(cursor: Cursor) -> int:
    """Return how many runs wait."""
    cursor.execute(SQL["count_queued"])
    return int((cursor.fetchone() or (0,))[0])


def begin(cursor: Cursor, run_id: str, plan: Mapping[str, Any]) -> None:
    """Let a run be running by this plan; what an earlier try of it stored is gone."""
    cursor.execute(SQL["begin"], {"id": run_id, "plan": json.dumps(plan)})
    cursor.execute(SQL["clear"], {"id": run_id})


def report_progress(cursor: Cursor, run_id: str, progress: float) -> bool:
    """Store the share that is done; return False when the run is to end: it was cancelled or removed."""
    cursor.execute(SQL["progress"], {"id": run_id, "progress": progress})
    return cursor.fetchone() is not None


class Chunk(NamedTuple):
    """A chunk of a sweep, of `chunks` with the choice of the best, over rows with the hash `data`."""

    run_id: str
    data: str
    number: int
    chunks: int


def report_chunk(cursor: Cursor, chunk: Chunk, share: float) -> bool:
    """Store which share of a chunk is done, and the run's progress; return False when the run is to end."""
    values = {"id": chunk.run_id, "data": chunk.data, "chunk": chunk.number, "share": share, "chunks": chunk.chunks}
    cursor.execute(SQL["chunk_share"], values)
    cursor.execute(SQL["chunks_progress"], values)
    return cursor.fetchone() is not None


def add_chunk(cursor: Cursor, chunk: Chunk, trials: str) -> bool:
    """Store what a chunk earned, once; return False when the run is to end."""
    values = {"id": chunk.run_id, "data": chunk.data, "chunk": chunk.number, "trials": trials, "chunks": chunk.chunks}
    cursor.execute(SQL["add_chunk"], values)
    cursor.execute(SQL["chunks_progress"], values)
    return cursor.fetchone() is not None


def list_chunks(cursor: Cursor, run_id: str, data: str) -> set[int]:
    """Return the numbers of the chunks that are stored."""
    cursor.execute(SQL["chunk_numbers"], {"id": run_id, "data": data})
    return {number for (number,) in cursor.fetchall()}


def read_chunks(cursor: Cursor, run_id: str, data: str) -> list[tuple[int, str]]:
    """Return the chunks that are stored: number and trials."""
    cursor.execute(SQL["chunks"], {"id": run_id, "data": data})
    return cursor.fetchall()


def forget_chunks(cursor: Cursor) -> set[str]:
    """Delete the chunks of all runs that have ended; return the ids of those that have not."""
    cursor.execute(SQL["forget_chunks"])
    cursor.execute(SQL["going"])
    return {run_id for (run_id,) in cursor.fetchall()}


def finish(
    cursor: Cursor,
    run_id: str,
    *,
    certified: bool,
    certificate: str,
    report: Mapping[str, Any],
    unknown: Sequence[Mapping[str, Any]],
    ledger: str = "",
    equity: str = "",
) -> bool:
    """Store what came of a run: lines of ledger and equity as COPY takes them; return False when it was cancelled."""
    values = {"id": run_id, "certified": certified, "certificate": certificate}
    cursor.execute(SQL["finish"], {**values, "report": json.dumps(report), "unknown": json.dumps(unknown)})
    if cursor.fetchone() is None:
        return False
    for table, columns, lines in (
        ("perp_backtest_ledger", LEDGER_COLUMNS, ledger),
        ("perp_backtest_equity", EQUITY_COLUMNS, equity),
    ):
        text = "".join(f"{run_id}\t{line}" for line in lines.splitlines(keepends=True))
        cursor.copy_from(io.StringIO(text), table, columns=("run", *columns))
    return True


def fail(cursor: Cursor, run_id: str, message: str) -> None:
    """Store why a run failed."""
    cursor.execute(SQL["fail"], {"id": run_id, "message": message})


def cancel(cursor: Cursor, run_id: str) -> bool:
    """Let a run end; return False when it had ended, or there is none."""
    cursor.execute(SQL["cancel"], {"id": run_id})
    return cursor.fetchone() is not None


def remove(cursor: Cursor, run_id: str) -> bool:
    """Delete a run with all that came of it; return whether there was one."""
    cursor.execute(SQL["remove"], {"id": run_id})
    return cursor.fetchone() is not None


def list_runs(cursor: Cursor, limit: int) -> list[Backtest]:
    """Return the newest runs."""
    cursor.execute(SQL["runs"], {"id": None, "limit": limit})
    return [Backtest(*row) for row in cursor.fetchall()]


def find_run(cursor: Cursor, run_id: str) -> Backtest | None:
    """Return a run, None where there is none of that id."""
    cursor.execute(SQL["runs"], {"id": run_id, "limit": 1})
    row = cursor.fetchone()
    return None if row is None else Backtest(*row)


def read_ledger(cursor: Cursor, run_id: str, after: int, limit: int) -> list[tuple[Any, ...]]:
    """Return the rows of a ledger behind the number `after`, in the order of LEDGER_COLUMNS, decimals as text."""
    cursor.execute(SQL["ledger"], {"id": run_id, "after": after, "limit": limit})
    return cursor.fetchall()


def read_equity(cursor: Cursor, run_id: str, after: int, limit: int) -> list[tuple[Any, ...]]:
    """Return the rows of the equity behind the time `after`, in the order of EQUITY_COLUMNS, decimals as text."""
    cursor.execute(SQL["equity"], {"id": run_id, "after": after, "limit": limit})
    return cursor.fetchall()


def summarise(run: Backtest) -> dict[str, Any]:
    """Return a run for a list, as values that JSON can hold."""
    report = run.report or {}
    return {
        "id": run.id,
        "kind": run.kind,
        "state": run.state,
        "strategy": run.title,
        "symbols": run.plan.get("symbols", []),
        "exchange": run.plan.get("exchange"),
        "since": run.plan.get("since"),
        "until": run.plan.get("until"),
        "made_ms": run.made_ms,
        "ended_ms": run.ended_ms,
        "progress": run.progress,
        "message": run.message,
        "certified": run.certified,
        "profit": report.get("profit"),
        "return": report.get("return"),
    }


def describe(run: Backtest) -> dict[str, Any]:
    """Return a run with its certificate and report, as values that JSON can hold."""
    return summarise(run) | {
        "certificate": None if run.certificate is None else json.loads(run.certificate),
        "report": run.report,
        "unknown": run.unknown,
    }
