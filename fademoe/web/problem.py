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


class BadParameter(Problem):
    """The 400 that names a parameter, the value given, and the values allowed."""

    def __init__(self, name: str, given: str, allowed: object) -> None:
        """Describe `allowed`, a list of values or a text about them."""
        values = ", ".join(map(str, allowed)) if isinstance(allowed, list | tuple) else allowed
        super().__init__(400, f"{name} is {given[:100]!r}; allowed: {values}", parameter=name, allowed=allowed)
