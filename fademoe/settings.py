"""The settings: environment variables FADEMOE_*, read and checked once when a process starts, then passed as arguments.

Each field of `Settings` declares one setting: kind of value, default, description. Parsing, error messages, the output
of `fademoe settings` and the table in docs/operating.md all follow from these declarations.
"""

import hashlib
import importlib
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from fademoe.clock import DAY_MS, HOUR_MS, MAX_SPEED, Pace, Window, floor_to, parse_pace
from fademoe.errors import ConfigError

PREFIX = "FADEMOE_"
MASK = "***"  # stands for what is kept secret
DEFAULT_SYMBOLS = "BTC,ETH,SOL,XRP,DOGE,BNB,ADA,AVAX,LINK,LTC,TRX,DOT,BCH,NEAR,UNI,APT,ARB,SUI,PEPE,SHIB"
ALL_SYMBOLS = ("all",)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
VALID_SYMBOLS = "valid are names of coins, such as BTC, ETH, PEPE"
MAX_PATH_PART_BYTES = 255

_INTEGER = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")
_SYMBOL = re.compile(r"[\w.]{1,40}")
_CONTRACT = re.compile(  # names that exchanges and chart sites give to a contract on a coin
    r"(?P<base>[\w.]+?)(?:[-_/:.]?USD[TC](?:[-_/:.](?:USD[TC]|SWAP|PERP|P|M))?|[-_/:](?:SWAP|PERP|USD))"
)
_MULTIPLIER = re.compile(r"10{3,}(?=[^\W\d])")
_PASSWORD = re.compile(r"(?<=[?&]password=)[^&]*|(?<=[?&]sslpassword=)[^&]*")  # in a query, as servers take it
_EGRESS_NAME = re.compile(r"(?P<name>[\w.-]{1,60})=(?P<address>.*)")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of value: how its text is read and printed."""

    valid: str  # the valid values, for messages: "valid are …"; {exchanges} stands for the exchanges' names
    parse: Callable[[str, Collection[str]], Any]  # (text, names of the exchanges) -> value; raises ValueError
    show: Callable[[Any], str] = str  # value -> text without secrets


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting, or one setting of each exchange."""

    name: str  # without FADEMOE_
    kind: Kind
    default: str  # as a user would write it; "": not set
    unset: str  # what holds while it is not set; {settings.…} inserts a property of the settings
    help: str
    is_per_exchange: bool = False

    @property
    def variable(self) -> str:
        """Name of the environment variable, `FADEMOE_<EXCHANGE>_…` when each exchange has its own."""
        return PREFIX + ("<EXCHANGE>_" if self.is_per_exchange else "") + self.name

    @property
    def default_text(self) -> str:
        """The default, for people."""
        return self.default or self.unset.partition(":")[0]

    def list_variables(self, exchange_names: Collection[str]) -> dict[str, str]:
        """Return the environment variables with the exchange of each, "" for a setting that all share."""
        if not self.is_per_exchange:
            return {self.variable: ""}
        return {f"{PREFIX}{name.upper().replace('-', '_')}_{self.name}": name for name in exchange_names}

    def parse(self, variable: str, text: str, exchange_names: Collection[str]) -> Any:
        """Return the value of a text; raise ConfigError that names the variable and the valid values."""
        try:
            return self.kind.parse(text, exchange_names)
        except ValueError as error:
            valid = self.kind.valid.format(exchanges=", ".join(sorted(exchange_names)))
            detail = f"{error}; " if str(error) else ""
            raise ConfigError(f"{variable} is {mask_text(text)!r}: {detail}valid are {valid}") from error


def mask_url(url: str) -> str:
    """Replace the passwords of a URL, before its host and in its query, by ***."""
    parts = urlsplit(url)
    if parts.password:
        host = parts.netloc.rpartition("@")[2]
        url = urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{MASK}@{host}"))
    return _PASSWORD.sub(MASK, url)


