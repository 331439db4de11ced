"""`fademoe mcp`: answers for AI assistants."""

import importlib
import logging

import click

from fademoe.cli.environment import pass_running_settings
from fademoe.errors import ConfigError
from fademoe.settings import Settings

log = logging.getLogger(__name__)


@click.command("mcp")
@click.option("--http", is_flag=True, help="serve Streamable HTTP on FADEMOE_MCP_HOST:FADEMOE_MCP_PORT, path /mcp")
@pass_running_settings
def run_mcp(settings: Settings, *, http: bool) -> int:
    """Answer AI assistants over the Model Context Protocol: on stdin and stdout, or over HTTP.

    A client such as Claude Desktop starts `fademoe mcp` by itself. Every answer carries units and coverage; the
    database role behind it can read views and nothing else.
    """
    try:
        serve = importlib.import_module("fademoe.assistants.serve")  # needs the extra [mcp], as nothing else does
    except ModuleNotFoundError as error:
        if http:  # a program of supervisord that is not wanted
            log.info("the extra [mcp] is not installed: AI assistants are not answered")
            return 0
        raise ConfigError(f"{error.name} is not installed: pip install 'fademoe[mcp]'") from error
    return int(serve.serve_http(settings) if http else serve.serve_stdio(settings))
