"""Expressions over stored rows: minute by minute live, again as live saw them, and all symbols now.

engine    evaluates rules at the end of every minute: live, and in replays
watches   a rule as it is evaluated, and its results
board     all rows that a set of expressions reads, as known at the end of a minute
tables    these rows in memory, a table for each source
reading   reads rows, coverage and corrections from the database
arrays    what expressions see of a board, for all symbols at once
blocks    many minutes at once, for replays
"""

from fademoe.evaluation.engine import (
    EVALUATED_WITHIN_MS,
    EvaluatedMinute,
    LiveEngine,
    replay,
)
from fademoe.evaluation.watches import Place, Watch, WatchResult

__all__ = ["EVALUATED_WITHIN_MS", "EvaluatedMinute", "LiveEngine", "Place", "Watch", "WatchResult", "replay"]
