"""Tolerant reading: one bad element never costs a good one."""

import pytest

from fademoe.errors import BadPayload
from fademoe.feeds.reading import read_elements
from fademoe.feeds.values import read_price


def convert_price(item):
    return None if item == "" else read_price(item)


def test_a_good_list_is_read_in_its_order():
    elements = read_elements(["2", "1", "3"], convert_price)
    assert elements.readable == ["2", "1", "3"]
    assert not elements.unreadable


def test_elements_that_hold_nothing_are_left_out():
    assert read_elements(["2", "", "3"], convert_price).readable == ["2", "3"]
    assert read_elements([], convert_price).readable == []


def test_an_unreadable_element_is_named_and_the_others_are_kept():
    elements = read_elements(["2", None, "3", "x", "4"], convert_price)
    assert elements.readable == ["2", "3", "4"]
    assert [(bad.position, bad.element) for bad in elements.unreadable] == [(1, None), (3, "x")]
    error = elements.make_errors("acme", "/v1/prices?coin=BTC")[1]
    assert "element 3" in str(error) and "'x'" in str(error)
    assert (error.exchange, error.request, error.body) == ("acme", "/v1/prices?coin=BTC", "x")


def test_a_short_list_is_not_refused_for_its_only_element():
    elements = read_elements([None], convert_price)
    assert (elements.readable, len(elements.unreadable)) == ([], 1)


@pytest.mark.parametrize(("bad", "good"), [(3, 2), (3, 0), (40, 39)])
def test_a_list_of_which_most_is_unreadable_is_refused(bad, good):
    with pytest.raises(BadPayload, match=f"{bad} of {bad + good} elements"):
        read_elements(["1"] * good + [None] * bad, convert_price)


def test_elements_that_hold_nothing_do_not_make_a_list_readable():
    with pytest.raises(BadPayload, match="3 of 103 elements"):
        read_elements([""] * 100 + [None] * 3, convert_price)


def test_half_of_a_list_may_be_unreadable():
    assert len(read_elements(["1"] * 4 + [None] * 4, convert_price).readable) == 4
