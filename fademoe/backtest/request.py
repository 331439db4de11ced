"""What a user asks for, as texts: by command, page or API. `make_plan` makes a plan of it."""

import ast
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Self

from psycopg2.extensions import cursor as Cursor

from fademoe.account.state import Conditions
from fademoe.backtest.database import resolve_symbols
from fademoe.backtest.plan import MARGINS, Plan, check_range, find_code, find_fees, read_tiers
from fademoe.backtest.strategies import PYTHON, TOML, StrategyFile
from fademoe.clock import Window, now_ms, to_iso
from fademoe.errors import ConfigError
from fademoe.settings import ALL_SYMBOLS, check_symbol

EXAMPLES = Path(__file__).resolve().parents[2] / "strategies"
MAX_LATENCY = 1440


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run as it is asked for. Numbers are decimals as text; what is None has its default.

    `name` and `text` are of the strategy's file; `symbols` a comma list or `all`; `tiers` as in a file of tiers.
    """

    name: str
    text: str
    exchange: str
    symbols: str
    since: int
    until: int
    params: Mapping[str, str] = field(default_factory=dict)
    capital: str = "10000"
    maker: str | None = None
    taker: str | None = None
    slippage: str = "0.0001"
    latency: int = 0
    margin: str = "cross"
    leverage: str = "1"
    liquidation_fee: str = "0.005"
    tiers: Mapping[str, Any] = field(default_factory=dict)
    as_of: int | None = None
    allow_holes: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the request as values that JSON can hold."""
        return {"request": asdict(self), "symbols": self.symbols.split(","), "exchange": self.exchange} | {
            "since": self.since,
            "until": self.until,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the request that `to_json` wrote."""
        return cls(**stored["request"])


def is_request(stored: Mapping[str, Any]) -> bool:
    """Say whether what is stored of a run is still a request, not a plan."""
    return "request" in stored


def make_conditions(request: RunRequest, symbols: tuple[str, ...]) -> Conditions:
    """Return the conditions of a request; raise ConfigError that names what is wrong."""
    maker, taker = find_fees(
        request.exchange,
        None if request.maker is None else _read("maker", request.maker, "-0.1", "0.1"),
        None if request.taker is None else _read("taker", request.taker, "-0.1", "0.1"),
    )
    if request.margin not in MARGINS:
        raise ConfigError(f"--margin is {request.margin!r}: valid are {', '.join(MARGINS)}")
    if not 0 <= request.latency <= MAX_LATENCY:
        raise ConfigError(f"--latency is {request.latency}: valid are 0 to {MAX_LATENCY} minutes")
    return Conditions(
        symbols=symbols,
        maker=maker,
        taker=taker,
        slippage=_read("slippage", request.slippage, "0", "0.5"),
        latency=request.latency,
        leverage=_read("leverage", request.leverage, "0", "1000", low_is_valid=False),
        isolated=request.margin == "isolated",
        liquidation_fee=_read("liquidation-fee", request.liquidation_fee, "0", "0.5"),
        allow_holes=request.allow_holes,
    )


def check_request(request: RunRequest) -> None:
    """Raise ConfigError for what is wrong in a request, as far as neither database nor strategy are needed."""
    check_range(request.since, request.until)
    if request.as_of is not None and request.as_of > now_ms():
        raise ConfigError(f"--as-of is {to_iso(request.as_of)}: valid are times up to now")
    if request.as_of is not None and request.until > request.as_of:
        raise ConfigError(f"--until {to_iso(request.until)} is after --as-of {to_iso(request.as_of)}")
    find_code(request.exchange)
    read_symbols(request.symbols)
    _read("capital", request.capital, "0", "1e15", low_is_valid=False)
    make_conditions(request, ())


def make_plan(cursor: Cursor, request: RunRequest) -> Plan:
    """Return the plan of a request; raise ConfigError for a wrong one."""
    check_request(request)
    code = find_code(request.exchange)
    strategy = StrategyFile(request.name, request.text)
    params = strategy.read_params(request.params)
    tiers = {symbol: read_tiers(symbol, tiers) for symbol, tiers in request.tiers.items()}
    symbols = resolve_symbols(cursor, code, read_symbols(request.symbols), Window(request.since, request.until))
    if not symbols:
        raise ConfigError(f"--symbols is {request.symbols!r}: no contract of {request.exchange} traded in the range")
    return Plan(
        strategy=strategy,
        params=params,
        exchange=request.exchange,
        code=code,
        symbols=symbols,
        since=request.since,
        until=request.until,
        capital=Decimal(request.capital),
        conditions=make_conditions(request, symbols),
        tiers=tiers,
        as_of=request.as_of,
    )


def read_symbols(text: str) -> list[str] | None:
    """Return the symbols of a comma list, None for all; raise ConfigError."""
    if (text.strip().lower(),) == ALL_SYMBOLS:
        return None
    names = list(dict.fromkeys(check_symbol(part.strip()) for part in text.split(",") if part.strip()))
    if not names:
        raise ConfigError(f"--symbols is {text!r}: valid are symbols such as BTC,ETH, or all")
    return names


def list_examples() -> list[Path]:
    """Return the strategy files of the checkout, by name."""
    return sorted(path for path in EXAMPLES.glob("*") if path.suffix in (PYTHON, TOML))


def read_declared_params(path: Path) -> dict[str, Any]:
    """Return the params that a Python strategy declares as plain values, without running it."""
    if path.suffix != PYTHON:
        return {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "params" for to in node.targets):
            try:
                found = ast.literal_eval(node.value)
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}
    return {}


def _read(name: str, text: str, low: str, high: str, *, low_is_valid: bool = True) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    bottom, top = Decimal(low), Decimal(high)
    if not number.is_finite() or number > top or number < bottom or (number == bottom and not low_is_valid):
        words = f"from {low}" if low_is_valid else f"above {low}"
        raise ConfigError(f"--{name} is {text!r}: valid are numbers {words} to {high}")
    return number
