"""The exchanges' contracts: `perp_lives`, its view `perp_metadata`, and `perp_terms`."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.clock import Window
from fademoe.feeds.instrument import Instrument
from fademoe.store.queries import load_queries

Key = tuple[str, str]  # exchange code and the exchange's name of a contract

SQL = load_queries("instruments")


class FoundLife(NamedTuple):
    """A life that only an archive tells of; `archive_name`: under which name it has the files."""

    instrument: Instrument
    first_trade_ms: int
    last_trade_ms: int
    archive_name: str


TERMS_TEMPLATE = (
    "(%s, %s, %s::smallint, %s::bigint, %s::bigint, %s::numeric, %s::numeric, %s::numeric, %s::numeric, %s::integer,"
    " %s, %s::jsonb, %s)"
)


def get_key(instrument: Instrument) -> Key:
    """Return the key of a contract."""
    return instrument.code, instrument.name


def save(cursor: Cursor, instruments: Sequence[Instrument]) -> None:
    """Insert or update contracts; one that is listed again trades again, of one that came twice the last counts."""
    by_name = {(i.code, i.name): i for i in instruments}  # it moved to the next page while the list was read
    rows = [
        (i.exchange, i.code, i.name, i.symbol, i.multiplier, i.contract_value, i.listed_ms, i.delisted_ms, i.life)
        for _, i in sorted(by_name.items())
    ]
    execute_values(cursor, SQL["save"], rows)
    cursor.execute(SQL["note_successors"], {"codes": sorted({i.code for i in instruments})})


def add_found_lives(cursor: Cursor, lives: Sequence[FoundLife]) -> None:
    """Add lives that an archive tells of; the stored ones from the number of each on are counted on by one."""
    for found in lives:
        values = found.instrument
        place = {"code": values.code, "name": values.name, "life": values.life}
        cursor.execute(SQL["count_on"], place)
        cursor.execute(SQL["count_terms_on"], place)
        row = (values.exchange, values.code, values.name, values.symbol, values.multiplier, values.contract_value)
        times = (values.listed_ms, found.first_trade_ms, found.last_trade_ms, values.delisted_ms)
        execute_values(cursor, SQL["add_found"], [(*row, *times, values.life, found.archive_name, "archive")])
    cursor.execute(SQL["note_successors"], {"codes": sorted({found.instrument.code for found in lives})})


def find_archive_names(cursor: Cursor, codes: Sequence[str]) -> dict[tuple[str, int], str]:
    """Return by (name, life) under which name an archive has the files of a life, where that is known."""
    cursor.execute(SQL["archive_names"], {"codes": list(codes)})
    return {(name, life): archive_name for name, life, archive_name in cursor.fetchall()}


def note_archive_name(cursor: Cursor, life: Instrument, archive_name: str) -> None:
    """Note under which name an archive has the files of a stored life, where that is not known yet."""
    values = {"code": life.code, "name": life.name, "life": life.life, "archive_name": archive_name}
    cursor.execute(SQL["set_archive_name"], values)


def find_undated(cursor: Cursor, codes: Sequence[str]) -> dict[tuple[str, int], int]:
    """Return by (name, life) when a list last had those lives that may have ended since and whose end nobody has said.

    Such are contracts that the lists lack, and all that trade while no list comes for a day.
    """
    cursor.execute(SQL["undated"], {"codes": list(codes)})
    return {(name, life): int(seen_ms) for name, life, seen_ms in cursor.fetchall()}


def date_end(cursor: Cursor, life: Instrument, found: FoundLife) -> bool:
    """Let a life that vanished from the lists end as its files tell; return False where its end is known by now."""
    values = {
        "code": life.code,
        "name": life.name,
        "life": life.life,
        "delisted_ms": found.instrument.delisted_ms,
        "last_trade_ms": found.last_trade_ms,
        "archive_name": None if found.archive_name == life.name else found.archive_name,
    }
    cursor.execute(SQL["date_end"], values)
    return cursor.rowcount > 0


def save_terms(cursor: Cursor, instruments: Sequence[Instrument], at_ms: int, evidence: str = "list") -> None:
    """Add the terms of contracts as they are at `at_ms`, where they differ from the last ones that are stored."""
    by_name = {(i.code, i.name): i for i in instruments}
    rows = [_terms_row(i, at_ms, evidence) for _, i in sorted(by_name.items())]
    if rows:
        execute_values(cursor, SQL["save_terms"], rows, template=TERMS_TEMPLATE, page_size=len(rows))


def read_funding_hours(cursor: Cursor, codes: Sequence[str]) -> dict[Key, int]:
    """Return the funding interval of contracts by the last terms that tell it."""
    cursor.execute(SQL["funding_hours"], {"codes": list(codes)})
    return {(code, name): hours for code, name, hours in cursor.fetchall()}


def _terms_row(i: Instrument, at_ms: int, evidence: str) -> tuple[Any, ...]:
    terms, tiers = i.terms, i.terms.tiers
    steps = None if tiers is None else json.dumps(tiers.steps)
    unit = None if tiers is None else tiers.unit
    terms_values = (terms.tick, terms.lot, terms.min_notional, terms.funding_hours, unit, steps)
    return (i.code, i.name, i.life, at_ms, i.multiplier, i.contract_value, *terms_values, evidence)


def retire_missing(cursor: Cursor, missing: Sequence[Key], now_ms: int, before_ms: int) -> list[str]:
    """Note which contracts a list lacks; return the names of those that are delisted by that.

    A contract that an earlier list lacked, at `before_ms` or earlier, and every list since, is delisted from then on.
    """
    values = {
        "codes": [code for code, _ in missing],
        "names": [name for _, name in missing],
        "before": before_ms,
        "now": now_ms,
    }
    cursor.execute(SQL["retire_missing"], values)
    retired = sorted(name for (name,) in cursor.fetchall())
    cursor.execute(SQL["note_missing"], values)
    return retired


def count_missing(cursor: Cursor, codes: Sequence[str]) -> int:
    """Return how many contracts of the exchange codes the last list lacked without being delisted."""
    cursor.execute(SQL["count_missing"], {"codes": list(codes)})
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def read_by_key(cursor: Cursor, codes: Sequence[str]) -> dict[Key, Instrument]:
    """Return the newest life of every stored contract of the exchange codes."""
    return {get_key(instrument): instrument for instrument in read_lives(cursor, codes)}


def read_lives(cursor: Cursor, codes: Sequence[str]) -> list[Instrument]:
    """Return every life of every stored contract of the exchange codes, the newest ones last."""
    cursor.execute(SQL["lives"], {"codes": list(codes)})
    return [_instrument(row) for row in cursor.fetchall()]


def list_symbols_of(cursor: Cursor, sources: Sequence[str]) -> set[str]:
    """Return the symbols of the series of some perpspecs."""
    cursor.execute(SQL["symbols_of"], {"sources": list(sources)})
    return {symbol for (symbol,) in cursor.fetchall()}


def read_last_close(cursor: Cursor, source: str, symbol: str, window: Window) -> Decimal | None:
    """Return the last stored close of a series in a window, None where there is none."""
    values = {"source": source, "symbol": symbol, "start": window.start_ms, "end": window.end_ms}
    cursor.execute(SQL["last_close"], values)
    row = cursor.fetchone()
    return None if row is None else Decimal(row[0])


def read_lives_of(cursor: Cursor, instrument: Instrument) -> list[Instrument]:
    """Return every stored life of a contract's name, ascending."""
    cursor.execute(SQL["lives_of"], {"code": instrument.code, "name": instrument.name})
    return [_instrument(row) for row in cursor.fetchall()]


def read_by_symbol(cursor: Cursor, code: str, symbol: str | None = None) -> dict[str, Instrument]:
    """Return the contract of each symbol of an exchange code, or of one symbol.

    Of several contracts of a symbol it is the one that trades, or was listed last; an announced one comes after those.
    """
    cursor.execute(SQL["by_symbol"], {"code": code, "symbol": symbol})
    return {instrument.symbol: instrument for instrument in map(_instrument, cursor.fetchall())}


def _instrument(row: tuple[Any, ...]) -> Instrument:
    names = ("exchange", "code", "name", "symbol", "multiplier", "contract_value", "listed_ms", "delisted_ms", "life")
    return Instrument(**dict(zip(names, row, strict=True)))
