"""`fademoe COMMAND`, or `python -m fademoe COMMAND`. A command's module is imported when it is called, and no other."""

import importlib
import sys
from collections.abc import Callable, Sequence

from fademoe import __version__

# command -> (module with `main(argv) -> exit code`, what it does)
COMMANDS = {
    "up": ("fademoe.cli.deploy", "start everything"),
    "down": ("fademoe.cli.deploy", "stop everything"),
    "demo": ("fademoe.cli.deploy", "start everything against the built-in exchange simulator"),
    "status": ("fademoe.cli.deploy", "show what runs"),
    "seed": ("fademoe.cli.seed", "want history and enqueue what is missing of it"),
    "symbols": ("fademoe.cli.symbols", "print which contract each symbol is on each exchange"),
    "gaps": ("fademoe.cli.completeness", "print what is wanted and missing"),
    "coverage": ("fademoe.cli.completeness", "print what is wanted, covered, absent and missing per series"),
    "verify": ("fademoe.cli.completeness", "print a certificate of a series: counts, reasons, hash"),
    "audit": ("fademoe.cli.completeness", "fetch again, compare with what is stored, and correct"),
    "retry": ("fademoe.cli.completeness", "put windows that rest after a failure back into their queue"),
    "reconcile": ("fademoe.cli.maintenance", "enqueue everything that is wanted and missing, now"),
    "migrate": ("fademoe.cli.maintenance", "bring the schema up to date"),
    "settings": ("fademoe.cli.settings", "print the resolved settings, secrets masked"),
    "psql": ("fademoe.cli.settings", "open a shell on the database"),
    "postgres": ("fademoe.cli.servers", "run the embedded PostgreSQL"),
    "redis": ("fademoe.cli.servers", "run the embedded Valkey"),
    "stream": ("fademoe.cli.programs", "follow an exchange live"),
    "worker": ("fademoe.cli.programs", "run a worker"),
    "scheduler": ("fademoe.cli.programs", "run the scheduler"),
    "web": ("fademoe.cli.web", "run the web server"),
    "simulator": ("fademoe.simulator.server", "run the exchange simulator"),
}
BAD_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0 done, 1 failed, 2 bad usage or settings."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"fademoe {__version__}")
        return 0
    if name not in COMMANDS:
        sys.stderr.write(f"fademoe: unknown command {name!r}: valid are {', '.join(COMMANDS)}\n" if name else usage())
        return BAD_USAGE
    module = importlib.import_module(COMMANDS[name][0])
    command: Callable[[Sequence[str]], int] = module.main
    shared = sum(1 for target, _ in COMMANDS.values() if target == COMMANDS[name][0]) > 1
    return command(arguments if shared else arguments[1:])


def usage() -> str:
    """Return the list of commands."""
    lines = [f"  {name:<11} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(("usage: fademoe COMMAND [--help]", "", *lines, ""))


if __name__ == "__main__":
    sys.exit(main())
