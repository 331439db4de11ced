"""What is asked again, served and refused of the topics of a session."""

from itertools import pairwise

import pytest

from fademoe.streams.subscriptions import CONFIRM_S, MAX_ATTEMPTS, MAX_REFUSED_S, REFUSED_S, Change, Subscriptions

TOPICS = [f"t{n}" for n in range(8)]


def subscriptions(*, acks=True, size=8, pause_s=0.0, topics=TOPICS):
    return Subscriptions(topics, topics_per_request=size, request_pause_s=pause_s, acks=acks)


def send(subs, now_s=0.0):
    """Send all that is due; return number -> topics."""
    sent = {}
    while request := subs.take_request(now_s):
        sent[request[0]] = request[1]
    return sent


def test_requests_are_cut_to_size_and_paced():
    subs = subscriptions(size=3, pause_s=0.5)
    assert subs.take_request(0.0) == (1, ["t0", "t1", "t2"])
    assert subs.take_request(0.4) is None
    assert subs.take_request(0.5) == (2, ["t3", "t4", "t5"])
    assert subs.take_request(1.0) == (3, ["t6", "t7"])
    assert subs.take_request(9.0) is None


def test_topics_are_served_by_name_by_request_or_by_their_data():
    subs = subscriptions(size=3)
    send(subs)
    assert subs.on_ack(["t1"]) == Change(served=("t1",))
    assert subs.on_ack(["t1"]) == Change()
    assert subs.on_ack(request=1) == Change(served=("t0", "t2"))
    assert subs.on_data(["t7"]) == Change(served=("t7",))
    assert not subs.is_settled
    for number in (2, 3):
        subs.on_ack(request=number)
    assert subs.is_settled
    assert subs.retry_overdue(100.0) == Change()


def offenders_found(bad, *, name_it, by_request=True):
    """Return what is refused when the exchange carries out nothing of a request with a topic of `bad`."""
    subs = subscriptions()
    refused, served, requests = [], [], 0
    for now_s in range(100):
        for number, topics in send(subs, float(now_s)).items():
            requests += 1
            wrong = [topic for topic in topics if topic in bad]
            if not wrong:
                change = subs.on_ack(request=number)
            else:
                topic = wrong[0] if name_it else None
                change = subs.on_reject(topic, number if by_request else None, float(now_s))
            served += change.served
            refused += change.refused
    assert subs.is_settled
    assert sorted(served) == [topic for topic in TOPICS if topic not in bad]
    return refused, requests


def test_a_refusal_that_names_no_topic_voids_its_request_which_is_asked_for_in_halves():
    refused, requests = offenders_found({"t5"}, name_it=False)
    assert refused == ["t5"]
    assert requests == 1 + 2 * 3 + MAX_ATTEMPTS - 1
    assert sorted(offenders_found({"t0", "t5"}, name_it=False)[0]) == ["t0", "t5"]
    assert sorted(offenders_found(set(TOPICS), name_it=False)[0]) == TOPICS


def test_a_refusal_that_names_neither_topic_nor_request_is_about_what_is_not_answered():
    assert offenders_found({"t5"}, name_it=False, by_request=False)[0] == ["t5"]
    subs = subscriptions(size=4)
    send(subs)
    subs.on_ack(request=1)
    assert subs.on_reject(None, None, 1.0).again == ("t4", "t5", "t6", "t7")
    send(subs, 1.0)
    assert subs.on_reject(None, None, 1.0 + 2 * CONFIRM_S) == Change(), "too late to be an answer"


def test_of_several_unanswered_requests_one_is_asked_at_a_time_after_a_refusal_of_nothing():
    subs = subscriptions(size=4)
    send(subs)
    assert sorted(subs.on_reject(None, None, 1.0).again) == TOPICS
    assert len(send(subs, 1.0)) == 1
    subs.on_ack(request=3)
    assert len(send(subs, 1.0)) == 1


