"""Migrations that are applied to a database as it was before them."""

from fademoe.feeds import registry
from fademoe.store.connection import Database
from fademoe.store.migrate import migrate


def migrate_again(database: Database, name: str) -> list[str]:
    """Forget that a migration was applied, and migrate; return the names of what was applied."""
    with database.open_transaction() as cursor:
        cursor.execute("DELETE FROM schema_migrations WHERE name = %s", (name,))
    return migrate(database, list(registry.load_exchanges().values()))
