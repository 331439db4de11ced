"""The contract of Acme RPC."""

from pathlib import Path

from acme_rpc import EXCHANGE

from fademoe.testing.contract import ExchangeContract


class TestAcmeRpc(ExchangeContract):
    exchange = EXCHANGE
    recordings = Path(__file__).parent / "recordings"
