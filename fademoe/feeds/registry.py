"""Finds the exchanges: every module of `fademoe.exchanges` and every entry point of the group `fademoe.exchanges`."""

import importlib
import pkgutil
import traceback
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import fademoe
from fademoe.errors import ConfigError
from fademoe.feeds.archive import Archive
from fademoe.feeds.derived import Part, list_parts
from fademoe.feeds.exchange import Exchange
from fademoe.metrics import name_perpspec
from fademoe.settings import Settings

GROUP = "fademoe.exchanges"
HOME = str(Path(fademoe.__file__).parent)


@cache
def load_exchanges() -> dict[str, Exchange]:
    """Return every exchange by name.

    Raises ConfigError for a package that cannot be imported or has no EXCHANGE, and for a name or code used twice.
    """
    package = importlib.import_module(GROUP)
    names = [f"{GROUP}.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    tables = [importlib.import_module(name).EXCHANGE for name in names]
    tables += [_load(point) for point in entry_points(group=GROUP)]
    by_name: dict[str, Exchange] = {}
    by_code: dict[str, Exchange] = {}
    for exchange in tables:
        other = by_name.get(exchange.name)
        if other is not None:
            raise ConfigError(f"the exchange name {exchange.name} is used twice: by {other.title} and {exchange.title}")
        by_name[exchange.name] = exchange
        for code in exchange.codes:
            other = by_code.setdefault(code, exchange)
            if other is not exchange:
                raise ConfigError(f"the code {code} is used twice: by {other.name} and {exchange.name}")
    return by_name


def list_names() -> tuple[str, ...]:
    """Return the names of all exchanges, sorted."""
    return tuple(sorted(load_exchanges()))


def list_streamed() -> tuple[str, ...]:
    """Return the names of the exchanges that have streams, sorted."""
    return tuple(name for name in list_names() if load_exchanges()[name].stream_feeds)


def select_enabled(settings: Settings) -> list[Exchange]:
    """Return the exchanges that the settings choose; by default all but those whose key is missing."""
    tables = load_exchanges()
    if settings.exchanges is None:
        return [tables[name] for name in list_names() if not tables[name].needs_key or settings.keys.get(name)]
    chosen = [tables[name] for name in settings.exchanges]
    for exchange in chosen:
        if exchange.needs_key and not settings.keys.get(exchange.name):
            raise ConfigError(f"{exchange.name} needs a key: set FADEMOE_{exchange.name.upper()}_KEY")
    return chosen


def explain_disabled(exchange: Exchange, settings: Settings) -> str | None:
    """Return why an exchange is not enabled, None when it is."""
    if exchange in select_enabled(settings):
        return None
    if settings.exchanges is not None:
        return f"FADEMOE_EXCHANGES leaves {exchange.name} out"
    return f"{exchange.name} has no key: FADEMOE_{exchange.name.upper()}_KEY is not set"


def select_archives(settings: Settings) -> dict[str, Archive]:
    """Return the archives that FADEMOE_ARCHIVES allows, by exchange.

    Raises ConfigError that names the terms where the word of a licence is missing or another one, and for an exchange
    that has no archive.
    """
    tables = load_exchanges()
    archives: dict[str, Archive] = {}
    for name, word in settings.archives.items():
        archive = tables[name].archive
        if archive is None:
            having = ", ".join(each for each in list_names() if tables[each].archive)
            raise ConfigError(f"FADEMOE_ARCHIVES names {name}, which has no archive: valid are {having}")
        if word != archive.licence:
            wanted = f"{name}:{archive.licence}" if archive.licence else name
            raise ConfigError(
                f"FADEMOE_ARCHIVES has {f'{name}:{word}' if word else name!r}: the files of {name} come under"
                f" {archive.terms} ({archive.summary}); read {archive.terms_url}, and write {wanted} to accept them"
            )
        archives[name] = archive
    return archives


def find_attribution(exchange: str, terms: str) -> str:
    """Return what has to go with data from the archive of an exchange, or the terms where it has none any more."""
    table = load_exchanges().get(exchange)
    return table.archive.attribution if table and table.archive else f"{exchange}: {terms}"


def list_dataset_sources(source: str) -> tuple[str, ...]:
    """Return the perpspecs that come with `source` in the same files of an archive, itself where there is none."""
    code, _, metric = source.rpartition("-")
    for exchange in load_exchanges().values():
        dataset = exchange.archive.find_dataset(metric) if exchange.archive and code in exchange.codes else None
        if dataset is not None:
            return tuple(name_perpspec(code, each) for each in dataset.metrics)
    return (source,)


def find_by_source(source: str) -> tuple[Exchange, str, str]:
    """Return (exchange, its code, metric) of a perpspec; raise ConfigError that names the valid ones."""
    code, _, metric = source.rpartition("-")
    for exchange in load_exchanges().values():
        if code in exchange.codes and metric in exchange.list_metrics():
            return exchange, code, metric
    inputs = sorted({name for part in find_parts(source) for name in part.inputs})
    if inputs:
        raise ConfigError(f"{source} is computed from {', '.join(inputs)}: name one of these")
    valid = sorted(spec for exchange in load_exchanges().values() for spec in exchange.list_perpspecs())
    raise ConfigError(f"unknown perpspec {source!r}: valid are {', '.join(valid)}")


def list_perpspecs() -> tuple[str, ...]:
    """Return the perpspecs of all exchanges, stored and derived."""
    exchanges = load_exchanges().values()
    stored = [perpspec for exchange in exchanges for perpspec in exchange.list_perpspecs()]
    return tuple(dict.fromkeys([*stored, *(part.source for part in list_parts(exchanges))]))


def find_parts(source: str) -> list[Part]:
    """Return the parts of a derived perpspec, over all exchanges; none for any other name."""
    return [part for part in list_parts(load_exchanges().values()) if part.source == source]


def _load(point: EntryPoint) -> Exchange:
    """Return the table of another package; raise ConfigError that names the package, and where it failed."""
    package = f"{point.dist.name} ({point.name} = {point.value})" if point.dist else f"{point.name} = {point.value}"
    try:
        table = getattr(point.load(), "EXCHANGE", None)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}{_locate(error)}"
        raise ConfigError(f"the exchange package {package} cannot be imported: {reason}") from error
    if not isinstance(table, Exchange):
        raise ConfigError(f"the exchange package {package} names no module that has EXCHANGE, an Exchange")
    return table


def _locate(error: Exception) -> str:
    """Return the line of the package that raised an error, "" where the error is not from any."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((HOME, "<"))]
    inner = [frame for frame in own if "importlib" not in Path(frame.filename).parts]
    return f" ({inner[-1].filename}, line {inner[-1].lineno})" if inner else ""
