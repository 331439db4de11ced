"""What minutes of accounts read: one market for all accounts of an exchange, so that each series is read once."""

from collections.abc import Mapping, Sequence

from psycopg2.extensions import cursor as Cursor

from fademoe.backtest.database import DatabaseLoader, find_terms
from fademoe.backtest.market import Market
from fademoe.backtest.plan import NEEDED, Plan, list_lives
from fademoe.clock import Window
from fademoe.metrics import name_perpspec
from fademoe.store.coverage import Series
from fademoe.store.read import market as read
from fademoe.store.read.market import Known
from fademoe.trader.minutes import Surroundings


class SharedLoader:
    """Rows and coverage from one transaction, each read once whoever asks."""

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


class _Everywhere(dict[tuple[str, str], Sequence[Window]]):
    """No life at all: what is missing of a series does not end the minutes of a paper account."""

    def __missing__(self, key: tuple[str, str]) -> Sequence[Window]:
        return ()


class MarketReader:
    """Makes the surroundings of accounts from one transaction."""

    def __init__(self, cursor: Cursor, lags: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Read with `cursor`; `lags` instead of those in force now."""
        self._cursor = cursor
        self._loader = SharedLoader(cursor)
        self._lags = read.read_lags(cursor) if lags is None else lags

    def surround(self, plan: Plan, since: int, until: int) -> Surroundings:
        """Return what the minutes [since, until) of a plan happen in."""
        lives = list_lives(read.list_contracts(self._cursor, plan.code, plan.symbols), plan.symbols)
        market = Market(self._loader, plan.code, since, until, self._lags, _Everywhere())
        return Surroundings(market, lives, find_terms(self._cursor, plan))


def list_needed(plan: Plan) -> list[Series]:
    """Return the series that every minute of a plan needs."""
    return [Series(name_perpspec(plan.code, metric), symbol) for symbol in plan.symbols for metric in NEEDED]
