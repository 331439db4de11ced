"""The states of an alert, minute by minute."""

from fademoe.alerts.state_machine import Instance, Reason, State, Step, Timing
from fademoe.clock import MINUTE_MS

RESULTS = {"t": True, "f": False, "u": None}


def run(timing, minutes, clears="", instance=None, first=0):
    """Evaluate one letter a minute (true, false, unknown); return {minute: transitions}, and the instance."""
    instance = instance or Instance()
    found = {}
    for number, letter in enumerate(minutes, first):
        clear = RESULTS[clears[number - first]] if clears else None
        steps = instance.evaluate(timing, number * MINUTE_MS, RESULTS[letter], clear, has_clear=bool(clears))
        if steps:
            found[number] = [str(step.state) for step in steps]
    return found, instance


def test_without_for_it_fires_at_once_and_is_never_pending():
    found, instance = run(Timing(), "fttff")
    assert found == {1: ["firing"], 3: ["resolved"]}
    assert instance.state is State.INACTIVE  # cooldown 0: the minute after looks at it again


def test_it_fires_in_the_minute_after_for_true_ones():
    assert run(Timing(pending=5), "tttttt")[0] == {0: ["pending"], 5: ["firing"]}
    assert run(Timing(pending=5), "ttttt")[0] == {0: ["pending"]}


def test_a_false_minute_resets_and_an_unknown_one_neither_counts_nor_resets():
    assert run(Timing(pending=2), "ttfttt")[0] == {0: ["pending"], 2: ["inactive"], 3: ["pending"], 5: ["firing"]}
    assert run(Timing(pending=2), "tutuut")[0] == {0: ["pending"], 5: ["firing"]}


def test_it_resolves_after_keep_more_minutes_that_are_over():
    assert run(Timing(keep=2), "tffff")[0] == {0: ["firing"], 3: ["resolved"]}
    assert run(Timing(keep=2), "tffuf")[0] == {0: ["firing"], 4: ["resolved"]}
    assert run(Timing(keep=2), "tfftfff")[0] == {0: ["firing"], 6: ["resolved"]}


def test_with_clear_it_is_over_when_clear_is_true_and_the_expression_is_not():
    assert run(Timing(), "tffff", clears="ffftf")[0] == {0: ["firing"], 3: ["resolved"]}
    assert run(Timing(), "ttt", clears="ttt")[0] == {0: ["firing"]}
    assert run(Timing(keep=1), "tffff", clears="ftuft")[0] == {0: ["firing"]}
    assert run(Timing(keep=1), "tffff", clears="ftuut")[0] == {0: ["firing"], 4: ["resolved"]}


def test_in_the_cooldown_it_is_not_looked_at_and_then_begins_again():
    found, _ = run(Timing(pending=1, cooldown=5), "tt" + "f" + "t" * 8)
    assert found == {0: ["pending"], 1: ["firing"], 2: ["resolved"], 7: ["pending"], 8: ["firing"]}


def test_cooldown_zero_begins_in_the_next_minute():
    assert run(Timing(), "tftf")[0] == {0: ["firing"], 1: ["resolved"], 2: ["firing"], 3: ["resolved"]}


def test_the_sixteenth_unknown_minute_is_told_once_and_so_is_the_next_known_one():
    found, instance = run(Timing(), "t" + "u" * 40 + "t")
    assert found == {0: ["firing"], 16: ["unknown"], 41: ["known"]}
    assert instance.state is State.FIRING
    assert run(Timing(), "u" * 15 + "f")[0] == {}
    assert run(Timing(), "u" * 16 + "t")[0] == {15: ["unknown"], 16: ["known", "firing"]}
    assert run(Timing(), ("u" * 15 + "f") * 3)[0] == {}


def test_unknown_minutes_of_the_cooldown_do_not_count():
    found, _ = run(Timing(cooldown=20), "tf" + "u" * 19 + "u" * 15)
    assert found == {0: ["firing"], 1: ["resolved"]}
    assert run(Timing(cooldown=20), "tf" + "u" * 19 + "u" * 16)[0] == {0: ["firing"], 1: ["resolved"], 36: ["unknown"]}


def test_an_end_names_the_minute_that_it_ends():
    instance = Instance()
    instance.evaluate(Timing(), 60_000, True, None, has_clear=False)
    assert instance.evaluate(Timing(), 300_000, False, None, has_clear=False) == [Step(State.RESOLVED, 60_000)]


def test_withdrawn_it_resolves_what_fires_and_ends_what_is_pending():
    _, firing = run(Timing(), "t")
    assert firing.withdraw(60_000, Reason.DELISTED) == [Step(State.RESOLVED, 0, Reason.DELISTED)]
    assert firing.is_idle
    _, pending = run(Timing(pending=3), "t")
    assert pending.withdraw(60_000, Reason.REMOVED) == [Step(State.INACTIVE, 0, Reason.REMOVED)]
    assert Instance().withdraw(60_000, Reason.REMOVED) == []
    _, unknown = run(Timing(), "t" + "u" * 20)
    assert [step.state for step in unknown.withdraw(0, Reason.CHANGED)] == [State.KNOWN, State.RESOLVED]


def test_saved_at_any_minute_and_resumed_it_goes_on_the_same():
    timing = Timing(pending=2, keep=1, cooldown=3)
    minutes = "tuttffuf" + "ttttt" + "u" * 18 + "fftttff" * 3
    whole, _ = run(timing, minutes)
    for cut in range(len(minutes)):
        first, instance = run(timing, minutes[:cut])
        copy = Instance(instance.state, instance.since, instance.counted, instance.unknown, instance.unknown_since)
        second, _ = run(timing, minutes[cut:], instance=copy, first=cut)
        assert first | second == whole, cut
