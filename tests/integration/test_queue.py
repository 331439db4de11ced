"""The queue across upgrades, and one way of retrying."""

import importlib
import pkgutil
import time

import pytest
from redis import Redis
from rq import Queue
from rq.executions import prepare_execution
from rq.job import Job
from rq.serializers import JSONSerializer

from fademoe import jobs
from fademoe.clock import MINUTE_MS, Window
from fademoe.queue.chores import CHORES, drop_foreign_chores, enqueue_chore, make_hours_chore
from fademoe.queue.enqueue import FAILED_KEPT_S, enqueue_windows
from fademoe.queue.ids import UPKEEP, Task
from fademoe.queue.reaper import Reaper
from fademoe.queue.retry import DELAY_S, clamp_kept, clamp_retries, requeue_failed
from fademoe.queue.states import connect_queue, list_failed_jobs
from fademoe.store.coverage import Series
from fademoe.worker import worker
from tests.support.clocks import until

TASK = Task(Series("bin-ohlcv", "BTC"), Window(0, MINUTE_MS))


def test_chores_of_an_older_version_do_not_block_those_of_this_one(system):
    redis = system.context().redis
    upkeep = Queue(UPKEEP, connection=redis, serializer=JSONSerializer)
    for name in ("reconcile", "refresh_instruments", "sweep_rows"):
        upkeep.enqueue(f"fademoe.jobs.upkeep.{name}", job_id=f"chore-{name}", unique=True)
    upkeep.enqueue("fademoe.jobs.maintenance.run_maintenance", job_id="chore-run_maintenance", unique=True)
    assert drop_foreign_chores(redis, CHORES) == 3
    assert [job.id for job in upkeep.get_jobs()] == ["chore-run_maintenance"]
    queued_before = [chore.job_id for chore in CHORES if not enqueue_chore(redis, chore)]
    assert queued_before == ["chore-run_maintenance"]


def test_a_chore_that_waits_in_a_queue_that_is_not_its_own_any_more_does_not_block_it(system):
    """FADEMOE_EXCHANGES changed, and no worker serves the queue of the exchange that was the first one."""
    redis = system.context().redis
    before, after = make_hours_chore("binance"), make_hours_chore("bybit")
    assert enqueue_chore(redis, before)
    assert not enqueue_chore(redis, after)
    assert drop_foreign_chores(redis, [after]) == 1
    assert enqueue_chore(redis, after)
    assert drop_foreign_chores(redis, [after]) == 0


