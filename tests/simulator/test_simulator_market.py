"""The truth, computed in this process."""

import itertools
import time

import pytest

from fademoe.simulator.market.candles import Bar
from fademoe.simulator.market.gauges import PremiumBar
from fademoe.simulator.market.market import Market
from fademoe.simulator.market.moves import FORCED, INTEREST_PPM, KINDS, LENGTH, PRICE_PPM, Move
from fademoe.simulator.market.truth import list_truth

NOW_MS = 1_795_424_000_000
DAY_MS = 86_400_000
MINUTE_MS = 60_000
TODAY = NOW_MS // DAY_MS


@pytest.fixture(scope="module")
def market() -> Market:
    """A market of seed 1."""
    return Market(1, NOW_MS)


def day(market: Market, exchange: str, name: str, which: int = TODAY - 2) -> list[Bar]:
    """Return a day of candles."""
    instrument = market.world.find_instrument(exchange, name)
    return [Bar._make(bar) for bar in market.candles.list_bars(instrument, which)]


def test_same_seed_gives_same_data_in_any_order_of_access(market: Market) -> None:
    """Minutes read backwards one by one agree with whole days."""
    whole = day(market, "binance", "C98USDT")
    other = Market(1, NOW_MS + 3 * DAY_MS)
    instrument = other.world.find_instrument("binance", "C98USDT")
    single = [other.candles.read_bar(instrument, bar.ts) for bar in reversed(whole[::97])]
    assert whole[::97] == single[::-1]


def test_another_seed_gives_other_data(market: Market) -> None:
    """All data depend on the seed."""
    assert day(market, "binance", "BTCUSDT") != day(Market(2, NOW_MS), "binance", "BTCUSDT")


@pytest.mark.parametrize("name", ["BTCUSDT", "1000PEPEUSDT", "币安人生USDT", "C98USDT"])
def test_candles_are_consistent(market: Market, name: str) -> None:
    """Open is the previous close, the extremes contain all prices, volumes and values agree, over two days."""
    bars = day(market, "binance", name) + day(market, "binance", name, TODAY - 1)
    for bar in bars:
        assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert bar.low * bar.volume <= bar.quote_volume <= bar.high * bar.volume
        assert 0 <= bar.buy_volume <= bar.volume and bar.trades <= bar.volume
    for before, bar in itertools.pairwise(bars):
        if bar.ts == before.ts + MINUTE_MS:
            assert before.close == bar.open


def test_only_small_coins_have_quiet_minutes_and_these_are_flat(market: Market) -> None:
    """A quiet minute has no volume, no trades and one price."""
    quiet = [bar for bar in day(market, "binance", "C98USDT") if not bar.trades]
    assert len(quiet) > 20
    assert all(bar.open == bar.high == bar.low == bar.close and not bar.volume for bar in quiet)
    assert all(bar.trades for bar in day(market, "binance", "BTCUSDT"))


