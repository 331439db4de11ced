"""Lives and terms of contracts: dated changes, dead contracts, and tickers that are given to another coin."""

import json
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest
import requests

from fademoe.client import instruments
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.feeds.instrument import Instrument, Terms, Tiers
from fademoe.jobs.backfill import backfill, run_window
from fademoe.jobs.seed import SeedRequest, carry_out, make_plan
from fademoe.jobs.terms import refresh_terms
from fademoe.runtime.job_context import JobContext, use_services
from fademoe.settings import ALL_SYMBOLS
from fademoe.simulator.market.market import Market
from fademoe.simulator.market.tiers import list_tiers
from fademoe.store import coverage
from fademoe.store import instruments as store
from fademoe.store.certificate import certify
from fademoe.store.coverage import DELISTED, Series
from fademoe.store.read.terms import Tier, find_terms, list_lives, read_terms
from fademoe.web.app import create_app

SEED = 1  # of the simulator
START = 1_767_225_600_000
EXCHANGE = registry.load_exchanges()["binance"]
CAT = Instrument(
    exchange="binance",
    code="bin",
    name="1000CATUSDT",
    symbol="CAT",
    multiplier=1000,
    listed_ms=START,
    terms=Terms(tick="0.001", lot="1000", min_notional="5"),
)


def read(database, at_ms=START + 99 * DAY_MS):
    with database.open_transaction() as cursor:
        return read_terms(cursor, "bin", ["CAT"], Window(START, at_ms)).get("CAT", [])


