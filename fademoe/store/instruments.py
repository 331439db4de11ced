"""The exchanges' contracts, `perp_metadata`."""

from collections.abc import Sequence
from typing import Any

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.feeds.instrument import Instrument

COLUMNS = "exchange, code, instrument, symbol, multiplier, contract_value::text, listed_ms, delisted_ms"


def save(cursor: Cursor, instruments: Sequence[Instrument]) -> None:
    """Insert or update contracts; one that is listed again trades again, of one that came twice the last counts."""
    found = {(i.code, i.name): i for i in instruments}  # it moved to the next page while the list was read
    execute_values(
        cursor,
        "INSERT INTO perp_metadata (exchange, code, instrument, symbol, multiplier, contract_value, listed_ms,"
        " delisted_ms) VALUES %s ON CONFLICT (code, instrument) DO UPDATE SET symbol = excluded.symbol,"
        " multiplier = excluded.multiplier, contract_value = excluded.contract_value,"
        " listed_ms = excluded.listed_ms, delisted_ms = excluded.delisted_ms, seen_at = now()",
        [
            (i.exchange, i.code, i.name, i.symbol, i.multiplier, i.contract_value, i.listed_ms, i.delisted_ms)
            for _, i in sorted(found.items())
        ],
    )


def retire_others(cursor: Cursor, listed: Sequence[Instrument], now_ms: int) -> list[str]:
    """Set the end of the contracts of the same exchange codes that are not `listed` any more; return their names.

    A code of which nothing is listed is left alone: that is rather a broken list than the end of all its contracts.
    """
    cursor.execute(
        "UPDATE perp_metadata SET delisted_ms = %s WHERE code = ANY(%s) AND coalesce(delisted_ms > %s, true)"
        " AND (code, instrument) NOT IN (SELECT unnest(%s), unnest(%s)) RETURNING instrument",
        (now_ms, sorted({i.code for i in listed}), now_ms, [i.code for i in listed], [i.name for i in listed]),
    )
    return sorted(name for (name,) in cursor.fetchall())


def listed_before(cursor: Cursor, codes: Sequence[str]) -> dict[tuple[str, str], Instrument]:
    """Return every stored contract of the exchange codes by code and name."""
    cursor.execute(f"SELECT {COLUMNS} FROM perp_metadata WHERE code = ANY(%s)", (list(codes),))  # noqa: S608
    contracts = map(_instrument, cursor.fetchall())
    return {(each.code, each.name): each for each in contracts}


def by_symbol(cursor: Cursor, code: str, symbol: str | None = None) -> dict[str, Instrument]:
    """Return the contract of each symbol of an exchange code, or of one symbol.

    Of several contracts of a symbol it is the one that trades, or was listed last.
    """
    cursor.execute(
        f"SELECT DISTINCT ON (symbol) {COLUMNS} FROM perp_metadata"  # noqa: S608 - a constant
        " WHERE code = %(code)s AND coalesce(symbol = %(symbol)s, true)"
        " ORDER BY symbol, delisted_ms DESC NULLS FIRST, listed_ms DESC NULLS LAST, instrument",
        {"code": code, "symbol": symbol},
    )
    return {each.symbol: each for each in map(_instrument, cursor.fetchall())}


def _instrument(row: tuple[Any, ...]) -> Instrument:
    names = ("exchange", "code", "name", "symbol", "multiplier", "contract_value", "listed_ms", "delisted_ms")
    return Instrument(**dict(zip(names, row, strict=True)))
