"""Rule files: what is read, and that every fault is named with its rule, key, line and valid words."""

import pytest

from fademoe.alerts.rules import (
    ALL,
    Channel,
    MatchError,
    check_match,
    describe_rule,
    list_default_codes,
    mask_channel_url,
    parse_duration_ms,
    parse_rule_file,
    restore_rule,
)
from fademoe.alerts.state_machine import Timing

EXAMPLE = """
[[rule]]
name = "oi-surge"
expr = "chg(oi, 15m) > 3% and abs(chg(close, 15m)) < 0.5%"
codes = ["byb", "bin"]
symbols = ["ETH", "BTC"]
for = "5m"
clear = "chg(oi, 15m) < 2%"
keep_firing_for = "5m"
cooldown = "30m"
severity = "warning"
message = "OI of {symbol} on {code}: {chg(oi, 15m):.1%} in 15 minutes"
channels = ["desk"]

[[channel]]
name = "desk"
url = "https://example.org/hook"
secret = "env:DESK_SECRET"
group_wait = "5s"
max_age = "15m"

[[silence]]
match = { symbol = "BTC" }
until = "2026-12-01T00:00:00Z"
"""


def read(text):
    content = parse_rule_file(text)
    assert content.faults == ()
    return content


def faults(text):
    return [fault.describe("f.toml") for fault in parse_rule_file(text).faults]


def rule(**keys):
    lines = {"name": '"a"', "expr": '"c > 1"'} | {key.rstrip("_"): value for key, value in keys.items()}
    return "[[rule]]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items() if value)


def test_the_example_of_the_contract_is_read_as_it_is_meant():
    content = read(EXAMPLE)
    (one,) = content.rules
    assert one.codes == ("bin", "byb") and one.symbols == ("BTC", "ETH")
    assert one.timing == Timing(5, 5, 30)
    assert one.channels == ("desk",) and one.severity == "warning"
    assert content.channels == (
        Channel(
            name="desk",
            url="https://example.org/hook",
            secret="env:DESK_SECRET",
            group_wait_ms=5_000,
            max_age_ms=900_000,
        ),
    )
    assert content.silences[0].match == {"symbol": "BTC"} and content.silences[0].until_ms == 1_796_083_200_000
    assert restore_rule(describe_rule(one)) == one


def test_a_short_rule_has_defaults():
    (one,) = read(rule()).rules
    assert (one.codes, one.symbols, one.timing, one.severity) == (list_default_codes(), ALL, Timing(), "warning")
    assert one.codes == ("bin", "byb", "okx")


def test_the_version_is_of_what_decides_the_states():
    versions = {
        name: read(rule(**keys)).rules[0].version
        for name, keys in {
            "plain": {},
            "blanks": {"expr": '"c  >  1"'},
            "message": {"message": '"hello"', "severity": '"info"'},
            "expr": {"expr": '"c > 2"'},
            "for": {"for_": '"5m"'},
            "clear": {"clear": '"c < 1"'},
            "codes": {"codes": '["bin"]'},
            "symbols": {"symbols": '["BTC"]'},
            "keep": {"keep_firing_for": '"5m"'},
            "cooldown": {"cooldown": '"5m"'},
        }.items()
    }
    assert versions["plain"] == versions["blanks"] == versions["message"]
    assert len(set(versions.values())) == 8
    assert all(len(version) == 12 and int(version, 16) >= 0 for version in versions.values())


@pytest.mark.parametrize(("wait", "age", "is_refused"), [("15m", "", True), ("2m", "2m", True), ("119s", "2m", False)])
def test_a_channel_on_which_everything_is_too_old_after_its_wait_is_refused(wait: str, age: str, is_refused: bool):
    """It was correct for `check`, and no message ever left."""
    text = f'[[channel]]\nname = "desk"\nurl = "https://example.org/"\ngroup_wait = "{wait}"\n'
    reported = faults(text + (f'max_age = "{age}"\n' if age else ""))
    assert [fault.startswith("f.toml:4: channel desk, group_wait: is not below max_age") for fault in reported] == (
        [True] if is_refused else []
    )


