"""Alert rules on pages and as JSON: cards, rules, history, check, preview, screen, and what the pages change."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import MINUTE_MS, Window, floor_to, now_ms
from fademoe.store.connection import Database
from fademoe.store.partitions import Partitions
from fademoe.web.model import alert_preview, screen
from tests.integration.test_alerts import Alerts, closes
from tests.support.web import BEARER

RULE = {"name": "high", "expr": "close > 100", "symbols": "BTC", "codes": "bin", "message": "{symbol} at {close}"}


@pytest.fixture
def alerts(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Alerts]:
    running = Alerts(database_url, redis_url, tmp_path)
    yield running
    running.database.close()
    running.redis.close()


def change(client: FlaskClient, path: str, body: dict[str, str], status: int = 200) -> str:
    answer = client.post(path, json=body, headers=BEARER)
    assert answer.status_code == status, answer.text
    return answer.get_json().get("done") or answer.get_json()["detail"]


def fire(alerts: Alerts) -> None:
    """Let a rule fire for BTC, in the minutes before now."""
    last = (floor_to(now_ms(), MINUTE_MS) - alerts.begin) // MINUTE_MS
    alerts.store("bin", "BTC", closes(*[90] * (last - 5), *[110] * 6))
    alerts.apply(
        '[[rule]]\nname = "high"\nexpr = "close > 100"\ncodes = ["bin"]\nsymbols = ["BTC"]\n'
        'message = "{symbol} at {close}"\n',
        last - 10,
    )
    alerts.begin_at(last - 10)
    alerts.evaluate(last)


def test_a_card_says_state_value_threshold_and_when(client: FlaskClient, alerts: Alerts):
    fire(alerts)
    answer = client.get("/api/alerts").get_json()
    card, idle = answer["cards"]
    assert (card["rule"], card["code"], card["symbol"], card["state"]) == ("high", "bin", "BTC", "firing")
    assert card["readings"] == [{"text": "close", "value": "110", "operator": ">", "threshold": "100"}]
    assert len(card["spark"]) == 60 and card["spark"][-1] == "110" and card["spark"][0] == "90"
    assert card["message"] == "BTC at 110" and card["since_ms"] and card["next_ms"] and not card["unknown"]
    assert (idle["state"], idle["idle"]) == ("inactive", 2)  # one more than are active
    page = client.get("/alerts").text
    assert "BTC at 110" in page and "&gt; 100" in page and 'class="spark"' in page
    assert client.get("/api/alerts?state=pending").get_json()["cards"] == []
    assert [one["symbol"] for one in client.get("/api/alerts?symbol=btc").get_json()["cards"]] == ["BTC"]
    found = client.get("/api/alerts/transitions?symbol=btc").get_json()["transitions"]
    assert {one["symbol"] for one in found} == {"BTC"}


def test_a_card_is_acknowledged_and_silenced(client: FlaskClient, alerts: Alerts):
    fire(alerts)
    card = client.get("/api/alerts").get_json()["cards"][0]
    change(client, "/control/acknowledge", {"alert": card["id"]})
    assert client.get("/api/alerts").get_json()["cards"][0]["acknowledged"]
    assert "is silent until" in change(client, "/control/silence", {"rule": "high", "symbol": "BTC", "hours": "3"})
    assert client.get("/api/alerts").get_json()["cards"][0]["silenced_until_ms"] > now_ms()
    ((silence,),) = alerts.query("SELECT id FROM perp_silences")
    change(client, "/control/silence-end", {"silence": str(silence)})
    assert client.get("/api/alerts/rules").get_json()["silences"] == []
    change(client, "/control/silence", {}, 400)
    assert "BTC is silent" in change(client, "/control/silence", {"symbol": "btc"})
    assert "high" in change(client, "/control/silence", {"rule": "hihg"}, 400)
    assert "allowed: bin, byb" in change(client, "/control/silence", {"code": "binance"}, 400)
    change(client, "/control/silence", {"symbol": "B C"}, 400)
    change(client, "/control/silence-end", {"silence": "999"}, 409)


def test_the_history_pages_newest_first(client: FlaskClient, alerts: Alerts):
    alerts.store("bin", "BTC", closes(*[90, 110] * 5))
    alerts.apply('[[rule]]\nname = "high"\nexpr = "close > 100"\ncodes = ["bin"]\n', 0)
    alerts.begin_at(0)
    alerts.evaluate(10)
    first = client.get("/api/alerts/transitions?limit=4").get_json()
    second = client.get(f"/api/alerts/transitions?limit=20&cursor={first['next']}").get_json()
    minutes = [one["minute"] for one in first["transitions"] + second["transitions"]]
    assert len(minutes) == 9 and minutes == sorted(minutes, reverse=True) and second["next"] is None
    assert first["transitions"][0]["values"] == {"close": "110"}
    assert client.get("/api/alerts/transitions?rule=other").get_json()["transitions"] == []
    assert "resolved" in client.get("/alerts/history").text


def test_a_rule_is_written_changed_and_removed_by_the_page(client: FlaskClient, alerts: Alerts, sql: Cursor):
    assert change(client, "/control/rule", RULE) == "rule high added"
    assert change(client, "/control/rule", {**RULE, "name": "low", "expr": "close < 1"}) == "rule low added"
    assert change(client, "/control/rule", {**RULE, "for": "5m"}) == "rule high changed"
    rules = client.get("/api/alerts/rules").get_json()["rules"]
    assert [(rule["name"], rule["file"], rule["pending"]) for rule in rules] == [
        ("high", "page.toml", 5), ("low", "page.toml", 0),
    ]  # fmt: skip
    assert change(client, "/control/rule-remove", {"rule": "high"}) == "rule high removed"
    change(client, "/control/rule-remove", {"rule": "high"}, 409)
    assert "unknown key" not in change(client, "/control/rule", {**RULE, "expr": "clsoe > 1", "for": "5"}, 400)
    assert "close" in change(client, "/control/rule", {**RULE, "expr": "clsoe > 1"}, 400)
    assert "desk" in change(client, "/control/rule", {**RULE, "channels": "desk"}, 400)
    alerts.apply('[[rule]]\nname = "mine"\nexpr = "close > 1"\n', 0)
    assert "belongs to mine.toml" in change(client, "/control/rule", {**RULE, "name": "mine"}, 409)
    assert client.post("/control/rule", json=RULE).status_code == 401


def test_the_check_names_every_fault(client: FlaskClient):
    checked = client.get("/api/alerts/check", query_string={"expr": "clsoe > 1", "message": "{c:x}"}).get_json()
    assert [fault["key"] for fault in checked["faults"]] == ["expr", "message"]
    assert checked["faults"][0]["position"] == 1 and "close" in checked["faults"][0]["valid"]
    checked = client.get("/api/alerts/check", query_string={"expr": "close  >  1"}).get_json()
    assert checked == {"faults": [], "canonical": "c > 1"}


def test_the_preview_is_what_the_rule_would_have_done(
    client: FlaskClient, alerts: Alerts, monkeypatch: pytest.MonkeyPatch
):
    alerts.store("bin", "BTC", closes(*[90, 110, 110] * 50, first=-60))
    query = {"expr": "close > 100", "code": "bin", "symbol": "BTC", "days": "1", "message": "at {high}"}
    preview = client.get("/api/alerts/preview", query_string=query).get_json()
    assert preview["firings"] == 50 and preview["reached"] == preview["until"]
    oldest = preview["transitions"][0]
    assert oldest["message"] == "at 110" and oldest["after"]["15m"] == "0"
    assert oldest["after"]["5m"] == "-0.1818181818181818181818181818181818"
    monkeypatch.setattr(alert_preview, "PREVIEW_S", 0.0)  # a minute a part
    parts = [client.get("/api/alerts/preview", query_string=query).get_json()]
    while len(parts) < 20:
        parts.append(client.get("/api/alerts/preview", query_string={**query, "part": parts[-1]["next"]}).get_json())
    assert [one for part in parts for one in part["transitions"]] == preview["transitions"][:13]
    assert client.get("/api/alerts/preview", query_string={**query, "part": "x"}).status_code == 400
    assert client.get("/api/alerts/preview", query_string={"expr": "c >"}).status_code == 400


def test_the_preview_of_derived_metrics_begins_with_their_inputs(client: FlaskClient, alerts: Alerts):
    alerts.store("bin", "BTC", closes(*[90, 110, 110] * 10, first=-60))
    alerts.store("byb", "BTC", closes(*[90] * 30, first=-60))
    query = {"expr": "x.spread_bps > 100", "code": "bin", "symbol": "BTC", "days": "1"}
    preview = client.get("/api/alerts/preview", query_string=query).get_json()
    assert preview["firings"] == 10 and preview["reached"] == preview["until"]


def test_the_screen_evaluates_all_contracts_and_sorts(client: FlaskClient, alerts: Alerts, monkeypatch):
    last = (floor_to(now_ms(), MINUTE_MS) - alerts.begin) // MINUTE_MS
    for symbol, close in (("BTC", 5), ("ETH", 7), ("XRP", None)):
        alerts.store("bin", symbol, closes(*[close] * 10, first=last - 9) if close else {})
    Partitions(Database(alerts.url)).ensure(Window(alerts.begin, now_ms()))
    found = client.get("/api/screen?expr=close*2").get_json()
    assert [(row["symbol"], row["value"]) for row in found["rows"]] == [("ETH", "14"), ("BTC", "10"), ("XRP", None)]
    assert found["unknown"] == 1 and not found["is_truth"]
    found = client.get("/api/screen?expr=close+%3E+6&order=asc&codes=bin&symbols=BTC,ETH").get_json()
    assert [row["value"] for row in found["rows"]] == ["false", "true"]
    assert client.get("/api/screen?expr=close+%3E").status_code == 400
    assert client.get("/api/screen?expr=close&codes=nyse").status_code == 400
    page = client.get("/screen?expr=close*2").text
    assert page.index("ETH") < page.index("BTC</a>")
    monkeypatch.setattr(screen, "MAX_SCREEN_ROWS", 1)  # the greatest of all, not the first contract
    assert [row["symbol"] for row in client.get("/api/screen?expr=close").get_json()["rows"]] == ["ETH"]


def test_a_card_shows_the_rank_among_the_symbols_of_the_rule(client: FlaskClient, alerts: Alerts):
    last = (floor_to(now_ms(), MINUTE_MS) - alerts.begin) // MINUTE_MS
    for symbol, close in (("BTC", 7), ("ETH", 5), ("XRP", 9)):
        alerts.store("bin", symbol, closes(*[close] * 10, first=last - 9))
    for name, symbols in (("two", '["BTC", "ETH"]'), ("all", '"all"')):
        text = f'[[rule]]\nname = "{name}"\nexpr = "rank(close) >= 0.5"\ncodes = ["bin"]\nsymbols = {symbols}\n'
        alerts.apply(text, last - 5, f"{name}.toml")
    alerts.begin_at(last - 5)
    alerts.evaluate(last)
    cards = [card for card in client.get("/api/alerts").get_json()["cards"] if card["symbol"] == "BTC"]
    assert {card["rule"]: card["readings"][0]["value"] for card in cards} == {"two": "1", "all": "0.5"}


def test_values_of_the_longest_expressions_are_shown(client: FlaskClient, alerts: Alerts):
    last = (floor_to(now_ms(), MINUTE_MS) - alerts.begin) // MINUTE_MS
    alerts.store("bin", "BTC", closes(*[7] * 10, first=last - 9))
    long = " + ".join(["close", *["1".zfill(95)] * 12])
    assert 1_000 < len(long) < 2_000
    for name, side in (("long", long), ("many", " + ".join(["close"] * 99))):
        alerts.apply(
            f'[[rule]]\nname = "{name}"\nexpr = "{side} > 1"\ncodes = ["bin"]\nsymbols = ["BTC"]\n',
            last - 5,
            f"{name}.toml",
        )
    alerts.begin_at(last - 5)
    alerts.evaluate(last)
    cards = {card["rule"]: card for card in client.get("/api/alerts").get_json()["cards"] if card["code"]}
    assert {name: card["readings"][0]["value"] for name, card in cards.items()} == {"long": "19", "many": "693"}
    assert client.get("/alerts").status_code == 200
    for expr, value in ((long, "19"), (" + ".join(["close"] * 100), "700")):
        found = client.get("/api/screen", query_string={"expr": expr}).get_json()
        assert [row["value"] for row in found["rows"]] == [value]


def test_the_pages_show_what_channels_keep_secret_as_stars(client: FlaskClient, alerts: Alerts):
    alerts.apply('[[channel]]\nname = "t"\nurl = "tgram://123:abcdef/42"\nsecret = "env:TOKEN"\n', 0)
    for path in ("/alerts/rules", "/api/alerts/rules"):
        text = client.get(path).text
        assert "abcdef" not in text and "TOKEN" not in text and "***" in text
