"""Closes by minute in an array, beside a dictionary of the same."""

import random

import numpy as np

from fademoe.archives.closes import MinuteCloses
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window

START = 1_700_006_400_000


def test_closes_are_those_of_a_dictionary():
    drawn = random.Random(1)
    for _ in range(300):
        window = Window(START - drawn.randrange(3) * 90_000, START + drawn.randrange(1, 3 * DAY_MS))
        closes, expected = MinuteCloses(window), {}
        for _ in range(drawn.randrange(1, 4)):
            times = [START + drawn.randrange(-500, 4_000) * MINUTE_MS for _ in range(drawn.randrange(400))]
            found = {ts: drawn.uniform(1, 9) for ts in times}
            other = MinuteCloses(Window(START - DAY_MS, START + 4 * DAY_MS))
            (other if drawn.random() < 0.5 else closes).put(
                np.array(list(found), np.int64), np.array([*found.values()])
            )
            closes.add(other)
            expected |= {ts: value for ts, value in found.items() if window.start_ms <= ts < window.end_ms}
        start_ms = START + drawn.randrange(-DAY_MS, 3 * DAY_MS)
        part = Window(start_ms, start_ms + drawn.randrange(2 * DAY_MS))
        inside = {ts: value for ts, value in expected.items() if part.start_ms <= ts < part.end_ms}
        assert closes.read(part) == inside
        assert closes.count(part) == len(inside)
        day = Window(START + DAY_MS, START + 2 * DAY_MS)
        assert closes.has_any_hour(day) == any(ts in expected for ts in range(*day, HOUR_MS))


def test_a_time_between_two_minutes_has_no_close():
    closes = MinuteCloses(Window(START, START + HOUR_MS))
    closes.put(np.array([START + 1, START + MINUTE_MS]), np.array([1.0, 2.0]))
    assert closes.read(Window(START, START + HOUR_MS)) == {START + MINUTE_MS: 2.0}
