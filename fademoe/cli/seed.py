"""`fademoe seed`, the same as scripts/seed_backfill.py: want a range and enqueue what is missing of it."""

import argparse
import sys
from collections.abc import Sequence

from fademoe.cli.edge import DONE, FAILED, guarded
from fademoe.cli.progress import wait_until_covered
from fademoe.cli.running import inherit_running_settings
from fademoe.clock import DAY_MS, MINUTE_MS, floor_to, now_ms, parse_time, to_iso
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.jobs.seed import Ask, SeedPlan, carry_out, make_plan, metric_names
from fademoe.runtime.startup import ready
from fademoe.settings import ALL_SYMBOLS, Settings, check_symbol

EXAMPLES = """examples:
  seed_backfill.py --days 10 --metrics ohlcv --symbols BTC,ETH --wait
  seed_backfill.py --since 2026-01-01 --until 2026-02-01 --metrics all --symbols all --dry-run
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Seed a backfill; return 0 when done (with --wait: complete), 1 when not, 2 on bad usage."""
    parser = _parser()
    args = parser.parse_args(argv)
    return guarded(lambda settings: _seed(settings, args), inherit_running_settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seed_backfill.py",
        description="Want a range of history and enqueue what is missing of it. Safe to run twice.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--days", help="the last N days, and from now on")
    parser.add_argument("--since", metavar="ISO", help="first moment wanted, ISO 8601 UTC")
    parser.add_argument("--until", metavar="ISO", help="end of the range (default: now, and from now on)")
    parser.add_argument("--metrics", default="all", help=f"comma list of {', '.join(metric_names())}; default all")
    parser.add_argument("--symbols", help="comma list such as BTC,ETH, or all; default FADEMOE_SYMBOLS")
    parser.add_argument("--exchanges", default="all", help="comma list, or all that are enabled (default)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan; store and enqueue nothing")
    parser.add_argument(
        "--wait", action="store_true", help="show progress until all of it is there; exit 1 if it is not"
    )
    return parser


def _seed(settings: Settings, args: argparse.Namespace) -> int:
    since_ms, until_ms = _range(args)
    exchanges = _exchanges(settings, args.exchanges)
    metrics = _metrics(args.metrics, exchanges)
    context = ready(settings)
    edge_ms = settings.retained_from_ms(now_ms())
    if edge_ms is not None and since_ms < edge_ms:
        sys.stderr.write(f"note: FADEMOE_RETENTION_DAYS keeps nothing before {to_iso(edge_ms)}\n")
        since_ms = edge_ms
        if until_ms is not None and until_ms <= since_ms:
            raise ConfigError(f"the range lies before {to_iso(since_ms)}, the edge of FADEMOE_RETENTION_DAYS")
    ask = Ask(
        exchanges=exchanges,
        metrics=metrics,
        symbols=_symbols(settings, args.symbols),
        since_ms=since_ms,
        until_ms=until_ms,
    )
    result = make_plan(context, ask)
    for note in result.notes:
        sys.stderr.write(f"note: {note}\n")
    _print_plan(result, exchanges)
    if args.dry_run:
        return DONE
    new = carry_out(context, ask, result)
    print(f"{new} windows enqueued, {result.waiting} were waiting already")
    if not args.wait:
        return DONE
    complete = wait_until_covered(context, result.asked, list(exchanges))
    return DONE if complete else FAILED


def _range(args: argparse.Namespace) -> tuple[int, int | None]:
    """Return (since, until) in ms; raise ConfigError for anything but --days N or --since [--until]."""
    now = now_ms()
    if (args.days is None) == (args.since is None):
        raise ConfigError("say either --days N or --since ISO [--until ISO]")
    if args.days is not None:
        if args.until is not None:
            raise ConfigError("--until goes with --since, not with --days")
        try:
            days = float(args.days)
        except ValueError:
            days = 0.0
        if not 0 < days <= 10_000:
            raise ConfigError(f"--days is {args.days!r}: valid are numbers above 0 and up to 10000")
        return floor_to(now - round(days * DAY_MS), MINUTE_MS), None
    since_ms = _moment("--since", args.since)
    until_ms = _moment("--until", args.until) if args.until else None
    if since_ms >= now:
        raise ConfigError(f"--since is {args.since}: valid are times before now, {to_iso(floor_to(now, 1000))}")
    if until_ms is not None and until_ms > now:
        raise ConfigError(f"--until is {args.until}: valid are times up to now, {to_iso(floor_to(now, 1000))}")
    if until_ms is not None and until_ms <= since_ms:
        raise ConfigError(f"--until {args.until} must lie after --since {args.since}")
    return since_ms, until_ms


def _moment(option: str, text: str) -> int:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ConfigError(
            f"{option} is {text!r}: valid are ISO 8601 times such as 2026-01-31 or 2026-01-31T12:00"
        ) from error


def _exchanges(settings: Settings, text: str) -> list[Exchange]:
    enabled = {exchange.name: exchange for exchange in registry.enabled(settings)}
    names = list(enabled) if text.strip().lower() == "all" else _split(text)
    wrong = [name for name in names if name not in enabled]
    if wrong or not names:
        raise ConfigError(f"unknown exchange {', '.join(wrong) or repr(text)}: valid are all, {', '.join(enabled)}")
    return [enabled[name] for name in names]


def _metrics(text: str, exchanges: Sequence[Exchange]) -> list[str]:
    served = [name for name in metric_names() if any(exchange.rest_feed(name) for exchange in exchanges)]
    names = served if text.strip().lower() == "all" else _split(text)
    wrong = [name for name in names if name not in metric_names()]
    if wrong or not names:
        raise ConfigError(
            f"unknown metric {', '.join(wrong) or repr(text)}: valid are all, {', '.join(metric_names())}"
        )
    return names


def _symbols(settings: Settings, text: str | None) -> tuple[str, ...]:
    if text is None:
        return settings.symbols
    if text.strip().lower() == "all":
        return ALL_SYMBOLS
    chosen = tuple(dict.fromkeys(check_symbol(part) for part in text.split(",") if part.strip()))
    if not chosen:
        raise ConfigError(f"--symbols is {text!r}: valid are all or a comma list such as BTC,ETH")
    return chosen


def _split(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))


def _print_plan(result: SeedPlan, exchanges: Sequence[Exchange]) -> None:
    """Print one line per perpspec, and per exchange the time that its limits make it take."""
    print(f"{'perpspec':<14}{'series':>8}{'windows':>9}{'requests':>10}{'rows':>12}")
    for source in dict.fromkeys(series.source for series in result.asked):
        mine = [item for item in result.planned if item.task.series.source == source]
        series = sum(1 for asked in result.asked if asked.source == source)
        requests, rows = sum(item.requests for item in mine), sum(item.rows for item in mine)
        print(f"{source:<14}{series:>8}{len(mine):>9}{requests:>10}{rows:>12,}")
    for exchange in exchanges:
        minutes = _minutes(result, exchange)
        if minutes:
            print(f"{exchange.name}: at least {minutes:.1f} minutes under its limits")


def _minutes(result: SeedPlan, exchange: Exchange) -> float:
    """Return how long the planned requests of an exchange must take: its slowest budget decides."""
    cost: dict[str, int] = {}
    for item in result.planned:
        found, _, metric = registry.by_source(item.task.series.source)
        feed = exchange.rest_feed(metric)
        if found is exchange and feed is not None:
            cost[feed.budget] = cost.get(feed.budget, 0) + item.cost
    times = [units / exchange.budget(name).limit * exchange.budget(name).period_ms for name, units in cost.items()]
    return max(times, default=0.0) / MINUTE_MS
