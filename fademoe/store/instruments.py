"""The exchanges' contracts, `perp_metadata`."""

from collections.abc import Sequence
from typing import Any

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.feeds.instrument import Instrument

Key = tuple[str, str]  # exchange code and the exchange's name of a contract

COLUMNS = "exchange, code, instrument, symbol, multiplier, contract_value::text, listed_ms, delisted_ms"


def key_of(instrument: Instrument) -> Key:
    """Return the key of a contract."""
    return instrument.code, instrument.name


def save(cursor: Cursor, instruments: Sequence[Instrument]) -> None:
    """Insert or update contracts; one that is listed again trades again, of one that came twice the last counts."""
    found = {(i.code, i.name): i for i in instruments}  # it moved to the next page while the list was read
    execute_values(
        cursor,
        "INSERT INTO perp_metadata (exchange, code, instrument, symbol, multiplier, contract_value, listed_ms,"
        " delisted_ms) VALUES %s ON CONFLICT (code, instrument) DO UPDATE SET symbol = excluded.symbol,"
        " multiplier = excluded.multiplier, contract_value = excluded.contract_value,"
        " listed_ms = excluded.listed_ms, delisted_ms = excluded.delisted_ms, missing_ms = NULL, seen_at = now()",
        [
            (i.exchange, i.code, i.name, i.symbol, i.multiplier, i.contract_value, i.listed_ms, i.delisted_ms)
            for _, i in sorted(found.items())
        ],
    )


def retire_missing(cursor: Cursor, missing: Sequence[Key], now_ms: int, before_ms: int) -> list[str]:
    """Note which contracts a list lacks; return the names of those that are delisted by that.

    A contract that an earlier list lacked, at `before_ms` or earlier, and every list since, is delisted from then on.
    """
    arrays = [code for code, _ in missing], [name for _, name in missing]
    cursor.execute(
        "UPDATE perp_metadata SET delisted_ms = missing_ms, missing_ms = NULL"
        " WHERE (code, instrument) IN (SELECT unnest(%s::text[]), unnest(%s::text[])) AND missing_ms <= %s"
        " RETURNING instrument",
        (*arrays, before_ms),
    )
    retired = sorted(name for (name,) in cursor.fetchall())
    cursor.execute(
        "UPDATE perp_metadata SET missing_ms = %s"
        " WHERE (code, instrument) IN (SELECT unnest(%s::text[]), unnest(%s::text[]))"
        " AND missing_ms IS NULL AND coalesce(delisted_ms > %s, true)",
        (now_ms, *arrays, now_ms),
    )
    return retired


def count_missing(cursor: Cursor, codes: Sequence[str]) -> int:
    """Return how many contracts of the exchange codes the last list lacked without being delisted."""
    cursor.execute("SELECT count(*) FROM perp_metadata WHERE code = ANY(%s) AND missing_ms IS NOT NULL", (list(codes),))
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def by_key(cursor: Cursor, codes: Sequence[str]) -> dict[Key, Instrument]:
    """Return every stored contract of the exchange codes."""
    cursor.execute(f"SELECT {COLUMNS} FROM perp_metadata WHERE code = ANY(%s)", (list(codes),))  # noqa: S608
    return {key_of(instrument): instrument for instrument in map(_instrument, cursor.fetchall())}


def by_symbol(cursor: Cursor, code: str, symbol: str | None = None) -> dict[str, Instrument]:
    """Return the contract of each symbol of an exchange code, or of one symbol.

    Of several contracts of a symbol it is the one that trades, or was listed last; an announced one comes after those.
    """
    cursor.execute(
        f"SELECT DISTINCT ON (symbol) {COLUMNS} FROM perp_metadata"  # noqa: S608 - a constant
        " WHERE code = %(code)s AND coalesce(symbol = %(symbol)s, true)"
        " ORDER BY symbol, coalesce(listed_ms, 0) > extract(epoch FROM now()) * 1000,"
        " delisted_ms DESC NULLS FIRST, listed_ms DESC NULLS LAST, instrument",
        {"code": code, "symbol": symbol},
    )
    return {instrument.symbol: instrument for instrument in map(_instrument, cursor.fetchall())}


def _instrument(row: tuple[Any, ...]) -> Instrument:
    names = ("exchange", "code", "name", "symbol", "multiplier", "contract_value", "listed_ms", "delisted_ms")
    return Instrument(**dict(zip(names, row, strict=True)))
