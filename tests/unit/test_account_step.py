"""The order of events in a minute: one case for each sentence of semantics 1, its ledger worked out by hand.

A line of a ledger reads: seq, minute, kind, symbol, quantity, price, fee, amount, cash, position, reason. Accounts open
with 1,000 USDT; a taker pays 0.001, a maker 0.0005, a liquidation 0.01; nothing slips unless a case says so.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import pytest

from fademoe.account.market import Candle, Mark, Settlement, Terms, Tier
from fademoe.account.numbers import format_decimal
from fademoe.account.orders import BadOrder, read_orders
from fademoe.account.state import Account, Conditions
from fademoe.account.step import MissingSettlement, drop_orders, step, step_in_place
from fademoe.clock import MINUTE_MS
from fademoe.strategy import Limit, Market, Stop, Target
from tests.support.minutes import MinuteRows

LOT = Terms(lot=Decimal("0.001"))
Bars = Mapping[str, Sequence[str | None]]


def numbers(text: str) -> list[Decimal]:
    return [Decimal(word) for word in text.split()]


def read_candle(text: str) -> Candle:
    """`100` is a flat candle, `100 110 90 105` has its prices, a fifth number is the volume (else 1,000)."""
    words = numbers(text)
    prices = words[:4] if len(words) >= 4 else words[:1] * 4
    return Candle(*prices, words[4] if len(words) == 5 else Decimal(1000))


def read_mark(text: str) -> Mark:
    words = numbers(text)
    return Mark(*(words if len(words) == 4 else words * 4))


def make_minutes(
    bars: Bars,
    marks: Bars | None = None,
    funding: Mapping[int, Sequence[tuple[str, str, str | None]]] | None = None,
    absent: Mapping[str, tuple[int, int]] | None = None,
    ended: Mapping[str, int] | None = None,
    listed: Mapping[str, int] | None = None,
    terms: Mapping[str, Terms] | None = None,
) -> list[MinuteRows]:
    closes: dict[str, Decimal] = {}
    minutes = []
    for n in range(max(map(len, bars.values()))):
        candles = {s: read_candle(row[n]) for s, row in bars.items() if n < len(row) and row[n]}
        minutes.append(
            MinuteRows(
                ts=n * MINUTE_MS,
                candles=candles,
                marks={s: read_mark(row[n]) for s, row in (marks or {}).items() if n < len(row) and row[n]},
                closes_before=dict(closes),
                settled={
                    s: [Settlement(n * MINUTE_MS, Decimal(rate), Decimal(mark) if mark else None)]
                    for s, rate, mark in (funding or {}).get(n, ())
                },
                absent={
                    s: (a, b) for s, (a, b) in (absent or {}).items() if a < (n + 1) * MINUTE_MS and b > n * MINUTE_MS
                },
                ended=[s for s, end in (ended or {}).items() if end == n],
                unlisted=frozenset(
                    {s for s, end in (ended or {}).items() if end <= n}
                    | {s for s, at in (listed or {}).items() if n < at}
                ),
                contract_terms=terms or dict.fromkeys(bars, LOT),
            )
        )
        closes |= {s: candle.c for s, candle in candles.items()}
    return minutes


def play(
    bars: Bars,
    decided: Mapping[int, object],
    *,
    capital: str = "1000",
    marks: Bars | None = None,
    funding: Mapping[int, Sequence[tuple[str, str, str | None]]] | None = None,
    absent: Mapping[str, tuple[int, int]] | None = None,
    ended: Mapping[str, int] | None = None,
    listed: Mapping[str, int] | None = None,
    terms: Mapping[str, Terms] | None = None,
    **conditions: object,
) -> list[str]:
    """Return the lines of the ledger. `decided`: what the strategy returns at the end of a minute."""
    given = {"maker": "0.0005", "taker": "0.001", "slippage": "0", "leverage": "1", "liquidation_fee": "0.01"}
    given |= {name: value for name, value in conditions.items() if isinstance(value, str)}
    others = {name: value for name, value in conditions.items() if not isinstance(value, str)}
    account = Account.open(
        Conditions(symbols=tuple(sorted(bars)), **{n: Decimal(v) for n, v in given.items()}, **others), Decimal(capital)
    )
    lines = []
    for n, minute in enumerate(make_minutes(bars, marks, funding, absent, ended, listed, terms)):
        for row in step_in_place(account, minute):
            texts = row.to_texts()
            texts["ts"] = n
            lines.append(" ".join("-" if value is None else str(value) for value in texts.values()))
        account.send(read_orders(decided.get(n), frozenset(bars)), n * MINUTE_MS)
    return lines


# Step 1: contracts that begin, end and change


def test_delisting_closes_the_position_at_the_last_close_without_a_fee():
    assert play({"A": ["100", "100", "100 100 100 90", None]}, {0: {"A": Market(2)}}, ended={"A": 3}) == [
        "1 1 fill A 2 100 0.2 -200 799.8 2 market",
        "2 3 delisting A -2 90 0 180 979.8 0 delisted",
    ]


def test_a_candle_in_the_minute_of_the_delisting_is_not_traded():
    ledger = play({"A": ["100", "100", "90", "50"]}, {0: {"A": Market(2)}, 2: {"A": Market(1)}}, ended={"A": 3})
    assert ledger == [
        "1 1 fill A 2 100 0.2 -200 799.8 2 market",
        "2 3 delisting A -2 90 0 180 979.8 0 delisted",
        "3 3 rejection A 1 - 0 0 979.8 0 not_listed",
    ]


def test_resting_orders_go_with_the_contract_right_after_its_row_in_list_order():
    orders = [Market(2), Limit(1, 50), Stop(-1, 40)]
    assert play({"A": ["100", "100", "100"]}, {0: {"A": orders}}, ended={"A": 2}) == [
        "1 1 fill A 2 100 0.2 -200 799.8 2 market",
        "2 2 delisting A -2 100 0 200 999.8 0 delisted",
        "3 2 expiry A 1 50 0 0 999.8 0 delisted",
        "4 2 expiry A -1 40 0 0 999.8 0 delisted",
    ]


def test_an_end_that_becomes_known_late_closes_in_the_next_minute_that_is_stepped():
    minutes = make_minutes({"A": ["100", "100", "90", None, None], "B": ["100"] * 5})
    account = Account.open(Conditions(symbols=("A", "B"), maker=Decimal(0), taker=Decimal(0)), Decimal(1000))
    ledger = []
    for n, minute in enumerate(minutes):
        minute.unlisted = frozenset({"A"} if n >= 4 else ())  # since minute 3, as is known in minute 4
        ledger += step_in_place(account, minute)
        if n == 0:
            account.send({"A": [Market(Decimal(2)), Limit(Decimal(1), Decimal(50))], "B": [Market(Decimal(1))]}, 0)
    assert [(row.ts // MINUTE_MS, row.kind, row.symbol, row.price) for row in ledger[2:]] == [
        (4, "delisting", "A", 90),
        (4, "expiry", "A", 50),
    ]
    assert list(account.positions) == ["B"]


def test_orders_that_rest_without_a_position_go_with_the_contract_too():
    assert play({"A": ["100", "100", "100"]}, {0: {"A": Limit(1, 50)}}, ended={"A": 2}) == [
        "1 2 expiry A 1 50 0 0 1000 0 delisted"
    ]


def test_funding_ends_with_the_contract():
    ledger = play(
        {"A": ["100", "100", "100"]}, {0: {"A": Market(2)}}, ended={"A": 2}, funding={2: [("A", "0.01", "100")]}
    )
    assert [line.split()[2] for line in ledger] == ["fill", "delisting"]


def test_orders_before_the_listing_are_rejected_with_what_was_asked():
    orders = {0: {"A": [Target(1), Market(3), Limit(1, 50), Stop(-1, 40)], "B": Market(1)}}
    assert play({"A": [None, None, "100"], "B": ["10", "10", "10"]}, orders, listed={"A": 2}) == [
        "1 1 rejection A - - 0 0 1000 0 not_listed",
        "2 1 rejection A 3 - 0 0 1000 0 not_listed",
        "3 1 rejection A 1 50 0 0 1000 0 not_listed",
        "4 1 rejection A -1 40 0 0 1000 0 not_listed",
        "5 1 fill B 1 10 0.01 -10 989.99 1 market",
    ]


# Step 2: funding


def test_funding_is_paid_by_longs_at_the_mark_of_the_settlement():
    ledger = play(
        {"A": ["100"] * 3}, {0: {"A": Market(2)}}, marks={"A": ["101"] * 3}, funding={2: [("A", "0.001", "102")]}
    )
    assert ledger[1:] == ["2 2 funding A 2 102 0 -0.204 799.596 2 fr_mark"]


def test_funding_is_received_by_shorts():
    ledger = play({"A": ["100"] * 3}, {0: {"A": Market(-2)}}, funding={2: [("A", "0.001", "102")]})
    assert ledger == [
        "1 1 fill A -2 100 0.2 200 1199.8 -2 market",
        "2 2 funding A -2 102 0 0.204 1200.004 -2 fr_mark",
    ]


def test_funding_falls_back_to_the_open_of_the_mark():
    ledger = play(
        {"A": ["100"] * 3}, {0: {"A": Market(2)}}, marks={"A": ["101"] * 3}, funding={2: [("A", "0.001", None)]}
    )
    assert ledger[1:] == ["2 2 funding A 2 101 0 -0.202 799.598 2 mark_o"]


def test_funding_falls_back_to_the_open_of_the_candle():
    ledger = play({"A": ["100", "100", "103 110 90 104"]}, {0: {"A": Market(2)}}, funding={2: [("A", "0.001", None)]})
    assert ledger[1:] == ["2 2 funding A 2 103 0 -0.206 799.594 2 o"]


def test_funding_falls_back_to_the_close_of_the_newest_candle_not_of_the_mark():
    ledger = play(
        {"A": ["100", "100 105 95 104", None]},
        {0: {"A": Market(2)}},
        marks={"A": ["100", "107"]},
        funding={2: [("A", "0.001", None)]},
    )
    assert ledger[1:] == ["2 2 funding A 2 104 0 -0.208 799.592 2 last"]


def test_funding_is_settled_on_the_position_before_the_fills_of_the_minute():
    decided = {0: {"A": Market(2)}, 1: {"A": Market(-2)}, 2: {"A": Market(2)}}
    ledger = play({"A": ["100"] * 4}, decided, funding={n: [("A", "0.001", "100")] for n in range(4)})
    assert ledger == [
        "1 1 fill A 2 100 0.2 -200 799.8 2 market",
        "2 2 funding A 2 100 0 -0.2 799.6 2 fr_mark",
        "3 2 fill A -2 100 0.2 200 999.4 0 market",
        "4 3 fill A 2 100 0.2 -200 799.2 2 market",
    ]


def test_a_rate_of_zero_has_its_row():
    ledger = play({"A": ["100"] * 3}, {0: {"A": Market(2)}}, funding={2: [("A", "0", "100")]})
    assert ledger[1:] == ["2 2 funding A 2 100 0 0 799.8 2 fr_mark"]


def test_a_negative_rate_is_received_by_longs():
    ledger = play({"A": ["100"] * 3}, {0: {"A": Market(2)}}, funding={2: [("A", "-0.001", "100")]})
    assert ledger[1:] == ["2 2 funding A 2 100 0 0.2 800 2 fr_mark"]


def test_funding_amounts_are_rounded_half_to_even_to_18_places():
    # 1 x 1.000000000000000001 x 0.5 = 0.5000000000000000005, whose last even neighbour is 0.5
    ledger = play({"A": ["1"] * 3}, {0: {"A": Market(1)}}, funding={2: [("A", "0.5", "1.000000000000000001")]})
    assert ledger[1] == "2 2 funding A 1 1.000000000000000001 0 -0.5 998.499 1 fr_mark"


def test_settlements_of_several_symbols_follow_the_alphabet():
    decided = {0: {"B": Market(1), "A": Market(1)}}
    ledger = play({"B": ["10"] * 3, "A": ["20"] * 3}, decided, funding={2: [("B", "0.1", "10"), ("A", "0.1", "20")]})
    assert ledger == [
        "1 1 fill A 1 20 0.02 -20 979.98 1 market",
        "2 1 fill B 1 10 0.01 -10 969.97 1 market",
        "3 2 funding A 1 20 0 -2 967.97 1 fr_mark",
        "4 2 funding B 1 10 0 -1 966.97 1 fr_mark",
    ]


def test_a_settlement_that_is_not_known_stops_the_run_where_a_position_is_held():
    with pytest.raises(
        MissingSettlement, match=r"A: a position is held.*1970-01-01T00:02:00Z \.\. 1970-01-01T00:04:00Z"
    ):
        play({"A": ["100"] * 5}, {0: {"A": Market(2)}}, absent={"A": (2 * MINUTE_MS, 4 * MINUTE_MS)})


def test_a_settlement_that_is_not_known_matters_to_nobody_without_a_position():
    assert play({"A": ["100"] * 5}, {}, absent={"A": (2 * MINUTE_MS, 4 * MINUTE_MS)}) == []


def test_with_allow_holes_an_unknown_settlement_has_no_row_and_is_listed_once():
    account = Account.open(
        Conditions(symbols=("A",), maker=Decimal(0), taker=Decimal(0), allow_holes=True), Decimal(1000)
    )
    account.send({"A": [Market(Decimal(1))]}, -MINUTE_MS)
    rows = [
        row
        for minute in make_minutes({"A": ["100"] * 6}, absent={"A": (2 * MINUTE_MS, 4 * MINUTE_MS)})
        for row in step_in_place(account, minute)
    ]
    assert [row.kind for row in rows] == ["fill"]
    assert account.unknown == [("A", 2 * MINUTE_MS, 4 * MINUTE_MS)]


# Step 3: orders that arrive


def test_a_market_order_fills_at_the_next_open_worsened_by_slippage():
    ledger = play({"A": ["90", "100 120 80 110"]}, {0: {"A": Market(2)}}, slippage="0.01")
    assert ledger == ["1 1 fill A 2 101 0.202 -202 797.798 2 market"]


def test_a_sale_slips_downwards():
    ledger = play({"A": ["90", "100 120 80 110"]}, {0: {"A": Market(-2)}}, slippage="0.01")
    assert ledger == ["1 1 fill A -2 99 0.198 198 1197.802 -2 market"]


def test_latency_delays_a_whole_list():
    decided = {0: {"A": Limit(1, 95)}, 1: {"A": [Market(2)]}}
    # the limit arrives in minute 3 and may fill in it; the list that replaces it arrives in minute 4
    ledger = play({"A": ["100", "100 100 90 100", "100 100 90 100", "100 100 90 100", "100"]}, decided, latency=2)
    assert ledger == [
        "1 3 fill A 1 95 0.0475 -95 904.9525 1 limit",
        "2 4 fill A 2 100 0.2 -200 704.7525 3 market",
    ]


def test_without_a_candle_market_and_target_orders_expire():
    assert play({"A": ["100", None, "100"]}, {0: {"A": [Market(2), Target(1)]}}) == [
        "1 1 expiry A 2 - 0 0 1000 0 no_candle",
        "2 1 expiry A - - 0 0 1000 0 no_candle",
    ]


def test_limits_that_arrive_without_a_candle_rest():
    assert play({"A": ["100", None, "100 100 90 100"]}, {0: {"A": Limit(1, 95)}}) == [
        "1 2 fill A 1 95 0.0475 -95 904.9525 1 limit"
    ]


def test_a_quiet_candle_is_a_candle():
    assert play({"A": ["100", "100 100 100 100 0"]}, {0: {"A": Market(1)}}) == [
        "1 1 fill A 1 100 0.1 -100 899.9 1 market"
    ]


def test_a_target_is_worked_out_at_the_fill_price():
    # 1000 / 101 = 9.900990..., rounded towards zero to the lot of 0.001
    ledger = play({"A": ["100", "100"]}, {0: {"A": Target(1)}}, slippage="0.01")
    assert ledger == ["1 1 fill A 9.9 101 0.9999 -999.9 -0.8999 9.9 target"]


def test_a_short_target_rounds_towards_zero_too():
    # -0.5 x 1000 / 99 = -5.0505...
    ledger = play({"A": ["100", "100"]}, {0: {"A": Target(-0.5)}}, slippage="0.01")
    assert ledger == ["1 1 fill A -5.05 99 0.49995 499.95 1499.45005 -5.05 target"]


def test_the_equity_of_a_target_is_that_at_the_open_before_any_fill():
    # both buy for half of 1000, though the fee of A comes first
    ledger = play({"A": ["100", "100"], "B": ["50", "50"]}, {0: {"A": Target(0.5), "B": Target(0.5)}})
    assert ledger == [
        "1 1 fill A 5 100 0.5 -500 499.5 5 target",
        "2 1 fill B 10 50 0.5 -500 -1 10 target",
    ]


def test_the_equity_of_a_target_counts_positions_at_the_open_of_the_mark():
    # 899.9 + 1 x 120 = 1019.9 at the mark; 1019.9 / 100 = 10.199, of which 1 is held; the fee is 0.9199
    ledger = play({"A": ["100"] * 3}, {0: {"A": Market(1)}, 1: {"A": Target(1)}}, marks={"A": ["100", "100", "120"]})
    assert ledger[1:] == ["2 2 fill A 9.199 100 0.9199 -919.9 -20.9199 10.199 target"]


def test_a_target_that_is_met_leaves_no_row():
    # 899.9 + 100 = 999.9, a tenth is 99.99: 0.0001 coins too many are less than a lot
    ledger = play({"A": ["100"] * 3}, {0: {"A": Market(1)}, 1: {"A": Target(0.1)}})
    assert ledger == ["1 1 fill A 1 100 0.1 -100 899.9 1 market"]


def test_a_target_whose_direction_turns_at_the_fill_price_leaves_no_row():
    # at the open 1 x 1000 / 100 = 10 > 9.95 wants to buy; at 101 it would be 9.90 < 9.95
    decided = {0: {"A": Market(Decimal("9.95"))}, 1: {"A": Target(1)}}
    ledger = play({"A": ["100"] * 3}, decided, slippage="0.001", taker="0")
    # 1000 - 9.95 x 100.1 = 4.005; 4.005 + 995 = 999.005; / 100 = 9.99005; / 100.1 = 9.980069: still a purchase
    assert ledger[1:] == ["2 2 fill A 0.03 100.1 0 -3.003 1.002 9.98 target"]
    ledger = play({"A": ["100"] * 3}, decided, slippage="0.004", taker="0")
    # 1000 - 9.95 x 100.4 = 1.02; 996.02 / 100 = 9.9602 > 9.95; / 100.4 = 9.92051... < 9.95
    assert ledger == ["1 1 fill A 9.95 100.4 0 -998.98 1.02 9.95 market"]


def test_target_zero_closes_exactly_what_is_held():
    terms = {"A": LOT}
    decided = {0: {"A": Market(Decimal("1.234"))}, 1: {"A": Target(0)}}
    assert play({"A": ["100"] * 3}, decided, terms=terms)[1:] == [
        "2 2 fill A -1.234 100 0.1234 123.4 999.7532 0 target"
    ]


def test_an_order_that_closes_exactly_is_not_rounded_when_the_lot_has_grown():
    minutes = make_minutes({"A": ["100"] * 3})
    minutes[2].contract_terms = {"A": Terms(lot=Decimal(1))}
    account = Account.open(
        Conditions(symbols=("A",), maker=Decimal(0), taker=Decimal(0), slippage=Decimal(0)), Decimal(1000)
    )
    account.send({"A": [Market(Decimal("1.5"))]}, -MINUTE_MS)
    step_in_place(account, minutes[0])
    account.send({"A": [Market(Decimal("-1.5"))]}, MINUTE_MS)
    step_in_place(account, minutes[2])
    assert account.positions == {}


def test_a_market_order_below_the_lot_is_rejected_with_what_was_asked():
    assert play({"A": ["100"] * 2}, {0: {"A": Market(Decimal("0.0009"))}}) == [
        "1 1 rejection A 0.0009 100 0 0 1000 0 lot"
    ]


def test_an_order_below_the_least_notional_is_rejected_with_the_rounded_quantity():
    terms = {"A": Terms(lot=Decimal("0.001"), min_notional=Decimal(5))}
    assert play({"A": ["100"] * 2}, {0: {"A": Market(Decimal("0.0495"))}}, terms=terms) == [
        "1 1 rejection A 0.049 100 0 0 1000 0 min_notional"
    ]


def test_an_order_that_only_reduces_needs_no_least_notional():
    terms = {"A": Terms(lot=Decimal("0.001"), min_notional=Decimal(5))}
    decided = {0: {"A": Market(1)}, 1: {"A": Market(Decimal("-0.01"))}}
    assert play({"A": ["100"] * 3}, decided, terms=terms)[1:] == ["2 2 fill A -0.01 100 0.001 1 900.899 0.99 market"]


def test_what_reduces_fills_before_what_opens_whatever_the_alphabet_says():
    decided = {0: {"B": Target(1)}, 1: {"A": Target(1), "B": Target(0)}}
    assert play({"A": ["100"] * 3, "B": ["100"] * 3}, decided, taker="0") == [
        "1 1 fill B 10 100 0 -1000 0 10 target",
        "2 2 fill B -10 100 0 1000 1000 0 target",
        "3 2 fill A 10 100 0 -1000 0 10 target",
    ]


def test_what_reduces_goes_first_within_a_list_too():
    decided = {0: {"A": Market(2)}, 1: {"A": [Market(3), Market(-1)]}}
    assert play({"A": ["100"] * 3}, decided, taker="0")[1:] == [
        "2 2 fill A -1 100 0 100 900 1 market",
        "3 2 fill A 3 100 0 -300 600 4 market",
    ]


def test_turning_round_is_not_reducing():
    # 12 coins short are worth 1200 > 999 of equity
    decided = {0: {"A": Market(1)}, 1: {"A": Market(-13)}}
    assert play({"A": ["100"] * 3}, decided)[1:] == ["2 2 rejection A -13 100 0 0 899.9 1 margin"]


def test_buying_power_is_leverage_times_equity_and_an_order_is_never_cut():
    assert play({"A": ["100"] * 2}, {0: {"A": Market(Decimal("30.001"))}}, leverage="3") == [
        "1 1 rejection A 30.001 100 0 0 1000 0 margin"
    ]
    assert play({"A": ["100"] * 2}, {0: {"A": Market(30)}}, leverage="3") == [
        "1 1 fill A 30 100 3 -3000 -2003 30 market"
    ]


@pytest.mark.parametrize(
    "order",
    [Market(1e30), Market(-1e300), Market(Decimal("1E+900")), Target(1e25), Target(-1e300), Limit(1e28, 101)],
)
def test_an_order_beyond_all_means_is_rejected_however_many_digits_its_lots_have(order: object):
    terms = {"A": Terms(lot=Decimal("0.00000001"))}
    (row,) = play({"A": ["100"] * 2}, {0: {"A": order}}, terms=terms)
    assert (row.split()[2], row.split()[-1]) == ("rejection", "margin")


def test_buying_power_counts_all_positions_those_of_this_minute_at_their_fill():
    # A takes 600 of 1000; B may take 400 more
    orders = {"A": Market(6), "B": [Market(5), Market(4)]}
    assert play({"A": ["100"] * 2, "B": ["100"] * 2}, {0: orders}) == [
        "1 1 fill A 6 100 0.6 -600 399.4 6 market",
        "2 1 rejection B 5 100 0 0 399.4 0 margin",
        "3 1 fill B 4 100 0.4 -400 -1 4 market",
    ]


def test_a_new_list_replaces_what_rests_without_a_row():
    decided = {0: {"A": Limit(1, 95)}, 1: {"A": []}}
    assert play({"A": ["100", "100", "100 100 90 100"]}, decided) == []


def test_a_missing_symbol_and_none_leave_what_rests():
    decided = {0: {"A": Limit(1, 95)}, 1: {"A": None}, 2: {}}
    assert play({"A": ["100", "100", "100", "100 100 90 100"]}, decided) == [
        "1 3 fill A 1 95 0.0475 -95 904.9525 1 limit"
    ]


def test_limits_are_rounded_and_judged_when_they_arrive():
    terms = {"A": Terms(lot=Decimal("0.01"), min_notional=Decimal(5))}
    orders = [Limit(Decimal("0.009"), 95), Limit(Decimal("0.0555"), 90), Limit(Decimal("0.0599"), 95)]
    assert play({"A": ["100", "100", "100 100 94 100"]}, {0: {"A": orders}}, terms=terms) == [
        "1 1 rejection A 0.009 95 0 0 1000 0 lot",
        "2 1 rejection A 0.05 90 0 0 1000 0 min_notional",
        "3 1 rejection A 0.05 95 0 0 1000 0 min_notional",
    ]


def test_reduce_orders_are_judged_by_the_lot_alone():
    terms = {"A": Terms(lot=Decimal("0.01"), min_notional=Decimal(5))}
    orders = [Limit(Decimal("-0.009"), 95, reduce=True), Stop(Decimal("-0.01"), 90, reduce=True)]
    assert play({"A": ["100", "100", "100 100 80 100"]}, {0: {"A": orders}}, terms=terms) == [
        "1 1 rejection A -0.009 95 0 0 1000 0 lot",
        "2 2 expiry A -0.01 90 0 0 1000 0 reduce",
    ]


# Step 4: margin


def test_a_cross_account_is_liquidated_where_equity_meets_maintenance():
    # 20 coins at 100, cash -1002 after the fee; -1002 + 20 p = 0.005 x 20 p: p = 1002 / 19.9
    ledger = play({"A": ["100", "100", "100 100 40 60"]}, {0: {"A": Market(20)}}, leverage="2", slippage="0")
    assert ledger == [
        "1 1 fill A 20 100 2 -2000 -1002 20 market",
        # the fee is 10.0703517587939698492 before it is rounded
        "2 2 liquidation A -20 50.351758793969849246 10.070351758793969849 1007.03517587939698492 "
        "-5.035175879396984929 0 candle",
    ]


def test_liquidation_is_never_better_than_the_open():
    ledger = play({"A": ["100", "100", "40 45 38 42"]}, {0: {"A": Market(20)}}, leverage="2")
    assert ledger[1:] == ["2 2 liquidation A -20 40 8 800 -210 0 candle"]


def test_the_mark_decides_not_the_candle():
    bars = {"A": ["100", "100", "100 100 40 60"]}
    assert play(bars, {0: {"A": Market(20)}}, leverage="2", marks={"A": ["100", "100", "100 100 60 60"]})[1:] == []


def test_a_mark_liquidates_where_the_candle_would_not():
    # short 15: cash 1000 + 1500 - 1.5 = 2498.5; 2498.5 - 15 p = 0.075 p: p = 165.737976...
    ledger = play(
        {"A": ["100", "100", "100"]},
        {0: {"A": Market(-15)}},
        leverage="2",
        marks={"A": ["100", "100", "100 180 100 100"]},
    )
    # 15 x 165.737976782752902156 = 2486.06965174129353234; fee 24.860696517412935323|4
    assert ledger[1:] == [
        "2 2 liquidation A 15 165.737976782752902156 24.860696517412935323 -2486.06965174129353234 "
        "-12.430348258706467663 0 mark"
    ]


def test_without_mark_and_candle_the_last_price_counts():
    # 20 at 100, marked at 55: equity -1002 + 1100 = 98 > 5.5; the next minute has nothing, and nothing happens
    assert len(play({"A": ["100", "100", "55", None]}, {0: {"A": Market(20)}}, leverage="2")) == 1
    # a settlement takes 90 of the 98: 8 > 5.5; another takes the rest
    ledger = play(
        {"A": ["100", "100", "55", None]},
        {0: {"A": Market(20)}},
        leverage="2",
        funding={3: [("A", "0.0845", "55")]},
    )
    # 20 x 55 x 0.0845 = 92.95: equity 5.05 <= 5.5
    assert ledger[1:] == [
        "2 3 funding A 20 55 0 -92.95 -1094.95 20 fr_mark",
        "3 3 liquidation A -20 55 11 1100 -5.95 0 last",
    ]


def test_a_position_opened_in_the_minute_is_already_at_risk():
    ledger = play({"A": ["100", "100 100 40 60"]}, {0: {"A": Market(20)}}, leverage="2")
    assert [line.split()[2] for line in ledger] == ["fill", "liquidation"]


def test_maintenance_is_taken_in_slices():
    # up to 500 at 0.01, beyond at 0.1: at p with 20 p > 500: 5 + (20 p - 500) x 0.1 = 2 p - 45
    # -1002 + 20 p = 2 p - 45: p = 957 / 18 = 53.1666...
    tiers = (Tier(Decimal(500), Decimal("0.01")), Tier(None, Decimal("0.1")))
    ledger = play(
        {"A": ["100", "100", "100 100 40 60"]},
        {0: {"A": Market(20)}},
        leverage="2",
        terms={"A": Terms(lot=Decimal("0.001"), tiers=tiers)},
    )
    assert ledger[1].split()[5] == "53.166666666666666667"


def test_tiers_in_coins_cut_the_quantity():
    # 15 coins at 0.01, 5 coins at 0.1: 0.65 p; -1002 + 20 p = 0.65 p: p = 1002 / 19.35 = 51.782945736434108527
    tiers = (Tier(Decimal(15), Decimal("0.01")), Tier(None, Decimal("0.1")))
    ledger = play(
        {"A": ["100", "100", "100 100 40 60"]},
        {0: {"A": Market(20)}},
        leverage="2",
        terms={"A": Terms(lot=Decimal("0.001"), tiers=tiers, tiers_in_coins=True)},
    )
    assert ledger[1].split()[5] == "51.782945736434108527"


def test_an_isolated_position_has_its_own_margin():
    # leverage 4: margin 100 x 4 / 4 = 100 of 4 coins; 100 + 4 (p - 100) = 0.005 x 4 p: 3.98 p = 300
    ledger = play(
        {"A": ["100", "100", "100 100 70 90"], "B": ["10"] * 3},
        {0: {"A": Market(4), "B": Market(1)}},
        leverage="4",
        isolated=True,
        taker="0",
        liquidation_fee="0",
    )
    # 4 x 75.376884422110552764 = 301.507537688442211056
    assert ledger[2:] == [
        "3 2 liquidation A -4 75.376884422110552764 0 301.507537688442211056 891.507537688442211056 0 candle"
    ]


def test_a_cross_account_loses_all_positions_at_one_point_of_their_ways():
    # A 10 at 100, B -10 at 100, cash 1000 (no fee). Extremes: A 40, B 160.
    # f(x) = 1000 + 10 (100 - 60 x) - 10 (100 + 60 x) - 0.05 (100 - 60 x) - 0.05 (100 + 60 x) = 990 - 1200 x: x = 0.825
    ledger = play(
        {"A": ["100", "100", "100 100 40 60"], "B": ["100", "100", "100 160 100 120"]},
        {0: {"B": [Market(-10), Stop(5, 170)], "A": [Market(10), Limit(1, 20)]}},
        leverage="3",
        taker="0",
        liquidation_fee="0",
    )
    assert ledger[2:] == [
        "3 2 liquidation A -10 50.5 0 505 1505 0 candle",
        "4 2 expiry A 1 20 0 0 1505 0 liquidated",
        "5 2 liquidation B 10 149.5 0 -1495 10 0 candle",
        "6 2 expiry B 5 170 0 0 10 0 liquidated",
    ]


def test_resting_orders_of_a_symbol_without_a_position_survive_a_liquidation():
    ledger = play(
        {"A": ["100", "100", "100 100 40 60", "60"], "B": ["10", "10", "10", "10 12 10 11"]},
        {0: {"A": Market(20), "B": Stop(-1, 9)}},
        leverage="2",
    )
    assert [line.split()[2] for line in ledger] == ["fill", "liquidation"]


def test_losses_are_not_capped_and_nothing_opens_on_a_negative_equity():
    ledger = play({"A": ["100", "100", "40", "40"]}, {0: {"A": Market(20)}, 2: {"A": Market(1)}}, leverage="2")
    assert ledger[1:] == [
        "2 2 liquidation A -20 40 8 800 -210 0 candle",
        "3 3 rejection A 1 40 0 0 -210 0 margin",
    ]


# Step 5: stops


def test_a_touch_triggers_a_stop_at_its_trigger_worsened_by_slippage():
    orders = {0: {"A": [Market(2), Stop(-2, 90)]}}
    ledger = play({"A": ["100", "100", "100 100 90 95"]}, orders, slippage="0.01")
    # bought at 101, sold at 89.1
    assert ledger == [
        "1 1 fill A 2 101 0.202 -202 797.798 2 market",
        "2 2 fill A -2 89.1 0.1782 178.2 975.8198 0 stop",
    ]


def test_a_stop_beyond_which_the_bar_opens_fills_at_the_open():
    orders = {0: {"A": [Market(2), Stop(-2, 90)]}}
    assert play({"A": ["100", "100", "80 85 75 80"]}, orders)[1:] == ["2 2 fill A -2 80 0.16 160 959.64 0 stop"]


def test_a_buy_stop_triggers_on_the_high():
    assert play({"A": ["100", "100 109 100 100", "100 110 100 100"]}, {0: {"A": Stop(1, 110)}}) == [
        "1 2 fill A 1 110 0.11 -110 889.89 1 stop"
    ]


def test_a_stop_sent_beside_a_market_order_may_fill_in_the_same_bar():
    assert play({"A": ["100", "100 100 85 90"]}, {0: {"A": [Market(2), Stop(-2, 90)]}}) == [
        "1 1 fill A 2 100 0.2 -200 799.8 2 market",
        "2 1 fill A -2 90 0.18 180 979.62 0 stop",
    ]


def test_a_stop_comes_before_a_limit_of_the_same_bar():
    orders = [Market(2), Limit(-2, 105), Stop(-2, 95)]
    assert play({"A": ["100", "100", "100 110 90 100"]}, {0: {"A": orders}}, taker="0", maker="0") == [
        "1 1 fill A 2 100 0 -200 800 2 market",
        "2 2 fill A -2 95 0 190 990 0 stop",
        "3 2 fill A -2 105 0 210 1200 -2 limit",
    ]


def test_all_stops_come_before_all_limits():
    decided = {0: {"A": Limit(1, 95), "B": Stop(1, 105)}}
    bars = {"A": ["100", "100 100 90 100"], "B": ["100", "100 110 100 100"]}
    assert [line.split()[3] for line in play(bars, decided)] == ["B", "A"]


def test_nothing_triggers_without_a_candle_even_when_there_is_a_mark():
    ledger = play(
        {"A": ["100", "100", None, "100"]},
        {0: {"A": [Market(2), Stop(-2, 90)]}},
        marks={"A": ["100", "100", "100 100 80 100", "100"]},
    )
    assert len(ledger) == 1


def test_a_stop_without_buying_power_goes_whole():
    assert play({"A": ["100", "100 110 100 100"]}, {0: {"A": Stop(10, 110)}}) == [
        "1 1 rejection A 10 110 0 0 1000 0 margin"
    ]


def test_a_reduce_stop_is_cut_to_the_position_and_the_rest_is_gone():
    orders = [Market(2), Stop(-5, 90, reduce=True)]
    assert play({"A": ["100", "100", "95 95 85 90", "90 90 80 85"]}, {0: {"A": orders}}, taker="0")[1:] == [
        "2 2 fill A -2 90 0 180 980 0 stop"
    ]


# Step 6: limits


def test_a_touch_does_not_fill_a_limit():
    assert play({"A": ["100", "100 100 95 100", "100 100 94.9 100"]}, {0: {"A": Limit(1, 95)}}) == [
        "1 2 fill A 1 95 0.0475 -95 904.9525 1 limit"
    ]


def test_a_limit_fills_at_the_limit_also_when_the_bar_opens_beyond_it():
    assert play({"A": ["100", "90 90 80 85"]}, {0: {"A": Limit(1, 95)}}, slippage="0.01") == [
        "1 1 fill A 1 95 0.0475 -95 904.9525 1 limit"
    ]


def test_a_limit_to_sell_fills_above_its_price():
    assert play({"A": ["100", "100 105 100 100", "100 105.1 100 100"]}, {0: {"A": Limit(-1, 105)}}) == [
        "1 2 fill A -1 105 0.0525 105 1104.9475 -1 limit"
    ]


def test_a_tenth_of_the_volume_is_shared_in_list_order_and_the_rest_stays():
    # 10 % of 25.678 coins is 2.5678, rounded to 2.567
    orders = [Limit(2, 95), Limit(2, 96)]
    ledger = play({"A": ["100", "100 100 90 100 25.678", "100 100 90 100 100"]}, {0: {"A": orders}}, maker="0")
    assert ledger == [
        "1 1 fill A 2 95 0 -190 810 2 limit",
        "2 1 fill A 0.567 96 0 -54.432 755.568 2.567 limit",
        "3 2 fill A 1.433 96 0 -137.568 618 4 limit",
    ]


def test_a_quiet_candle_has_no_volume_for_limits():
    assert play({"A": ["100", "100 100 90 100 0"]}, {0: {"A": Limit(1, 95)}}) == []


def test_buying_power_is_judged_at_each_fill_and_the_whole_order_goes():
    # 7 of 12 at 95 fill (665 <= 1000), then 12 x 95 = 1140 > equity
    bars = {"A": ["100", "100 100 90 95 70", "95 95 90 95 700", "95 95 90 95"]}
    ledger = play(bars, {0: {"A": Limit(12, 95)}}, maker="0")
    assert ledger == [
        "1 1 fill A 7 95 0 -665 335 7 limit",
        "2 2 rejection A 5 95 0 0 335 7 margin",
    ]


def test_a_reduce_limit_with_nothing_to_reduce_ends():
    assert play({"A": ["100", "100 110 100 100"]}, {0: {"A": Limit(-1, 105, reduce=True)}}) == [
        "1 1 expiry A -1 105 0 0 1000 0 reduce"
    ]


def test_a_stop_and_a_take_with_reduce_close_once():
    orders = [Market(2), Stop(-2, 95, reduce=True), Limit(-2, 105, reduce=True)]
    assert play({"A": ["100", "100", "100 110 90 100"]}, {0: {"A": orders}}, taker="0", maker="0")[1:] == [
        "2 2 fill A -2 95 0 190 990 0 stop",
        "3 2 expiry A -2 105 0 0 990 0 reduce",
    ]


def test_a_reduce_limit_that_the_volume_cuts_rests_on():
    orders = [Market(2), Limit(-2, 105, reduce=True)]
    bars = {"A": ["100", "100", "100 110 100 100 5", "100 110 100 100"]}
    assert play(bars, {0: {"A": orders}}, taker="0", maker="0")[1:] == [
        "2 2 fill A -0.5 105 0 52.5 852.5 1.5 limit",
        "3 3 fill A -1.5 105 0 157.5 1010 0 limit",
    ]


# Step 7 and the state


def equity_after(bars: Bars, marks: Bars | None = None) -> str:
    account = Account.open(
        Conditions(symbols=("A",), maker=Decimal(0), taker=Decimal(0), slippage=Decimal(0)), Decimal(1000)
    )
    account.send({"A": [Market(Decimal(2))]}, -MINUTE_MS)
    for minute in make_minutes(bars, marks):
        step_in_place(account, minute)
    return format_decimal(account.equity)


def test_equity_is_marked_at_the_close_of_the_mark():
    assert equity_after({"A": ["100 100 100 110"]}, {"A": ["100 100 100 105"]}) == "1010"


def test_equity_falls_back_to_the_close_of_the_candle():
    assert equity_after({"A": ["100 110 100 110"]}) == "1020"


def test_equity_keeps_the_last_price_where_nothing_is_known():
    assert equity_after({"A": ["100 110 100 110", None, None]}) == "1020"


def test_the_entry_is_the_average_of_what_was_added_and_new_after_turning_round():
    account = Account.open(
        Conditions(symbols=("A",), maker=Decimal(0), taker=Decimal(0), slippage=Decimal(0)), Decimal(1000)
    )
    entries = []
    for minute, quantity in zip(make_minutes({"A": ["100", "110", "120", "130"]}), (2, 1, -1, -4), strict=True):
        account.send({"A": [Market(Decimal(quantity))]}, minute.ts - MINUTE_MS)
        step_in_place(account, minute)
        entries.append(format_decimal(account.positions["A"].entry))
    average = "103." + "3" * 31  # 310 / 3
    assert entries == ["100", average, average, "130"]


def test_a_step_leaves_the_account_it_was_given_as_it_was():
    account = Account.open(Conditions(symbols=("A",), maker=Decimal(0), taker=Decimal(0)), Decimal(1000))
    account.send(
        {"A": [Market(Decimal(2)), Limit(Decimal(1), Decimal(50)), Stop(Decimal(-1), Decimal(60))]}, -MINUTE_MS
    )
    before = account.to_json()
    after, rows = step(account, make_minutes({"A": ["100"]})[0])
    assert account.to_json() == before
    assert [row.kind for row in rows] == ["fill"]
    assert Account.from_json(after.to_json()).to_json() == after.to_json()
    assert after.hold("A") == 2
    assert len(after.resting["A"]) == 2


def test_dropped_orders_leave_expiry_rows_in_the_order_of_symbols_and_lists():
    account = Account.open(Conditions(symbols=("A", "B"), maker=Decimal(0), taker=Decimal(0)), Decimal(1000))
    account.send({"B": [Limit(Decimal(1), Decimal(50))]}, -MINUTE_MS)
    step_in_place(account, make_minutes({"A": ["100"], "B": ["100"]})[0])
    account.send({"A": [Market(Decimal(2)), Target(Decimal(1))]}, 0)
    rows = drop_orders(account, MINUTE_MS, "off")
    assert [(row.seq, row.kind, row.symbol, row.quantity, row.price, row.reason) for row in rows] == [
        (1, "expiry", "A", 2, None, "off"),
        (2, "expiry", "A", None, None, "off"),
        (3, "expiry", "B", 1, 50, "off"),
    ]
    assert not account.resting
    assert not account.on_the_way


# What a strategy returns


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([Target(1)], "returned list"),
        ({"X": Target(1)}, "order for 'X'; symbols of the run: A"),
        ({"A": 1}, "A: int is no order"),
        ({"A": [1]}, "A: int is no order"),
        ({"A": Target(float("nan"))}, "share is nan"),
        ({"A": Market(Decimal("Infinity"))}, "quantity is Infinity"),
        ({"A": Market(True)}, "quantity is bool"),
        ({"A": Market("1")}, "quantity is str"),
        ({"A": Limit(1, 0)}, "price is 0"),
        ({"A": Stop(1, -2.5)}, "trigger is -2.5"),
        ({"A": Stop(1, 2, reduce=1)}, "reduce is 1"),
        ({"A": Market(Decimal("1E+1000000"))}, "quantity has more than 1000 digits"),
        ({"A": Market(10**5000)}, "quantity has more than 1000 digits"),
        ({"A": Limit(1, Decimal("1E-20000"))}, "price has more than 1000 digits"),
    ],
)
def test_what_is_no_order_is_refused_by_name(answer: object, words: str):
    with pytest.raises(BadOrder, match=words.replace("(", r"\(")):
        read_orders(answer, frozenset({"A"}))


def test_a_float_is_read_as_it_is_printed():
    assert read_orders({"A": Target(0.1)}, frozenset({"A"})) == {"A": [Target(Decimal("0.1"))]}


def test_decimals_are_written_in_plain_notation():
    assert [format_decimal(Decimal(text)) for text in ("1E+3", "-0.00", "1.2300", "1E-8", "-5", "0")] == [
        "1000",
        "0",
        "1.23",
        "0.00000001",
        "-5",
        "0",
    ]
