"""A web application on the run's real PostgreSQL and Redis."""

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor
from redis import Redis

from fademoe.clock import DAY_MS, Window
from fademoe.settings import Settings
from fademoe.store.connection import Database
from fademoe.store.partitions import Partitions
from fademoe.web.app import create_app
from fademoe.web.current import NAME
from tests.support.web import DAY, TOKEN, MakeApp


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
