"""Binance's three rate limits per address, and its refusals: 429 with -1003, then 418 for clients that continue."""

import argparse

import orjson

from fademoe.simulator.clock import MINUTE_MS
from fademoe.simulator.limits import Ban, FixedWindow, SlidingWindow

BUDGET_PERIOD_MS = 5 * MINUTE_MS
LONGEST_BAN_MS = 3 * 86_400_000
WEIGHT, FUNDING, DATA, FREE = "weight", "funding", "data", "free"


class BinanceRefusal(Exception):
    """A response other than 200, with Binance's code and message."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        """Encode the body."""
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        self.body = orjson.dumps({"code": code, "msg": message})


class AddressBudgets:
    """The budgets of one client address."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Read the sizes from the options."""
        self.weight = FixedWindow(options.binance_weight_limit, MINUTE_MS)
        # Only the minute of the weight is known to be a clock window; sliding is the stricter reading of "per 5 min".
        self.funding = SlidingWindow(options.binance_funding_limit, BUDGET_PERIOD_MS)
        self.data = SlidingWindow(options.binance_data_limit, BUDGET_PERIOD_MS)
        ban_ms = int(options.binance_ban_s * 1000)
        self.ban = Ban(options.binance_ban_after, ban_ms, LONGEST_BAN_MS, BUDGET_PERIOD_MS)


class BinanceLimits:
    """The budgets of all addresses."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Start without requests; with --no-limits requests are counted, never refused, and no header is sent."""
        self._options = options
        self._addresses: dict[str, AddressBudgets] = {}

    def take(self, ip: str, budget: str, cost: int, now_ms: int) -> dict[str, str]:
        """Count a request and return the headers of its answer; raise BinanceRefusal when it exceeds a limit."""
        address = self._addresses.get(ip)
        if address is None:
            address = self._addresses[ip] = AddressBudgets(self._options)
        is_enforced = self._options.limits
        banned_until = address.ban.find_end_ms(now_ms)
        if banned_until and is_enforced:
            raise make_ban_refusal(ip, banned_until)
        headers = {}
        is_over = False
        if budget == WEIGHT:
            used = address.weight.take(cost, now_ms)
            is_over = address.weight.is_over()
            if is_enforced:
                headers["X-MBX-USED-WEIGHT-1M"] = str(used)
        elif budget in (FUNDING, DATA):
            window = address.funding if budget == FUNDING else address.data
            is_over = not window.take(1, now_ms)
        if is_over and is_enforced:
            banned_until = address.ban.count_refusal(now_ms)
            refusal = (
                make_ban_refusal(ip, banned_until)
                if banned_until
                else make_limit_refusal(self._options.binance_weight_limit)
            )
            refusal.headers = headers
            raise refusal
        return headers

    def report(self, now_ms: int) -> dict[str, object]:
        """Return the weight of the last minutes and the current use of the other budgets, by address."""
        return {
            ip: {
                "weight_windows": address.weight.list_finished(now_ms),
                "funding_used": address.funding.count_used(now_ms),
                "data_used": address.data.count_used(now_ms),
            }
            for ip, address in self._addresses.items()
        }


def make_limit_refusal(limit: int) -> BinanceRefusal:
    """Return the refusal of a request above the limit (429)."""
    text = (
        f"Too many requests; current limit is {limit} requests per minute. "
        "Please use the websocket for live updates to avoid polling the API."
    )
    return BinanceRefusal(-1003, text, 429)


def make_ban_refusal(ip: str, until_ms: int) -> BinanceRefusal:
    """Return the refusal of a banned address (418)."""
    text = (
        f"Way too many requests; IP({ip}) banned until {until_ms}. "
        "Please use the websocket for live updates to avoid bans."
    )
    return BinanceRefusal(-1003, text, 418)
