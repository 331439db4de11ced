"""The metric of this package: the basis, with the trades that it was measured by."""

from typing import NamedTuple

from fademoe.metrics import Column, Decimal, Metric, Pane, Plot, declare


class Basis(NamedTuple):
    """The basis at the end of a minute, a fraction of the index price."""

    ts: int
    basis: Decimal
    basis_trades: int


BASIS = Pane(title="Basis", share=1.6, format="percent")
BASIS_TRADES = Pane(title="Trades of the basis")

declare(
    Metric(
        name="basis",
        title="Basis",
        row_type=Basis,
        columns=(
            Column(name="basis", unit="fraction", title="Basis", signed=True),
            Column(name="basis_trades", unit="trades", title="Trades measured", whole=True, aggregate="sum"),
        ),
        plots=(
            Plot(pane=BASIS, drawing="line", columns=("basis",), label="basis"),
            Plot(pane=BASIS_TRADES, drawing="area", columns=("basis_trades",), label="trades"),
        ),
    )
)
