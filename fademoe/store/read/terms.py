"""Lives of contracts, and the terms that were valid in them: what a backtest needs to know of a coin's contract then.

    lives = list_lives(cursor, codes=["bin"], symbols=["BTC"], window=Window(since_ms, until_ms))
    terms = read_terms(cursor, "bin", ["BTC"], Window(since_ms, until_ms))["BTC"]
    at_start = find_terms(terms, since_ms)      # (terms, is_assumed)

Times are ms since 1970, numbers Decimal.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.store.queries import load_queries

SQL = load_queries("read_terms")


class Life(NamedTuple):
    """One life of a contract, from listing to delisting; what is not known is None.

    It traded in [listed_ms, delisted_ms); delisted_ms is None while it trades. `symbol` is our name in this life, which
    differs from that of another life where the ticker was given to another coin: `successor` is then the symbol of the
    life after it. `evidence` is where the times come from: list, missing (it left the list), archive.
    """

    exchange: str
    code: str
    instrument: str
    life: int
    symbol: str
    multiplier: int
    contract_value: Decimal  # coins in one contract, where sizes are counted in contracts
    listed_ms: int | None
    first_trade_ms: int | None
    last_trade_ms: int | None
    delisted_ms: int | None
    successor: str | None
    evidence: str


class Tier(NamedTuple):
    """A slice of a position up to `bound` (None: without end), and its maintenance margin rate, a fraction."""

    bound: Decimal | None
    rate: Decimal


class DatedTerms(NamedTuple):
    """The terms of a symbol's contract from `since_ms` on, until the next ones; None: the exchange does not tell it.

    `tick` is quote per coin, `lot` coins, `min_notional` quote. `tiers` are ascending; their bounds are notional in
    quote currency, or coins where `tier_unit` is "coins". The last tier has no bound: beyond the exchange's largest
    position its rate goes on.
    """

    since_ms: int
    instrument: str
    life: int
    multiplier: int
    contract_value: Decimal
    tick: Decimal | None
    lot: Decimal | None
    min_notional: Decimal | None
    funding_hours: int | None
    tier_unit: str | None  # "quote" or "coins", None without tiers
    tiers: tuple[Tier, ...]  # empty: not known


def list_lives(
    cursor: Cursor,
    *,
    codes: Sequence[str] | None = None,
    symbols: Sequence[str] | None = None,
    window: Window | None = None,
) -> list[Life]:
    """Return the lives of contracts that meet a window, dead ones too, by symbol, code and time; None: no restriction.

    The universe of an instant `at_ms` is that of Window(at_ms, at_ms + 1).
    """
    values = {
        "codes": None if codes is None else list(codes),
        "symbols": None if symbols is None else list(symbols),
        "start": None if window is None else window.start_ms,
        "end": None if window is None else window.end_ms,
    }
    cursor.execute(SQL["lives"], values)
    return [Life(*row) for row in cursor.fetchall()]


def read_terms(cursor: Cursor, code: str, symbols: Sequence[str], window: Window) -> dict[str, list[DatedTerms]]:
    """Return the terms of symbols on an exchange code that were known before the window's end, oldest first.

    A symbol of which none are known is missing from the result. Use `find_terms` to choose those of an instant.
    """
    cursor.execute(SQL["terms"], {"code": code, "symbols": list(symbols), "end": window.end_ms})
    terms: dict[str, list[DatedTerms]] = {}
    for symbol, *values, steps in cursor.fetchall():
        terms.setdefault(symbol, []).append(DatedTerms._make([*values, _make_tiers(steps)]))
    return terms


def find_terms(terms: Sequence[DatedTerms], at_ms: int) -> tuple[DatedTerms | None, bool]:
    """Return the terms that hold at an instant, and whether they are assumed: before all known ones the first hold.

    `terms` are ascending. (None, True) where none are known at all.
    """
    valid = [each for each in terms if each.since_ms <= at_ms]
    if valid:
        return valid[-1], False
    return (terms[0] if terms else None), True


def _make_tiers(steps: list[list[str]] | None) -> tuple[Tier, ...]:
    tiers = [Tier(Decimal(bound), Decimal(rate)) for bound, rate in steps or ()]
    return (*tiers[:-1], *(tier._replace(bound=None) for tier in tiers[-1:]))
