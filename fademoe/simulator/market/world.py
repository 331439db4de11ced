"""All coins, and the contracts that each exchange lists on them.

Only dated contracts and the coins listed on Mondays (`list_weekly_coins`) depend on the start time; they carry
their date or week in the name, so a name always means the same contract.
"""

import dataclasses
from decimal import Decimal
from itertools import islice, product
from string import ascii_uppercase

from fademoe.simulator.market import listings
from fademoe.simulator.market.instrument import Coin, Instrument
from fademoe.simulator.market.noise import draw_number

WEEK_MS = 7 * 86_400_000
FIRST_MONDAY_MS = 4 * 86_400_000
WEEKLY_LISTING_MS = 8 * 3_600_000 + 30 * 60_000
OLDEST_LISTING_MS = 1_577_836_800_000
NEWEST_LISTING_MS = 1_756_684_800_000

# name, price in USD, turnover per minute on one exchange in thousand USD
_COINS = """
BTC 83137.9 6000|ETH 2911.4 4200|SOL 139.31 1900|XRP 2.2014 1100|DOGE 0.16233 700|ADA 0.4711 300|AVAX 14.217 190
LINK 13.094 180|LTC 86.31 150|BNB 861.2 420|TRX 0.28114 90|DOT 2.418 85|BCH 541.3 110|NEAR 1.9023 120|UNI 6.117 90
APT 2.5871 60|ARB 0.2214 70|OP 0.3317 60|SUI 1.5129 260|FIL 1.6043 70|ATOM 2.511 40|ETC 14.02 40|AAVE 171.8 110
TIA 0.6218 55|INJ 6.083 45|SEI 0.1403 50|WLD 0.6219 80|PEPE 0.0000047133 240|SHIB 0.0000084312 120
BONK 0.0000096217 70|CAT 0.0000031142 8|1INCH 0.1811 14|C98 0.03114 6|API3 0.5217 12|币安人生 0.4762 60|TON 1.6082 70
HBAR 0.1417 80|ICP 3.904 45|XLM 0.2511 60|STX 0.3417 20|LDO 0.7014 40|CRV 0.4121 60|GALA 0.00731 25|SAND 0.1514 20
ENA 0.2713 130|RUNE 0.6611 20|SATS 0.000000018114 9|ZEC 421.7 350|XMR 341.2 60|ALGO 0.1422 25|VET 0.01317 15
""".replace("\n", "|")
_TRADFI = "XAU 4099.26 500|XAG 59.63 120"
_SETTLED = "OMG 0.2217 4"
_KNOWN_LISTINGS = {
    "币安人生": 1_760_958_000_000,
    "XAU": 1_765_440_300_000,
    "XAG": 1_767_772_800_000,
    "OMG": 1_593_680_400_000,
}
_SETTLED_MS = 1_738_314_000_000