def mask_text(text: str) -> str:
    """Replace everything between `//` and `@`, and passwords in a query, by ***: the address may be malformed."""
    return _PASSWORD.sub(MASK, re.sub(r"//[^\s]*@", f"//{MASK}@", text))


def check_symbol(text: str) -> str:
    """Return a well-formed symbol in upper case.

    Raises ConfigError for anything else; for the name of a contract, such as BTCUSDT, the message names the coin.
    """
    symbol = text.strip().upper()
    if contract := _CONTRACT.fullmatch(symbol):
        coin = _MULTIPLIER.sub("", contract["base"], count=1)
        raise ConfigError(f"{text!r} is the name of a contract on {coin}: {VALID_SYMBOLS}")
    if not _SYMBOL.fullmatch(symbol):
        raise ConfigError(f"{text!r} is not a symbol: {VALID_SYMBOLS}")
    return symbol


def _integer(lowest: int, highest: int) -> Kind:
    def parse(text: str, _: Collection[str]) -> int:
        if not _INTEGER.fullmatch(text) or not lowest <= int(text) <= highest:
            raise ValueError
        return int(text)

    return Kind(valid=f"whole numbers from {lowest} to {highest}", parse=parse)


def _parse_folder(text: str, _: Collection[str]) -> Path:
    try:
        folder = Path(text).expanduser().resolve()
        name = str(folder).encode().decode()
    except (OSError, RuntimeError, UnicodeError) as error:
        raise ValueError(str(error)) from error
    if "," in name or not name.isprintable():  # PostgreSQL separates the folders of sockets by commas
        raise ValueError("it holds a comma or an unprintable character")
    if any(len(part.encode()) > MAX_PATH_PART_BYTES for part in folder.parts):
        raise ValueError(f"a name in it is longer than {MAX_PATH_PART_BYTES} bytes")
    return folder


