"""Current values by REST: rounds that share a small budget, samples behind a stream's, lists that change."""

import json
import time
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest
import requests
from rq import Retry
from rq.job import Job

from fademoe.client import instruments
from fademoe.client.rest import RestClient as Rest
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Window, floor_to, now_ms
from fademoe.errors import BadPayload
from fademoe.feeds import registry
from fademoe.feeds.instrument import Instrument
from fademoe.jobs import maintenance, newest, newest_settlements, polls, reconcile
from fademoe.metrics import Funding, PredictedFunding
from fademoe.queue.chores import Chore
from fademoe.queue.enqueue import enqueue_windows
from fademoe.queue.ids import Task, get_requested_queue
from fademoe.runtime.job_context import JobContext, use_services
from fademoe.runtime.services import resolve_egress
from fademoe.store import coverage
from fademoe.store.coverage import NOT_LISTED_YET, Absence, Covered, Series
from fademoe.store.settlements import Settled
from fademoe.store.writer import Batch, group_rows
from tests.support.clocks import settled_end, until


@pytest.fixture
def services(system):
    """Return the services of this process, with which jobs run."""
    for exchange in ("OKX", "BYBIT"):
        system.environment[f"FADEMOE_{exchange}_REST_URL"] = system.simulator.url
    system.environment |= {"FADEMOE_SYMBOLS": "BTC,ETH,PEPE", "FADEMOE_EXCHANGES": "binance,bybit,okx"}
    context = system.context()
    use_services(context)
    yield context
    context.close()


@pytest.fixture
def ask(services):
    """Return a function that requests a round of a poll in this process."""
    return polls.poll


@pytest.fixture
def ask_later(ask, clock, services):
    """Return a function that asks a round whose minute is over by the clock that is known."""

    def ask_five_minutes_later(exchange, metric):
        services.clocks.ask(registry.load_exchanges()[exchange], live=True)
        clock(-5 * MINUTE_MS)
        return ask(exchange, metric)

    return ask_five_minutes_later


@pytest.fixture
def clock(system):
    """Return a function that sets by how much the exchanges' clock is ahead."""

    def set_ahead(offset_ms):
        requests.post(f"{system.simulator.url}/sim/clock", json={"offset_ms": offset_ms}, timeout=60).raise_for_status()

    yield set_ahead
    set_ahead(0)


def forget_clocks(services):
    """Let no process know an exchange's time."""
    for key in services.redis.scan_iter("clocks:*"):
        services.redis.delete(key)


LISTED_ONLY = {
    "bin": ("fr", "lsr", "mark", "pfr"),
    "byb": ("fr", "lsr", "mark", "pfr"),
    "okx": ("fr", "lsr", "mark"),
}


def stored(system, source):
    return dict(
        system.query("SELECT symbol, count(*) FROM perp_data WHERE source = %s AND interval = '1m' GROUP BY 1", source)
    )


def test_a_sample_is_stored_at_the_end_of_its_minute_and_not_before(ask, services, system, clock):
    """No row tells of an instant that is not over."""
    before_ms = now_ms()
    assert ask("binance", "oi") == {"rows": 0, "requested": 3}
    assert stored(system, "bin-oi") == {}
    clock(2 * MINUTE_MS)
    forget_clocks(services)
    later = system.context()
    use_services(later)
    assert ask("binance", "oi")["rows"] == 3
    later.close()
    clock(0)
    times = {ts for (ts,) in system.query("SELECT ts FROM perp_data WHERE source = 'bin-oi'")}
    assert times == {floor_to(before_ms, MINUTE_MS) + MINUTE_MS} or min(times) > before_ms
    for symbol in ("BTC", "ETH", "PEPE"):
        (ts,) = times
        ((coins,),) = system.query("SELECT oi::text FROM perp_data WHERE source = 'bin-oi' AND symbol = %s", symbol)
        clock(20 * MINUTE_MS)
        true = system.simulator.get(
            "/sim/truth", exchange="binance", metric="oi", symbol=symbol, step=MINUTE_MS, **{"from": ts, "to": ts + 1}
        )["rows"]
        assert Decimal(true[0]["oi"]) == Decimal(coins)


