"""Streams: a closed bar's message to its committed row at 3 × 500 symbols, and the messages that one process takes."""

import select
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psycopg2

from bench import cpu, frames
from bench.peers import environment
from bench.report import Report, Table
from bench.stage import Stage, stage, until
from fademoe.clock import MINUTE_MS, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.runtime.services import Services
from fademoe.simulator.market.market import Market

SYMBOLS = 500
UNIVERSE = 700  # so many on Binance, so that OKX, which lists the fewest, has more than 500
SEED = 1
MINUTES = 2
FRAMES = 200_000
CRYPTOFEED = "cryptofeed==2.4.1"
EXCHANGES = ("binance", "bybit", "okx")


def run() -> Report:
    """Measure the way of closed bars, then the messages of one process beside cryptofeed."""
    latency = Table(
        columns=("exchange", "bars", "p50 s", "p99 s", "max s", "p99 at most", "peak RSS MB", "CPU s a minute")
    )
    with stage("--universe-size", str(UNIVERSE), "--seed", str(SEED)) as servers:
        latency.rows += _latency(servers)
    messages = Table(columns=("one process", "frames", "frames/s", "frames per CPU second"))
    notes = [
        f"{SYMBOLS} symbols on each of {len(EXCHANGES)} exchanges with all their channels, {MINUTES} minutes; the"
        " simulator sends each closed bar 0.2 to 2 s after its minute. From the moment at which the message is due to"
        " PostgreSQL's own time of the commit; a simulator that is late counts against us.",
        f"Frames: kline frames of {frames.CONTRACTS} contracts, one in {frames.CLOSED_EVERY} of a closed bar, sent as"
        " fast as they are read, until a ping behind the last is answered. FadeMoe parses, checks and stores the bars"
        " in PostgreSQL; cryptofeed hands them to a callback that keeps them.",
    ]
    with stage("--universe-size", str(UNIVERSE), "--seed", str(SEED)) as servers, _Frames() as server:
        messages.rows.append(("FadeMoe", FRAMES, *_ours(servers, server)))
        try:
            python = environment("cryptofeed", CRYPTOFEED)
        except subprocess.CalledProcessError as error:
            notes.append(f"{CRYPTOFEED} could not be installed: {error}")
        else:
            messages.rows.append((CRYPTOFEED, FRAMES, *_cryptofeeds(servers, server, python)))
    return Report(title="streams", tables=[latency, messages], notes=notes)


def _latency(servers: Stage) -> list[tuple[object, ...]]:
    market = Market(SEED, now_ms(), universe_size=UNIVERSE)
    symbols = list_common_symbols(market)
    _keep_commit_times(servers)
    servers.environ["FADEMOE_SYMBOLS"] = ",".join(symbols)
    programs = {name: servers.start("stream", name) for name in EXCHANGES}
    context = servers.context()
    until(lambda: read_running(context) == len(EXCHANGES), 90)
    first_ms = floor_to(now_ms(), MINUTE_MS) + MINUTE_MS
    time.sleep((first_ms - now_ms()) / 1000)
    before_s = {name: cpu.spent_s([program.pid]) for name, program in programs.items()}
    time.sleep((first_ms + MINUTES * MINUTE_MS - now_ms()) / 1000)
    spent_s = {name: cpu.spent_s([program.pid]) - before_s[name] for name, program in programs.items()}
    time.sleep(15)  # for the closed bars of the last minute, and their commit
    rows: list[tuple[object, ...]] = []
    for name, program in programs.items():
        delays = _delays(context, market, name, first_ms)
        p99 = delays[len(delays) * 99 // 100]
        use = (_peak_mb(program.pid), spent_s[name] / MINUTES)
        rows.append((name, len(delays), median(delays), p99, delays[-1], 1, *use))
    servers.stop(*programs.values())
    context.close()
    return rows


def list_common_symbols(market: Market) -> list[str]:
    """Return symbols that every exchange lists as USDT perpetuals."""
    listed = [
        {
            each.coin.name
            for each in market.world.list_instruments(name)
            if each.quote == "USDT" and each.is_perpetual and each.is_trading(now_ms()) and each.coin.kind == "crypto"
        }
        for name in EXCHANGES
    ]
    return sorted(set.intersection(*listed))[:SYMBOLS]


def _keep_commit_times(servers: Stage) -> None:
    """Let PostgreSQL remember when each transaction committed; it restarts for that."""
    context = servers.context()
    url = context.settings.postgres_url
    context.close()
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    connection.close()
    servers.restart_postgres()
    servers.context().close()


def read_running(context: Services) -> int:
    """Return how many streams are running."""
    with context.database.open_transaction() as cursor:
        cursor.execute("SELECT count(*) FROM perp_status WHERE kind = 'stream' AND state = 'running'")
        return int((cursor.fetchone() or (0,))[0])


def _delays(context: Services, market: Market, exchange: str, first_ms: int) -> list[float]:
    """Return, ascending, the seconds from each closed bar's message to the commit of its row."""
    (code,) = registry.load_exchanges()[exchange].codes
    with context.database.open_transaction() as cursor:
        cursor.execute(
            "SELECT symbol, ts, extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000 FROM perp_data"
            " WHERE source = %s AND ts >= %s AND ts < %s",
            (f"{code}-ohlcv", first_ms, first_ms + MINUTES * MINUTE_MS),
        )
        found = cursor.fetchall()
    delays = []
    for symbol, ts, committed_ms in found:
        instrument = market.world.find_contract(exchange, symbol)
        due_ms = ts + MINUTE_MS + market.find_final_delay_ms(instrument, ts)
        delays.append((float(committed_ms) - due_ms) / 1000)
    return sorted(delays)


class _Frames:
    """The server of frames, a process of its own."""

    def __enter__(self) -> "_Frames":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.frames", str(FRAMES)], stdout=subprocess.PIPE, text=True
        )
        self.url = f"ws://127.0.0.1:{self.line(60)}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def line(self, seconds: float) -> str:
        """Return what the server says next, '' when it says nothing for so long."""
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        return self._process.stdout.readline().strip() if ready else ""  # type: ignore[union-attr]


def _ours(servers: Stage, server: _Frames) -> tuple[float, float]:
    symbols = ",".join(name.removesuffix("USDT") for name in frames.names())
    program = servers.start("stream", "binance", FADEMOE_SYMBOLS=symbols, FADEMOE_BINANCE_WS_URL=server.url)
    found = _rates(server, program.pid)
    servers.stop(program)
    return found


def _cryptofeeds(servers: Stage, server: _Frames, python: Path) -> tuple[float, float]:
    script = Path(__file__).with_name("peer_cryptofeed.py")
    arguments = (servers.simulator_url, server.url, ",".join(frames.names()))
    program = subprocess.Popen([python, script, *arguments], cwd=python.parent)
    try:
        return _rates(server, program.pid)
    finally:
        program.kill()
        program.wait()


def _rates(server: _Frames, pid: int) -> tuple[float, float]:
    """Return frames per second and per CPU second of the next client."""
    if server.line(60) != "begin":
        raise RuntimeError("no client came to the server of frames")
    before_s = cpu.spent_s([pid])
    seconds = float(server.line(300))
    return FRAMES / seconds, FRAMES / (cpu.spent_s([pid]) - before_s)


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
