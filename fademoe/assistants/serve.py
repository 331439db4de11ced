"""Runs the MCP server: over stdio for a client that starts it, or over HTTP as a program of its own."""

import hmac
import logging
import re
import socket
import time
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fademoe import __version__
from fademoe.assistants import prompts, resources, tools
from fademoe.assistants.role import prepare
from fademoe.settings import LOOPBACK, Settings
from fademoe.tokens import load_or_make_token

log = logging.getLogger(__name__)

TOKEN_FILE = "mcp_token"
PATH = "/mcp"
PORT_RETRY_S = 30.0
MAX_BODY_BYTES = 64 * 1024  # of a request: an error that quotes all of it still fits into an answer
MAX_SESSIONS = 1_000  # 30 kB each; one that is not used ends after half an hour
MAX_REQUESTS = 100  # at a time, streams that a client keeps open included
BODY_S = 20.0  # for a request to arrive
ADDRESS = re.compile(rb"(https?://)?(\[[0-9a-f:.]+\]|[^:/@\[\]]+)(:[0-9]{1,5})?", re.IGNORECASE)
INSTRUCTIONS = (
    "Market data of crypto perpetual futures that FadeMoe has collected: candles, premium, funding, mark price, open"
    " interest, long/short ratio, liquidations. Every answer carries units and the coverage of its range: what is"
    " absent for a reason, missing, or never requested. Read fademoe://semantics before interpreting values."
)


def make_server(settings: Settings, address: str) -> MCPServer[Any]:
    """Return the server with its tools, resources and prompts; `address` logs in as the role of assistants."""
    logging.getLogger("mcp").setLevel(logging.WARNING)
    server: MCPServer[Any] = MCPServer(
        "fademoe",
        title="FadeMoe",
        instructions=INSTRUCTIONS,
        version=__version__,
        log_level="WARNING",
        tools=tools.list_tools(tools.Toolbox(address, settings), with_sql=settings.mcp_sql),
    )
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
        max_request_body_size=MAX_BODY_BYTES,
        max_sessions=MAX_SESSIONS,
        transport_security=TransportSecuritySettings(
            allowed_hosts=[name for host in hosts for name in (host, f"{host}:*")],
            allowed_origins=[
                f"{scheme}://{name}" for scheme in ("http", "https") for host in hosts for name in (host, f"{host}:*")
            ],
        ),
    )
    config = uvicorn.Config(
        Guard(app, load_mcp_token(settings)),
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


class Guard:
    """Answers 401 to every request without the token, 503 beyond MAX_REQUESTS; ends one that is too slow to arrive."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """Guard `app` with `token`."""
        self._app = app
        self._token = token.encode()
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refuse(dict(scope["headers"]))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, _limit_arrival(receive), send)
        finally:
            self._running -= 1

    def _refuse(self, headers: dict[bytes, bytes]) -> JSONResponse | None:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            body = {"error": "the header Authorization: Bearer <token> is missing or wrong (FADEMOE_MCP_TOKEN)"}
            return JSONResponse(body, 401, headers={"WWW-Authenticate": "Bearer"})
        for name, status in ((b"host", 421), (b"origin", 403)):  # the SDK takes any text for a port
            if name in headers and not ADDRESS.fullmatch(headers[name]):
                return JSONResponse({"error": f"the header {name.decode().title()} is not an address"}, status)
        if self._running >= MAX_REQUESTS:
            return JSONResponse({"error": f"{MAX_REQUESTS} requests are answered already"}, 503)
        return None


def _limit_arrival(receive: Receive) -> Receive:
    """Return `receive` that answers 408 when the body is not there after BODY_S."""
    until_s = anyio.current_time() + BODY_S
    is_complete = False

    async def receive_in_time() -> Message:
        nonlocal is_complete
        if is_complete:
            return await receive()
        with anyio.move_on_at(until_s):
            message = await receive()
            is_complete = not message.get("more_body", False)
            return message
        raise HTTPException(408, f"the request did not arrive within {BODY_S:.0f} s")

    return receive_in_time