def test_a_sample_without_a_time_is_of_the_exchanges_time_of_its_answer(ask, services, system, clock, monkeypatch):
    exchange = registry.load_exchanges()["binance"]
    (feed,) = exchange.poll_feeds
    parse = feed.parse
    untimed = replace(feed, untimed=True, parse=lambda item, contract: parse(item, contract)._replace(ts=0))
    monkeypatch.setitem(registry.load_exchanges(), "binance", replace(exchange, poll_feeds=(untimed,)))
    clock(-HOUR_MS)
    earliest_ms = now_ms() - HOUR_MS - SECOND_MS
    assert ask("binance", "oi") == {"rows": 0, "requested": 3}
    held = json.loads(services.redis.get("poll:binance:oi:held"))
    latest_ms = now_ms() - HOUR_MS + MINUTE_MS
    assert len(held) == 3 and all(earliest_ms <= row[0] <= latest_ms for _, row in held)
    assert not system.query("SELECT * FROM perp_errors")


def test_a_round_takes_its_share_and_the_next_goes_on(ask_later, services, system, monkeypatch):
    exchange = registry.load_exchanges()["binance"]
    (feed,) = exchange.poll_feeds
    shared = replace(exchange, poll_feeds=(replace(feed, share=2),))
    monkeypatch.setitem(registry.load_exchanges(), "binance", shared)
    assert ask_later("binance", "oi") == {"rows": 2, "requested": 2}
    assert set(stored(system, "bin-oi")) == {"BTC", "ETH"}
    ask_later("binance", "oi")
    assert set(stored(system, "bin-oi")) == {"BTC", "ETH", "PEPE"}


def test_a_round_with_a_share_yields_to_requested_work(ask, services, system, monkeypatch):
    """A worker of the exchanges' queues kept a requested window waiting for a minute of a poll."""
    exchange = registry.load_exchanges()["binance"]
    (feed,) = exchange.poll_feeds
    monkeypatch.setitem(registry.load_exchanges(), "binance", replace(exchange, poll_feeds=(replace(feed, share=3),)))
    window = Window(settled_end(DAY_MS) - DAY_MS, settled_end(DAY_MS))
    enqueue_windows(services.redis, get_requested_queue("bybit"), [Task(Series("byb-ohlcv", "BTC"), window)])
    assert ask("binance", "oi")["requested"] == 1
    services.redis.delete(f"rq:queue:{get_requested_queue('bybit')}")
    assert ask("binance", "oi")["requested"] == 3


def test_a_round_with_a_share_does_not_wait_while_another_exchange_has_work(services, monkeypatch):
    """It held its worker for up to 20 s; two exchanges that are busy beside it lost so much."""
    exchange = registry.load_exchanges()["binance"]
    (feed,) = exchange.poll_feeds
    shared = replace(exchange, poll_feeds=(replace(feed, batch=1, share=3),))
    monkeypatch.setitem(registry.load_exchanges(), "binance", shared)
    window = Window(settled_end(DAY_MS) - DAY_MS, settled_end(DAY_MS))
    enqueue_windows(services.redis, "bybit", [Task(Series("byb-ohlcv", "BTC"), window)])
    arguments = ("binance", feed.metric)
    job = Job.create("fademoe.jobs.polls.poll", arguments, connection=services.redis, origin="binance")
    job.save()
    context = JobContext(services=services, job=job)
    polls.poll.__wrapped__(context, *arguments)  # its list of contracts is known then
    services.budgets.close(exchange, [feed.budget], resolve_egress(services.settings)[0][0], 5.0, "a test")
    begin_s = time.monotonic()
    again = polls.poll.__wrapped__(context, *arguments)
    assert isinstance(again, Retry)
    assert time.monotonic() - begin_s < 2.5
    assert again.intervals == [polls.CONTINUE_AFTER_S]
    assert job.meta == {polls.LEFT: 3, polls.RUNS: 1, "delay_s": polls.CONTINUE_AFTER_S}
    time.sleep(5)
    assert polls.poll.__wrapped__(context, *arguments)["requested"] == 3


