"""`fademoe export`: series as a directory of Parquet files with certificates, and the check of one."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fademoe.bulk.directory import check
from fademoe.bulk.export import Request, Summary, export, split_months
from fademoe.cli.arguments import TIME, make_window
from fademoe.cli.environment import pass_running_settings
from fademoe.cli.main import DONE, FAILED
from fademoe.clock import Window, floor_to, now_ms, to_iso
from fademoe.errors import ConfigError
from fademoe.feeds.grid import compute_due_until_ms_of, find_grid
from fademoe.metrics import STEPS_MS
from fademoe.runtime.services import Services
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings, check_symbol
from fademoe.store.read.catalog import Perpspec, list_perpspecs, list_symbols
from fademoe.store.read.past import Knowledge, Moment
from fademoe.store.read.pool import Reader


@click.command("export")
@click.option("--source", "sources", help="A perpspec such as bin-ohlcv, or a comma list.")
@click.option("--symbols", help="A comma list such as BTC,ETH, or all.")
@click.option("--since", type=TIME, help="Start of the range.")
@click.option("--until", type=TIME, help="End of the range, not included.")
@click.option("--out", "folder", type=click.Path(path_type=Path), help="The directory.")
@click.option("--step", type=click.Choice(list(STEPS_MS)), help="Coarser bars. Default: rows as stored.")
@click.option("--as-of", type=TIME, help="Rows as they were known then. Default: as they are now.")
@click.option(
    "--knowledge",
    type=click.Choice([each.value for each in Knowledge]),
    help="Whose knowledge --as-of takes. Default: market.",
)
@click.option("--float", "is_float", is_flag=True, help="Values as float64 instead of decimal128(38, 18).")
@click.option(
    "--check", "checked", type=click.Path(path_type=Path), help="Only compare a directory with its certificates."
)
@pass_running_settings
def run_export(settings: Settings, *, checked: Path | None, **options: Any) -> int:
    """Write series as Parquet files with their certificates: source=…/symbol=…/month=….parquet.

    What is there and has not changed is left as it is; an export that was killed goes on where it was. `--check DIR`
    compares files and certificates without a database: exit code 0 when all is as it was written, 1 when not.
    """
    return _export(settings, Options(**options)) if checked is None else _check(checked)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the options say, None where one is not given."""

    sources: str | None
    symbols: str | None
    since: int | None
    until: int | None
    folder: Path | None
    step: str | None
    as_of: int | None
    knowledge: str | None
    is_float: bool


def _export(settings: Settings, asked: Options) -> int:
    sources, symbols, folder = asked.sources, asked.symbols, asked.folder
    if sources is None or symbols is None or asked.since is None or asked.until is None or folder is None:
        raise ConfigError("--source, --symbols, --since, --until and --out are required, or --check alone")
    window = make_window(asked.since, asked.until)
    moment = _read_moment(asked.as_of, asked.knowledge)
    with closing(wait_until_ready(settings)) as services, closing(Reader(settings.postgres_url)) as reader:
        specs, series = _choose_series(reader, sources, symbols)
        window = _cut_to_due(window, min(_find_due_ms(services, spec) for spec in specs))
        grids = {spec.name: find_grid(spec.name) for spec in specs}
        summary = export(
            reader,
            folder,
            [(spec, symbol, grids[spec.name]) for spec, symbol in series],
            Request(window=window, step=asked.step or "", is_float=asked.is_float, moment=moment),
            lambda line: click.echo(line, err=True),
        )
    _tell(summary, len(series) * len(list(split_months(window))))
    return DONE


def _tell(summary: Summary, months: int) -> None:
    click.echo(
        f"{summary.rows} rows in {summary.written + summary.kept} files, {summary.kept} of them unchanged;"
        f" {summary.incomplete} of {months} months of series are not complete"
    )


def _choose_series(reader: Reader, sources: str, symbols: str) -> tuple[list[Perpspec], list[tuple[Perpspec, str]]]:
    """Return the perpspecs and the series that the options name."""
    with reader.read() as cursor:
        specs = _find_specs(list_perpspecs(cursor), sources)
        return specs, [
            (spec, symbol) for spec in specs for symbol in _parse_symbols(symbols, list_symbols(cursor, spec.name))
        ]


def _cut_to_due(window: Window, due_ms: int) -> Window:
    """Return the part of a window whose rows are due, and say so when that is not all."""
    if due_ms >= window.end_ms:
        return window
    click.echo(f"note: rows from {to_iso(due_ms)} on are not due yet", err=True)
    return Window(window.start_ms, max(window.start_ms, due_ms))


def _read_moment(as_of: int | None, knowledge: str | None) -> Moment | None:
    """Return the moment of --as-of, None without it; raise ConfigError for options that do not go together."""
    if as_of is None:
        if knowledge:
            raise ConfigError("--knowledge goes with --as-of")
        return None
    if as_of > now_ms():
        raise ConfigError(f"--as-of is {to_iso(as_of)}: valid are times up to now, {to_iso(now_ms())}")
    return Moment(as_of, Knowledge(knowledge or Knowledge.MARKET))


def _check(folder: Path) -> int:
    if not folder.is_dir():
        raise ConfigError(f"--check is {str(folder)!r}: there is no such directory")
    faults = check(folder)
    for fault in faults:
        click.echo(fault)
    click.echo(f"{len(faults)} faults")
    return FAILED if faults else DONE


def _find_specs(specs: dict[str, Perpspec], text: str) -> list[Perpspec]:
    names = list(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))
    unknown = [name for name in names if name not in specs]
    if unknown or not names:
        raise ConfigError(f"--source is {text!r}: valid are {', '.join(specs)}")
    return [specs[name] for name in names]


def _parse_symbols(text: str, stored: list[str]) -> list[str]:
    if text.strip().lower() == "all":
        return stored
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise ConfigError("--symbols is empty: valid are a comma list such as BTC,ETH, or all")
    return list(dict.fromkeys(map(check_symbol, names)))


def _find_due_ms(services: Services, spec: Perpspec) -> int:
    return floor_to(compute_due_until_ms_of(spec.name, services.clocks.now_ms), find_grid(spec.name).interval_ms)
