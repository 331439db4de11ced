"""Fixtures: running simulators, and the market that they serve."""

from collections.abc import Callable, Iterator

import pytest
import websocket

from fademoe.simulator.market.market import Market
from tests.support.simulated import SimulatorProcess


@pytest.fixture(scope="session")
def shared() -> Iterator[SimulatorProcess]:
    """A simulator for all tests that restore its state."""
    simulator = SimulatorProcess("--no-limits")
    yield simulator
    assert simulator.stop() == 0


@pytest.fixture
def sim(shared: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """The shared simulator; faults and the clock's offset are cleared after the test."""
    yield shared
    shared.close_sockets()
    shared.post("/sim/faults", {"clear": True})
    shared.post("/sim/clock", {"offset_ms": 0})


@pytest.fixture(scope="session")
def other() -> Iterator[SimulatorProcess]:
    """A simulator with other options and short times, for tests that change its contracts."""
    simulator = SimulatorProcess(
        "--no-limits", "--binance-page-keeps", "newest", "--binance-ping-s", "0.3", "--binance-lifetime-s", "0.7"
    )
    yield simulator
    assert simulator.stop() == 0


@pytest.fixture
def start() -> Iterator[Callable[..., SimulatorProcess]]:
    """Return a function that starts a simulator with options, stopped after the test."""
    started: list[SimulatorProcess] = []

    def start_simulator(*options: str) -> SimulatorProcess:
        started.append(SimulatorProcess(*options))
        return started[-1]

    yield start_simulator
    for simulator in started:
        simulator.stop()


@pytest.fixture
def market(shared: SimulatorProcess) -> Market:
    """The shared simulator's market, computed in this process."""
    return Market(1, shared.now_ms(), open_ms=shared.open_ms)


@pytest.fixture
def connect(sim: SimulatorProcess) -> Callable[..., websocket.WebSocket]:
    """Return a function that opens a WebSocket, closed after the test."""
    return sim.connect