def test_newest_minutes_do_not_wait_while_another_exchange_has_work(services):
    """Their job held its worker for up to 25 s of each minute."""
    exchange = registry.load_exchanges()["binance"]
    budget = exchange.find_rest_feed("mark").budget
    window = Window(settled_end(DAY_MS) - DAY_MS, settled_end(DAY_MS))
    enqueue_windows(services.redis, "bybit", [Task(Series("byb-ohlcv", "BTC"), window)])
    job = Job.create(
        "fademoe.jobs.newest.poll_newest", ("binance", "mark"), connection=services.redis, origin="binance"
    )
    job.save()
    context = JobContext(services=services, job=job)
    feed = exchange.find_rest_feed("mark")
    followed = polls.list_followed(services, exchange, feed, now_ms())
    polls.want(services, feed, followed, now_ms() - 10 * MINUTE_MS)
    services.clocks.ask(exchange, live=True)
    services.budgets.close(exchange, [budget], resolve_egress(services.settings)[0][0], 20.0, "a test")
    again = newest.poll_newest.__wrapped__(context, "binance", "mark")
    assert isinstance(again, Retry)
    assert job.meta == {polls.RUNS: 1, "delay_s": polls.CONTINUE_AFTER_S}


def test_a_contract_that_is_refused_costs_no_other(ask_later, services, system):
    context = services
    instruments.refresh(registry.load_exchanges()["binance"], context.rest, context.database)
    with context.database.open_transaction() as cursor:
        cursor.execute(
            "UPDATE perp_metadata SET instrument = 'NOPEUSDT' WHERE exchange = 'binance' AND instrument = 'BTCUSDT'"
        )
    assert ask_later("binance", "oi") == {"rows": 2, "requested": 3}
    assert set(stored(system, "bin-oi")) == {"ETH", "PEPE"}
    assert system.query("SELECT class, http_status FROM perp_errors") == [("Refused", 400)]


def test_followed_contracts_want_what_neither_stream_nor_poll_brings(ask, services, system):
    for exchange in ("binance", "bybit", "okx"):
        instruments.refresh(registry.load_exchanges()[exchange], services.rest, services.database)
    reconcile.reconcile()
    rows = system.query("SELECT source, array_agg(symbol ORDER BY symbol) FROM perp_coverage GROUP BY 1 ORDER BY 1")
    three = ["BTC", "ETH", "PEPE"]
    assert dict(rows) == {f"{code}-{metric}": three for code, metrics in LISTED_ONLY.items() for metric in metrics}
    before = system.query("SELECT source, symbol, wanted FROM perp_coverage ORDER BY 1, 2")
    reconcile.reconcile()
    assert system.query("SELECT source, symbol, wanted FROM perp_coverage ORDER BY 1, 2") == before


@pytest.mark.parametrize(("exchange", "code"), [("binance", "bin"), ("bybit", "byb"), ("okx", "okx")])
def test_the_newest_minutes_of_the_mark_price_come_each_minute_and_never_open(services, system, clock, exchange, code):
    """What was missed in between comes with them, what is stored is not requested again."""
    assert newest.poll_newest(exchange, "mark")["requested"] <= 3
    for minutes in (3, 4):
        clock(minutes * MINUTE_MS)
        forget_clocks(services)
        later = system.context()
        use_services(later)
        assert newest.poll_newest(exchange, "mark")["requested"] == 3
        # A minute may end between two rounds, and an answer may be lost: what comes of that is requested again.
        until(lambda: newest.poll_newest(exchange, "mark")["requested"] == 0, 20)
        time_ms = later.clocks.now_ms(registry.load_exchanges()[exchange])
        later.close()
        for symbol in ("BTC", "ETH", "PEPE"):
            ((start_ms, end_ms),) = system.query(
                "SELECT lower(covered), upper(covered) FROM perp_coverage WHERE source = %s AND symbol = %s",
                f"{code}-mark",
                symbol,
            )
            assert end_ms <= time_ms - 10_000
            assert end_ms - start_ms >= (minutes - 1) * MINUTE_MS
            assert system.differences(exchange, f"{code}-mark", symbol, start_ms, end_ms) == []


def test_the_minute_amid_which_a_contract_is_listed_is_requested_whole(services, system, clock):
    """The fault: OKX names listings to the second, and the part of a minute behind one was requested with limit=0."""
    clock(0)
    exchange = registry.load_exchanges()["okx"]
    instruments.refresh(exchange, services.rest, services.database)
    minute_ms = floor_to(services.clocks.now_ms(exchange), MINUTE_MS) + MINUTE_MS
    system.query("UPDATE perp_lives SET listed_ms = %s WHERE exchange = 'okx' AND symbol = 'BTC' RETURNING 1",
                 minute_ms + 48_000)  # fmt: skip
    services.clocks.ask(exchange, live=True)
    polls.want(services, exchange.find_rest_feed("mark"),
               [instruments.find(services.database, "okx", "BTC")], minute_ms + 50_000)  # fmt: skip
    clock(2 * MINUTE_MS + 15_000)
    forget_clocks(services)
    later = system.context()
    use_services(later)
    newest.poll_newest("okx", "mark")
    later.close()
    times = "SELECT min(ts) FROM perp_data WHERE source = 'okx-mark' AND symbol = 'BTC'"
    assert system.query(times) == [(minute_ms,)]


