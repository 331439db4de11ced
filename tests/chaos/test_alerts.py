"""Alerts while their programs and servers are killed and every third message is refused: nothing is lost or twice."""

import os
import time
from collections import defaultdict

import pytest

from fademoe.alerts import records
from fademoe.alerts.replay import replay_rule
from fademoe.clock import MINUTE_MS, Window
from fademoe.store.connection import Database
from tests.support.clocks import FAST, fast_clock, until
from tests.support.installation import Installation
from tests.support.receiver import Receiver
from tests.support.simulator import Simulator

SECONDS = int(os.environ.get("CHAOS_SECONDS", "300"))
PAUSE_S = 20  # between two kills
KILLED = ("alerts", "worker-notify", "redis", "postgres")
SYMBOLS = ["BTC", "ETH", "SOL", "PEPE"]
RULES = """
[[rule]]
name = "rises"
expr = "close > lag(close, 1m)"
codes = ["bin"]
message = "{{symbol}} at {{close}}"
channels = ["desk"]

[[rule]]
name = "falls"
expr = "close < lag(close, 1m)"
codes = ["bin"]
for = "1m"
cooldown = "1m"
channels = ["desk"]

[[channel]]
name = "desk"
url = "{url}"
max_age = "31d"
"""


@pytest.mark.full
def test_no_transition_is_lost_no_id_has_two_contents_and_the_order_is_kept(folder):
    receiver = Receiver(lambda number: 500 if number % 3 == 0 else 200)
    with fast_clock(FAST) as clock:
        simulator = Simulator("--no-limits", "--clock", clock)
        simulator.start()
        system = Installation(folder, simulator, SYMBOLS, workers=1)
        system.with_settings(FADEMOE_EXCHANGES="binance", FADEMOE_CLOCK=clock)
        try:
            system.up()
            (folder / "chaos.toml").write_text(RULES.format(url=receiver.url))
            applied = system.run("alerts", "apply", str(folder / "chaos.toml"))
            assert applied.returncode == 0, applied.stderr
            kills = break_things(system)
            until(system.answers, 60)
            end = system.query("SELECT minute FROM perp_alert_cursor")[0][0]
            until(lambda: not waiting(system, end), 240)
            print(f"{len(receiver.requests)} requests, {len(receiver.delivered)} taken, killed {kills}")
            check(system, receiver, end)
        finally:
            system.down()
            simulator.stop()
            receiver.close()


def break_things(system: Installation) -> list[str]:
    """Kill one program after the other; return which."""
    kills = []
    end_s = time.monotonic() + SECONDS
    while time.monotonic() < end_s:
        time.sleep(PAUSE_S)
        name = KILLED[len(kills) % len(KILLED)]
        system.kill(name)
        kills.append(name)
    return kills


def waiting(system: Installation, end: int) -> bool:
    """Tell whether something of the minutes before `end` is not delivered yet."""
    try:
        rows = system.query("SELECT 1 FROM perp_deliveries WHERE state = 'waiting' AND minute < %s LIMIT 1", end)
    except Exception:  # noqa: BLE001 - PostgreSQL is just coming back
        return True
    return bool(rows)


def check(system: Installation, receiver: Receiver, end: int) -> None:
    minutes = [row[0] for row in system.query("SELECT minute FROM perp_alert_minutes ORDER BY minute")]
    assert minutes == list(range(minutes[0], minutes[-1] + 1, MINUTE_MS)), "a minute was left out"
    reported = system.query(
        "SELECT id, rule, code, symbol, minute, state FROM perp_transitions"
        " WHERE rule IN ('rises', 'falls') AND minute < %s ORDER BY minute, id",
        end,
    )
    sent = {row[0] for row in reported if row[5] in ("firing", "resolved", "unknown", "known")}
    assert len(sent) > 20, "the market did not move"
    taken = [one["id"] for request in receiver.delivered for one in request.transitions]
    assert sent <= set(taken), f"{len(sent - set(taken))} transitions were lost"
    contents: dict[str, set[bytes]] = defaultdict(set)
    for request in receiver.requests:
        contents[request.headers["webhook-id"]].add(request.body)
    assert all(len(bodies) == 1 for bodies in contents.values()), "an id has two contents"
    order: dict[tuple[str, ...], list[tuple[int, str]]] = defaultdict(list)
    seen: set[str] = set()
    for request in receiver.delivered:
        if request.headers["webhook-id"] in seen:
            continue  # at least once
        seen.add(request.headers["webhook-id"])
        for one in request.transitions:
            minute = request.message["fademoe"]["minute"]
            order[one["rule"], one["code"], one["symbol"]].append((minute, one["state"]))
    for key, found in order.items():
        assert [minute for minute, _ in found] == sorted(minute for minute, _ in found), f"{key} came out of order"
        states = [state for _, state in found if state in ("firing", "resolved")]
        assert states == ["firing", "resolved"] * (len(states) // 2) + ["firing"] * (len(states) % 2), key
    replay_agrees(system, reported, minutes[0], end)


def replay_agrees(system: Installation, reported: list[tuple], first: int, end: int) -> None:
    """See that a replay of all live minutes says the same."""
    database = Database(system.database_url)
    try:
        for stored in database.run(records.list_rules):
            if stored.rule.name in ("rises", "falls"):
                window = Window(max(first, stored.first_minute), end)
                replayed = database.run(lambda cursor: replay_rule(cursor, stored.rule, window))  # noqa: B023
                live = {row[0] for row in reported if row[1] == stored.rule.name}
                assert {one.id for one, _ in replayed.transitions} == live, stored.rule.name
    finally:
        database.close()
