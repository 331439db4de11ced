"""What a connection makes of its messages, good and bad; no socket is opened."""

import gzip
import json
from contextlib import suppress
from dataclasses import replace

import pytest

from fademoe.clock import MINUTE_MS
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.values import decode, get_member, read_price, read_records, to_ms
from fademoe.metrics import Liquidations, Premium
from fademoe.signals import StopSignal
from fademoe.store.coverage import Series
from fademoe.streams.address import Address
from fademoe.streams.buffer import Buffer
from fademoe.streams.connection import AWAY_S, SUBSCRIBED_MS, Connection, Shared
from fademoe.streams.intake import MAX_BEHIND_MS
from fademoe.streams.liveness import Broken
from fademoe.streams.minutes import GRACE_MS, YOUNG_MS, Route
from fademoe.streams.proofs import MAX_CARRY_MS, EventProofs
from tests.support import lines
from tests.support.clocks import until

START = 1_767_225_600_000
END = START + MINUTE_MS
BTC, ETH = (Instrument(exchange="acme", code="acm", name=name, symbol=name) for name in ("BTC", "ETH"))


def route_frame(message):
    if "refused" in message:
        return Frame(topic=message["refused"], request=message.get("request"), fault="unknown topic")
    if "acked" in message:
        return Frame(request=message["acked"])
    if "heartbeat" in message:
        return Frame(reply="pong")
    return Frame(
        topic=get_member(message, "topic"),
        data=get_member(message, "data"),
        partial="partial" in message,
        sent_ms=message.get("sent"),
    )


SOCKET = Socket(
    name="s",
    path="/ws",
    subscribe=lambda topics, number: json.dumps(topics),
    route=route_frame,
    topics_per_socket=10,
    topics_per_request=10,
    request_pause_s=0,
)
FEED = StreamFeed(
    metric="pfr",
    socket="s",
    topic=lambda instrument: f"premium.{instrument.name}",
    items=read_records,
    parse=lambda item, instrument: Premium(to_ms(get_member(item, "ts")), read_price(get_member(item, "p"))),
    source="made up",
)
LAST = replace(
    FEED,
    reduce=Reduce.LAST,
    merged=True,
    items=lambda data: [data],
    parse=lambda data, instrument: Premium(to_ms(get_member(data, "ts")), read_price(get_member(data, "p"))),
)
SUM = replace(
    FEED,
    metric="lq",
    reduce=Reduce.SUM,
    name="name",
    parse=lambda item, instrument: Liquidations(to_ms(item["ts"]), read_price(item["usd"]), "0"),
)
PROVING = replace(SUM, continuous=False, max_silence_s=3600.0)
BAR = replace(FEED, reduce=Reduce.BAR)


class Line(lines.Line):
    """A connection with one topic, "all", that is served since START."""

    def __init__(self, *feeds, socket=SOCKET):
        topic = {feed: self.routes(feed) for feed in feeds}
        super().__init__(socket, {"all": topic}, START - MINUTE_MS)
        self.now_ms = START - SUBSCRIBED_MS
        self.send()
        self.now_ms = START

    @staticmethod
    def routes(feed):
        routes = {each.name: Route(feed, Series(f"acm-{feed.metric}", each.name), each) for each in (BTC, ETH)}
        return routes if feed.name else {"": routes["BTC"]}

    def take(self, *messages, at=1_000):
        self.now_ms = START + at
        self.hear(*(each if isinstance(each, bytes) else {"topic": "all", **each} for each in messages))

    def first_minute(self):
        """Return the rows of the first minute, and the number of errors."""
        self.now_ms = END + GRACE_MS
        errors = len(self.errors())
        has_samples = LAST in self.connection.topics["all"]
        last = {"topic": "all", "data": {"p": "9", "ts": self.now_ms} if has_samples else []}
        is_packed = self.connection.socket.decode is not decode
        self.take(gzip.compress(json.dumps(last).encode()) if is_packed else last, at=MINUTE_MS + GRACE_MS)
        with suppress(Broken):
            self.check()
        self.errors()
        items = [item for item in self.items() if item.ts == START]
        return {item.series.symbol: item.row and item.row[1] for item in items}, errors