def test_candles_that_no_stream_brought_come_two_seconds_after_their_minute_when_they_are_final(
    services, system, clock
):
    """OKX's stream is silent in a minute without trades. REST has its candle, and says from when on it is final."""
    symbols = ("BTC", "ETH", "PEPE")
    first = floor_to(now_ms(), MINUTE_MS) + 2 * MINUTE_MS
    newest_ms = {}
    for ahead_ms in (2_200, MINUTE_MS + 1_050, MINUTE_MS + 2_200, 3 * MINUTE_MS + 2_200):
        clock(first + ahead_ms - now_ms())
        forget_clocks(services)
        later = system.context()
        use_services(later)
        newest.poll_newest("okx", "ohlcv")
        later.close()
        newest_ms[ahead_ms] = dict(
            system.query("SELECT symbol, max(ts) FROM perp_data WHERE source = 'okx-ohlcv' GROUP BY symbol")
        )
        for symbol in symbols:
            found = system.differences("okx", "okx-ohlcv", symbol, first, first + 3 * MINUTE_MS)
            assert [one for one in found if not one.startswith("missing")] == [], "it was not final"

    def find_newest(end_ms):
        truth = {symbol: system.simulator.truth("okx", "ohlcv", symbol, first, end_ms) for symbol in symbols}
        return {symbol: max(rows) for symbol, rows in truth.items() if rows}  # now and then the exchange lacks a minute

    assert newest_ms[2_200] == {}, "what was before is nobody's wish"
    assert newest_ms[MINUTE_MS + 2_200] == find_newest(first + MINUTE_MS)
    assert newest_ms[3 * MINUTE_MS + 2_200] == find_newest(first + 3 * MINUTE_MS)


def poll_settlements(system, clock, exchange, at_ms):
    """Ask for settlements that may be new in a process that knows no other time than `at_ms`."""
    clock(at_ms - now_ms())
    services = system.context()
    forget_clocks(services)
    use_services(services)
    newest.poll_newest(exchange, "fr")
    services.close()


@pytest.mark.parametrize(
    ("exchange", "code", "requests_of_a_look"), [("binance", "bin", 1), ("bybit", "byb", 3), ("okx", "okx", 3)]
)
def test_settlements_come_with_the_minute_and_are_asked_for_when_they_may_be_new(
    services, system, clock, exchange, code, requests_of_a_look, monkeypatch
):
    """Contracts of 1, 4 and 8 hours: a mark is asked for until it is answered, the minutes between need no request."""
    mark = floor_to(now_ms(), 8 * HOUR_MS) + 8 * HOUR_MS
    sent = []
    send = Rest._send_granted

    def count(self, grant, url, request, *options, **more):
        sent.append(request.path)
        return send(self, grant, url, request, *options, **more)

    monkeypatch.setattr(Rest, "_send_granted", count)

    def look(after_ms):
        sent.clear()
        poll_settlements(system, clock, exchange, mark + after_ms)
        return sum("fund" in path for path in sent)

    def covered_until():
        rows = system.query("SELECT symbol, upper(covered) FROM perp_coverage WHERE source = %s", f"{code}-fr")
        return {symbol: end_ms - mark for symbol, end_ms in rows}

    def settled():
        return dict(
            system.query(
                "SELECT symbol, array_agg((ts - %s) / 3600000 || ':' || fr_hours ORDER BY ts) FROM perp_data"
                " WHERE source = %s AND ts > %s GROUP BY 1",
                mark,
                f"{code}-fr",
                mark - 2 * HOUR_MS,
            )
        )

    symbols = ("BTC", "ETH", "PEPE")
    assert look(-20 * MINUTE_MS) == 0
    assert look(10 * SECOND_MS) == requests_of_a_look
    if exchange == "okx":  # it publishes 20 s after a settlement
        assert covered_until() == dict.fromkeys(symbols, 0)
        assert look(70 * SECOND_MS) == requests_of_a_look
    assert set(covered_until().values()) == {MINUTE_MS}
    hours = {symbol: int(rows[-1].partition(":")[2]) for symbol, rows in settled().items()}
    assert set(hours) == set(symbols)
    assert look(30 * MINUTE_MS) == 0
    assert set(covered_until().values()) == {30 * MINUTE_MS}
    soon = sum(each == 1 for each in hours.values())
    assert look(HOUR_MS + 10 * SECOND_MS) == (min(soon, 1) if exchange == "binance" else soon)
    assert look(HOUR_MS + 70 * SECOND_MS) == (requests_of_a_look if exchange == "binance" else 3 - soon)
    assert set(covered_until().values()) == {HOUR_MS + MINUTE_MS}
    for symbol in symbols:
        assert system.differences(exchange, f"{code}-fr", symbol, mark - 2 * HOUR_MS, mark + HOUR_MS) == []


