"""`fademoe symbols` and `fademoe universe`: which contract a symbol is on each exchange, now and then."""

import json
from collections.abc import Sequence

import click

from fademoe.cli.arguments import TIME
from fademoe.cli.environment import pass_running_settings
from fademoe.cli.table import format_table
from fademoe.client import instruments
from fademoe.clock import LATEST_MS, Window, now_ms, to_iso
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.runtime.services import Services
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings
from fademoe.store.read.terms import Life, list_lives

COLUMNS = ("symbol", "code", "instrument", "multiplier", "since", "until")


@click.command("symbols")
@click.option("--dead", is_flag=True, help="Only contracts that have ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_running_settings
def print_symbols(settings: Settings, *, dead: bool, as_json: bool) -> None:
    """Print which contract each symbol is on each exchange.

    With multiplier, first and last time of trading. Lists of contracts that are not stored yet are fetched.
    """
    services = wait_until_ready(settings)
    time_ms = now_ms()
    lives = _list(services, settings, None)
    if dead:
        chosen = [life for life in lives if life.delisted_ms is not None and life.delisted_ms <= time_ms]
    else:  # of several lives of a symbol the newest one
        newest = {(life.code, life.symbol, life.instrument): life for life in lives}
        chosen = list(newest.values())
    _print(chosen, as_json=as_json)


@click.command("universe")
@click.option("--at", type=TIME, help="The time, in ISO 8601; a date is its first instant. Default: now.")
@click.option("--exchange", help=f"Only this one: {', '.join(registry.list_names())}. Default: all that are enabled.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_running_settings
def print_universe(settings: Settings, *, at: int | None, exchange: str | None, as_json: bool) -> None:
    """Print the contracts that traded at a time, dead ones included."""
    enabled = [each.name for each in registry.select_enabled(settings)]
    if exchange is not None and exchange not in enabled:
        raise ConfigError(f"--exchange is {exchange!r}: valid are {', '.join(enabled)}")
    services = wait_until_ready(settings)
    at_ms = now_ms() if at is None else at
    lives = _list(services, settings, Window(at_ms, at_ms + 1))
    _print([life for life in lives if exchange in (None, life.exchange)], as_json=as_json)


def _list(services: Services, settings: Settings, window: Window | None) -> list[Life]:
    """Return the lives of contracts of the enabled exchanges, whose lists are fetched where none is stored."""
    codes: list[str] = []
    for exchange in registry.select_enabled(settings):
        instruments.ensure(exchange, services.rest, services.database)
        codes += exchange.codes
    with services.database.open_transaction() as cursor:
        return list_lives(cursor, codes=codes, window=window)


def _print(lives: Sequence[Life], *, as_json: bool) -> None:
    rows = [
        {
            "symbol": life.symbol,
            "exchange": life.exchange,
            "code": life.code,
            "instrument": life.instrument,
            "life": life.life,
            "multiplier": life.multiplier,
            "contract_value": f"{life.contract_value:f}",
            "since": to_iso(life.listed_ms) if life.listed_ms else None,
            "until": to_iso(life.delisted_ms) if life.delisted_ms else None,
            "successor": life.successor,
            "evidence": life.evidence,
        }
        for life in sorted(lives, key=lambda life: (life.symbol, life.code, life.listed_ms or LATEST_MS))
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    click.echo(format_table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows]))
