"""A minute of an account that a test gives row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from fademoe.account.market import ASSUMED_TERMS, Candle, Mark, Settlement, Terms


@dataclass
class MinuteRows:
    """A minute given row by row; see fademoe.account.market.Minute."""

    ts: int
    candles: Mapping[str, Candle] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    closes_before: Mapping[str, Decimal] = field(default_factory=dict)
    settled: Mapping[str, Sequence[Settlement]] = field(default_factory=dict)
    absent: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ended: Sequence[str] = ()
    unlisted: frozenset[str] = frozenset()
    contract_terms: Mapping[str, Terms] = field(default_factory=dict)

    def find_candle(self, symbol: str) -> Candle | None:
        return self.candles.get(symbol)

    def find_mark(self, symbol: str) -> Mark | None:
        return self.marks.get(symbol)

    def find_close_before(self, symbol: str) -> Decimal | None:
        return self.closes_before.get(symbol)

    def may_settle(self) -> bool:
        return bool(self.settled or self.absent)

    def list_settlements(self, symbol: str) -> Sequence[Settlement]:
        return self.settled.get(symbol, ())

    def find_absent_funding(self, symbol: str) -> tuple[int, int] | None:
        return self.absent.get(symbol)

    def list_delisted(self) -> Sequence[str]:
        return sorted(self.ended)

    def is_listed(self, symbol: str) -> bool:
        return symbol not in self.unlisted and symbol not in self.ended

    def get_terms(self, symbol: str) -> Terms:
        return self.contract_terms.get(symbol, ASSUMED_TERMS)
