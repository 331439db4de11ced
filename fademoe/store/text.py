"""Text for PostgreSQL, which stores every character but NUL and halves of a surrogate pair."""

from psycopg2.extensions import QuotedString, register_adapter


def clean_text(text: str) -> str:
    """Return `text` without NUL characters, and with `?` for what UTF-8 cannot hold."""
    if text.isascii():
        return text.replace("\x00", "")
    return text.encode("utf-8", "replace").decode().replace("\x00", "")


def adapt_text(text: str) -> QuotedString:
    """Return `text` cleaned, as the psycopg2 adapter of a value."""
    return QuotedString(clean_text(text))


def register_text() -> None:
    """Clean every text that this process sends to PostgreSQL as a value of a statement."""
    register_adapter(str, adapt_text)