def test_a_settlement_of_the_newest_minutes_tells_the_one_after_it_its_interval(services, system, clock):
    """It comes late: the one after it is stored already."""
    mark = floor_to(now_ms(), 8 * HOUR_MS) + 8 * HOUR_MS
    btc = Series("bin-fr", "BTC")
    later = Batch("fr", "settlement", {btc: [Funding(mark + 8 * HOUR_MS, "0.0001")]})
    services.writer.write([later], [Covered(btc, [Window(mark + MINUTE_MS, mark + 8 * HOUR_MS + MINUTE_MS)])])
    for after_ms in (-20 * MINUTE_MS, 70 * SECOND_MS):
        poll_settlements(system, clock, "binance", mark + after_ms)
    rows = system.query(
        "SELECT ts, fr_hours FROM perp_data WHERE source = 'bin-fr' AND symbol = 'BTC' AND ts >= %s", mark
    )
    assert {ts - mark: int(hours) for ts, hours in rows}[8 * HOUR_MS] == 8


@pytest.mark.parametrize("kind", ["null_row", "tomorrow", "missing_field"])
def test_an_odd_settlement_costs_no_other_contract_its_own(services, system, simulator, clock, kind):
    """One odd element of the answer about all contracts voided the round for all of them."""
    mark = floor_to(now_ms(), 8 * HOUR_MS) + 8 * HOUR_MS
    for after_ms in (-20 * MINUTE_MS, 70 * SECOND_MS):
        poll_settlements(system, clock, "binance", mark + after_ms)
        simulator.fault(exchange="binance", path="/fapi/v1/fundingRate", kind=kind)
    stored = system.query("SELECT count(*) FROM perp_data WHERE source = 'bin-fr' AND ts >= %s", mark)
    assert stored[0][0] >= 2, "of three contracts"
    if kind == "null_row":
        assert system.query("SELECT class FROM perp_errors WHERE unit = 'poll binance fr'") == [("BadPayload",)]


def test_what_an_answer_about_all_contracts_holds():
    together = registry.load_exchanges()["binance"].find_rest_feed("fr").newest.together
    span = Window(1_767_225_600_000, 1_767_225_600_000 + DAY_MS)
    good = [{"symbol": f"A{n}", "fundingTime": span.start_ms + n} for n in range(4)]
    odd = [None, {"symbol": ["A"], "fundingTime": span.start_ms + 5}, {"symbol": "B", "fundingTime": "soon"}]
    odd.append({"symbol": "C", "fundingTime": span.end_ms + DAY_MS})
    named, newest_ms = newest_settlements.read_together(together, [*good, *odd], span)
    assert [name for name, _ in named.readable] == ["A0", "A1", "A2", "A3", "B", "C"]
    assert (len(named.unreadable), newest_ms) == (2, span.start_ms + 5)
    for body in ({}, [*good[:2], *[None] * 3]):
        with pytest.raises(BadPayload):
            newest_settlements.read_together(together, body, span)


