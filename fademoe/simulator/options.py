"""The simulator's command line."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from fademoe.clock import parse_pace
from fademoe.simulator.exchange import Exchange


def build_parser(exchanges: Iterable[type[Exchange]]) -> argparse.ArgumentParser:
    """Return the parser of the common options and those of each exchange."""
    parser = argparse.ArgumentParser(
        prog="python -m fademoe.simulator",
        description="Stand in for the exchanges on loopback, REST and WebSocket on one port.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=9100, help="port to listen on, 0 for any free one (default: %(default)s)")
    add("--seed", type=int, default=1, help="the world; the same seed gives the same data (default: %(default)s)")
    add(
        "--universe-size",
        type=int,
        default=0,
        help="crypto perpetuals on Binance, 570 is the real size (default: some 50 coins)",
    )
    add("--clock-offset-ms", type=int, default=0, help="how far the exchanges' clock is ahead of the host's")
    add(
        "--clock",
        type=parse_pace,
        default=os.environ.get("FADEMOE_CLOCK"),
        help="speed@ms: run so many times as fast as the host's clock since that time (default: FADEMOE_CLOCK)",
    )
    add("--latency-ms", type=float, default=0, help="delay of every REST answer; requests wait side by side")
    add("--no-limits", dest="limits", action="store_false", help="count requests, refuse none, tell nobody the count")
    add("--no-holes", dest="holes", action="store_false", help="no missing minutes")
    add(
        "--cache-chunks",
        type=int,
        default=800,
        help="days of one contract kept encoded, 0.2 MB each (default: %(default)s)",
    )
    add("--recordings", type=Path, help="folder of recorded answers to serve under /sim/recordings/<file>/<index>")
    for exchange in exchanges:
        exchange.add_options(parser)
    return parser
