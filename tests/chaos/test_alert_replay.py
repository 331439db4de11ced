"""All presets on three faulty exchanges: what live evaluation did is what a replay of it says."""

import ast
import os
import re
import time
import tomllib
from collections import Counter
from decimal import Decimal

import pytest

from fademoe.alerts import records
from fademoe.alerts.replay import replay_rule
from fademoe.clock import HOUR_MS, MINUTE_MS, Window, floor_to, now_ms, to_host_s
from fademoe.metrics import Liquidations
from fademoe.store.connection import Database
from fademoe.store.coverage import Covered, Series
from fademoe.store.writer import Batch, Writer, group_rows
from fademoe.supervisord.daemon import CHECKOUT
from tests.support.chaos import EXCHANGES, REST_FAULTS
from tests.support.clocks import FAST, fast_clock, settled_end, until
from tests.support.installation import Installation
from tests.support.simulator import Simulator

MINUTES = int(os.environ.get("REPLAY_MINUTES", "60"))
COINS = os.environ.get(
    "REPLAY_SYMBOLS", "BTC,ETH,SOL,XRP,DOGE,BNB,ADA,AVAX,LINK,LTC,TRX,DOT,BCH,NEAR,UNI,APT,ARB,SUI,PEPE,SHIB"
)
ABSENT_MINUTES = 10  # of one exchange
MOVE_MINUTES = 20  # between two moves of a coin
SETTLED_EVERY_MS = 8 * HOUR_MS  # the contracts of all exchanges
BEFORE_SETTLEMENT_MS = 35 * MINUTE_MS  # so long before one the clock begins: it falls into the hour
LOOK_BACK_MS = 10 * HOUR_MS  # of history: the settlement in force, and the four hours that presets look back
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
"""
CHANGES = ("pending", "firing", "resolved", "inactive")


PRESETS = tomllib.loads((CHECKOUT / "rules" / "presets.toml").read_text())["rule"]


@pytest.mark.full
def test_live_firings_of_an_hour_with_faults_equal_their_replay(folder):
    begin_ms = floor_to(now_ms(), SETTLED_EVERY_MS) + 2 * SETTLED_EVERY_MS - BEFORE_SETTLEMENT_MS
    with fast_clock(FAST, begin_ms) as clock:
        simulator = Simulator("--no-limits", "--no-holes", "--clock", clock, "--moves", str(MOVE_MINUTES))
        simulator.start()
        system = Installation(folder, simulator, COINS.split(","), workers=2)
        system.with_settings(FADEMOE_EXCHANGES=",".join(EXCHANGES), FADEMOE_CLOCK=clock)
        try:
            system.up()
            give_history(system, simulator)
            applied = system.run("alerts", "apply", str(CHECKOUT / "rules" / "presets.toml"))
            assert applied.returncode == 0, applied.stderr
            (folder / "lively.toml").write_text(LIVELY)
            applied = system.run("alerts", "apply", str(folder / "lively.toml"))
            assert applied.returncode == 0, applied.stderr
            first = system.query("SELECT max(first_minute) FROM perp_rules")[0][0]
            print(f"first minute {(first - begin_ms) // MINUTE_MS} minutes after the begin")
            make_trouble(system, simulator)
            end = first + MINUTES * MINUTE_MS
            until(lambda: system.query("SELECT minute FROM perp_alert_cursor")[0][0] >= end, 60 + MINUTES * 10)
            compare(system, first, end)
        finally:
            system.down()
            simulator.stop()


def give_history(system: Installation, simulator: Simulator) -> None:
    """Fetch what the presets look back on; store the liquidations as if their streams had run, as no exchange has them.

    The streams have to run before, or the minutes between would be a hole.
    """
    start = settled_end(HOUR_MS) - LOOK_BACK_MS
    done = system.run("seed", "--since", str(start), "--metrics", "ohlcv,fr,oi,lsr,pfr")
    assert done.returncode == 0, done.stderr
    symbols = COINS.split(",")
    sources = [f"{code}-lq" for code in EXCHANGES.values()]
    live = "SELECT count(*) FROM perp_coverage WHERE source = ANY(%s) AND NOT isempty(covered)"
    until(lambda: system.query(live, sources)[0][0] == len(sources) * len(symbols), 300)
    end = floor_to(now_ms(), MINUTE_MS) - 2 * MINUTE_MS
    rows, answers = [], []
    for exchange, code in EXCHANGES.items():
        for symbol in symbols:
            series = Series(f"{code}-lq", symbol)
            truth = simulator.truth(exchange, "lq", symbol, start, end)
            rows += [(series, Liquidations(ts, Decimal(one["lql"]), Decimal(one["lqs"]))) for ts, one in truth.items()]
            answers.append(Covered(series, [Window(start, end)]))
    database = Database(system.database_url)
    try:
        Writer(database).write([Batch("lq", "1m", group_rows(rows))], answers)
    finally:
        database.close()
    fetched = [f"{code}-{metric}" for code in EXCHANGES.values() for metric in ("ohlcv", "oi", "lsr", "pfr")]
    until(lambda: all(system.covers(source, symbols, start, end - 15 * MINUTE_MS) for source in fetched), 300)


def make_trouble(system: Installation, simulator: Simulator) -> None:
    """Drop sockets, lose closing bars, send others late, break requests; keep one exchange away for a while."""
    for kind, share in REST_FAULTS:
        simulator.fault(kind=kind, probability=share, seconds=2)
    simulator.fault(kind="lost_close", probability=0.1)
    simulator.fault(kind="late_bars", probability=0.1, seconds=45)
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
    reported = system.query(
        "SELECT id, rule, state, values, reason FROM perp_transitions WHERE minute >= %s AND minute < %s", first, end
    )
    for line in sorted(
        f"{rule} {state}: {count}" for (rule, state), count in Counter(t[1:3] for t in reported).items()
    ):
        print(line)
    database = Database(system.database_url)
    different = {}
    count = 0
    try:
        for stored in database.run(records.list_rules):
            if stored.file not in FILES:
                continue
            count += 1
            window = Window(first, end)
            replayed = database.run(lambda cursor: replay_rule(cursor, stored.rule, window))  # noqa: B023
            live = {id_: values for id_, rule, _, values, _ in reported if rule == stored.rule.name}
            again = {one.id: dict(one.values) for one, _ in replayed.transitions}
            if live != again:
                apart = sum(live[id_] != again[id_] for id_ in live.keys() & again.keys())
                only = len(live.keys() - again.keys()), len(again.keys() - live.keys())
                different[stored.rule.name] = (len(live), len(again), *only, apart)
            print(f"{stored.rule.name}: {len(live)} live, {len(again)} replayed, {len(replayed.late)} late")
            made_up = [one for one in reported if one[1] == stored.rule.name and not is_founded(stored.rule, *one[2:])]
            assert made_up == [], "transitions that come from absence"
    finally:
        database.close()
    assert different == {}, "rule: live, replayed, only live, only replayed, with other values"
    assert count == len(PRESETS) + LIVELY.count("[[rule]]")
    fired = {rule for _, rule, state, *_ in reported if state == "firing"}
    quiet = {preset["name"] for preset in PRESETS} - fired
    assert MINUTES < 60 or quiet == set(), "presets that never fired"


def is_founded(rule, state: str, values: dict[str, str | None], reason: str) -> bool:
    """Tell whether the known values of a transition make the truth that it needs; unknown and known need none."""
    if state in ("unknown", "known") or reason:
        return True
    known = {ast.unparse(parse(text)): read(value) for text, value in values.items()}
    truth = judge(parse(rule.expr), known)
    if state in ("pending", "firing"):
        return truth is True
    return truth is False or (bool(rule.clear) and state == "resolved" and truth is not True)


def read(value: str | None) -> bool | Decimal | None:
    """Return a value of a transition."""
    return value == "true" if value in ("true", "false") else None if value is None else Decimal(value)


def parse(text: str) -> ast.expr:
    """Return an expression as Python sees it: 5% is 5/100, and a length is a text."""
    return ast.parse(re.sub(r"(\d+)([mhd])\b", r"'\1\2'", text.replace("%", "/100")), mode="eval").body


def judge(node: ast.expr, values: dict[str, Decimal | None]) -> bool | Decimal | None:
    """Work out an expression of known parts in three-valued logic."""
    text = ast.unparse(node)
    if text in values or isinstance(node, ast.Constant):
        return values[text] if text in values else Decimal(str(node.value))
    if isinstance(node, ast.UnaryOp):
        return -judge(node.operand, values)
    if isinstance(node, ast.BoolOp):
        found = [judge(part, values) for part in node.values]
        strong = isinstance(node.op, ast.Or)
        return strong if strong in found else None if None in found else not strong
    left, right = (node.left, node.comparators[0]) if isinstance(node, ast.Compare) else (node.left, node.right)
    a, b = judge(left, values), judge(right, values)
    if a is None or b is None:
        return None
    if isinstance(node, ast.Compare):
        return a > b if isinstance(node.ops[0], ast.Gt) else a < b
    known = {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b, ast.Div: a / b if b else None}
    return known[type(node.op)]
