"""Rates of Coinalyze that older versions stored in percent, and a row of them for every hour."""

import logging
from decimal import Decimal

from fademoe.clock import HOUR_MS
from fademoe.metrics import Funding, PredictedFunding
from fademoe.store.coverage import Series
from fademoe.store.writer import Batch, Writer, group_rows
from tests.support.migrations import migrate_again

START = 1_767_225_600_000  # a multiple of eight hours
NAME = "0006_rates_of_coinalyze"


def test_percent_become_fractions_and_of_the_hours_the_settlements_stay(database, caplog):
    rates = ["0.01"] * 8 + ["0.0271"] * 4 + ["0.03"] * 4 + ["0.03"] * 2
    mine, other = Series("c-bin-fr", "BTC"), Series("bin-fr", "BTC")
    hourly = [(mine, Funding(START + hour * HOUR_MS, rate)) for hour, rate in enumerate(rates)]
    estimate = (Series("c-okx-ppr", "BTC"), PredictedFunding(START, "-0.0091"))
    writer = Writer(database)
    writer.write(
        [
            Batch("fr", "1h", group_rows(hourly)),
            Batch("fr", "settlement", {other: [Funding(START, "0.0001", 8)]}),
            Batch("ppr", "1m", group_rows([estimate])),
        ],
        [],
    )
    with caplog.at_level(logging.INFO):
        assert migrate_again(database, NAME) == [NAME]
    assert "1 estimates and 4 settlements" in caplog.text
    with database.open_transaction() as cursor:
        cursor.execute(
            "SELECT source, (ts - %s) / %s, interval, fr, ppr FROM perp_data ORDER BY source, ts", (START, HOUR_MS)
        )
        rows = cursor.fetchall()
    assert rows == [
        ("bin-fr", 0, "settlement", Decimal("0.0001"), None),
        ("c-bin-fr", 0, "settlement", Decimal("0.0001"), None),
        ("c-bin-fr", 8, "settlement", Decimal("0.000271"), None),
        ("c-bin-fr", 12, "settlement", Decimal("0.0003"), None),
        ("c-bin-fr", 16, "settlement", Decimal("0.0003"), None),
        ("c-okx-ppr", 0, "1m", None, Decimal("-0.000091")),
    ]
