"""`fademoe COMMAND`, or `python -m fademoe COMMAND`."""

import sys

from fademoe.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
