"""Something is killed every five seconds while the exchanges misbehave: afterwards every row is there and right."""

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, now_ms
from fademoe.queue.ids import list_window_queues
from fademoe.queue.states import list_failed_jobs
from tests.support.chaos import (
    EXCHANGES,
    LIVE_ONLY,
    Chaos,
    assert_exact,
    assert_nothing_invented,
    history_metrics,
    installation,
    minute_of,
    missing,
    seed_of,
)
from tests.support.clocks import until
from tests.support.simulator import Simulator

QUIET_S = 120
TOO_MANY = {"403", "418", "429", "10006", "50011"}  # what exchanges answer to too many requests
PUBLISHED_MS = 20 * MINUTE_MS  # the newest samples are not asked for before the exchanges surely have them


@pytest.mark.long
@pytest.mark.waits(167)
def test_a_minute_of_chaos_leaves_no_trace(folder):
    live_through(folder, seconds=60, metrics=["ohlcv"], seed=4)


@pytest.mark.full
def test_five_minutes_of_chaos_leave_no_trace(folder):
    live_through(folder, seconds=300, metrics=history_metrics(), seed=seed_of())


def live_through(folder, *, seconds, metrics, seed):
    print(f"CHAOS_SEED={seed}")
    simulator = Simulator()
    simulator.start()
    system = installation(folder, simulator)
    try:
        system.up()
        live_ms = minute_of(now_ms()) + MINUTE_MS
        start_ms = live_ms - 3 * DAY_MS
        seeded = system.run("seed", "--since", str(start_ms), "--metrics", ",".join(metrics))
        assert seeded.returncode == 0, seeded.stderr
        before = system.pids()
        chaos = Chaos(system, seed)
        chaos.rage(seconds)
        assert chaos.spared() == set(), chaos.killed
        ends = {metric: minute_of(now_ms()) - (0 if metric == "ohlcv" else PUBLISHED_MS) for metric in metrics}
        quiet_ms = now_ms()
        until(system.answers, 20)
        for metric, end_ms in ends.items():
            patience_s = QUIET_S - (now_ms() - quiet_ms) / 1000
            until(lambda: not missing(system, metric, start_ms, end_ms), max(1.0, patience_s))  # noqa: B023
        print(f"complete after {(now_ms() - quiet_ms) / 1000:.0f} s of quiet; killed {', '.join(chaos.killed)}")
        for metric, end_ms in ends.items():
            assert_exact(system, metric, start_ms + (12 * HOUR_MS if metric == "fr" else 0), end_ms)
        for metric in LIVE_ONLY:
            assert_nothing_invented(system, metric, live_ms, ends["ohlcv"])
        assert list_failed_jobs(system.context().redis, list_window_queues(*EXCHANGES)) == []
        assert all(program.is_fine for program in system.supervisord.list_programs())
        after = system.pids()
        assert [name for name in chaos.killed if after.get(name, 0) == before.get(name)] == []
        for name, counted in simulator.get("/sim/stats").items():
            assert not TOO_MANY & counted["refusals"].keys(), (name, counted["refusals"])
    except BaseException:
        print(system.run("gaps").stdout[-5000:])
        print(system.query("SELECT unit, state, message FROM perp_status WHERE state IN ('error', 'waiting')"))
        raise
    finally:
        system.down()
        simulator.stop()
