"""A web application on the run's real PostgreSQL and Redis."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor
from redis import Redis

from fademoe.clock import DAY_MS, MINUTE_MS, Window, ceil_to
from fademoe.settings import Settings
from fademoe.store.connection import Database
from fademoe.store.partitions import Partitions
from fademoe.web.app import create_app
from fademoe.web.current import NAME

TOKEN = "a-token-of-the-tests"
DAY = 1_767_225_600_000  # 2026-01-01
BEARER = {"Authorization": f"Bearer {TOKEN}"}

MakeApp = Callable[..., Flask]


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str) -> Settings:
    """Settings of a web on loopback."""
    return Settings(home=tmp_path, database_url=database_url, redis_url=redis_url, admin_token=TOKEN)


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Build applications whose connections are closed at the end."""
    made: list[Flask] = []

    def make(settings: Settings) -> Flask:
        app = create_app(settings)
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions[NAME].reader.close()
        app.extensions[NAME].redis.close()


@pytest.fixture
def app(settings: Settings, make_app: MakeApp) -> Flask:
    """The application."""
    return make_app(settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor without a token, on loopback."""
    return app.test_client()


@pytest.fixture
def admin(app: Flask) -> FlaskClient:
    """A visitor who has signed in with the form."""
    visitor = app.test_client()
    assert visitor.post("/login", data={"token": TOKEN}).status_code == 303
    return visitor


@pytest.fixture
def sql(database_url: str) -> Iterator[Cursor]:
    """A cursor of the test's own database, in autocommit mode."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A connection to the test's Redis."""
    connection = Redis.from_url(redis_url)
    yield connection
    connection.close()


@pytest.fixture
def partitions(database_url: str) -> Iterator[None]:
    """Room for the rows of the tests."""
    database = Database(database_url)
    Partitions(database).ensure(Window(DAY - 40 * DAY_MS, DAY + 70 * DAY_MS))
    database.close()
    yield


def store_candles(sql: Cursor, symbol: str, minutes: range, source: str = "bin-ohlcv") -> None:
    """Store a candle at each of these minutes after DAY; its close is its number, its volume null every third time."""
    sql.execute(
        "INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v, n)"
        " SELECT %s + i * 60000, %s, %s, '1m', i, i + 0.50, i - 0.50, i, CASE WHEN i %% 3 > 0 THEN i END, i"
        " FROM unnest(%s::int[]) AS i",
        (DAY, symbol, source, list(minutes)),
    )


def cover(sql: Cursor, source: str, symbol: str, wanted: str, covered: str = "{}", absent: str = "{}") -> None:
    """Enter the coverage of a series, in ranges of days after DAY such as `0-10 12-`."""
    sql.execute(
        "INSERT INTO perp_coverage (source, symbol, wanted, covered, absent)"
        " VALUES (%s, %s, %s::int8multirange, %s::int8multirange, %s::int8multirange)",
        (source, symbol, *(_ranges(text) for text in (wanted, covered, absent))),
    )


def minute(number: int) -> int:
    """Return the time of a minute after DAY."""
    return DAY + number * MINUTE_MS


def day(number: float) -> int:
    """Return the time of a day after DAY, on a whole minute."""
    return ceil_to(DAY + round(number * DAY_MS), MINUTE_MS)


def _ranges(text: str) -> str:
    if text == "{}":
        return text
    parts = (part.partition("-") for part in text.split())
    return "{" + ",".join(f"[{day(float(a))},{day(float(b)) if b else ''})" for a, _, b in parts) + "}"
