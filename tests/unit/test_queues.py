"""Names of jobs."""

import re

import pytest

from fademoe.clock import Window
from fademoe.queue.ids import AUDIT, Task, make_job_id
from fademoe.store.coverage import Series


@pytest.mark.parametrize("symbol", ["BTC", "1INCH", "币安人生", "A_B", "X.Y"])
@pytest.mark.parametrize("source", ["bin-ohlcv", "c-bin-oi", "acb-taker_flow"])
def test_a_job_is_named_by_its_arguments(source, symbol):
    task = Task(Series(source, symbol), Window(1767225600000, 1768089600000))
    assert re.fullmatch(r"[A-Za-z0-9_-]+", task.job_id)
    assert Task.parse(task.job_id) == task


def test_other_jobs_are_not_windows():
    assert Task.parse("chore-reconcile") is None
    assert Task.parse("bf-x") is None
    assert Task.parse("bf-a_b_c_d") is None
    audit = make_job_id(AUDIT, Task(Series("bin-fr", "BTC"), Window(0, 5)))
    assert (audit, Task.parse(audit)) == ("au-bin-fr_BTC_0_5", None)
