"""The perpspecs of derived metrics: which series each is computed from."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fademoe.feeds.exchange import Exchange
from fademoe.metrics import ACROSS_CODE, METRICS, Derived, name_perpspec


class Part(NamedTuple):
    """What a derived perpspec takes of one exchange code: the perpspecs `inputs`, in the order of the declaration.

    A metric across exchanges has a part for each of them.
    """

    source: str
    metric: Derived
    exchange: str  # under which the perpspec is registered
    code: str
    inputs: tuple[str, ...]


def list_parts(exchanges: Iterable[Exchange]) -> list[Part]:
    """Return the parts of every derived perpspec that these exchanges allow."""
    return [part for exchange in exchanges for code in exchange.codes for part in _list_of_code(exchange, code)]


def _list_of_code(exchange: Exchange, code: str) -> Iterator[Part]:
    for metric in exchange.list_derived():
        yield Part(name_perpspec(code, metric.name), metric, exchange.name, code, _name_inputs(code, metric))
    if exchange.is_aggregator:
        return
    served = set(exchange.list_metrics())
    for across in METRICS.values():
        if isinstance(across, Derived) and across.is_across and served.issuperset(across.inputs):
            yield Part(across.name, across, ACROSS_CODE, code, _name_inputs(code, across))


def _name_inputs(code: str, metric: Derived) -> tuple[str, ...]:
    return tuple(name_perpspec(code, name) for name in metric.inputs)