def test_a_settlement_that_is_late_is_waited_for():
    """Of a contract that is to settle no answer without the settlement counts; an interval that changed is seen."""
    newest_ = registry.load_exchanges()["okx"].find_rest_feed("fr").newest
    point = floor_to(now_ms(), 8 * HOUR_MS)
    gap = Window(point - 5 * MINUTE_MS, point + 10 * MINUTE_MS)
    contract = Instrument(exchange="okx", code="okx", name="A", symbol="A")
    for hours, rows, known in (
        (8, [], point),  # it is to come, so it is late
        (8, [Funding(point, Decimal(0), 8)], gap.end_ms),
        (None, [], point),  # the interval is not known
    ):
        one = newest_settlements.Candidate(
            instrument=contract, series=Series("okx-fr", "A"), gaps=[gap], settled=[Settled(point - 8 * HOUR_MS, hours)]
        )
        one.add(rows, point + 5 * MINUTE_MS)
        assert one.list_answered(newest_) == [Window(gap.start_ms, known)]
    one = newest_settlements.Candidate(instrument=contract, series=Series("okx-fr", "A"), gaps=[gap])
    one.add([Funding(point - 4 * HOUR_MS, Decimal(0), 8)], point + 30 * SECOND_MS)
    assert one.list_answered(newest_) == [Window(gap.start_ms, point)], "it may not be public yet"
    one.add([], point + 60 * SECOND_MS)
    assert one.list_answered(newest_) == [gap]
    one.add([Funding(point, Decimal(0), 4)], point + 70 * SECOND_MS)
    assert one.is_expected(point + 4 * HOUR_MS)


def test_where_a_stream_is_a_sample_waits_for_its_minute_and_gives_way(ask, services, system, clock):
    assert ask("okx", "ppr") == {"rows": 0, "requested": 3}, "the minute is not over"
    clock(-5 * MINUTE_MS)
    ts = floor_to(now_ms() - 5 * MINUTE_MS, MINUTE_MS)
    streamed = [(Series("okx-ppr", "BTC"), PredictedFunding(each, "0.5")) for each in (ts, ts + MINUTE_MS)]
    services.writer.write([Batch("ppr", "1m", group_rows(streamed))], [])
    assert ask("okx", "ppr") == {"rows": 2, "requested": 3}
    rows = system.query("SELECT ts, ppr::text FROM perp_data WHERE source = 'okx-ppr' AND symbol = 'BTC' ORDER BY ts")
    assert rows == [(ts, "0.5"), (ts + MINUTE_MS, "0.5")]
    clock(0)
    for symbol in ("ETH", "PEPE"):
        ((at,),) = system.query("SELECT ts FROM perp_data WHERE source = 'okx-ppr' AND symbol = %s", symbol)
        assert system.differences("okx", "okx-ppr", symbol, at, at + MINUTE_MS) == []


def test_rounds_within_a_minute_are_one_row_of_each_contract_kept_until_stored(
    ask, services, system, clock, monkeypatch
):
    """The scheduler asks when it starts, and again in second 20."""
    services.clocks.ask(registry.load_exchanges()["okx"], live=True)
    clock(floor_to(now_ms(), MINUTE_MS) + 5 * SECOND_MS - now_ms())
    assert [ask("okx", "ppr")["rows"] for _ in range(2)] == [0, 0]
    known = services.clocks.now_ms
    monkeypatch.setattr(services.clocks, "now_ms", lambda exchange: known(exchange) + 2 * MINUTE_MS)
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(polls, "_store", lambda *_: 1 / 0)
        ask("okx", "ppr")
    system.simulator.fault(exchange="okx", path="/api/v5/public/funding-rate", kind="error_503")
    assert ask("okx", "ppr")["rows"] == 3, "of the rounds before"
    assert stored(system, "okx-ppr") == {"BTC": 1, "ETH": 1, "PEPE": 1}


@pytest.mark.parametrize(("kind", "reason"), [("tomorrow", "still to come"), ("duplicate_row", "differ")])
def test_an_odd_sample_is_named_and_costs_no_other(ask_later, services, system, kind, reason):
    """One of a time to come was held until that time, and stored then; of two of one contract the last was taken."""
    system.simulator.fault(exchange="okx", path="/api/v5/public/open-interest", kind=kind, count=1)
    every = ask_later("okx", "oi")["rows"]
    messages = [message for (message,) in system.query("SELECT message FROM perp_errors")]
    assert sum(reason in message for message in messages) == 3 - every
    assert len(json.loads(services.redis.get("poll:okx:oi:held"))) == 0


@pytest.mark.parametrize("kind", ["seconds", "truncated"])
def test_a_damaged_answer_is_recorded_with_its_request_and_nothing_of_it_is_stored(ask, services, system, clock, kind):
    clock(-5 * MINUTE_MS)
    instruments.refresh(registry.load_exchanges()["okx"], services.rest, services.database)
    system.simulator.fault(exchange="okx", path="/api/v5/public/open-interest", kind=kind, count=2)
    assert ask("okx", "oi")["rows"] == 0
    ((request, excerpt),) = system.query("SELECT request, excerpt FROM perp_errors WHERE unit = 'poll okx oi'")
    assert request.startswith("/api/v5/public/open-interest")
    assert excerpt
    assert stored(system, "okx-oi") == {}


