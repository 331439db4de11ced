"""supervisord runs the programs of conf/supervisord.conf, and a stop ends all of them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from fademoe.deploy import up
from fademoe.embedded.servers import make_home
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.settings import Settings
from fademoe.supervisord.daemon import CHECKOUT, Supervisord
from fademoe.supervisord.hint import HINT
from fademoe.supervisord.processes import end_processes, find_processes
from fademoe.supervisord.streams import make_stream_programs, write_stream_programs

CONF = CHECKOUT / "conf" / "supervisord.conf"
# A stand-in for every program: ends, as soon as Python would, like a server that is given elsewhere, or runs on.
STAND_IN = """#!/bin/sh
case "$1" in
    redis) sleep 0.3 ;;
    *) exec sleep 600 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with conf/ and a stand-in for the command fademoe, with a space in its name."""
    folder = tmp_path / "a checkout"
    shutil.copytree(CHECKOUT / "conf", folder / "conf")
    conf = folder / "conf" / CONF.name
    conf.write_text(conf.read_text().replace("startsecs = 5", "startsecs = 1"))  # the stand-ins start at once
    command = folder / "bin" / "fademoe"
    command.parent.mkdir()
    command.write_text(STAND_IN)
    command.chmod(0o755)
    return folder


@pytest.fixture
def start(checkout: Path, tmp_path: Path) -> Iterator[Callable[[str], Supervisord]]:
    """Start a supervisord of stand-ins in a home of that name; it is stopped after the test."""
    started = []
    folder = Path(tempfile.mkdtemp(prefix="fademoe-"))  # short enough for sockets

    def _start(name: str, checkout: Path = checkout) -> Supervisord:
        home = folder / name
        make_home(home)
        environ = up.make_environment(os.environ, Settings(home=home, workers=2, redis_url="redis://a.test"))
        environ["PATH"] = f"{checkout / 'bin'}{os.pathsep}{environ['PATH']}"
        supervisord = Supervisord(home, checkout)
        started.append(supervisord)
        supervisord.start("supervisord.conf", environ, registry.list_streamed())
        return supervisord

    yield _start
    for supervisord in started:
        supervisord.stop(lambda line: None)
    shutil.rmtree(folder)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(supervisord: Supervisord) -> dict[str, str]:
    return {program.name: program.state for program in supervisord.list_programs()}


def sections() -> RawConfigParser:
    parser = RawConfigParser(inline_comment_prefixes=(";",), strict=True)
    parser.read([CONF, CONF.with_name("demo.conf")])
    parser.read_string(make_stream_programs(registry.list_streamed()))
    return parser


def test_a_program_that_a_signal_ends_is_restarted(start):
    supervisord = start("var")
    supervisord.start_programs(["postgres"])
    wait_until(lambda: states(supervisord)["postgres"] == "RUNNING")
    (before,) = [program.pid for program in supervisord.list_programs() if program.pid]
    os.kill(before, signal.SIGTERM)
    wait_until(lambda: any(program.pid not in (0, before) for program in supervisord.list_programs()))


@pytest.mark.parametrize("name", ["supervisord.conf", "demo.conf"])
def test_the_configuration_is_one_that_supervisord_accepts(name, tmp_path, monkeypatch):
    home = tmp_path / "a [b]"
    make_home(home)
    settings = Settings(home=home, workers=3)
    environ = up.make_environment({"SIMULATOR_PORT": "1"}, settings)
    for variable, value in (environ | dict(write_stream_programs(settings.home, registry.list_streamed()))).items():
        monkeypatch.setenv(variable, value)
    options = ServerOptions()
    options.realize(["-c", str(CONF.with_name(name))])
    groups = {group.name: len(group.process_configs) for group in options.process_group_configs}
    assert groups["worker"] == 3
    assert ("simulator" in groups) == (name == "demo.conf")
    assert {name for name in groups if name.startswith("stream-")} == {
        f"stream-{name}" for name in registry.list_streamed()
    }


@pytest.mark.long
def test_every_program_is_a_command_of_fademoe():
    parser = sections()
    commands = [parser[name]["command"] for name in parser.sections() if name.startswith("program:")]
    assert len(commands) >= 8
    for command in commands:
        words = command.replace("%(ENV_SIMULATOR_PORT)s", "1").removeprefix("nice -n 10 ").split()
        program, *arguments = words
        assert program == "fademoe"
        assert shutil.which("fademoe", path=Path(sys.executable).parent)
        done = subprocess.run([sys.executable, "-m", program, *arguments, "--help"], capture_output=True, check=False)
        assert done.returncode == 0


def test_every_program_is_tried_again_until_it_works():
    parser = sections()
    programs = [parser[name] for name in parser.sections() if name.startswith("program:")]
    retries = {program.name: program.get("startretries") for program in programs}
    assert set(retries.values()) == {"1000000"}, retries


def test_every_exchange_with_sockets_has_a_stream_program():
    sockets = {f"program:stream-{name}" for name, exchange in registry.load_exchanges().items() if exchange.sockets}
    assert sockets == {name for name in sections().sections() if name.startswith("program:stream-")}


@pytest.mark.parametrize("name", ["100%", "%(here)s", "%%", "a b", "a;b #c", "[ab]*?", "'a' \"b\"", "ä$HOME", "~"])
def test_programs_run_in_a_home_of_any_name(start, name):
    supervisord = start(name)
    started = supervisord.start_programs(["worker", "stream-okx"])
    # all: supervisord's signal is lost before its child has become the program, and it kills a minute later
    wait_until(lambda: all(states(supervisord)[program] == "RUNNING" for program in started))
    assert (supervisord.home / "log" / "stream-okx.log").is_file()
    assert (supervisord.home / "log" / "worker_01.log").is_file()
    assert supervisord.link.readlink() == supervisord.socket


@pytest.mark.parametrize("name", ["100%", "a b"])
def test_programs_run_from_a_checkout_of_any_name(checkout, start, name):
    """The folder that FADEMOE_HOME is in by default."""
    checkout.rename(checkout.parent / name)
    supervisord = start("var", checkout.parent / name)
    started = supervisord.start_programs(["worker"])
    wait_until(lambda: all(states(supervisord)[program] == "RUNNING" for program in started))


def test_all_programs_start_and_a_stop_leaves_no_process_and_no_file(start, checkout):
    supervisord = start("var")
    assert set(states(supervisord).values()) == {"STOPPED"}
    supervisord.start_programs()
    wait_until(lambda: all(program.is_fine for program in supervisord.list_programs()))
    assert states(supervisord)["worker:worker_01"] == "RUNNING"
    assert states(supervisord)["redis"] == "EXITED"  # not needed, and not started again
    assert supervisord.start_programs() == []
    supervisord.stop(lambda line: None)
    assert find_processes(supervisord.home) == []
    assert list((supervisord.home / "run").iterdir()) == []
    assert not supervisord.link.is_symlink()


def test_a_part_of_the_programs_can_be_started(start):
    supervisord = start("var")
    started = supervisord.start_programs(["worker"])
    wait_until(lambda: all(states(supervisord)[program] == "RUNNING" for program in started))
    assert {state for name, state in states(supervisord).items() if not name.startswith("worker:")} == {"STOPPED"}
    with pytest.raises(ConfigError, match=r"unknown program worke: valid are .*worker"):
        supervisord.start_programs(["worke"])


def test_a_killed_program_is_restarted(start):
    supervisord = start("var")
    supervisord.start_programs(["stream-binance"])
    wait_until(lambda: states(supervisord)["stream-binance"] == "RUNNING")
    (before,) = [program.pid for program in supervisord.list_programs() if program.pid]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: any(program.pid not in (0, before) for program in supervisord.list_programs()))


def supervisorctl(
    checkout: Path, *arguments: str, conf: str = "supervisord.conf"
) -> "subprocess.CompletedProcess[str]":
    """Run supervisorctl as from a new shell."""
    command = [str(Path(sys.executable).with_name("supervisorctl")), "-c", str(checkout / "conf" / conf), *arguments]
    return subprocess.run(command, env={}, capture_output=True, text=True, check=False)


def test_supervisorctl_needs_no_environment(start, checkout):
    start("var").start_programs(["worker"])
    for arguments in (["start", "all"], ["restart", "stream-binance"], ["stop", "all"]):
        done = supervisorctl(checkout, *arguments)
        assert "ERROR" not in done.stdout + done.stderr
    status = supervisorctl(checkout, "status")
    assert "RUNNING" not in status.stdout
    assert status.stdout.count("STOPPED") >= 7


@pytest.mark.parametrize("conf", ["supervisord.conf", "demo.conf"])
@pytest.mark.parametrize("arguments", [["status"], ["start", "all"], ["tail", "web"]])
def test_supervisorctl_says_how_to_start_when_nothing_runs(checkout, conf, arguments):
    done = supervisorctl(checkout, *arguments, conf=conf)
    assert done.stdout.splitlines() == [HINT]
    assert done.stderr == ""
    assert done.returncode != 0


def test_supervisorctl_says_how_to_start_when_supervisord_was_killed(start, checkout):
    """The socket is left behind."""
    supervisord = start("var")
    (process,) = [process for process in find_processes(supervisord.home) if process.role == "supervisord"]
    process.send(signal.SIGKILL)
    wait_until(lambda: not supervisord.is_running())
    assert supervisorctl(checkout, "status").stdout.splitlines() == [HINT]


def test_supervisorctl_uses_the_home_started_last_and_then_the_one_that_is_left(start):
    first, second = start("one"), start("two")
    assert first.link.resolve() == second.socket.resolve()
    second.stop(lambda line: None)
    assert first.link.resolve() == first.socket.resolve()


def test_processes_that_a_killed_supervisord_leaves_are_found_and_ended(start):
    supervisord = start("var")
    supervisord.start_programs()
    wait_until(lambda: states(supervisord)["web"] == "RUNNING")
    (process,) = [process for process in find_processes(supervisord.home) if process.role == "supervisord"]
    process.send(signal.SIGKILL)
    wait_until(lambda: not supervisord.is_running())
    assert len(find_processes(supervisord.home)) >= 6
    assert end_processes(supervisord.home, lambda line: None)
    assert find_processes(supervisord.home) == []
