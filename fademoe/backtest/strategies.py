"""Strategy files: Python with one subclass of Strategy, or rules in TOML."""

import hashlib
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from decimal import Decimal, InvalidOperation, localcontext
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg2

from fademoe.account.numbers import EXACT
from fademoe.account.orders import BadOrder, read_orders
from fademoe.backtest.rules import NUMBERS, RuleStrategy, load_rules, read_number
from fademoe.errors import ConfigError, FadeMoeError
from fademoe.signals import Stopped
from fademoe.strategy import Order, Strategy

PYTHON, TOML = ".py", ".toml"
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
KINDS = (int, float, str, bool, Decimal)
ANYTHING = (Exception, SystemExit)  # that a user's code may raise: sys.exit() ends its account or run, not the program
DIGITS_MOST = 1000  # of a param, before or behind the point


class StrategyFailed(FadeMoeError):
    """A strategy raised an exception or returned what is no order; the message names file and line."""


class StrategyFile:
    """The text of a strategy and what it says of itself.

    Its code runs in decimal contexts of its own: what it sets there is gone with the call.
    """

    def __init__(self, name: str, text: str) -> None:
        """Read a strategy from its text; `name` is that of its file, which says whether it is Python or TOML.

        Raises ConfigError that names the line.
        """
        self.name = Path(name).name
        self.text = text
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()
        suffix = Path(name).suffix
        if suffix == PYTHON:
            self._class: type[Strategy] = _load_class(self.name, self.sha256, text)
        elif suffix == TOML:
            self._class = load_rules(self.name, text)
        else:
            raise ConfigError(f"{name}: a strategy is a file *{PYTHON} or *{TOML}")
        self.params = _check_params(self.name, self._class.params)
        minutes = self._class.minutes
        if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 1:
            raise ConfigError(f"{self.name}: minutes is {minutes!r}, not a whole number of minutes of at least 1")
        self.minutes = minutes
        if isabstract(self._class):
            raise ConfigError(f"{self.name}: {self._class.__name__} has no on_minute(self, view)")

    @classmethod
    def open(cls, path: Path) -> "StrategyFile":
        """Read a file; raise ConfigError that names it."""
        try:
            return cls(str(path), path.read_bytes().decode())  # with its line ends: the text is hashed
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def read_params(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return all params: the defaults, and what is given as text, parsed to the type of its default.

        Raises ConfigError that names the valid ones.
        """
        params = dict(self.params)
        for name, text in given.items():
            if name not in params:
                raise ConfigError(f"unknown param {name!r} of {self.name}: valid are {', '.join(params) or 'none'}")
            if issubclass(self._class, RuleStrategy) and name in NUMBERS:
                params[name] = read_number(self.name, name, text)
            else:
                params[name] = _parse(name, text, type(params[name]))
        rules = self.make_rules(params) if given and issubclass(self._class, RuleStrategy) else None
        if rules is not None:
            rules.compile_rules()
        return params

    def make_rules(self, params: Mapping[str, Any]) -> RuleStrategy | None:
        """Return an instance of a strategy of rules, None for one in Python."""
        made = self.make(params).instance
        return made if isinstance(made, RuleStrategy) else None

    def make(self, params: Mapping[str, Any]) -> "RunningStrategy":
        """Return an instance with its params set as attributes."""
        return RunningStrategy(self, self._class, params)


class RunningStrategy:
    """A strategy in a run."""

    def __init__(self, file: StrategyFile, make: Callable[[], Any], params: Mapping[str, Any]) -> None:
        self._file = file
        self._filename = _filename(file.name)
        try:
            with localcontext(EXACT):
                self.instance: Strategy = make()
        except ANYTHING as error:
            raise StrategyFailed(self._locate(error)) from error
        for name, value in params.items():
            setattr(self.instance, name, value)

    def get_state(self) -> dict[str, Any]:
        """Return what the strategy remembers: its attributes."""
        return dict(vars(self.instance))

    def set_state(self, attributes: Mapping[str, Any]) -> None:
        """Let the strategy remember what `get_state` returned."""
        vars(self.instance).clear()
        vars(self.instance).update(attributes)

    def decide(self, view: Any, symbols: frozenset[str]) -> dict[str, list[Order]]:
        """Return what the strategy orders at the end of a minute.

        Raises StrategyFailed, and as it is what reading rows raises and a request to stop.
        """
        try:
            with localcontext(EXACT):
                answer = self.instance.on_minute(view)
        except ConfigError as error:  # it asked for a column or an exchange that there is not
            raise StrategyFailed(self._locate(error)) from error
        except (FadeMoeError, Stopped, psycopg2.Error):  # of what it reads, or a stop meanwhile
            raise
        except ANYTHING as error:
            raise StrategyFailed(self._locate(error)) from error
        if answer is None:
            return {}
        try:
            return read_orders(answer, symbols)
        except BadOrder as error:
            line = getattr(getattr(type(self.instance).on_minute, "__code__", None), "co_firstlineno", 1)
            raise StrategyFailed(f"{self._file.name}, line {line}: {error}") from error

    def _locate(self, error: BaseException) -> str:
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == self._filename
        ] or traceback.extract_tb(error.__traceback__)
        line = frames[-1].lineno if frames else 1
        name = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        return f"{self._file.name}, line {line}: {name}{error}"


def _filename(name: str) -> str:
    return f"<strategy {name}>"


def _load_class(name: str, sha256: str, text: str) -> type[Strategy]:
    """Return the one subclass of Strategy that a Python file defines."""
    module = ModuleType(f"fademoe_strategy_{sha256[:16]}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        with localcontext(EXACT), redirect_stdout(sys.stderr):  # stdout is of what the command answers
            exec(compile(text, _filename(name), "exec"), vars(module))
    except SyntaxError as error:
        raise ConfigError(f"{name}, line {error.lineno or 1}: {error.msg}") from error
    except ANYTHING as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == _filename(name)]
        line = frames[-1].lineno if frames else 1
        raise ConfigError(f"{name}, line {line}: {type(error).__name__}: {error}") from error
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Strategy) and each.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(each.__name__ for each in found) or "none"
        raise ConfigError(f"{name}: a strategy file defines one subclass of Strategy; this one: {names}")
    return found[0]


def _check_params(name: str, params: Any) -> dict[str, Any]:
    """Return the params that a class declares; raise ConfigError for what is none."""
    if not isinstance(params, Mapping):
        raise ConfigError(f"{name}: params is {type(params).__name__}: valid is a dict such as {{'fast': 20}}")
    for key, value in params.items():
        if not isinstance(key, str):
            raise ConfigError(f"{name}: params[{key!r}]: valid are names as text")
        if type(value) not in KINDS:
            raise ConfigError(
                f"{name}: params[{key!r}] is {type(value).__name__}: valid are int, float, str, bool, Decimal"
            )
        if not _is_finite(value):
            raise ConfigError(
                f"{name}: params[{key!r}] is {value}, not a finite number of at most {DIGITS_MOST} digits"
            )
    return dict(params)


def _is_finite(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite() and abs(value.adjusted()) <= DIGITS_MOST
    return not isinstance(value, float) or math.isfinite(value)


def _parse(name: str, text: str, kind: type) -> Any:
    try:
        if kind is bool:
            return WORDS[text.lower()]
        value = kind(text)
        if not _is_finite(value):
            raise ValueError(text)
        return value
    except (ValueError, KeyError, InvalidOperation) as error:
        valid = "true or false" if kind is bool else f"a {kind.__name__}"
        raise ConfigError(f"param {name} is {text!r}: valid is {valid}") from error
