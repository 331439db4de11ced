"""One SQL statement of an assistant: as the role of assistants, in a session and a process of its own, and bounded.

The statement goes through the extended protocol, which takes one statement and no more. It runs in a transaction that
only reads, for at most LONGEST_S; then the watchdog cancels it. `statement_process` is that process.
"""

import json
import os
import subprocess
import sys
from typing import NamedTuple

from fademoe.errors import FadeMoeError

LONGEST_S = 5.0
GRACE_S = 0.7  # until a process that does not end by itself is ended


class Refused(FadeMoeError):
    """PostgreSQL refused the statement, or it took too long; the message is for the assistant."""


class Table(NamedTuple):
    """What a statement returned: names of the columns, rows of texts, and whether rows were left out."""

    columns: list[str]
    rows: list[list[str | None]]
    truncated: bool


def run_statement(address: str, statement: str) -> Table:
    """Return what one statement returns. Raises Refused."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fademoe.assistants.statement_process"],
            input=json.dumps({"address": address, "statement": statement}),
            capture_output=True,
            text=True,
            timeout=LONGEST_S + GRACE_S,
            check=False,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"the statement took longer than {LONGEST_S:.0f} s") from None
    if done.returncode:
        raise Refused("the answer of the statement is too large: select fewer or shorter values")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise Refused(answer["error"])
    return Table(answer["columns"], answer["rows"], answer["truncated"])
