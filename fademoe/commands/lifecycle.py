"""`fademoe up`, `down`, `demo`, `status`."""

from collections.abc import Sequence

from fademoe import lifecycle
from fademoe.commands.edge import Commands


def main(argv: Sequence[str]) -> int:
    """Start, stop or show the system."""
    commands = Commands()
    commands.add(
        "up", lambda settings, args: lifecycle.up(settings, only=tuple(args.only)), "start everything"
    ).add_argument(
        "--only", nargs="+", default=(), metavar="PROGRAM", help="start only these programs or groups, such as worker"
    )
    commands.add("down", lambda settings, args: lifecycle.down(settings), "stop everything")
    commands.add("demo", lambda settings, args: lifecycle.demo(settings), "start everything against the simulator")
    commands.add("status", lambda settings, args: lifecycle.status(settings), "show what runs")
    return commands.call(argv)
