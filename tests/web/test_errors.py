"""Every error is a problem body with the reason, and hostile input changes nothing."""

import random
import string
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor
from redis import Redis

from tests.support.web import BEARER, cover, store_candles

BAD = [
    ("limit=0", "limit", "1 to 10000"),
    ("limit=10001", "limit", "1 to 10000"),
    ("limit=ten", "limit", "1 to 10000"),
    ("limit=-5", "limit", "1 to 10000"),
    ("order=up", "order", "desc"),
    ("format=xml", "format", "csv"),
    ("from=yesterday", "from", "ISO 8601"),
    ("to=1970-01-01", "to", "2010"),
    ("from=2026-01-02&to=2026-01-01", "to", "from=2026-01-02"),
    ("symbol=B'TC", "symbol", "BTC"),
    ("columns=o,password", "columns", "tbv"),
    ("cursor=garbage", "cursor", "next"),
    ("cursor=ZGVzYwp4Cnk", "cursor", "next"),
    ("ts=us", "ts", "iso"),
]


@pytest.mark.parametrize(("query", "parameter", "allowed"), BAD)
def test_bad_parameter_is_named_with_the_allowed_values(client: FlaskClient, query: str, parameter: str, allowed: str):
    answer = client.get(f"/api/data/bin-ohlcv?{query}")
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    body = answer.get_json()
    assert (body["status"], body["parameter"]) == (400, parameter)
    assert allowed in body["detail"]
    assert body["instance"] == "/api/data/bin-ohlcv"


RANGES = [
    "/api/data/bin-ohlcv?symbol=BTC",
    "/api/export/bin-ohlcv?symbol=BTC",
    "/api/chart/bin-ohlcv?symbol=BTC",
    "/api/certificate/bin-ohlcv?symbol=BTC",
    "/api/fill/bin-ohlcv?symbol=BTC",
    "/api/compare?symbol=BTC",
    "/api/alerts/transitions?limit=1",
    "/metric/ohlcv?symbol=BTC",
]


@pytest.mark.parametrize("path", RANGES)
def test_an_end_before_its_start_is_refused(client: FlaskClient, path: str):
    answer = client.get(f"{path}&from=2026-01-02&to=2026-01-01")
    body = answer.get_json()
    assert (answer.status_code, body["parameter"]) == (400, "to")
    assert "from=2026-01-02" in body["allowed"]


def test_unknown_parameter_is_refused_with_the_allowed_ones(client: FlaskClient):
    body = client.get("/api/data/bin-ohlcv?symbols=BTC").get_json()
    assert (body["status"], "symbol" in body["allowed"]) == (400, True)
    assert body["detail"].startswith("unknown parameter 'symbols'; allowed: symbol, from, to")


def test_unknown_names_are_404_with_the_allowed_ones(client: FlaskClient):
    for path, valid in (("/api/data/bin-nope", "bin-ohlcv"), ("/metric/nope", "ohlcv"), ("/api/schema/x", "perp_data")):
        answer = client.get(path)
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
        assert valid in answer.get_json()["allowed"]


def test_cursor_of_the_other_order_is_refused(client: FlaskClient, sql: Cursor, partitions: None):
    store_candles(sql, "BTC", range(5))
    cursor = client.get("/api/data/bin-ohlcv?limit=2").get_json()["next"]
    assert client.get(f"/api/data/bin-ohlcv?limit=2&order=asc&cursor={cursor}").status_code == 400


def test_wrong_method_and_unknown_path(client: FlaskClient):
    wrong = client.post("/api/data/bin-ohlcv", headers=BEARER)
    assert (wrong.status_code, wrong.mimetype) == (405, "application/problem+json")
    assert "GET" in wrong.get_json()["allowed"]
    missing = client.get("/api/nothing")
    assert (missing.status_code, missing.mimetype) == (404, "application/problem+json")
    assert missing.get_json()["detail"] == "not found: /api/nothing"
    assert client.get("/nothing").mimetype == "text/html"
    assert client.get("/nothing", headers={"Accept": "application/json"}).mimetype == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "name"),
    [("/control/trader/remove", "name"), ("/control/backtest/cancel", "id"), ("/control/rule", "name")],
)
def test_half_a_character_in_a_body_is_refused(client: FlaskClient, path: str, name: str):
    body = f'{{"{name}": "\\ud800"}}'
    answer = client.post(path, data=body, content_type="application/json", headers=BEARER)
    assert (answer.status_code, answer.get_json()["parameter"]) == (400, name)


def test_any_id_of_a_form_leads_to_an_answer(client: FlaskClient):
    answer = client.post("/control/backtest/cancel", data={"id": "a\nb&c"}, headers=BEARER)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/backtester/run?id=a%0Ab%26c")


@pytest.mark.parametrize("body", [b'{"\\ud800": 1}', b"[" * 30_000, b'{"a":' * 12_000])
def test_a_body_of_another_shape_is_refused(client: FlaskClient, body: bytes):
    answer = client.post("/control/fill", data=body, content_type="application/json", headers=BEARER)
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["/api/backtests/%00", "/api/trader/a%00/ledger", "/api/data/%00", "/metric/%00"])
def test_nul_in_a_path_is_refused(client: FlaskClient, path: str):
    answer = client.get(path)
    assert (answer.status_code, "without NUL" in answer.text) == (400, True)


