#!/usr/bin/env python3
"""Want a range of history and enqueue what is missing of it; the same as `fademoe seed`."""

import os
import sys
from pathlib import Path

VENV_PYTHON = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "python"

try:
    from fademoe.cli.main import main
except ModuleNotFoundError:
    # Called without the virtual environment: use the one that make sets up.
    if not VENV_PYTHON.exists() or Path(sys.executable) == VENV_PYTHON:
        raise
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), __file__, *sys.argv[1:]])

if __name__ == "__main__":
    sys.exit(main(["seed", *sys.argv[1:]]))
