"""Tolerant reading of lists: keep every readable element, name every unreadable one.

One function for the rows of a page, the contracts of a list, the samples of a poll and the items of a message:

    elements = read_elements(feed.items(body, page), lambda item: feed.parse(item, instrument))
    store(elements.readable)
    for error in elements.make_errors(exchange.name, request):
        record(error)  # perp_errors; what the element stood for stays missing

`read` raises BadPayload for an element that it cannot read. It may be called twice for an element, so it must have no
side effect. `items` only locates the list: it must not raise for a fault of a single element.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fademoe.errors import BODY_EXCERPT, BadPayload
from fademoe.feeds.instrument import Json

T = TypeVar("T")

MIN_REFUSED = 3  # fewer unreadable elements say nothing about the rest of a list, however short it is


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """An element that could not be read: its position in the list, the element as it was sent, and the reason."""

    position: int
    element: Json
    reason: str

    def make_error(self, exchange: str, request: str) -> BadPayload:
        """Return the error to record; `request`: path and parameters, or the address of the socket."""
        error = BadPayload(f"element {self.position} is unreadable: {self.reason}")
        error.locate(exchange, request, self.element)
        return error


@dataclass(frozen=True, kw_only=True)
class Elements(Generic[T]):
    """What a list holds: the values that were read, in the list's order, and the elements that could not be read."""

    readable: list[T]
    unreadable: Sequence[Unreadable] = ()

    def make_errors(self, exchange: str, request: str) -> list[BadPayload]:
        """Return one error for each unreadable element."""
        return [element.make_error(exchange, request) for element in self.unreadable]


def read_elements(
    items: Sequence[Json],
    read: Callable[[Json], T | None],
    read_all: Callable[[Sequence[Json]], list[T]] | None = None,
) -> Elements[T]:
    """Read each element of a list; one for which `read` returns None holds nothing and is left out.

    `read_all` reads a whole list at once, which is faster. It raises BadPayload when any element is not as it expects;
    then they are read one by one.

    Raises BadPayload when more elements are unreadable than were read, and at least MIN_REFUSED are: then the whole
    list is not what the exchange documents.
    """
    try:  # nearly every list is good: no cost for it
        if read_all is not None:
            return Elements(readable=read_all(items))
        return Elements(readable=[value for value in map(read, items) if value is not None])
    except BadPayload:
        return _read_one_by_one(items, read)


def _read_one_by_one(items: Sequence[Json], read: Callable[[Json], T | None]) -> Elements[T]:
    readable: list[T] = []
    unreadable: list[Unreadable] = []
    for position, item in enumerate(items):
        try:
            value = read(item)
        except BadPayload as error:
            unreadable.append(Unreadable(position=position, element=item, reason=str(error)))
        else:
            if value is not None:
                readable.append(value)
    if len(unreadable) >= MIN_REFUSED and len(unreadable) > len(readable):
        first = unreadable[0]
        raise BadPayload(
            f"{len(unreadable)} of {len(items)} elements are unreadable; element {first.position}: {first.reason}",
            body=str(first.element)[:BODY_EXCERPT],
        )
    return Elements(readable=readable, unreadable=unreadable)
