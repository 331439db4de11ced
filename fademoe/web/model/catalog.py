"""Perpspecs and metrics, as the API and the pages name them."""

from psycopg2.extensions import cursor as Cursor

from fademoe.metrics import Plot
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import completeness as read_completeness
from fademoe.store.read.catalog import Field, Perpspec
from fademoe.web.model.answer import Answer
from fademoe.web.problem import Problem


class PerpspecInfo(Answer):
    """A perpspec with its series; `missing_ms` is None while nothing of it is wanted."""

    perpspec: str
    exchange: str
    metric: str
    title: str
    interval: str
    fields: tuple[Field, ...]
    plots: tuple[Plot, ...]
    series: int
    symbols: list[str]
    first_ts: int | None
    last_ts: int | None
    missing_ms: int | None


class Perpspecs(Answer):
    """Every perpspec."""

    perpspecs: list[PerpspecInfo]


class MetricInfo(Answer):
    """A metric with its columns, and the perpspecs that hold it."""

    metric: str
    title: str
    interval: str
    columns: tuple[Field, ...]
    perpspecs: list[str]


class Metrics(Answer):
    """Every metric."""

    metrics: list[MetricInfo]


def find_perpspec(cursor: Cursor, name: str) -> Perpspec:
    """Return a registered perpspec; raise the 404 with the registered names for any other name."""
    specs = read_catalog.list_perpspecs(cursor, [name])
    if name not in specs:
        allowed = read_catalog.list_names(cursor)
        names = ", ".join(allowed) or "none: no exchange is registered in the database yet"
        raise Problem(404, f"no perpspec {name[:100]!r}; allowed: {names}", allowed=allowed)
    return specs[name]


def find_metric(cursor: Cursor, name: str) -> list[Perpspec]:
    """Return the perpspecs of a metric; raise the 404 with the registered metrics for any other name."""
    specs = read_catalog.list_perpspecs(cursor)
    of_metric = [spec for spec in specs.values() if spec.metric == name]
    if not of_metric:
        metrics = sorted({spec.metric for spec in specs.values()})
        raise Problem(404, f"no metric {name[:100]!r}; allowed: {', '.join(metrics) or 'none yet'}", allowed=metrics)
    return of_metric


def list_perpspecs(cursor: Cursor, now_ms: int) -> Perpspecs:
    """Return every perpspec with its fields, its series, and its first and last ts."""
    totals = {total.source: total for total in read_completeness.list_totals(cursor, now_ms, with_derived=True)}
    return Perpspecs(
        perpspecs=[
            _describe_perpspec(cursor, spec, totals.get(spec.name))
            for spec in read_catalog.list_perpspecs(cursor).values()
        ]
    )


def list_metrics(cursor: Cursor) -> Metrics:
    """Return the metrics that at least one perpspec holds."""
    by_metric: dict[str, list[Perpspec]] = {}
    for spec in read_catalog.list_perpspecs(cursor).values():
        by_metric.setdefault(spec.metric, []).append(spec)
    return Metrics(metrics=[describe_metric(specs) for specs in by_metric.values()])


def describe_metric(specs: list[Perpspec]) -> MetricInfo:
    """Return the metric of some perpspecs."""
    first = specs[0]
    return MetricInfo(
        metric=first.metric,
        title=first.title,
        interval=first.interval,
        columns=first.fields,
        perpspecs=[spec.name for spec in specs],
    )


def _describe_perpspec(cursor: Cursor, spec: Perpspec, total: read_completeness.PerpspecTotal | None) -> PerpspecInfo:
    symbols = read_catalog.list_symbols(cursor, spec.name)
    first_ts, last_ts = read_catalog.find_first_and_last_ts(cursor, spec.name, symbols)
    return PerpspecInfo(
        perpspec=spec.name,
        exchange=spec.exchange,
        metric=spec.metric,
        title=spec.title,
        interval=spec.interval,
        fields=spec.fields,
        plots=spec.plots,
        series=len(symbols),
        symbols=symbols,
        first_ts=first_ts,
        last_ts=last_ts,
        missing_ms=total.missing_ms if total else None,
    )
