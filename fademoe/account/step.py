"""One minute of an account, semantics 1: the order of events is the order of the functions below.

1. Contracts that end, or whose end became known since the last minute: positions close at the last close, resting
   orders go.
2. Funding on what was held before any fill of the minute.
3. Orders that arrive: market and target orders fill at the open, what reduces a position first; the others rest.
4. Margin at the adverse extremes; liquidation.
5. Resting stops. 6. Resting limits. 7. Equity at the marks.

Each step is done for all symbols, ascending, before the next one begins. The strategy is called after the step; what it
decides is sent with `Account.send`.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from typing import NamedTuple

from fademoe.account import ledger
from fademoe.account.ledger import LedgerRow
from fademoe.account.margin import Path, compute_maintenance, find_liquidation
from fademoe.account.market import Candle, Minute
from fademoe.account.numbers import EXACT, ONE, ZERO, round_money, round_to_lot
from fademoe.account.state import Account, Conditions, Position, RestingOrder
from fademoe.clock import to_iso
from fademoe.errors import FadeMoeError
from fademoe.strategy import Limit, Market, Order, Stop, Target

SEMANTICS = 1
AtOpen = tuple[str, Target | Market]
ToRest = tuple[str, Limit | Stop]

VOLUME_SHARE = Decimal("0.1")  # of a bar's volume that limits may take


class MissingSettlement(FadeMoeError):
    """A position is held where it is not known what was settled."""

    def __init__(self, symbol: str, start_ms: int, end_ms: int) -> None:
        super().__init__(
            f"{symbol}: a position is held, and what was settled in {to_iso(start_ms)} .. {to_iso(end_ms)} is "
            "not known (--allow-holes goes on without it, and the run is not certified)"
        )
        self.symbol = symbol
        self.start_ms = start_ms
        self.end_ms = end_ms


def step(account: Account, minute: Minute) -> tuple[Account, list[LedgerRow]]:
    """Return the account after a minute and the rows of its ledger; the account given stays as it is.

    Raises MissingSettlement, unless the conditions allow holes.
    """
    after = account.copy()
    return after, step_in_place(after, minute)


def step_in_place(account: Account, minute: Minute) -> list[LedgerRow]:
    """Change an account by a minute and return the rows of its ledger. Raises as `step` does."""
    with localcontext(EXACT):
        return _Step(account, minute).run()


def drop_orders(account: Account, ts: int, reason: str) -> list[LedgerRow]:
    """End all orders that rest or are on their way, in the minute `ts`; return their `expiry` rows by symbol."""
    minute = _Step(account, _NoMarket(ts))
    waiting: dict[str, list[Order | RestingOrder]] = {}
    for symbol, resting in account.resting.items():
        waiting.setdefault(symbol, []).extend(resting)
    for _, lists in account.on_the_way:
        for symbol, orders in lists.items():
            waiting.setdefault(symbol, []).extend(orders)
    account.resting.clear()
    account.on_the_way.clear()
    for symbol in sorted(waiting):
        for order in waiting[symbol]:
            minute.expire(symbol, order, reason)
    return minute.rows


class _NoMarket(NamedTuple):
    """A minute of which nothing is asked."""

    ts: int


class _Step:
    """One minute of one account, while it happens."""

    __slots__ = ("_account", "_conditions", "_fills", "_minute", "_power", "_values", "rows")

    def __init__(self, account: Account, minute: Minute | _NoMarket) -> None:
        self._account = account
        self._conditions: Conditions = account.conditions
        self._minute: Minute = minute  # type: ignore[assignment]
        self.rows: list[LedgerRow] = []
        self._fills: dict[str, Decimal] = {}  # last fill price of the symbols that were filled in this minute
        self._values: dict[str, Decimal] = {}  # of held symbols at the open
        self._power = ZERO  # what positions may be worth in all

    def run(self) -> list[LedgerRow]:
        account = self._account
        for symbol in self._list_ended():
            self._close_delisted(symbol)
        if account.positions and self._minute.may_settle():
            self._settle_funding()
        if account.on_the_way and account.on_the_way[0][0] <= self._minute.ts:
            self._take_orders()
        if account.positions:
            self._check_margin()
        if account.resting:
            self._measure_power()
            self._trigger_stops()
            self._fill_limits()
        self._mark_positions()
        return self.rows

    # 1

    def _list_ended(self) -> Sequence[str]:
        """Return the symbols whose contract ends now, or has ended in a minute that was stepped without knowing it."""
        account, ended = self._account, self._minute.list_delisted()
        if not account.positions and not account.resting:
            return ended
        late = {symbol for symbol in (*account.positions, *account.resting) if not self._minute.is_listed(symbol)}
        return sorted(late.union(ended)) if late else ended

    def _close_delisted(self, symbol: str) -> None:
        held = self._account.positions.get(symbol)
        if held is not None:
            close = self._minute.find_close_before(symbol)
            price = held.price if close is None else close
            self._book(ledger.DELISTING, symbol, -held.quantity, price, ZERO, "delisted")
        self._expire_resting(symbol, "delisted")

    # 2

    def _settle_funding(self) -> None:
        for symbol, held in self._account.positions.items():
            absent = self._minute.find_absent_funding(symbol)
            if absent is not None:
                self._meet_absence(symbol, *absent)
            for settlement in self._minute.list_settlements(symbol):
                mark, reason = settlement.mark, "fr_mark"
                if mark is None:
                    mark, reason = self._find_funding_mark(symbol, held)
                amount = round_money(-held.quantity * mark * settlement.rate)
                self._account.cash += amount
                self._write(ledger.FUNDING, symbol, held.quantity, mark, ZERO, amount, reason)

    def _meet_absence(self, symbol: str, start_ms: int, end_ms: int) -> None:
        if not self._conditions.allow_holes:
            raise MissingSettlement(symbol, start_ms, end_ms)
        if (symbol, start_ms, end_ms) not in self._account.unknown:
            self._account.unknown.append((symbol, start_ms, end_ms))

    def _find_funding_mark(self, symbol: str, held: Position) -> tuple[Decimal, str]:
        mark, candle = self._minute.find_mark(symbol), self._minute.find_candle(symbol)
        if mark is not None:
            return mark.o, "mark_o"
        if candle is not None:
            return candle.o, "o"
        close = self._minute.find_close_before(symbol)
        return (held.price if close is None else close), "last"

    # 3

    def _take_orders(self) -> None:
        equity = max(self._measure_power(), ZERO)
        for lists in self._account.take_arrivals(self._minute.ts):
            at_open, to_rest = self._receive(lists)
            others = [(symbol, order) for symbol, order in at_open if not self._fill_reducing(symbol, order, equity)]
            for symbol, order in others:
                self._fill_opening(symbol, order, equity)
            for symbol, limit in to_rest:
                self._let_rest(symbol, limit)
        self._sort_resting()

    def _receive(self, lists: dict[str, list[Order]]) -> tuple[list[AtOpen], list[ToRest]]:
        """Replace what rests; return what fills at the open, and what rests from now on."""
        at_open: list[AtOpen] = []
        to_rest: list[ToRest] = []
        for symbol in sorted(lists):
            self._account.resting.pop(symbol, None)
            listed = self._minute.is_listed(symbol)
            candle = self._minute.find_candle(symbol) if listed else None
            for order in lists[symbol]:
                if not listed:
                    self._reject(symbol, *_describe(order), "not_listed")
                elif not isinstance(order, Target | Market):
                    to_rest.append((symbol, order))
                elif candle is None:
                    self.expire(symbol, order, "no_candle")
                else:
                    at_open.append((symbol, order))
        return at_open, to_rest

    def _fill_reducing(self, symbol: str, order: Target | Market, equity: Decimal) -> bool:
        """Fill an order at the open if it only reduces the position; say whether it did."""
        quantity, price = self._work_out(symbol, order, equity)
        if price is None or not quantity or not _is_reducing(quantity, self._account.hold(symbol)):
            return False
        self._fill(symbol, quantity, price, self._conditions.taker, _name(order))
        return True

    def _fill_opening(self, symbol: str, order: Target | Market, equity: Decimal) -> None:
        """Fill an order at the open, or write why not; a target that is met already leaves no row."""
        quantity, price = self._work_out(symbol, order, equity)
        if price is None:
            return
        if not quantity:
            if isinstance(order, Market):
                self._reject(symbol, _exact(order.quantity), price, "lot")
            return
        if not _is_reducing(quantity, self._account.hold(symbol)):
            if abs(quantity) * price < self._minute.get_terms(symbol).min_notional:
                self._reject(symbol, quantity, price, "min_notional")
                return
            if not self._can_afford(symbol, quantity, price):
                self._reject(symbol, quantity, price, "margin")
                return
        self._fill(symbol, quantity, price, self._conditions.taker, _name(order))

    def _work_out(self, symbol: str, order: Target | Market, equity: Decimal) -> tuple[Decimal, Decimal | None]:
        """Return the quantity of an order, rounded to the lot, and its fill price: None for a target that is met."""
        opens = self._candle(symbol).o
        held = self._account.hold(symbol)
        if isinstance(order, Market):
            quantity = _exact(order.quantity)
            price = self._slip(opens, quantity)
        else:
            worth = _exact(order.share) * equity
            direction = worth / opens - held
            if not direction:
                return ZERO, None
            price = self._slip(opens, direction)
            quantity = worth / price - held
            if (quantity > 0) != (direction > 0) or not quantity:
                return ZERO, None
        return self._round(symbol, quantity, held), price

    def _let_rest(self, symbol: str, order: Limit | Stop) -> None:
        """Judge a limit or stop when it arrives, and let it rest."""
        quantity, price = _exact(order[0]), _exact(order[1])
        held = self._account.hold(symbol)
        rounded = self._round(symbol, quantity, held)
        if not rounded:
            self._reject(symbol, quantity, price, "lot")
            return
        is_free = order.reduce or _is_reducing(rounded, held)
        if not is_free and abs(rounded) * price < self._minute.get_terms(symbol).min_notional:
            self._reject(symbol, rounded, price, "min_notional")
            return
        resting = RestingOrder(isinstance(order, Stop), rounded, price, order.reduce)
        self._account.resting.setdefault(symbol, []).append(resting)

    def _sort_resting(self) -> None:
        self._account.resting = dict(sorted(self._account.resting.items()))

    # 4

    def _check_margin(self) -> None:
        if not self._conditions.isolated and self._survives():
            return
        held = [(symbol, *self._trace(symbol, position)) for symbol, position in self._account.positions.items()]
        if not self._conditions.isolated:
            prices = find_liquidation(self._account.cash, [path for _, path, _ in held])
            for (symbol, path, reason), price in zip(held, prices or (), strict=False):
                self._liquidate(symbol, path, price, reason)
            return
        for symbol, path, reason in held:
            entry = self._account.positions[symbol].entry
            margin = abs(path.quantity) * entry / self._conditions.leverage - path.quantity * entry
            prices = find_liquidation(margin, [path])
            if prices is not None:
                self._liquidate(symbol, path, prices[0], reason)

    def _survives(self) -> bool:
        """Say whether a cross account stays above its maintenance at all adverse extremes at once.

        As rates are below 1, its room only shrinks on the way there, so it then survives the whole minute.
        """
        minute, equity, needed = self._minute, self._account.cash, ZERO
        for symbol, held in self._account.positions.items():
            quantity = held.quantity
            bar = minute.find_mark(symbol) or minute.find_candle(symbol)
            if bar is None:
                price = held.price
            elif quantity > 0:
                price = min(bar.o, bar.l)
            else:
                price = max(bar.o, bar.h)
            equity += quantity * price
            needed += compute_maintenance(quantity, price, minute.get_terms(symbol))
        return equity > needed

    def _trace(self, symbol: str, held: Position) -> tuple[Path, str]:
        """Return the way of a position's price to the adverse extreme, and whose prices these are."""
        terms = self._minute.get_terms(symbol)
        way, reason = self._minute.find_mark(symbol), "mark"
        if way is None:
            way, reason = self._minute.find_candle(symbol), "candle"  # type: ignore[assignment]
        if way is None:
            return Path(held.quantity, held.price, held.price, terms), "last"
        extreme = min(way.o, way.l) if held.quantity > 0 else max(way.o, way.h)
        return Path(held.quantity, way.o, extreme, terms), reason

    def _liquidate(self, symbol: str, path: Path, price: Decimal, reason: str) -> None:
        fee = round_money(abs(path.quantity) * price * self._conditions.liquidation_fee)
        self._book(ledger.LIQUIDATION, symbol, -path.quantity, price, fee, reason)
        self._expire_resting(symbol, "liquidated")

    # 5

    def _trigger_stops(self) -> None:
        self._try_resting(is_stop=True, attempt=self._try_stop)

    def _try_stop(self, symbol: str, order: RestingOrder, candle: Candle) -> bool:
        """Fill a stop that the bar touches; say whether the order has ended."""
        if order.quantity > 0:
            if candle.h < order.price:
                return False
            price = max(order.price, candle.o)
        else:
            if candle.l > order.price:
                return False
            price = min(order.price, candle.o)
        quantity = self._cut(symbol, order)
        if not quantity:
            self.expire(symbol, order, "reduce")
            return True
        price = self._slip(price, quantity)
        if not order.reduce and not self._may_fill(symbol, quantity, price):
            self._reject(symbol, order.quantity, price, "margin")
            return True
        self._fill(symbol, quantity, price, self._conditions.taker, "stop")
        return True

    # 6

    def _fill_limits(self) -> None:
        volumes: dict[str, Decimal] = {}

        def attempt(symbol: str, order: RestingOrder, candle: Candle) -> bool:
            if symbol not in volumes:
                volumes[symbol] = round_to_lot(candle.v * VOLUME_SHARE, self._minute.get_terms(symbol).lot)
            ended, taken = self._try_limit(symbol, order, candle, volumes[symbol])
            volumes[symbol] -= taken
            return ended

        self._try_resting(is_stop=False, attempt=attempt)

    def _try_limit(self, symbol: str, order: RestingOrder, candle: Candle, volume: Decimal) -> tuple[bool, Decimal]:
        """Fill what the bar gives a limit; return whether the order has ended, and the volume that it took."""
        is_through = candle.l < order.price if order.quantity > 0 else candle.h > order.price
        if not is_through:
            return False, ZERO
        most = self._cut(symbol, order)
        if not most:
            self.expire(symbol, order, "reduce")
            return True, ZERO
        quantity = min(abs(most), volume).copy_sign(most)
        if not quantity:
            return False, ZERO
        if not order.reduce and not self._may_fill(symbol, quantity, order.price):
            self._reject(symbol, order.quantity, order.price, "margin")
            return True, ZERO
        self._fill(symbol, quantity, order.price, self._conditions.maker, "limit")
        order.quantity -= quantity
        return quantity == most, abs(quantity)

    # 5 and 6

    def _try_resting(self, *, is_stop: bool, attempt: Callable[[str, RestingOrder, Candle], bool]) -> None:
        """Try the stops or the limits of all symbols against the bars of the minute; drop those that end."""
        for symbol in list(self._account.resting):
            candle = self._minute.find_candle(symbol)
            if candle is None:
                continue
            orders = self._account.resting[symbol]
            left = [order for order in orders if order.is_stop != is_stop or not attempt(symbol, order, candle)]
            if left:
                self._account.resting[symbol] = left
            else:
                del self._account.resting[symbol]

    def _cut(self, symbol: str, order: RestingOrder) -> Decimal:
        """Return what is left of an order, of one with `reduce` no more than the position that it can reduce."""
        if not order.reduce:
            return order.quantity
        held = self._account.hold(symbol)
        if not held or (held > 0) == (order.quantity > 0):
            return ZERO
        return min(abs(order.quantity), abs(held)).copy_sign(order.quantity)

    def _may_fill(self, symbol: str, quantity: Decimal, price: Decimal) -> bool:
        return _is_reducing(quantity, self._account.hold(symbol)) or self._can_afford(symbol, quantity, price)

    # 7

    def _mark_positions(self) -> None:
        minute, ts, oldest = self._minute, self._minute.ts, self._minute.ts
        for symbol, held in self._account.positions.items():
            bar = minute.find_mark(symbol) or minute.find_candle(symbol)
            if bar is not None:
                held.price, held.priced_ms = bar.c, ts
            elif held.priced_ms < oldest:
                oldest = held.priced_ms
        self._account.stale_ms = ts - oldest

    # buying power

    def _measure_power(self) -> Decimal:
        """Value the positions at the open; return the account's equity then, and set what it may hold in all."""
        equity = self._account.cash
        for symbol, held in self._account.positions.items():
            bar = self._minute.find_mark(symbol) or self._minute.find_candle(symbol)
            value = held.price if bar is None else bar.o
            self._values[symbol] = value
            equity += held.quantity * value
        self._power = self._conditions.leverage * max(equity, ZERO)
        return equity

    def _can_afford(self, symbol: str, quantity: Decimal, price: Decimal) -> bool:
        """Say whether all positions together stay within the leverage after a fill."""
        total = abs(self._account.hold(symbol) + quantity) * price
        for other, held in self._account.positions.items():
            if other != symbol:
                total += abs(held.quantity) * (self._fills.get(other) or self._values[other])
        return total <= self._power

    # booking

    def _candle(self, symbol: str) -> Candle:
        candle = self._minute.find_candle(symbol)
        assert candle is not None
        return candle

    def _slip(self, price: Decimal, quantity: Decimal) -> Decimal:
        """Worsen a price by the slippage."""
        slippage = self._conditions.slippage
        return round_money(price * (ONE + slippage if quantity > 0 else ONE - slippage))

    def _round(self, symbol: str, quantity: Decimal, held: Decimal) -> Decimal:
        """Round an order towards zero to the lot, unless it closes exactly the whole position."""
        if held and quantity == -held:
            return quantity
        return round_to_lot(quantity, self._minute.get_terms(symbol).lot)

    def _fill(self, symbol: str, quantity: Decimal, price: Decimal, rate: Decimal, reason: str) -> None:
        self._fills[symbol] = price
        self._book(ledger.FILL, symbol, quantity, price, round_money(abs(quantity) * price * rate), reason)

    def _book(self, kind: str, symbol: str, quantity: Decimal, price: Decimal, fee: Decimal, reason: str) -> None:
        """Change cash and position by a trade, and write its row."""
        amount = round_money(-quantity * price)
        account = self._account
        account.cash = account.cash + amount - fee
        held = account.positions.get(symbol)
        if held is None:
            account.positions[symbol] = Position(quantity, price, price, self._minute.ts)
            account.positions = dict(sorted(account.positions.items()))
        else:
            after = held.quantity + quantity
            if not after:
                account.positions = {name: kept for name, kept in account.positions.items() if name != symbol}
            elif (held.quantity > 0) == (quantity > 0):
                held.entry = (held.quantity * held.entry + quantity * price) / after
            elif (after > 0) != (held.quantity > 0):
                held.entry = price
            held.quantity = after
        self._write(kind, symbol, quantity, price, fee, amount, reason)

    def expire(self, symbol: str, order: Order | RestingOrder, reason: str) -> None:
        """Write that an order ends without a fill."""
        self._write(ledger.EXPIRY, symbol, *_describe(order), ZERO, ZERO, reason)

    def _expire_resting(self, symbol: str, reason: str) -> None:
        for order in self._account.resting.pop(symbol, ()):
            self.expire(symbol, order, reason)

    def _reject(self, symbol: str, quantity: Decimal | None, price: Decimal | None, reason: str) -> None:
        self._write(ledger.REJECTION, symbol, quantity, price, ZERO, ZERO, reason)

    def _write(
        self,
        kind: str,
        symbol: str,
        quantity: Decimal | None,
        price: Decimal | None,
        fee: Decimal,
        amount: Decimal,
        reason: str,
    ) -> None:
        account = self._account
        account.seq += 1
        held = account.hold(symbol)
        row = (account.seq, self._minute.ts, kind, symbol, quantity, price, fee, amount, account.cash, held, reason)
        self.rows.append(LedgerRow(*row))


def _describe(order: Order | RestingOrder) -> tuple[Decimal | None, Decimal | None]:
    """Return the quantity and the price by which an order that was never worked out is recorded."""
    if isinstance(order, RestingOrder):
        return order.quantity, order.price
    if isinstance(order, Target):
        return None, None
    if isinstance(order, Market):
        return _exact(order.quantity), None
    return _exact(order[0]), _exact(order[1])


def _exact(number: object) -> Decimal:
    """Return a number of an order that `read_orders` made exact."""
    assert isinstance(number, Decimal)
    return number


def _name(order: Target | Market) -> str:
    return "target" if isinstance(order, Target) else "market"


def _is_reducing(quantity: Decimal, held: Decimal) -> bool:
    """Say whether a quantity only reduces a position; turning round is not reducing."""
    return bool(held) and (quantity > 0) != (held > 0) and abs(quantity) <= abs(held)