class World:
    """All coins and contracts; only `change` alters it."""

    def __init__(self, seed: int, now_ms: int, universe_size: int = 0) -> None:
        """List the ordinary coins, and synthetic ones until Binance has `universe_size` crypto perpetuals.

        Bybit then has 800 / 570 and OKX 436 / 570 of that, as in autumn 2026.
        """
        self.seed = seed
        self.coins = _read_coins(_COINS, seed)
        ordinary = len(self.coins)
        shares = {"binance": 570, "bybit": 800, "okx": 436}
        counts = {name: max(0, universe_size * share // 570 - ordinary) for name, share in shares.items()}
        synthetic = _synthetic_coins(seed, max(counts.values()))
        extra = _read_coins(_TRADFI, seed, kind="tradfi") + _read_coins(_SETTLED, seed, kind="settled")
        weekly = list_weekly_coins(now_ms)
        self._instruments: dict[str, dict[str, Instrument]] = {}
        for exchange, count in counts.items():
            coins = [*self.coins, *synthetic[:count], *weekly, *extra]
            listed = listings.list_instruments(exchange, coins, now_ms, seed)
            self._instruments[exchange] = {instrument.name: instrument for instrument in listed}
        self.coins = [*self.coins, *synthetic, *weekly, *extra]

    def list_instruments(self, exchange: str) -> list[Instrument]:
        """Return the contracts of an exchange in order of listing; [] for an exchange without own contracts."""
        return list(self._instruments.get(exchange, {}).values())

    def find_instrument(self, exchange: str, name: str) -> Instrument | None:
        """Return a contract by the exchange's name of it; None when the exchange never listed it."""
        return self._instruments.get(exchange, {}).get(name)

    def find_contract(self, exchange: str, symbol: str) -> Instrument | None:
        """Return a contract by its name, else the USDT perpetual on the coin `symbol`; None without one."""
        named = self.find_instrument(exchange, symbol)
        if named is not None:
            return named
        for instrument in self._instruments.get(exchange, {}).values():
            if instrument.coin.name == symbol and instrument.quote == "USDT" and instrument.is_perpetual:
                return instrument
        return None

    def change(self, exchange: str, name: str, **changes: int | None) -> Instrument:
        """Replace members of a contract and return the changed contract; KeyError when it is not listed."""
        listed = self._instruments[exchange][name]
        changed = dataclasses.replace(listed, **changes)  # type: ignore[arg-type]
        self._instruments[exchange][name] = changed
        return changed


def list_weekly_coins(now_ms: int) -> list[Coin]:
    """Return the coins listed last Monday, the Monday before, and next Monday, each at 08:30 UTC.

    So every ten-day backfill contains the start of a history, and one contract is always announced and not yet trading.
    """
    this_week = (now_ms - FIRST_MONDAY_MS - WEEKLY_LISTING_MS) // WEEK_MS
    coins = []
    for week in (this_week - 1, this_week, this_week + 1):
        listed_ms = FIRST_MONDAY_MS + week * WEEK_MS + WEEKLY_LISTING_MS
        price = Decimal(1 + week % 97) / 100
        coins.append(Coin(name=f"NEW{week}", price=price, usd_per_minute=30_000, listed_ms=listed_ms))
    return coins


def _read_coins(table: str, seed: int, kind: str = "crypto") -> list[Coin]:
    """Parse the table of coins at the top of this file."""
    coins = []
    for row in table.split("|"):
        if row.strip():
            name, price, volume = row.split()
            coins.append(
                Coin(
                    name=name,
                    price=Decimal(price),
                    usd_per_minute=int(volume) * 1000,
                    kind=kind,
                    listed_ms=_KNOWN_LISTINGS.get(name, _listing_ms(seed, name)),
                    delisted_ms=_SETTLED_MS if kind == "settled" else None,
                )
            )
    return coins


def _synthetic_coins(seed: int, count: int) -> list[Coin]:
    """Return SIMAAA, SIMAAB ...: small coins that fill the lists up to their real size.

    Their names have letters only: SIM1000 would mean a thousand SIM.
    """
    coins = []
    for letters in islice(product(ascii_uppercase, repeat=3), count):
        name = "SIM" + "".join(letters)
        dice = draw_number(seed, "synthetic", name)
        price = Decimal(100 + dice % 9_900).scaleb(-2 - (dice >> 20) % 5)
        coins.append(
            Coin(name=name, price=price, usd_per_minute=1000 + (dice >> 32) % 29_000, listed_ms=_listing_ms(seed, name))
        )
    return coins


def _listing_ms(seed: int, name: str) -> int:
    """Return a listing time between 2020 and September 2025, on the half hour."""
    if name in ("BTC", "ETH"):
        return 1_567_965_300_000 - 1_567_965_300_000 % 1_800_000
    spread = (NEWEST_LISTING_MS - OLDEST_LISTING_MS) // 1_800_000
    return OLDEST_LISTING_MS + draw_number(seed, "listed", name) % spread * 1_800_000
