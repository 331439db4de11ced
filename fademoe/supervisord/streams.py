"""supervisord's programs of the streams: one for each exchange that has any, in a file that conf/ includes."""

import glob
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

STREAMS_CONF = "streams.conf"  # in run/
INCLUDED = "STREAMS_CONF"  # the variable by which conf/supervisord.conf names it
PROGRAM = """
[program:stream-{name}]
command = fademoe stream {name}
priority = 50
autostart = false
startsecs = 0
startretries = 1000000
stopwaitsecs = 20
redirect_stderr = true
stdout_logfile = %(ENV_PROGRAM_LOGS)s/%(program_name)s.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
"""
HEADER = """\
; The streams, one program per exchange; written by `fademoe up` at the start of supervisord, so do not edit it.
; The stream of an exchange that is not enabled ends with exit code 0 and is not started again.
"""


def make_stream_programs(exchanges: Iterable[str]) -> str:
    """Return the configuration of the streams of these exchanges."""
    return HEADER + "".join(PROGRAM.format(name=name) for name in exchanges)


def write_stream_programs(home: Path, exchanges: Iterable[str]) -> Mapping[str, str]:
    """Write the streams' programs into a home; return the variable that supervisord needs in order to find them."""
    path = home / "run" / STREAMS_CONF
    path.write_text(make_stream_programs(exchanges), encoding="utf-8")
    # supervisord splits the setting at blanks and takes each part for a pattern
    return {INCLUDED: re.sub(r"\s", "?", glob.escape(str(path)))}


def has_changed(home: Path, exchanges: Iterable[str]) -> bool:
    """Return whether a home's file has other streams than those of `exchanges`; False where it has no file."""
    path = home / "run" / STREAMS_CONF
    return path.exists() and path.read_text(encoding="utf-8") != make_stream_programs(exchanges)
