"""`python -m tests.support.certificates URL COUNT`: certificates of drawn runs over a database, one a line."""

import random
import sys
from contextlib import closing
from decimal import Decimal

from fademoe.backtest.certificate import write_certificate
from fademoe.backtest.database import execute
from fademoe.backtest.request import RunRequest, make_plan
from fademoe.clock import MINUTE_MS
from fademoe.store.connection import Database
from tests.support.markets import EXAMPLES, EXCHANGES, START

MINUTES = 600  # of a run
PARAMS = {
    "sma_cross.py": {"fast": "5", "slow": "30"},
    "oi_breakout.py": {"range": "10", "rise": "0.001", "hold": "20"},
    "liquidation_fade.py": {"window": "20", "times": "2", "patience": "5"},
    "premium_reversion.toml": {},
    "pairs.py": {"window": "60", "enter": "1"},
}


def draw_request(number: int) -> RunRequest:
    """Return the request of a run; the same for the same number."""
    drawn = random.Random(number)
    name = drawn.choice(sorted(PARAMS))
    since = START + drawn.randrange(300) * MINUTE_MS
    return RunRequest(
        name=name,
        text=(EXAMPLES / name).read_text(encoding="utf-8"),
        exchange=EXCHANGES[drawn.choice(["bin", "byb"])],
        symbols="A,B",
        since=since,
        until=since + MINUTES * MINUTE_MS,
        params=PARAMS[name],
        leverage=str(drawn.choice([1, 3, 20])),
        margin=drawn.choice(["cross", "isolated"]),
        latency=drawn.choice([0, 2]),
        slippage=str(Decimal(drawn.randrange(10)) / 10_000),
    )


def main() -> None:
    """Run all and print their certificates."""
    url, count = sys.argv[1], int(sys.argv[2])
    for number in range(count):
        with closing(Database(url)) as database:
            with database.open_transaction() as cursor:
                plan = make_plan(cursor, draw_request(number))
            with database.open_transaction() as cursor:
                sys.stdout.write(write_certificate(execute(cursor, plan).certificate) + "\n")


if __name__ == "__main__":
    main()
