"""`fademoe gaps`, `coverage`, `verify`, `audit`, `retry`: is a series complete, and if not, what is missing and why."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from fademoe.cli.edge import DONE, FAILED, Commands
from fademoe.cli.running import inherit_running_settings
from fademoe.clock import DAY_MS, Window, ceil_to, floor_to, now_ms, parse_time, to_iso
from fademoe.errors import ConfigError, SourceError
from fademoe.feeds import registry
from fademoe.jobs import gaps
from fademoe.jobs.audit import audit
from fademoe.queue import jobs as queues
from fademoe.queue.jobs import LIVE
from fademoe.runtime.context import Context
from fademoe.runtime.startup import ready
from fademoe.settings import Settings, check_symbol
from fademoe.store import certificate, coverage
from fademoe.store.coverage import Series


def main(argv: Sequence[str]) -> int:
    """Answer questions about completeness, or mend it."""
    commands = Commands(inherit_running_settings)
    missing = commands.add("gaps", show_gaps, "print what is wanted and missing, and why; exit 1 when there is any")
    table = commands.add("coverage", show_coverage, "print what is wanted, covered, absent and missing per series")
    check = commands.add("verify", verify, "print a certificate of a series: counts, reasons, SHA-256 over its rows")
    compare = commands.add("audit", run_audit, "fetch again, compare with what is stored, and correct")
    again = commands.add("retry", retry, "put windows that rest after a failure back into their queue")
    for parser in (missing, table, check, compare, again):
        parser.add_argument("--source", required=parser is check, metavar="PERPSPEC", help="such as bin-ohlcv")
        parser.add_argument("--symbol", required=parser is check, help="such as BTC")
    for parser in (missing, table, check, compare):
        parser.add_argument("--json", action="store_true", help="as JSON")
    for parser in (check, compare):
        parser.add_argument("--since", required=True, metavar="ISO", help="first moment")
        parser.add_argument("--until", required=True, metavar="ISO", help="end of the range")
    return commands.call(argv)


def show_gaps(settings: Settings, args: argparse.Namespace) -> int:
    """Print every wanted range that is missing, and what becomes of it; return 0 when there is none, else 1."""
    context = ready(settings)
    found = [
        {"source": gap.series.source, "symbol": gap.series.symbol, "from": to_iso(gap.window.start_ms),
         "to": to_iso(gap.window.end_ms), "start_ms": gap.window.start_ms, "end_ms": gap.window.end_ms, "why": gap.why}
        for source in _sources(args)
        for gap in gaps.find(context, *registry.by_source(source), _symbols(args))
    ]  # fmt: skip
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        for row in found:
            print(f"{row['source']:<14}{row['symbol']:<14}{row['from']:<22}{row['to']:<22}{row['why']}")
        print(f"{len(found)} gaps")
    return FAILED if found else DONE


def show_coverage(settings: Settings, args: argparse.Namespace) -> int:
    """Print one line per series."""
    context = ready(settings)
    now = now_ms()
    rows = []
    with context.database.transaction() as cursor:
        for source in _sources(args):
            rows += [_line(source, totals) for totals in coverage.totals(cursor, source, now, _symbols(args))]
    if args.json:
        print(json.dumps(rows, ensure_ascii=False))
        return DONE
    print(f"{'perpspec':<14}{'symbol':<14}{'wanted from':<22}{'complete':>9}{'absent':>9}{'missing':>9}  (in percent)")
    for row in rows:
        print(
            f"{row['source']:<14}{row['symbol']:<14}{row['wanted_from'] or '-':<22}{row['complete']:>9}"
            f"{row['absent']:>9}{row['missing']:>9}"
        )
    return DONE


def verify(settings: Settings, args: argparse.Namespace) -> int:
    """Print a certificate; return 0 when the range is complete, else 1."""
    context = ready(settings)
    exchange, _, metric = registry.by_source(args.source)
    feed = exchange.rest_feed(metric)
    window = _window(args)
    interval_ms = feed.interval_ms if feed else 60_000
    span = Window(floor_to(window.start_ms, interval_ms), ceil_to(window.end_ms, interval_ms))
    with context.database.transaction() as cursor:
        found = certificate.certify(
            cursor, Series(args.source, check_symbol(args.symbol)), metric, span, interval_ms,
            sparse=feed.sparse if feed else True,
        )  # fmt: skip
    if args.json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")
    return DONE if found["complete"] else FAILED


def run_audit(settings: Settings, args: argparse.Namespace) -> int:
    """Audit every stored series in a range, one after the other; return 1 when one could not be compared."""
    context = ready(settings)
    context.stop.install()
    window = _window(args)
    verdicts, trouble = [], False
    for series in _stored_series(context, args, window):
        try:
            verdict = audit(context, series, window)
        except SourceError as error:
            trouble = True
            print(f"{series.source:<14}{series.symbol:<14}not compared: {error}")
            continue
        verdicts.append(asdict(verdict))
        if not args.json:
            print(
                f"{series.source:<14}{series.symbol:<14}{verdict.equal} equal, {verdict.corrected} corrected,"
                f" {verdict.missing} missing, {verdict.extra} extra"
            )
    if args.json:
        print(json.dumps(verdicts, ensure_ascii=False))
    return FAILED if trouble else DONE


def retry(settings: Settings, args: argparse.Namespace) -> int:
    """Wake the windows that rest after a failure."""
    context = ready(settings)
    sources, symbols = _sources(args), _symbols(args)
    woken = 0
    for name in (*registry.names(), LIVE):
        tasks = [
            task
            for task in queues.failed(context.redis, [name])
            if task.series.source in sources and (symbols is None or task.series.symbol in symbols)
        ]
        woken += queues.wake(context.redis, name, tasks)
    print(f"{woken} windows are back in their queue")
    return DONE


def _sources(args: argparse.Namespace) -> list[str]:
    every = [spec for exchange in registry.exchanges().values() for spec in exchange.perpspecs()]
    if args.source is None:
        return every
    registry.by_source(args.source)
    return [args.source]


def _symbols(args: argparse.Namespace) -> list[str] | None:
    return [check_symbol(args.symbol)] if args.symbol else None


def _window(args: argparse.Namespace) -> Window:
    try:
        window = Window(parse_time(args.since), parse_time(args.until))
    except ValueError as error:
        raise ConfigError(f"{error}: valid are ISO 8601 times such as 2026-01-31 or 2026-01-31T12:00") from error
    if window.start_ms >= window.end_ms:
        raise ConfigError(f"--until {args.until} must lie after --since {args.since}")
    return window


def _stored_series(context: Context, args: argparse.Namespace, window: Window) -> list[Series]:
    symbols = _symbols(args)
    found = []
    with context.database.transaction() as cursor:
        for source in _sources(args):
            exchange, _, metric = registry.by_source(source)
            if exchange.rest_feed(metric) is not None:
                within = coverage.series_within(cursor, source, window)
                found += [series for series in within if symbols is None or series.symbol in symbols]
    return found


def _line(source: str, totals: coverage.Totals) -> dict[str, object]:
    def percent(part: int) -> str:
        return f"{100 * part / totals.wanted_ms:.2f}" if totals.wanted_ms else "-"

    return {
        "source": source,
        "symbol": totals.symbol,
        "wanted_from": to_iso(totals.wanted_from) if totals.wanted_from else None,
        "wanted_days": round(totals.wanted_ms / DAY_MS, 3),
        "complete": percent(totals.wanted_ms - totals.missing_ms),
        "absent": percent(totals.absent_ms),
        "missing": percent(totals.missing_ms),
    }
