"""`fademoe symbols`: which contract a symbol is on each exchange."""

import argparse
import json
from collections.abc import Sequence

from fademoe.cli.edge import Commands
from fademoe.cli.running import inherit_running_settings
from fademoe.client import instruments
from fademoe.clock import to_iso
from fademoe.feeds import registry
from fademoe.runtime.startup import ready
from fademoe.settings import Settings


def main(argv: Sequence[str]) -> int:
    """Print the table of symbols."""
    commands = Commands(inherit_running_settings)
    commands.add("symbols", show, "print which contract each symbol is on each exchange").add_argument(
        "--json", action="store_true", help="as JSON"
    )
    return commands.call(["symbols", *argv])


def show(settings: Settings, args: argparse.Namespace) -> int:
    """Print which contract each symbol is, with multiplier and life; fetches lists that are missing."""
    context = ready(settings)
    rows = []
    for exchange in registry.enabled(settings):
        for code, by_symbol in instruments.ensure(exchange, context.rest, context.database).items():
            for symbol, item in by_symbol.items():
                rows.append(
                    {
                        "symbol": symbol,
                        "exchange": exchange.name,
                        "code": code,
                        "instrument": item.name,
                        "multiplier": item.multiplier,
                        "contract_value": item.contract_value,
                        "since": to_iso(item.listed_ms) if item.listed_ms else None,
                        "until": to_iso(item.delisted_ms) if item.delisted_ms else None,
                    }
                )
    rows.sort(key=lambda row: (str(row["symbol"]), str(row["code"])))
    if args.json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return 0
    print(f"{'symbol':<16}{'code':<8}{'instrument':<24}{'multiplier':>10}  {'since':<22}{'until'}")
    for row in rows:
        print(
            f"{row['symbol']:<16}{row['code']:<8}{row['instrument']:<24}{row['multiplier']:>10}"
            f"  {row['since'] or '-':<22}{row['until'] or ''}"
        )
    return 0
