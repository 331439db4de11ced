"""The state of a topic whose messages tell only what changed. Pure."""

from fademoe.feeds.instrument import Json
from fademoe.feeds.stream import Frame


class TopicState:
    """All members of a topic as of its newest message; unknown before the first whole message of a session."""

    def __init__(self) -> None:
        """Begin without a state."""
        self._members: dict[str, Json] | None = None

    def merge(self, frame: Frame) -> Json:
        """Return the whole state after a message, None while it is unknown; a message that is no object is returned."""
        if not isinstance(frame.data, dict):
            return frame.data
        if not frame.partial:
            self._members = dict(frame.data)
        elif self._members is not None:
            self._members.update(frame.data)
        return self._members

    def invalidate(self) -> bool:
        """Forget the state, as a message was missed; return whether there was one."""
        was_known = self._members is not None
        self._members = None
        return was_known
