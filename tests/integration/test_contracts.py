"""The lists of contracts: halves of them, contracts that vanish, siblings, and clocks."""

from dataclasses import replace
from pkgutil import resolve_name
from types import SimpleNamespace

import pytest

from fademoe.alerts.conditions import read_conditions
from fademoe.client import instruments
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.feeds.terms import make_terms
from fademoe.jobs import polls
from fademoe.metrics import METRICS
from fademoe.queue.chores import CHORES
from fademoe.runtime.job_context import use_services
from fademoe.store import files
from fademoe.store import instruments as store
from fademoe.streams.runner import StreamRunner
from tests.support.lines import topics_of

EXCHANGE = registry.load_exchanges()["binance"]
LIST = "/fapi/v1/exchangeInfo"


@pytest.fixture
def services(system):
    services = system.context()
    yield services
    services.close()


class Lists:
    """The exchange's list with contracts left out, at a time of the exchange's that a test sets."""

    def __init__(self, services) -> None:
        self.services = services
        self.without: tuple[str, ...] = ()
        self.odd: tuple[object, ...] = ()
        self.changes: dict[str, dict[str, object]] = {}
        self.ahead_ms = 0

    def send(self, exchange, request, **_):
        body = self.services.rest.send(exchange, request, **_)
        contracts = [
            {**item, **self.changes.get(item["symbol"], {})}
            for item in body["symbols"]
            if item["symbol"] not in self.without
        ]
        return {**body, "symbols": [*contracts, *self.odd]}

    def read_server_now_ms(self, exchange) -> int:
        return self.services.rest.read_server_now_ms(exchange) + self.ahead_ms

    def refresh(self, *without: str) -> instruments.Refreshed:
        self.without = without
        rest = SimpleNamespace(send=self.send, read_server_now_ms=self.read_server_now_ms)
        return instruments.refresh(EXCHANGE, rest, self.services.database)


def trading(services) -> set[str]:
    stored = instruments.load_contracts(EXCHANGE, services.database)["bin"].values()
    return {instrument.name for instrument in stored if instrument.delisted_ms is None}


def test_half_a_list_delists_nothing_and_is_an_error(services, system, simulator):
    """The fault: half the exchange was delisted for an hour, and what came live in it was lost."""
    instruments.refresh(EXCHANGE, services.rest, services.database)
    before = trading(services)
    for _ in range(3):
        simulator.fault(kind="half_list", exchange="binance", path=LIST, count=1)
        refreshed = instruments.refresh(EXCHANGE, services.rest, services.database)
        assert refreshed.is_partial
        assert trading(services) == before
    messages = {message for (message,) in system.query("SELECT message FROM perp_errors")}
    assert len(messages) == 1
    assert "vanished at once" in messages.pop()
    conditions = read_conditions(services.settings, services.database, services.redis)
    (alert,) = [one for one in conditions if one.kind == "drift"]
    assert alert.code == "bin" and "vanished at once: the old list stays" in alert.message
    assert not instruments.refresh(EXCHANGE, services.rest, services.database).is_partial
    assert not instruments.is_changing(EXCHANGE, services.database, 0)


def test_a_new_type_of_half_a_list_delists_nothing_and_is_an_error(system, simulator):
    """The fault: contracts of a `symbolType` that no client knew were delisted for an hour."""
    system.environment |= {"FADEMOE_BYBIT_REST_URL": simulator.url, "FADEMOE_EXCHANGES": "bybit"}
    services, bybit = system.context(), registry.load_exchanges()["bybit"]

    def list_trading() -> set[str]:
        stored = instruments.load_contracts(bybit, services.database)["byb"].values()
        return {instrument.name for instrument in stored if instrument.delisted_ms is None}

    instruments.refresh(bybit, services.rest, services.database)
    before = list_trading()
    simulator.fault(kind="unknown_type", exchange="bybit", path=bybit.instruments.path)
    for _ in range(3):
        refreshed = instruments.refresh(bybit, services.rest, services.database)
        assert len(refreshed.changed) > 10 and not refreshed.delisted
        assert list_trading() == before
    named = {message.partition(" ")[0] for (message,) in system.query("SELECT message FROM perp_errors")}
    assert named == set(refreshed.changed)
    services.close()


