"""The settings: read from the environment once, at the process edge, checked, frozen and passed down."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, urlsplit, urlunsplit

from fademoe.clock import DAY_MS, HOUR_MS, floor_to
from fademoe.errors import ConfigError

PREFIX = "FADEMOE_"
DEFAULT_SYMBOLS = "BTC,ETH,SOL,XRP,DOGE,BNB,ADA,AVAX,LINK,LTC,TRX,DOT,BCH,NEAR,UNI,APT,ARB,SUI,PEPE,SHIB"
ALL_SYMBOLS = ("all",)
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_SYMBOL = re.compile(r"[\w.]{1,40}")
_PER_EXCHANGE = re.compile(r"FADEMOE_([A-Z0-9]+)_(REST_URL|WS_URL|KEY)")
_PLAIN = (
    "DATABASE_URL",
    "REDIS_URL",
    "HOME",
    "SYMBOLS",
    "EXCHANGES",
    "WORKERS",
    "EGRESS",
    "WEB_HOST",
    "WEB_PORT",
    "ADMIN_TOKEN",
    "RETENTION_DAYS",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one process. URLs of exchanges hold only what the user overrides."""

    home: Path
    database_url: str | None = None  # None: the embedded server under `home`
    redis_url: str | None = None  # None: the embedded server under `home`
    symbols: tuple[str, ...] = tuple(DEFAULT_SYMBOLS.split(","))
    exchanges: tuple[str, ...] | None = None  # None: every exchange that can be used without or with its key
    rest_urls: Mapping[str, str] = field(default_factory=dict)  # exchange name -> scheme and host
    ws_urls: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    workers: int = 8
    egress: tuple[tuple[str, str], ...] = ()  # (name, local address or proxy URL)
    web_host: str = "127.0.0.1"
    web_port: int = 8000
    admin_token: str | None = None  # None: made on first start, kept under `home`
    retention_days: int | None = None  # None: keep for ever

    @classmethod
    def from_env(cls, environ: Mapping[str, str], exchange_names: Collection[str]) -> "Settings":
        """Read and check every FADEMOE_* variable; an empty one counts as not set.

        Raises ConfigError that names the variable and the valid values.
        """
        given = {name: value.strip() for name, value in environ.items() if name.startswith(PREFIX) and value.strip()}
        _refuse_unknown(given, exchange_names)

        def get(name: str, default: str = "") -> str:
            return given.get(PREFIX + name, default)

        per_exchange: dict[str, dict[str, str]] = {"REST_URL": {}, "WS_URL": {}, "KEY": {}}
        for variable, value in given.items():
            match = _PER_EXCHANGE.fullmatch(variable)
            if match and match[1].lower() in exchange_names:
                checked = value if match[2] == "KEY" else _origin(variable, value, match[2])
                per_exchange[match[2]][match[1].lower()] = checked
        return cls(
            home=Path(get("HOME", "var")).expanduser().resolve(),
            database_url=_server_url("DATABASE_URL", get("DATABASE_URL"), ("postgresql", "postgres")),
            redis_url=_server_url("REDIS_URL", get("REDIS_URL"), ("redis", "rediss", "unix")),
            symbols=_symbols(get("SYMBOLS", DEFAULT_SYMBOLS)),
            exchanges=_names("EXCHANGES", get("EXCHANGES"), exchange_names) if get("EXCHANGES") else None,
            rest_urls=MappingProxyType(per_exchange["REST_URL"]),
            ws_urls=MappingProxyType(per_exchange["WS_URL"]),
            keys=MappingProxyType(per_exchange["KEY"]),
            workers=_integer("WORKERS", get("WORKERS", "8"), 1, 256),
            egress=_egress(get("EGRESS")),
            web_host=get("WEB_HOST", "127.0.0.1"),
            web_port=_integer("WEB_PORT", get("WEB_PORT", "8000"), 1, 65535),
            admin_token=get("ADMIN_TOKEN") or None,
            retention_days=_integer("RETENTION_DAYS", get("RETENTION_DAYS"), 1, 36_500)
            if get("RETENTION_DAYS")
            else None,
        )

    def kept_from_ms(self, now_ms: int) -> int | None:
        """Return the edge of FADEMOE_RETENTION_DAYS, on the hour: what is older goes. None: everything is kept."""
        return floor_to(now_ms - self.retention_days * DAY_MS, HOUR_MS) if self.retention_days else None

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
    def simulated(self) -> bool:
        """Whether any exchange is answered by this machine itself: its data are not market data."""
        urls = (*self.rest_urls.values(), *self.ws_urls.values())
        return any(urlsplit(url).hostname in LOOPBACK for url in urls)

    def rows(self) -> list[tuple[str, str]]:
        """Return (variable, resolved value) for people to read, with secrets masked."""
        found = [
            ("HOME", str(self.home)),
            ("DATABASE_URL", mask_url(self.database_url) if self.database_url else f"embedded: {self.postgres_url}"),
            ("REDIS_URL", mask_url(self.redis_url) if self.redis_url else f"embedded: {self.queue_url}"),
            ("SYMBOLS", ",".join(self.symbols)),
            ("EXCHANGES", ",".join(self.exchanges) if self.exchanges else "default"),
            ("WORKERS", str(self.workers)),
            (
                "EGRESS",
                ",".join(f"{name}={mask_url(value)}" for name, value in self.egress) or "the host's own address",
            ),
            ("WEB_HOST", self.web_host),
            ("WEB_PORT", str(self.web_port)),
            ("ADMIN_TOKEN", "***" if self.admin_token else "in the file admin_token under FADEMOE_HOME"),
            ("RETENTION_DAYS", str(self.retention_days) if self.retention_days else "for ever"),
        ]
        found += [(f"{name.upper()}_REST_URL", url) for name, url in sorted(self.rest_urls.items())]
        found += [(f"{name.upper()}_WS_URL", url) for name, url in sorted(self.ws_urls.items())]
        found += [(f"{name.upper()}_KEY", "***") for name in sorted(self.keys)]
        return [(PREFIX + name, value) for name, value in found]


