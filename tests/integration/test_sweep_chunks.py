"""A sweep as several jobs: it reports what one job does, over rows of one moment; each chunk counts once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from fademoe.backtest.chunks import FOLDER, count_chunks, list_places, remove_ended
from fademoe.backtest.database import add_sweep, sweep_and_store
from fademoe.backtest.request import RunRequest, make_plan
from fademoe.backtest.sweep import SweepRequest
from fademoe.clock import HOUR_MS, MINUTE_MS, Window
from fademoe.queue.enqueue import enqueue_backtest, enqueue_chunk
from fademoe.queue.ids import RESEARCH
from fademoe.runtime.job_context import use_services
from fademoe.runtime.services import Services
from fademoe.settings import Settings
from fademoe.signals import StopSignal
from fademoe.store import backtests
from fademoe.store.backtests import Backtest
from fademoe.store.connection import Database
from tests.support.markets import START, draw_market, store_market

MINUTES = 250
END = START + MINUTES * MINUTE_MS
GRID = ("n=5,7,9,12,20,60", "size=0.3,0.4")
RULES = 'long = "c > sma(c, {n}m)"\nshort = "c < sma(c, {n}m)"\nsize = 0.3\n[params]\nn = 5\n'
FAILS = """
from fademoe.strategy import Strategy

class Fails(Strategy):
    params = {"n": 1}

    def on_minute(self, view):
        assert self.n != 5, "not five"
"""


class System:
    """A stored market, and a worker of the queue research in this process."""

    def __init__(self, settings: Settings) -> None:
        self.services = Services(settings, StopSignal())
        self.database = Database(settings.database_url)
        self.folder = settings.home / FOLDER
        self.queue = Queue(RESEARCH, connection=Redis.from_url(settings.redis_url), serializer=JSONSerializer)

    def add(self, asked: SweepRequest, name: str = "cross.toml", text: str = RULES) -> str:
        request = RunRequest(name=name, text=text, exchange="binance", symbols="A", since=START, until=END)
        with self.database.open_transaction() as cursor:
            self.plan = make_plan(cursor, request)
        return self.database.run(lambda cursor: add_sweep(cursor, self.plan, asked))

    def work(self, jobs: int | None = None) -> None:
        use_services(self.services)
        worker = SimpleWorker([self.queue], connection=self.queue.connection, serializer=JSONSerializer)
        worker.work(burst=True, logging_level="CRITICAL", max_jobs=jobs)

    def find(self, run_id: str) -> Backtest:
        with self.database.open_transaction() as cursor:
            found = backtests.find_run(cursor, run_id)
        assert found is not None
        return found

    def query(self, text: str) -> Any:
        connection = psycopg2.connect(self.services.settings.database_url)
        with connection, connection.cursor() as cursor:
            cursor.execute(text)
            rows = cursor.fetchall() if cursor.description else None
        connection.close()
        return rows

    def check_nothing_is_left(self) -> None:
        assert list(self.folder.glob("*")) == []
        assert self.query("SELECT count(*) FROM perp_backtest_chunks") == [(0,)]
        assert len(self.queue) == 0

    def close(self) -> None:
        self.services.close()
        self.database.close()
        self.queue.connection.close()


@pytest.fixture
def system(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[System]:
    store_market(database_url, draw_market(["A"], MINUTES), Window(START, END), {("bin", "A"): None})
    made = System(Settings(home=tmp_path, database_url=database_url, redis_url=redis_url))
    yield made
    made.close()


@pytest.mark.parametrize("sets", [1, 6, 7, 10, 11, 16, 131, 1000])
def test_each_set_is_in_one_chunk(sets: int):
    chunks = count_chunks(sets)
    if chunks > 1:
        places = [place for number in range(chunks) for place in list_places(sets, number)]
        assert sorted(places) == list(range(sets))
    assert (chunks == 1) == (sets <= 6)


@pytest.mark.parametrize(
    "asked",
    [
        SweepRequest(grid=GRID, best=1),
        pytest.param(SweepRequest(grid=GRID, best=1, folds_ms=(2 * HOUR_MS, HOUR_MS)), marks=pytest.mark.full),
    ],
)
def test_chunks_report_what_one_job_does(system: System, asked: SweepRequest):
    alone, run_id = system.add(asked), system.add(asked)
    reading = Database(system.services.settings.database_url)
    expected = json.loads(json.dumps(sweep_and_store(system.database, reading, alone, system.plan, asked)))
    enqueue_backtest(system.queue.connection, run_id, "cross")
    system.work(1)
    (file,) = system.folder.glob("*/*")
    assert file.parent.name == run_id
    assert len(system.queue) == count_chunks(12) - 1 == 3
    before = system.find(run_id)
    assert (before.state, before.progress) == ("running", pytest.approx(1 / 5))
    system.query("UPDATE perp_data SET o = o + 9, c = c + 9")  # the chunks read the rows of the first job
    system.work(1)
    assert system.find(run_id).progress == pytest.approx(2 / 5)
    enqueue_chunk(system.queue.connection, run_id, file.stem, 1, "cross")  # as when its worker was lost at its end
    system.work()
    found = system.find(run_id)
    assert (found.state, found.progress, found.message) == ("done", 1, "")
    assert found.report == expected
    system.check_nothing_is_left()


def test_a_cancelled_and_a_failed_sweep_leave_nothing(system: System):
    cancelled = system.add(SweepRequest(grid=GRID))
    failed = system.add(SweepRequest(grid=("n=1,2,3,4,5,6,7,8,9,10,11,12",)), "fails.py", FAILS)
    enqueue_backtest(system.queue.connection, cancelled, "cross")
    system.work(1)
    assert list(system.folder.iterdir())
    assert system.database.run(lambda cursor: backtests.cancel(cursor, cancelled))
    enqueue_backtest(system.queue.connection, failed, "fails")
    system.work()
    assert system.find(cancelled).state == "cancelled"
    assert (system.find(failed).state, "not five" in system.find(failed).message) == ("failed", True)
    system.check_nothing_is_left()


@pytest.mark.parametrize("grid", [GRID, ("n=5,7",)])
def test_a_sweep_that_breaks_is_failed_and_says_why(system: System, grid: tuple[str, ...]):
    run_id = system.add(SweepRequest(grid=grid))
    enqueue_backtest(system.queue.connection, run_id, "cross")
    system.query("ALTER TABLE perp_terms RENAME TO kept")
    system.work()
    assert system.find(run_id).state == "failed"
    assert system.find(run_id).message.startswith('UndefinedTable: relation "perp_terms" does not exist')


def test_what_a_lost_sweep_left_is_removed(system: System):
    going = system.add(SweepRequest(grid=GRID))
    for name in (going, "gone"):
        (system.folder / name).mkdir(parents=True)
        (system.folder / name / "rows.part").write_bytes(b"rows")
    remove_ended(system.database, system.services.settings.home)
    assert [folder.name for folder in system.folder.iterdir()] == [going]
