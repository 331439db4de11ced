"""Windows and times."""

import socket

import pytest

from fademoe.clock import (
    DAY_MS,
    MINUTE_MS,
    Window,
    ceil_to,
    floor_to,
    merge,
    parse_time,
    read_boot_id,
    split,
    subtract,
    to_iso,
)

MIDNIGHT = 1_767_225_600_000  # 2026-01-01


def test_containers_of_one_kernel_are_one_machine(monkeypatch):
    """A step of Redis's clock that another container sees first was taken for the time between two machines."""
    monkeypatch.setattr(socket, "gethostname", lambda: "first")
    first = read_boot_id.__wrapped__()
    monkeypatch.setattr(socket, "gethostname", lambda: "second")
    assert read_boot_id.__wrapped__() == first


def test_split_ends_at_multiples_and_keeps_every_minute():
    window = Window(MIDNIGHT + 5 * MINUTE_MS, MIDNIGHT + 2 * DAY_MS + MINUTE_MS)
    pieces = list(split(window, DAY_MS))
    assert [piece.end_ms for piece in pieces] == [MIDNIGHT + DAY_MS, MIDNIGHT + 2 * DAY_MS, window.end_ms]
    assert merge(pieces) == [window]
    assert list(split(window, 2 * DAY_MS)) == [window]  # short enough as it is


def test_subtract_leaves_what_nothing_covers():
    assert subtract(Window(0, 10), [Window(2, 4), Window(3, 6), Window(9, 20)]) == [Window(0, 2), Window(6, 9)]
    assert subtract(Window(0, 10), []) == [Window(0, 10)]
    assert subtract(Window(5, 10), [Window(0, 5), Window(10, 11)]) == [Window(5, 10)]
    assert subtract(Window(5, 10), [Window(0, 11)]) == []


def test_merge_joins_touching_windows_and_drops_empty_ones():
    assert merge([Window(4, 6), Window(0, 2), Window(2, 4), Window(9, 9)]) == [Window(0, 6)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01", MIDNIGHT),
        ("2026-01-01T00:00:00Z", MIDNIGHT),
        ("2026-01-01T01:00:00+01:00", MIDNIGHT),
        ("1767225600", MIDNIGHT),
        ("1767225600000", MIDNIGHT),
        ("1767225600.5", MIDNIGHT + 500),
    ],
)
def test_times_are_read_as_iso_or_epoch(text, expected):
    assert parse_time(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "nan", "1767225600000000", "2200-01-01", "-5", "1e9", "12"])
def test_other_times_are_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


def test_rounding_and_writing():
    assert floor_to(MIDNIGHT + 59_999, MINUTE_MS) == MIDNIGHT
    assert ceil_to(MIDNIGHT + 1, MINUTE_MS) == MIDNIGHT + MINUTE_MS
    assert ceil_to(MIDNIGHT, MINUTE_MS) == MIDNIGHT
    assert to_iso(MIDNIGHT) == "2026-01-01T00:00:00Z"
    assert to_iso(MIDNIGHT + 5) == "2026-01-01T00:00:00.005Z"
