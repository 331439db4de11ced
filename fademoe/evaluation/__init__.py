"""Expressions over stored rows: minute by minute live, again as live saw them, and all symbols now."""

from fademoe.evaluation.engine import (
    EVALUATED_WITHIN_MS,
    EvaluatedMinute,
    LiveEngine,
    replay,
)
from fademoe.evaluation.watches import Place, Watch, WatchResult

__all__ = ["EVALUATED_WITHIN_MS", "EvaluatedMinute", "LiveEngine", "Place", "Watch", "WatchResult", "replay"]
