"""The shapes of the API's answers, as JSON Schema."""

from typing import Any, get_args

from fademoe.metrics import Aggregate, Drawing, Format
from fademoe.store.read.chart import BandState

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
FLAG: Json = {"type": "boolean"}
MAYBE_TEXT: Json = {"type": ["string", "null"]}
MAYBE_WHOLE: Json = {"type": ["integer", "null"]}
MAYBE_NUMBER: Json = {"type": ["number", "null"]}


def _object(members: Json, *, more: Json | None = None) -> Json:
    """Return an object that has all of `members`, and others only of the shape `more`."""
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": more if more is not None else False,
    }


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


FIELD = _object(
    {
        "name": TEXT,
        "unit": TEXT,
        "title": TEXT,
        "type": {"type": "string", "enum": ["decimal", "integer"]},
        "aggregate": {"type": "string", "enum": list(get_args(Aggregate))},
    }
)
PANE = _object(
    {"title": TEXT, "share": {"type": "number"}, "format": {"type": "string", "enum": list(get_args(Format))}}
)
BAND = _object({"state": {"type": "string", "enum": list(get_args(BandState))}, "start_ms": WHOLE, "end_ms": WHOLE})
PLOT = _object(
    {
        "pane": PANE,
        "drawing": {"type": "string", "enum": list(get_args(Drawing))},
        "columns": _list(TEXT),
        "label": TEXT,
        "downward": FLAG,
    }
)
RANGES = _list({"type": "array", "items": WHOLE, "minItems": 2, "maxItems": 2})
SIZED = {
    "table": TEXT,
    "purpose": TEXT,
    "rows_estimate": MAYBE_WHOLE,
    "bytes": MAYBE_WHOLE,
    "partitions": MAYBE_WHOLE,
}
UNIT = _object(
    {
        "rank": WHOLE,
        "unit": TEXT,
        "kind": TEXT,
        "state": TEXT,
        "stale": FLAG,
        "message": TEXT,
        "source": MAYBE_TEXT,
        "symbol": MAYBE_TEXT,
        "rows": WHOLE,
        "last_ts": MAYBE_WHOLE,
        "interval_s": WHOLE,
        "heartbeat_ms": WHOLE,
        "since_ms": WHOLE,
    }
)
WORKER = _object(
    {
        "name": TEXT,
        "state": TEXT,
        "stale": FLAG,
        "queues": _list(TEXT),
        "job": MAYBE_TEXT,
        "heartbeat_ms": MAYBE_WHOLE,
        "since_ms": MAYBE_WHOLE,
        "pid": MAYBE_WHOLE,
        "host": MAYBE_TEXT,
        "done": WHOLE,
        "failed": WHOLE,
        "working_s": NUMBER,
    }
)
QUEUE_MEMBERS = {
    "name": TEXT,
    "queued": WHOLE,
    "started": WHOLE,
    "scheduled": WHOLE,
    "deferred": WHOLE,
    "failed": WHOLE,
    "finished": WHOLE,
    "oldest_ms": MAYBE_WHOLE,
}
BUDGET = _object(
    {
        "exchange": TEXT,
        "name": TEXT,
        "egress": TEXT,
        "limit": MAYBE_WHOLE,
        "period_ms": MAYBE_WHOLE,
        "used": WHOLE,
        "server_used": MAYBE_WHOLE,
        "closed_until_ms": MAYBE_WHOLE,
        "closed_why": MAYBE_TEXT,
        "waits_ms": WHOLE,
    }
)
EVENT = _object({"id": WHOLE, "at_ms": WHOLE, "unit": TEXT, "state": TEXT, "message": TEXT})
ERROR_GROUP = _object(
    {
        "fingerprint": TEXT,
        "errors": WHOLE,
        "first_ms": WHOLE,
        "last_ms": WHOLE,
        "id": WHOLE,
        "unit": TEXT,
        "error_class": TEXT,
        "message": TEXT,
        "exchange": TEXT,
        "request": TEXT,
        "http_status": MAYBE_WHOLE,
        "excerpt": TEXT,
    }
)
TOTAL = _object(
    {
        "source": TEXT,
        "exchange": MAYBE_TEXT,
        "series": WHOLE,
        "wanted_ms": WHOLE,
        "missing_ms": WHOLE,
        "incomplete": WHOLE,
        "behind": WHOLE,
        "lag_ms": MAYBE_WHOLE,
        "first_ms": MAYBE_WHOLE,
        "newest_ms": MAYBE_WHOLE,
    }
)
SERIES = _object(
    {
        "source": TEXT,
        "symbol": TEXT,
        "wanted_from": MAYBE_WHOLE,
        "newest_ms": MAYBE_WHOLE,
        "wanted_ms": WHOLE,
        "covered_ms": WHOLE,
        "absent_ms": WHOLE,
        "missing_ms": WHOLE,
        "gaps": WHOLE,
        "percent": MAYBE_NUMBER,
        "wanted": RANGES,
        "covered": RANGES,
        "absent": RANGES,
        "missing": RANGES,
    }
)
CELL = _object({"ts": WHOLE, "state": TEXT, "wanted_ms": WHOLE, "missing_ms": WHOLE, "absent_ms": WHOLE})
FAILED = _object(
    {
        "queue": TEXT,
        "fingerprint": TEXT,
        "error": TEXT,
        "job": TEXT,
        "description": TEXT,
        "newest_ms": MAYBE_WHOLE,
        "trace": TEXT,
        "count": WHOLE,
    }
)
RATE = _or_null(_object({"per_minute": NUMBER, "left_ms": MAYBE_WHOLE}))
METRIC_MEMBERS = {"metric": TEXT, "title": TEXT, "interval": TEXT, "columns": _list(FIELD), "perpspecs": _list(TEXT)}
VALUES: Json = {"type": "object", "additionalProperties": MAYBE_TEXT}

