"""The demo: FadeMoe against the built-in simulator, in a home of its own, until its pages show data."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit
from zlib import crc32

from fademoe.alerts.files import apply_rules, read_shipped
from fademoe.alerts.records import RuleConflict
from fademoe.clock import MINUTE_MS, floor_to, now_ms
from fademoe.deploy.checks import Web, find_free_port
from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.metrics import MAIN_METRIC, name_perpspec
from fademoe.settings import ALL_SYMBOLS, PREFIX, Settings
from fademoe.simulator import EXCHANGE_NAMES
from fademoe.store.connection import Database

SIMULATOR_PORTS = range(8790, 9790)  # each home prefers another one, so that two demos that start at once do not meet
DAYS = "2"
PRESETS = "presets.toml"
METRICS = ("ohlcv", "all")  # candles first, so that the pages show data soon
DATA_TIMEOUT_S = 120.0
PROGRESS_INTERVAL_S = 5.0
# Simulated data never go into the user's own servers, and loopback is reached without proxies or other addresses.
DROPPED_SETTINGS = ("DATABASE_URL", "REDIS_URL", "EGRESS", "RETENTION_DAYS")


class Demo:
    """The demo that belongs to a home."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        """Name the places; `environ` is that of the user."""
        self.home = settings.home / "demo"
        self.settings = settings
        self._given = environ
        self._started_s = time.monotonic()

    def make_environ(self, *, is_running: bool) -> dict[str, str]:
        """Return the user's environment with every exchange replaced by the simulator; set `settings` to that.

        Exchanges of other packages are left out: the simulator does not play them.
        A running demo keeps its ports; otherwise another port is taken when the preferred one is used.
        """
        preferred = SIMULATOR_PORTS[crc32(bytes(self.home)) % len(SIMULATOR_PORTS)]
        port = self._choose_port("simulator", preferred, is_running=is_running)
        changed = {"FADEMOE_HOME": str(self.home), "SIMULATOR_PORT": str(port)}
        if f"{PREFIX}MCP_PORT" not in self._given:
            mcp_port = self._choose_port("mcp", self.settings.mcp_port, is_running=is_running)
            changed[f"{PREFIX}MCP_PORT"] = str(mcp_port)
        chosen = self.settings.exchanges or EXCHANGE_NAMES
        simulated = [name for name in EXCHANGE_NAMES if name in chosen] or EXCHANGE_NAMES
        changed[f"{PREFIX}EXCHANGES"] = ",".join(simulated)
        for name in EXCHANGE_NAMES:
            exchange = registry.load_exchanges()[name]
            changed[f"{PREFIX}{name.upper()}_REST_URL"] = f"http://127.0.0.1:{port}"
            changed[f"{PREFIX}{name.upper()}_WS_URL"] = f"ws://127.0.0.1:{port}"
            if exchange.archive is not None:
                for kind, url in (
                    ("ARCHIVE_URL", exchange.archive.url),
                    ("ARCHIVE_LIST_URL", exchange.archive.list_url),
                ):
                    changed[f"{PREFIX}{name.upper()}_{kind}"] = f"http://127.0.0.1:{port}{urlsplit(url).path}"
            if exchange.needs_key:
                changed[f"{PREFIX}{name.upper()}_KEY"] = "demo"
        archives = [each.archive for name in simulated if (each := registry.load_exchanges()[name]).archive]
        changed[f"{PREFIX}ARCHIVES"] = ",".join(
            f"{each.exchange}:{each.licence}".rstrip(":") for each in archives if each
        )
        dropped = {PREFIX + name for name in DROPPED_SETTINGS}
        environ = {name: value for name, value in self._given.items() if name not in dropped} | changed
        self.settings = Settings.read_env(environ, registry.list_names())
        return environ

    def _choose_port(self, name: str, preferred: int, *, is_running: bool) -> int:
        """Return the port that a running demo has for a server, or a free one, which is kept in a file."""
        file = self.home / "run" / f"{name}.port"
        port = int(file.read_text()) if is_running and file.exists() else find_free_port(preferred)
        file.write_text(str(port))
        return port

    @property
    def elapsed_s(self) -> float:
        """Seconds since the command was given."""
        return time.monotonic() - self._started_s

    def seed(self, environ: Mapping[str, str], say: Callable[[str], None]) -> bool:
        """Request the first days of history; return whether that worked."""
        for metrics in METRICS:
            command = ["fademoe", "seed", "--days", DAYS, "--metrics", metrics]
            done = subprocess.run(
                [sys.executable, "-m", *command], env=dict(environ), capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                say(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
                return False
            say(f"history of {metrics}: {''.join(done.stdout.strip().splitlines()[-1:])}")
        return True

    def apply_rules(self, say: Callable[[str], None]) -> None:
        """Apply the alert rules that come with FadeMoe."""
        database = Database(self.settings.postgres_url, "fademoe demo")
        try:
            changes = apply_rules(database, PRESETS, read_shipped(PRESETS)).changes
        except (RuleConflict, StoreError) as error:
            say(f"the alert rules were not applied: {error}")
        else:
            say(f"alert rules: {len(changes.added) + len(changes.unchanged) + len(changes.changed)} of {PRESETS}")
        finally:
            database.close()

    def wait_for_data(self, say: Callable[[str], None]) -> bool:
        """Wait until the web shows past rows and a minute that ended after all was up, so one from the stream.

        Where no exchange has a stream, past rows are enough.

        Returns False after DATA_TIMEOUT_S, and tells `say` what is missing.
        """
        symbol = "BTC" if self.settings.symbols == ALL_SYMBOLS else self.settings.symbols[0]
        enabled = registry.select_enabled(self.settings)
        shown = next((each for each in enabled if each.stream_feeds), enabled[0])
        perpspec = name_perpspec(shown.codes[0], MAIN_METRIC)
        web = Web(self.settings)
        live_from_ms = floor_to(now_ms(), MINUTE_MS)
        printed_s, waits_until_s = 0.0, time.monotonic() + DATA_TIMEOUT_S
        while True:
            past, reason = web.read_rows(perpspec, symbol=symbol, to=live_from_ms, limit=5)
            live, _ = web.read_rows(perpspec, symbol=symbol, **{"from": live_from_ms}, limit=5)
            is_live = bool(live) or not shown.stream_feeds
            if past and is_live:
                say(f"{symbol} of {perpspec}: history{' and live minutes have' if live else ' has'} arrived")
                return True
            missing = " and ".join(["history"] * (not past) + ["the first live minute"] * (not is_live))
            if time.monotonic() > waits_until_s:
                why = f" ({reason})" if reason else ""
                say(f"after {self.elapsed_s:.0f} s {web.url} does not show {missing} of {symbol}, {perpspec}{why}")
                return False
            if time.monotonic() - printed_s >= PROGRESS_INTERVAL_S:
                printed_s = time.monotonic()
                say(f"{self.elapsed_s:4.0f} s  waiting for {missing} of {symbol}")
            time.sleep(1)
