"""A work horse that its worker hands one job after the other: a fork and new connections cost more than many jobs.

    worker                                   work horse
    forks it, with the first job   ------->  works
    waits                          <-------  DONE
    hands over the next job        ------->  works
    closes the channel             ------->  ends

Both ends see when the other one is gone: its end of the channel is closed then.
"""

import json
import os
import socket
from typing import NamedTuple

from fademoe.clock import monotonic_s

DONE = b"d"


class HandedOver(NamedTuple):
    """What a work horse needs to know of its next job."""

    job_id: str
    queue: str
    execution_id: str


class Horse:
    """A work horse, as its worker sees it. Use it in one thread."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        """Take the worker's end of a channel to a process that was just forked, with its first job."""
        self.pid = pid
        self._channel = channel
        self.idle_since_s = monotonic_s()

    def wait_until_done(self) -> bool:
        """Wait until the job is done; return whether it is: False when the work horse has ended instead.

        Any exception that a signal raises meanwhile leaves all as it was.
        """
        try:
            is_done = self._channel.recv(1, socket.MSG_PEEK) == DONE
        except ConnectionError:  # it was killed before it took the job
            is_done = False
        self.idle_since_s = monotonic_s()
        return is_done

    def hand_over(self, job: HandedOver) -> bool:
        """Give it the next job after one that is done; return whether it is there to take it."""
        try:
            self._channel.recv(1)
            self._channel.sendall(json.dumps(job).encode() + b"\n")
        except OSError:
            return False
        return True

    def end(self) -> None:
        """Let it end when its job is done, and wait for that."""
        self._channel.close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            return  # it has ended, and was waited for


class Channel:
    """The work horse's end of the channel."""

    def __init__(self, channel: socket.socket) -> None:
        """Take the end that the worker made."""
        self._channel = channel
        self._lines = channel.makefile("rb")

    def report_and_take(self) -> HandedOver | None:
        """Tell that the job is done and wait for the next one; None when there is to be none."""
        try:
            self._channel.sendall(DONE)
            line = self._lines.readline()
        except OSError:
            return None
        return HandedOver(*json.loads(line)) if line.endswith(b"\n") else None
