"""Rules on stored rows: every closed minute once and in order, transitions and outbox in one transaction, delivery."""

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from dataclasses import replace

import psycopg2
import pytest

from fademoe.alerts import records
from fademoe.alerts.channels import send
from fademoe.alerts.conditions import read_conditions
from fademoe.alerts.files import apply_rules
from fademoe.alerts.outbox import deliver, list_due
from fademoe.alerts.program import AlertsProgram
from fademoe.alerts.replay import replay_rule
from fademoe.alerts.rules import parse_rule_file
from fademoe.clock import HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.runtime.services import connect_redis
from fademoe.settings import Settings
from fademoe.signals import StopSignal
from fademoe.store import status
from fademoe.store.connection import Database
from fademoe.store.coverage import Series, want
from fademoe.store.partitions import Partitions
from fademoe.web.model import alert_cards
from tests.support.receiver import Receiver


class Alerts:
    """The program over one database, and what is in it. Minutes are counted from `begin`, two hours ago."""

    def __init__(self, database_url: str, redis_url: str, home) -> None:
        self.url = database_url
        self.database = Database(database_url)
        settings = Settings(home=home, database_url=database_url, redis_url=redis_url)
        self.redis = connect_redis(settings)
        self.begin = floor_to(now_ms() - 2 * HOUR_MS, MINUTE_MS)
        self.settings = settings
        self.program = self.start()

    def start(self) -> AlertsProgram:
        self.program = AlertsProgram(self.settings, self.database, self.redis, StopSignal())
        return self.program

    def at(self, minute: int) -> int:
        return self.begin + minute * MINUTE_MS

    def store(self, code: str, symbol: str, closes: dict[int, object], listed: int = -10_000, delisted=None) -> None:
        """Store candles with these closes, and the contract; every minute until now is covered."""
        Partitions(self.database).ensure(Window(self.at(-60), now_ms()))
        end = floor_to(now_ms(), MINUTE_MS) + HOUR_MS

        def work(cursor) -> None:
            cursor.execute(
                "INSERT INTO perp_metadata (exchange, code, instrument, symbol, listed_ms, delisted_ms)"
                " VALUES ('x', %s, %s, %s, %s, %s)",
                (code, symbol + "USDT", symbol, self.at(listed), None if delisted is None else self.at(delisted)),
            )
            for minute, close in closes.items():
                cursor.execute(
                    "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v)"
                    " VALUES (%s, %s, %s, '1m', %s, %s, %s, %s, 1)",
                    (self.at(minute), symbol, f"{code}-ohlcv", *[close] * 4),
                )
            ranges = f"{{[{self.at(-60)},{end})}}"
            cursor.execute(
                "INSERT INTO perp_coverage (source, symbol, wanted, covered) VALUES (%s, %s, %s, %s)",
                (f"{code}-ohlcv", symbol, ranges, ranges),
            )

        self.database.run(work)

    def apply(self, text: str, minute: int, file: str = "mine.toml") -> records.Changes:
        """Apply a file as if it were that minute."""
        content = parse_rule_file(text)
        assert content.faults == ()
        return self.database.run(lambda cursor: records.apply_file(cursor, file, content, self.at(minute)))

    def evaluate(self, until: int) -> None:
        """Evaluate all minutes before one."""
        while self.query("SELECT minute FROM perp_alert_cursor")[0][0] < self.at(until):
            assert self.program.evaluate_next()

    def begin_at(self, minute: int) -> None:
        self.database.run(lambda cursor: records.move_cursor(cursor, self.at(minute)))

    def transitions(self) -> list[tuple]:
        """Return (minute, rule, code, symbol, state, reason) of all transitions, in order."""
        rows = self.query(
            "SELECT minute, rule, code, symbol, state, reason FROM perp_transitions ORDER BY minute, at, rule, state"
        )
        return [((minute - self.begin) // MINUTE_MS, *others) for minute, *others in rows]

    def deliver(self, name: str = "desk") -> int:
        return deliver(self.database, name, "http://127.0.0.1:8000", send, for_s=10)

    def make_due(self) -> None:
        """Let the pause after a failed attempt be over."""
        self.query("UPDATE perp_deliveries SET due_ms = 0 WHERE state = 'waiting' RETURNING id")

    def query(self, statement: str, *values) -> list[tuple]:
        connection = psycopg2.connect(self.url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall()
        finally:
            connection.close()


@pytest.fixture
def alerts(database_url, redis_url, tmp_path) -> Iterator[Alerts]:
    running = Alerts(database_url, redis_url, tmp_path)
    yield running
    running.database.close()
    running.redis.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def closes(*values, first: int = 0) -> dict[int, object]:
    return dict(enumerate(values, first))


RULE = """
[[rule]]
name = "high"
expr = "close > 100"
codes = ["bin"]
symbols = ["BTC"]
for = "1m"
message = "{symbol} at {close:.1f}"
"""


def test_minutes_are_evaluated_once_and_in_order_and_nothing_twice_after_a_restart(alerts):
    alerts.store("bin", "BTC", closes(90, 110, 111, 112, 90, 110, 90))
    alerts.apply(RULE, 0)
    alerts.begin_at(0)
    alerts.evaluate(4)
    alerts.start()  # as after a kill: nothing is in memory
    alerts.evaluate(7)
    expected = [(1, "pending"), (2, "firing"), (4, "resolved"), (5, "pending"), (6, "inactive")]
    assert [(row[0], row[4]) for row in alerts.transitions()] == expected
    values = alerts.query("SELECT state, values, message, since FROM perp_transitions ORDER BY minute")
    assert values[1] == ("firing", {"close": "111"}, "BTC at 111.0", None)
    assert values[2] == ("resolved", {"close": "90"}, "BTC at 90.0", alerts.at(2))
    done = alerts.query("SELECT minute FROM perp_alert_minutes ORDER BY minute")
    assert [minute for (minute,) in done] == [alerts.at(minute) for minute in range(7)]
    alerts.begin_at(0)  # even a cursor that was set back makes nothing twice
    alerts.start()
    alerts.query("DELETE FROM perp_alert_states RETURNING 1")
    alerts.evaluate(7)
    assert [(row[0], row[4]) for row in alerts.transitions()] == expected


def test_a_replay_of_the_range_is_what_live_evaluation_did_and_full_knowledge_stands_apart(alerts):
    alerts.store("bin", "BTC", closes(90, 110, 111, 90, 110) | closes(*[111] * 70, first=6))
    alerts.apply(RULE, 0)
    alerts.begin_at(0)
    alerts.evaluate(70)
    late = alerts.at(5)  # a minute that live evaluation found absent
    alerts.query(
        "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v)"
        " VALUES (%s, 'BTC', 'bin-ohlcv', '1m', 90, 90, 90, 90, 1) RETURNING 1",
        late,
    )
    alerts.query(
        "INSERT INTO perp_late (source, symbol, ts, arrived_ms) VALUES ('bin-ohlcv', 'BTC', %s, %s) RETURNING 1",
        late,
        now_ms() + 1_000,
    )
    for first in (0, 2, 5, 65):  # from the first minute, in the middle, behind a snapshot of a whole hour
        window = Window(alerts.at(first), alerts.at(70))
        rule = alerts.database.run(records.list_rules)[0].rule
        replayed = alerts.database.run(lambda cursor: replay_rule(cursor, rule, window))  # noqa: B023
        found = [((one.minute - alerts.begin) // MINUTE_MS, one.state) for one, _ in replayed.transitions]
        assert found == [(row[0], row[4]) for row in alerts.transitions() if row[0] >= first], first
        if first == 0:
            late_ones = {(change.transition.state, change.is_added) for change in replayed.late}
            assert late_ones == {("inactive", True), ("firing", False), ("pending", True), ("firing", True)}
            assert replayed.transitions[0].after["5m"] is not None


@pytest.mark.parametrize("broken", [{"expr": "gone.c > 1"}, {"clear": "none > 1"}, {"message": "{gone.c}"}])
def test_a_rule_whose_words_left_the_language_costs_no_other_rule(alerts, caplog, broken):
    alerts.store("bin", "BTC", closes(*[101] * 20))
    alerts.begin_at(0)
    first, second = RULE.replace('"high"', '"old"'), RULE
    alerts.apply(first + second, 0)
    alerts.evaluate(3)
    ((spec,),) = alerts.query("SELECT spec FROM perp_rules WHERE name = 'old'")
    changed = "UPDATE perp_rules SET spec = %s WHERE name = 'old' RETURNING id"
    alerts.query(changed, json.dumps(spec | broken))
    alerts.start()
    alerts.evaluate(6)
    alerts.query("UPDATE perp_data SET c = 99 WHERE ts >= %s RETURNING ts", alerts.at(6))
    alerts.evaluate(7)
    with alerts.database.open_transaction() as cursor:
        cards = alert_cards.list_cards(cursor, alert_cards.CardFilter()).cards
    found = sorted((card.rule, card.state) for card in cards if card.code)
    assert found == [("high", "resolved"), ("old", "firing")]
    assert [record.getMessage().split(":")[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "rule old is not evaluated, apply it again or remove it"
    ]
    alerts.apply(second, 9)
    alerts.evaluate(11)
    *_, last = (one for one in alerts.transitions() if one[1] == "old")
    assert last == (9, "old", "bin", "BTC", "resolved", "removed")
    assert [one[4] for one in alerts.transitions() if one[1] == "high"] == ["pending", "firing", "resolved"]


def test_a_hole_holds_the_state_and_is_told_after_sixteen_minutes(alerts):
    alerts.store("bin", "BTC", closes(110, 110, 110) | closes(90, first=30))
    alerts.apply(RULE, 0)
    alerts.begin_at(0)
    alerts.evaluate(31)
    assert [(row[0], row[4]) for row in alerts.transitions()] == [
        (0, "pending"), (1, "firing"), (18, "unknown"), (30, "known"), (30, "resolved"),
    ]  # fmt: skip


def test_only_listed_contracts_have_an_instance_and_a_delisted_one_resolves(alerts):
    alerts.store("bin", "BTC", closes(*[110] * 10), delisted=5)
    alerts.store("bin", "ETH", closes(*[110] * 10), listed=7)
    alerts.apply(RULE.replace('["BTC"]', '"all"').replace("1m", "0m"), 0)
    alerts.begin_at(0)
    alerts.evaluate(9)
    assert [(row[0], *row[3:]) for row in alerts.transitions()] == [
        (0, "BTC", "firing", ""), (5, "BTC", "resolved", "delisted"), (7, "ETH", "firing", ""),
    ]  # fmt: skip


def test_a_changed_rule_resolves_what_fires_and_begins_again_a_changed_message_does_not(alerts):
    alerts.store("bin", "BTC", closes(*[110] * 12))
    alerts.apply(RULE, 0)
    alerts.begin_at(0)
    alerts.evaluate(4)
    assert alerts.apply(RULE.replace("{symbol} at", "now {symbol} at"), 4).altered == ("high",)
    alerts.evaluate(6)
    assert alerts.apply(RULE.replace("100", "105"), 6).changed == ("high",)
    alerts.evaluate(9)
    assert alerts.apply("", 9).removed == ("high",)
    alerts.evaluate(10)
    assert [(row[0], *row[4:]) for row in alerts.transitions()] == [
        (0, "pending", ""), (1, "firing", ""), (6, "pending", ""), (6, "resolved", "changed"), (7, "firing", ""),
        (9, "resolved", "removed"),
    ]  # fmt: skip


def test_a_name_of_another_file_is_refused_and_nothing_is_changed(alerts):
    alerts.apply(RULE, 0)
    content = parse_rule_file(RULE + RULE.replace("high", "new"))
    with pytest.raises(records.RuleConflict, match=r"rule high belongs to mine\.toml"):
        apply_rules(alerts.database, "other.toml", content)
    assert alerts.query("SELECT name, file FROM perp_rules") == [("high", "mine.toml")]
    assert apply_rules(alerts.database, "mine.toml", parse_rule_file(RULE)).changes.unchanged == ("high",)


CHANNEL = """
[[channel]]
name = "desk"
url = "{url}/hook"
secret = "env:DESK_SECRET"
max_age = "31d"
"""


def with_channel(url: str, **keys: str) -> str:
    extra = "\n".join(f"{key} = {value}" for key, value in keys.items())
    return RULE.replace("1m", "0m") + 'channels = ["desk"]\n' + CHANNEL.replace("{url}", url) + extra


def test_what_fires_and_resolves_is_delivered_signed_in_order_and_once(alerts, receiver, monkeypatch):
    monkeypatch.setenv("DESK_SECRET", "whsec_" + base64.b64encode(b"k" * 24).decode())
    alerts.store("bin", "BTC", closes(90, 110, 111, 90))
    alerts.apply(with_channel(receiver.url), 0)
    alerts.begin_at(0)
    alerts.evaluate(5)
    assert alerts.deliver() == 2 and alerts.deliver() == 0
    first, second = receiver.requests
    assert [one.message["status"] for one in (first, second)] == ["firing", "resolved"]
    assert first.path == "/hook" and first.message["fademoe"]["minute"] == alerts.at(1)
    assert first.transitions[0]["values"] == {"close": "110"}
    for one in (first, second):
        signed = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.body
        expected = "v1," + base64.b64encode(hmac.digest(b"k" * 24, signed, hashlib.sha256)).decode()
        assert one.headers["webhook-signature"] == expected
    assert alerts.query("SELECT DISTINCT state FROM perp_outbox") == [("delivered",)]


def test_a_channel_that_was_told_of_a_firing_is_told_of_its_end_though_the_rule_names_it_no_more(alerts, receiver):
    alerts.store("bin", "BTC", closes(90, *[110] * 5, 90, 110))
    other = CHANNEL.replace("desk", "other").replace("{url}", receiver.url)
    text = (with_channel(receiver.url) + other).replace('secret = "env:DESK_SECRET"\n', "")
    alerts.apply(text, 0)
    alerts.begin_at(0)
    alerts.evaluate(3)
    assert alerts.deliver() == 1
    moved = text.replace('channels = ["desk"]', 'channels = ["other"]')
    assert alerts.apply(moved, 3).altered == ("high",)
    alerts.evaluate(8)
    assert alerts.deliver() == 1 and alerts.deliver("other") == 1
    reported = [(one.message["receiver"], one.transitions[0]["state"]) for one in receiver.requests]
    assert reported == [("desk", "firing"), ("desk", "resolved"), ("other", "firing")]


@pytest.mark.parametrize("is_renamed", [True, False])
def test_a_channel_that_was_removed_is_told_of_the_end_of_what_it_was_told_of_and_of_no_more(
    alerts, receiver, is_renamed
):
    alerts.store("bin", "BTC", closes(90, *[110] * 5, 90, 110, 110, 110))
    text = with_channel(receiver.url).replace('secret = "env:DESK_SECRET"\n', "")
    alerts.apply(text, 0)
    alerts.begin_at(0)
    alerts.evaluate(3)
    assert alerts.deliver() == 1
    without = RULE.replace('channels = ["desk"]\n', "")
    alerts.apply(text.replace('"desk"', '"other"') if is_renamed else without, 3)
    assert list(alerts.database.run(records.list_channels)) == (["other"] if is_renamed else [])
    alerts.evaluate(10)
    assert alerts.deliver() == 1
    reported = [(one.message["receiver"], one.transitions[0]["state"]) for one in receiver.requests]
    assert reported == [("desk", "firing"), ("desk", "resolved")]
    assert "desk" in alerts.database.run(records.list_retired_channels)
    records.forget_old(alerts.database, now_ms())
    assert alerts.database.run(records.list_retired_channels) == {}


def test_a_removed_channel_that_is_not_reached_until_max_age_is_deleted(alerts, receiver):
    alerts.store("bin", "BTC", closes(90, *[110] * 3, 90))
    text = with_channel(receiver.url).replace('secret = "env:DESK_SECRET"\n', "")
    alerts.apply(text, 0)
    alerts.begin_at(0)
    alerts.evaluate(3)
    assert alerts.deliver() == 1
    alerts.apply("", 3)
    alerts.query("UPDATE perp_alert_channels SET url = 'http://127.0.0.1:1/hook' RETURNING 1")
    alerts.evaluate(4)
    assert alerts.deliver() == 1
    alerts.query("UPDATE perp_alert_channels SET max_age_ms = 1000 RETURNING 1")
    alerts.make_due()
    assert alerts.deliver() == 0
    records.forget_old(alerts.database, now_ms())
    assert alerts.query("SELECT count(*) FROM perp_alert_channels") == [(0,)]


def test_a_channel_that_was_removed_and_told_nothing_is_gone_at_once_with_its_secret(alerts, receiver):
    alerts.store("bin", "BTC", closes(90, 90, 90))
    alerts.apply(with_channel(receiver.url), 0)
    alerts.begin_at(0)
    alerts.evaluate(3)
    alerts.apply(RULE.replace('channels = ["desk"]\n', ""), 3)
    assert alerts.query("SELECT count(*) FROM perp_alert_channels") == [(0,)]


def test_a_channel_that_comes_back_is_as_the_file_says(alerts, receiver):
    alerts.store("bin", "BTC", closes(90, *[110] * 3, 90))
    text = with_channel("http://127.0.0.1:1/hook").replace('secret = "env:DESK_SECRET"\n', "")
    alerts.apply(text, 0)
    alerts.begin_at(0)
    alerts.evaluate(4)
    alerts.apply("", 4)
    alerts.apply(text.replace("http://127.0.0.1:1/hook", receiver.url), 4, file="other.toml")
    alerts.evaluate(8)
    alerts.make_due()
    assert alerts.deliver() == 2
    reported = [(one.message["receiver"], one.transitions[0]["state"]) for one in receiver.requests]
    assert reported == [("desk", "firing"), ("desk", "resolved")]


def test_a_failed_attempt_is_repeated_with_the_same_id_and_bytes_and_the_next_waits_for_it(alerts):
    failing = Receiver(lambda number: 500 if number <= 2 else 200)
    alerts.store("bin", "BTC", closes(90, 110, 90, 90))
    alerts.apply(with_channel(failing.url).replace('secret = "env:DESK_SECRET"\n', ""), 0)
    alerts.begin_at(0)
    alerts.evaluate(4)
    assert alerts.deliver() == 1  # the resolved one waits for the firing one
    ((due_ms, attempts),) = alerts.query("SELECT due_ms, attempts FROM perp_deliveries WHERE attempts > 0")
    assert attempts == 1 and now_ms() - 1_000 < due_ms <= now_ms() + 1_000
    alerts.make_due()
    assert alerts.deliver() == 1
    alerts.make_due()
    assert alerts.deliver() == 2
    failing.close()
    ids = [(one.headers["webhook-id"], one.body) for one in failing.requests]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert [one.transitions[0]["state"] for one in failing.delivered] == ["firing", "resolved"]
    attempts = alerts.query("SELECT number, status, error FROM perp_attempts ORDER BY id")
    assert attempts == [(1, 500, "HTTP 500"), (2, 500, "HTTP 500"), (3, 200, ""), (1, 200, "")]


def test_a_receiver_with_too_many_messages_is_left_alone_by_all_of_its_channel(alerts):
    busy = Receiver(lambda number: 429 if number == 1 else 200, headers={"Retry-After": "30"})
    for symbol in ("BTC", "ETH"):
        alerts.store("bin", symbol, closes(*[90] * (1 if symbol == "BTC" else 2), *[110] * 4))
    text = with_channel(busy.url).replace('secret = "env:DESK_SECRET"\n', "").replace('["BTC"]', '["BTC", "ETH"]')
    alerts.apply(text, 0)
    alerts.begin_at(0)
    alerts.evaluate(4)
    assert alerts.deliver() == 1 and alerts.deliver() == 0
    ((channel, due_ms),) = alerts.database.run(list_due)
    assert channel == "desk" and now_ms() + 20_000 < due_ms <= now_ms() + 30_000
    alerts.make_due()
    assert alerts.deliver() == 2
    busy.close()
    assert [one.transitions[0]["symbol"] for one in busy.requests] == ["BTC", "BTC", "ETH"]


def test_an_end_has_the_labels_of_its_begin_though_the_severity_changed_meanwhile(alerts, receiver):
    alerts.store("bin", "BTC", closes(90, 110, 110, 90, 110, 110))
    text = with_channel(receiver.url).replace('secret = "env:DESK_SECRET"\n', "")
    alerts.apply(text, 0)
    alerts.begin_at(0)
    alerts.evaluate(3)
    assert alerts.apply(text.replace('for = "', 'severity = "critical"\nfor = "'), 3).altered == ("high",)
    alerts.evaluate(6)
    alerts.deliver()
    reported = [one.message["alerts"][0] for one in receiver.requests]
    assert [one["labels"]["severity"] for one in reported] == ["warning", "warning", "critical"]
    assert reported[0]["fingerprint"] == reported[1]["fingerprint"] != reported[2]["fingerprint"]


def test_what_is_too_old_is_recorded_and_not_sent_nor_is_its_end(alerts, receiver):
    alerts.store("bin", "BTC", closes(90, 110, 90) | closes(*[90] * 100, first=3) | closes(110, first=110))
    text = with_channel(receiver.url).replace('secret = "env:DESK_SECRET"\n', "").replace("31d", "30m")
    alerts.apply(text, 0)
    alerts.begin_at(0)
    alerts.evaluate(112)
    assert alerts.deliver() == 1
    assert [one.transitions[0]["state"] for one in receiver.requests] == ["firing"]
    rows = alerts.query(
        "SELECT t.minute, o.state FROM perp_outbox o JOIN perp_transitions t ON t.id = o.transition ORDER BY 1"
    )
    assert rows == [(alerts.at(1), "too old"), (alerts.at(2), "unneeded"), (alerts.at(110), "delivered")]


def test_a_silence_is_recorded_and_not_sent(alerts, receiver):
    alerts.store("bin", "BTC", closes(90, 110, 90, 110))
    text = with_channel(receiver.url).replace('secret = "env:DESK_SECRET"\n', "")
    until = alerts.at(3)
    silence = f'[[silence]]\nmatch = {{ symbol = "BTC", rule = "high" }}\nuntil = "{until}"\n'
    alerts.apply(text + silence, 0)
    alerts.begin_at(0)
    alerts.evaluate(4)
    alerts.deliver()
    assert [one.message["fademoe"]["minute"] for one in receiver.requests] == [alerts.at(3)]
    rows = alerts.query(
        "SELECT t.minute, o.state FROM perp_outbox o JOIN perp_transitions t ON t.id = o.transition ORDER BY 1"
    )
    assert rows == [(alerts.at(1), "silenced"), (alerts.at(2), "unneeded"), (alerts.at(3), "delivered")]


def test_the_transitions_of_a_rule_in_a_minute_are_one_message(alerts, receiver):
    alerts.store("bin", "BTC", closes(90, 110))
    alerts.store("bin", "ETH", closes(90, 120))
    text = with_channel(receiver.url).replace('secret = "env:DESK_SECRET"\n', "").replace('["BTC"]', '["BTC", "ETH"]')
    alerts.apply(text, 0)
    alerts.begin_at(0)
    alerts.evaluate(2)
    assert alerts.deliver() == 1
    assert [one["symbol"] for one in receiver.requests[0].transitions] == ["BTC", "ETH"]


def test_a_secret_that_is_not_set_is_named_and_tried_again(alerts, receiver):
    os.environ.pop("DESK_SECRET", None)
    alerts.store("bin", "BTC", closes(90, 110))
    alerts.apply(with_channel(receiver.url), 0)
    alerts.begin_at(0)
    alerts.evaluate(2)
    alerts.deliver()
    assert receiver.requests == []
    assert "DESK_SECRET is not set" in alerts.query("SELECT error FROM perp_attempts")[0][0]
    os.environ["DESK_SECRET"] = "now"
    alerts.make_due()
    alerts.deliver()
    os.environ.pop("DESK_SECRET")
    assert "webhook-signature" in receiver.requests[0].headers


def test_data_rules_go_through_the_same_machine(alerts):
    alerts.query("SELECT 1")
    text = '[[rule]]\nname = "down"\ndata = "workers"\nseverity = "critical"\n'
    minute = (floor_to(now_ms(), MINUTE_MS) - alerts.begin) // MINUTE_MS - 1
    alerts.apply(text, minute)
    alerts.begin_at(minute)
    alerts.evaluate(minute + 1)
    assert [row[1:5] for row in alerts.transitions()] == [("down", "", "", "firing")]


def test_conditions_are_of_enabled_exchanges_and_of_programs(alerts):
    """What FADEMOE_EXCHANGES leaves out is not collected, so it is neither late nor silent."""
    series = [("bin-ohlcv", "BTC"), ("byb-ohlcv", "BTC")]
    alerts.database.run(lambda cursor: want(cursor, [Series(*one) for one in series], 0, None))
    for unit in ("stream binance", "stream bybit", "scheduler", "alerts", "hours"):
        status.report(alerts.database, status.Report(unit=unit, state=status.State.RUNNING))
    silent = "UPDATE perp_status SET heartbeat = now() - interval '1 hour'"
    alerts.database.run(lambda cursor: cursor.execute(silent))
    settings = replace(alerts.settings, exchanges=("binance",))
    found = read_conditions(settings, alerts.database, alerts.redis)
    assert [(one.kind, one.code, one.symbol) for one in found if one.kind not in ("workers", "disk")] == [
        ("program", "", "scheduler"),
        ("stream", "bin", ""),
        ("gap", "bin", ""),
    ]
