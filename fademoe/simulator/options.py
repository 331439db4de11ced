"""The simulator's command line."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from fademoe.clock import parse_pace
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.faults import AFTER_ANSWER, BEFORE_ANSWER, IN_FILE, LISTS, ON_STREAM, ROWS

GROUPS = (  # heading of the help, the faults under it
    ("in place of an answer", BEFORE_ANSWER),
    ("in an answer's list of contracts or rows", LISTS),
    ("in an answer, to the row in the middle of the page", ROWS),
    ("to an answer as a whole", {kind: effect for kind, effect in AFTER_ANSWER.items() if kind not in LISTS | ROWS}),
    ("on sockets", ON_STREAM),
    ("in a file of an archive", IN_FILE),
)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show each option's default, and keep the lines of the epilog."""

    def __init__(self, prog: str) -> None:
        """Leave room for long names of options."""
        super().__init__(prog, max_help_position=34, width=120)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        """Leave out the default of switches and of options without one."""
        has_default = action.option_strings and action.nargs != 0 and action.default is not None
        return super()._get_help_string(action) if has_default else action.help


def build_parser(exchanges: Iterable[type[Exchange]]) -> argparse.ArgumentParser:
    """Return the parser of the common options and, in a group for each exchange, of its own."""
    parser = argparse.ArgumentParser(
        prog="fademoe simulator",
        usage="%(prog)s [options]",
        description="Simulate the exchanges on loopback: REST, WebSocket and the control plane /sim on one port.",
        epilog=_describe_faults(),
        formatter_class=_Formatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=9100, help="port to listen on; 0: any free port")
    add("--seed", type=int, default=1, help="seed of all data; the same seed gives the same data")
    add("--universe-size", type=int, default=0, help="crypto perpetuals on Binance, 570 is the real number; 0: some 50")
    add("--clock-offset-ms", type=int, default=0, help="offset of the exchanges' clock to the host's, in ms")
    add(
        "--clock",
        type=parse_pace,
        default=os.environ.get("FADEMOE_CLOCK"),
        metavar="SPEED@MS",
        help="run the clock SPEED times (1 to 100) as fast as the host's since the time MS; FADEMOE_CLOCK if unset",
    )
    add("--latency-ms", type=float, default=0, help="delay of every REST answer, in ms")
    add("--no-limits", dest="limits", action="store_false", help="count requests, but refuse none and send no counts")
    add("--no-holes", dest="holes", action="store_false", help="generate no missing minutes")
    add("--open", type=int, dest="open_ms", metavar="MS", help="have no maintenance within eight hours of this time")
    add("--moves", type=int, default=0, metavar="MINUTES", help="each coin makes a move so often (moves.py); 0: never")
    add("--cache-chunks", type=int, default=800, help="cached days of one contract, 0.2 MB each")
    add("--archive-faults", action="store_true", help="give each file of an archive every fault, by a die of its own")
    add("--archive-rate", type=int, default=0, help="files a second above which an archive refuses; 0: never")
    add("--recordings", type=Path, help="folder of recorded answers, served at /sim/recordings/<file>/<index>")
    for exchange in exchanges:
        exchange.add_options(parser.add_argument_group(exchange.name))
    return parser


def _describe_faults() -> str:
    """Return the faults by place, one line each."""
    lines = ["Faults, set with POST /sim/faults (docs/simulator.md):"]
    for heading, faults in GROUPS:
        lines += ["", f"{heading}:", *(f"  {kind:<16} {effect}" for kind, effect in faults.items())]
    return "\n".join(lines)
