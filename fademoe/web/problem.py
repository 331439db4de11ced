"""A request that cannot be answered, as a status and a sentence; `http.problems` makes the response of it."""


class Problem(Exception):
    """A request that cannot be answered; `detail` is one sentence for people.

    `members` are further members of the body (RFC 9457), such as the parameter and its valid values.
    """

    def __init__(self, status: int, detail: str, *, retry_after_s: int | None = None, **members: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.members = members


def bad_parameter(name: str, given: str, allowed: object) -> Problem:
    """Return the 400 that names a parameter, the value given and the values allowed."""
    words = ", ".join(map(str, allowed)) if isinstance(allowed, list | tuple) else allowed
    return Problem(400, f"{name} is {given[:100]!r}: valid is {words}", parameter=name, allowed=allowed)
