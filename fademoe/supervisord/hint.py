"""Plugin of supervisorctl, named in conf/*.conf: says how to start FadeMoe where supervisord does not run."""

import socket
from typing import Any

from supervisor.supervisorctl import LSBInitExitStatuses

from fademoe.supervisord.client import CONNECT_TIMEOUT_S

HINT = "FadeMoe is not running: make up starts it, make demo starts it against the built-in exchange simulator"


class StartHint:
    """Replaces supervisorctl's check for a running supervisord ("no such file") by one that prints HINT."""

    def __init__(self, controller: Any, **_: Any) -> None:
        """Change the check of a supervisorctl `Controller`."""
        self.name = ""  # supervisorctl writes it
        self._controller = controller
        self._check = controller.upcheck
        controller.upcheck = self.check

    def check(self) -> bool:
        """Return whether supervisord answers; when not, print HINT and set the exit code "not running"."""
        if self._is_listening():
            return bool(self._check())
        self._controller.output(HINT)
        self._controller.exitstatus = LSBInitExitStatuses.NOT_RUNNING
        return False

    def _is_listening(self) -> bool:
        address = self._controller.options.serverurl
        if not address.startswith("unix://"):  # given with supervisorctl -s
            return True
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_TIMEOUT_S)
            try:
                probe.connect(address.removeprefix("unix://"))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError:
                return True  # supervisorctl names the reason
        return True
