"""Reading changes nothing: every GET of the application leaves PostgreSQL and Redis as they were."""

import re

from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from fademoe.store.read.schema import TABLES
from tests.support.web import add_paper_account, add_run, cover, day, fail, report, store_candles

VALUES = {"perpspec": "bin-ohlcv", "table": "perp_data", "name": "ohlcv", "filename": "style.css", "id": "0123456789ab"}
QUERIES = {
    "/api/alerts/preview": "?expr=close+%3E+1&code=bin&symbol=BTC&days=1",
    "/api/screen": "?expr=close",
    "/api/chart/<perpspec>": "?symbol=BTC",
    "/coverage/cell": "?perpspec=bin-ohlcv&symbol=BTC",
    "/coverage/fill": "?perpspec=bin-ohlcv",
    "/data": "?perpspec=bin-ohlcv",
    "/backtester/run": "?id=0123456789ab",
    "/trader/account": "?name=ohlcv",
    "/api/certificate/<perpspec>": f"?symbol=BTC&from={day(0)}&to={day(1)}",
}


def dump(sql: Cursor, redis: Redis) -> tuple[object, ...]:
    """Return all tables and keys."""
    tables = []
    for table in TABLES:
        sql.execute(f"SELECT string_agg(t::text, '|' ORDER BY t::text) FROM {table} AS t")
        tables.append(sql.fetchone())
    return tables, {key: redis.dump(key) for key in redis.scan_iter()}


def test_no_get_changes_anything(app: Flask, client: FlaskClient, sql: Cursor, redis: Redis, partitions: None):
    store_candles(sql, "BTC", range(5))
    cover(sql, "bin-ohlcv", "BTC", "0-3", "0-1", "0-0.5")
    report(sql, "stream binance", "running", silent_s=900)
    redis.hset("budget:slots1:binance:ip:home", mapping={"used": 1, "limit": 10, "period_ms": 60_000})
    fail(redis, "live", "a")
    live = Queue("live", connection=redis, serializer=JSONSerializer)
    redis.zadd(live.failed_job_registry.key, {"expired": day(0) // 1000})  # rq's own reads would remove it
    add_run(sql, VALUES["id"])
    add_paper_account(sql, VALUES["name"])
    before, addresses = dump(sql, redis), []
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()) and not rule.rule.startswith("/rq"):
            path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: VALUES[match[1]], rule.rule)
            addresses.append(path + QUERIES.get(rule.rule, ""))
    for address in [*addresses, "/rq/", "/rq/0/view/queues", "/rq/0/data/queues.json", "/rq/0/data/workers.json"]:
        with client.get(address, follow_redirects=True) as answer:
            assert answer.status_code == 200, address
        assert dump(sql, redis) == before, address
