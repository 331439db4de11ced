"""What the channels send to a receiver, how they take its answers, and that no secret is ever shown."""

import json
import logging
import socket
import threading
import time
from contextlib import suppress

import pytest

from fademoe.alerts import channels
from fademoe.alerts.channels import Message, Outcome, send
from fademoe.alerts.messages import Transition
from tests.support.receiver import Receiver

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # apprise's own
NOW = 1_795_000_100_000
SECRET = "tk-5up3r5ecret"


def transition(symbol, state="firing", message="", severity="critical"):
    about = {"rule": "oi-surge", "version": "abc", "code": "bin", "minute": 1_795_000_020_000}
    return Transition(id=f"{symbol}{state}", symbol=symbol, state=state, severity=severity, message=message, **about)


MESSAGE = Message(
    webhook_id="msg-1",
    body=b"{}",
    transitions=[transition("BTC", message="OI of BTC: +4 %"), transition("币安人生", "resolved", "over – schön")],
)
LINES = "firing: OI of BTC: +4 % (2026-11-18T11:08:00Z)\nresolved: over – schön (2026-11-18T11:08:00Z)"


@pytest.fixture
def receive(request):
    """Return what starts a receiver with these answers; it ends with the test."""

    def start(*status, **options):
        receiver = Receiver(lambda number: status[min(number, len(status)) - 1] if status else 200, **options)
        request.addfinalizer(receiver.close)
        return receiver

    return start


def netloc(receiver):
    return receiver.url.removeprefix("http://")


def test_ntfy_has_title_priority_token_and_the_text_as_body(receive):
    receiver = receive()
    outcome = send(f"ntfy://{netloc(receiver)}/desk", "env:TOKEN", MESSAGE, NOW, {"TOKEN": SECRET})
    assert outcome == Outcome(status=200)
    (request,) = receiver.requests
    assert request.path == "/desk" and request.body.decode() == LINES
    assert request.headers["title"] == "FIRING/RESOLVED oi-surge: BTC bin, ???? bin"  # a header is ASCII
    assert request.headers["priority"] == "5" and request.headers["x-message-id"] == "msg-1"
    assert request.headers["authorization"] == f"Bearer {SECRET}"


def test_telegram_has_the_chat_and_title_and_text_cut_to_its_length(receive, monkeypatch):
    receiver = receive()
    monkeypatch.setattr(channels, "TELEGRAM_URL", receiver.url)
    many = Message(webhook_id="m", body=b"", transitions=[transition("BTC", message="x" * 900)] * 9)
    assert send("env:BOT", "", MESSAGE, NOW, {"BOT": f"tgram://123:{SECRET}/-100200"}).is_delivered
    assert send(f"tgram://123:{SECRET}/-100200", "", many, NOW, {}).is_delivered
    first, second = receiver.requests
    assert first.path == f"/bot123:{SECRET}/sendMessage"
    assert first.headers["content-type"] == "application/json"
    body = json.loads(first.body)
    assert body["chat_id"] == "-100200"
    assert body["text"] == f"FIRING/RESOLVED oi-surge: BTC bin, 币安人生 bin\n{LINES}"
    assert len(json.loads(second.body)["text"]) == 4_096


def test_apprise_takes_every_other_address(receive):
    receiver = receive()
    assert send(f"json://{netloc(receiver)}/take", "", MESSAGE, NOW, {}) == Outcome()
    (request,) = receiver.requests
    body = json.loads(request.body)
    assert request.path == "/take" and body["message"] == LINES
    assert body["title"] == "FIRING/RESOLVED oi-surge: BTC bin, 币安人生 bin"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({}, Outcome(error="HTTP 429", status=429)),
        ({"headers": {"Retry-After": "7"}}, Outcome(error="HTTP 429", status=429, retry_after_s=7)),
        (
            {"headers": {"Retry-After": "Wed, 18 Nov 2026 11:08:30 GMT"}},
            Outcome(error="HTTP 429", status=429, retry_after_s=10),
        ),
        ({"headers": {"Retry-After": "soon"}}, Outcome(error="HTTP 429", status=429)),
        (
            {"headers": {"Retry-After": f"Wed, 21 Oct 2015 {'9' * 30}:28:00 GMT"}},
            Outcome(error="HTTP 429", status=429),
        ),
        ({"headers": {"Retry-After": "999999"}}, Outcome(error="HTTP 429", status=429, retry_after_s=3_600)),
    ],
)
def test_a_refusal_says_how_long_to_wait(receive, answer, outcome):
    receiver = receive(429, **answer)
    assert send(f"{receiver.url}/hook", "", MESSAGE, NOW, {}) == outcome
    assert send(f"ntfy://{netloc(receiver)}/desk", "", MESSAGE, NOW, {}) == outcome