def test_every_fault_is_listed_with_rule_key_line_position_and_valid_words():
    text = """[[rule]]
name = "Bad Name"
expr = "c >"
codes = ["bin", "nyse"]
symbols = ["BTCUSDT"]
for = "90s"
severity = "loud"
colour = "red"
channels = ["desk"]

[[rule]]
name = "second"
expr = "clsoe > 1"
clear = "c + 1"
message = "{c:.1x} {nonsense}"
cooldown = 5

[[channel]]
name = "pager"
url = "example.org"
secret = "FADEMOE_ADMIN_TOKEN"

[[silence]]
match = { coin = "BTC" }
until = "tomorrow"

[[rules]]
name = "x"
"""
    reported = faults(text)
    expected = [
        ("f.toml:2: rule Bad Name, name", "a-z"),
        ("f.toml:3: rule Bad Name, expr at character", ""),
        ("f.toml:4: rule Bad Name, codes", "'nyse'; valid are bin, byb, c-bin"),
        ("f.toml:5: rule Bad Name, symbols", "contract on BTC"),
        ("f.toml:6: rule Bad Name, for", "whole number of minutes"),
        ("f.toml:7: rule Bad Name, severity", "info, warning, critical"),
        ("f.toml:8: rule Bad Name, colour: unknown key", "name, expr"),
        ("f.toml:9: rule Bad Name, channels: unknown channel 'desk'", "pager"),
        ("f.toml:13: rule second, expr at character 1", "close"),
        ("f.toml:14: rule second, clear at character", "true or false"),
        ("f.toml:15: rule second, message at character", "format"),
        ("f.toml:16: rule second, cooldown", "not a text"),
        ("f.toml:20: channel pager, url", "ntfy://topic"),
        ("f.toml:21: channel pager, secret", "env:NAME"),
        ("f.toml:24: silence 1, match: unknown key 'coin'", "rule, code, symbol, severity"),
        ("f.toml:25: silence 1, until", "ISO 8601"),
        ("f.toml:27: rules: unknown table", "[[rule]]"),
    ]
    assert len(reported) == len(expected), reported
    for line, (begin, part) in zip(reported, expected, strict=True):
        assert line.startswith(begin) and part in line, line
    assert "FADEMOE_ADMIN_TOKEN" not in "".join(reported)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[[rule]]\nname = ", "f.toml:2: not TOML"),
        ("[rule]\nname = 'a'", "f.toml:1: rule: write [[rule]]"),
        (rule(name=""), "name: is required"),
        (rule(expr=""), "expr: is required"),
        (rule() + "\n" + rule(), "name: 'a' is used twice"),
        (rule(data='"nothing"', expr=""), "data: 'nothing' is no kind"),
        (rule(data='"stream"'), "expr: a rule with `data` has none"),
        (rule(symbols="[]"), "symbols"),
        (rule(codes="[]"), "codes: is empty"),
        (rule(clear='""'), "clear: is empty"),
        (rule(for_='"99d"'), "up to 31d"),
        ("[[channel]]\nname='a'\nurl='env:FADEMOE_X'", "belongs to FadeMoe"),
        (rule(message='"{c"'), "f.toml:4: rule a, message at character"),
        (rule(message='"{c!r}"'), "f.toml:4: rule a, message at character"),
        (rule(message='"{symbol:.1f}"'), "f.toml:4: rule a, message at character"),
        (rule(message='"' + "x" * 1001 + '"'), "f.toml:4: rule a, message at character"),
        ("a = " + "[" * 5_000 + "]" * 5_000, "f.toml:1: not TOML"),
        ("a = " + "9" * 5_000, "f.toml:1: not TOML"),
        (rule(message=r'"a\u0000b"'), "f.toml:4: rule a, message: has the character NUL"),
        ("[[channel]]\nname='a'\nurl=\"https://e.org/\\u0000\"", "f.toml:3: channel a, url: has the character NUL"),
        ('[[silence]]\nmatch={rule="\\u0000"}\nuntil=2026-12-01', "f.toml:2: silence 1, match: has the character NUL"),
        (rule(name=r'"a\n"'), "f.toml:2: rule 1, name: 'a\\n'"),
        (rule(severity='""'), "severity: is empty; valid are info, warning, critical"),
        (rule(severity="1"), "severity: 1 is not a text; valid are info, warning, critical"),
        (rule(for_="5"), "for: 5 is not a text; valid are durations such as 30s, 5m, 4h, 2d"),
        (rule(codes='"bin"'), "codes: 'bin' is not a list of texts; valid are bin, byb"),
        (rule(symbols='"BTC"'), "symbols: 'BTC' is not a list of texts; valid are \"all\" and lists of coins"),
        (rule(channels='"desk"') + "\n[[channel]]\nname='desk'\nurl='ntfy://t'", "of texts; valid are desk"),
        ('[[silence]]\nmatch={symbol="BTC"}', "silence 1, until: is required"),
        ("[[channel]]\nname='a'\nurl='http://[::1/x'", "url: 'http://***' is not an address"),
        ("[[channel]]\nname='a'\nurl='//[key'", "url: '***' is not an address"),
        ("[[channel]]\nname='a'\nurl='tgram://token'", "url: 'tgram://***' is not an address"),
    ],
)
def test_a_fault_is_named(text, part):
    assert any(part in line for line in faults(text)), faults(text)


