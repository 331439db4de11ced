"""`fademoe backtest`: run a strategy over stored minutes; list, show and verify runs."""

import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from redis import Redis
from redis.exceptions import RedisError

from fademoe.backtest.certificate import find_difference
from fademoe.backtest.database import Outcome, add_sweep, run_again, run_and_store, sweep_and_store
from fademoe.backtest.plan import MARGINS, MissingData, Plan, read_tiers_file
from fademoe.backtest.request import RunRequest, check_request, make_plan
from fademoe.backtest.sweep import SweepRequest
from fademoe.cli.arguments import TIME
from fademoe.cli.environment import pass_running_settings
from fademoe.cli.main import DONE, FAILED
from fademoe.cli.table import format_table
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, monotonic_s, to_iso
from fademoe.errors import ConfigError
from fademoe.queue.enqueue import cancel_waiting, enqueue_backtest, make_backtest_id
from fademoe.queue.ids import RESEARCH
from fademoe.queue.workload import has_research_worker
from fademoe.runtime.services import Services
from fademoe.runtime.startup import wait_for_schema
from fademoe.settings import Settings
from fademoe.store import backtests
from fademoe.store.backtests import LEDGER_COLUMNS, Backtest
from fademoe.store.connection import Database

LIST_MOST = 1_000
PAGE = 10_000
FOLLOW_S = 0.5

Command = Callable[..., Any]

_SPAN = re.compile(r"([0-9]+)([dhm])")
_UNITS = {"d": DAY_MS, "h": HOUR_MS, "m": MINUTE_MS}


