"""All presets on three faulty exchanges: what live evaluation did is what a replay of it says."""

import os
import time
from collections import Counter

import pytest

from fademoe.alerts import records
from fademoe.alerts.replay import replay_rule
from fademoe.clock import MINUTE_MS, Window, to_host_s
from fademoe.store.connection import Database
from fademoe.supervisord.daemon import CHECKOUT
from tests.support.chaos import EXCHANGES, REST_FAULTS
from tests.support.clocks import FAST, fast_clock, until
from tests.support.installation import Installation
from tests.support.simulator import Simulator

MINUTES = int(os.environ.get("REPLAY_MINUTES", "60"))
COINS = os.environ.get(
    "REPLAY_SYMBOLS", "BTC,ETH,SOL,XRP,DOGE,BNB,ADA,AVAX,LINK,LTC,TRX,DOT,BCH,NEAR,UNI,APT,ARB,SUI,PEPE,SHIB"
)
ABSENT_MINUTES = 10  # of one exchange
FILES = ("presets.toml", "lively.toml")
LIVELY = """
[[rule]]
name = "rises"
expr = "close > lag(close, 1m)"
[[rule]]
name = "crosses"
expr = "cross_above(close, sma(close, 3m)) or cross_below(close, sma(close, 3m))"
[[rule]]
name = "spreads"
expr = "bin.close > byb.close and okx.close > byb.close"
codes = ["byb"]
for = "1m"
[[rule]]
name = "premium"
expr = "pfr > lag(pfr, 1m)"
keep_firing_for = "1m"
[[rule]]
name = "interest"
expr = "oi > lag(oi, 5m)"
clear = "chg(oi, 5m) < 0"
[[rule]]
name = "liquidated"
expr = "lql + lqs > 0"
cooldown = "2m"
[[rule]]
name = "ranked"
expr = "rank(chg(close, 2m)) > 60%"
"""  # the presets wait for what is rare
CHANGES = ("pending", "firing", "resolved", "inactive")


@pytest.mark.full
def test_live_firings_of_an_hour_with_faults_equal_their_replay(folder):
    with fast_clock(FAST) as clock:
        simulator = Simulator("--no-limits", "--clock", clock)
        simulator.start()
        system = Installation(folder, simulator, COINS.split(","), workers=2)
        system.with_settings(FADEMOE_EXCHANGES=",".join(EXCHANGES), FADEMOE_CLOCK=clock)
        try:
            system.up()
            applied = system.run("alerts", "apply", str(CHECKOUT / "rules" / "presets.toml"))
            assert applied.returncode == 0, applied.stderr
            (folder / "lively.toml").write_text(LIVELY)
            applied = system.run("alerts", "apply", str(folder / "lively.toml"))
            assert applied.returncode == 0, applied.stderr
            first = system.query("SELECT max(first_minute) FROM perp_rules")[0][0]
            make_trouble(system, simulator)
            end = first + MINUTES * MINUTE_MS
            until(lambda: system.query("SELECT minute FROM perp_alert_cursor")[0][0] >= end, 60 + MINUTES * 10)
            compare(system, first, end)
        finally:
            system.down()
            simulator.stop()


def make_trouble(system: Installation, simulator: Simulator) -> None:
    """Drop sockets, lose closing bars, break requests; keep one exchange away for a while."""
    for kind, share in REST_FAULTS:
        simulator.fault(kind=kind, probability=share, seconds=2)
    simulator.fault(kind="lost_close", probability=0.2)
    quarter_s = to_host_s(MINUTES * 60 / 4)
    time.sleep(quarter_s)
    system.supervisord.client.stop("stream-okx")
    simulator.fault(kind="drop_sockets", exchange="binance", count=1)
    time.sleep(to_host_s(min(ABSENT_MINUTES, MINUTES // 4) * 60))
    system.supervisord.client.start("stream-okx")
    simulator.fault(kind="drop_sockets", exchange="bybit", count=1)
    time.sleep(quarter_s)
    simulator.clear()


def compare(system: Installation, first: int, end: int) -> None:
    """See that each rule's replay has the transitions of live evaluation, and that none came from absence."""
    told = system.query(
        "SELECT id, rule, state, values FROM perp_transitions WHERE minute >= %s AND minute < %s", first, end
    )
    print(Counter((rule, state) for _, rule, state, _ in told))
    assert len(told) > 2 * MINUTES, "hardly anything happened"
    database = Database(system.database_url)
    different = {}
    try:
        for stored in database.run(records.list_rules):
            if stored.file not in FILES:
                continue
            window = Window(first, end)
            replayed = database.run(lambda cursor: replay_rule(cursor, stored.rule, window))  # noqa: B023
            live = {id_ for id_, rule, *_ in told if rule == stored.rule.name}
            again = {one.id for one, _ in replayed.transitions}
            if live != again:
                different[stored.rule.name] = (len(live), len(again), len(live - again), len(again - live))
    finally:
        database.close()
    assert different == {}, "rule: live, replayed, only live, only replayed"
    absent = [row[:3] for row in told if row[2] in CHANGES and row[3] and not any(row[3].values())]
    assert absent == [], "transitions without any known value"
