"""`fademoe alerts`: exit codes, what is printed, and the programs from a rule file to a receiver."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from fademoe.cli.alerts import alerts
from fademoe.clock import MINUTE_MS, floor_to, now_ms
from tests.support.clocks import until
from tests.support.receiver import Receiver
from tests.support.system import System

GOOD = """
[[rule]]
name = "up"
expr = "close > 1"
codes = ["bin"]
symbols = ["BTC", "NOSUCH"]
channels = ["desk"]

[[channel]]
name = "desk"
url = "https://example.org/hook?key=abcdef"
secret = "env:DESK_SECRET"
"""


def test_check_needs_no_database_and_lists_every_fault(tmp_path: Path):
    (tmp_path / "good.toml").write_text(GOOD)
    checked = CliRunner().invoke(alerts, ["check", str(tmp_path / "good.toml")], standalone_mode=False)
    assert checked.return_value == 0 and "1 rules, 1 channels: correct" in checked.output
    assert "DESK_SECRET is not set" in checked.output
    (tmp_path / "bad.toml").write_text(GOOD.replace("close > 1", "clsoe > 1").replace('["bin"]', '["nyse"]'))
    checked = CliRunner().invoke(alerts, ["check", str(tmp_path / "bad.toml")], standalone_mode=False)
    assert checked.return_value == 2
    assert (
        "bad.toml:4: rule up, expr at character 1" in checked.output and "bad.toml:5: rule up, codes" in checked.output
    )


def test_the_shipped_files_are_correct():
    for name in ("presets.toml", "data.toml"):
        path = Path(__file__).parents[2] / "rules" / name
        assert CliRunner().invoke(alerts, ["check", str(path)], standalone_mode=False).return_value == 0


def test_apply_says_what_it_changes_and_list_shows_no_secret(system: System, tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    applied = system.run("alerts", "apply", str(file))
    assert applied.returncode == 0 and "added     up" in applied.stdout, applied.stderr
    assert "NOSUCH on bin" in applied.stdout
    assert "1 unchanged" in system.run("alerts", "apply", str(file)).stdout
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "theirs.toml").write_text(GOOD)
    refused = system.run("alerts", "apply", str(tmp_path / "other" / "theirs.toml"))
    assert refused.returncode == 1 and "rule up belongs to mine.toml" in refused.stderr
    file.write_text(GOOD.replace("close > 1", "close >"))
    assert system.run("alerts", "apply", str(file)).returncode == 2
    assert system.run("alerts", "apply", str(tmp_path / "absent.toml")).returncode == 2
    silenced = system.run("alerts", "silence", "--symbol", "BTC", "--hours", "2")
    assert silenced.returncode == 0 and '{"symbol": "BTC"}' in silenced.stdout
    for wrong in (
        ("--hours", "2"),
        ("--hours", "2", "--rule", "upp"),
        ("--hours", "2", "--code", "binance"),
        ("--hours", "2", "--severity", "crit"),
        ("--hours", "2", "--symbol", "BTCUSDT"),
        *(("--hours", hours, "--symbol", "BTC") for hours in ("nan", "inf", "0", "-1", "99999999", "x")),
        ("--until", "9999-01-01", "--symbol", "BTC"),
    ):
        refused = system.run("alerts", "silence", *wrong)
        assert refused.returncode == 2 and "Traceback" not in refused.stderr, (wrong, refused.stderr)
    assert '"ETH"' in system.run("alerts", "silence", "--symbol", "eth", "--hours", "0.5").stdout
    system.query("INSERT INTO perp_silences (file, match, until_ms) VALUES ('', '{}', 361794945600000) RETURNING id")
    listed = system.run("alerts", "list", "--json")
    assert "abcdef" not in listed.stdout and "DESK_SECRET" not in listed.stdout
    described = json.loads(listed.stdout)
    assert described["rules"][0]["name"] == "up" and described["channels"][0]["secret"] == "***"
    assert described["silences"][0]["match"] == {"symbol": "BTC"}
    assert described["silences"][-1]["until"] == "2100-01-01T00:00:00Z"
    file.write_text(GOOD + '[[silence]]\nmatch = { rule = "gone" }\nuntil = "2090-01-01"\n')
    assert "silence names the rule gone, which is not in force" in system.run("alerts", "apply", str(file)).stdout
    replayed = system.run("alerts", "replay", "up", "--days", "1", "--json")
    assert json.loads(replayed.stdout)["transitions"] == []
    assert system.run("alerts", "replay", "nothing", "--days", "1").returncode == 2


@pytest.mark.waits(30)
def test_from_a_closed_bar_to_the_receiver(fast_system: System, tmp_path: Path):
    """Stream, alerts and worker-notify as supervisord runs them; every third message is refused at first."""
    receiver = Receiver(lambda number: 503 if number % 3 == 1 else 200)
    fast_system.environment |= {"FADEMOE_SYMBOLS": "BTC,ETH"}
    (tmp_path / "mine.toml").write_text(
        '[[rule]]\nname = "up"\nexpr = "close > 1"\ncodes = ["bin"]\nchannels = ["desk"]\n'
        f'[[channel]]\nname = "desk"\nurl = "{receiver.url}"\nsecret = "env:DESK_SECRET"\n'
    )
    os.environ["DESK_SECRET"] = "s"
    try:
        assert fast_system.run("alerts", "apply", str(tmp_path / "mine.toml")).returncode == 0
        for command in (("stream", "binance"), ("alerts", "run"), ("worker", "--notify")):
            fast_system.start(*command)
        until(
            lambda: {one["symbol"] for request in receiver.delivered for one in request.transitions} == {"BTC", "ETH"},
            60,
        )
    finally:
        os.environ.pop("DESK_SECRET")
        receiver.close()
    assert receiver.requests[0].status == 503
    again = [request for request in receiver.delivered if request.body == receiver.requests[0].body]
    assert again and again[0].headers["webhook-id"] == receiver.requests[0].headers["webhook-id"]
    minute = receiver.requests[0].message["fademoe"]["minute"]
    assert minute % MINUTE_MS == 0 and minute < floor_to(now_ms(), MINUTE_MS)
    ((at_ms,),) = fast_system.query("SELECT min(at_ms) FROM perp_attempts")
    assert at_ms >= minute + MINUTE_MS