def test_telegram_says_in_the_body_how_long_to_wait(receive, monkeypatch):
    for body, seconds in ((b'{"ok":false,"parameters":{"retry_after":35}}', 35), (b"[1]", None), (b"<html>", None)):
        receiver = receive(429, body=body)
        monkeypatch.setattr(channels, "TELEGRAM_URL", receiver.url)
        outcome = send("tgram://1:a/2", "", MESSAGE, NOW, {})
        assert outcome == Outcome(error="HTTP 429", status=429, retry_after_s=seconds)


def test_a_refusal_whose_body_cannot_be_read_is_one_all_the_same(receive, monkeypatch):
    for headers in ({"Content-Encoding": "gzip"}, {"Transfer-Encoding": "chunked"}):
        receiver = receive(429, body=b"no such thing", headers=headers)
        monkeypatch.setattr(channels, "TELEGRAM_URL", receiver.url)
        assert send("tgram://1:a/2", "", MESSAGE, NOW, {}) == Outcome(error="HTTP 429", status=429)


@pytest.mark.parametrize("part", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X"])
def test_an_answer_without_end_is_abandoned_in_time(monkeypatch, part):
    monkeypatch.setattr(channels, "ANSWER_TIMEOUT_S", 0.5)
    given_up = threading.Event()

    def drip(connection):
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" if part == b"X" else part)
            while not given_up.wait(0.05):
                connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: drip(listener.accept()[0]))
        thread.start()
        url, began_s = f"http://127.0.0.1:{listener.getsockname()[1]}", time.monotonic()
        assert send(url, "", MESSAGE, NOW, {}) == Outcome(error="no answer within 0 s")
        assert time.monotonic() - began_s < 5
        given_up.set()
        thread.join()


def test_the_case_of_a_scheme_does_not_count(receive, monkeypatch):
    receiver = receive()
    monkeypatch.setattr(channels, "TELEGRAM_URL", receiver.url)
    for url in (f"HTTP://{netloc(receiver)}/hook", f"Ntfy://{netloc(receiver)}/desk", "TGRAM://1:a/2"):
        assert send(url, "", MESSAGE, NOW, {}) == Outcome(status=200)
    assert [one.path for one in receiver.requests] == ["/hook", "/desk", "/bot1:a/sendMessage"]


def test_a_redirect_is_not_followed(receive):
    other = receive()
    receiver = receive(302, headers={"Location": f"{other.url}/elsewhere"})
    for url in (f"{receiver.url}/hook", f"ntfy://{netloc(receiver)}/desk"):
        assert send(url, "", MESSAGE, NOW, {}) == Outcome(error="HTTP 302", status=302)
    assert other.requests == []


def test_no_outcome_and_no_log_shows_a_secret(receive, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    failing = receive(500)
    urls = [
        f"http://user:{SECRET}@{netloc(failing)}/{SECRET}?key={SECRET}",
        f"ntfy://user:{SECRET}@{netloc(failing)}/{SECRET}",
        f"tgram://1:{SECRET}/2",
        f"json://user:{SECRET}@{netloc(failing)}/{SECRET}?key={SECRET}",
        f"jsons://user:{SECRET}@127.0.0.1:1/{SECRET}",
        f"http://user:{SECRET}@127.0.0.1:1/{SECRET}",
        f"nothing-known://{SECRET}",
        f"http://[{SECRET}/",
        f"ntfy://{SECRET}\n/{SECRET}",
    ]
    monkeypatch.setattr(channels, "TELEGRAM_URL", failing.url)
    for url in urls:
        for secret in (SECRET, f"whsec_{SECRET}!", f"{SECRET}\nX-Other: 1"):
            outcome = send(url, "env:KEY", MESSAGE, NOW, {"KEY": secret})
            assert not outcome.is_delivered, url
            assert SECRET not in repr(outcome), url
            outcome = send("env:URL", "", MESSAGE, NOW, {"URL": url})
            assert not outcome.is_delivered and SECRET not in repr(outcome), url
    assert SECRET not in caplog.text
    assert SECRET not in "".join(str(record.__dict__) for record in caplog.records)