def event(name, usd, ts=START + 500):
    return {"name": name, "ts": ts, "usd": usd}


def bar(text, minute=0):
    return {"data": [{"ts": START + minute * MINUTE_MS, "p": text}]}


def test_an_event_that_cannot_be_read_costs_the_sum_of_its_contract_only():
    line = Line(SUM)
    line.take({"data": [event("BTC", "1"), event("ETH", "2")]}, {"data": [event("BTC", "NaN"), event("ETH", "3")]})
    assert line.first_minute() == ({"ETH": "5"}, 1)


@pytest.mark.parametrize("message", [b"<html>", b'{"topic":"all"', b'{"a":NaN}', b'{"data":[]}', {"data": {}}])
def test_a_message_that_cannot_be_read_costs_the_sums_of_its_minute(message):
    line = Line(SUM)
    line.take({"data": [event("BTC", "1")]}, message)
    assert line.first_minute() == ({}, 1)


def test_of_a_compressed_message_the_report_shows_what_it_says():
    line = Line(SUM, socket=replace(SOCKET, decode=lambda content: decode(gzip.decompress(content))))
    line.take(gzip.compress(b'{"topic": "all", "data": [{"name": "BTC", "ts": "odd"}]}'))
    ((_, error),) = line.buffer.take_errors()
    assert error.body == "{'topic': 'all', 'data': [{'name': 'BTC', 'ts': 'odd'}]}"


def test_a_message_that_comes_again_compressed_otherwise_counts_once():
    """gzip writes the time of packing into its head: the same message never is the same to the byte."""
    line = Line(SUM, socket=replace(SOCKET, decode=lambda content: decode(gzip.decompress(content))))
    message = {"topic": "all", "sent": START + 600, "data": [event("BTC", "1"), event("ETH", "2")]}
    for number, text in enumerate([message, message, {**message, "sent": START + 601}, {**message, "number": 2}]):
        line.take(gzip.compress(json.dumps(text).encode(), mtime=number))
    assert line.first_minute() == ({"BTC": "3", "ETH": "6"}, 0)


def test_a_refused_topic_is_not_taken_for_a_quiet_one():
    line = Line(replace(SUM, continuous=False))
    line.take({"refused": "all"})
    assert line.items(END + GRACE_MS) == []


def test_what_is_refused_is_not_claimed_and_what_shares_its_request_is_asked_for_again():
    """Also where the refusal names no topic."""
    bars, events = (replace(feed, continuous=False) for feed in (FEED, SUM))
    topics = {"bad": {bars: Line.routes(bars)}, "events": {events: Line.routes(events)}}
    line = lines.Line(SOCKET, topics, START)
    assert line.send() == ['["bad", "events"]']
    line.hear({"refused": None, "request": 1})
    assert line.send() == ['["bad"]', '["events"]']
    line.now_ms += MINUTE_MS
    for number in (2, 4, 5):
        line.hear({"refused": None, "request": number})
        line.send()
    claimed = sorted(item.ts for item in line.items(START + 3 * MINUTE_MS + GRACE_MS))
    assert claimed == [START + MINUTE_MS, START + MINUTE_MS, START + 2 * MINUTE_MS, START + 2 * MINUTE_MS]


@pytest.mark.parametrize("is_continuous", [True, False])
def test_where_topics_always_have_data_only_data_prove_that_a_minute_was_watched(is_continuous):
    line = Line(replace(SUM, continuous=is_continuous))
    assert [item.ts for item in line.items(END + GRACE_MS)] == [START] * 2 * (not is_continuous)
    line.take({"data": []}, at=MINUTE_MS + GRACE_MS)
    line.check()
    assert [item.ts for item in line.items()] == [START] * 2 * is_continuous


