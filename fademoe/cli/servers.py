"""`fademoe postgres`, `fademoe redis`: the embedded servers, as supervisord runs them."""

from collections.abc import Sequence

from fademoe.cli.edge import Commands
from fademoe.embedded import servers


def main(argv: Sequence[str]) -> int:
    """Become a server; return at once where the settings name another one."""
    commands = Commands()
    commands.add("postgres", lambda settings, args: servers.run_postgres(settings), "run the embedded PostgreSQL")
    commands.add("redis", lambda settings, args: servers.run_redis(settings), "run the embedded Valkey")
    return commands.call(argv)
