"""The state of the system for Prometheus. Labels are exchanges, perpspecs, queues and states: none grows with data."""

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fademoe.clock import SECOND_MS
from fademoe.web.current import get_services, read_summary
from fademoe.web.model.summary import Queued, Stored, Summary, read_totals

blueprint = Blueprint("prometheus", __name__)


@blueprint.get("/metrics")
def show_metrics() -> Response:
    """Answer in the text format of Prometheus; for a server that is unavailable `fademoe_up` is 0."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(read_summary()))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Snapshot(Collector):
    """The metrics of one summary."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the servers that could be read."""
        stored, queued = self._summary.stored, self._summary.queued
        up = GaugeMetricFamily("fademoe_up", "Whether a server answers", labels=["server"])
        up.add_metric(["postgresql"], float(stored is not None))
        up.add_metric(["redis"], float(queued is not None))
        yield up
        if stored is not None:
            yield from _of_database(stored, self._summary.at_ms)
        if queued is not None:
            yield from _of_redis(queued, self._summary.at_ms)


def _of_database(stored: Stored, at_ms: int) -> Iterator[Metric]:
    units = GaugeMetricFamily("fademoe_units", "Units by kind and state, stale counted apart", labels=["kind", "state"])
    for kind, states in stored.counts.items():
        for state, count in states.items():
            units.add_metric([kind, state], count)
    yield units
    beat = GaugeMetricFamily("fademoe_stream_silent_seconds", "Since the stream's last heartbeat", labels=["unit"])
    rows = CounterMetricFamily("fademoe_stream_rows", "Rows the stream has stored", labels=["unit"])
    for unit in stored.streams:
        beat.add_metric([unit.unit], (at_ms - unit.heartbeat_ms) / SECOND_MS)
        rows.add_metric([unit.unit], unit.rows)
    yield beat
    yield rows
    series = GaugeMetricFamily("fademoe_series", "Series by perpspec", labels=["source"])
    incomplete = GaugeMetricFamily("fademoe_series_holes", "Series with something missing", labels=["source"])
    missing = GaugeMetricFamily("fademoe_missing_seconds", "Requested and not yet covered", labels=["source"])
    lag = GaugeMetricFamily("fademoe_series_lag_seconds", "Of the series that is furthest behind", labels=["source"])
    for total in read_totals(get_services()):
        series.add_metric([total.source], total.series)
        incomplete.add_metric([total.source], total.incomplete)
        missing.add_metric([total.source], total.missing_ms / SECOND_MS)
        if total.lag_ms is not None:
            lag.add_metric([total.source], total.lag_ms / SECOND_MS)
    yield from (series, incomplete, missing, lag)
    errors = GaugeMetricFamily("fademoe_errors_last_hour", "Errors recorded in the last hour", labels=["class"])
    for name, count in stored.errors_last_hour.items():
        errors.add_metric([name], count)
    yield errors


def _of_redis(queued: Queued, at_ms: int) -> Iterator[Metric]:
    depth = GaugeMetricFamily("fademoe_queue_depth", "Jobs by queue and state", labels=["queue", "state"])
    oldest = GaugeMetricFamily("fademoe_queue_oldest_seconds", "Age of the job at the head", labels=["queue"])
    for queue in queued.queues:
        for state in ("queued", "started", "scheduled", "deferred", "failed"):
            depth.add_metric([queue.name, state], getattr(queue, state))
        oldest.add_metric([queue.name], max(0, at_ms - queue.oldest_ms) / SECOND_MS if queue.oldest_ms else 0)
    yield from (depth, oldest)
    workers = GaugeMetricFamily("fademoe_workers", "Workers by state", labels=["state"])
    states = ["stale" if worker.stale else worker.state for worker in queued.workers]
    for state in sorted({"busy", "idle", *states}):
        workers.add_metric([state], states.count(state))
    yield workers
    yield GaugeMetricFamily("fademoe_paused", "Whether the workers are paused", value=float(queued.paused))
    labels = ["exchange", "budget", "egress"]
    used = GaugeMetricFamily("fademoe_ratelimit_used", "Cost spent in the current period", labels=labels)
    limit = GaugeMetricFamily("fademoe_ratelimit_limit", "Cost that a period allows", labels=labels)
    allowed = GaugeMetricFamily(
        "fademoe_ratelimit_allowed", "Cost that FADEMOE_LIMIT_SHARE allows of the limit", labels=labels
    )
    closed = GaugeMetricFamily(
        "fademoe_gate_closed_seconds", "Until requests to the exchange may be sent again", labels=labels
    )
    for budget in queued.budgets:
        of_budget = [budget.exchange, budget.name, budget.egress]
        used.add_metric(of_budget, max(budget.used, budget.server_used or 0))
        if budget.limit is not None:
            limit.add_metric(of_budget, budget.limit)
        if budget.allowed is not None:
            allowed.add_metric(of_budget, budget.allowed)
        closed.add_metric(of_budget, max(0, (budget.closed_until_ms or at_ms) - at_ms) / SECOND_MS)
    yield from (used, limit, allowed, closed)
