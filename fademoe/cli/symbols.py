"""`fademoe symbols`: which contract a symbol is on each exchange."""

import json

import click

from fademoe.cli.environment import pass_running_settings
from fademoe.cli.table import format_table
from fademoe.client import instruments
from fademoe.clock import to_iso
from fademoe.feeds import registry
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings


@click.command("symbols")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_running_settings
def print_symbols(settings: Settings, *, as_json: bool) -> None:
    """Print which contract each symbol is on each exchange.

    With multiplier, first and last time of trading. Lists of contracts that are not stored yet are fetched.
    """
    services = wait_until_ready(settings)
    rows = [
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
        for exchange in registry.select_enabled(settings)
        for code, by_symbol in instruments.ensure(exchange, services.rest, services.database).items()
        for symbol, item in by_symbol.items()
    ]
    rows.sort(key=lambda row: (str(row["symbol"]), str(row["code"])))
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    columns = ("symbol", "code", "instrument", "multiplier", "since", "until")
    click.echo(format_table(columns, [[row[column] for column in columns] for row in rows]))