def _split_list(text: str) -> list[str]:
    """Return the entries of a comma list without blanks, each once, in their order."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _parse_symbols(text: str, _: Collection[str]) -> tuple[str, ...]:
    if text.lower() == "all":
        return ALL_SYMBOLS
    symbols, mistakes = [], []
    for part in _split_list(text):
        try:
            symbols.append(check_symbol(part))
        except ConfigError as error:
            mistakes.append(str(error).removesuffix(f": {VALID_SYMBOLS}"))
    if "ALL" in symbols:
        mistakes.append("'all' stands alone")
    if mistakes or not symbols:
        raise ValueError("; ".join(mistakes))
    return tuple(dict.fromkeys(symbols))


def _parse_exchanges(text: str, exchange_names: Collection[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.lower() for part in _split_list(text)))
    unknown = [name for name in chosen if name not in exchange_names]
    if unknown or not chosen:
        raise ValueError(f"unknown exchange {', '.join(unknown)}" if unknown else "")
    return chosen


def _split_url(text: str) -> SplitResult:
    """Return the parts of a URL; raise ValueError, which shows nothing of it, when it or its port is wrong."""
    try:
        parts = urlsplit(text)
        port = None if parts.scheme == "unix" else parts.port
    except ValueError as error:  # its text may show a password
        raise ValueError("malformed address or port") from error
    if port == 0:
        raise ValueError("port 0")
    return parts


def _server_url(*schemes: str, check: Callable[[str], None]) -> Kind:
    def parse(text: str, _: Collection[str]) -> str:
        parts = _split_url(text)
        if parts.scheme not in schemes or "//" not in text:
            raise ValueError
        try:
            (parts.hostname or "").encode("idna")
            check(text)
        except (TypeError, ValueError, UnicodeError) as error:  # its text may show a password
            raise ValueError("a part of the address is wrong") from error
        return text

    return Kind(
        valid=f"addresses that start with {' or '.join(f'{scheme}://' for scheme in schemes)}",
        parse=parse,
        show=mask_url,
    )


def _check_database_url(text: str) -> None:
    extensions = importlib.import_module("psycopg2.extensions")  # for commands that need it only
    try:
        extensions.parse_dsn(text)
    except extensions.connection.ProgrammingError as error:
        raise ValueError from error


def _check_redis_url(text: str) -> None:
    pool = importlib.import_module("redis").ConnectionPool.from_url(text)
    pool.make_connection()
    if pool.connection_kwargs.keys() & {"decode_responses", "connection_class", "retry"}:
        raise ValueError


def _origin(*schemes: str) -> Kind:
    def parse(text: str, _: Collection[str]) -> str:
        parts = _split_url(text)
        has_more = parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme not in schemes or not parts.hostname or has_more:
            raise ValueError
        return f"{parts.scheme}://{parts.netloc}"

    return Kind(valid=f"scheme and host without a path, such as {schemes[0]}://host", parse=parse, show=mask_url)


def _base(*schemes: str) -> Kind:
    def parse(text: str, _: Collection[str]) -> str:
        parts = _split_url(text)
        if parts.scheme not in schemes or not parts.hostname or parts.query or parts.fragment:
            raise ValueError
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"

    return Kind(valid=f"scheme, host and path, such as {schemes[0]}://host/folder", parse=parse, show=mask_url)


def _parse_archives(text: str, exchange_names: Collection[str]) -> Mapping[str, str]:
    if text.strip().lower() == "none":
        return MappingProxyType({})
    words: dict[str, str] = {}
    for part in _split_list(text):
        left, _, word = part.partition(":")
        name = left.strip().lower()
        if name not in exchange_names:
            raise ValueError(f"unknown exchange {name}" if name else "")
        if name in words:
            raise ValueError(f"{name} stands in it twice")
        words[name] = word.strip().lower()
    if not words:
        raise ValueError
    return MappingProxyType(words)


def _show_archives(words: Mapping[str, str]) -> str:
    return ",".join(f"{name}:{word}" if word else name for name, word in words.items()) or "none"


def _parse_egress(text: str, _: Collection[str]) -> tuple[tuple[str, str], ...]:
    addresses: dict[str, str] = {}
    for part in _split_list(text):
        match = _EGRESS_NAME.fullmatch(part)
        address = match["address"].strip() if match else part
        parts = _split_url(address) if "://" in address else None
        name = match["name"] if match else mask_url(part)
        if address in addresses.values() or (match and name in addresses):
            raise ValueError(f"{mask_text(part)} stands in it twice")
        if name in addresses:
            raise ValueError(f"two proxies differ in their passwords only: write name= before {mask_text(part)}")
        if parts is not None:
            if parts.scheme not in PROXY_SCHEMES or not parts.hostname:
                raise ValueError(f"{mask_text(address)} is not the URL of a proxy")
        else:
            ipaddress.ip_address(address)
        addresses[name] = address
    return tuple(addresses.items())


def _show_egress(egress: tuple[tuple[str, str], ...]) -> str:
    return ",".join(name if name == mask_url(url) else f"{name}={mask_url(url)}" for name, url in egress)


def _parse_host(text: str, _: Collection[str]) -> str:
    if not re.fullmatch(r"[\w.:%-]+", text):
        raise ValueError
    return text


def _parse_switch(text: str, _: Collection[str]) -> bool:
    if text.lower() not in ("on", "off"):
        raise ValueError
    return text.lower() == "on"


def _parse_shares(text: str, exchange_names: Collection[str]) -> Mapping[str, Decimal]:
    shares: dict[str, Decimal] = {}
    for part in _split_list(text):
        left, equals, right = part.partition("=")
        name, number = (left.strip().lower(), right.strip()) if equals else ("", left)
        if name and name not in exchange_names:
            raise ValueError(f"unknown exchange {name}")
        if not _NUMBER.fullmatch(number) or not 0 < Decimal(number) <= 1 or name in shares:
            raise ValueError
        shares[name] = Decimal(number)
    return MappingProxyType(shares)


def _show_shares(shares: Mapping[str, Decimal]) -> str:
    return ",".join(f"{name}={share}" if name else str(share) for name, share in shares.items())


SECRET = Kind(valid="any text", parse=lambda text, _: text, show=lambda _: MASK)
FOLDER = Kind(valid="folders whose path is UTF-8 text without commas and line breaks", parse=_parse_folder)
SYMBOLS = Kind(valid="'all' or a comma list of coins such as BTC,ETH,PEPE", parse=_parse_symbols, show=",".join)
EXCHANGES = Kind(valid="comma lists of {exchanges}", parse=_parse_exchanges, show=",".join)
HOST = Kind(valid="host names and addresses such as 127.0.0.1, ::1 or 0.0.0.0", parse=_parse_host)
HOSTS = Kind(
    valid="comma lists of host names and addresses",
    parse=lambda text, _: tuple(_parse_host(part, ()) for part in _split_list(text)),
    show=",".join,
)
SWITCH = Kind(valid="on and off", parse=_parse_switch, show=lambda value: "on" if value else "off")
EGRESS = Kind(
    valid="comma lists of [name=]local IP address or proxy URL, each once", parse=_parse_egress, show=_show_egress
)
PACE = Kind(
    valid=f"speed@ms: a speed from 1 to {MAX_SPEED} and a time in ms, such as 6@1790000000000",
    parse=lambda text, _: parse_pace(text),
    show=lambda pace: f"{pace.speed}@{pace.since_ms}",
)
ARCHIVES = Kind(
    valid="none, or a comma list of exchange:licence, the licence where its terms need one; exchanges: {exchanges}",
    parse=_parse_archives,
    show=_show_archives,
)
SHARES = Kind(
    valid="numbers above 0 and up to 1, and exchange=number in a comma list; exchanges: {exchanges}",
    parse=_parse_shares,
    show=_show_shares,
)


def _setting(name: str, kind: Kind, default: str, help_text: str, unset: str = "") -> Any:
    """Declare a setting as a field of `Settings`."""
    setting = Setting(name=name, kind=kind, default=default, unset=unset, help=help_text)
    return field(default_factory=lambda: kind.parse(default, ()) if default else None, metadata={"setting": setting})


def _exchange_setting(name: str, kind: Kind, help_text: str, unset: str) -> Any:
    """Declare a setting that each exchange has, as a field of `Settings`: exchange name -> value that is set."""
    setting = Setting(name=name, kind=kind, default="", unset=unset, help=help_text, is_per_exchange=True)
    return field(default_factory=lambda: MappingProxyType({}), metadata={"setting": setting})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one process. None stands for a setting that is not set."""

    home: Path = _setting(  # noqa: RUF009 - it returns a dataclass field
        "HOME",
        FOLDER,
        "var",
        "folder of database files, sockets, logs and pid files; the demo has its own, `demo` in it",
    )
    database_url: str | None = _setting(
        "DATABASE_URL",
        _server_url("postgresql", "postgres", check=_check_database_url),
        "",
        "address of PostgreSQL 14 or later, or of TimescaleDB 2; embedded: the server that FadeMoe brings",
        "embedded: {settings.postgres_url}",
    )
    redis_url: str | None = _setting(
        "REDIS_URL",
        _server_url("redis", "rediss", "unix", check=_check_redis_url),
        "",
        "address of Redis 6.2 or later, or of Valkey; embedded: the server that FadeMoe brings",
        "embedded: {settings.queue_url}",
    )
    symbols: tuple[str, ...] = _setting(
        "SYMBOLS", SYMBOLS, DEFAULT_SYMBOLS, "coins to follow live; `all`: every live USDT perpetual"
    )
    exchanges: tuple[str, ...] | None = _setting(
        "EXCHANGES", EXCHANGES, "", "exchanges to collect from", "every exchange that needs no key or whose key is set"
    )
    workers: int = _setting("WORKERS", _integer(1, 256), "8", "worker processes on this host")
    limit_shares: Mapping[str, Decimal] = _setting(
        "LIMIT_SHARE",
        SHARES,
        "0.9",
        "share of each rate limit that is used; `0.9,<exchange>=0.5` sets another one for an exchange",
    )
    egress: tuple[tuple[str, str], ...] | None = _setting(
        "EGRESS",
        EGRESS,
        "",
        "addresses that requests leave by: comma list of `[name=]local IP address or proxy URL`; each has its own rate"
        " limits, and hosts behind one public address give it the same name",
        "the host's own address, under the host's name",
    )
    archives: Mapping[str, str] = _setting(
        "ARCHIVES",
        ARCHIVES,
        "none",
        "exchanges whose archives of files may be used for history, each with the word of its licence:"
        " `<exchange>:<licence>`; without it no request is ever sent to an archive",
    )
    archive_workers: int = _setting(
        "ARCHIVE_WORKERS", _integer(1, 16), "2", "processes on this host that import files of archives"
    )
    research_workers: int = _setting(
        "RESEARCH_WORKERS", _integer(0, 64), "1", "processes on this host that run backtests and sweeps"
    )
    web_host: str = _setting("WEB_HOST", HOST, "127.0.0.1", "address that the web server listens on")
    web_port: int = _setting("WEB_PORT", _integer(1, 65_535), "8000", "port that the web server listens on")
    admin_token: str | None = _setting(
        "ADMIN_TOKEN",
        SECRET,
        "",
        "token for every action that changes something",
        "made on first start, in the file admin_token under FADEMOE_HOME",
    )
    mcp_host: str = _setting("MCP_HOST", HOST, "127.0.0.1", "address that the server of AI assistants listens on")
    mcp_port: int = _setting("MCP_PORT", _integer(1, 65_535), "8001", "port that this server listens on")
    mcp_token: str | None = _setting(
        "MCP_TOKEN",
        SECRET,
        "",
        "token that AI assistants send over HTTP",
        "made on first start, in the file mcp_token under FADEMOE_HOME",
    )
    mcp_allowed_hosts: tuple[str, ...] | None = _setting(
        "MCP_ALLOWED_HOSTS",
        HOSTS,
        "",
        "further names by which AI assistants reach the server: values of the header Host, without the port",
        "loopback and FADEMOE_MCP_HOST",
    )
    mcp_sql: bool = _setting(
        "MCP_SQL", SWITCH, "off", "whether AI assistants may send SQL; it reads the views of fademoe_mcp, nothing else"
    )
    retention_days: int | None = _setting(
        "RETENTION_DAYS", _integer(1, 36_500), "", "days after which rows are deleted", "rows are kept for ever"
    )
    clock: Pace | None = _setting(  # noqa: RUF009 - it returns a dataclass field
        "CLOCK",
        PACE,
        "",
        "for runs against the simulator: `speed@ms` lets the clock run so many times as fast as the host's since then",
        "the host's clock",
    )
    rest_urls: Mapping[str, str] = _exchange_setting(
        "REST_URL", _origin("https", "http"), "REST API of an exchange: scheme and host, no path", "the real host"
    )
    ws_urls: Mapping[str, str] = _exchange_setting(
        "WS_URL", _origin("wss", "ws"), "WebSocket API of an exchange: scheme, host and port, no path", "the real host"
    )
    archive_urls: Mapping[str, str] = _exchange_setting(
        "ARCHIVE_URL", _base("https", "http"), "archive of files of an exchange: address of its files", "the real host"
    )
    archive_list_urls: Mapping[str, str] = _exchange_setting(
        "ARCHIVE_LIST_URL",
        _base("https", "http"),
        "listing of the bucket of an exchange's archive, where it has one",
        "the real host",
    )
    keys: Mapping[str, str] = _exchange_setting(
        "KEY", SECRET, "API key of an exchange", "an exchange that needs a key is left out"
    )

    @classmethod
    def read_env(cls, environ: Mapping[str, str], exchange_names: Collection[str]) -> "Settings":
        """Read and check every FADEMOE_* variable; an empty one counts as not set.

        Raises ConfigError that names the variable and the valid values.
        """
        given = {name: value.strip() for name, value in environ.items() if name.upper().startswith(PREFIX)}
        given = {name: value for name, value in given.items() if value}
        variables = {
            variable: (attribute, setting, exchange)
            for attribute, setting in list_declared_settings().items()
            for variable, exchange in setting.list_variables(exchange_names).items()
        }
        if unknown := sorted(set(given) - set(variables)):
            raise ConfigError(f"unknown setting {', '.join(unknown)}: valid are {', '.join(sorted(variables))}")
        values: dict[str, Any] = {}
        for variable, text in given.items():
            attribute, setting, exchange = variables[variable]
            value = setting.parse(variable, text, exchange_names)
            values[attribute] = MappingProxyType({**values.get(attribute, {}), exchange: value}) if exchange else value
        return cls(**values)

    def compute_kept_from_ms(self, now_ms: int) -> int | None:
        """Return the time before which FADEMOE_RETENTION_DAYS deletes rows, on the hour; None: nothing is deleted."""
        return floor_to(now_ms - self.retention_days * DAY_MS, HOUR_MS) if self.retention_days else None

    def clip_to_kept(self, windows: Iterable[Window], now_ms: int) -> list[Window]:
        """Return what FADEMOE_RETENTION_DAYS keeps of windows; older rows would be dropped as soon as stored."""
        from_ms = self.compute_kept_from_ms(now_ms) or 0
        return [Window(max(window.start_ms, from_ms), window.end_ms) for window in windows if window.end_ms > from_ms]

    def get_limit_share(self, exchange: str) -> Decimal:
        """Return the share of an exchange's rate limits that is used, above 0 and up to 1."""
        default = list_declared_settings()["limit_shares"].default
        return self.limit_shares.get(exchange, self.limit_shares.get("", Decimal(default)))

    @property
    def run_dir(self) -> Path:
        """Folder of sockets and pid files."""
        return self.home / "run"

    @property
    def log_dir(self) -> Path:
        """Folder of the rotated logs."""
        return self.home / "log"

    @property
    def postgres_url(self) -> str:
        """Address of PostgreSQL, embedded or given."""
        return self.database_url or f"postgresql://fademoe@/fademoe?host={quote(str(self.run_dir))}"

    @property
    def queue_url(self) -> str:
        """Address of Redis, embedded or given."""
        return self.redis_url or f"unix://{quote(str(self.run_dir / 'redis.sock'))}"

    @property
    def web_url(self) -> str:
        """Address of the pages on this host, without a slash at the end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.web_host, self.web_host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.web_port}"

    @property
    def is_simulated(self) -> bool:
        """Whether the API of any exchange is on this machine: then the data are not market data."""
        urls = (*self.rest_urls.values(), *self.ws_urls.values())
        return any(urlsplit(url).hostname in LOOPBACK for url in urls)

    def list_rows(self) -> list[tuple[str, str]]:
        """Return (variable, value in effect) of every setting for people to read, secrets masked.

        Of settings that each exchange has, only those that are set.
        """
        return [(variable, shown) for variable, shown, _ in self._list_values()]

    def list_digests(self) -> list[tuple[str, str]]:
        """Return the rows of `list_rows`, with a digest behind each masked one: they differ where the values do."""
        return [
            (variable, f"{shown} {hashlib.sha256(repr(value).encode()).hexdigest()[:16]}" if MASK in shown else shown)
            for variable, shown, value in self._list_values()
        ]

    def _list_values(self) -> Iterator[tuple[str, str, Any]]:
        """Yield the variable of each setting, its value for people to read, and the value itself."""
        for attribute, setting in list_declared_settings().items():
            value = getattr(self, attribute)
            if setting.is_per_exchange:
                for variable, name in sorted(setting.list_variables(value).items()):
                    yield variable, setting.kind.show(value[name]), value[name]
            elif value is None:
                yield setting.variable, setting.unset.format(settings=self), None
            else:
                yield setting.variable, setting.kind.show(value), value


@cache
def list_declared_settings() -> Mapping[str, Setting]:
    """Return the declaration of every setting by its attribute of `Settings`, in their order."""
    return MappingProxyType({item.name: item.metadata["setting"] for item in fields(Settings)})
