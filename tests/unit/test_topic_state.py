"""The merged state of a topic whose messages tell what changed."""

from fademoe.feeds.stream import Frame
from fademoe.streams.topic_state import TopicState


def test_changes_are_merged_into_the_newest_whole_message():
    state = TopicState()
    assert state.merge(Frame(data={"a": 1}, partial=True)) is None
    assert state.merge(Frame(data={"a": 2, "b": 3})) == {"a": 2, "b": 3}
    assert state.merge(Frame(data={"a": 4}, partial=True)) == {"a": 4, "b": 3}
    assert state.merge(Frame(data={"b": 5})) == {"b": 5}


def test_nothing_is_known_after_a_message_was_missed():
    state = TopicState()
    assert not state.invalidate()
    state.merge(Frame(data={"a": 1}))
    assert state.invalidate()
    assert state.merge(Frame(data={"a": 2}, partial=True)) is None


def test_a_message_that_is_no_object_is_no_state():
    assert TopicState().merge(Frame(data=[1])) == [1]


def test_of_messages_in_another_order_the_one_that_was_sent_last_counts():
    state = TopicState()
    state.merge(Frame(data={"a": 1, "b": 1}, sent_ms=10))
    assert state.merge(Frame(data={"a": 3}, partial=True, sent_ms=30)) == {"a": 3, "b": 1}
    assert state.merge(Frame(data={"a": 2, "b": 2}, partial=True, sent_ms=20)) == {"a": 3, "b": 2}
    assert state.merge(Frame(data={"a": 0, "b": 0}, sent_ms=5)) == {"a": 3, "b": 2}
    assert state.merge(Frame(data={"b": 4}, sent_ms=25)) == {"a": 3, "b": 4}


def test_a_change_that_comes_before_the_whole_message_it_follows_is_not_lost():
    state = TopicState()
    assert state.merge(Frame(data={"a": 2}, partial=True, sent_ms=20)) is None
    assert state.merge(Frame(data={"a": 1, "b": 1}, sent_ms=10)) == {"a": 2, "b": 1}
