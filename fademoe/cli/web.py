"""`fademoe web`: the web server, as supervisord runs it."""

from collections.abc import Sequence

from fademoe.cli.edge import Commands
from fademoe.web import serve


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM."""
    commands = Commands()
    commands.add("web", lambda settings, args: serve.run_web(settings), "run the web server until SIGTERM")
    return commands.call(["web", *argv])
