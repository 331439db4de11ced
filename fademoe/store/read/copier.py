"""Large bulk reads by processes of their own: to copy and sort rows takes a core, which the web has not to itself.

The web starts some with `copy_in_processes`. Each gets what to read as a pickle on its standard input and then windows,
16 bytes each; it answers each with the length of its text and the text. It ends when its input does, so a web that was
killed leaves none behind.
"""

import pickle
import struct
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress

from psycopg2 import sql

from fademoe.clock import Window
from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.pool import Reader
from fademoe.store.read.rows import Selection
from fademoe.store.read.windows import read_window

PROCESSES = 2
_WINDOW = struct.Struct("!qq")
_LENGTH = struct.Struct("!Q")

Columns = Sequence[sql.Composable]


def copy_in_processes(
    url: str, spec: Perpspec, selection: Selection, columns: Columns, windows: Sequence[Window]
) -> Generator[bytes, None, None]:
    """Yield the text of each window, in order; raise StoreError where a process cannot read one.

    While one window is used, the next ones are read.
    """
    task = pickle.dumps((url, spec, selection, columns))
    with ExitStack() as stack:
        copiers = [stack.enter_context(_Copier(task)) for _ in range(PROCESSES)]
        for copier, window in zip(copiers, windows, strict=False):
            copier.request(window)
        for index in range(len(windows)):
            copier = copiers[index % PROCESSES]
            text = copier.read()
            if index + PROCESSES < len(windows):
                copier.request(windows[index + PROCESSES])
            yield text


class _Copier:
    """The web's side of one process."""

    def __init__(self, task: bytes) -> None:
        command = [sys.executable, "-P", "-m", "fademoe.store.read.copier"]  # -P: no module of the working directory
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send(task)

    def __enter__(self) -> "_Copier":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()

    def request(self, window: Window) -> None:
        """Let a window be read."""
        self._send(_WINDOW.pack(*window))

    def read(self) -> bytes:
        """Return the text of the window that was requested first."""
        (length,) = _LENGTH.unpack(self._receive(_LENGTH.size))
        return self._receive(length)

    def _send(self, content: bytes) -> None:
        with suppress(BrokenPipeError):  # the answer that is missing tells
            self._process.stdin.write(content)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _receive(self, length: int) -> bytes:
        content = self._process.stdout.read(length)  # type: ignore[union-attr]
        if len(content) < length:
            raise StoreError("the process that reads the rows has ended, its log says why")
        return content


def main() -> None:
    """Answer windows until the input ends."""
    registry.load_exchanges()  # and the metrics that their packages declare
    source, target = sys.stdin.buffer, sys.stdout.buffer
    url, spec, selection, columns = pickle.load(source)
    reader = Reader(url, connections=1)
    with suppress(BrokenPipeError, KeyboardInterrupt):
        while len(packed := source.read(_WINDOW.size)) == _WINDOW.size:
            text = read_window(reader, spec, selection, columns, Window(*_WINDOW.unpack(packed)))
            target.write(_LENGTH.pack(len(text)))
            target.write(text)
            target.flush()


if __name__ == "__main__":
    try:
        main()
    except StoreError as error:
        sys.exit(f"a bulk read: {error}")
