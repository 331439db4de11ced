"""The store's SQL: files of named statements in `sql/queries`, one file for each subject."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

_HEADING = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load_queries(subject: str) -> Mapping[str, str]:
    """Return the statements of `sql/queries/<subject>.sql` by name.

    A statement begins behind a line `-- name: <name>`. Values are psycopg2 parameters (`%(name)s`, so a literal percent
    sign is `%%`); identifiers are `{name}`, filled in through `psycopg2.sql` alone.
    """
    path = resources.files("fademoe.store").joinpath("sql", "queries", f"{subject}.sql")
    _, *parts = _HEADING.split(path.read_text(encoding="utf-8"))
    return dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
