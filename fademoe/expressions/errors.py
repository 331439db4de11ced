"""What is wrong with an expression: where, and which words are valid there."""

from collections.abc import Iterable

from fademoe.errors import ConfigError

SHOWN_WORDS = 60  # of the valid words, in the message; all of them are in the attribute


class ExpressionError(ConfigError):
    """An expression, a length or a message is refused.

    `position` is the place of the offending character, counted from 1. `valid` are the words that are valid there,
    empty where the message says it. `problem` is the message without position and words.
    """

    def __init__(self, problem: str, position: int, valid: Iterable[str] = ()) -> None:
        self.problem = problem
        self.position = position
        self.valid = tuple(valid)
        words = ", ".join(self.valid[:SHOWN_WORDS]) + (", …" if len(self.valid) > SHOWN_WORDS else "")
        super().__init__(f"at character {position}: {problem}" + (f"; valid are {words}" if words else ""))
