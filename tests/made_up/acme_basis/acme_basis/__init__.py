"""Acme Basis: an exchange with one history, of a metric that only this package knows.

It is made up. Facts: tests/made_up/acme_basis/acme_basis_server.py, which is the exchange.
"""

from acme_basis.metric import Basis
from fademoe.feeds.answers import Answer, Refusal, evaluate
from fademoe.feeds.exchange import Exchange, InstrumentsFeed
from fademoe.feeds.history import Paging, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.limits import Budget
from fademoe.feeds.values import get_element, read_count, read_number, read_records, read_rows_of, read_text, to_ms


def judge(answer: Answer) -> Refusal | None:
    """Return what an answer means; None: it holds data. The HTTP status says all."""
    return evaluate(answer, None, None, errors={}, statuses={})


def parse_instrument(item: Json) -> Instrument:
    """Read a contract: "BTC"."""
    return Instrument(exchange="acmebasis", code="acb", name=read_text(item), symbol=read_text(item))


def parse_basis(item: Json, instrument: Instrument) -> Basis:
    """Read a minute: [1767225600000, "-0.00012", 42]."""
    return Basis(to_ms(get_element(item, 0)), read_number(get_element(item, 1)), read_count(get_element(item, 2)))


EXCHANGE = Exchange(
    name="acmebasis",
    title="Acme Basis",
    codes=("acb",),
    rest_url="https://api.acme-basis.test",
    stream_url="wss://api.acme-basis.test",
    budgets=(Budget(name="ip", limit=1000, period_ms=1000, jitter_ms=20),),
    judge=judge,
    clock=None,
    instruments=InstrumentsFeed(
        path="/list",
        budget="ip",
        cost=1,
        items=lambda answer: read_rows_of(answer, "names"),
        parse=parse_instrument,
        source="made up",
    ),
    rest_feeds=(
        RestFeed(
            metric="basis",
            path="/basis",
            budget="ip",
            params=lambda page: {"name": page.instrument.name, "from": page.start_ms, "to": page.end_ms},
            items=lambda answer, page: read_records(answer),
            parse=parse_basis,
            source="made up",
            paging=Paging(costs=((500, 1),)),
        ),
    ),
)