def test_too_large_a_body_is_413(client: FlaskClient):
    answer = client.post("/control/fill", data={"perpspec": "x" * 100_000}, headers=BEARER)
    assert answer.status_code == 413


def test_hostile_input_gets_a_4xx_and_changes_nothing(client: FlaskClient, sql: Cursor, redis: Redis, partitions: None):
    """A thousand requests with input that is known to break programs: none crashes, none changes anything."""
    store_candles(sql, "BTC", range(3))
    cover(sql, "bin-ohlcv", "BTC", "0-3", "0-1")
    before = _state(sql, redis)
    dice = random.Random(7)
    answered: dict[int, int] = {}
    for _ in range(1000):
        method, path, body = _hostile(dice)
        signed = {"json": body, "headers": BEARER} if body else {}
        answer = client.open(path, method=method, follow_redirects=method == "GET", **signed)
        assert 400 <= answer.status_code < 500, (method, path, answer.status_code)
        if path.startswith("/api/"):
            assert answer.mimetype == "application/problem+json", path
        answered[answer.status_code] = answered.get(answer.status_code, 0) + 1
    assert {400, 401, 404} <= set(answered)
    assert _state(sql, redis) == before


SPELLS = [
    "' OR 1=1 --",
    "'; DROP TABLE perp_data; --",
    '"; DELETE FROM perp_coverage; --',
    "\x00",
    "%00",
    "../../etc/passwd",
    "..\\..\\windows",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "😀",
    "٣",
    "−1",
    "1e9",
    "0x10",
    "NaN",
    "Infinity",
    "9" * 40,
    "1_000",
    "\r\nSet-Cookie: a=b",
    "a" * 5000,
    "\u202e",
    "null",
    "[]",
    "{}",
    "%s%s%n",
]
PLACES = [
    *(f"/api/data/bin-ohlcv?{name}={{}}" for name in ("limit", "from", "to", "cursor", "order", "columns", "format")),
    *(f"/api/chart/bin-ohlcv?symbol=BTC&{name}={{}}" for name in ("from", "to", "step")),
    *(f"/api/coverage?{name}={{}}" for name in ("source", "cursor", "limit")),
    *(f"/api/units?{name}={{}}" for name in ("state", "cursor", "limit")),
    *(f"/data?{name}={{}}" for name in ("perpspec", "limit", "refresh", "from")),
    *(f"/coverage?{name}={{}}" for name in ("perpspec", "by", "columns", "view", "to")),
    "/api/data/{}",
    "/api/schema/{}",
    "/api/coverage/{}",
    "/api/export/{}",
    "/api/certificate/{}?symbol=BTC&from=2026-01-01&to=2026-01-02",
    "/api/fill/{}",
    *(f"/api/backtests/{{}}{part}" for part in ("", "/ledger", "/equity")),
    *(f"/api/trader/{{}}{part}" for part in ("", "/ledger", "/equity", "/reconciliation")),
    "/backtester/run?id={}",
    "/trader/account?name={}",
    "/api/export/bin-ohlcv?format={}",
    "/api/system-summary?{}=1",
    "/metric/{}",
    "/coverage/cell?perpspec={}",
    "/coverage/fill?perpspec={}",
    "/?state={}",
    "/?cursor={}",
    "/charts?step={}",
    "/rq/{}",
    "/rq/0/view/job/{}",
    "/rq/0/data/jobs/live/{}/8/asc/1.json",
    "/rq/0/data/jobs/live/queued/{}/asc/1.json",
    "/static/{}",
]
BODIES = [
    ("/control/apis", "state"),
    ("/control/workers", "state"),
    ("/control/fill", "perpspec"),
    ("/control/retry", "queue"),
    ("/control/retry", "error"),
    ("/control/acknowledge", "alert"),
]
CHANGES = ["/control/apis", "/control/workers", "/control/fill", "/control/retry", "/control/acknowledge", "/logout"]


def _hostile(dice: random.Random) -> tuple[str, str, dict[str, object] | None]:
    """Return a method, an address, and for a change with the token a body."""
    spell = dice.choice(SPELLS)
    if dice.random() < 0.3:
        spell += "".join(dice.choices(string.punctuation + "äß漢\u0001", k=5))
    if dice.random() < 0.15:
        return dice.choice(["POST", "PUT", "DELETE", "PATCH"]), f"{dice.choice(CHANGES)}?x={quote(spell)}", None
    if dice.random() < 0.2:
        path, name = dice.choice(BODIES)
        return "POST", path, dice.choice([{name: spell}, {spell: "on"}, {name: [spell]}, {name: {"a": spell}}])
    return "GET", dice.choice(PLACES).format(quote(spell, safe="")), None


def _state(sql: Cursor, redis: Redis) -> tuple[object, ...]:
    tables = ("perp_data", "perp_coverage", "perp_status", "perp_status_history", "perp_errors", "perpspec_schema")
    counts = []
    for table in tables:
        sql.execute(f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")
        counts.append(sql.fetchone())
    return (*counts, sorted(redis.keys()))
