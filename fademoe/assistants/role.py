"""The role that assistants read the database as: it can read the views of its schema, and nothing else.

Only privileges protect: whatever an assistant makes the server execute, the role has nothing to write to. So `prepare`
makes the role and its views, and refuses to go on while the role may do more.
"""

from importlib import resources
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.errors import FadeMoeError, StoreError
from fademoe.settings import Settings
from fademoe.store.connection import CONNECT_TIMEOUT_S, Database, get_first_line
from fademoe.store.queries import load_queries
from fademoe.tokens import load_or_make_token

ROLE = "fademoe_mcp"
SCHEMA = "fademoe_mcp"
PASSWORD_FILE = "mcp_database_password"
SQL = load_queries("assistants")


class TooMuch(FadeMoeError):
    """The role may do more than read its views, and FadeMoe may not revoke it."""


def prepare(settings: Settings) -> str:
    """Make the role, its schema and its views; return the address of PostgreSQL under which the role logs in.

    Raises StoreError when FadeMoe may not make the role, or when the role cannot log in, and TooMuch.
    """
    database = Database(settings.postgres_url, "fademoe mcp")
    try:
        is_ours = settings.database_url is None
        excess = database.run(lambda cursor: _prepare(cursor, is_ours=is_ours))
        if excess:
            raise TooMuch(
                f"the database role {ROLE} may do more than read its views: {', '.join(excess)}. Revoke it as the owner"
                " of the database, or as a superuser"
            )
        return _find_login(settings, database)
    finally:
        database.close()


def build_address(url: str, password: str) -> str:
    """Return the address of the same database for the role; it finds the views before anything else."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = [(key, value) for key, value in parse_qsl(parts.query) if key not in ("user", "password", "options")]
    given = dict(parse_qsl(parts.query)).get("options", "")
    query.append(("options", f"{given} -c search_path={SCHEMA}".strip()))
    user = f"{ROLE}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{user}@{host}", query=urlencode(query, quote_via=quote)))


def _prepare(cursor: Cursor, *, is_ours: bool) -> list[str]:
    """Run the scripts; return what the role may do beyond reading its views."""
    for name in ("assistant_role.sql", "assistant_views.sql"):
        try:
            cursor.execute(resources.files("fademoe.store").joinpath("sql", name).read_text(encoding="utf-8"))
        except psycopg2.errors.InsufficientPrivilege as error:
            raise StoreError(
                f"FadeMoe's user may not make the role {ROLE}: {get_first_line(error)}. Let a superuser run"
                f" CREATE ROLE {ROLE} LOGIN; GRANT CREATE ON DATABASE … TO FadeMoe's user"
            ) from error
    if is_ours:  # the embedded server has no other user: the role needs no other database of it
        cursor.execute(SQL["close_other_databases"])
        for (name,) in cursor.fetchall():
            cursor.execute(sql.SQL(SQL["revoke_connect"]).format(database=sql.Identifier(name)))
    cursor.execute(SQL["excess"], {})
    return [text for (text,) in cursor.fetchall()]


def _find_login(settings: Settings, database: Database) -> str:
    """Return an address under which the role can log in; a refused password is set again."""
    password = load_or_make_token(settings.home / PASSWORD_FILE, "FADEMOE_HOME")
    address = build_address(settings.postgres_url, password)
    if not _refuses(address):
        return address
    statement = sql.SQL(SQL["set_password"]).format(password=sql.Literal(password))
    database.run(lambda cursor: cursor.execute(statement))
    if reason := _refuses(address):
        raise StoreError(f"the role {ROLE} cannot log in to PostgreSQL: {reason}")
    return address


def _refuses(address: str) -> str | None:
    """Return why a login fails, None when it does not."""
    try:
        psycopg2.connect(address, connect_timeout=CONNECT_TIMEOUT_S).close()
    except psycopg2.OperationalError as error:
        return get_first_line(error)
    return None
