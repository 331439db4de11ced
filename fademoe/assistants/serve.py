"""Runs the MCP server: over stdio for a client that starts it, or over HTTP as a program of its own."""

import hmac
import logging
import socket
import time
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fademoe import __version__
from fademoe.assistants import prompts, resources, tools
from fademoe.assistants.role import prepare
from fademoe.settings import LOOPBACK, Settings
from fademoe.tokens import load_or_make_token

log = logging.getLogger(__name__)

TOKEN_FILE = "mcp_token"
PATH = "/mcp"
PORT_RETRY_S = 30.0
INSTRUCTIONS = (
    "Market data of crypto perpetual futures that FadeMoe has collected: candles, premium, funding, mark price, open"
    " interest, long/short ratio, liquidations. Every answer carries units and the coverage of its range: what is"
    " absent for a reason, missing, or never requested. Read fademoe://semantics before interpreting values."
)


def make_server(settings: Settings, address: str) -> MCPServer[Any]:
    """Return the server with its tools, resources and prompts; `address` logs in as the role of assistants."""
    logging.getLogger("mcp").setLevel(logging.WARNING)
    server: MCPServer[Any] = MCPServer(
        "fademoe", title="FadeMoe", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    tools.register(server, tools.Toolbox(address, settings), with_sql=settings.mcp_sql)
    resources.register(server, address)
    prompts.register(server)
    return server


def serve_stdio(settings: Settings) -> int:
    """Answer the client at the other end of stdin and stdout until it closes them."""
    make_server(settings, prepare(settings)).run("stdio")
    return 0


def serve_http(settings: Settings) -> int:
    """Serve Streamable HTTP at PATH until SIGTERM; every request needs the bearer token."""
    server = make_server(settings, prepare(settings))
    names = {*LOOPBACK, settings.mcp_host, *(settings.mcp_allowed_hosts or ())}
    hosts = [f"[{name}]" if ":" in name else name for name in sorted(names)]
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        host=settings.mcp_host,
        transport_security=TransportSecuritySettings(
            allowed_hosts=[*hosts, *(f"{host}:*" for host in hosts)],
            allowed_origins=[f"http://{host}:*" for host in hosts],
        ),
    )
    config = uvicorn.Config(
        BearerToken(app, load_mcp_token(settings)),
        host=settings.mcp_host,
        port=settings.mcp_port,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    listening = _listen(settings)
    log.info("assistants connect to http://%s:%s%s", settings.mcp_host, settings.mcp_port, PATH)
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def _listen(settings: Settings) -> socket.socket:
    """Return a listening socket; wait while another program uses the port, and say so."""
    while True:
        family = socket.AF_INET6 if ":" in settings.mcp_host else socket.AF_INET
        try:
            return socket.create_server((settings.mcp_host, settings.mcp_port), family=family)
        except OSError as error:
            log.error(
                "FADEMOE_MCP_PORT is %s, which cannot be listened on at %s (%s): it is tried again in %.0f s",
                settings.mcp_port,
                settings.mcp_host,
                error.strerror,
                PORT_RETRY_S,
            )
        time.sleep(PORT_RETRY_S)


def load_mcp_token(settings: Settings) -> str:
    """Return the token of assistants: the setting, else the file under FADEMOE_HOME. It is never the admin token."""
    return settings.mcp_token or load_or_make_token(settings.home / TOKEN_FILE, "FADEMOE_MCP_TOKEN")


class BearerToken:
    """Answers 401 to every request that does not carry the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """Guard `app` with `token`."""
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                body = {"error": "the header Authorization: Bearer <token> is missing or wrong (FADEMOE_MCP_TOKEN)"}
                await JSONResponse(body, 401, headers={"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
        await self._app(scope, receive, send)
