"""What a strategy returned, read into exact orders."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from fademoe.errors import FadeMoeError
from fademoe.strategy import Limit, Market, Order, Stop, Target

KINDS: Final = {"target": Target, "market": Market, "limit": Limit, "stop": Stop}
NAMES: Final = {kind: name for name, kind in KINDS.items()}
DIGITS_MOST = 1000  # before and behind the point: what PostgreSQL stores of a ledger
WORDS = "Target, Market, Limit or Stop"


class BadOrder(FadeMoeError):
    """A strategy returned something that is no order; the message says what and what is valid."""


def read_orders(answer: object, symbols: frozenset[str]) -> dict[str, list[Order]]:
    """Return the lists of orders that `on_minute` returned, their numbers as decimals.

    `symbols` are those of the run. Raises BadOrder.
    """
    if answer is None:
        return {}
    if not isinstance(answer, Mapping):
        raise BadOrder(f"on_minute returned {type(answer).__name__}, not a dict of orders by symbol, or None")
    lists = {}
    for symbol, given in answer.items():
        if symbol not in symbols:
            raise BadOrder(
                f"on_minute returned an order for {symbol!r}; symbols of the run: {', '.join(sorted(symbols))}"
            )
        if given is None:
            continue
        if type(given) in NAMES:
            lists[symbol] = [_read_order(symbol, given)]
        elif isinstance(given, list | tuple):
            lists[symbol] = [_read_order(symbol, order) for order in given]
        else:
            raise BadOrder(f"{symbol}: {type(given).__name__} is no order: return {WORDS}, or a list of them")
    return lists


def _read_order(symbol: str, order: Any) -> Order:
    kind = type(order)
    if kind is Target:
        return Target(read_number(symbol, "share", order.share))
    if kind is Market:
        return Market(read_number(symbol, "quantity", order.quantity))
    if kind is Limit:
        quantity, price = read_number(symbol, "quantity", order.quantity), _read_price(symbol, "price", order.price)
        return Limit(quantity, price, _read_reduce(symbol, order.reduce))
    if kind is Stop:
        quantity, price = read_number(symbol, "quantity", order.quantity), _read_price(symbol, "trigger", order.trigger)
        return Stop(quantity, price, _read_reduce(symbol, order.reduce))
    raise BadOrder(f"{symbol}: {kind.__name__} is no order: return {WORDS}, or a list of them")


def read_number(symbol: str, name: str, value: object) -> Decimal:
    """Return an int, Decimal or float (as it is printed) as a Decimal; raise BadOrder for anything else."""
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, float):
        number = Decimal(float.__repr__(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        number = Decimal(value)
    else:
        raise BadOrder(f"{symbol}: {name} is {type(value).__name__}, not an int, a float or a Decimal")
    if not number.is_finite():
        raise BadOrder(f"{symbol}: {name} is {value}, not a finite number")
    if number.adjusted() >= DIGITS_MOST or number.as_tuple().exponent < -DIGITS_MOST:  # type: ignore[operator]
        raise BadOrder(f"{symbol}: {name} has more than {DIGITS_MOST} digits before or behind the point")
    return number


def _read_price(symbol: str, name: str, value: object) -> Decimal:
    price = read_number(symbol, name, value)
    if price <= 0:
        raise BadOrder(f"{symbol}: {name} is {price}, not a price above 0")
    return price


def _read_reduce(symbol: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadOrder(f"{symbol}: reduce is {value!r}, not True or False")
    return value


def dump_order(order: Order) -> list[Any]:
    """Return an order as a list that JSON can hold."""
    return [NAMES[type(order)], *(value if isinstance(value, bool) else str(value) for value in order)]


def load_order(dumped: Sequence[Any]) -> Order:
    """Return the order that `dump_order` wrote."""
    name, *values = dumped
    return KINDS[name](*(value if isinstance(value, bool) else Decimal(value) for value in values))  # type: ignore[no-any-return]
