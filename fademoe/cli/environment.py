"""Where commands take their settings from: the environment, and for some the system that runs."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fademoe.clock import set_pace
from fademoe.feeds import registry
from fademoe.settings import PREFIX, Settings
from fademoe.supervisord.daemon import find_linked_home
from fademoe.supervisord.processes import read_settings

PID_FILE = Path("run") / "supervisord.pid"

Command = Callable[..., Any]


def pass_settings(command: Command) -> Command:
    """Decorate a command: its first argument becomes the settings of the environment."""

    @functools.wraps(command)
    def with_settings(*args: Any, **options: Any) -> Any:
        return command(load_settings(os.environ), *args, **options)

    return with_settings


def pass_running_settings(command: Command) -> Command:
    """Decorate a command: its first argument becomes the settings of the system that runs, and of the environment."""

    @functools.wraps(command)
    def with_settings(*args: Any, **options: Any) -> Any:
        return command(load_settings(inherit_running_settings(os.environ)), *args, **options)

    return with_settings


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings and set the clock's pace; raise ConfigError that names a wrong one and the valid values."""
    settings = Settings.read_env(environ, registry.list_names())
    registry.select_archives(settings)
    if settings.clock:
        set_pace(settings.clock)
    return settings


def inherit_running_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` completed by the settings of the system that runs in FADEMOE_HOME, else of the one started last.

    So `scripts/seed_backfill.py` after `make demo` seeds the demo. Nothing is inherited when no system runs, or when
    the shell names a server by FADEMOE_DATABASE_URL or FADEMOE_REDIS_URL. An empty variable counts as not set.
    """
    given = {name: text for name, text in environ.items() if text.strip() or not name.startswith(PREFIX)}
    if "FADEMOE_DATABASE_URL" in given or "FADEMOE_REDIS_URL" in given:
        return given
    home = Path(given["FADEMOE_HOME"].strip()) if "FADEMOE_HOME" in given else find_linked_home()
    inherited = _settings_of(home) if home else {}
    if inherited and "FADEMOE_HOME" not in given:
        sys.stderr.write(f"fademoe: using the running system in {inherited.get('FADEMOE_HOME', home)}\n")
    return {**inherited, **given}


def _settings_of(home: Path) -> dict[str, str]:
    """Return the FADEMOE_* variables that the supervisord of a home was started with, {} when none runs."""
    try:
        pid = int((home.expanduser() / PID_FILE).read_text())
    except (OSError, ValueError, RuntimeError):
        return {}
    found = read_settings(pid)
    is_of_home = Path(found.get("FADEMOE_HOME", home)).expanduser() == home.expanduser()
    return found if is_of_home else {}  # an old file may name a process that has nothing to do with it