def test_changes_are_merged_and_nothing_is_known_before_a_snapshot_or_after_a_lost_message():
    line = Line(LAST)
    line.take({"data": {"p": "1", "ts": START + 1}, "partial": 1})
    assert line.first_minute()[0] == {}
    line = Line(LAST)
    line.take({"data": {"p": "2", "ts": START + 2}}, {"data": {"ts": START + 3}, "partial": 1})
    assert line.first_minute() == ({"BTC": "2"}, 0)
    line = Line(LAST)
    line.take({"data": {"p": "2", "ts": START + 2}}, b"{", {"data": {"ts": START + 3}, "partial": 1})
    assert line.first_minute()[0] == {}
    with pytest.raises(Broken, match="could not be read"):
        line.check()


def test_one_feed_of_a_topic_does_not_suffer_for_the_other():
    line = Line(LAST, replace(LAST, metric="ppr", parse=lambda data, instrument: Premium(START, read_price(data["x"]))))
    line.take({"data": {"p": "2", "ts": START + 2, "x": "-1"}})
    line.now_ms = END + GRACE_MS
    line.hear(b"pong", {"topic": "all", "data": {"p": "3", "ts": END + 2, "x": "-1"}})
    line.check()
    assert [(item.series.source, item.row.pfr) for item in line.items()] == [("acm-pfr", "2")]
    assert len(line.errors()) == 1


def test_a_bar_off_the_grid_is_bad_and_errors_of_one_cause_are_recorded_once_a_minute():
    line = Line(FEED)
    line.take(*({"data": [{"ts": START + 1, "p": "1"}]} for _ in range(20)), at=MINUTE_MS)
    line.take(bar("3"), at=MINUTE_MS)
    assert line.first_minute() == ({"BTC": "3"}, 1)


def test_a_closed_bar_that_comes_again_with_other_values_replaces_the_first_while_it_is_young():
    line = Line(FEED)
    line.take(bar("3"), at=MINUTE_MS)
    assert [(item.row.pfr, item.replaces) for item in line.items()] == [("3", False)]
    line.take(bar("3"), at=MINUTE_MS + 900)
    assert line.items(line.now_ms) == []
    line.take(bar("4"), at=MINUTE_MS + 1_000)
    assert [(item.row.pfr, item.replaces) for item in line.items(line.now_ms)] == [("4", True)]
    assert line.items(line.now_ms + 1_000) == []


def test_a_closed_bar_that_comes_again_when_its_minute_is_not_young_replaces_nothing():
    """The audit judges what is older."""
    line = Line(FEED)
    line.take(bar("3"), at=MINUTE_MS)
    assert [item.row.pfr for item in line.items()] == ["3"]
    line.items(START + YOUNG_MS)
    line.take(bar("4"), at=YOUNG_MS + 1_000)
    assert [item for item in line.items(line.now_ms) if item.replaces] == []


def test_a_connection_that_is_to_be_cut_soon_asks_for_another_one():
    line = lines.Line(replace(SOCKET, renew_after_s=100), {"all": {FEED: Line.routes(FEED)}}, START)
    line.now_ms += 100_000
    line.hear({"topic": "all", "data": []})
    line.check()
    assert not line.connection.health.is_aged
    line.now_ms += 1_000
    line.check()
    assert line.connection.health.is_aged


def test_what_a_session_claims_is_known_once_all_topics_are_served():
    line = lines.Line(replace(SOCKET, acks=True), {"all": {SUM: Line.routes(SUM)}}, START)
    line.send()
    line.now_ms += 1_000
    line.hear(b"pong")
    line.check()
    assert line.connection.health.claims_from_ms is None
    line.hear({"acked": 1})
    line.check()
    assert line.connection.health.claims_from_ms == line.connection.health.claimed_until_ms == END
    line.now_ms = END + MINUTE_MS + GRACE_MS
    line.hear({"topic": "all", "data": []})
    line.check()
    assert line.connection.health.claims_from_ms == END
    assert line.connection.health.claimed_until_ms == END + MINUTE_MS


