"""Lets commands talk to the system that runs: they take over its settings where the shell sets none."""

import sys
from collections.abc import Mapping
from pathlib import Path

from fademoe.settings import PREFIX
from fademoe.supervisord.daemon import linked_home

PID_FILE = Path("run") / "supervisord.pid"


def adopt(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` completed by the settings of the running system: of FADEMOE_HOME, else of what started last.

    So `scripts/seed_backfill.py` after `make demo` seeds the demo. Nothing is taken over when nothing runs, or when the
    shell names servers of its own.
    """
    if environ.get("FADEMOE_DATABASE_URL") or environ.get("FADEMOE_REDIS_URL"):
        return dict(environ)
    given = environ.get("FADEMOE_HOME", "").strip()
    home = Path(given) if given else linked_home()
    found = _settings_of(home) if home else {}
    if found and not given:
        sys.stderr.write(f"fademoe: with the running system in {found.get('FADEMOE_HOME', home)}\n")
    return {**found, **environ}


def _settings_of(home: Path) -> dict[str, str]:
    """Return the FADEMOE_* variables of a home's supervisord, {} when none runs."""
    try:
        pid = int((home / PID_FILE).read_text())
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except (OSError, ValueError):
        return {}
    pairs = (entry.decode("utf-8", "surrogateescape").partition("=") for entry in raw.split(b"\0"))
    return {name: value for name, _, value in pairs if name.startswith(PREFIX)}
