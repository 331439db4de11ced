"""rq-dashboard under /rq, on queues whose jobs are JSON."""

import multiprocessing
import time

from flask.testing import FlaskClient
from redis import Redis
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from tests.support.web import fail


def test_pages_and_their_data_are_served(client: FlaskClient, redis: Redis):
    fail(redis, "live", "a")
    Queue("live", connection=redis, serializer=JSONSerializer).enqueue("json.loads", "1", job_id="b", meta={"x": 1})
    assert client.get("/rq").status_code == 308
    for path in ("/rq/", "/rq/0/view/queues", "/rq/0/view/workers", "/rq/0/view/jobs", "/rq/0/view/job/b"):
        answer = client.get(path, follow_redirects=True)
        assert answer.status_code == 200, path
        assert "FadeMoe" in answer.text
    [queue] = client.get("/rq/0/data/queues.json").get_json()["queues"]
    assert (queue["name"], queue["count"], queue["failed_job_registry_count"]) == ("live", 1, 1)
    [job] = client.get("/rq/0/data/jobs/live/failed/8/asc/1.json").get_json()["jobs"]
    assert (job["id"], "JSONDecodeError" in job["exc_info"]) == ("a", True)
    assert client.get("/rq/0/data/job/b.json").get_json()["status"] == "queued"


def _work(url: str) -> None:
    connection = Redis.from_url(url)
    queue = Queue("live", connection=connection, serializer=JSONSerializer)
    Worker([queue], connection=connection, serializer=JSONSerializer, name="w").work(logging_level="CRITICAL")


def test_busy_worker_is_shown_with_its_job(client: FlaskClient, redis: Redis, redis_url: str):
    """The job is stored as JSON, which rq-dashboard by itself would read as a pickle."""
    queue = Queue("live", connection=redis, serializer=JSONSerializer)
    queue.enqueue("time.sleep", 20, job_id="long")
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(redis_url,), daemon=True)
    process.start()
    try:
        for _ in range(600):
            workers = client.get("/rq/0/data/workers.json").get_json()["workers"]
            if workers and workers[0]["current_job"] != "idle":
                break
            time.sleep(0.1)
        assert workers[0]["current_job"]["call_string"] == "time.sleep(20)"
        [ours] = client.get("/api/queues").get_json()["workers"]
        assert (ours["name"], ours["state"], ours["job"], ours["stale"]) == ("w", "busy", "long", False)
    finally:
        process.kill()
        process.join()


def test_unknown_job_queue_or_page_is_404(client: FlaskClient):
    for path in (
        "/rq/0/view/job/none",
        "/rq/0/data/job/none.json",
        "/rq/1/",
        "/rq/0/data/jobs/live/nothing/8/asc/1.json",
        "/rq/0/data/jobs/live/queued/0/asc/1.json",
        "/rq/0/data/jobs/live/queued/1000000/asc/1.json",
        "/rq/0/data/jobs/live/queued/8/asc/x.json",
    ):
        assert client.get(path).status_code == 404, path
