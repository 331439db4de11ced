"""Moves: what traders want to be told of. Each coin makes one in every so many minutes, when the market is told to.

A move rises for five minutes, lasts for ten and is gone ten minutes later, all within its slot of time, so that any
minute can be computed by itself.
"""

from functools import lru_cache
from typing import NamedTuple

from fademoe.simulator.market.instrument import Coin, Instrument
from fademoe.simulator.market.noise import PPM, draw_number

RISE, LAST, FALL = 5, 10, 10  # minutes
LENGTH = RISE + LAST + FALL
DAY_MINUTES = 1_440
KINDS = ("surge", "flush", "rally", "crash", "longs", "shorts", "premium", "crowd")
INTEREST_PPM = {"surge": 80_000, "flush": -80_000}  # of the open interest
PRICE_PPM = {"rally": 40_000, "crash": -40_000}  # of the price
TURNOVER_FACTOR = 8  # while the price moves
FORCED = {"longs": "long", "shorts": "short"}  # whose positions are closed, one after the other
FORCED_MINUTES = RISE
PREMIUM_UNITS = 300_000  # of 10 ** -8, on one exchange
CROWD_SHARE = -1_500  # of the accounts that are long, in ten thousandths
EXCHANGES = ("binance", "bybit", "okx")


class Move(NamedTuple):
    """A move in one of its minutes: `step` of LENGTH, `dice` for what else is to be drawn."""

    kind: str
    step: int
    dice: int

    @property
    def strength_ppm(self) -> int:
        """How much of its full size it has at the end of the minute."""
        return PPM * min(self.step + 1, RISE) // RISE * min(LENGTH - 1 - self.step, FALL) // FALL


class Moves:
    """The moves of every coin."""

    def __init__(self, seed: int, every_minutes: int = 0) -> None:
        """Let each coin make a move every so many minutes, 0: none. ValueError unless a day is a multiple of that."""
        if every_minutes and (every_minutes < LENGTH or DAY_MINUTES % every_minutes):
            raise ValueError(f"a move takes {LENGTH} minutes, and a day must be a multiple of the time between two")
        self._seed = seed
        self._every = every_minutes
        self._dice = lru_cache(maxsize=16_384)(self._draw)

    def find(self, coin: Coin, minute: int) -> Move | None:
        """Return the move that a coin makes in a minute, counted from the epoch; None without one."""
        if not self._every:
            return None
        slot, at = divmod(minute, self._every)
        dice = self._dice(coin.name, slot)
        step = at - (dice >> 8) % (self._every - LENGTH + 1)
        return Move(KINDS[dice % len(KINDS)], step, dice >> 40) if 0 <= step < LENGTH else None

    def scale(self, reaches: dict[str, int], coin: Coin, minute: int) -> int:
        """Return how far a move has gone by the end of a minute: its share of the reach of its kind, 0 without one."""
        move = self.find(coin, minute)
        return reaches.get(move.kind, 0) * move.strength_ppm // PPM if move else 0

    def list_price_moves(self, coin: Coin, day: int) -> dict[int, int]:
        """Return by how many ppm the price is away at the end of the minutes of a day, where it is."""
        found = {}
        for first in range(0, DAY_MINUTES if self._every else 0, self._every or 1):
            minute = day * DAY_MINUTES + first
            if KINDS[self._dice(coin.name, minute // self._every) % len(KINDS)] in PRICE_PPM:
                for at in range(first, first + self._every):
                    if away := self.scale(PRICE_PPM, coin, day * DAY_MINUTES + at):
                        found[at] = away
        return found

    def raise_premium(self, instrument: Instrument, minute: int) -> int:
        """Return by how much the premium of a contract is higher in a minute, in units of 10 ** -8."""
        move = self.find(instrument.coin, minute)
        if move is None or move.kind != "premium" or EXCHANGES[move.dice % len(EXCHANGES)] != instrument.exchange:
            return 0
        return PREMIUM_UNITS * move.strength_ppm // PPM

    def find_forced(self, coin: Coin, minute: int) -> str | None:
        """Return whose positions are closed by force in a minute, one after the other: long, short or None."""
        move = self.find(coin, minute)
        return FORCED.get(move.kind) if move and move.step < FORCED_MINUTES else None

    def _draw(self, name: str, slot: int) -> int:
        return draw_number(self._seed, "move", name, slot)