def test_a_heartbeat_of_the_server_is_answered_at_once():
    line = Line(SUM)
    assert line.hear(b'{"heartbeat":1}') == "pong"
    assert line.hear(b'{"topic":"all","data":[]}') is None
    assert line.first_minute() == ({"BTC": None, "ETH": None}, 0)


def test_a_bar_is_final_when_the_next_one_comes_and_in_its_last_state():
    line = Line(BAR)
    line.take(bar("1"), bar("2"), at=30_000)
    assert line.items(line.now_ms) == [], "the running bar is never stored"
    line.take(bar("3"), bar("9", minute=1), bar("4"), at=MINUTE_MS + 100)
    found = line.items(line.now_ms)
    assert [(item.ts, item.row.pfr) for item in found] == [(START, "3")], "a state that comes late is old"


def test_of_the_states_of_a_bar_the_one_that_was_sent_last_counts():
    """The one that came last was stored, and none that came behind the first of the next bar."""

    def state(text, sent, minute=0):
        return {**bar(text, minute), "sent": START + sent}

    line = Line(BAR)
    line.take(state("1", 30_000), state("3", 59_000), state("2", 58_000), at=59_500)
    line.take(state("9", 60_200, minute=1), at=MINUTE_MS + 300)
    assert [item.row.pfr for item in line.items(line.now_ms)] == ["3"]
    line.take(state("4", 60_100), state("2", 58_500), at=MINUTE_MS + 400)
    ((ts, row, replaces),) = [(item.ts, item.row, item.replaces) for item in line.items(line.now_ms)]
    assert (ts, row.pfr, replaces) == (START, "4", True)
    line.take({**bar("7", minute=-1), "sent": START + 61_000}, at=MINUTE_MS + 500)
    assert line.items(line.now_ms) == [], "a bar that was not followed to its end"


def test_a_bar_without_a_next_one_is_final_after_a_grace():
    line = Line(replace(BAR, continuous=False))
    line.take(bar("1"), at=59_000)
    assert line.items(END + GRACE_MS - 1) == []
    assert line.first_minute() == ({"BTC": "1"}, 0)


def test_a_bar_off_the_grid_or_of_a_time_to_come_is_bad():
    line = Line(BAR)
    line.take({"data": [{"ts": START + 1, "p": "1"}]}, bar("1", minute=1), at=1_000)
    assert line.first_minute() == ({}, 2)


def test_numbers_of_a_message_keep_their_digits():
    prices = []
    line = Line(replace(LAST, parse=lambda data, instrument: prices.append(data["p"])))
    line.take(b'{"topic":"all","data":{"p":0.10000000000000000001}}')
    assert str(prices[0]) == "0.10000000000000000001"


def test_minutes_that_a_connection_left_unproven_are_proved_by_the_next_event_of_another():
    """A connection that is replaced costs no minute, a silent one claims nothing."""
    topics = {"all": {PROVING: Line.routes(PROVING)}}
    for late_ms, claimed in ((MAX_CARRY_MS, 2), (MAX_CARRY_MS + 1, 0)):
        proofs = EventProofs()
        old, new = (lines.Line(SOCKET, topics, START - 2_000, proofs) for _ in range(2))
        old.send()
        old.now_ms = START + 1_000
        old.hear({"topic": "all", "data": [event("BTC", "1")]})
        assert old.items(END + 2 * GRACE_MS) == []
        old.connection.end_session()
        new.now_ms = START + 1_000 + late_ms
        new.hear({"topic": "all", "data": []})
        assert new.items() == [], "a message without an event proves nothing"
        new.hear({"topic": "all", "data": [{"name": "OTHER"}]})
        assert [item.ts for item in new.items()] == [START] * claimed


