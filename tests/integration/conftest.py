"""Fixtures of the tests with real servers."""

import pytest

from tests.support.importing import Importer


@pytest.fixture
def importer(system, simulator):
    """What imports windows of series in this process."""
    system.environment |= {
        "FADEMOE_EXCHANGES": "binance,okx",
        "FADEMOE_ARCHIVES": "binance:cc-by-nc-sa,okx",
        "FADEMOE_BINANCE_ARCHIVE_URL": simulator.url,
        "FADEMOE_BINANCE_ARCHIVE_LIST_URL": f"{simulator.url}/data.binance.vision",
        "FADEMOE_OKX_ARCHIVE_URL": f"{simulator.url}/cdn/okex/traderecords",
        "FADEMOE_OKX_REST_URL": simulator.url,
    }
    return Importer(system)
