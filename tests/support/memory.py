"""Memory of workers and of their work horses."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.programs import Program


def find_peak_bytes(workers: Iterable[Program]) -> int:
    """Return the most memory that one of these workers, or a work horse that it has now, has held since it began."""
    most = 0
    for worker in workers:
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            for process in (worker.pid, *(child.pid for child in psutil.Process(worker.pid).children())):
                status = Path(f"/proc/{process}/status").read_text()
                peak = re.search(r"VmHWM:\s+(\d+) kB", status)
                most = max(most, int(peak[1]) * 1024 if peak else 0)
    return most
