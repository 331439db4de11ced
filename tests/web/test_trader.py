"""Paper accounts over the API and the pages: made, listed, switched, reset, removed."""

from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from fademoe.store import trader as store
from tests.support.web import TOKEN

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def make(admin: FlaskClient, sql: Cursor, name: str = "paper") -> None:
    sql.execute(
        "INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms)"
        " VALUES ('binance', 'bin', 'BTCUSDT', 'BTC', 1) ON CONFLICT DO NOTHING"
    )
    asked = {"name": name, "strategy": "sma_cross.py", "exchange": "binance", "symbols": "BTC"}
    made = admin.post("/control/trader/add", json=asked, headers=BEARER)
    assert made.status_code == 200, made.text


def test_an_account_is_made_listed_and_removed(client: FlaskClient, sql: Cursor):
    make(client, sql)
    listed = client.get("/api/trader").get_json()
    assert listed["on"] is True
    (account,) = listed["accounts"]
    assert (account["name"], account["equity"], account["state"]) == ("paper", "10000", "on")
    assert account["cursor"] == account["since"]
    assert account["since"] % 60_000 == 0
    shown = client.get("/api/trader/paper").get_json()["account"]
    assert shown["positions"] == []
    assert shown["file_differs"] is False
    for path in ("ledger", "equity"):
        assert client.get(f"/api/trader/paper/{path}").get_json() == {"rows": [], "next": None}
    page = client.get("/trader").get_data(as_text=True)
    assert "/trader/account?name=paper" in page
    assert "sma_cross.py" in client.get("/trader/account?name=paper").get_data(as_text=True)
    again = {"name": "paper", "strategy": "sma_cross.py", "exchange": "binance", "symbols": "BTC"}
    assert client.post("/control/trader/add", json=again, headers=BEARER).status_code == 400
    assert client.post("/control/trader/remove", json={"name": "paper"}, headers=BEARER).status_code == 200
    assert client.get("/api/trader").get_json()["accounts"] == []
    assert client.get("/api/trader/paper").status_code == 404


def test_the_switch_needs_the_token_and_stands_in_the_history(client: FlaskClient, sql: Cursor):
    assert client.post("/api/trader/off", json={"reason": "x"}).status_code == 401
    assert client.post("/api/trader/off", json={"reason": "lunch"}, headers=BEARER).get_json() == {"on": False}
    assert client.get("/api/trader").get_json()["on"] is False
    page = client.get("/trader").get_data(as_text=True)
    assert "The core trader is off" in page
    assert "lunch" in page
    assert client.post("/api/trader/on", json={}, headers=BEARER).get_json() == {"on": True}
    assert [action.action for action in store.list_actions(sql, None, 5)] == ["on", "off"]


def test_a_kill_switch_is_reset_with_a_reason(client: FlaskClient, sql: Cursor):
    make(client, sql)
    sql.execute("UPDATE perp_trader_accounts SET trip = 'daily loss 0.1 is above 0.05', trip_kind = 'daily loss'")
    assert "daily loss 0.1" in client.get("/trader/account?name=paper").get_data(as_text=True)
    refused = client.post("/control/trader/reset", json={"name": "paper"}, headers=BEARER)
    assert (refused.status_code, refused.get_json()["parameter"]) == (400, "reason")
    done = client.post("/control/trader/reset", json={"name": "paper", "reason": "seen"}, headers=BEARER)
    assert done.status_code == 200
    assert done.get_json() == {"done": "paper is on from the next minute on"}
    assert client.get("/api/trader/paper").get_json()["account"]["trip"] is None


def test_what_is_said_of_an_account_includes_the_switch_of_all(client: FlaskClient, sql: Cursor):
    make(client, sql)
    client.post("/api/trader/off", json={}, headers=BEARER)
    asked = {"name": "paper", "reason": "seen"}
    done = client.post("/control/trader/reset", json=asked, headers=BEARER).get_json()["done"]
    assert done == "paper is on from the next minute on; but the switch of all accounts is off"
    asked = {"name": "two", "strategy": "sma_cross.py", "exchange": "binance", "symbols": "BTC"}
    done = client.post("/control/trader/add", json=asked, headers=BEARER).get_json()["done"]
    assert done == "two trades on paper from the next minute on; but the switch of all accounts is off"
