"""`fademoe gaps`, `coverage`, `verify`, `audit`: whether a series is complete, what is missing and why."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from fademoe.cli.arguments import PERPSPEC, SYMBOL, TIME, make_window
from fademoe.cli.environment import pass_running_settings
from fademoe.cli.main import DONE, FAILED
from fademoe.cli.table import format_table
from fademoe.clock import DAY_MS, Window, ceil_to, floor_to, to_iso
from fademoe.errors import ConfigError, SourceError
from fademoe.feeds import registry
from fademoe.feeds.grid import compute_due_until_ms_of, find_grid
from fademoe.jobs import gaps
from fademoe.jobs.audit import add_results, audit_range
from fademoe.runtime.job_context import JobContext
from fademoe.runtime.services import Services
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings
from fademoe.store import certificate, coverage
from fademoe.store.coverage import Series
from fademoe.store.read.snapshot import take_snapshot

Command = Callable[..., Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def add_series_options(*, required: bool = False) -> Callable[[Command], Command]:
    """Return a decorator that adds --source and --symbol."""

    def add(command: Command) -> Command:
        for name, kind, example in (("--symbol", SYMBOL, "BTC"), ("--source", PERPSPEC, "bin-ohlcv")):
            only = "Such as" if required else "Only this one, such as"
            command = click.option(name, type=kind, required=required, help=f"{only} {example}.")(command)
        return command

    return add


def add_window_options(command: Command) -> Command:
    """Add --since and --until, both required."""
    until = click.option("--until", type=TIME, required=True, help="End of the range, not included.")
    return click.option("--since", type=TIME, required=True, help="Start of the range.")(until(command))


@click.command("gaps")
@add_series_options()
@json_option
@pass_running_settings
def print_gaps(settings: Settings, source: str | None, symbol: str | None, *, as_json: bool) -> int:
    """Print what is wanted and missing, and why; exit code 1 when there is any.

    Leaves out the newest minutes, which are not due yet.
    """
    services = wait_until_ready(settings)
    rows = [
        {
            "source": gap.series.source,
            "symbol": gap.series.symbol,
            "from": to_iso(gap.window.start_ms),
            "to": to_iso(gap.window.end_ms),
            "start_ms": gap.window.start_ms,
            "end_ms": gap.window.end_ms,
            "why": gap.why,
        }
        for name in _sources(source)
        for gap in gaps.find_gaps(services, *registry.find_by_source(name), _symbols(symbol))
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
    else:
        columns = ("source", "symbol", "from", "to", "why")
        if rows:
            click.echo(format_table(columns, [[row[column] for column in columns] for row in rows]))
        click.echo(f"{len(rows)} gaps")
    return FAILED if rows else DONE


@click.command("coverage")
@add_series_options()
@json_option
@pass_running_settings
def print_coverage(settings: Settings, source: str | None, symbol: str | None, *, as_json: bool) -> None:
    """Print what is wanted, complete, absent and missing of each series, in percent of its time.

    Provisional is the part of the absent time that is still to be confirmed by a second run.
    """
    services = wait_until_ready(settings)
    with services.database.open_transaction() as cursor:
        rows = [
            _describe_totals(name, totals)
            for name in _sources(source)
            for totals in coverage.compute_totals(
                cursor, name, compute_due_until_ms_of(name, services.clocks.now_ms), _symbols(symbol)
            )
        ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    headings = ("source", "symbol", "wanted from", "complete %", "absent %", "provisional %", "missing %")
    columns = ("source", "symbol", "wanted_from", "complete", "absent", "provisional", "missing")
    click.echo(format_table(headings, [[row[column] for column in columns] for row in rows]))


@click.command("verify")
@add_series_options(required=True)
@add_window_options
@json_option
@pass_running_settings
def verify(settings: Settings, source: str, symbol: str, since: int, until: int, *, as_json: bool) -> int:
    """Print a certificate of a series; exit code 1 when it is not complete.

    It has the numbers of rows expected, present and absent by reason, and a SHA-256 over the rows, which is the same on
    every machine that has the same rows. The range ends where rows are not due yet.
    """
    services = wait_until_ready(settings)
    metric, interval_ms, is_sparse = find_grid(source)
    window = make_window(since, until)
    due_until_ms = floor_to(compute_due_until_ms_of(source, services.clocks.now_ms), interval_ms)
    window = Window(floor_to(window.start_ms, interval_ms), min(ceil_to(window.end_ms, interval_ms), due_until_ms))
    if window.start_ms >= window.end_ms:
        raise ConfigError(f"--since is {to_iso(since)}: rows of {source} are due until {to_iso(due_until_ms)}")
    if window.end_ms < until:
        click.echo(f"note: rows from {to_iso(window.end_ms)} on are not due yet", err=True)
    with services.database.open_transaction() as cursor:
        take_snapshot(cursor)
        certified = certificate.certify(cursor, Series(source, symbol), metric, window, interval_ms, sparse=is_sparse)
    if as_json:
        click.echo(json.dumps(certified, ensure_ascii=False, indent=1))
    else:
        click.echo("\n".join(f"{name}: {value}" for name, value in certified.items()))
    return DONE if certified["complete"] else FAILED


@click.command("audit")
@add_series_options()
@add_window_options
@json_option
@pass_running_settings
def run_audit(
    settings: Settings, source: str | None, symbol: str | None, since: int, until: int, *, as_json: bool
) -> int:
    """Fetch stored rows again, compare them value by value, and correct what differs.

    Exit code 1 when a series could not be compared.
    """
    services = wait_until_ready(settings)
    services.stop.install()
    window = make_window(since, until)
    results, errors = [], 0
    for series in _stored_series(services, _sources(source), _symbols(symbol), window):
        parts = []
        try:
            for part, of_part in audit_range(JobContext(services=services), series, window):
                parts.append(of_part)
                if part != window:
                    click.echo(
                        f"{series.source} {series.symbol} until {to_iso(part.end_ms)}: {of_part.describe()}", err=True
                    )
        except SourceError as error:
            errors += 1
            click.echo(f"{series.source} {series.symbol}: not compared: {error}", err=as_json)
            continue
        result = add_results(parts)
        results.append(asdict(result))
        if not as_json:
            click.echo(f"{series.source} {series.symbol}: {result.describe()}")
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False))
    return FAILED if errors else DONE


def _sources(source: str | None) -> list[str]:
    if source is not None:
        return [source]
    return [perpspec for exchange in registry.load_exchanges().values() for perpspec in exchange.list_perpspecs()]


def _symbols(symbol: str | None) -> list[str] | None:
    return None if symbol is None else [symbol]


def _stored_series(services: Services, sources: list[str], symbols: list[str] | None, window: Window) -> list[Series]:
    """Return the series with rows in the window that a REST feed serves."""
    stored: list[Series] = []
    with services.database.open_transaction() as cursor:
        for source in sources:
            exchange, _, metric = registry.find_by_source(source)
            if exchange.find_rest_feed(metric) is not None:
                within = coverage.list_series_within(cursor, source, window)
                stored += [series for series in within if symbols is None or series.symbol in symbols]
    return stored


def _describe_totals(source: str, totals: coverage.Totals) -> dict[str, object]:
    def percent(part: int) -> str:
        return f"{100 * part / totals.wanted_ms:.2f}" if totals.wanted_ms else "-"

    return {
        "source": source,
        "symbol": totals.symbol,
        "wanted_from": to_iso(totals.wanted_from) if totals.wanted_from else None,
        "wanted_days": round(totals.wanted_ms / DAY_MS, 3),
        "complete": percent(totals.wanted_ms - totals.missing_ms),
        "absent": percent(totals.absent_ms),
        "provisional": percent(totals.provisional_ms),
        "missing": percent(totals.missing_ms),
        "missing_ms": totals.missing_ms,
    }
