"""The attributes of a strategy as text: each value comes back with its type, and what was shared is shared."""

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fademoe.trader.attributes import read_attributes, write_attributes

plain = (
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False) | st.decimals(allow_nan=False)
)
keys = plain | st.tuples(plain, plain)
values = st.recursive(
    plain | st.sets(keys),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), values))
def test_values_come_back_with_their_types(attributes: dict[str, Any]):
    again = read_attributes(write_attributes(attributes))
    assert {name: repr_sorted(value) for name, value in again.items()} == {
        name: repr_sorted(value) for name, value in attributes.items()
    }


def repr_sorted(value: Any) -> str:
    """Return a value as text that says its types; the order of a set does not count."""
    if isinstance(value, set):
        return f"{{{sorted(map(repr, value))}}}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[repr_sorted(each) for each in value]}"
    if isinstance(value, dict):
        return f"dict{[(repr(key), repr_sorted(each)) for key, each in value.items()]}"
    return repr(value)


def test_what_is_held_in_several_places_is_one_again():
    book: dict[str, Any] = {"seen": {1, 2}}
    window: list[Any] = [Decimal("0.10")]
    window.append(window)
    attributes = {"z": window, "a": [window, book], "book": book, "other": [Decimal("0.10")], "seen": book["seen"]}
    again = read_attributes(write_attributes(attributes))
    again["z"].append("new")
    again["seen"].add(3)
    assert again["a"][0] is again["z"] is again["z"][1]
    assert again["a"][1] is again["book"]
    assert again["book"]["seen"] == {1, 2, 3}
    assert again["other"] == [Decimal("0.10")]