class Span(click.ParamType[int]):
    """A length of time such as 60d, 12h, 90m; the value is in ms."""

    name = "span"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the length; fail with examples."""
        found = _SPAN.fullmatch(str(value))
        if found is None or not int(found[1]):
            self.fail(f"{value!r}: valid are 60d, 12h, 90m", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


SPAN = Span()
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def add_conditions(command: Command) -> Command:
    """Add the options that say what trades, and under which conditions; `make_conditions` reads them."""
    for option in reversed(
        (
            click.option(
                "--symbols", required=True, help="Comma list such as BTC,ETH; or all that traded in the range."
            ),
            click.option("--exchange", required=True, help="The exchange on which it trades, by name."),
            click.option(
                "--capital",
                default="10000",
                show_default=True,
                help="USDT.",
            ),
            click.option("--param", "params", multiple=True, metavar="K=V", help="A param of the strategy; repeat it."),
            click.option("--maker", help="Fee of limits, a fraction. Default: the exchange's lowest tier."),
            click.option("--taker", help="Fee of all else. Default: the exchange's lowest tier."),
            click.option("--slippage", default="0.0001", show_default=True, help="A fraction of the price."),
            click.option(
                "--latency",
                type=click.IntRange(0, 1440),
                default=0,
                show_default=True,
                help="Minutes an order is late.",
            ),
            click.option("--margin", default=MARGINS[0], show_default=True, help=f"{' or '.join(MARGINS)}."),
            click.option(
                "--leverage",
                default="1",
                show_default=True,
                help="The most that positions may be worth, as a multiple of the equity.",
            ),
            click.option("--liquidation-fee", default="0.005", show_default=True, help="A fraction of the notional."),
            click.option(
                "--tiers",
                type=click.Path(path_type=Path, dir_okay=False),
                help='Maintenance tiers, JSON: {"BTC": [["50000", "0.004"], [null, "0.01"]], "*": …}.',
            ),
            click.option(
                "--allow-holes", is_flag=True, help="Go on where a settlement is not known; not certified then."
            ),
        )
    ):
        command = option(command)
    return command


def add_range(command: Command) -> Command:
    """Add --since, --until and --as-of."""
    as_of = click.option("--as-of", type=TIME, help="Read the values as they were stored at this time.")
    until = click.option("--until", type=TIME, required=True, help="End of the range, not included.")
    return click.option("--since", type=TIME, required=True, help="Start of the range.")(until(as_of(command)))


def read_params(given: Sequence[str]) -> dict[str, str]:
    """Return the pairs of `--param k=v`; raise ConfigError."""
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--param is {text!r}: valid is name=value")
        pairs[name.strip()] = value.strip()
    return pairs


def read_request(file: Path, options: dict[str, Any]) -> RunRequest:
    """Return the request of a file and of the options that `add_range` and `add_conditions` add; raise ConfigError."""
    try:
        text = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    values = {name: value for name, value in options.items() if name not in ("params", "tiers")}
    request = RunRequest(
        name=file.name,
        text=text,
        params=read_params(options["params"]),
        tiers=read_tiers_file(options["tiers"]) if options["tiers"] else {},
        **values,
    )
    check_request(request)
    return request


def open_second(settings: Settings) -> Database:
    """Return a connection for what a run reads."""
    return Database(settings.postgres_url, "fademoe backtest")


@click.group("backtest")
def backtest() -> None:
    """Run a strategy over stored minutes; list, show and verify runs.

    FILE is a Python file with one subclass of fademoe.strategy.Strategy, or rules in TOML.
    Exit codes: 0 done, 1 refused or failed, 2 an argument is wrong.
    """


@backtest.command("run")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE")
@add_range
@add_conditions
@json_option
@pass_running_settings
def run(settings: Settings, file: Path, *, as_json: bool, **options: Any) -> int:
    """Run a strategy, print its report and store it with its ledger and certificate."""
    request = read_request(file, options)
    services = wait_for_schema(settings)
    with services.database.open_transaction() as cursor:
        plan = make_plan(cursor, request)
    run_id = services.database.run(
        lambda cursor: backtests.add(cursor, backtests.RUN, plan.strategy.name, plan.to_json(), state=backtests.RUNNING)
    )
    try:
        outcome = run_and_store(services.database, open_second(settings), run_id, plan, _Teller().say)
    except MissingData as error:
        click.echo(str(error), err=as_json)
        return FAILED
    if as_json:
        click.echo(json.dumps(_describe_outcome(run_id, outcome), ensure_ascii=False))
    else:
        _print_report(run_id, outcome.certificate, outcome.report, outcome.unknown)
    return DONE


@backtest.command("sweep")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE")
@click.option("--grid", multiple=True, required=True, metavar="K=A,B,C", help="Values of a param; repeat it.")
@click.option("--best", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many are run exactly.")
@add_range
@add_conditions
@json_option
@pass_running_settings
def sweep(settings: Settings, file: Path, grid: tuple[str, ...], best: int, *, as_json: bool, **options: Any) -> int:
    """Run a strategy for every set of params of a grid; all trials are recorded."""
    return _sweep(settings, file, SweepRequest(grid=grid, best=best), options, as_json=as_json)


@backtest.command("walk-forward")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE")
@click.option("--grid", multiple=True, required=True, metavar="K=A,B,C", help="Values of a param; repeat it.")
@click.option("--train", type=SPAN, required=True, help="How long params are chosen on, such as 60d.")
@click.option("--test", type=SPAN, required=True, help="How long each choice is then run, such as 20d.")
@add_range
@add_conditions
@json_option
@pass_running_settings
def walk(
    settings: Settings, file: Path, grid: tuple[str, ...], train: int, test: int, *, as_json: bool, **options: Any
) -> int:
    """Choose params on each training range and run them on the range behind it; those parts joined are the result."""
    sweep_request = SweepRequest(grid=grid, best=1, folds_ms=(train, test))
    return _sweep(settings, file, sweep_request, options, as_json=as_json)


def _sweep(
    settings: Settings, file: Path, sweep_request: SweepRequest, options: dict[str, Any], *, as_json: bool
) -> int:
    """Let a worker of the queue research do it and follow it; without one it runs in this process."""
    request = read_request(file, options)
    if sweep_request.folds_ms and sum(sweep_request.folds_ms) > request.until - request.since:
        raise ConfigError("--train and --test together are longer than the range")
    services = wait_for_schema(settings)
    with services.database.open_transaction() as cursor:
        plan = make_plan(cursor, request)
    redis = _find_workers(settings)
    state = backtests.RUNNING if redis is None else backtests.QUEUED
    run_id = services.database.run(lambda cursor: add_sweep(cursor, plan, sweep_request, state=state))
    if redis is None:
        try:
            report = sweep_and_store(
                services.database, open_second(settings), run_id, plan, sweep_request, _Teller().say
            )
        except MissingData as error:
            click.echo(str(error), err=as_json)
            return FAILED
    else:
        enqueue_backtest(redis, run_id, plan.strategy.name)
        redis.close()
        found = _follow(services, run_id)
        if found.report is None:
            click.echo(found.message or f"{run_id} was {found.state}", err=as_json)
            return FAILED
        report = found.report
    if as_json:
        click.echo(json.dumps({"id": run_id, "report": report}, ensure_ascii=False))
    elif sweep_request.folds_ms:
        _print_folds(run_id, report)
    else:
        _print_trials(run_id, report)
    return DONE


def _find_workers(settings: Settings) -> Redis | None:
    """Return the Redis of a system that runs and has a worker of the queue research, None without one."""
    redis = Redis.from_url(settings.queue_url)
    try:
        if has_research_worker(redis):
            return redis
    except RedisError:
        pass
    redis.close()
    return None


def _follow(services: Services, run_id: str) -> Backtest:
    """Say how far a worker is with a run until it has ended."""
    teller = _Teller()
    try:
        while True:
            found = _find(services, run_id)
            if found.state not in (backtests.QUEUED, backtests.RUNNING):
                return found
            if found.state == backtests.RUNNING:
                teller.say(found.progress)
            time.sleep(FOLLOW_S)
    except KeyboardInterrupt:
        click.echo(f"{run_id} goes on; fademoe backtest cancel {run_id} ends it", err=True)
        raise


@backtest.command("list")
@json_option
@pass_running_settings
def list_runs(settings: Settings, *, as_json: bool) -> None:
    """List the newest runs."""
    services = wait_for_schema(settings)
    with services.database.open_transaction() as cursor:
        runs = backtests.list_runs(cursor, LIST_MOST)
    if as_json:
        click.echo(json.dumps([backtests.summarise(each) for each in runs], ensure_ascii=False))
        return
    rows = [
        [each.id, each.kind, each.state, each.title, ",".join(each.plan.get("symbols", []))[:40], *_figures(each)]
        for each in runs
    ]
    click.echo(format_table(("id", "kind", "state", "strategy", "symbols", "profit", "return"), rows))


@backtest.command("show")
@click.argument("run_id", metavar="ID")
@json_option
@pass_running_settings
def show(settings: Settings, run_id: str, *, as_json: bool) -> None:
    """Show a run: its certificate and its report."""
    services = wait_for_schema(settings)
    found = _find(services, run_id)
    if as_json:
        click.echo(json.dumps(backtests.describe(found), ensure_ascii=False))
        return
    if found.report is None or found.certificate is None:
        click.echo(f"{found.id}: {found.state} {found.message}")
        return
    if found.kind == backtests.SWEEP:
        _print_trials(found.id, found.report)
        return
    if found.kind == backtests.WALK_FORWARD:
        _print_folds(found.id, found.report)
        return
    _print_report(found.id, json.loads(found.certificate), found.report, found.unknown or [])


@backtest.command("verify")
@click.argument("run_id", metavar="ID")
@json_option
@pass_running_settings
def verify(settings: Settings, run_id: str, *, as_json: bool) -> int:
    """Run a stored run again and compare; exit code 1 when it differs."""
    services = wait_for_schema(settings)
    found = _find(services, run_id)
    if found.certificate is None or found.kind != backtests.RUN:
        raise ConfigError(f"{run_id} is a {found.kind}, {found.state}: only a run that is done can be verified")
    before = json.loads(found.certificate)
    first: Any = None
    try:
        outcome = run_again(open_second(settings), Plan.from_json(found.plan), before)
    except MissingData as error:
        click.echo(str(error), err=True)
        first = {"what": "data", "line": str(error).splitlines()[1]}
    else:
        first = _find_first(services, run_id, outcome)
        key = find_difference(before, json.loads(json.dumps(outcome.certificate)))
        if first is None and key is not None:
            first = {"what": "certificate", "line": key}
    if as_json:
        click.echo(json.dumps({"equal": True} if first is None else {"equal": False, "first": first}))
    elif first is None:
        click.echo(f"equal {before['sha256']}")
    else:
        click.echo(f"differs: {json.dumps(first, ensure_ascii=False)}")
    return DONE if first is None else FAILED


@backtest.command("cancel")
@click.argument("run_id", metavar="ID")
@pass_running_settings
def cancel(settings: Settings, run_id: str) -> None:
    """End a run or sweep that is queued or running."""
    services = wait_for_schema(settings)
    if not services.database.run(lambda cursor: backtests.cancel(cursor, run_id)):
        raise ConfigError(f"no run {run_id!r} is queued or running: fademoe backtest list names them")
    redis = Redis.from_url(settings.queue_url)
    with suppress(RedisError):  # without Redis no worker has it
        cancel_waiting(redis, RESEARCH, make_backtest_id(run_id))
    redis.close()
    click.echo(f"{run_id} is cancelled")


@backtest.command("remove")
@click.argument("run_id", metavar="ID")
@pass_running_settings
def remove(settings: Settings, run_id: str) -> None:
    """Delete a run with its ledger and report."""
    services = wait_for_schema(settings)
    if not services.database.run(lambda cursor: backtests.remove(cursor, run_id)):
        raise ConfigError(f"there is no run {run_id!r}: fademoe backtest list names them")
    click.echo(f"{run_id} is removed")


def _print_trials(run_id: str, report: dict[str, Any]) -> None:
    rows = [
        [
            " ".join(f"{name}={value}" for name, value in trial["params"].items()),
            f"{trial['profit']:.2f}",
            f"{trial['max_drawdown']:.2%}",
            trial["fills"],
            "exact" if trial["is_exact"] else "kernel",
        ]
        for trial in report["trials_list"][:20]
    ]
    click.echo(format_table(("params", "profit", "max drawdown", "fills", "by"), rows))
    deflated = report["deflated_sharpe"]
    click.echo(f"{report['trials']} trials; {report['exact']} of them exact; {run_id}")
    if unknown := report.get("unknown"):
        click.echo(f"{unknown} of them lack settlements that are not known")
    click.echo(
        "deflated Sharpe ratio: "
        + ("-" if deflated is None else f"{deflated:.2%} that the best is better than the best of so many by chance")
    )


def _print_folds(run_id: str, report: dict[str, Any]) -> None:
    sums = report["out_of_sample"]
    click.echo(
        f"out of sample: profit {sums['profit']} USDT, {sums['return']:.2%}; {sums['won']} of {sums['folds']} won"
    )
    if unknown := sums.get("unknown"):
        click.echo(f"without the settlements of {unknown} ranges, which are not known")
    rows = [
        [
            to_iso(fold["since"]),
            " ".join(f"{name}={value}" for name, value in fold["params"].items()),
            f"{fold['in_sample']:.2f}",
            f"{fold['profit']:.2f}",
        ]
        for fold in report["folds"]
    ]
    click.echo(format_table(("since", "params", "in sample", "out of sample"), rows))
    click.echo(f"{report['trials']} trials; {run_id}")


def _find(services: Services, run_id: str) -> Backtest:
    with services.database.open_transaction() as cursor:
        found = backtests.find_run(cursor, run_id)
    if found is None:
        raise ConfigError(f"there is no run {run_id!r}: fademoe backtest list names them")
    return found


def _find_first(services: Services, run_id: str, outcome: Outcome) -> dict[str, Any] | None:
    """Return the first line of ledger or equity that is not as it was stored."""
    now = [tuple(row.to_texts().values()) for row in outcome.result.ledger]
    at = 0
    with services.database.open_transaction() as cursor:
        while rows := backtests.read_ledger(cursor, run_id, at, PAGE):
            for row in rows:
                is_now = now[at] if at < len(now) else None
                if is_now != tuple(row):
                    return _describe_difference("ledger", row, is_now)
                at += 1
        if at < len(now):
            return _describe_difference("ledger", None, now[at])
        lines = iter(outcome.result.equity.lines.splitlines())
        after = -1
        while rows := backtests.read_equity(cursor, run_id, after, PAGE):
            for row in rows:
                line = next(lines, None)
                was = "\t".join(map(str, row))
                if line != was:
                    return {"what": "equity", "was": was, "is": line}
            after = rows[-1][0]
    return None


def _describe_difference(what: str, was: Sequence[Any] | None, now: Sequence[Any] | None) -> dict[str, Any]:
    names = LEDGER_COLUMNS
    return {
        "what": what,
        "was": None if was is None else dict(zip(names, was, strict=True)),
        "is": None if now is None else dict(zip(names, now, strict=True)),
    }


def _describe_outcome(run_id: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "id": run_id,
        "certified": outcome.certified,
        "certificate": outcome.certificate,
        "report": outcome.report,
        "unknown": outcome.unknown,
    }


def _figures(run: Backtest) -> list[str]:
    if run.report is None or "profit" not in run.report:
        return ["-", "-"]
    return [str(run.report["profit"])[:14], f"{run.report['return']:.2%}"]


class _Teller:
    """Says on stderr how far a run is, and how long it will take yet."""

    def __init__(self) -> None:
        self._begin: tuple[float, float] | None = None  # time and share when it was first told
        self._last = ""

    def say(self, share: float) -> None:
        """Say the share that is done, unless that was said before."""
        now = monotonic_s()
        if self._begin is None:
            self._begin = now, share
        passed, done = now - self._begin[0], share - self._begin[1]
        text = f"{share:.0%}"
        if text == self._last:
            return
        self._last = text
        left = "" if done <= 0 else f", about {max(1, round(passed * (1 - share) / done))} s left"
        click.echo(text + left, err=True)


def _print_report(
    run_id: str, certificate: dict[str, Any], report: dict[str, Any], unknown: list[dict[str, Any]]
) -> None:
    """Print the figures of a report, the ones that count first."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.2%}"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    lines = [
        ("strategy", certificate["strategy"]["name"]),
        ("range", f"{certificate['since']} .. {certificate['until']}"),
        ("equity", f"{report['equity']} USDT"),
        ("profit", f"{report['profit']} USDT, {percent(report['return'])}"),
        ("buy and hold", percent(report["buy_and_hold"])),
        ("funding, fees", f"{report['funding']}, {report['fees']} USDT"),
        ("max drawdown", f"{percent(report['max_drawdown'])}, longest {report['max_drawdown_minutes']} minutes"),
        ("CAGR, Sharpe", f"{percent(report['cagr'])}, {number(report['sharpe'])}"),
        ("trades", f"{report['trades']}, {percent(report['hit_rate'])} won"),
        ("ledger", ", ".join(f"{count} {kind}" for kind, count in report["rows"].items()) or "no rows"),
        ("absences", f"{len(report['absences'])} ranges without data at the exchange"),
        ("certified", "yes" if certificate["certified"] else f"no: {len(unknown)} ranges of settlements are not known"),
        ("sha256", certificate["sha256"]),
        ("id", run_id),
    ]
    click.echo("\n".join(f"{name:14} {value}" for name, value in lines))
    rows = [
        [symbol, parts["price"], parts["funding"], parts["fees"], parts["profit"]]
        for symbol, parts in report["by_symbol"].items()
    ]
    click.echo(format_table(("symbol", "price", "funding", "fees", "profit"), rows))
