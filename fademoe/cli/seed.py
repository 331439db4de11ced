"""`fademoe seed`, the same as scripts/seed_backfill.py: want a range of history and enqueue what is missing of it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from fademoe.cli.arguments import DAYS, TIME, make_window, parse_names
from fademoe.cli.environment import pass_running_settings
from fademoe.cli.main import DONE, FAILED
from fademoe.cli.progress import wait_until_covered
from fademoe.cli.table import format_table
from fademoe.client.rate_limit.usage import read_delays_s
from fademoe.clock import DAY_MS, MINUTE_MS, SECOND_MS, Window, floor_to, now_ms, to_iso
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.feeds.estimate import estimate_s
from fademoe.feeds.exchange import Exchange
from fademoe.jobs.archive_plan import estimate_files_s
from fademoe.jobs.seed import SeedPlan, SeedRequest, carry_out, list_metric_names, make_plan
from fademoe.runtime.services import Services
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import ALL_SYMBOLS, Settings, check_symbol


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """The options of `seed`; times in ms since the epoch, UTC."""

    days: float | None
    since: int | None
    until: int | None
    metrics: str
    symbols: str | None
    exchanges: str
    dead: bool
    dry_run: bool
    wait: bool


@click.command("seed")
@click.option("--days", type=DAYS, help="The last N days, and from now on; instead of --since.")
@click.option("--since", type=TIME, help="Start of the range.")
@click.option("--until", type=TIME, help="End of the range, not included. Default: now, and from now on.")
@click.option(
    "--metrics", default="all", show_default=True, help=f"Comma list of {', '.join(list_metric_names())}; or all."
)
@click.option("--symbols", help="Comma list such as BTC,ETH; or all. Default: FADEMOE_SYMBOLS.")
@click.option(
    "--exchanges",
    default="all",
    show_default=True,
    help=f"Comma list of {', '.join(registry.list_names())}; or all enabled.",
)
@click.option("--dead", is_flag=True, help="With --symbols all: contracts that have ended, too.")
@click.option("--dry-run", is_flag=True, help="Print the plan and enqueue nothing; contract lists are fetched.")
@click.option("--wait", is_flag=True, help="Show progress until it is complete; exit code 1 when it will not be.")
@pass_running_settings
def seed(settings: Settings, **options: Any) -> int:
    """Want a range of history and enqueue what is missing of it. Safe to run twice.

    \b
    Examples:
      seed --days 10 --metrics ohlcv --symbols BTC,ETH --wait
      seed --since 2026-01-01 --until 2026-02-01 --symbols all --dry-run
      seed --since 2023-01-01 --until 2024-01-01 --symbols all --dead
    """
    given = SeedOptions(**options)
    request = _make_request(settings, given)
    services = wait_until_ready(settings)
    plan = make_plan(services, request)
    for note in plan.notes:
        sys.stderr.write(f"note: {note}\n")
    _print_plan(services, plan, request.exchanges)
    if given.dry_run:
        return DONE
    count = carry_out(services, request, plan)
    files = f" {len(plan.periods)} of them months of files," if plan.periods else ""
    click.echo(f"{count} windows enqueued,{files} {len(plan.queued)} were waiting already")
    is_done = not given.wait or wait_until_covered(services, plan.requested, request.exchanges)
    return DONE if is_done and not plan.unplanned else FAILED


def _make_request(settings: Settings, given: SeedOptions) -> SeedRequest:
    """Return what the options ask for; raise ConfigError where they do not go together, or a value is not valid."""
    enabled = {exchange.name: exchange for exchange in registry.select_enabled(settings)}
    chosen = [enabled[name] for name in parse_names("--exchanges", given.exchanges, list(enabled), list(enabled))]
    served = [name for name in list_metric_names() if any(exchange.find_rest_feed(name) for exchange in chosen)]
    since_ms, until_ms = _clamp_to_retention(settings, *_parse_range(given))
    request = SeedRequest(
        exchanges=chosen,
        metrics=parse_names("--metrics", given.metrics, served, list_metric_names()),
        symbols=settings.symbols if given.symbols is None else _parse_symbols(given.symbols),
        since_ms=since_ms,
        until_ms=until_ms,
        with_dead=given.dead,
        are_followed=given.symbols is None,
    )
    if given.dead and request.symbols != ALL_SYMBOLS:
        raise ConfigError("--dead goes with --symbols all: a contract that has ended is requested by its symbol")
    return request


def _parse_range(given: SeedOptions) -> tuple[int, int | None]:
    """Return (since, until) in ms, None for a range without end.

    Raises ConfigError for anything but --days, or --since with or without --until.
    """
    now, since_ms, until_ms = now_ms(), given.since, given.until
    if given.days is not None and since_ms is None:
        if until_ms is not None:
            raise ConfigError("--until goes with --since, not with --days")
        return floor_to(now - round(given.days * DAY_MS), MINUTE_MS), None
    if given.days is not None or since_ms is None:
        raise ConfigError("give either --days N or --since TIME [--until TIME]")
    latest = to_iso(floor_to(now, SECOND_MS))
    if since_ms >= now:
        raise ConfigError(f"--since is {to_iso(since_ms)}: valid are times before now, {latest}")
    if until_ms is None:
        return since_ms, None
    if until_ms > now:
        raise ConfigError(f"--until is {to_iso(until_ms)}: valid are times up to now, {latest}")
    return make_window(since_ms, until_ms)


def _clamp_to_retention(settings: Settings, since_ms: int, until_ms: int | None) -> tuple[int, int | None]:
    """Return the part of a range that FADEMOE_RETENTION_DAYS keeps; raise ConfigError when it keeps nothing of it."""
    time_ms = now_ms()
    edge = to_iso(settings.compute_kept_from_ms(time_ms) or 0)
    kept = settings.clip_to_kept([Window(since_ms, until_ms or time_ms)], time_ms)
    if not kept:
        raise ConfigError(f"FADEMOE_RETENTION_DAYS deletes everything before {edge}: the range ends earlier")
    if kept[0].start_ms > since_ms:
        sys.stderr.write(f"note: FADEMOE_RETENTION_DAYS deletes everything before {edge}\n")
    return kept[0].start_ms, until_ms


def _parse_symbols(text: str) -> tuple[str, ...]:
    if text.strip().lower() == "all":
        return ALL_SYMBOLS
    symbols = tuple(dict.fromkeys(check_symbol(part) for part in text.split(",") if part.strip()))
    if not symbols:
        raise ConfigError(f"--symbols is {text!r}: valid are all or a comma list such as BTC,ETH")
    return symbols


def _print_plan(services: Services, plan: SeedPlan, exchanges: Sequence[Exchange]) -> None:
    """Print a line per perpspec, and per exchange about how long it takes."""
    rows = []
    for source in dict.fromkeys(series.source for series in plan.requested):
        planned = [item for item in plan.planned if item.task.series.source == source]
        series_count = sum(1 for series in plan.requested if series.source == source)
        requests, row_count = sum(item.effort.requests for item in planned), sum(item.effort.rows for item in planned)
        rows.append((source, series_count, len(planned), requests, row_count))
    click.echo(format_table(("perpspec", "series", "windows", "requests", "rows"), rows))
    for exchange in exchanges:
        efforts = [*((item.feed, item.effort) for item in plan.planned), *plan.queued]
        of_exchange = [(feed, effort) for feed, effort in efforts if feed in exchange.rest_feeds]
        share, workers = services.settings.get_limit_share(exchange.name), services.settings.workers
        delays_s = read_delays_s(services.redis, exchange.name)
        seconds = estimate_s(exchange, of_exchange, share=share, workers=workers, delays_s=delays_s)
        if seconds:
            click.echo(f"{exchange.name}: {_describe_duration(seconds)}")
        _print_files(services, exchange, plan, delays_s)


def _print_files(services: Services, exchange: Exchange, plan: SeedPlan, delays_s: Mapping[str, float]) -> None:
    """Print what of an exchange comes, or would come, from files of its archive, and what REST would take for it."""
    archive = exchange.archive
    if archive is None:
        return
    settings = services.settings
    share = settings.get_limit_share(exchange.name)
    for periods, is_allowed in ((plan.periods, True), (plan.offered, False)):
        mine = [item for item in periods if item.feed in exchange.rest_feeds]
        if not mine:
            continue
        seconds = estimate_files_s(
            mine, share=float(share), limit=archive.budget.limit, workers=settings.archive_workers
        )
        efforts = [(item.feed, item.effort) for item in mine if item.effort is not None]
        by_rest_s = estimate_s(exchange, efforts, share=share, workers=settings.workers, delays_s=delays_s)
        only = len(mine) - len(efforts)
        word = f"{archive.exchange}:{archive.licence}".rstrip(":")
        click.echo(
            f"{exchange.name}: {'from' if is_allowed else 'possible from'} its archive:"
            f" {sum(item.files for item in mine)} files, {sum(item.bytes for item in mine) / 1e6:.0f} MB,"
            f" {_describe_duration(seconds)}; over REST {_describe_duration(by_rest_s)}"
            + (f", which no longer has {only} of these {len(mine)} months" if only else "")
            + ("" if is_allowed else f"; needs FADEMOE_ARCHIVES={word} ({archive.terms}: {archive.summary})")
        )


def _describe_duration(seconds: float) -> str:
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else "about a minute or less"
