"""The declaration of a metric: what it refuses, and what it means for the metrics that FadeMoe brings."""

from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from fademoe.metrics import METRICS, Column, Metric, Pane, Plot, Premium, declare

PANE = Pane(title="Premium")


def make(**changes: object) -> Metric:
    """Build a metric that is right but for `changes`."""
    members: dict[str, object] = {
        "name": "made_up",
        "title": "Made up",
        "row_type": Premium,
        "columns": (Column(name="pfr", unit="fraction", title="Premium index"),),
        "plots": (Plot(pane=PANE, drawing="line", columns=("pfr",), label="premium"),),
    }
    return Metric(**members | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"name": name}, "a name is small letters") for name in ("", "a-b", "Flow", "1m", "a b", "a" * 64)),
        ({"columns": (Column(name="pfr", unit="", title="", text=True),)}, "text belong to derived"),
        ({"columns": (Column(name="x", unit="", title=""),)}, "columns differ from the fields of Premium"),
        ({"columns": (Column(name="pfr", unit="", title="", aggregate="mean"),)}, "no aggregate 'mean'"),
        ({"plots": (Plot(pane=PANE, drawing="pie", columns=("pfr",), label="x"),)}, "unknown drawing"),
        ({"plots": (Plot(pane=PANE, drawing="line", columns=("c",), label="x"),)}, "line takes 1 of its columns"),
        ({"plots": (Plot(pane=PANE, drawing="candles", columns=("pfr",), label="x"),)}, "candles takes 4"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize("name", ["symbol", "source", "interval", "bars", "ctid", "Basis", "a b", "a" * 64])
def test_a_column_that_cannot_be_stored_is_refused(name: str):
    """PostgreSQL refused each row, or each start of a program: it cuts off long names and has others itself."""
    row_type = (
        NamedTuple("Made", [("ts", int), (name, str)]) if name.isidentifier() else SimpleNamespace(_fields=("ts", name))
    )
    with pytest.raises(ValueError, match=f"a column cannot have the name '{name}'"):
        make(columns=(Column(name=name, unit="", title=""),), row_type=row_type, plots=())


def test_a_name_or_a_column_is_declared_once():
    with pytest.raises(ValueError, match="metric oi is declared twice"):
        declare(make(name="oi"))
    column = replace(METRICS["pfr"].columns[0], unit="percent")
    with pytest.raises(ValueError, match="column pfr is declared otherwise"):
        declare(make(columns=(column,)))
    declare(METRICS["pfr"])  # the same again changes nothing
    assert "made_up" not in METRICS


def test_every_metric_is_drawn_and_no_pane_is_declared_twice():
    panes = {plot.pane for metric in METRICS.values() for plot in metric.plots}
    assert len({pane.title for pane in panes}) == len(panes)
    assert all(metric.plots for metric in METRICS.values())