def test_one_odd_contract_is_named_and_costs_no_other_one(services, system, simulator):
    """The fault: a fresh installation had no contract at all, for one odd element of the list."""
    simulator.fault(kind="odd_contract", exchange="binance", path=LIST, count=1)
    instruments.refresh(EXCHANGE, services.rest, services.database)
    first = trading(services)
    assert len(system.query("SELECT 1 FROM perp_errors WHERE starts_with(message, 'element 0 is unreadable')")) == 1
    instruments.refresh(EXCHANGE, services.rest, services.database)
    whole = trading(services)
    assert first < whole and len(whole) == len(first) + 1
    for _ in range(3):  # a contract that is known stays as it is while its element is odd
        simulator.fault(kind="odd_contract", exchange="binance", path=LIST, count=1)
        assert not instruments.refresh(EXCHANGE, services.rest, services.database).delisted
    assert trading(services) == whole


def test_many_contracts_that_stay_away_for_a_day_are_delisted(services):
    lists = Lists(services)
    lists.refresh()
    gone = sorted(trading(services))[:9]
    assert lists.refresh(*gone).is_partial
    lists.ahead_ms = 2 * DAY_MS
    assert lists.refresh(*gone).delisted == gone
    assert not trading(services) & set(gone)


def test_a_contract_that_ended_at_a_time_that_is_not_told_ends_once(services):
    """Lists that tell by the status alone that a contract is over: it traded for ever, or ended again each time."""
    lists = Lists(services)
    lists.refresh()
    since_ms = lists.read_server_now_ms(EXCHANGE)
    lists.changes = {"ETHUSDT": {"status": "SETTLING"}}
    assert lists.refresh().missing == ["ETHUSDT"]
    for lists.ahead_ms in (HOUR_MS, 2 * HOUR_MS):
        lists.refresh()
        ended_ms = instruments.load_contracts(EXCHANGE, services.database)["bin"]["ETH"].delisted_ms
        assert abs(ended_ms - since_ms) < 60_000, "from the first of these lists on"
    lists.changes = {}
    lists.refresh()
    assert "ETHUSDT" in trading(services)


def test_a_new_contract_that_ended_at_a_time_that_is_not_told_has_ended(services):
    lists = Lists(services)
    lists.changes = {"ETHUSDT": {"status": "CLOSE"}}
    for lists.ahead_ms in (0, HOUR_MS):
        lists.refresh()
        assert "ETHUSDT" not in trading(services)
        ended_ms = instruments.load_contracts(EXCHANGE, services.database)["bin"]["ETH"].delisted_ms
        assert abs(ended_ms - services.rest.read_server_now_ms(EXCHANGE)) < 60_000, "by the first list"


def test_a_contract_is_delisted_when_two_lists_in_a_row_lack_it(services):
    """The fault: a contract between two pages was delisted."""
    lists = Lists(services)
    lists.refresh()
    assert lists.refresh("ETHUSDT").delisted == []
    assert instruments.is_changing(EXCHANGE, services.database, 0), "the list is fetched again soon"
    lists.refresh()
    assert lists.refresh("ETHUSDT").missing == ["ETHUSDT"]
    since_ms = lists.read_server_now_ms(EXCHANGE)
    assert "ETHUSDT" in trading(services)
    lists.ahead_ms = HOUR_MS
    assert lists.refresh("ETHUSDT").delisted == ["ETHUSDT"]
    delisted_ms = instruments.load_contracts(EXCHANGE, services.database)["bin"]["ETH"].delisted_ms
    assert abs(delisted_ms - since_ms) < 60_000, "from the first of the two lists on"
    lists.refresh()
    assert "ETHUSDT" in trading(services)