def test_an_event_on_another_socket_proves_nothing_of_the_contracts_of_this_one():
    """Several sockets share the contracts; one was replaced, and an event of the other claimed its minutes."""
    proofs = EventProofs()
    topics = {name: {"all": {PROVING: {name: route}}} for name, route in Line.routes(PROVING).items()}
    names = list(topics)
    old, other, new = (lines.Line(SOCKET, topics[name], START - 2_000, proofs) for name in (*names, names[0]))
    old.send()
    old.now_ms = START + 1_000
    old.hear({"topic": "all", "data": [event(names[0], "1")]})
    old.items(END + 2 * GRACE_MS)
    old.connection.end_session()
    for line, claimed in ((other, []), (new, [names[0]])):
        line.now_ms = END + 3 * GRACE_MS
        line.hear({"topic": "all", "data": [event("OTHER", "1")]})
        assert [item.series.symbol for item in line.items()] == claimed


def broken_parser(item, instrument):
    raise KeyError("no such member")


def test_whatever_is_raised_ends_the_session_only_and_is_recorded():
    line = Line(replace(SUM, parse=broken_parser))
    with pytest.raises(KeyError):
        line.take({"data": [event("BTC", "1")]})
    address, stop, buffer = Address(url="wss://x/ws", resolve=lambda: broken_parser({}, BTC)), StopSignal(), Buffer()
    connection = Connection(SOCKET, address, {}, Shared(buffer=buffer, stop=stop, exchange_now_ms=lambda: START))
    connection.start()
    until(lambda: connection.health.reconnects > 1, 5)
    assert connection.is_alive()
    assert not connection.health.connected
    assert [(unit, type(error)) for unit, error in buffer.take_errors()] == [("socket s", KeyError)]
    connection.end()
    connection.join(5)
    assert not connection.is_alive()


@pytest.mark.parametrize(("step_ms", "claimed"), [(0, 2), (GRACE_MS + 1, 0), (-GRACE_MS - 1, 0)])
def test_what_was_watched_by_a_wrong_time_of_the_exchange_is_not_claimed_once_that_is_set_right(step_ms, claimed):
    topics, proofs = {"all": {PROVING: Line.routes(PROVING)}}, EventProofs()
    old, new = (lines.Line(SOCKET, topics, START - 2_000, proofs) for _ in range(2))
    old.send()
    for _ in range(6):
        old.now_ms += int(AWAY_S * 1000)
        old.check_clocks()
        old.hear(b"pong")
    old.now_ms += step_ms
    old.step_ms = step_ms
    with suppress(Broken):
        old.check_clocks()
    old.connection.end_session()
    new.now_ms = old.now_ms
    new.hear({"topic": "all", "data": [event("BTC", "1")]})
    assert len(new.items()) == claimed


