"""FadeMoe's programs as processes that start in hundredths of a second.

`python -m fademoe` imports for half a second, and the tests start a thousand programs. So each process of the tests has
one server, of multiprocessing, that has imported what programs import; a program is a fork of it that runs `main`.
Tests of how a program is started, and of how much memory it takes, start a fresh one.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.reduction import DupFd
from pathlib import Path

from fademoe.cli.main import main

IMPORTED = (
    "fademoe.cli.alerts",
    "fademoe.cli.completeness",
    "fademoe.cli.maintenance",
    "fademoe.cli.scheduler",
    "fademoe.cli.seed",
    "fademoe.cli.simulator",
    "fademoe.cli.stream",
    "fademoe.cli.worker",
)
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(IMPORTED))


class Forked:
    """A process that runs `fademoe COMMAND`, forked from the server."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], stdout: int, stderr: int) -> None:
        """Start it."""
        self.args = ("fademoe", *command)
        self._process = _CONTEXT.Process(
            target=_run,
            args=(self.args, dict(environ), Path.cwd(), _Descriptor(stdout), _Descriptor(stderr)),
            daemon=True,
        )
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, -N after signal N; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code at its end; raise TimeoutExpired when it does not end."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


Program = Forked | subprocess.Popen


def start(
    command: Sequence[str], environ: Mapping[str, str], *, stdout: int = 1, stderr: int = 2, fresh: bool = False
) -> Program:
    """Start `fademoe COMMAND` with these variables alone, in this folder, with these file descriptors for its output.

    A fresh one imports all by itself; so does one for which PYTHONPATH names modules of its own.
    """
    if fresh or "PYTHONPATH" in environ:
        return subprocess.Popen([sys.executable, "-m", "fademoe", *command], env=environ, stdout=stdout, stderr=stderr)
    return Forked(command, environ, stdout, stderr)


def run(command: Sequence[str], environ: Mapping[str, str], timeout: float) -> "subprocess.CompletedProcess[str]":
    """Run `fademoe COMMAND` to its end, as subprocess.run with its output captured; after `timeout` it is killed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        program = start(command, environ, stdout=out.fileno(), stderr=err.fileno())
        try:
            code = program.wait(timeout)
        finally:
            program.kill()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(("fademoe", *command), code, *texts)


class _Descriptor:
    """A file descriptor that is handed to a process."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self):
        return _receive, (DupFd(self._number),)


def _receive(descriptor) -> int:
    return descriptor.detach()


def _run(arguments: Sequence[str], environ: Mapping[str, str], folder: Path, stdout: int, stderr: int) -> None:
    """Become the program: in the new process."""
    for number, place in ((stdout, 1), (stderr, 2)):
        os.dup2(number, place)
        os.close(number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = list(arguments)
    sys.exit(main(arguments[1:]))
