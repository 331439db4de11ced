"""GET /api/universe: the contracts of a time."""

from fademoe.clock import DAY_MS

START = 1_767_225_600_000


def test_the_universe_of_a_time_has_the_contracts_that_traded_then(client, sql):
    lives = (
        ("binance", "bin", "LITUSDT", 1, "LIT", START, START + 10 * DAY_MS),
        ("binance", "bin", "LITUSDT", 2, "LIT_2", START + 20 * DAY_MS, None),
        ("okx", "okx", "LIT-USDT-SWAP", 1, "LIT", None, None),
    )
    for life in lives:
        sql.execute(
            "INSERT INTO perp_lives (exchange, code, instrument, life, symbol, listed_ms, delisted_ms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            life,
        )

    def read(query):
        body = client.get(f"/api/universe?{query}").get_json()
        return [(each["code"], each["symbol"], each["life"]) for each in body["contracts"]]

    assert read(f"at={START}") == [("bin", "LIT", 1), ("okx", "LIT", 1)]
    assert read(f"at={START + 10 * DAY_MS}") == [("okx", "LIT", 1)], "the end is not included"
    assert read(f"at={START + 20 * DAY_MS}&exchange=binance") == [("bin", "LIT_2", 2)]
    assert read("exchange=okx") == [("okx", "LIT", 1)]
    answer = client.get("/api/universe?exchange=nobody")
    assert answer.status_code == 400
    assert "binance" in answer.get_data(as_text=True)
    contract = client.get(f"/api/universe?at={START}").get_json()["contracts"][0]
    assert (contract["listed_ms"], contract["delisted_ms"], contract["multiplier"]) == (START, START + 10 * DAY_MS, 1)