def test_an_event_of_a_time_to_come_costs_the_sum_of_its_own_minute():
    """The exchange's clock may be ahead of what is known of it."""
    line = Line(SUM)
    line.take({"data": [event("BTC", "1", ts=END + 2 * MINUTE_MS + 500), event("ETH", "2")]})
    assert line.first_minute() == ({"ETH": "2"}, 1)
    line.take({"data": []}, at=4 * MINUTE_MS + GRACE_MS)
    line.check()
    claimed = [(item.series.symbol, (item.ts - END) // MINUTE_MS) for item in line.items()]
    assert sorted(claimed) == [("BTC", 0), ("BTC", 1), *(("ETH", minute) for minute in range(3))]


@pytest.mark.parametrize(("late_ms", "claimed"), [(MAX_CARRY_MS, ["3", None]), (MAX_CARRY_MS + 1, [])])
def test_an_event_that_comes_late_does_not_claim_a_minute_that_was_abandoned(late_ms, claimed):
    line = lines.Line(SOCKET, {"all": {PROVING: Line.routes(PROVING)}}, START - 2_000)
    line.send()
    line.now_ms = START + 1_000
    line.hear({"topic": "all", "data": [event("BTC", "1")]})
    assert line.items(END + 2 * GRACE_MS) == []
    line.connection.end_session()
    line.now_ms = START + 1_000 + late_ms
    line.connection.begin_session(line.now_s)
    line.send()
    line.hear({"topic": "all", "data": [event("BTC", "2")]})
    line.check()
    assert [item.row and item.row[1] for item in line.items()] == claimed


def test_an_event_that_comes_late_just_before_a_session_ends_changes_its_minute():
    line = Line(SUM)
    line.take({"data": [event("BTC", "1")]})
    assert line.first_minute() == ({"BTC": "1", "ETH": None}, 0)
    line.hear({"topic": "all", "data": [event("BTC", "2")]})
    line.connection.end_session()
    assert [(item.row[1], item.replaces) for item in line.items()] == [("3", True)]


@pytest.mark.parametrize("feed", [SUM, PROVING])
def test_an_event_of_a_minute_of_a_connection_that_was_replaced_changes_that_minute(feed):
    """The list of contracts changes, or the exchange announces an upgrade: late events come on the new connection."""
    topics, proofs = {"all": {feed: Line.routes(feed)}}, EventProofs()
    old, new = (lines.Line(SOCKET, topics, START - 2_000, proofs) for _ in range(2))
    old.send()
    old.hear({"topic": "all", "data": [event("BTC", "1")]})
    old.now_ms = END + 2 * GRACE_MS
    old.hear({"topic": "all", "data": [event("ETH", "5", ts=END + GRACE_MS)]})
    stored = {item.series.symbol: item.row and item.row[1] for item in old.items(old.now_ms)}
    assert stored == {"BTC": "1", "ETH": None}
    old.connection.end()
    old.connection.end_session()
    new.now_ms = END + 3 * MINUTE_MS
    new.send()
    new.hear({"topic": "all", "data": [event("BTC", "1"), event("BTC", "2", ts=START + 700), event("ETH", "3")]})
    changed = {item.series.symbol: (item.row[1], item.replaces) for item in new.items(new.now_ms)}
    assert changed == {"BTC": ("4" if not feed.distinct else "3", True), "ETH": ("3", True)}


@pytest.mark.parametrize(("feed", "errors"), [(FEED, 1), (BAR, 1), (LAST, 1), (SUM, 0)])
def test_what_is_long_past_is_not_stored(feed, errors):
    line, old_ms = Line(feed), START - MAX_BEHIND_MS - 2 * MINUTE_MS
    row = {"ts": old_ms, "p": "1", "usd": "1", "name": "BTC"}
    line.take({"data": row if feed is LAST else [row]})
    assert len(line.errors()) == errors
    items = line.items(END + GRACE_MS)
    assert [item for item in items if item.ts < START] == []
    recent = {"ts": START - MAX_BEHIND_MS, "p": "1", "usd": "1", "name": "BTC"}
    line.take({"data": recent if feed is LAST else [recent]})
    assert line.errors() == []


def test_a_sample_that_was_late_on_the_way_proves_only_its_own_time():
    """The network stood still for a while: what it holds back is not seen yet."""
    sums = replace(SUM, continuous=False)
    topics = {"all": {LAST: Line.routes(LAST)}, "events": {sums: Line.routes(sums)}}
    line = lines.Line(SOCKET, topics, START - 2_000)
    line.send()
    for late_ms, minutes in ((MINUTE_MS, []), (MINUTE_MS - 1, []), (GRACE_MS, [START] * 3)):
        line.now_ms = END + GRACE_MS + MINUTE_MS // 2
        line.hear({"topic": "all", "data": {"p": "1", "ts": line.now_ms - late_ms}})
        line.check()
        assert [item.ts for item in line.items()] == minutes
