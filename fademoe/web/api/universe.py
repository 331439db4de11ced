"""The contracts that traded at a time."""

from msgspec import Struct

from fademoe.clock import Window, now_ms
from fademoe.feeds import registry
from fademoe.store.read.terms import Life, list_lives
from fademoe.web.current import get_services
from fademoe.web.http.params import Params, Text, Time
from fademoe.web.http.routes import Routes
from fademoe.web.model.answer import Answer

routes = Routes("api_universe")

AT = Time("at", "the time, now by default", example="2026-01-31T00:00Z")
EXCHANGE = Text("exchange", "the name of an exchange, all by default")


class Contract(Struct, frozen=True, kw_only=True):
    """One life of a contract; it traded in [listed_ms, delisted_ms), and trades on where there is no end."""

    symbol: str
    exchange: str
    code: str
    instrument: str
    life: int
    multiplier: int
    contract_value: str
    listed_ms: int | None
    first_trade_ms: int | None
    last_trade_ms: int | None
    delisted_ms: int | None
    successor: str | None
    evidence: str


class Universe(Answer):
    """The contracts that traded at `at`, dead ones included."""

    at: int
    contracts: list[Contract]


@routes.get("/api/universe", "The contracts that traded at a time, dead ones included", (AT, EXCHANGE))
def list_universe(params: Params) -> Universe:
    """Answer the contracts of a time."""
    at_ms, exchange = params.get(AT, now_ms()), params[EXCHANGE]
    exchanges = registry.load_exchanges()
    if exchange and exchange not in exchanges:
        raise params.refuse(EXCHANGE, sorted(exchanges))
    codes = list(exchanges[exchange].codes) if exchange else None
    with get_services().reader.read() as cursor:
        lives = list_lives(cursor, codes=codes, window=Window(at_ms, at_ms + 1))
    return Universe(at=at_ms, contracts=[_describe(life) for life in lives])


def _describe(life: Life) -> Contract:
    return Contract(**{**life._asdict(), "contract_value": f"{life.contract_value:f}"})