def test_a_contract_that_has_ended_as_announced_is_unlisted_when_no_list_of_a_day_has_it(services):
    lists = Lists(services)
    lists.refresh()

    def age(cursor, delisted_ms):
        cursor.execute(
            "UPDATE perp_lives SET delisted_ms = %s, seen_at = now() - interval '25 h' WHERE instrument = 'ETHUSDT'",
            (delisted_ms,),
        )

    def find_unlisted():
        with services.database.open_transaction() as cursor:
            return files.find_unlisted(cursor, "bin")

    ended_ms = now_ms() - DAY_MS
    services.database.run(lambda cursor: age(cursor, ended_ms))
    assert find_unlisted() == {("ETHUSDT", 1)}
    services.database.run(lambda cursor: age(cursor, None))
    assert find_unlisted() == set(), "it trades: it may be missing by mistake"
    lists.refresh("ETHUSDT")
    services.database.run(lambda cursor: age(cursor, ended_ms))
    lists.refresh()
    assert find_unlisted() == set(), "the list has it"


@pytest.mark.parametrize("odd", [None, [], "ETHUSDT?", {"symbol": None, "contractType": "PERPETUAL"}])
def test_a_contract_whose_name_is_odd_is_not_delisted(services, odd):
    """An unreadable element that does not say which contract it is may be the one that is missing."""
    lists = Lists(services)
    lists.refresh()
    lists.odd = (odd,)
    for lists.ahead_ms in (0, HOUR_MS, 2 * HOUR_MS):
        assert lists.refresh("ETHUSDT").delisted == []
    lists.odd = ()
    lists.refresh()
    assert "ETHUSDT" in trading(services)


def test_a_contract_that_is_listed_twice_and_not_alike_stays_as_it_is_stored(services, system, simulator):
    """The one that came last was taken, with its listing, its size and its name."""
    instruments.refresh(EXCHANGE, services.rest, services.database)
    before = instruments.load_contracts(EXCHANGE, services.database)["bin"]
    simulator.fault(kind="doubled_contract", exchange="binance", path=LIST, count=1)
    (doubled,) = instruments.refresh(EXCHANGE, services.rest, services.database).doubled
    assert instruments.load_contracts(EXCHANGE, services.database)["bin"] == before
    messages = system.query("SELECT message FROM perp_errors")
    assert messages == [(f"{doubled} is on the list twice, and not alike: it stays as it was",)]


def test_a_contract_of_another_kind_on_the_list_is_not_delisted_and_that_is_said(services, system):
    """The fault: contracts that got a new kind, up to three of them, were delisted after two lists."""
    lists = Lists(services)
    lists.refresh()
    listed = {"symbol": "ETHUSDT", "contractType": "PERPETUAL_NEXT", "quoteAsset": "USDT", "status": "TRADING"}
    future = {"symbol": "SOLUSDT_271225", "pair": "SOLUSDT", "contractType": "CURRENT_QUARTER", "quoteAsset": "USDT"}
    lists.odd = (listed, future)
    for lists.ahead_ms in (0, HOUR_MS, 2 * HOUR_MS):
        refreshed = lists.refresh("ETHUSDT", "SOLUSDT")
    assert refreshed.changed == ["ETHUSDT"]
    assert {"ETHUSDT", "SOLUSDT"} & trading(services) == {"ETHUSDT"}
    errors = system.query("SELECT message FROM perp_errors")
    assert errors == [("ETHUSDT is listed as a kind of contract that is not followed: it stays as it was",)]
    lists.odd = ({**listed, "status": "CLOSE"},)
    for lists.ahead_ms in (3 * HOUR_MS, 4 * HOUR_MS):
        refreshed = lists.refresh("ETHUSDT", "SOLUSDT")
    assert refreshed.delisted == ["ETHUSDT"]


