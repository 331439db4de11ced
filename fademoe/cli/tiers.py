"""`fademoe tiers`: tiers of maintenance margin from a file, where their endpoint needs a key."""

from dataclasses import replace
from pathlib import Path

import click

from fademoe.cli.environment import pass_running_settings
from fademoe.client import instruments
from fademoe.errors import BadPayload, ConfigError
from fademoe.feeds import registry
from fademoe.feeds.instrument import Terms
from fademoe.feeds.values import decode
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings
from fademoe.store import instruments as store


@click.command("tiers")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--exchange", help="The exchange whose file it is. Default: the only one that has such a file.")
@pass_running_settings
def import_tiers(settings: Settings, path: Path, *, exchange: str | None) -> None:
    """Import tiers of maintenance margin from a file that you exported; they are dated from now on.

    FILE is JSON, such as the answer to GET /fapi/v1/leverageBracket.
    """
    takers = {each.name: each for each in registry.select_enabled(settings) if each.tiers_file}
    name = exchange if exchange is not None else next(iter(takers), "")
    if name not in takers or (exchange is None and len(takers) > 1):
        raise ConfigError(f"--exchange is {exchange!r}: valid are {', '.join(takers) or 'none that is enabled'}")
    taker = takers[name]
    assert taker.tiers_file is not None
    try:
        by_name = taker.tiers_file(decode(path.read_bytes()))
    except (ValueError, BadPayload) as error:
        raise ConfigError(f"{path.name} is no file of tiers of {taker.name}: {error}") from error
    services = wait_until_ready(settings)
    contracts = [
        replace(each, terms=Terms(tiers=by_name[each.name]))
        for by_symbol in instruments.ensure(taker, services.rest, services.database).values()
        for each in by_symbol.values()
        if each.name in by_name and each.delisted_ms is None
    ]
    time_ms = services.clocks.estimate_now_ms(taker)
    services.database.run(lambda cursor: store.save_terms(cursor, contracts, time_ms, "file"))
    click.echo(f"tiers of {len(contracts)} contracts of {taker.name}; {len(by_name) - len(contracts)} others left out")
