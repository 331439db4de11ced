"""The state of a topic whose messages tell only what changed. Pure."""

from fademoe.feeds.instrument import Json
from fademoe.feeds.stream import Frame


class TopicState:
    """All members of a topic as of its newest message; unknown before the first whole message of a session.

    Messages may come in another order than they were sent in (Frame.sent_ms): of each member the value that was sent
    last counts.
    """

    def __init__(self) -> None:
        """Begin without a state."""
        self._members: dict[str, Json] = {}
        self._sent_ms: dict[str, int] = {}  # of each member: when its value was sent
        self._newest_ms = 0
        self._is_known = False

    def merge(self, frame: Frame) -> Json:
        """Return the whole state after a message, None while it is unknown; a message that is no object is returned."""
        if not isinstance(frame.data, dict):
            return frame.data
        sent_ms = self._newest_ms if frame.sent_ms is None else frame.sent_ms
        self._newest_ms = max(self._newest_ms, sent_ms)
        if not frame.partial:
            self._is_known = True
            self._members = {name: value for name, value in self._members.items() if self._sent_ms[name] > sent_ms}
        changes = frame.data
        if sent_ms < self._newest_ms:
            changes = {name: value for name, value in changes.items() if self._sent_ms.get(name, 0) <= sent_ms}
        self._members.update(changes)
        self._sent_ms.update(dict.fromkeys(changes, sent_ms))
        return self._members if self._is_known else None

    def invalidate(self) -> bool:
        """Forget the state, as a message was missed; return whether there was one."""
        was_known = self._is_known
        self._members, self._sent_ms, self._newest_ms, self._is_known = {}, {}, 0, False
        return was_known