def test_a_sibling_that_is_listed_later_gets_a_symbol_of_its_own_and_that_is_said_once(services, simulator):
    instruments.refresh(EXCHANGE, services.rest, services.database)
    remarks = []
    for _ in range(2):
        simulator.fault(kind="sibling", exchange="binance", path=LIST, count=1)
        remarks += instruments.refresh(EXCHANGE, services.rest, services.database).remarks
    stored = instruments.load_contracts(EXCHANGE, services.database)["bin"]
    assert (stored["PEPE"].name, stored["PEPE_2"].name) == ("1000PEPEUSDT", "PEPEUSDT")
    assert [remark for remark in remarks if remark.startswith("PEPEUSDT")] == [
        "PEPEUSDT is stored as PEPE_2: PEPE is another contract"
    ]


def test_two_multiplied_contracts_of_one_coin_are_two_symbols_and_that_is_said_once(services):
    """The fault: both were stored as CHEEMS, and nobody said so."""
    lists = Lists(services)
    (like, *_) = lists.send(EXCHANGE, EXCHANGE.instruments.request, budget="weight", cost=1)["symbols"]
    bases = ("1000000CHEEMS", "1000CHEEMS")
    lists.odd = tuple({**like, "symbol": f"{base}USDT", "pair": f"{base}USDT", "baseAsset": base} for base in bases)
    remarks = [remark for _ in range(2) for remark in lists.refresh().remarks]
    stored = instruments.load_contracts(EXCHANGE, services.database)["bin"]
    found = [(stored[symbol].name, stored[symbol].multiplier) for symbol in ("CHEEMS", "1000000CHEEMS")]
    assert found == [("1000CHEEMSUSDT", 1000), ("1000000CHEEMSUSDT", 1_000_000)]
    assert [remark for remark in remarks if "CHEEMS" in remark] == [
        "1000000CHEEMSUSDT is stored as 1000000CHEEMS: CHEEMS is another contract"
    ]