def test_a_named_topic_is_refused_and_the_rest_of_a_void_request_is_asked_for_again():
    assert offenders_found({"t2"}, name_it=True) == (["t2"], 2)
    subs = subscriptions()
    send(subs)
    assert subs.on_reject("nobody", None, 0.0) == Change()


def test_where_topics_are_confirmed_by_name_the_rest_of_a_request_is_waited_for():
    subs = subscriptions()
    send(subs)
    assert subs.on_reject("t2", None, 0.0) == Change(refused=("t2",))
    assert subs.on_ack([topic for topic in TOPICS if topic != "t2"]).served
    assert subs.is_settled


def test_topics_that_are_not_confirmed_in_time_are_asked_for_in_halves_and_abandoned_alone():
    subs = subscriptions()
    send(subs)
    subs.on_ack(TOPICS[:4])
    assert subs.retry_overdue(CONFIRM_S) == Change()
    assert subs.retry_overdue(CONFIRM_S + 0.1).again == tuple(TOPICS[4:])
    refused, now_s = [], CONFIRM_S + 0.1
    for _ in range(10):
        for topics in send(subs, now_s).values():
            subs.on_ack([topic for topic in topics if topic != "t6"])
        now_s += CONFIRM_S + 0.1
        refused += subs.retry_overdue(now_s).refused
    assert refused == ["t6"]
    assert subs.is_settled


def test_a_confirmation_that_comes_late_is_one():
    subs = subscriptions()
    send(subs)
    subs.on_ack(["t0"])
    assert subs.retry_overdue(CONFIRM_S + 0.1).again == tuple(TOPICS[1:])
    assert subs.on_ack(TOPICS).served == tuple(TOPICS[1:])
    assert send(subs, 100.0) == {}
    assert subs.is_settled


def test_the_silence_of_an_exchange_that_never_confirms_says_nothing():
    subs = subscriptions()
    send(subs)
    assert subs.retry_overdue(CONFIRM_S + 0.1).served == tuple(TOPICS)
    assert subs.is_settled


def test_a_refused_topic_that_has_data_is_served():
    subs = subscriptions(acks=False)
    send(subs)
    assert subs.is_settled
    assert subs.on_reject("t3", 1, 0.0).refused == ("t3",)
    assert subs.on_data(["t3"]) == Change(served=("t3",))


@pytest.mark.parametrize("topic", [None, "t0"])
def test_a_second_answer_to_a_request_that_is_settled_changes_nothing(topic):
    subs = subscriptions()
    send(subs)
    subs.on_ack(request=1)
    assert subs.on_reject(topic, 1, 1.0) == Change(refused=("t0",) if topic else ())
    assert send(subs, 1.0) == {}


@pytest.mark.parametrize("acks", [True, False])
def test_without_topics_there_is_nothing_to_ask(acks):
    subs = subscriptions(acks=acks, topics=[])
    assert send(subs) == {}
    assert subs.is_settled


@pytest.mark.parametrize("acks", [True, False])
def test_a_refused_topic_is_asked_for_again_by_itself_ever_less_often(acks):
    """A refusal may be a passing fault, or that of a contract that was listed a moment ago."""
    subs = subscriptions(topics=["t0", "t1"], acks=acks)
    send(subs)
    assert subs.on_reject("t0", None, 1.0) == Change(refused=("t0",), again=() if acks else ("t1",))
    send(subs, 2.0)
    subs.on_ack(["t1"])
    now_s, asked = 2.0, []
    while now_s < 3 * MAX_REFUSED_S:
        now_s += 10.0
        subs.retry_overdue(now_s)
        for topics in send(subs, now_s).values():
            assert topics == ["t0"]
            asked.append(now_s)
            subs.on_reject("t0", None, now_s)
    pauses = [later - before for before, later in pairwise([1.0, *asked])]
    assert [round(pause_s / REFUSED_S) for pause_s in pauses] == [1, 2, 4, 6]
    assert subs.on_data(["t0"]) == Change(served=("t0",))
    assert subs.retry_overdue(now_s + 2 * MAX_REFUSED_S) == Change()
    assert send(subs, now_s + 2 * MAX_REFUSED_S) == {}
