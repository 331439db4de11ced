"""The subscription requests of one session: what is to be sent, what is served, what is refused. Pure: no I/O.

A request that the exchange does not carry out is sent again in halves until the topic is found that it refuses.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

CONFIRM_S = 5.0  # a topic that is not confirmed by then is requested again
MAX_ATTEMPTS = 3  # for a topic alone in its request that is not confirmed, or refused without being named
REFUSED_S = 600.0  # until a refused topic is requested again: a refusal may be a passing fault; doubled each time
MAX_REFUSED_S = 3600.0


class Change(NamedTuple):
    """Topics whose state changed: served from now on, refused, or not served until they are requested again."""

    served: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    again: tuple[str, ...] = ()


@dataclass
class _Request:
    """A request that was sent; `topics` are those that are neither confirmed nor refused."""

    topics: list[str]
    sent_s: float


class Subscriptions:
    """The requests for `topics`; `acks`: the exchange confirms topics, by name or by the number of their request.

    Without acks a topic counts as served when it is sent, until it is refused.
    """

    def __init__(self, topics: Iterable[str], *, topics_per_request: int, request_pause_s: float, acks: bool) -> None:
        """Begin with requests for all topics; nothing is sent yet."""
        self.pending = deque(cut(sorted(topics), topics_per_request))
        self.sent: dict[int, _Request] = {}
        self.unserved: dict[str, int | None] = {}  # not confirmed: topic -> its request, 0 for a new one; refused: None
        self.acked_any = False
        self._acks = acks
        self._pause_s = request_pause_s
        self._next_s = 0.0
        self._number = 0
        self._attempts: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._retry_s: dict[str, float] = {}  # when refused topics are requested again
        self._one_at_a_time = False

    @property
    def is_settled(self) -> bool:
        """Whether all topics are either served or refused."""
        return not self.pending and all(request is None for request in self.unserved.values())

    def take_request(self, now_s: float) -> tuple[int, list[str]] | None:
        """Return number and topics of the request that is to be sent now, None while there is none."""
        is_blocked = self._one_at_a_time and bool(self._unanswered(now_s))
        if not self.pending or now_s < self._next_s or is_blocked:
            return None
        topics = self.pending.popleft()
        self._number += 1
        self._next_s = now_s + self._pause_s
        self.sent[self._number] = _Request(list(topics), now_s)
        for topic in topics:
            if self._acks:
                self.unserved[topic] = self._number
            else:
                self.unserved.pop(topic, None)
        return self._number, topics

    def on_ack(self, topics: Iterable[str] = (), request: int | None = None) -> Change:
        """Note topics that the exchange confirms, and all of a request where it confirms that."""
        self.acked_any = True
        sent = self.sent.get(request) if request is not None else None
        return self.on_data([*topics, *(sent.topics if sent else ())])

    def on_data(self, topics: Iterable[str]) -> Change:
        """Note topics that are served, as their data prove; a topic that was refused is served all the same."""
        served = tuple(topic for topic in topics if topic in self.unserved)
        for topic in served:
            self._settle(topic)
        return Change(served=served)

    def on_reject(self, topic: str | None, request: int | None, now_s: float) -> Change:
        """Note a refusal of the named topic, of a whole request, or, without either, of what is not answered yet.

        With a request all of it is void. A named topic is refused, until `retry_overdue` asks for it again; the others
        are requested again, together: at once where the request is void or nothing confirms them, else when their time
        is up.
        """
        self.acked_any = True
        if topic is not None:
            return self._reject_topic(topic, request, now_s)
        unanswered = self._unanswered(now_s)
        if request is None and len(unanswered) > 1:
            self._one_at_a_time = True
            again = [name for number in unanswered for name in self._withdraw(number)]
            self.pending.extend(cut(again, max(1, len(again) // len(unanswered))))
            return Change(again=tuple(again))
        number = request if request is not None else next(iter(unanswered), None)
        return self._ask_in_halves(self._withdraw(number), now_s) if number in self.sent else Change()

    def retry_overdue(self, now_s: float) -> Change:
        """Ask again for topics that were not confirmed in time, and for those that were refused long enough ago.

        Where the exchange has not answered anything in this session, its silence says nothing: they count as served.
        """
        self._retry_refused(now_s)
        numbers = [n for n, sent in self.sent.items() if sent.topics and now_s - sent.sent_s > CONFIRM_S]
        if not numbers or self.pending or not self._acks:
            return Change()
        if not self.acked_any:
            return self.on_data([topic for number in numbers for topic in self.sent[number].topics])
        changes = [self._ask_in_halves(self._withdraw(number), now_s) for number in numbers]
        return Change(
            refused=tuple(topic for change in changes for topic in change.refused),
            again=tuple(topic for change in changes for topic in change.again),
        )

    def _retry_refused(self, now_s: float) -> None:
        """Ask again for refused topics, each alone: one that is refused once more costs no other."""
        for topic in [topic for topic, retry_s in self._retry_s.items() if now_s >= retry_s]:
            del self._retry_s[topic]
            if self.unserved.get(topic, 0) is None:
                self.unserved[topic] = 0
                self.pending.append([topic])

    def _refuse(self, topic: str, now_s: float) -> None:
        self.unserved[topic] = None
        self._retry_s[topic] = now_s + min(REFUSED_S * 2 ** self._refusals[topic], MAX_REFUSED_S)
        self._refusals[topic] += 1

    def _reject_topic(self, topic: str, request: int | None, now_s: float) -> Change:
        numbers = (n for n, sent in self.sent.items() if topic in sent.topics)
        number = request if request in self.sent else next(numbers, None)
        if number is None:
            return Change()
        if topic in self.sent[number].topics:
            self.sent[number].topics.remove(topic)
        self._refuse(topic, now_s)
        is_void = request is not None or not self._acks
        again = self._withdraw(number) if is_void else []
        if again:
            self.pending.append(again)
        return Change(refused=(topic,), again=tuple(again))

    def _ask_in_halves(self, topics: list[str], now_s: float) -> Change:
        """Request again in two parts; a topic that failed alone too often is refused."""
        if len(topics) == 1:
            self._attempts[topics[0]] += 1
            if self._attempts[topics[0]] >= MAX_ATTEMPTS:
                self._refuse(topics[0], now_s)
                return Change(refused=tuple(topics))
        if topics:
            self.pending.extend(cut(topics, (len(topics) + 1) // 2))
        return Change(again=tuple(topics))

    def _withdraw(self, number: int | None) -> list[str]:
        """Return the topics of a request that are not settled; it has none any more."""
        sent = self.sent.pop(number) if number in self.sent else None
        topics = sent.topics if sent else []
        self.unserved |= dict.fromkeys(topics, 0)
        return topics

    def _settle(self, topic: str) -> None:
        number = self.unserved.pop(topic)
        requests = [self.sent[number].topics] if number in self.sent else self.pending
        for topics in [topics for topics in requests if topic in topics]:
            topics.remove(topic)
        self.pending = deque(topics for topics in self.pending if topics)

    def _unanswered(self, now_s: float) -> list[int]:
        return [n for n, sent in self.sent.items() if sent.topics and now_s - sent.sent_s <= CONFIRM_S]


def cut(topics: list[str], size: int) -> list[list[str]]:
    """Cut topics into lists of at most `size`."""
    return [topics[at : at + size] for at in range(0, len(topics), size)]