def test_an_announced_contract_is_known_and_followed_from_its_listing(services):
    """The fault: contracts that did not trade yet were left out, so a listing was found up to an hour later."""
    instruments.refresh(EXCHANGE, services.rest, services.database)
    stored = instruments.load_contracts(EXCHANGE, services.database)["bin"]
    (announced,) = [instrument for instrument in stored.values() if (instrument.listed_ms or 0) > now_ms()]

    def followed(time_ms: int) -> list[str]:
        return [instrument.name for instrument in instruments.select_followed({"bin": stored}, ("all",), time_ms)]

    assert announced.name not in followed(announced.listed_ms - 1)
    assert announced.name in followed(announced.listed_ms)
    assert instruments.is_changing(EXCHANGE, services.database, announced.listed_ms - HOUR_MS // 4)
    assert not instruments.is_changing(EXCHANGE, services.database, announced.listed_ms - 20 * HOUR_MS)


def test_a_contract_that_is_listed_minutes_after_the_list_was_fetched_is_wanted_from_its_listing(system, monkeypatch):
    """The fault: it was known at the next hourly list, and wanted only from then on."""
    system.environment["FADEMOE_SYMBOLS"] = "NEW"
    services = system.context()
    use_services(services)
    listed_ms = floor_to(services.rest.read_server_now_ms(EXCHANGE), MINUTE_MS) - 6 * MINUTE_MS
    lists, send = Lists(services), services.rest.send
    (like, *_) = send(EXCHANGE, EXCHANGE.instruments.request, budget="weight", cost=1)["symbols"]
    new = {**like, "symbol": "NEWUSDT", "pair": "NEWUSDT", "baseAsset": "NEW", "onboardDate": listed_ms}

    def send_list(exchange, request, **options):
        body = send(exchange, request, **options)
        return {**body, "symbols": [*body["symbols"], *lists.odd]} if request.path == LIST else body

    monkeypatch.setattr(services.rest, "send", send_list)
    lists.odd = ({**new, "status": "PENDING_TRADING"},)
    instruments.refresh(EXCHANGE, services.rest, services.database)
    lists.odd = ({**new, "status": "TRADING"},)
    often = [chore for chore in CHORES if chore.every_s <= 300]
    for chore in often:
        resolve_name(chore.function)()
    wanted = dict(system.query("SELECT source, lower(wanted) FROM perp_coverage WHERE symbol = 'NEW'"))
    brought = {feed.metric for feed in (*EXCHANGE.stream_feeds, *EXCHANGE.poll_feeds)}
    alone = [feed for feed in EXCHANGE.rest_feeds if feed.metric not in brought]
    assert wanted == {f"bin-{feed.metric}": floor_to(listed_ms, feed.interval_ms) for feed in alone}
    assert {chore.function.rpartition(".")[2] for chore in often} == {"refresh_changing_instruments", "reconcile"}
    services.close()


def test_streams_and_polls_want_a_new_contract_from_its_listing(system):
    system.environment["FADEMOE_SYMBOLS"] = "ETH"
    services = system.context()
    use_services(services)
    instruments.refresh(EXCHANGE, services.rest, services.database)
    listed_ms = floor_to(services.clocks.ask(EXCHANGE, live=True), MINUTE_MS) - 59 * MINUTE_MS
    system.query("UPDATE perp_metadata SET listed_ms = %s WHERE instrument = 'ETHUSDT' RETURNING 1", listed_ms)
    ether = instruments.load_contracts(EXCHANGE, services.database)["bin"]["ETH"]
    StreamRunner(services, EXCHANGE)._want({"market": topics_of(EXCHANGE.stream_feeds, [ether])})
    polls.poll("binance", "oi")
    wanted = dict(system.query("SELECT source, lower(wanted) FROM perp_coverage WHERE symbol = 'ETH'"))
    live = {feed.metric for feed in (*EXCHANGE.stream_feeds, *EXCHANGE.poll_feeds)}
    assert wanted == {f"bin-{metric}": METRICS[metric].stamp(listed_ms, MINUTE_MS) for metric in live}
    services.close()


def test_a_contract_goes_on_until_its_announced_successor_is_listed(services):
    instruments.refresh(EXCHANGE, services.rest, services.database)
    btc = instruments.load_contracts(EXCHANGE, services.database)["bin"]["BTC"]
    end_ms = now_ms() + DAY_MS
    successor = replace(btc, name="BTC2USDT", listed_ms=end_ms)
    with services.database.open_transaction() as cursor:
        store.save(cursor, [replace(btc, delisted_ms=end_ms), successor])
        assert store.read_by_symbol(cursor, "bin", "BTC")["BTC"].name == "BTCUSDT"


def test_a_contract_that_a_package_reads_wrongly_costs_no_other_one(services, system):
    """One contract of 500 coins a unit, and the exchange had no list any more: ValueError ended each job and stream."""
    wrong = {
        "ETHUSDT": {"multiplier": 500},
        "SOLUSDT": {"contract_value": "-0.01"},
        "XRPUSDT": {"code": "bnc"},
        "ADAUSDT": {"exchange": "acme"},
        "DOGEUSDT": {"symbol": ""},
    }

    def parse(item):
        contract = EXCHANGE.instruments.parse(item)
        if contract is None or contract.name not in wrong:
            return contract
        made = replace(contract, **wrong[contract.name])
        return replace(made, terms=make_terms(made.multiplier, tick="0.1", lot=None))

    exchange = replace(EXCHANGE, instruments=replace(EXCHANGE.instruments, parse=parse))
    instruments.refresh(exchange, services.rest, services.database)
    assert "BTCUSDT" in trading(services)
    assert not trading(services) & wrong.keys()
    messages = "; ".join(message for (message,) in system.query("SELECT message FROM perp_errors"))
    for said in (
        "500 is not a power of ten",
        "'-0.01'",
        "is of binance and bnc",
        "is of acme and bin",
        "not a text",
    ):
        assert said in messages
