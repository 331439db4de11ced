"""Rule strategies in TOML: expressions that say when to be long, short or out."""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache, lru_cache
from typing import Any

from fademoe.account.numbers import ONE, ZERO
from fademoe.backtest.market import Bars, Market, Samples, Settlements, Value
from fademoe.clock import MINUTE_MS
from fademoe.errors import ConfigError
from fademoe.expressions import Evaluator, Expression, ExpressionError, Measure, Vocabulary, compile_expression
from fademoe.feeds import registry
from fademoe.strategy import Limit, Order, Orders, Stop, Strategy, Target

EXPRESSIONS = ("long", "short", "exit")
NUMBERS = ("size", "stop", "take")
KEYS = (*EXPRESSIONS, *NUMBERS)
ABOVE, FROM = "above 0", "from 0"
_BOUNDS = {"size": (ABOVE, 1_000_000), "stop": (FROM, 1), "take": (FROM, 1_000_000)}
_BRACES = re.compile(r"\{([^{}]*)\}")
TABLE = "params"  # further numbers, which expressions name in braces: sma(c, {fast}m)


class RuleStrategy(Strategy):
    """Long while `long` came true and `short` is not, short likewise, out on `exit`; unknown decides nothing.

    There is no rebalancing while the side stays. `stop` and `take` are sent when a position is opened or changed.
    """

    name: str
    texts: Mapping[str, str]  # of the expressions, with the names of params in braces
    size: Decimal
    stop: Decimal
    take: Decimal

    def __init__(self) -> None:
        self.held: dict[str, Decimal] = {}  # the position of each symbol at the end of the minute before

    def on_minute(self, view: Any) -> Orders:
        """Return a target where the side changes, and stop and take where the position has changed."""
        evaluator, rules = Evaluator(view.as_expressions()), self.compile_rules()
        orders: dict[str, list[Order]] = {}
        for symbol in view.symbols:
            position = view.position(symbol)
            chosen = self._choose(evaluator, rules, view.code, symbol, position)
            guards = self._guard(symbol, position, view.entry(symbol))
            if chosen is not None or guards is not None:
                orders[symbol] = [*([] if chosen is None else [chosen]), *(guards or [])]
        return orders

    def compile_rules(self) -> dict[str, Expression]:
        """Return the expressions with the params in them."""
        params = {name: getattr(self, name) for name in self.params}
        return {
            key: _compile(self.name, key, _fill_in(self.name, key, text, params)) for key, text in self.texts.items()
        }

    def _choose(
        self, evaluator: Evaluator, rules: Mapping[str, Expression], code: str, symbol: str, position: Decimal
    ) -> Target | None:
        outcomes = {
            name: evaluator.evaluate(rules[name].root, code, symbol) if name in rules else False for name in EXPRESSIONS
        }
        is_long, is_short = outcomes["long"] is True, outcomes["short"] is True
        if is_long and is_short:
            return None
        if is_long:
            return Target(self.size) if position <= 0 else None
        if is_short:
            return Target(-self.size) if position >= 0 else None
        return Target(ZERO) if outcomes["exit"] is True and position else None

    def _guard(self, symbol: str, position: Decimal, entry: Decimal | None) -> list[Order] | None:
        """Return stop and take of a position that has changed, an empty list when it is flat, None otherwise.

        The take of a short at 100 % or more is left out: no price falls to zero.
        """
        before = self.held.get(symbol, ZERO)
        self.held[symbol] = position
        if position == before or not (self.stop or self.take):
            return None
        if entry is None:
            return []
        side = ONE if position > 0 else -ONE
        guards: list[Order] = []
        if self.stop:
            guards.append(Stop(-position, entry * (ONE - side * self.stop), reduce=True))
        if self.take and -side * self.take < ONE:
            guards.append(Limit(-position, entry * (ONE + side * self.take), reduce=True))
        return guards


def load_rules(name: str, text: str) -> type[RuleStrategy]:
    """Return the strategy of a TOML file; raise ConfigError that names key, position and valid words."""
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: {error}") from error
    unknown = [key for key in content if key not in (*KEYS, TABLE)]
    if unknown:
        raise ConfigError(f"{name}: unknown key {unknown[0]!r}: valid are {', '.join((*KEYS, TABLE))}")
    if not any(key in content for key in ("long", "short")):
        raise ConfigError(f"{name}: one of long and short is required")
    given = content.get("params", {})
    if not isinstance(given, dict) or any(
        key in KEYS or isinstance(value, dict | list) for key, value in given.items()
    ):
        raise ConfigError(f"{name}: params is a table of numbers or texts, with other names than {', '.join(KEYS)}")
    given = {key: Decimal(str(value)) if isinstance(value, float) else value for key, value in given.items()}
    texts = {}
    for key in EXPRESSIONS:
        if key not in content:
            continue
        if not isinstance(content[key], str):
            raise ConfigError(f"{name}: {key} is {content[key]!r}: valid is an expression as text")
        texts[key] = content[key]
        _compile(name, key, _fill_in(name, key, content[key], given))
    numbers = {
        "size": read_number(name, "size", content.get("size", 1)),
        "stop": read_number(name, "stop", content.get("stop", 0)),
        "take": read_number(name, "take", content.get("take", 0)),
    }
    members = {"name": name, "texts": texts, "params": given | numbers, "__doc__": RuleStrategy.__doc__}
    return type("Rules", (RuleStrategy,), members)


