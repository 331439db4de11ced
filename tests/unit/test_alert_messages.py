"""The body of a message, its id and signature, and the text of messages."""

import base64
import hashlib
import hmac
import json
import time

import pytest

from fademoe.alerts.channels import parse_retry_after
from fademoe.alerts.ids import make_transition_id, make_webhook_id
from fademoe.alerts.messages import Transition, make_body, make_headers, sign

MINUTE = 1_795_000_020_000


def transition(state="firing", symbol="BTC", minute=MINUTE, since=None, **values):
    id_ = make_transition_id("oi-surge", "abc", "bin", symbol, minute, state)
    return Transition(
        id=id_,
        rule="oi-surge",
        version="abc",
        code="bin",
        symbol=symbol,
        minute=minute,
        state=state,
        since=since,
        message=f"OI of {symbol}",
        values=values or {"oi": "1.5", "chg(oi, 15m)": None},
    )


def test_the_body_is_alertmanagers_version_4_with_our_part():
    body = json.loads(make_body("desk", [transition()], "http://127.0.0.1:8000"))
    labels = {"alertname": "oi-surge", "code": "bin", "symbol": "BTC", "severity": "warning"}
    assert (body["version"], body["status"], body["receiver"]) == ("4", "firing", "desk")
    assert body["groupKey"] and body["groupLabels"] == {"alertname": "oi-surge"} and body["commonLabels"] == labels
    assert body["commonAnnotations"] == {"message": "OI of BTC"} and body["externalURL"] == "http://127.0.0.1:8000"
    (alert,) = body["alerts"]
    assert alert["labels"] == labels and alert["annotations"] == {"message": "OI of BTC"}
    assert (alert["status"], alert["startsAt"], alert["endsAt"]) == (
        "firing",
        "2026-11-18T11:08:00Z",
        "0001-01-01T00:00:00Z",
    )
    assert alert["generatorURL"].startswith("http://127.0.0.1:8000/alerts?rule=oi-surge") and alert["fingerprint"]
    assert body["fademoe"] == {
        "minute": MINUTE,
        "values": {"oi": "1.5", "chg(oi, 15m)": None},
        "transitions": [
            {
                "id": transition().id,
                "rule": "oi-surge",
                "version": "abc",
                "code": "bin",
                "symbol": "BTC",
                "state": "firing",
                "reason": "",
                "values": {"oi": "1.5", "chg(oi, 15m)": None},
            }
        ],
    }


def test_a_resolved_alert_has_both_times_and_the_same_fingerprint():
    (began,) = json.loads(make_body("desk", [transition()], ""))["alerts"]
    ended = transition("resolved", minute=MINUTE + 600_000, since=MINUTE)
    body = json.loads(make_body("desk", [ended], ""))
    (alert,) = body["alerts"]
    assert body["status"] == alert["status"] == "resolved"
    assert (alert["startsAt"], alert["endsAt"]) == ("2026-11-18T11:08:00Z", "2026-11-18T11:18:00Z")
    assert alert["fingerprint"] == began["fingerprint"]


def test_unknown_is_an_alert_of_its_own():
    (alert,) = json.loads(make_body("desk", [transition("unknown")], ""))["alerts"]
    (ended,) = json.loads(make_body("desk", [transition("known", minute=MINUTE + 60_000, since=MINUTE)], ""))["alerts"]
    assert alert["labels"]["state"] == ended["labels"]["state"] == "unknown"
    assert (alert["status"], ended["status"]) == ("firing", "resolved")
    assert alert["fingerprint"] == ended["fingerprint"]


def test_a_group_fires_when_any_of_it_does_and_names_what_is_common():
    body = json.loads(make_body("desk", [transition(), transition("resolved", "ETH", since=0)], ""))
    assert body["status"] == "firing" and "symbol" not in body["commonLabels"]
    assert body["commonAnnotations"] == {} and len(body["fademoe"]["transitions"]) == 2


def test_the_webhook_id_is_of_the_channel_and_all_its_transitions():
    assert make_webhook_id("desk", ["a", "b"]) == make_webhook_id("desk", ["b", "a"])
    ids = {make_webhook_id("desk", ["a"]), make_webhook_id("desk", ["a", "b"]), make_webhook_id("phone", ["a"])}
    assert len(ids) == 3


def test_the_signature_is_that_of_standard_webhooks():
    key = base64.b64encode(b"k" * 24).decode()
    expected = base64.b64encode(hmac.digest(b"k" * 24, b"msg_1.1614265330.{}", hashlib.sha256)).decode()
    assert sign("msg_1", "1614265330", b"{}", f"whsec_{key}") == f"v1,{expected}"
    plain = base64.b64encode(hmac.digest("gëheim".encode(), b"msg_1.1614265330.{}", hashlib.sha256)).decode()
    assert sign("msg_1", "1614265330", b"{}", "gëheim") == f"v1,{plain}"
    headers = make_headers("msg_1", 1_614_265_330_999, b"{}", "x")
    assert headers["webhook-timestamp"] == "1614265330" and headers["webhook-signature"].startswith("v1,")
    assert "webhook-signature" not in make_headers("msg_1", 0, b"{}", "")
    with pytest.raises(ValueError, match="base64"):
        sign("a", "1", b"", "whsec_not base64!")


def test_the_example_of_standard_webhooks():
    """The vector of the specification's own libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}', secret)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_retry_after_is_seconds_or_a_date(monkeypatch):
    assert parse_retry_after("7", 0) == 7
    assert parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 30_000) == 30
    assert parse_retry_after("999999", 0) == 3600
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        for text in ("Thu Jan  1 00:01:00 1970", "Thu, 01 Jan 1970 00:01:00", "Thu, 01 Jan 1970 00:01:00 -0000"):
            assert parse_retry_after(text, 30_000) == 30, "UTC without a word, wherever the host is"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert parse_retry_after("", 0) is None and parse_retry_after("soon", 0) is None
