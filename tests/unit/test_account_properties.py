"""What holds after every minute of any run: the books balance, and nothing trades where there is no candle."""

from collections import defaultdict
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fademoe.account.ledger import LedgerRow
from fademoe.account.market import Candle, Mark, Settlement, Terms, Tier
from fademoe.account.numbers import EXACT
from fademoe.account.state import Account, Conditions
from fademoe.account.step import step_in_place
from fademoe.clock import MINUTE_MS
from fademoe.strategy import Limit, Market, Order, Stop, Target
from tests.support.minutes import MinuteRows

SYMBOLS = ("A", "B")
CENT = Decimal("1E-12")
TERMS = Terms(
    lot=Decimal("0.01"),
    min_notional=Decimal(5),
    tiers=(Tier(Decimal(800), Decimal("0.01")), Tier(None, Decimal("0.1"))),
)

prices = st.integers(1, 400).map(lambda cents: Decimal(cents) / 2)
quantities = st.integers(-3000, 3000).map(lambda hundredths: Decimal(hundredths) / 100)
orders: st.SearchStrategy[Order] = st.one_of(
    st.builds(Target, st.integers(-30, 30).map(lambda tenths: Decimal(tenths) / 10)),
    st.builds(Market, quantities),
    st.builds(Limit, quantities, prices, st.booleans()),
    st.builds(Stop, quantities, prices, st.booleans()),
)
decisions = st.dictionaries(st.sampled_from(SYMBOLS), st.lists(orders, max_size=3), max_size=2)


@st.composite
def bars(draw: st.DrawFn) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    drawn = sorted(draw(st.lists(prices, min_size=4, max_size=4)))
    low, high = drawn[0], drawn[-1]
    first, last = draw(st.permutations(drawn[1:3]))
    return first, high, low, last


@st.composite
def minutes(draw: st.DrawFn) -> list[MinuteRows]:
    end = draw(st.integers(2, 14))
    closes: dict[str, Decimal] = {}
    made = []
    gone = draw(st.none() | st.integers(2, 14))
    for n in range(end):
        candles = {
            s: Candle(*draw(bars()), Decimal(draw(st.integers(0, 300))))
            for s in SYMBOLS
            if draw(st.integers(0, 9)) and not (s == "B" and gone is not None and n >= gone)
        }
        marks = {s: Mark(*draw(bars())) for s in SYMBOLS if draw(st.booleans())}
        settled = {
            s: [Settlement(n * MINUTE_MS, Decimal(draw(st.integers(-20, 20))) / 1000, draw(st.none() | prices))]
            for s in SYMBOLS
            if not draw(st.integers(0, 3))
        }
        ended = gone is not None and n >= gone
        made.append(
            MinuteRows(
                ts=n * MINUTE_MS,
                candles=candles,
                marks=marks,
                closes_before=dict(closes),
                settled=settled,
                ended=["B"] if gone == n else [],
                unlisted=frozenset({"B"}) if ended else frozenset(),
                contract_terms={"A": TERMS, "B": TERMS},
            )
        )
        closes |= {s: candle.c for s, candle in candles.items()}
    return made


conditions = st.builds(
    Conditions,
    symbols=st.just(SYMBOLS),
    maker=st.sampled_from([Decimal("-0.0001"), Decimal("0.0002")]),
    taker=st.sampled_from([Decimal(0), Decimal("0.0005")]),
    slippage=st.sampled_from([Decimal(0), Decimal("0.0001"), Decimal("0.01")]),
    latency=st.integers(0, 2),
    leverage=st.sampled_from([Decimal(1), Decimal(3), Decimal(20)]),
    isolated=st.booleans(),
)


class Books:
    """The same account kept a second time, from the ledger alone: realised profit by average entry."""

    def __init__(self, capital: Decimal) -> None:
        self.capital = capital
        self.held: dict[str, Decimal] = defaultdict(Decimal)
        self.entry: dict[str, Decimal] = defaultdict(Decimal)
        self.realised = self.fees = self.funding = Decimal(0)

    def enter(self, row: LedgerRow) -> None:
        self.fees += row.fee
        if row.kind == "funding":
            self.funding += row.amount
        if row.kind not in ("fill", "liquidation", "delisting"):
            return
        assert row.quantity is not None
        assert row.price is not None
        held, entry = self.held[row.symbol], self.entry[row.symbol]
        closing = min(abs(held), abs(row.quantity)) if held * row.quantity < 0 else Decimal(0)
        self.realised += closing * (row.price - entry) * (1 if held > 0 else -1)
        opening = abs(row.quantity) - closing
        after = held + row.quantity
        if opening:
            kept = abs(held) - closing
            self.entry[row.symbol] = (kept * entry + opening * row.price) / (kept + opening)
        self.held[row.symbol] = after

    def value(self, account: Account) -> Decimal:
        open_profit = sum(
            (self.held[s] * (held.price - self.entry[s]) for s, held in account.positions.items()), Decimal(0)
        )
        return self.capital + self.realised + open_profit - self.fees + self.funding


def check_run(run: list[MinuteRows], decided: list[dict[str, list[Order]]], terms: Conditions) -> None:
    account = Account.open(terms, Decimal(1000))
    books = Books(account.capital)
    cash, seq = account.cash, 0
    for minute, lists in zip(run, decided, strict=False):
        account = Account.from_json(account.to_json())  # as a paper account that is stored after each minute
        for row in step_in_place(account, minute):
            seq += 1
            cash += row.amount - row.fee
            books.enter(row)
            assert (row.seq, row.ts, row.cash) == (seq, minute.ts, cash)
            assert row.position == books.held[row.symbol]
            if row.kind == "fill":
                assert row.symbol in minute.candles
                assert row.symbol not in minute.unlisted
        assert account.cash == cash
        assert account.equity == cash + sum((p.quantity * p.price for p in account.positions.values()), Decimal(0))
        assert abs(account.equity - books.value(account)) < CENT
        assert all(position.quantity for position in account.positions.values())
        assert list(account.positions) == sorted(account.positions)
        account.send(lists, minute.ts)


@settings(max_examples=50)
@given(minutes(), st.lists(decisions, min_size=14, max_size=14), conditions)
def test_books_balance_after_every_minute(
    run: list[MinuteRows], decided: list[dict[str, list[Order]]], terms: Conditions
):
    with localcontext(EXACT):
        check_run(run, decided, terms)


@pytest.mark.full
@settings(max_examples=10_000)
@given(minutes(), st.lists(decisions, min_size=14, max_size=14), conditions)
def test_books_balance_in_ten_thousand_runs(
    run: list[MinuteRows], decided: list[dict[str, list[Order]]], terms: Conditions
):
    with localcontext(EXACT):
        check_run(run, decided, terms)
