"""`fademoe up`, `down`, `demo`, `status`."""

from collections.abc import Sequence

from fademoe.cli.edge import Commands
from fademoe.deploy import up


def main(argv: Sequence[str]) -> int:
    """Start, stop or show the system."""
    commands = Commands()
    commands.add("up", lambda settings, args: up.up(settings, only=tuple(args.only)), "start everything").add_argument(
        "--only", nargs="+", default=(), metavar="PROGRAM", help="start only these programs or groups, such as worker"
    )
    commands.add("down", lambda settings, args: up.down(settings), "stop everything")
    commands.add("demo", lambda settings, args: up.demo(settings), "start everything against the simulator")
    commands.add("status", lambda settings, args: up.status(settings), "show what runs")
    return commands.call(argv)
