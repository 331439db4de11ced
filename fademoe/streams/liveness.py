"""Tells from the times of frames and data whether a connection, a topic or a feed of events is dead. Pure: no clock."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fademoe.clock import SECOND_MS
from fademoe.feeds.stream import Reduce, StreamFeed

FRAME_SILENCE_S = 90.0  # without a frame of any kind a socket is dead
DATA_SILENCE_S = 120.0  # without data, whatever pings say: the slowest continuous channel known sends one in 90 s
QUIET_SILENCE_S = 180.0  # the same where each topic may be quiet for a while, but hardly all of them
SILENT_INTERVALS = 3  # a continuous topic without data for so many of its intervals is broken
MAX_DOUBLINGS = 5  # of the time allowed to a topic whose silence ended a session, but did not end with it
MAX_EMPTY_SESSIONS = 2  # sessions without any data of a topic, then it is reported and not waited for any more
MIN_EVENT_TOPICS = 50  # so many contracts are hardly without an event for StreamFeed.max_silence_s


class Broken(Exception):
    """The connection is of no use any more; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a topic is expected to send: `interval_ms` of its slowest feed."""

    feeds: tuple[StreamFeed, ...]

    @property
    def is_continuous(self) -> bool:
        """Whether silence means that the subscription is broken."""
        return any(feed.continuous for feed in self.feeds)

    @property
    def max_silence_s(self) -> float:
        """How long the topic may be silent."""
        return max(feed.interval_ms for feed in self.feeds) * SILENT_INTERVALS / SECOND_MS


class Liveness:
    """What was heard of the topics of a connection, over all of its sessions."""

    def __init__(self, topics: Mapping[str, Expected]) -> None:
        """Expect `topics`; `begin` a session before anything else."""
        self._max_silence_s = {name: topic.max_silence_s for name, topic in topics.items() if topic.is_continuous}
        self.is_continuous = bool(self._max_silence_s)
        self._events_only = all(feed.reduce is Reduce.SUM for topic in topics.values() for feed in topic.feeds)
        self.proving_feeds = select_proving_feeds(topics)
        self.silent_feeds: set[str] = set()  # metrics whose events failed to come; until one comes
        self.had_data = False  # in this session
        self._begin_s = 0.0
        self._frame_s = 0.0
        self._data_s = 0.0
        self._event_s: dict[StreamFeed, float] = {}
        self._topic_s: dict[str, float] = {}  # topic -> time of its newest data in this session
        self._empty_sessions: Counter[str] = Counter()
        self._forced_reconnects: Counter[str] = Counter()
        self._ignored: set[str] = set()

    def begin(self, now_s: float) -> None:
        """Begin a session: a new connection is open."""
        self._begin_s = self._frame_s = self._data_s = now_s
        self._topic_s.clear()
        self._event_s = dict.fromkeys(self.proving_feeds, now_s)
        self.had_data = False

    def compute_age_s(self, now_s: float) -> float:
        """Return how old the session is."""
        return now_s - self._begin_s

    def on_frame(self, now_s: float) -> None:
        """Note a frame of any kind."""
        self._frame_s = now_s

    def on_data(self, topic: str, now_s: float) -> None:
        """Note data of a topic."""
        self._data_s = self._topic_s[topic] = now_s
        self._ignored.discard(topic)
        if not self.had_data or self._empty_sessions:
            self.had_data = True
            self._empty_sessions.pop(topic, None)

    def on_event(self, feed: StreamFeed, now_s: float) -> None:
        """Note an event of a feed, of any contract."""
        self._event_s[feed] = now_s
        self.silent_feeds.discard(feed.metric)

    def ignore(self, topic: str) -> None:
        """Do not wait for a topic any more: the exchange does not serve it."""
        self._ignored.add(topic)

    def check(self, now_s: float) -> list[str]:
        """Return the topics that are not waited for from now on; raise Broken when a new connection is needed."""
        self._check_socket(now_s)
        self._check_events(now_s)
        ignored = []
        for topic, max_silence_s in self._max_silence_s.items():
            silent_s = now_s - self._topic_s.get(topic, self._begin_s)
            max_silence_s *= 2 ** min(self._forced_reconnects[topic], MAX_DOUBLINGS)  # it may have nothing to send
            if topic in self._ignored or silent_s <= max_silence_s:
                continue
            if topic in self._topic_s:
                self._forced_reconnects[topic] += 1
            else:
                self._empty_sessions[topic] += 1
            if self._empty_sessions[topic] <= MAX_EMPTY_SESSIONS:
                raise Broken(f"{topic} is silent for {max_silence_s:.0f} s while other topics have data")
            self.ignore(topic)
            ignored.append(topic)
        return ignored

    def _check_socket(self, now_s: float) -> None:
        if now_s - self._frame_s > FRAME_SILENCE_S:
            raise Broken(f"open but silent: no frame for {FRAME_SILENCE_S:.0f} s")
        max_silence_s = DATA_SILENCE_S if self.is_continuous else QUIET_SILENCE_S
        if not self._events_only and now_s - self._data_s > max_silence_s:
            raise Broken(f"open but silent: no data for {max_silence_s:.0f} s, the address may be wrong")

    def _check_events(self, now_s: float) -> None:
        for feed, max_silence_s in self.proving_feeds.items():
            if now_s - self._event_s[feed] > max_silence_s:
                self.silent_feeds.add(feed.metric)
                raise Broken(f"no event of {feed.metric} of any contract for {max_silence_s:.0f} s, though subscribed")


def select_proving_feeds(topics: Mapping[str, Expected]) -> dict[StreamFeed, float]:
    """Return the feeds of events whose silence proves that they are not served, with the seconds that it takes.

    They have a max_silence_s and are of all contracts, or of enough of them.
    """
    counts = Counter(feed for topic in topics.values() for feed in topic.feeds)
    return {
        feed: feed.max_silence_s
        for feed, count in counts.items()
        if feed.max_silence_s is not None and (feed.name is not None or count >= MIN_EVENT_TOPICS)
    }
