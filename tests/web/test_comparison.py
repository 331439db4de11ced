"""One symbol over exchanges: aligned steps, and a reason for every value that is not there."""

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor

from tests.support.web import minute, store_candles
from tests.web.test_derived import list_coin, store
from tests.web.test_steps import answer

pytestmark = pytest.mark.usefixtures("partitions")


def test_steps_are_aligned_and_what_is_missing_is_named(client: FlaskClient, sql: Cursor):
    for code in ("bin", "byb", "okx"):
        list_coin(sql, code, None)
    store_candles(sql, "BTC", range(240))
    store_candles(sql, "BTC", [*range(60), *range(120, 200)], "byb-ohlcv")
    answer(sql, "bin-ohlcv", [(0, 240)])
    answer(sql, "byb-ohlcv", [(0, 200)], [(60, 120)])
    sql.execute("UPDATE perp_coverage SET wanted = int8multirange(int8range(%s, %s))", (minute(0), minute(300)))
    store(sql, "bin-fr", "fr, fr_hours", [(120, "0.0001", 8)], interval="settlement")
    answer(sql, "bin-fr", [(0, 240)])
    path = "/api/compare?symbol=BTC&columns=ohlcv.c,fr.fr,x-spread.spread_bps&step=1h&limit=4"
    body = client.get(path).get_json()
    assert [row["ts"] for row in body["rows"]] == [minute(at) for at in (180, 120, 60, 0)]
    places = {(one["perpspec"], one["column"]): at for at, one in enumerate(body["series"])}

    def read(perpspec: str, column: str) -> list[tuple]:
        values = [row["values"][places[perpspec, column]] for row in body["rows"]]
        return [(value["value"], value["complete"], value["why"]) for value in values]

    assert read("bin-ohlcv", "c") == [(str(at), True, None) for at in (239, 179, 119, 59)]
    assert read("byb-ohlcv", "c") == [
        ("199", False, None),
        ("179", True, None),
        (None, True, "absent"),
        ("59", True, None),
    ]
    assert read("bin-fr", "fr") == [
        (None, True, "no settlement"),
        ("0.0001", True, None),
        (None, True, "no settlement"),
        (None, True, "no settlement"),
    ]
    why = {one["perpspec"]: one["why_empty"] for one in body["series"]}
    assert why["okx-ohlcv"] == "not requested" and why["byb-fr"] == "not requested"
    assert why["c-bin-ohlcv"] == "no contract is listed"
    assert why["x-spread"]  # OKX lists the coin and has no row: never hidden


def test_the_page_shows_the_same(client: FlaskClient, sql: Cursor):
    store_candles(sql, "BTC", range(100))
    answer(sql, "bin-ohlcv", [(0, 100)])
    text = client.get("/compare?symbol=btc&step=1h").text
    assert "Close" in text and ">59<" in text.replace("\u2009", "")
    assert "not complete yet" in text and "Without any value here" in text
    assert client.get("/compare").status_code == 200
    assert client.get("/api/compare?columns=ohlcv.x").status_code == 400
    assert client.get("/api/compare?symbol=BTC,ETH").status_code == 400


def test_a_database_without_rows_is_told(client: FlaskClient):
    assert client.get("/api/compare").get_json()["rows"] == []
    assert "No exchange has a value" in client.get("/compare").text