def test_what_leaves_the_list_is_delisted_until_it_comes_back(ask, services, system):
    context, exchange = services, registry.load_exchanges()["okx"]

    def change(delisted_ms):
        body = {"exchange": "okx", "instrument": "ETH-USDT-SWAP", "delisted_ms": delisted_ms}
        requests.post(f"{system.simulator.url}/sim/contracts", json=body, timeout=60).raise_for_status()
        maintenance.refresh_instruments()
        maintenance.refresh_changing_instruments()
        return instruments.load_contracts(exchange, context.database)["okx"]["ETH"].delisted_ms

    assert change(None) is None
    try:
        gone_ms = change(now_ms() - 1000)
        assert gone_ms is not None
        assert abs(gone_ms - now_ms()) < MINUTE_MS
        assert ask("okx", "ppr")["requested"] == 2
        assert instruments.load_contracts(exchange, context.database)["okx"]["BTC"].delisted_ms is None
    finally:
        assert change(None) is None


def test_the_list_is_fetched_near_a_listing_that_is_announced_without_details(services, clock):
    """The fault: OKX leaves all but the time blank until minutes before, so a listing was found up to an hour later."""
    okx = registry.load_exchanges()["okx"]
    (listed_ms,) = instruments.refresh(okx, services.rest, services.database).announced_ms
    stored = instruments.load_contracts(okx, services.database)["okx"].values()
    assert not any(each.listed_ms == listed_ms for each in stored), "its size is not known yet"
    clock(listed_ms - now_ms() - 20 * MINUTE_MS)
    services.clocks.ask(okx, live=True)
    assert "okx" not in maintenance.refresh_changing_instruments()
    maintenance.refresh_instruments()
    assert "okx" in maintenance.refresh_changing_instruments()


def test_a_contract_that_is_listed_again_is_asked_for_what_it_was_thought_not_to_have(ask, services, system):
    context, exchange = services, registry.load_exchanges()["okx"]
    instruments.refresh(exchange, context.rest, context.database)
    eth = instruments.load_contracts(exchange, context.database)["okx"]["ETH"]
    series, past = Series("okx-ohlcv", "ETH"), Window(eth.listed_ms - DAY_MS, eth.listed_ms)
    with context.database.open_transaction() as cursor:
        cursor.execute("UPDATE perp_metadata SET listed_ms = %s WHERE instrument = 'ETH-USDT-SWAP'", (past.end_ms + 1,))
    absent = [Absence(past, NOT_LISTED_YET)]
    context.writer.write([], [Covered(series, [past], absent), Covered(Series("okx-ohlcv", "BTC"), [past], absent)])
    instruments.refresh(exchange, context.rest, context.database)
    with context.database.open_transaction() as cursor:
        assert coverage.find_missing(cursor, series, past) == [past]
        assert coverage.find_missing(cursor, Series("okx-ohlcv", "BTC"), past) == []


def test_the_whole_list_is_read_whatever_a_status_holds(ask, services, system):
    context, exchange = services, registry.load_exchanges()["bybit"]
    found = []

    def send(exchange, request, **_):
        found.append(request.params["status"])
        return context.rest.send(exchange, request, **_)

    def send_trading(exchange, request, **_):
        trading = replace(request, params={**request.params, "status": "Trading"})
        return context.rest.send(exchange, trading, **_)

    def read_by(send):
        return instruments.refresh(
            exchange, SimpleNamespace(send=send, read_server_now_ms=context.rest.read_server_now_ms), context.database
        ).listed

    listed = read_by(send)
    assert listed > 20
    assert list(dict.fromkeys(found)) == ["Trading", "Closed", "Delivering"]
    assert 20 < read_by(send_trading) <= listed, "a contract that is on several pages is one"


def test_polls_are_due_at_their_second_of_the_minute():
    chore = Chore(function="x.poll", every_s=60, at_s=20)
    assert [chore.compute_pause_s(now_s) for now_s in (0, 19.5, 20, 20.5, 61)] == [20, 0.5, 60, 59.5, 19]
    assert Chore(function="x.y", every_s=60).compute_pause_s(17) == 60
