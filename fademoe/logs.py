"""Logging, set up once at the process edge: one key=value line per event on stderr."""

import logging
import sys
import time


class _KeyValue(logging.Formatter):
    """Format a record as `at=… level=… logger=… msg="…"`, with the traceback in following lines."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        stamp = f"{moment}.{int(record.msecs):03d}Z"
        message = record.getMessage().replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        line = f'at={stamp} level={record.levelname.lower()} logger={record.name} msg="{message}"'
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def set_up(level: int = logging.INFO) -> None:
    """Send all logging of this process to stderr as key=value lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_KeyValue())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("urllib3", "websocket"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
