"""CPU time of programs and all their children: what a rate costs, whatever else the machine does meanwhile."""

import os
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def spent_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds that these processes and their children, ended ones too, have used so far."""
    parents = _parents()
    wanted = set(pids)
    while True:
        more = {pid for pid, (parent, _) in parents.items() if parent in wanted and pid not in wanted}
        if not more:
            break
        wanted |= more
    return sum(parents[pid][1] for pid in wanted if pid in parents)


def _parents() -> dict[int, tuple[int, float]]:
    """Return pid -> (pid of its parent, CPU seconds with those of the children it has waited for)."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        found[int(path.parent.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    return found
