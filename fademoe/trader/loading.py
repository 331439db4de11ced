"""What minutes of accounts read: one market for all accounts of an exchange, so that each series is read once."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from psycopg2.extensions import cursor as Cursor

from fademoe.backtest.database import DatabaseLoader, OtherLives, date_terms
from fademoe.backtest.market import Market, Reading
from fademoe.backtest.plan import LAST_MS, NEEDED, Plan, list_lives
from fademoe.clock import MINUTE_MS, Window
from fademoe.metrics import name_perpspec
from fademoe.store import trader as store
from fademoe.store.coverage import Series
from fademoe.store.read import market as read
from fademoe.store.read.catalog import list_inputs
from fademoe.store.read.market import Contract, Known
from fademoe.store.read.terms import DatedTerms, read_terms
from fademoe.trader.minutes import Surroundings


class SharedLoader:
    """Rows and coverage from one transaction, each read once for all callers."""

    def __init__(self, cursor: Cursor) -> None:
        self._loader = DatabaseLoader(cursor)
        self._rows: dict[tuple[Series, str, Window, bool], bytes] = {}
        self._known: dict[Series, Known] = {}

    def read(self, series: Series, metric: str, window: Window, *, timed: bool = False) -> bytes:
        """Return the rows of a window."""
        key = (series, metric, window, timed)
        if key not in self._rows:
            self._rows[key] = self._loader.read(series, metric, window, timed=timed)
        return self._rows[key]

    def read_known(self, series: Series) -> Known:
        """Return what is covered and absent of a series."""
        if series not in self._known:
            self._known[series] = self._loader.read_known(series)
        return self._known[series]


Key = tuple[str, str, str]


class SharedMarket(Market):
    """The market of one account; what it reads is read once for all accounts of the same exchange and minutes."""

    def __init__(self, shared: dict[Key, Reading], *arguments: Any) -> None:
        """Take the series that other accounts have read of the same loader, code, minutes and lags, and add to them."""
        super().__init__(*arguments)
        self._shared = shared

    def _get(self, code: str, symbol: str, metric: str, *, is_own: bool) -> Reading:
        key = (code, symbol, metric)
        if key in self._shared and key not in self._readings:
            self._readings[key] = self._shared[key]
        reading = self._shared[key] = super()._get(code, symbol, metric, is_own=is_own)
        return reading

    def _check_covered(self, code: str, series: Series) -> None:
        """Accept what is missing of a series: it does not end the minutes of a paper account."""

    def let_go(self) -> None:
        """Let go of all that was read: a series knows its market and the market its series."""
        self._readings.clear()


class MarketReader:
    """Makes the surroundings of accounts from one transaction."""

    def __init__(self, cursor: Cursor, lags: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Read with `cursor`; `lags` instead of those in force now."""
        self._cursor = cursor
        self._loader = SharedLoader(cursor)
        self._lags = read.read_lags(cursor) if lags is None else lags
        self._lives = OtherLives(cursor)
        self._shared: dict[tuple[str, int, int], dict[Key, Reading]] = {}
        self._markets: list[SharedMarket] = []
        self._contracts: dict[tuple[str, tuple[str, ...]], list[Contract]] = {}
        self._inputs: dict[str, list[str]] = {}
        self._terms: dict[tuple[str, tuple[str, ...]], dict[str, list[DatedTerms]]] = {}
        self._ready: dict[tuple[frozenset[tuple[Series, int]], int], dict[Series, int]] = {}

    def _list_contracts(self, code: str, symbols: tuple[str, ...]) -> list[Contract]:
        key = (code, symbols)
        if key not in self._contracts:
            self._contracts[key] = read.list_contracts(self._cursor, code, symbols)
        return self._contracts[key]

    def find_listed(self, series: Iterable[Series], minute: int) -> set[Series]:
        """Return those of some stored series whose contract trades in a minute."""
        by_code: dict[str, list[Series]] = {}
        for each in series:
            by_code.setdefault(each.source.rpartition("-")[0], []).append(each)
        listed: set[Series] = set()
        for code, of_code in by_code.items():
            alive = {
                contract.symbol
                for contract in self._list_contracts(code, tuple(sorted({each.symbol for each in of_code})))
                if (contract.listed_ms or 0) < minute + MINUTE_MS and (contract.delisted_ms or LAST_MS) > minute
            }
            listed.update(each for each in of_code if each.symbol in alive)
        return listed

    def find_wanted(self, series: Collection[Series], minute: int) -> set[Series]:
        """Return those of some series that are wanted in a minute."""
        return store.find_wanted(self._cursor, series, minute) if series else set()

    def list_inputs(self, source: str) -> list[str]:
        """Return the stored perpspecs that a derived one is computed from, of the exchanges that are followed."""
        if source not in self._inputs:
            self._inputs[source] = list_inputs(self._cursor, source)
        return self._inputs[source]

    def find_ready_until(self, slack_ms: Mapping[Series, int], since: int) -> dict[Series, int]:
        """Return for each series the time in ms up to which minutes from `since` on need not wait for it.

        That is the end of its coverage plus its slack, or `since` where `since` less its slack is not covered.
        """
        key = (frozenset(slack_ms.items()), since)
        if key not in self._ready:
            begins = {series: since - slack for series, slack in slack_ms.items()}
            covered = store.find_covered_until(self._cursor, begins)
            self._ready[key] = {s: (covered[s] or begin) + slack_ms[s] for s, begin in begins.items()}
        return self._ready[key]

    def _read_terms(self, plan: Plan) -> dict[str, list[DatedTerms]]:
        key = (plan.code, plan.symbols)
        if key not in self._terms:
            self._terms[key] = read_terms(self._cursor, plan.code, plan.symbols, Window(0, plan.until))
        return self._terms[key]

    def surround(self, plan: Plan, since: int, until: int) -> Surroundings:
        """Return what the minutes [since, until) of a plan happen in."""
        lives = list_lives(self._list_contracts(plan.code, plan.symbols), plan.symbols)
        shared = self._shared.setdefault((plan.code, since, until), {})
        market = SharedMarket(shared, self._loader, plan.code, since, until, self._lags, self._lives, 1)
        self._markets.append(market)
        return Surroundings(market, lives, date_terms(plan, self._read_terms(plan)))

    def close(self) -> None:
        """Let go of all that was read; what `surround` gave is not to be used any more."""
        for market in self._markets:
            market.let_go()
        self._markets.clear()
        self._shared.clear()


def list_needed(plan: Plan) -> list[Series]:
    """Return the series that every minute of a plan needs."""
    return [Series(name_perpspec(plan.code, metric), symbol) for symbol in plan.symbols for metric in NEEDED]