def test_every_function_that_is_enqueued_by_its_path_exists():
    rooms = {room for rooms in (worker.HISTORY_JOBS, *worker.JOBS_OF.values()) for room in rooms}
    named = [module.name for module in pkgutil.iter_modules(jobs.__path__)]
    jobs_of = {name: importlib.import_module(f"fademoe.jobs.{name}") for name in named}
    paths = {
        f"{module.__name__}.{name}"
        for module in jobs_of.values()
        for name, function in vars(module).items()
        if hasattr(function, "__wrapped__") and function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert {chore.function for chore in CHORES} <= paths
    assert {"fademoe.jobs.backfill.backfill", "fademoe.jobs.audit.audit_window", "fademoe.jobs.polls.poll"} <= paths
    assert {path.split(".")[2] for path in paths} == rooms  # a worker has imported what its work horses run


@pytest.mark.parametrize("clock_s", [-120, 3600])
def test_a_job_is_of_a_dead_worker_when_its_lease_ended_by_the_clock_of_redis(redis_url, clock_s):
    """The clock of the worker's host is wrong by `clock_s`; its lease lasts as long as any."""
    redis = Redis.from_url(redis_url)
    enqueue_windows(redis, "binance", [TASK])
    target = connect_queue(redis, "binance")
    owner = worker.Worker([target], connection=redis, serializer=JSONSerializer, name="w")
    redis.lpop(target.key)
    execution = prepare_execution(owner, target.fetch_job(TASK.job_id))
    running = target.started_job_registry
    redis.zadd(running.key, {execution.composite_key: time.time() + clock_s + worker.LEASE_S}, xx=True)
    reaper = Reaper(redis, ["binance"])
    assert reaper.reap() == 0
    owner.clean_registries()
    assert running.get_job_ids(cleanup=False) == [TASK.job_id]
    assert 0 < redis.ttl(execution.key) <= worker.LEASE_S
    redis.delete(execution.key)  # as Redis does when nobody renews it
    owner.clean_registries()
    assert running.get_job_ids(cleanup=False) == [TASK.job_id]
    assert reaper.reap() == 1
    assert running.get_job_ids(cleanup=False) == []
    assert target.get_job_ids() == [TASK.job_id]
    redis.close()


def test_windows_that_an_older_version_has_queued_are_fetched(system):
    redis = system.context().redis
    Queue("binance", connection=redis, serializer=JSONSerializer).enqueue(
        "fademoe.jobs.backfill.backfill", args=("bin-ohlcv", "BTC", 0, MINUTE_MS), job_id=TASK.job_id, unique=True
    )
    system.start("worker")
    done = "SELECT 1 FROM perp_coverage WHERE source = 'bin-ohlcv' AND covered @> int8range(0, %s)"
    until(lambda: system.query(done, MINUTE_MS), 60)


def test_a_retry_is_due_after_its_delay_whatever_clock_noted_it(system):
    """The fault: after a clock was set back by a day, retries stood still for a day."""
    redis = system.context().redis
    delays = {MINUTE_MS: 15, 2 * MINUTE_MS: 2 * 86_400, 3 * MINUTE_MS: None}
    tasks = {end_ms: Task(TASK.series, Window(0, end_ms)) for end_ms in delays}
    enqueue_windows(redis, "binance", tasks.values())
    target = connect_queue(redis, "binance")
    redis.delete(target.key)
    now_s = time.time()
    for end_ms, delay_s in delays.items():
        job = target.fetch_job(tasks[end_ms].job_id)
        job.meta |= {} if delay_s is None else {DELAY_S: delay_s}
        job.save_meta()
        redis.zadd(target.scheduled_job_registry.key, {job.id: now_s + 86_400})
    assert clamp_retries(redis, "binance", now_s) == 1
    due = {end_ms: redis.zscore(target.scheduled_job_registry.key, task.job_id) for end_ms, task in tasks.items()}
    assert 14 < due[MINUTE_MS] - now_s < 17
    assert due[2 * MINUTE_MS] - now_s == due[3 * MINUTE_MS] - now_s == pytest.approx(86_400)
    assert clamp_retries(redis, "binance", now_s) == 0


def test_a_window_that_failed_by_a_clock_ahead_is_paused_for_a_day_and_no_longer(system):
    redis = system.context().redis
    other = TASK._replace(window=Window(TASK.window.end_ms, TASK.window.end_ms + 60_000))
    enqueue_windows(redis, "binance", [TASK, other])
    target, now_s = connect_queue(redis, "binance"), time.time()
    for task in (TASK, other):
        job = target.fetch_job(task.job_id)
        redis.lrem(target.key, 1, task.job_id)
        redis.zadd(job.failed_job_registry.key, {task.job_id: now_s + 366 * 86_400})
    redis.delete(Job.key_for(other.job_id))  # as it expires by Redis's clock
    assert clamp_kept(redis, "binance", now_s) == 2
    assert clamp_kept(redis, "binance", now_s) == 0
    kept = redis.zrange(target.failed_job_registry.key, 0, -1, withscores=True)
    assert kept == [(TASK.job_id.encode(), pytest.approx(now_s + FAILED_KEPT_S))]


def test_a_requeued_job_has_all_its_attempts(system):
    redis = system.context().redis
    enqueue_windows(redis, "binance", [TASK])
    target = connect_queue(redis, "binance")
    job = target.fetch_job(TASK.job_id)
    redis.lpop(target.key)
    job.meta["failures"], job.retries_left = 5, 0
    job.save()
    job.failed_job_registry.add(job, ttl=job.failure_ttl)
    assert [task for _, task in list_failed_jobs(redis, ["binance"])] == [TASK]
    assert requeue_failed(redis, "binance", [TASK.job_id, "bf-unknown_BTC_0_1"]) == 1
    assert list_failed_jobs(redis, ["binance"]) == []
    requested = connect_queue(redis, "binance-requested")
    again = requested.fetch_job(TASK.job_id)
    assert (requested.get_job_ids(), again.meta, again.retries_left) == ([TASK.job_id], {}, 20)
    assert redis.ttl(again.key) == -1, "it had expired with its failure"
    assert target.get_job_ids() == []
