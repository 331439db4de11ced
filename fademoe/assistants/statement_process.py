"""The process of one statement of an assistant: reads it from stdin, prints its answer; `statement` starts it.

Before the answer it prints a line with the number of its session, so that this can be ended from outside. It may take
MAX_MEMORY_BYTES of memory, so a value of a gigabyte ends this process and nothing else.
"""

import json
import resource
import sys
from contextlib import closing

import psycopg
from psycopg import pq

from fademoe.assistants.statement import LONGEST_S
from fademoe.store.connection import ENCODING

MAX_MEMORY_BYTES = 256 * 1024 * 1024
MAX_ROWS = 5_000
MAX_TEXT_BYTES = 200_000  # of all values: more does not fit into an answer
MAX_ERROR_CHARACTERS = 2_000  # a message may hold a value of the statement


def _execute(address: str, statement: str) -> dict[str, object]:
    session = psycopg.connect(
        address, autocommit=True, connect_timeout=3, application_name="fademoe mcp sql", client_encoding=ENCODING
    )
    with closing(session) as connection:  # not the block of the session itself: that would end the transaction
        sys.stdout.write(f"{connection.info.backend_pid}\n")
        sys.stdout.flush()
        for setting in (
            "START TRANSACTION READ ONLY",
            f"SET LOCAL statement_timeout = '{LONGEST_S:.0f}s'",
            "SET LOCAL lock_timeout = '1s'",
            "SET LOCAL client_connection_check_interval = '1s'",
        ):
            connection.execute(setting)
        server = connection.pgconn
        server.send_query_params(statement.encode(), [])
        server.set_single_row_mode()
        columns: list[str] = []
        rows: list[list[str | None]] = []
        left, truncated = MAX_TEXT_BYTES, False
        while result := server.get_result():
            if result.status in (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_BOTH):
                return {"error": "COPY is not answered here: use SELECT"}
            if result.status not in (pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
                if truncated:  # cancelled because enough was read
                    break
                message = result.error_message.decode(errors="replace").strip() or "the connection was lost"
                return {"error": message[:MAX_ERROR_CHARACTERS]}
            columns = [(result.fname(index) or b"").decode(errors="replace") for index in range(result.nfields)]
            for number in range(result.ntuples):
                values = [result.get_value(number, index) for index in range(result.nfields)]
                left -= sum(len(value or b"") + 6 for value in values)
                if truncated or left < 0 or len(rows) >= MAX_ROWS:
                    if not truncated:
                        truncated = True
                        connection.cancel()
                    continue
                rows.append([None if value is None else value.decode(errors="replace") for value in values])
        return {"columns": columns, "rows": rows, "truncated": truncated}


def _main() -> int:
    """Read one statement from stdin, print its answer."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    request = json.load(sys.stdin)
    try:
        answer = _execute(request["address"], request["statement"])
    except MemoryError:
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the assistant gets its first line
        answer = {"error": str(error).splitlines()[0][:MAX_ERROR_CHARACTERS] if str(error) else type(error).__name__}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
