"""`fademoe simulator`: the exchange simulator, a program with options of its own."""

import click

from fademoe.simulator import server


@click.command("simulator", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def run_simulator(options: tuple[str, ...]) -> int:
    """Run the exchange simulator."""
    return server.main(options)
