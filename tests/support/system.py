"""FadeMoe's programs over given servers."""

import os
import signal
import subprocess
from collections.abc import Collection
from pathlib import Path

import psycopg2

from fademoe.cli.environment import load_settings
from fademoe.clock import MINUTE_MS, floor_to, now_ms
from fademoe.runtime.services import Services
from fademoe.signals import StopSignal
from tests.support import programs
from tests.support.clocks import until
from tests.support.simulator import Simulator, same


class System:
    """FadeMoe's programs over one database, one Redis and one simulator."""

    def __init__(self, home: Path, database_url: str, redis_url: str, simulator: Simulator) -> None:
        self.simulator = simulator
        self.database_url = database_url
        self.environment = {
            "FADEMOE_HOME": str(home),
            "FADEMOE_DATABASE_URL": database_url,
            "FADEMOE_REDIS_URL": redis_url,
            "FADEMOE_BINANCE_REST_URL": simulator.url,
            "FADEMOE_BINANCE_WS_URL": simulator.url.replace("http", "ws"),
            "FADEMOE_EXCHANGES": "binance",
        }
        self.programs: list[programs.Program] = []

    def context(self) -> Services:
        """Return a context in this process."""
        return Services(load_settings(self.environment), StopSignal())

    def start(self, *command: str, fresh: bool = False) -> programs.Program:
        """Start a program; a fresh one imports all by itself, so that its memory is its own."""
        program = programs.start(command, {**os.environ, **self.environment}, fresh=fresh)
        self.programs.append(program)
        return program

    def run(self, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return programs.run(command, {**os.environ, **self.environment, **environment}, timeout=120)

    def stop(self) -> None:
        """End every program by SIGTERM; each has ten seconds."""
        for program in self.programs:
            if program.poll() is None:
                program.send_signal(signal.SIGTERM)
        for program in self.programs:
            program.wait(60)
        self.programs.clear()

    def query(self, statement: str, *values) -> list[tuple]:
        """Return the rows of a query."""
        connection = psycopg2.connect(self.database_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall()
        finally:
            connection.close()

    def covers(self, source: str, symbols: Collection[str], start_ms: int, end_ms: int) -> bool:
        """Tell whether nothing is missing of a range of some series, that is, also what is absent is known."""
        rows = self.query(
            "SELECT count(*) FROM perp_coverage WHERE source = %s AND symbol = ANY(%s)"
            " AND covered @> int8multirange(int8range(%s, %s))",
            source,
            list(symbols),
            start_ms,
            end_ms,
        )
        return bool(rows[0][0] == len(symbols))

    def wait_for_minutes(self, sources: Collection[str], symbols: Collection[str], count: int = 1) -> int:
        """Wait until `count` whole minutes from now on are covered of all series; return the start of the first.

        These may be later ones than the next: a topic that is not confirmed is requested again after some seconds.
        """
        first_ms = floor_to(now_ms(), MINUTE_MS) + MINUTE_MS

        def find_covered() -> int | None:
            starts = range(first_ms, floor_to(now_ms(), MINUTE_MS) - (count - 1) * MINUTE_MS, MINUTE_MS)
            for start_ms in starts:
                if all(self.covers(source, symbols, start_ms, start_ms + count * MINUTE_MS) for source in sources):
                    return start_ms
            return None

        return int(until(find_covered, 60))

    def streams(self) -> set[str]:
        """Return the exchanges whose streams run, every one of their topics."""
        rows = self.query("SELECT unit FROM perp_status WHERE kind = 'stream' AND state = 'running'")
        return {unit.removeprefix("stream ") for (unit,) in rows}

    def differences(
        self, exchange: str, source: str, symbol: str, start_ms: int, end_ms: int, *, contract: str = ""
    ) -> list[str]:
        """Compare what is stored with the simulator's truth, value by value; [] when all is equal.

        `contract`: the exchange's name, where a symbol is only one life of it.
        """
        metric = source if exchange == "coinalyze" else source.rpartition("-")[2]  # it has markets of several exchanges
        truth = self.simulator.truth(exchange, metric, contract or symbol, start_ms, end_ms)
        columns = sorted({name for row in truth.values() for name in row}) or ["ts"]
        names = ", ".join(f"{name}::text" for name in columns)
        stored = {
            row[0]: dict(zip(columns, row[1:], strict=True))
            for row in self.query(
                f"SELECT ts, {names} FROM perp_data WHERE source = %s AND symbol = %s AND ts >= %s AND ts < %s",
                source,
                symbol,
                start_ms,
                end_ms,
            )
        }
        found = [f"missing {ts}" for ts in sorted(truth.keys() - stored.keys())]
        found += [f"extra {ts}" for ts in sorted(stored.keys() - truth.keys())]
        for ts in sorted(truth.keys() & stored.keys()):
            for name in columns:
                if not same(truth[ts][name], stored[ts][name]):
                    found.append(f"{ts} {name}: {stored[ts][name]} instead of {truth[ts][name]}")
        return found