def test_terms_are_dated_by_their_changes(database):
    def save(days, **terms):
        instrument = replace(CAT, terms=Terms(**terms))
        database.run(lambda cursor: store.save_terms(cursor, [instrument], START + days * DAY_MS))

    database.run(lambda cursor: store.save(cursor, [CAT]))
    save(1, tick="0.0010", lot="1000", min_notional="5")
    save(2, tick="0.001", lot="1000.0", min_notional="5")  # the same
    save(3, funding_hours=4)
    save(4, tiers=Tiers(unit="quote", steps=(("5000", "0.01"), ("20000", "0.02"))))
    save(5, tick="0.001", lot="2000", min_notional="5")
    save(6, funding_hours=4, tiers=Tiers(unit="quote", steps=(("5000", "0.01"), ("20000", "0.02"))))
    terms = read(database)
    assert [(each.since_ms - START) // DAY_MS for each in terms] == [1, 3, 4, 5]
    assert [each.lot for each in terms] == [1000, 1000, 1000, 2000]
    last = terms[-1]
    assert (last.tick, last.min_notional, last.funding_hours, last.multiplier) == (Decimal("0.001"), 5, 4, 1000)
    assert last.tiers == (Tier(Decimal(5000), Decimal("0.01")), Tier(None, Decimal("0.02")))
    assert last.tier_unit == "quote"
    assert [each.tiers for each in terms] == [last.tiers] * 4, "what is reported later holds before, too"
    assert [each.funding_hours for each in terms] == [4] * 4
    assert read(database, START + 3 * DAY_MS) == terms[:1]
    assert find_terms(terms, START) == (terms[0], True)
    assert find_terms(terms, START + 4 * DAY_MS + 1) == (terms[2], False)
    assert find_terms([], START) == (None, True)
    with database.open_transaction() as cursor:
        window = Window(START + 4 * DAY_MS + 1, START + 5 * DAY_MS + 1)
        assert read_terms(cursor, "bin", ["CAT"], window) == {"CAT": terms[2:]}
        assert read_terms(cursor, "bin", ["CAT"], Window(0, 1)) == {"CAT": terms[:1]}, "the first ones hold before"


def test_a_later_life_has_its_own_terms_from_its_listing_on(database):
    """They were told two days after it; until then those of the dead contract held."""

    def store_lives(cursor):
        for life, listed, reported, lot in ((1, 0, 1, 1000), (2, 10, 12, 5)):
            cursor.execute(
                "INSERT INTO perp_lives (exchange, code, instrument, symbol, life, listed_ms)"
                " VALUES ('binance', 'bin', '1000CATUSDT', 'CAT', %s, %s)",
                (life, START + listed * DAY_MS),
            )
            cursor.execute(
                "INSERT INTO perp_terms (code, instrument, life, since_ms, multiplier, contract_value, lot)"
                " VALUES ('bin', '1000CATUSDT', %s, %s, 1, 1, %s)",
                (life, START + reported * DAY_MS, lot),
            )

    database.run(store_lives)
    terms = read(database)
    reported = [((each.since_ms - START) // DAY_MS, each.life, each.lot, each.is_assumed) for each in terms]
    assert reported == [(1, 1, 1000, False), (10, 2, 5, True), (12, 2, 5, False)]
    assert find_terms(terms, START + 11 * DAY_MS) == (terms[1], True)
    with database.open_transaction() as cursor:
        window = Window(START + 11 * DAY_MS, START + 99 * DAY_MS)
        assert read_terms(cursor, "bin", ["CAT"], window) == {"CAT": terms[1:]}


class Relisted:
    """The exchange's list with one contract at the given times, and a clock."""

    def __init__(self, services, name):
        self.services, self.name = services, name
        self.now_ms = services.rest.read_server_now_ms(EXCHANGE)

    def send(self, exchange, request, **options):
        body = self.services.rest.send(exchange, request, **options)
        for item in body["symbols"] if isinstance(body, dict) else ():
            if item["symbol"] == self.name:
                item |= {"onboardDate": self.listed_ms, "deliveryDate": self.delisted_ms or 4_133_404_800_000}
        return body

    def refresh(self, listed_ms, delisted_ms=None):
        self.listed_ms, self.delisted_ms = listed_ms, delisted_ms
        rest = SimpleNamespace(send=self.send, read_server_now_ms=lambda exchange: self.now_ms)
        instruments.refresh(EXCHANGE, rest, self.services.database)

    def lives(self):
        with self.services.database.open_transaction() as cursor:
            found = list_lives(cursor, codes=["bin"])
        return [each for each in found if each.instrument == self.name]


@pytest.fixture
def relisted(system):
    services = system.context()
    yield Relisted(services, "ETHUSDT")
    services.close()


def store_close(system, price, ts):
    system.query(
        "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v) VALUES"
        " (%s, 'ETH', 'bin-ohlcv', '1m', %s, %s, %s, %s, 1) RETURNING 1",
        ts,
        *[price] * 4,
    )


@pytest.mark.parametrize(
    ("pause_days", "factor", "symbols"),
    [(2, 1, ["ETH", "ETH"]), (2, 10, ["ETH", "ETH_2"]), (40, 1, ["ETH", "ETH_2"])],
)
def test_a_ticker_that_is_given_to_another_coin_gets_another_symbol(system, relisted, pause_days, factor, symbols):
    """Two coins are never in one series; a pause of the same coin makes no other symbol of it."""
    listed_ms = floor_to(relisted.now_ms, HOUR_MS) - 3 * HOUR_MS
    ended_ms = listed_ms - pause_days * DAY_MS
    relisted.refresh(START - 800 * DAY_MS, ended_ms)
    truth = system.simulator.truth("binance", "ohlcv", "ETH", listed_ms, listed_ms + HOUR_MS)
    price = truth[min(truth)]["o"]
    relisted.services.writer.make_room([ended_ms - HOUR_MS])
    store_close(system, Decimal(price) / factor, ended_ms - HOUR_MS)
    for _ in range(2):
        relisted.refresh(listed_ms)
        lives = relisted.lives()
        assert [each.symbol for each in lives] == symbols
        assert [(each.life, each.listed_ms, each.delisted_ms) for each in lives] == [
            (1, START - 800 * DAY_MS, ended_ms),
            (2, listed_ms, None),
        ]
        assert [each.successor for each in lives] == [None if symbols[0] == symbols[1] else symbols[1], None]
    contracts = instruments.load_contracts(EXCHANGE, relisted.services.database)["bin"]
    assert contracts[symbols[1]].life == 2
    assert contracts["ETH"].delisted_ms == (None if symbols[1] == "ETH" else ended_ms)
    newest = system.query("SELECT symbol, listed_ms, delisted_ms FROM perp_metadata WHERE instrument = 'ETHUSDT'")
    assert newest == [(symbols[1], listed_ms, None)]


def test_a_life_before_several_stored_ones_moves_all_their_numbers(database):
    def add(cursor):
        later = [replace(CAT, life=life, listed_ms=START + life * DAY_MS) for life in (2, 1)]
        for each in later:
            store.save(cursor, [each])
        store.add_found_lives(cursor, [store.FoundLife(replace(CAT, delisted_ms=START + 1), START, START, CAT.name)])
        return [(life.life, life.listed_ms) for life in store.read_lives_of(cursor, CAT)]

    assert database.run(add) == [(1, START), (2, START + DAY_MS), (3, START + 2 * DAY_MS)]


def test_a_new_life_waits_for_its_first_price(system, relisted):
    """The coin of an announced contract is not guessed: until it trades it stays as it was."""
    listed_ms = floor_to(relisted.now_ms, MINUTE_MS) + HOUR_MS
    relisted.refresh(START, listed_ms - 2 * DAY_MS)
    relisted.refresh(listed_ms)
    assert [(each.life, each.symbol) for each in relisted.lives()] == [(1, "ETH")]
    relisted.refresh(listed_ms + 60 * DAY_MS)
    assert [(each.life, each.symbol) for each in relisted.lives()] == [(1, "ETH"), (2, "ETH_2")], (
        "after so long: another coin"
    )


def test_the_universe_of_a_day_has_its_dead_contracts(system, relisted):
    ended_ms = relisted.now_ms - 20 * DAY_MS
    relisted.refresh(START - 800 * DAY_MS, ended_ms)
    for at_ms, is_there in ((ended_ms - 1, True), (ended_ms, False), (START - 801 * DAY_MS, False)):
        with relisted.services.database.open_transaction() as cursor:
            names = {each.instrument for each in list_lives(cursor, codes=["bin"], window=Window(at_ms, at_ms + 1))}
        assert ("ETHUSDT" in names) is is_there
        assert "BTCUSDT" in names


@pytest.fixture
def running(system):
    """Return services, with which jobs run in this process, for all three exchanges."""
    for exchange in ("OKX", "BYBIT"):
        system.environment[f"FADEMOE_{exchange}_REST_URL"] = system.simulator.url
    system.environment |= {"FADEMOE_SYMBOLS": "BTC,PEPE", "FADEMOE_EXCHANGES": "binance,bybit,okx"}
    services = system.context()
    use_services(services)
    yield services
    services.close()


def read_stored(services, code, symbol):
    now_ms = services.clocks.now_ms(registry.load_exchanges()["binance"])
    with services.database.open_transaction() as cursor:
        return read_terms(cursor, code, [symbol], Window(now_ms, now_ms + DAY_MS))[symbol][-1]


def test_the_terms_of_every_exchange_are_those_of_the_simulator(running, system):
    """Lots and ticks are per coin, tiers in USDT or, of OKX, in coins; a second run adds nothing."""
    market = Market(SEED, now_ms())
    running.database.run(lambda cursor: coverage.want(cursor, [Series("okx-fr", "ADA")], START, None))
    for _ in range(2):
        for name in ("binance", "bybit", "okx"):
            instruments.refresh(registry.load_exchanges()[name], running.rest, running.database)
            refresh_terms(name)
    for name, code in (("binance", "bin"), ("bybit", "byb"), ("okx", "okx")):
        for symbol in ("BTC", "PEPE", *(("ADA",) if name == "okx" else ())):
            true = market.world.find_contract(name, symbol)
            stored = read_stored(running, code, symbol)
            assert stored.lot == Decimal(10) ** (true.unit_shift - true.lot_decimals), f"{name} {symbol}"
            assert stored.tick == true.tick * Decimal(10) ** -(true.price_decimals + true.price_shift)
            assert stored.funding_hours == market.funding.find_hours(true, now_ms())
            assert stored.min_notional == (None if name == "okx" else 5)
            tiers = list_tiers(market.seed, true)
            bounds = [tier.contracts * stored.contract_value if name == "okx" else tier.notional for tier in tiers]
            rates = [Decimal(tier.rate) / 1000 for tier in tiers]
            expected = [] if name == "binance" else list(zip([*bounds[:-1], None], rates, strict=True))
            assert [tuple(tier) for tier in stored.tiers] == expected
            assert stored.tier_unit == {"binance": None, "bybit": "quote", "okx": "coins"}[name]
    most = system.query("SELECT max(n) FROM (SELECT count(*) AS n FROM perp_terms GROUP BY code, instrument) AS t")
    assert most == [(3,)], "the list, tiers and intervals tell once each"
    assert system.query("SELECT message FROM perp_errors") == []


def test_a_short_list_of_funding_intervals_is_no_change_of_them(running, system, monkeypatch):
    """Who is not on the list settles every eight hours; one whom a single answer, or half a list, lacks does not."""
    monkeypatch.setitem(system.environment, "FADEMOE_SYMBOLS", "all")
    services = system.context()
    use_services(services)
    instruments.refresh(EXCHANGE, services.rest, services.database)
    names = ["ADAUSDT", "BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
    send, listed = services.rest.send, []

    def answer(exchange, request, **options):
        body = send(exchange, request, **options)
        return (
            [{"symbol": name, "fundingIntervalHours": 4} for name in listed] if "fundingInfo" in str(request) else body
        )

    def refresh(*names):
        listed[:] = names
        refresh_terms("binance")
        rows = system.query(
            "SELECT DISTINCT ON (instrument) instrument, funding_hours FROM perp_terms"
            " WHERE funding_hours IS NOT NULL ORDER BY instrument, since_ms DESC"
        )
        return [name for name, hours in rows if hours == 4]

    monkeypatch.setattr(services.rest, "send", answer)
    assert refresh(*names) == names
    assert refresh() == refresh() == names
    assert refresh(*names[:2]) == refresh(*names[:2]) == names, "so many do not change at once"
    monkeypatch.setattr(instruments, "MASS_DELISTING_MS", 0)
    assert refresh(*names[:2]) == names[:2], "they have changed for long enough"
    monkeypatch.undo()
    monkeypatch.setattr(services.rest, "send", answer)
    assert refresh(*names) == names
    assert refresh(*names[1:]) == names
    assert refresh(*names) == names
    assert refresh(*names[1:]) == names
    assert refresh(*names[1:]) == names[1:], "two answers in a row lack it"
    assert refresh(*names) == names
    messages = {message for (message,) in system.query("SELECT message FROM perp_errors")}
    assert messages == {"a list without any contract", "4 contracts vanished at once: their terms stay"}
    services.close()


def test_tiers_that_need_a_key_are_imported_from_a_file(running, system, tmp_path):
    path = tmp_path / "brackets.json"
    bracket = {"bracket": 1, "notionalCap": 50000, "maintMarginRatio": 0.004}
    path.write_text(
        json.dumps([{"symbol": "BTCUSDT", "brackets": [bracket]}, {"symbol": "GONE", "brackets": [bracket]}])
    )
    done = system.run("tiers", str(path))
    assert (done.returncode, done.stdout) == (0, "tiers of 1 contracts of binance; 1 others left out\n"), done.stderr
    stored = read_stored(running, "bin", "BTC")
    assert (stored.tiers, stored.tier_unit) == ((Tier(None, Decimal("0.004")),), "quote")
    assert stored.lot == Decimal("0.001")
    path.write_text("{}")
    assert system.run("tiers", str(path)).returncode == 2
    assert system.run("tiers", str(path), "--exchange", "okx").returncode == 2


def test_a_reused_ticker_is_two_symbols_everywhere(running, system):
    """Over lists, seed, rows, certificates, API and charts, on a day that has both coins."""
    exchange, minute_ms = EXCHANGE, floor_to(now_ms(), MINUTE_MS)
    ended_ms, listed_ms = minute_ms - 12 * HOUR_MS, minute_ms - 9 * HOUR_MS
    since_ms = floor_to(ended_ms - 2 * HOUR_MS, HOUR_MS)
    change = {"exchange": "binance", "instrument": "RUNEUSDT"}

    def put(**members):
        requests.post(f"{system.simulator.url}/sim/contracts", json=change | members, timeout=60).raise_for_status()
        instruments.refresh(exchange, running.rest, running.database)

    try:
        put(delisted_ms=ended_ms)
        again = {"halted_from_ms": ended_ms, "halted_until_ms": listed_ms, "shown_listed_ms": listed_ms}
        put(delisted_ms=None, relisted_factor=7, **again)
        contracts = instruments.load_contracts(exchange, running.database)["bin"]
        assert (contracts["RUNE"].delisted_ms, contracts["RUNE_2"].listed_ms) == (ended_ms, listed_ms)
        request = SeedRequest(
            exchanges=[exchange],
            metrics=["ohlcv", "mark", "fr"],
            symbols=["RUNE", "RUNE_2"],
            since_ms=since_ms,
            until_ms=minute_ms - HOUR_MS,
        )
        plan = make_plan(running, request)
        carry_out(running, request, plan)
        for item in plan.planned:
            assert backfill(*item.task.series, *item.task.window)["rows"] >= 0
        lives = {"RUNE": (since_ms, ended_ms), "RUNE_2": (listed_ms, minute_ms - HOUR_MS)}
        client = create_app(running.settings).test_client()
        for symbol, (start_ms, end_ms) in lives.items():
            for metric in ("ohlcv", "mark", "fr"):
                source = f"bin-{metric}"
                times = system.query(
                    "SELECT min(ts), max(ts) FROM perp_data WHERE source = %s AND symbol = %s", source, symbol
                )[0]
                assert times == (None, None) or (start_ms <= times[0] and times[1] < end_ms), f"{source} {symbol}"
                if metric != "fr":
                    found = system.query(
                        "SELECT ts, o::text, mark_o::text FROM perp_data WHERE source = %s AND symbol = %s ORDER BY ts",
                        source,
                        symbol,
                    )
                    truth = system.simulator.truth("binance", metric, "RUNEUSDT", start_ms, end_ms)
                    assert {ts: Decimal(o or mark) for ts, o, mark in found} == {
                        ts: Decimal(row.get("o") or row["mark_o"]) for ts, row in truth.items()
                    }
            with running.database.open_transaction() as cursor:
                window = Window(start_ms, floor_to(end_ms, MINUTE_MS))
                series = Series("bin-ohlcv", symbol)
                certificate = certify(cursor, series, "ohlcv", window, MINUTE_MS, sparse=False)
            assert certificate["rows"] > 100
            assert certificate["missing"] == 0
            assert set(certificate["absent"]) <= {"the exchange has no row"}
            window = f"symbol={symbol}&from={since_ms}&to={minute_ms}"
            rows = client.get(f"/api/data/bin-ohlcv?{window}&limit=5000").get_json()["rows"]
            assert {row["symbol"] for row in rows} == {symbol}
            assert len(rows) == certificate["rows"]
            points = client.get(f"/api/chart/bin-ohlcv?{window}&step=1h").get_json()
            assert len(points["ts"] if "ts" in points else points["times"]) > 0
        closes = {
            symbol: system.query("SELECT avg(c) FROM perp_data WHERE source = 'bin-ohlcv' AND symbol = %s", symbol)[0][
                0
            ]
            for symbol in lives
        }
        assert 6 < closes["RUNE_2"] / closes["RUNE"] < 8
        universe = client.get(f"/api/universe?at={ended_ms - 1}&exchange=binance").get_json()["contracts"]
        assert [each["symbol"] for each in universe if each["instrument"] == "RUNEUSDT"] == ["RUNE"]
    finally:
        names = ("delisted_ms", "halted_from_ms", "halted_until_ms", "shown_listed_ms")
        requests.post(
            f"{system.simulator.url}/sim/contracts",
            json=change | dict.fromkeys(names) | {"relisted_factor": 1},
            timeout=10,
        )


def test_a_dead_contract_is_seeded_in_its_life_only(running, system):
    """`all` alone means the contracts that trade; with the dead ones, nothing behind an end is wanted or queued."""
    instruments.refresh(EXCHANGE, running.rest, running.database)
    dead = instruments.load_contracts(EXCHANGE, running.database)["bin"]["OMG"]
    asked = {"exchanges": [EXCHANGE], "metrics": ["ohlcv"], "symbols": ALL_SYMBOLS}
    since_ms = floor_to(dead.delisted_ms, DAY_MS) - 3 * DAY_MS
    alive = make_plan(running, SeedRequest(**asked, since_ms=since_ms, until_ms=None))
    request = SeedRequest(**asked, since_ms=since_ms, until_ms=None, with_dead=True)
    plan = make_plan(running, request)
    series = Series("bin-ohlcv", "OMG")
    assert set(plan.requested) - set(alive.requested) == {series}
    end_ms = floor_to(dead.delisted_ms - 1, DAY_MS) + 2 * DAY_MS
    assert plan.requested[series].end_ms == end_ms
    windows = [item.task.window for item in plan.planned if item.task.series == series]
    assert windows and max(window.end_ms for window in windows) <= end_ms
    only = replace(plan, requested={series: plan.requested[series]}, planned=(), periods=())
    carry_out(running, request, only)
    wanted = system.query("SELECT wanted::text FROM perp_coverage WHERE source = 'bin-ohlcv' AND symbol = 'OMG'")
    assert wanted == [(f"{{[{since_ms},{end_ms})}}",)]


def test_the_commands_tell_dead_contracts_and_the_universe_of_a_day(running, system):
    dead = json.loads(system.run("symbols", "--dead", "--json").stdout)
    binance = [each for each in dead if each["code"] == "bin"]
    assert [(each["symbol"], each["instrument"], each["evidence"]) for each in binance] == [("OMG", "OMGUSDT", "list")]
    ended = binance[0]["until"]
    before = json.loads(system.run("universe", "--at", "2024-05-01", "--exchange", "binance", "--json").stdout)
    assert {"OMG", "BTC"} <= {each["symbol"] for each in before}
    assert {each["exchange"] for each in before} == {"binance"}
    after = system.run("universe", "--at", ended, "--exchange", "binance")
    assert " BTCUSDT " in after.stdout
    assert "OMGUSDT" not in after.stdout
    assert system.run("universe", "--exchange", "nobody").returncode == 2
    refused = system.run("seed", "--days", "1", "--symbols", "BTC", "--dead")
    assert (refused.returncode, "--symbols all" in refused.stderr) == (2, True)


def test_the_minutes_after_an_end_are_absent_for_that_reason(running, system):
    """The whole day is requested, because lists err by hours: a certificate is the same by files and by REST."""
    instruments.refresh(EXCHANGE, running.rest, running.database)
    end_ms = instruments.load_contracts(EXCHANGE, running.database)["bin"]["OMG"].delisted_ms
    series, window = Series("bin-ohlcv", "OMG"), Window(end_ms - 2 * HOUR_MS, floor_to(end_ms, DAY_MS) + DAY_MS)
    run_window(JobContext(services=running), series, window)
    assert system.differences("binance", *series, *window) == []
    reasons = "SELECT start_ms, end_ms, reason FROM perp_absence WHERE source = %s AND symbol = %s AND end_ms > %s"
    assert system.query(reasons, *series, end_ms) == [(end_ms, window.end_ms, DELISTED)]
