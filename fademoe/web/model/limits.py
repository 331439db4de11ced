"""What is used of the exchanges' rate limits, and which exchanges do not answer."""

import redis

from fademoe.client.rate_limit import usage
from fademoe.client.rate_limit.usage import BudgetUse, Outage
from fademoe.store.read.status import Unit
from fademoe.web.model.answer import Answer
from fademoe.web.model.services import convert_redis_errors


class Limits(Answer):
    """The budgets in use and the outages; `waiting` are units that wait, None while the database is unavailable."""

    at: int
    budgets: list[BudgetUse]
    outages: list[Outage]
    waiting: list[Unit] | None


def list_budgets(connection: redis.Redis) -> list[BudgetUse]:
    """Return the budgets in use, by exchange, name and egress."""
    with convert_redis_errors(connection):
        return usage.list_budget_uses(connection)


def read_delays_s(connection: redis.Redis, exchange: str) -> dict[str, float]:
    """Return by budget of an exchange the seconds until it takes a new request; nothing while Redis is unavailable."""
    try:
        return usage.read_delays_s(connection, exchange)
    except redis.RedisError:
        return {}


def list_outages(connection: redis.Redis) -> list[Outage]:
    """Return the exchanges that do not answer an egress address now, by both."""
    with convert_redis_errors(connection):
        return usage.list_outages(connection)
