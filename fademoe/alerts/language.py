"""What rules say in the language of expressions, compiled once in a process."""

from functools import cache, lru_cache

from fademoe.expressions import Expression, Message, Vocabulary, compile_expression, compile_message
from fademoe.feeds import registry

KEPT = 8_192  # compiled texts of a process


@cache
def get_vocabulary() -> Vocabulary:
    """Return the names of all exchanges."""
    return Vocabulary.build(registry.list_perpspecs())


@lru_cache(KEPT)
def compile_condition(text: str) -> Expression:
    """Return an expression that is true or false; raise ExpressionError for any other."""
    return compile_expression(text, get_vocabulary(), truth=True)


@lru_cache(KEPT)
def compile_any(text: str) -> Expression:
    """Return an expression, a truth or a number; raise ExpressionError."""
    return compile_expression(text, get_vocabulary())


@lru_cache(KEPT)
def compile_text(text: str) -> Message:
    """Return the message of a template; raise ExpressionError."""
    return compile_message(text, get_vocabulary())