def mask_url(url: str) -> str:
    """Replace the password of a URL by ***."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def check_symbol(text: str) -> str:
    """Return a well-formed symbol in upper case; raise ConfigError otherwise."""
    symbol = text.strip().upper()
    if not _SYMBOL.fullmatch(symbol):
        raise ConfigError(f"{text!r} is not a symbol: valid are coin names such as BTC, ETH, PEPE")
    return symbol


def _refuse_unknown(given: Mapping[str, str], exchange_names: Collection[str]) -> None:
    known = {PREFIX + name for name in _PLAIN}
    known |= {f"{PREFIX}{name.upper()}_{what}" for name in exchange_names for what in ("REST_URL", "WS_URL", "KEY")}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigError(f"unknown setting {', '.join(unknown)}: valid are {', '.join(sorted(known))}")


def _integer(name: str, text: str, lowest: int, highest: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
        raise ConfigError(f"{PREFIX}{name} is {text!r}: valid are whole numbers from {lowest} to {highest}")
    return int(text)


def _names(name: str, text: str, valid: Collection[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    unknown = [part for part in chosen if part not in valid]
    if unknown or not chosen:
        raise ConfigError(f"{PREFIX}{name} is {text!r}: valid are {', '.join(sorted(valid))}")
    return chosen


def _symbols(text: str) -> tuple[str, ...]:
    if text.lower() == "all":
        return ALL_SYMBOLS
    chosen = tuple(dict.fromkeys(check_symbol(part) for part in text.split(",") if part.strip()))
    if not chosen:
        raise ConfigError(f"{PREFIX}SYMBOLS is {text!r}: valid are 'all' or a comma list such as BTC,ETH,PEPE")
    return chosen


def _server_url(name: str, url: str, schemes: tuple[str, ...]) -> str | None:
    if url and urlsplit(url).scheme not in schemes:
        raise ConfigError(f"{PREFIX}{name} is {mask_url(url)!r}: valid are addresses that start with {schemes[0]}://")
    return url or None


def _origin(variable: str, url: str, what: str) -> str:
    schemes = ("https", "http") if what == "REST_URL" else ("wss", "ws")
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigError(
            f"{variable} is {url!r}: valid are scheme and host without a path, such as {schemes[0]}://host"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _egress(text: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, address = part.partition("=")
        if not equals:
            name, address = part, part
        if not address or name in found:
            raise ConfigError(
                f"{PREFIX}EGRESS is {text!r}: valid is a comma list of [name=]local address or proxy, each once"
            )
        found[name] = address
    return tuple(found.items())
