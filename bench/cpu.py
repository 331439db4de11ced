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


def by_program() -> dict[str, float]:
    """Return the CPU seconds so far of the programs that this process has started, by `fademoe COMMAND` or server."""
    found: dict[str, float] = {}
    for pid, (parent, _) in _parents().items():
        if parent == os.getpid():
            arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            name = arguments[arguments.index("fademoe") + 1] if "fademoe" in arguments else Path(arguments[0]).name
            found[name] = found.get(name, 0.0) + spent_s([pid])
    return found


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
