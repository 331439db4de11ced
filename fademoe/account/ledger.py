"""The ledger: one row for every event of an account, in order."""

from decimal import Decimal
from typing import NamedTuple

from fademoe.account.numbers import format_decimal

# kinds
FILL = "fill"
FUNDING = "funding"
LIQUIDATION = "liquidation"
DELISTING = "delisting"
REJECTION = "rejection"
EXPIRY = "expiry"

COLUMNS = ("seq", "ts", "kind", "symbol", "quantity", "price", "fee", "amount", "cash", "position", "reason")


class LedgerRow(NamedTuple):
    """An event in the minute that begins at `ts` ms.

    `quantity` is signed, in coins. `amount` is the change of cash without the fee, `cash` and `position` are after the
    row. A fee is positive when it costs. `quantity` and `price` are None where there was none.
    """

    seq: int
    ts: int
    kind: str
    symbol: str
    quantity: Decimal | None
    price: Decimal | None
    fee: Decimal
    amount: Decimal
    cash: Decimal
    position: Decimal
    reason: str

    def to_texts(self) -> dict[str, int | str | None]:
        """Return the row by column, its decimals as plain text."""
        return {
            name: format_decimal(value) if isinstance(value, Decimal) else value
            for name, value in zip(COLUMNS, self, strict=True)
        }
