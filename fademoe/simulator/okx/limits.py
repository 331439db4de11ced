"""OKX's limits: requests per endpoint in two seconds, by address or by address and contract, and its refusals."""

import argparse

import orjson

from fademoe.simulator.clock import Clock
from fademoe.simulator.limits import SlidingWindow

PERIOD_MS = 2_000
BY_ADDRESS, BY_CONTRACT, BY_KIND = "", "instId", "instType"  # parameter whose values are counted separately

RULES = {  # endpoint: requests in two seconds, counted per
    "/api/v5/market/candles": (40, BY_ADDRESS),
    "/api/v5/market/history-candles": (20, BY_ADDRESS),
    "/api/v5/market/mark-price-candles": (20, BY_ADDRESS),
    "/api/v5/market/history-mark-price-candles": (20, BY_ADDRESS),
    "/api/v5/public/premium-history": (20, BY_ADDRESS),
    "/api/v5/public/funding-rate": (10, BY_CONTRACT),
    "/api/v5/public/funding-rate-history": (10, BY_CONTRACT),
    "/api/v5/public/open-interest": (20, BY_CONTRACT),
    "/api/v5/public/position-tiers": (10, BY_ADDRESS),
    "/api/v5/public/instruments": (20, BY_KIND),
    "/api/v5/public/market-data-history": (5, BY_ADDRESS),
    "/api/v5/public/time": (10, BY_ADDRESS),
    "/api/v5/rubik/stat/contracts/open-interest-history": (10, BY_CONTRACT),
    "/api/v5/rubik/stat/contracts/long-short-account-ratio-contract": (5, BY_CONTRACT),
}


class OkxRefusal(Exception):
    """A response other than code 0, with OKX's code and message."""

    def __init__(self, code: int, message: str, status: int = 200, *, has_data: bool = True) -> None:
        """Encode the body; a refusal of the gateway in front of the exchange has no data member."""
        super().__init__(message)
        self.code = code
        self.status = status
        body: dict[str, object] = {"code": str(code), "data": [], "msg": message}
        self.body = orjson.dumps(body if has_data else {"msg": message, "code": str(code)})


class OkxLimits:
    """The windows of all addresses, by the host's clock, as the exchange's may be changed."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Start without requests; with --no-limits requests are counted and never refused."""
        self._options = options
        self._windows: dict[tuple[str, str, str], SlidingWindow] = {}
        self._most: dict[tuple[str, str], int] = {}
        self._refused = 0

    def take(self, ip: str, path: str, counted: str) -> None:
        """Count a request; raise OkxRefusal above the limit, in turn the gateway's and the service's."""
        limit = RULES[path][0]
        window = self._windows.get((ip, path, counted))
        if window is None:
            window = self._windows[ip, path, counted] = SlidingWindow(limit, PERIOD_MS)
        now_ms = Clock.host_ms()
        fits = window.take(1, now_ms)
        self._most[ip, path] = max(self._most.get((ip, path), 0), window.count_used(now_ms) + (not fits))
        if not fits and self._options.limits:
            self._refused += 1
            raise make_limit_refusal(is_gateway=self._refused % 2 == 1)

    def report(self) -> dict[str, object]:
        """Return the largest use in two seconds of each endpoint and address, and the number of refusals."""
        most = {f"{ip} {path}": used for (ip, path), used in self._most.items()}
        return {"most_in_2_s": most, "refused": self._refused}


def make_limit_refusal(*, is_gateway: bool) -> OkxRefusal:
    """Return the refusal of a request above the limit: HTTP 429 without data, or HTTP 200 with a code."""
    if is_gateway:
        return OkxRefusal(50011, "Too Many Requests", 429, has_data=False)
    return OkxRefusal(50011, "Rate limit reached. Please refer to API documentation and throttle requests accordingly.")


def make_unknown_instrument() -> OkxRefusal:
    """Return the refusal of a contract that is not listed."""
    return OkxRefusal(51001, "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")


def make_wrong_parameter(name: str) -> OkxRefusal:
    """Return the refusal of a parameter with an invalid value."""
    return OkxRefusal(51000, f"Parameter {name} error", 400)


def make_missing_parameter(name: str) -> OkxRefusal:
    """Return the refusal of a missing parameter; a recording has HTTP 200, the documentation 400."""
    return OkxRefusal(50014, f"Parameter {name} can not be empty.")
