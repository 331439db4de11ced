"""Tokens and passwords that FadeMoe makes itself and keeps in files of FADEMOE_HOME."""

import os
import secrets
from pathlib import Path

from fademoe.errors import ConfigError

ADMIN_TOKEN_FILE = "admin_token"


def load_admin_token(given: str | None, home: Path) -> str:
    """Return the admin token of the web: the one that is set, else that of the file under FADEMOE_HOME."""
    return given or load_or_make_token(home / ADMIN_TOKEN_FILE, "FADEMOE_ADMIN_TOKEN")


def load_or_make_token(path: Path, variable: str) -> str:
    """Return the token in a file, which is made with mode 0600 when it is missing.

    Raises ConfigError that names `variable`, the setting to use instead, when the file cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            token = path.read_text(encoding="utf-8").strip()
        else:
            token = secrets.token_urlsafe(24)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(token + "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror}; set {variable}") from error
    if not token:
        raise ConfigError(f"{path} is empty: delete it, or set {variable}")
    return token
