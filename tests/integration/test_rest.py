"""The REST client against an exchange, or what stands in front of it, that misbehaves: one process, no jobs."""

import socket
import time

import pytest

from fademoe.alerts.conditions import read_conditions
from fademoe.client import rest
from fademoe.client.rate_limit import usage
from fademoe.clock import DAY_MS, MINUTE_MS, ceil_to, now_ms
from fademoe.errors import BudgetSpent, RetryLater, SourceError
from fademoe.feeds import registry
from fademoe.feeds.request import Request
from fademoe.simulator.faults import KINDS
from fademoe.web.model.format import format_time
from tests.support.clocks import sleep_until

EXCHANGE = registry.load_exchanges()["binance"]
LIST = Request(path="/fapi/v1/exchangeInfo")


@pytest.fixture
def services(system):
    """The clients of a process, with settings that a test may change before it uses them."""
    made = []

    def make(**environment: str):
        system.environment |= environment
        made.append(system.context())
        return made[-1]

    yield make
    for services in made:
        services.close()


def send(services, exchange=EXCHANGE, request=LIST):
    return services.rest.send(exchange, request, budget=exchange.instruments.budget, cost=1)


@pytest.mark.parametrize(
    "kind",
    [
        "html_200",
        "empty_200",
        "empty_202",
        "string_200",
        "object_200",
        "redirect_302",
        "html_400",
        "html_404",
        "html_405",
    ],
)
@pytest.mark.parametrize("name", ["binance", "bybit", "okx"])
def test_an_answer_that_is_not_the_apis_is_a_reason_to_wait(services, simulator, name, kind):
    """The fault: the window rested for a day at once, or after five tries within two minutes."""
    assert kind in KINDS
    exchange = registry.load_exchanges()[name]
    here = services(**{f"FADEMOE_{name.upper()}_REST_URL": simulator.url})
    simulator.fault(exchange=name, kind=kind, count=1)
    with pytest.raises(RetryLater) as raised:
        send(here, exchange, exchange.instruments.request)
    assert "not the API's" in str(raised.value)
    assert raised.value.retry_after_s >= 5
    assert send(here, exchange, exchange.instruments.request)


@pytest.mark.parametrize("location", ["", "http://[", "//", "http://maintenance:port", "\u00e9", "\ufffd" * 3000])
def test_a_redirect_to_what_is_no_address_is_a_reason_to_wait(services, simulator, location):
    """The library that sends requests reads the address of a redirect that is not followed."""
    here = services()
    simulator.fault(exchange="binance", kind="redirect_302", count=1, location=location)
    with pytest.raises(RetryLater):
        send(here)
    assert send(here)


def test_an_answer_that_cannot_be_unpacked_is_a_reason_to_wait(services, simulator):
    here = services()
    simulator.fault(exchange="binance", kind="garbled_200", count=1)
    with pytest.raises(RetryLater):
        send(here)
    assert send(here)


def test_a_connection_that_was_idle_and_is_cut_costs_no_request(services, simulator):
    """A round of polls ended and a window waited for 15 s; what a poll misses of some metrics is lost for ever."""
    here = services()
    simulator.fault(exchange="binance", kind="reset_reused")
    assert send(here)
    assert send(here)
    assert simulator.get("/sim/stats")["binance"]["faults"]["reset_reused"] == 1
    assert usage.list_outages(here.redis) == []


def test_an_exchange_that_cuts_every_connection_is_asked_twice(services, simulator):
    here = services()
    before = simulator.get("/sim/stats")["binance"]["faults"].get("reset", 0)
    simulator.fault(exchange="binance", kind="reset")
    with pytest.raises(RetryLater, match="cannot be reached"):
        send(here)
    assert simulator.get("/sim/stats")["binance"]["faults"]["reset"] == before + 2


@pytest.mark.parametrize("name", ["binance", "bybit", "okx"])
def test_an_answer_whose_packed_body_breaks_off_is_a_reason_to_wait(services, simulator, name):
    exchange = registry.load_exchanges()[name]
    here = services(**{f"FADEMOE_{name.upper()}_REST_URL": simulator.url})
    simulator.fault(exchange=name, kind="cut_gzip", count=1)
    with pytest.raises(RetryLater):
        send(here, exchange, exchange.instruments.request)
    assert send(here, exchange, exchange.instruments.request)


@pytest.mark.parametrize(("name", "most"), [("MAX_ANSWER_S", 0.5), ("MAX_ANSWER_BYTES", 1)])
def test_an_answer_without_end_is_a_reason_to_wait(services, simulator, monkeypatch, name, most):
    """It held its worker until rq killed the job, which counted as an attempt; or filled the memory."""
    here = services()
    monkeypatch.setattr(rest, name, most)
    simulator.fault(exchange="binance", kind="trickle_200", count=1)
    with pytest.raises(RetryLater, match="an answer without end"):
        send(here)
    monkeypatch.undo()
    assert send(here)


