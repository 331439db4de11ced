"""The contract of Acme Post."""

from pathlib import Path

from acme_post import EXCHANGE

from fademoe.testing.contract import ExchangeContract


class TestAcmePost(ExchangeContract):
    exchange = EXCHANGE
    recordings = Path(__file__).parent / "recordings"
