"""One SQL statement of an assistant: as the role of assistants, in a session and a process of its own, and bounded.

The statement goes through the extended protocol, which takes one statement and no more. It runs in a transaction that
only reads, for at most LONGEST_S; then the watchdog ends the process and the session: a statement may catch that it is
cancelled, and go on, but not that its session is ended. `statement_process` is that process.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from threading import BoundedSemaphore
from typing import NamedTuple

import psycopg2

from fademoe.errors import FadeMoeError
from fademoe.store.connection import CONNECT_TIMEOUT_S
from fademoe.store.queries import load_queries

LONGEST_S = 5.0
MOST = 4  # statements at a time: each may make PostgreSQL take a gigabyte
WAIT_S = 0.5  # for another one to end
SQL = load_queries("assistants")

_slots = BoundedSemaphore(MOST)


class StatementRefused(FadeMoeError):
    """PostgreSQL refused the statement, or it took too long; the message is for the assistant."""


class Table(NamedTuple):
    """What a statement returned: names of the columns, rows of texts, and whether rows were left out."""

    columns: list[str]
    rows: list[list[str | None]]
    truncated: bool


def run_statement(address: str, statement: str) -> Table:
    """Return what one statement returns. Raises StatementRefused."""
    if not _slots.acquire(timeout=WAIT_S):
        raise StatementRefused(f"{MOST} statements run already: try again in some seconds")
    try:
        return _run(address, statement)
    finally:
        _slots.release()


def _run(address: str, statement: str) -> Table:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fademoe.assistants.statement_process"],
            input=json.dumps({"address": address, "statement": statement}).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LONGEST_S,
            check=False,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired as error:
        _end_session(address, error.stdout)
        raise StatementRefused(f"the statement took longer than {LONGEST_S:.0f} s") from None
    if done.returncode:
        _end_session(address, done.stdout)
        raise StatementRefused("the answer of the statement is too large: select fewer or shorter values")
    answer = json.loads(done.stdout.rpartition(b"\n")[2])
    if "error" in answer:
        raise StatementRefused(answer["error"])
    return Table(answer["columns"], answer["rows"], answer["truncated"])


def _end_session(address: str, printed: bytes | None) -> None:
    """End the session whose number the process printed, as the same role; none was opened when it printed nothing."""
    number = (printed or b"").partition(b"\n")[0]
    if not number.isdigit():
        return
    with suppress(psycopg2.OperationalError):  # without PostgreSQL there is no session
        connection = psycopg2.connect(address, connect_timeout=CONNECT_TIMEOUT_S)
        with connection, connection.cursor() as cursor:
            cursor.execute(SQL["end_session"], {"pid": int(number)})
        connection.close()