def test_no_fault_shows_what_may_be_secret():
    for value in ('["hunter2"]', "{ key = 'hunter2' }", "'hunter2'", "'https//u:hunter2@e.org'"):
        for key in ("url", "secret"):
            reported = "".join(faults(f"[[channel]]\nname='a'\n{key}={value}"))
            assert f"channel a, {key}" in reported and "hunter2" not in reported


def test_a_silence_may_end_on_a_date():
    for until in ("2026-12-01", "2026-12-01T00:00:00", "2026-12-01T01:00:00+01:00", '"2026-12-01"'):
        (one,) = read(f'[[silence]]\nmatch={{symbol="BTC"}}\nuntil={until}').silences
        assert one.until_ms == 1_796_083_200_000


def test_durations():
    assert [parse_duration_ms(text) for text in ("30s", "5m", "4h", "2d", "0m")] == [
        30_000,
        300_000,
        14_400_000,
        172_800_000,
        0,
    ]
    for text in ("", "5", "m", "-5m", "1.5h", "5 m", "5M"):
        with pytest.raises(ValueError, match="is not a duration"):
            parse_duration_ms(text)


def test_an_address_is_shown_without_what_may_be_secret():
    assert mask_channel_url("https://user:pass@example.org/a?key=1") == "https://***@example.org/***?***"
    assert mask_channel_url("https://hooks.slack.com/services/T0/B0/x1y2") == "https://hooks.slack.com/***"
    assert mask_channel_url("http://127.0.0.1:9000/") == "http://127.0.0.1:9000/"
    assert mask_channel_url("http://127.0.0.1:9000") == "http://127.0.0.1:9000"
    assert mask_channel_url("tgram://123:abc/42") == "tgram://***"
    assert mask_channel_url("tgram://[abc/42") == "tgram://***"
    assert mask_channel_url("env:DESK_URL") == "***"
    assert mask_channel_url("ntfy://topic") == "ntfy://topic"
    assert parse_rule_file("[[channel]]\nname='t'\nurl='tgram://123456:AAx-y_z/-100'").faults == ()


def silence(match):
    return f'[[silence]]\nmatch = {{ {match} }}\nuntil = "2026-12-01"\n'


def test_a_silence_names_labels_that_transitions_have():
    """A misspelt one would silence nothing, and say nothing of it."""
    assert read(silence('symbol = "btc"')).silences[0].match == {"symbol": "BTC"}
    assert read(silence('code = "coinalyze", severity = "info"')).silences[0].match["code"] == "coinalyze"
    for match, words in (
        ('symbol = "BTCUSDT"', "silence 1, match: 'BTCUSDT' is the name of a contract on BTC"),
        ('code = "binance"', "silence 1, match: unknown code 'binance'; valid are"),
        ('severity = "crit"', "silence 1, match: 'crit' is no severity; valid are info, warning, critical"),
        ('rule = "a", symbol = "?"', "silence 1, match: '?' is not a symbol"),
    ):
        (fault,) = faults(rule() + "\n" + silence(match))
        assert words in fault
    data = '[[rule]]\nname = "d"\ndata = "server"\n'
    assert read(data + silence('rule = "d", symbol = "redis"')).silences[0].match["symbol"] == "redis"


def test_labels_are_checked_against_the_rules_in_force():
    rules = read(rule()).rules
    assert check_match({"rule": "a", "symbol": "eth"}, rules) == {"rule": "a", "symbol": "ETH"}
    decisions = {"rule": "trader-paper", "code": "bin"}
    assert check_match(decisions, rules) == decisions
    with pytest.raises(MatchError, match="no rule 'b' is in force; valid are a, trader-<paper account>"):
        check_match({"rule": "b"}, rules)