SCHEMAS: dict[str, Json] = {
    "Problem": _object({"type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT, "instance": TEXT}, more={}),
    "Health": _object({"live": FLAG, "ready": FLAG, "database": TEXT, "redis": TEXT, "simulated": FLAG}),
    "Done": _object({"done": TEXT}),
    "Perpspecs": _object(
        {
            "perpspecs": _list(
                _object(
                    {
                        "perpspec": TEXT,
                        "exchange": TEXT,
                        "metric": TEXT,
                        "title": TEXT,
                        "interval": TEXT,
                        "fields": _list(FIELD),
                        "plots": _list(PLOT),
                        "series": WHOLE,
                        "symbols": _list(TEXT),
                        "first_ts": MAYBE_WHOLE,
                        "last_ts": MAYBE_WHOLE,
                        "missing_ms": MAYBE_WHOLE,
                    }
                )
            )
        }
    ),
    "Rows": _object(
        {
            "perpspec": TEXT,
            "rows": _list(_object({"ts": WHOLE, "symbol": TEXT, "source": TEXT, "interval": TEXT}, more=MAYBE_TEXT)),
            "next": MAYBE_TEXT,
        }
    ),
    "Metrics": _object({"metrics": _list(_object(METRIC_MEMBERS))}),
    "MetricRows": _object(
        METRIC_MEMBERS
        | {
            "rows": _list(
                _object(
                    {
                        "ts": WHOLE,
                        "symbol": TEXT,
                        "values": {"type": "object", "additionalProperties": _or_null(VALUES)},
                    }
                )
            ),
            "next": MAYBE_TEXT,
        }
    ),
    "Points": _object(
        {
            "perpspec": TEXT,
            "exchange": TEXT,
            "symbol": TEXT,
            "events": FLAG,
            "step_ms": WHOLE,
            "ts": _list(WHOLE),
            "columns": {"type": "object", "additionalProperties": _list(MAYBE_NUMBER)},
            "bands": _list(BAND),
        }
    ),
    "Coverage": _object({"at": WHOLE, "series": _list(SERIES), "next": MAYBE_TEXT}),
    "Cells": _object(
        {
            "perpspec": TEXT,
            "from": WHOLE,
            "to": WHOLE,
            "step_ms": WHOLE,
            "symbols": _list(_object({"symbol": TEXT, "cells": _list(CELL)})),
            "next": MAYBE_TEXT,
        }
    ),
    "Plan": _object(
        {
            "perpspec": TEXT,
            "series": WHOLE,
            "windows": WHOLE,
            "requests": WHOLE,
            "rows": WHOLE,
            "minutes": NUMBER,
            "lost": WHOLE,
            "reason": MAYBE_TEXT,
        }
    ),
    "Units": _object({"units": _list(UNIT), "next": MAYBE_TEXT}),
    "Queues": _object(
        {
            "paused": FLAG,
            "queues": _list(_object(QUEUE_MEMBERS | {"rate": RATE})),
            "workers": _list(WORKER),
            "failed": _list(FAILED),
        }
    ),
    "Limits": _object({"at": WHOLE, "budgets": _list(BUDGET)}),
    "Alerts": _object(
        {
            "alerts": _list(
                _object(
                    {
                        "id": TEXT,
                        "kind": TEXT,
                        "title": TEXT,
                        "text": TEXT,
                        "advice": TEXT,
                        "href": TEXT,
                        "acknowledged": FLAG,
                    }
                )
            )
        }
    ),
    "Tables": _object({"tables": _list(_object(SIZED))}),
    "Table": _object(
        SIZED
        | {
            "columns": _list(
                _object(
                    {
                        "name": TEXT,
                        "type": TEXT,
                        "nullable": FLAG,
                        "default": MAYBE_TEXT,
                        "unit": MAYBE_TEXT,
                        "title": MAYBE_TEXT,
                    }
                )
            ),
            "indexes": _list(_object({"name": TEXT, "definition": TEXT, "primary": FLAG, "unique": FLAG})),
        }
    ),
    "Summary": _object(
        {
            "at": WHOLE,
            "simulated": FLAG,
            "database": TEXT,
            "redis": TEXT,
            "streams": _or_null(_list(UNIT)),
            "workers": _or_null(_list(WORKER)),
            "paused": {"type": ["boolean", "null"]},
            "queues": _or_null(_list(_object(QUEUE_MEMBERS))),
            "budgets": _or_null(_list(BUDGET)),
            "units": _or_null({"type": "object"}),
            "coverage": _or_null(_list(TOTAL)),
            "recent_status": _or_null(_list(EVENT)),
            "recent_errors": _or_null(_list(ERROR_GROUP)),
            "errors_last_hour": _or_null({"type": "object"}),
        }
    ),
}