def test_holes_are_rare_and_maintenance_hits_all_contracts(market: Market) -> None:
    """About 0.05 % of single minutes are missing, and on some days 20 to 60 minutes of a whole exchange."""
    days = range(TODAY - 60, TODAY)
    maintenance = [market.holes.maintenance("binance", which) for which in days]
    ranges = [gap for gap in maintenance if gap]
    assert 5 <= len(ranges) <= 40 and all(20 <= len(gap) <= 60 for gap in ranges)
    assert maintenance != [market.holes.maintenance("bybit", which) for which in days]
    instrument = market.world.find_instrument("binance", "ETHUSDT")
    missing = sum(len(market.holes.minutes(instrument, which, "candle")) for which in days) - sum(map(len, ranges))
    assert 10 <= missing <= 90
    which = days[maintenance.index(ranges[0])]
    minutes = {bar.ts % DAY_MS // MINUTE_MS for bar in day(market, "binance", "SOLUSDT", which)}
    assert minutes.isdisjoint(ranges[0]) and min(ranges[0]) - 1 in minutes


def test_prices_of_a_coin_agree_on_all_exchanges(market: Market) -> None:
    """They differ by less than 0.1 %, whatever the multiplier."""
    rows = []
    for exchange, name in (("binance", "1000SHIBUSDT"), ("bybit", "SHIB1000USDT"), ("okx", "SHIB-USDT-SWAP")):
        instrument = market.world.find_instrument(exchange, name)
        start_ms = (TODAY - 1) * DAY_MS + 43_200_000
        rows.append(list_truth(market, instrument, "ohlcv", (start_ms, start_ms + 9 * MINUTE_MS), now_ms=NOW_MS)[0])
    prices = [float(row["c"]) for row in rows]
    assert max(prices) / min(prices) < 1.001
    assert 1e-6 < prices[0] < 1e-4


def test_the_universe_grows_to_its_real_size() -> None:
    """universe_size adds SIM coins."""
    world = Market(1, NOW_MS, universe_size=570).world
    sizes = [len(world.list_instruments(exchange)) for exchange in ("binance", "bybit", "okx")]
    assert [570 <= sizes[0] <= 590, 800 <= sizes[1] <= 820, 436 <= sizes[2] <= 456] == [True] * 3
    assert len(Market(1, NOW_MS).world.list_instruments("binance")) >= 46


def test_a_new_contract_starts_within_ten_days(market: Market) -> None:
    """Its first candle is at its listing; one more contract is announced."""
    coins = [
        instrument for instrument in market.world.list_instruments("binance") if instrument.coin.name.startswith("NEW")
    ]
    assert [NOW_MS - instrument.listed_ms > 0 for instrument in coins] == [True, True, False]
    newest = coins[1]
    assert NOW_MS - newest.listed_ms <= 7 * DAY_MS
    rows = list_truth(market, newest, "ohlcv", (NOW_MS - 10 * DAY_MS, NOW_MS), now_ms=NOW_MS)
    assert rows[0]["ts"] in (newest.listed_ms, newest.listed_ms + MINUTE_MS)


def test_funding_intervals_differ_and_change(market: Market) -> None:
    """fr_hours is the time since the previous settlement; some contract changes it within thirteen days."""
    seen, changing = set(), 0
    for instrument in market.world.list_instruments("binance"):
        if instrument.kind == "dated" or not instrument.is_trading(NOW_MS - 13 * DAY_MS):
            continue
        settled = market.funding.list_settlements(instrument, NOW_MS - 13 * DAY_MS, NOW_MS)
        for before, settlement in itertools.pairwise(settled):
            assert settlement.ts - before.ts == settlement.hours * 3_600_000
        intervals = {settlement.hours for settlement in settled}
        seen |= intervals
        changing += len(intervals) > 1
    assert seen == {1, 4, 8} and changing >= 3


def test_funding_estimate_ends_at_the_settled_rate(market: Market) -> None:
    """In the last minute before a settlement the estimate is close to the settled rate."""
    instrument = market.world.find_instrument("binance", "BTCUSDT")
    settled = market.funding.list_settlements(instrument, NOW_MS - DAY_MS, NOW_MS)[-1]
    assert abs(market.funding.estimate(instrument, settled.ts - 1) - settled.rate) < 100


def test_premium_is_a_small_fraction_of_either_sign(market: Market) -> None:
    """High and low contain the samples; values stay below half a percent."""
    instrument = market.world.find_instrument("bybit", "BTCUSDT")
    rows = [PremiumBar._make(row) for row in market.gauges.list_premiums(instrument, TODAY - 1)]
    assert all(row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high for row in rows)
    assert max(abs(row.close) for row in rows) < 5_000
    assert min(row.close for row in rows) < 0 < max(row.close for row in rows)
    bar = rows[700]
    assert market.gauges.read_premium(instrument, bar.ts) == bar


def test_truth_of_a_multiplied_contract_is_per_one_coin(market: Market) -> None:
    """1000PEPEUSDT: prices are divided, volumes multiplied, values unchanged."""
    instrument = market.world.find_instrument("binance", "1000PEPEUSDT")
    bar = day(market, "binance", "1000PEPEUSDT")[100]
    row = list_truth(market, instrument, "ohlcv", (bar.ts, bar.ts + 1), now_ms=NOW_MS)[0]
    assert row["c"] == f"0.{bar.close:010d}"
    assert row["v"] == str(bar.volume * 1000)
    assert row["n"] == str(bar.trades)


def test_truth_ends_with_the_last_final_minute(market: Market) -> None:
    """Open minutes and minutes that may still change are left out."""
    instrument = market.world.find_instrument("binance", "BTCUSDT")
    minute_ms = NOW_MS // MINUTE_MS * MINUTE_MS
    for now_ms, last_ms in ((minute_ms + 100, minute_ms - 2 * MINUTE_MS), (minute_ms + 2_100, minute_ms - MINUTE_MS)):
        rows = list_truth(market, instrument, "ohlcv", (NOW_MS - DAY_MS, NOW_MS + DAY_MS), now_ms=now_ms)
        assert rows[-1]["ts"] == last_ms


def test_generation_is_fast_enough_for_a_backfill(market: Market) -> None:
    """The aim is 100,000 rows a second; a tenth of it must hold on any machine."""
    instrument = market.world.find_instrument("binance", "SOLUSDT")
    started = time.process_time()
    rows = sum(len(market.candles.list_bars(instrument, which)) for which in range(TODAY - 20, TODAY))
    assert rows / (time.process_time() - started) > 10_000


def test_each_coin_makes_one_move_in_each_slot_and_nothing_of_it_is_left() -> None:
    """An hour has one move, what it moves is as usual before and after it, and a market without moves has none."""
    moving, usual = Market(1, NOW_MS, move_minutes=60), Market(1, NOW_MS)
    seen = set()
    for name in ("BTCUSDT", "SOLUSDT", "ADAUSDT"):
        instrument, same = (market.world.find_instrument("binance", name) for market in (moving, usual))
        bars, before = day(moving, "binance", name), day(usual, "binance", name)
        forced = 0
        for hour in range(24):
            minutes = range((TODAY - 2) * 1_440 + hour * 60, (TODAY - 2) * 1_440 + hour * 60 + 60)
            moves = {minute: move for minute in minutes if (move := moving.moves.find(instrument.coin, minute))}
            assert len(moves) == LENGTH and len({move.kind for move in moves.values()}) == 1
            kind = next(iter(moves.values())).kind
            seen.add(kind)
            middle = min(moves) + 7
            interests = [
                market.gauges.read_open_interest(one, middle * MINUTE_MS)
                for market, one in ((moving, instrument), (usual, same))
            ]
            assert (interests[0] != interests[1]) == (kind in INTEREST_PPM)
            forced += kind in FORCED and bool(moving.liquidations.list_in_minute(instrument, min(moves) * MINUTE_MS))
        away = {bar.ts // MINUTE_MS for bar, other in zip(bars, before, strict=True) if bar.close != other.close}
        expected = {
            minute
            for minute in range((TODAY - 2) * 1_440, (TODAY - 1) * 1_440)
            if (move := moving.moves.find(instrument.coin, minute)) and move.kind in PRICE_PPM and move.strength_ppm
        }
        assert away <= expected and len(away) > 0.9 * len(expected)
        assert forced > 0
    assert len(seen) > len(KINDS) // 2
    assert Move("surge", LENGTH - 1, 0).strength_ppm == 0
    assert usual.moves.find(instrument.coin, TODAY * 1_440) is None
    with pytest.raises(ValueError, match="25 minutes"):
        Market(1, NOW_MS, move_minutes=7)
