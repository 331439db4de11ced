"""What a run is: the strategy, the symbols and the range, and the conditions under which it trades."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from fademoe.account.market import Terms, Tier
from fademoe.account.numbers import ZERO, format_decimal
from fademoe.account.state import Conditions
from fademoe.backtest.market import find_missing
from fademoe.backtest.strategies import StrategyFile
from fademoe.clock import MINUTE_MS, Window, floor_to, to_iso
from fademoe.errors import ConfigError, FadeMoeError
from fademoe.feeds import registry
from fademoe.metrics import name_perpspec
from fademoe.store.coverage import Series
from fademoe.store.read.market import Contract, Known

FEES = Path(__file__).resolve().parents[2] / "conf" / "venues.toml"
NEEDED = ("ohlcv", "fr", "mark")  # of the run's exchange, over the whole run
ANY = "*"
LAST_MS = 2**53  # an end that never comes
MARGINS = ("cross", "isolated")
DIGITS_MOST = 100  # of a number of tiers, before or behind the point


class MissingData(FadeMoeError):
    """Wanted data of a run's range are missing; the message lists them, and the command that fills them.

    As of a moment nothing fills them: what is stored now was not stored then.
    """

    def __init__(self, exchange: str, missing: Sequence[tuple[Series, Window]], as_of: int | None = None) -> None:
        self.missing = [
            {"source": series.source, "symbol": series.symbol, "from": to_iso(start_ms), "to": to_iso(end_ms)}
            for series, (start_ms, end_ms) in missing
        ]
        lines = [f"{each['source']} {each['symbol']} {each['from']} .. {each['to']}" for each in self.missing]
        metrics = dict.fromkeys(series.source.rpartition("-")[2] for series, _ in missing)
        exchanges = dict.fromkeys(registry.find_by_source(series.source)[0].name for series, _ in missing)
        symbols = dict.fromkeys(series.symbol for series, _ in missing)
        self.command = (
            f"scripts/seed_backfill.py --exchanges {','.join(exchanges) or exchange} --metrics {','.join(metrics)} "
            f"--symbols {','.join(symbols)} --since {to_iso(min(window.start_ms for _, window in missing))} "
            f"--until {to_iso(max(window.end_ms for _, window in missing))} --wait"
        )
        head, end = "data are missing:", f"fill them with: {self.command}"
        if as_of is not None:
            head, end = f"data were not stored at {to_iso(as_of)}:", "give a later --as-of, or none"
        super().__init__("\n".join([head, *lines, end]))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that makes a run. Two runs of equal plans over equal rows give equal bytes.

    `params` are all of the strategy's. `tiers`: maintenance tiers by symbol, `*` for all, in place of the exchange's.
    `lags`: ms by source and interval, where they are not those of the database (a run that is verified).
    """

    strategy: StrategyFile
    params: Mapping[str, Any]
    exchange: str
    code: str
    symbols: tuple[str, ...]
    since: int
    until: int
    capital: Decimal
    conditions: Conditions
    tiers: Mapping[str, tuple[Tier, ...]] = field(default_factory=dict)
    as_of: int | None = None
    lags: Mapping[str, Mapping[str, int]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as values that JSON can hold, with the text of the strategy."""
        return {
            "strategy": {"name": self.strategy.name, "text": self.strategy.text},
            "params": {name: write_param(value) for name, value in self.params.items()},
            "exchange": self.exchange,
            "code": self.code,
            "symbols": list(self.symbols),
            "since": self.since,
            "until": self.until,
            "capital": str(self.capital),
            "conditions": self.conditions.to_json(),
            "tiers": {symbol: write_tiers(tiers) for symbol, tiers in self.tiers.items()},
            "as_of": self.as_of,
            "lags": self.lags,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the plan that `to_json` wrote."""
        strategy = StrategyFile(stored["strategy"]["name"], stored["strategy"]["text"])
        return cls(
            strategy=strategy,
            params=strategy.read_params({name: str(value) for name, value in stored["params"].items()}),
            exchange=stored["exchange"],
            code=stored["code"],
            symbols=tuple(stored["symbols"]),
            since=stored["since"],
            until=stored["until"],
            capital=Decimal(stored["capital"]),
            conditions=Conditions.from_json(stored["conditions"]),
            tiers={symbol: read_tiers(symbol, tiers) for symbol, tiers in stored["tiers"].items()},
            as_of=stored["as_of"],
            lags=stored["lags"],
        )


def check_range(since: int, until: int) -> None:
    """Raise ConfigError unless [since, until) is whole minutes, one at least."""
    for name, ts in (("--since", since), ("--until", until)):
        if ts % MINUTE_MS:
            raise ConfigError(f"{name} is {to_iso(ts)}: valid are whole minutes")
    if since >= until:
        raise ConfigError(f"--since {to_iso(since)} is not before --until {to_iso(until)}")


def list_exchanges() -> list[str]:
    """Return the names of the exchanges on which one can trade: those that serve what a run needs."""
    tables = registry.load_exchanges()
    return sorted(name for name, table in tables.items() if set(NEEDED) <= set(table.list_metrics()))


def find_code(exchange: str) -> str:
    """Return the code of an exchange on which one can trade; raise ConfigError that names the valid ones."""
    if exchange not in list_exchanges():
        raise ConfigError(f"--exchange is {exchange!r}: valid are {', '.join(list_exchanges())}")
    return registry.load_exchanges()[exchange].codes[0]


@cache
def _read_fees() -> dict[str, dict[str, Any]]:
    return tomllib.loads(FEES.read_text(encoding="utf-8")) if FEES.exists() else {}


def find_fees(exchange: str, maker: Decimal | None, taker: Decimal | None) -> tuple[Decimal, Decimal]:
    """Return the fees of maker and taker: as given, else of the exchange's lowest tier."""
    fees = _read_fees().get(exchange, {})
    for name, value in (("maker", maker), ("taker", taker)):
        if value is None and name not in fees:
            raise ConfigError(f"conf/venues.toml has no fees of {exchange}: give --{name}")
    return (
        Decimal(fees["maker"]) if maker is None else maker,
        Decimal(fees["taker"]) if taker is None else taker,
    )


def read_tiers_file(path: Path) -> dict[str, Any]:
    """Return a JSON file of tiers: {"BTC": [["50000", "0.004"], [null, "0.01"]], "*": …}; raise ConfigError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_float=str)  # a number is read as it is written
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"--tiers {path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f'--tiers {path}: valid is {{"BTC": [["50000", "0.004"], [null, "0.01"]], "*": …}}')
    for symbol, tiers in content.items():
        read_tiers(symbol, tiers)
    return content


def read_tiers(symbol: str, tiers: Any) -> tuple[Tier, ...]:
    """Return tiers given as [[notional up to, rate], …], ascending; raise ConfigError."""
    try:
        read = tuple(Tier(None if bound is None else _read_number(bound), _read_number(rate)) for bound, rate in tiers)
    except (TypeError, ValueError, InvalidOperation) as error:
        raise ConfigError(f"tiers of {symbol}: valid are pairs of [notional up to or null, rate] as text") from error
    bounds = [tier.bound for tier in read]
    ends = [bound for bound in bounds if bound is not None]
    if not read or None in bounds[:-1] or any(b <= a for a, b in pairwise([ZERO, *ends])):
        raise ConfigError(f"tiers of {symbol}: bounds must be above 0 and ascend, and only the last may be null")
    if any(not 0 <= tier.rate < 1 for tier in read):
        raise ConfigError(f"tiers of {symbol}: a rate is a fraction from 0 to below 1")
    return read


def _read_number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(value)
    number = Decimal(value)
    if not number.is_finite() or abs(number.adjusted()) > DIGITS_MOST:
        raise ValueError(value)
    return number


def write_tiers(tiers: Sequence[Tier]) -> list[list[str | None]]:
    """Return tiers as `read_tiers` takes them."""
    return [[None if bound is None else format_decimal(bound), format_decimal(rate)] for bound, rate in tiers]


def write_param(value: Any) -> Any:
    """Return a param as JSON can hold it."""
    return format_decimal(value) if isinstance(value, Decimal) else value


def list_lives(contracts: Sequence[Contract], symbols: Sequence[str]) -> dict[str, tuple[Window, ...]]:
    """Return when the contracts of each symbol trade, in ms; raise ConfigError for a symbol without a contract."""
    lives: dict[str, list[Window]] = {symbol: [] for symbol in symbols}
    for symbol, listed_ms, delisted_ms in contracts:
        lives[symbol].append(Window(listed_ms or 0, LAST_MS if delisted_ms is None else delisted_ms))
    unknown = [symbol for symbol, windows in lives.items() if not windows]
    if unknown:
        raise ConfigError(f"--symbols: the exchange has no contract of {', '.join(unknown)}")
    return {symbol: tuple(sorted(windows)) for symbol, windows in lives.items()}


def choose_terms(symbol: str, terms: Terms, tiers: Mapping[str, tuple[Tier, ...]]) -> Terms:
    """Return the terms of a contract with the tiers of the user's file, where it has any."""
    given = tiers.get(symbol) or tiers.get(ANY)
    if given is None:
        return terms
    assumed = tuple(name for name in terms.assumed if name != "tiers")
    return Terms(lot=terms.lot, min_notional=terms.min_notional, tiers=given, assumed=assumed)


def check_data(plan: Plan, known: Mapping[Series, Known], lives: Mapping[str, Sequence[Window]]) -> None:
    """Raise MissingData unless all that the run needs of its own exchange is covered."""
    window = Window(plan.since, plan.until)
    missing = []
    for symbol in plan.symbols:
        traded = [
            Window(floor_to(life.start_ms, MINUTE_MS), floor_to(life.end_ms, MINUTE_MS)) for life in lives[symbol]
        ]
        for metric in NEEDED:
            series = Series(name_perpspec(plan.code, metric), symbol)
            missing += [(series, each) for each in find_missing(known[series], window, traded)]
    if missing:
        raise MissingData(plan.exchange, missing, plan.as_of)
