"""`fademoe web`: the web server, as supervisord runs it."""

import click

from fademoe.cli.environment import pass_settings
from fademoe.settings import Settings
from fademoe.web import serve


@click.command("web")
@pass_settings
def run_web(settings: Settings) -> int:
    """Run the web server until SIGTERM."""
    return serve.run_web(settings)