def _fill_in(name: str, key: str, text: str, params: Mapping[str, Any]) -> str:
    def write(found: re.Match[str]) -> str:
        if found[1] not in params:
            raise ConfigError(
                f"{name}: {key}: names in braces are params, such as {{fast}}: {found[1]!r} is none of "
                f"{', '.join(params) or 'them, there are no params'}"
            )
        value = params[found[1]]
        return f"{value:f}" if isinstance(value, Decimal) else str(value)

    return _BRACES.sub(write, text)


@lru_cache(10_000)
def _compile(name: str, key: str, text: str) -> Expression:
    try:
        return compile_expression(text, _vocabulary(), truth=True)
    except ExpressionError as error:
        raise ConfigError(f"{name}: {key}: {error}") from error


@cache
def _vocabulary() -> Vocabulary:
    return Vocabulary.build(registry.list_perpspecs())


def read_number(name: str, key: str, given: object) -> Decimal:
    """Return size, stop or take, given as number or as text such as `2%`; raise ConfigError."""
    text = str(given)
    try:
        number = Decimal(text.removesuffix("%")) * (Decimal("0.01") if text.endswith("%") else ONE)
    except InvalidOperation:
        number = Decimal("NaN")
    lowest, below = _BOUNDS[key]
    is_number = number.is_finite() and not isinstance(given, bool)
    if not is_number or number < 0 or (not number and lowest == ABOVE) or number >= below:
        raise ConfigError(
            f'{name}: {key} is {given!r}: valid are numbers {lowest} and below {below}, such as 0.02 or "2%"'
        )
    return number


class ExpressionView:
    """A market at the end of a minute, as expressions ask for it."""

    def __init__(
        self, market: Market, symbols: Sequence[str], moment_ms: int, find_listed: Callable[[int], Sequence[str]]
    ) -> None:
        """See `market` at `moment_ms`, the end of a minute in which `symbols` trade; `find_listed`: of any other."""
        self._market = market
        self._symbols = symbols
        self._find_listed = find_listed
        self._moment_ms = moment_ms

    @property
    def moment_ms(self) -> int:
        return self._moment_ms

    def get_value(self, code: str, symbol: str, measure: Measure) -> Value:
        reading = self._find(code, symbol, measure)
        if isinstance(reading, Bars):
            return reading.get(measure.column, reading.find_last(measure.column, self._moment_ms))
        return None if reading is None else reading.find_newest(measure.column, self._moment_ms)

    def get_points(
        self, code: str, symbol: str, measure: Measure, offset_ms: int, step_ms: int, count: int
    ) -> Sequence[Value]:
        reading = self._find(code, symbol, measure)
        if not isinstance(reading, Bars | Samples):
            return [None] * count
        return reading.list_known(measure.column, self._moment_ms, count, offset_ms, step_ms)

    def get_settlement(self, code: str, symbol: str, measure: Measure, at_ms: int) -> Value:
        reading = self._find(code, symbol, measure)
        return reading.find_newest(measure.column, at_ms) if isinstance(reading, Settlements) else None

    def list_settlements(
        self, code: str, symbol: str, measure: Measure, start_ms: int, end_ms: int
    ) -> Sequence[Value] | None:
        reading = self._find(code, symbol, measure)
        if not isinstance(reading, Settlements) or not reading.is_whole(start_ms, end_ms):
            return None
        return reading.list_between(measure.column, start_ms, end_ms)

    def list_symbols(self, code: str) -> Sequence[str]:
        return self._symbols

    def go_back(self) -> "ExpressionView":
        before_ms = self._moment_ms - MINUTE_MS
        return ExpressionView(self._market, self._find_listed(before_ms - MINUTE_MS), before_ms, self._find_listed)

    def _find(self, code: str, symbol: str, measure: Measure) -> Bars | Samples | Settlements | None:
        """Return a series; None where the other exchange does not list the coin."""
        if code != self._market.code and not self._market.is_known(code, symbol):
            return None
        return self._market.find_series(code, symbol, measure.metric)