@pytest.mark.parametrize("times", [1, 2])
def test_one_odd_answer_does_not_set_the_clock_of_an_exchange(services, simulator, times):
    """A day ahead, the bar that is open would be taken for closed; a second answer confirms it."""
    here = services()
    before_ms = here.clocks.ask(EXCHANGE, live=True)
    for key in here.redis.scan_iter("clocks:*"):
        here.redis.delete(key)
    later = services()
    simulator.fault(exchange="binance", kind="odd_time", path=EXCHANGE.clock.request.path, count=times)
    ahead_ms = later.clocks.ask(EXCHANGE, live=True) - before_ms
    assert (ahead_ms > DAY_MS // 2) == (times == 2)


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2099 07:28:00 GMT", "-5", "1e30", "NaN", "", "\u0663"])
@pytest.mark.parametrize(("kind", "longest_ms"), [("rate_limited", 10 * MINUTE_MS), ("banned", 3 * DAY_MS)])
def test_a_pause_that_is_no_number_is_the_usual_one(services, simulator, kind, longest_ms, value):
    here = services()
    simulator.fault(exchange="binance", kind=kind, count=1, retry_after=value)
    with pytest.raises(RetryLater) as raised:
        send(here)
    assert 0 < raised.value.retry_after_s <= (61 if kind == "rate_limited" else 200)


@pytest.mark.parametrize("value", ["1791383040000", "9999999999", "9" * 30])
@pytest.mark.parametrize(("kind", "longest_ms"), [("rate_limited", 10 * MINUTE_MS), ("banned", 3 * DAY_MS)])
def test_an_absurd_pause_is_bounded(services, simulator, kind, longest_ms, value):
    """The fault: closed for 317 to 56,804 years, and the Limits page raised."""
    here = services()
    simulator.fault(exchange="binance", kind=kind, count=1, retry_after=value)
    with pytest.raises(RetryLater) as raised:
        send(here)
    assert raised.value.retry_after_s <= longest_ms / 1000
    closed = [budget for budget in usage.list_budget_uses(here.redis) if budget.closed_until_ms]
    assert closed
    for budget in closed:
        assert longest_ms - MINUTE_MS < budget.closed_until_ms - now_ms() <= longest_ms
        assert format_time(budget.closed_until_ms)


@pytest.mark.parametrize("skew_ms", [600_000, -600_000, DAY_MS, -DAY_MS])
def test_a_ban_ends_by_the_exchanges_clock(services, simulator, skew_ms):
    """The fault: a host ten minutes ahead asked through a ban after a second; one behind waited ten minutes more."""
    here = services()
    simulator.set_clock(skew_ms)
    try:
        here.clocks.ask(EXCHANGE, live=True)
        simulator.fault(exchange="binance", kind="banned", count=1)
        with pytest.raises(RetryLater) as raised:
            send(here)
        assert 100 < raised.value.retry_after_s < 200
    finally:
        simulator.set_clock(0)


@pytest.mark.parametrize(("setting", "share"), [("", 0.9), ("binance=0.5", 0.5), ("0.7,okx=0.5", 0.7)])
def test_requests_take_the_share_of_a_limit_that_is_set(services, setting, share):
    here = services(FADEMOE_LIMIT_SHARE=setting)
    assert send(here)
    used = usage.list_budget_uses(here.redis)
    assert used
    for budget in used:
        assert budget.allowed == pytest.approx(share * budget.limit, abs=0.1)


def test_an_address_that_is_gone_does_not_stop_the_others_and_is_named(services):
    """The fault: with one of two addresses gone there was no REST at all."""
    here = services(FADEMOE_EGRESS="good=127.0.0.1,dead=192.0.2.1")
    for _ in range(30):
        assert send(here)
    [outage] = usage.list_outages(here.redis)
    assert (outage.exchange, outage.egress) == ("binance", "dead")
    assert outage.failures >= 4
    assert "cannot be reached" in outage.reason
    assert "dead" in outage.reason
    [alert] = [each for each in read_conditions(here.settings, here.database, here.redis) if each.kind == "outage"]
    assert (alert.code, alert.symbol) == ("bin", "dead")
    assert "binance does not answer dead" in alert.message


def test_a_proxy_that_is_gone_does_not_stop_the_others(services):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = services(FADEMOE_EGRESS=f"dead=http://127.0.0.1:{port},good=127.0.0.1")
    for _ in range(30):
        assert send(here)
    assert [outage.egress for outage in usage.list_outages(here.redis)] == ["dead"]


TWO_ADDRESSES = {"FADEMOE_EGRESS": "a=127.0.0.2,b=127.0.0.3"}


@pytest.mark.parametrize("kind", ["banned", "restricted", "rate_limited"])
def test_what_closes_one_address_is_asked_from_another(services, simulator, kind):
    """A ban of one of two addresses failed the request, and its window waited for the end of the ban."""
    here = services(**TWO_ADDRESSES)
    if now_ms() % MINUTE_MS > 40_000:
        sleep_until(ceil_to(now_ms(), MINUTE_MS))  # what refuses for the rest of a minute has to last
    simulator.fault(exchange="binance", kind=kind, count=1)
    assert send(here)
    assert len({budget.egress for budget in usage.list_budget_uses(here.redis) if budget.closed_until_ms}) == 1
    simulator.fault(exchange="binance", kind=kind)
    with pytest.raises(RetryLater):
        send(here)
    assert {budget.egress for budget in usage.list_budget_uses(here.redis) if budget.closed_until_ms} == {"a", "b"}


def test_the_address_that_is_free_first_decides_when_a_request_is_repeated(services, simulator):
    here = services(**TWO_ADDRESSES)
    here.budgets.close(EXCHANGE, ["weight"], "b", 3600, "a test")
    simulator.fault(exchange="binance", kind="banned", count=1)
    with pytest.raises(RetryLater, match="banned") as raised:
        send(here)
    assert raised.value.retry_after_s < 600


def test_a_limit_of_the_key_is_not_tried_from_another_address(services, simulator):
    exchange = registry.load_exchanges()["coinalyze"]
    settings = {"FADEMOE_COINALYZE_KEY": "unseen", "FADEMOE_COINALYZE_REST_URL": simulator.url}
    here = services(**TWO_ADDRESSES, **settings)
    simulator.fault(exchange="coinalyze", kind="rate_limited", count=1)
    with pytest.raises(RetryLater, match="rate limit"):
        send(here, exchange, exchange.instruments.request)


BROKEN = {
    "binance": [("/futures/data/openInterestHist", "futures-data")],
    "bybit": [("/v5/market/open-interest", "ip")],
}


def fail_until_refused(services, exchange, request, budget, times=20):
    """Send a request that fails until it is refused without being sent; return how often it was sent."""
    for number in range(times):
        try:
            services.rest.send(exchange, request, budget=budget, cost=1)
        except BudgetSpent:
            return number
        except RetryLater:
            continue
    raise AssertionError("there is no end to it")


@pytest.mark.parametrize("kind", ["html_502", "html_404"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_path_that_fails_pauses_no_other(services, simulator, name, kind):
    """Four answers of a broken endpoint in a row shut every budget of the exchange, live work included."""
    exchange = registry.load_exchanges()[name]
    here = services(**{f"FADEMOE_{name.upper()}_REST_URL": simulator.url})
    [(path, budget)] = BROKEN[name]
    simulator.fault(exchange=name, kind=kind, path=path)
    assert fail_until_refused(here, exchange, Request(path=path), budget) == 4
    for _ in range(10):
        assert send(here, exchange, exchange.instruments.request)
    [outage] = usage.list_outages(here.redis)
    assert (outage.exchange, outage.path, outage.failures) == (name, path, 4)
    for live in (True, False):  # nor does one that would wait for the path
        with pytest.raises(BudgetSpent, match=path):
            here.rest.send(exchange, Request(path=path), budget=budget, cost=1, live=live, max_wait_s=10)
    here.rest.send(exchange, exchange.clock.request, budget=exchange.clock.budget, cost=1, live=False, max_wait_s=0.25)


def test_two_paths_that_fail_in_turn_pause_the_exchange(services, simulator):
    """Each path by itself would be sent as often as the exchange."""
    here = services()
    simulator.fault(exchange="binance", kind="error_503")
    paths = [Request(path="/fapi/v1/time"), LIST]
    for number in range(4):
        with pytest.raises(RetryLater, match="503"):
            send(here, request=paths[number % 2])
    for request in (*paths, Request(path="/fapi/v1/klines")):
        with pytest.raises(BudgetSpent, match="does not answer"):
            send(here, request=request)
    [outage] = usage.list_outages(here.redis)
    assert (outage.path, outage.failures) == ("", 4)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["error_503", "html_502", "down", "html_404"])
def test_an_exchange_that_fails_is_asked_a_few_times_only(services, simulator, kind):
    """The fault: every window asked again and again, with all of the budget."""
    here = services()
    simulator.fault(exchange="binance", kind=kind)
    asked = refused = 0
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < 8:
        try:
            send(here)
        except BudgetSpent:
            refused += 1
            time.sleep(0.02)
        except SourceError:
            asked += 1
    assert 4 <= asked <= 6
    assert refused > 50
    simulator.clear()
    [outage] = usage.list_outages(here.redis)
    assert outage.resumes_ms > now_ms()
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        try:
            assert send(here)
            break
        except BudgetSpent as error:
            time.sleep(min(error.retry_after_s, 1))
    assert send(here)
    assert usage.list_outages(here.redis) == []
