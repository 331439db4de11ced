"""The truth: all data of the simulated exchanges by (exchange, contract, minute), in any order of access.

All values are integers in the contract's units (instrument.py). The exchanges' modules encode them as payloads, and
truth.py turns them into the rows that a collector must have stored.
"""

from fademoe.simulator.clock import DAY_MINUTES, DAY_MS, MINUTE_MS
from fademoe.simulator.market.candles import Bar, Candles
from fademoe.simulator.market.funding import Funding
from fademoe.simulator.market.gauges import Gauges
from fademoe.simulator.market.holes import Holes
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.liquidations import Liquidations
from fademoe.simulator.market.marks import Marks
from fademoe.simulator.market.moves import Moves
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.market.world import World

EARLIEST_FINAL_MS = 200
LATEST_FINAL_MS = 2_000


class Market:
    """All contracts and their data. The arguments determine every value: two markets with the same seed are equal."""

    def __init__(
        self,
        seed: int,
        now_ms: int,
        *,
        universe_size: int = 0,
        has_holes: bool = True,
        move_minutes: int = 0,
        open_ms: int | None = None,
    ) -> None:
        """Build the market of `seed`; `now_ms` decides only which dated and newly listed contracts exist.

        Each coin makes a move (moves.py) every `move_minutes`, none with 0. No exchange is in maintenance around
        `open_ms`.
        """
        self.seed = seed
        self.world = World(seed, now_ms, universe_size)
        self.holes = Holes(seed, enabled=has_holes, open_ms=open_ms)
        self.moves = Moves(seed, move_minutes)
        self.candles = Candles(seed, self.holes, self.moves)
        self.gauges = Gauges(seed, self.candles, self.holes, self.moves)
        self.funding = Funding(seed, self.candles)
        self.marks = Marks(seed, self.candles, self.holes)
        self.liquidations = Liquidations(seed, self.candles, self.holes, self.moves)

    def find_final_delay_ms(self, instrument: Instrument, ts: int) -> int:
        """Return how many ms after its close the minute that opened at `ts` still changes: 200 to 2000.

        Until then REST serves it without its last trades; after that the stream sends it as closed.
        """
        if self.candles.is_quiet(instrument, ts):
            return LATEST_FINAL_MS
        spread = LATEST_FINAL_MS - EARLIEST_FINAL_MS + 1
        return EARLIEST_FINAL_MS + draw_number(self.seed, "final", instrument.key, ts) % spread

    def find_final_end_ms(self, instrument: Instrument, now_ms: int) -> int:
        """Return the open time of the first minute that is not final at `now_ms`."""
        minute_ms = now_ms // MINUTE_MS * MINUTE_MS
        before_ms = minute_ms - MINUTE_MS
        return before_ms if now_ms - minute_ms < self.find_final_delay_ms(instrument, before_ms) else minute_ms

    def count_steps(self, instrument: Instrument) -> int:
        """Return in how many visible steps a minute of the contract grows (see `Candles.read_growing_bar`)."""
        turnover = instrument.usd_per_minute
        return 240 if turnover >= 1_000_000 else 120 if turnover >= 300_000 else 60 if turnover >= 60_000 else 30

    def read_visible_bar(self, instrument: Instrument, ts: int, now_ms: int) -> Bar | None:
        """Return the minute that opens at `ts` as it is at `now_ms`; None when it is missing or in the future."""
        steps = self.count_steps(instrument)
        if ts > now_ms or not instrument.is_trading(ts):
            return None
        if ts >= self.find_final_end_ms(instrument, now_ms):
            return self.candles.read_growing_bar(
                instrument, ts, min(steps - 1, (now_ms - ts) * steps // MINUTE_MS), steps
            )
        return self.candles.read_bar(instrument, ts)

    def sum_taker_volumes(self, instrument: Instrument, start_ms: int, minutes: int) -> tuple[int, int]:
        """Return the lots bought and the lots sold by takers in `minutes` minutes from `start_ms`."""
        day, ms = divmod(start_ms, DAY_MS)
        first = ms // MINUTE_MS
        bars = self.candles.list_bars(instrument, day, first, min(DAY_MINUTES, first + minutes))
        bought = sum(bar[8] for bar in bars)
        return bought, sum(bar[5] for bar in bars) - bought
