"""Equity and cash of a run, minute by minute."""

import io
from array import array
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from fademoe.account.numbers import ZERO, format_decimal
from fademoe.account.state import Account
from fademoe.backtest.view import Floats
from fademoe.clock import MINUTE_MS


class Equity:
    """Equity and cash after each minute: floats for the report, exact text for the hash and the database."""

    def __init__(self, since: int) -> None:
        self.since = since
        self.equity = array("d")
        self.cash = array("d")
        self.exposure = array("d")  # sum of abs(position) * price
        self._text = io.StringIO()
        self._last: tuple[Any, Any] = (None, None)
        self._last_text = ""

    def add(self, ts: int, account: Account) -> None:
        """Add the end of the minute `ts`."""
        cash = equity = account.cash
        held = ZERO
        for position in account.positions.values():
            value = position.quantity * position.price
            equity += value
            held += abs(value)
        if (equity, cash) != self._last:
            self._last = (equity, cash)
            self._last_text = f"\t{format_decimal(equity)}\t{format_decimal(cash)}\n"
        self._text.write(f"{ts}{self._last_text}")
        self.equity.append(float(equity))
        self.cash.append(float(cash))
        self.exposure.append(float(held))

    def add_stretch(self, since: int, equities: Sequence[Decimal], cash: Decimal, held: Floats) -> None:
        """Add the ends of the minutes from `since` on, in which the cash stays."""
        end = f"\t{format_decimal(cash)}\n"
        times = range(since, since + len(equities) * MINUTE_MS, MINUTE_MS)
        self._text.write(
            "".join([f"{ts}\t{format_decimal(equity)}{end}" for ts, equity in zip(times, equities, strict=True)])
        )
        self.equity.extend(map(float, equities))
        self.cash.extend([float(cash)] * len(equities))
        self.exposure.frombytes(held.tobytes())

    @property
    def lines(self) -> str:
        """A line for each minute: ts, equity, cash, with tabs between."""
        return self._text.getvalue()
