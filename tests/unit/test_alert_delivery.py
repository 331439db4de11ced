"""What is sent when: order, age, silences and retries."""

from fademoe.alerts.delivery import Fate, Group, Item, compute_pause_s, decide, is_kept, select_ready
from fademoe.alerts.rules import Silence
from fademoe.clock import MINUTE_MS

AGE = 15 * MINUTE_MS
LABELS = {"rule": "r", "code": "bin", "symbol": "BTC", "severity": "info"}


def item(state="firing", symbol="BTC", **values):
    return Item(transition=f"{state}-{symbol}", code="bin", symbol=symbol, state=state, **values)


def group(id_, minute, *items, due_ms=0, attempts=0, rule="r"):
    return Group(id=id_, rule=rule, minute=minute, due_ms=due_ms, attempts=attempts, items=items or (item(),))


def test_the_age_counts_from_the_end_of_the_minute():
    assert decide(item(), 0, AGE, MINUTE_MS + AGE) is Fate.WAITING
    assert decide(item(), 0, AGE, MINUTE_MS + AGE + 1) is Fate.TOO_OLD


def test_an_end_is_sent_at_any_age_when_its_begin_was_delivered_and_else_not():
    late = 100 * AGE
    assert decide(item("resolved", began=Fate.DELIVERED), 0, AGE, late) is Fate.WAITING
    assert decide(item("resolved", began=Fate.DELIVERED, is_silenced=True), 0, AGE, late) is Fate.WAITING
    for began in (Fate.TOO_OLD, Fate.SILENCED, Fate.UNNEEDED):
        assert decide(item("resolved", began=began), 0, AGE, 0) is Fate.UNNEEDED
        assert decide(item("known", began=began), 0, AGE, 0) is Fate.UNNEEDED


def test_what_is_silenced_is_not_sent():
    assert decide(item(is_silenced=True), 0, AGE, 0) is Fate.SILENCED


def test_a_silence_counts_for_minutes_that_end_before_its_end_and_needs_all_its_keys():
    silence = Silence(match={"symbol": "BTC", "code": "bin"}, until_ms=10 * MINUTE_MS)
    assert silence.covers(8 * MINUTE_MS, LABELS)
    assert not silence.covers(9 * MINUTE_MS, LABELS)
    assert not silence.covers(0, LABELS | {"code": "byb"})


def test_a_closed_group_is_kept_whole_while_any_of_it_is_to_be_sent():
    old = MINUTE_MS + AGE + 1
    assert not is_kept(group(1, 0, attempts=3), AGE, old)
    assert is_kept(group(1, 0, item(), item("resolved", "ETH", began=Fate.DELIVERED), attempts=3), AGE, old)


def test_a_later_group_waits_for_an_earlier_one_about_the_same_contract_only():
    first = group(1, 0, item(), due_ms=500)
    same, other = (
        group(2, MINUTE_MS, item("resolved", began=Fate.WAITING)),
        group(3, MINUTE_MS, item(symbol="ETH"), rule="q"),
    )
    assert [one.id for one in select_ready([same, other, first], 100)] == [3]
    assert [one.id for one in select_ready([same, other, first], 500)] == [1, 3]
    assert [one.id for one in select_ready([same, other], 500)] == [2, 3]


def test_order_is_handed_on_through_a_group_that_waits_itself():
    first = group(1, 0, item(), due_ms=500)
    second = group(2, MINUTE_MS, item("resolved", began=Fate.WAITING), item(symbol="ETH"))
    third = group(3, 2 * MINUTE_MS, item("resolved", symbol="ETH", began=Fate.WAITING))
    assert select_ready([first, second, third], 100) == []


def test_the_pauses_double_up_to_a_minute_or_are_as_long_as_the_receiver_asks():
    assert [compute_pause_s(attempt) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert compute_pause_s(1, retry_after_s=30.0) == 30
