"""The status box: a few tiles in words, worst level first in what they say; every page shows it."""

from typing import NamedTuple

from fademoe.metrics import MAIN_METRIC, METRICS, metric_of
from fademoe.store.read.coverage import PerpspecLag
from fademoe.web.model.format import duration, grouped, many
from fademoe.web.model.summary import Queued, Stored, Summary

GOOD, WARN, BAD, IDLE = "good", "warn", "bad", "idle"
FIRST_WORDS = {BAD: "Broken", WARN: "Look at"}
LEVEL_WORDS = {GOOD: "OK", WARN: "Look", BAD: "Broken", IDLE: "Idle"}


class Tile(NamedTuple):
    """One fact of the box: a title, how it is, in a few words and in one more sentence."""

    title: str
    level: str
    text: str
    detail: str
    href: str

    @property
    def word(self) -> str:
        """The level as a word, for those who do not see the colour."""
        return LEVEL_WORDS[self.level]


def tiles(summary: Summary) -> list[Tile]:
    """Return the tiles of the box."""
    found = [
        Tile("Database", BAD, "away", summary.stored_reason or "", "/schema")
        if summary.stored is None
        else Tile("Database", GOOD, "answers", _stored_words(summary.stored), "/schema"),
        Tile("Redis", BAD, "away", summary.queued_reason or "", "/queues")
        if summary.queued is None
        else Tile("Redis", GOOD, "answers", "queues and rate limits", "/queues"),
    ]
    if summary.stored is not None:
        found.append(_streams(summary.stored))
    if summary.queued is not None:
        found += [_workers(summary.queued), _queues(summary.queued)]
    if summary.stored is not None:
        found.append(_errors(summary.stored))
        found.append(_behind(summary.stored.lags))
    return found


def sentence(found: list[Tile]) -> tuple[str, str]:
    """Return the worst level, and the box in one line that stays in sight: `Broken: Redis. Look at: Errors.`"""
    titles = {level: [tile.title for tile in found if tile.level == level] for level in (BAD, WARN)}
    words = [f"{name}: {', '.join(titles[level])}." for level, name in FIRST_WORDS.items() if titles[level]]
    worst = next((level for level in (BAD, WARN) if titles[level]), GOOD)
    return worst, " ".join(words) or "All is well."


def _stored_words(stored: Stored) -> str:
    if not stored.lags:
        return "no series is wanted yet"
    return f"{many(sum(lag.series for lag in stored.lags), 'series', 'series')} wanted"


def _streams(stored: Stored) -> Tile:
    if not stored.streams:
        return Tile("Streams", IDLE, "none", "no stream has reported yet", "/?kind=stream")
    bad = [unit for unit in stored.streams if unit.stale or unit.state == "error"]
    working = [unit for unit in stored.streams if unit.state == "running" and not unit.stale]
    level = BAD if bad else GOOD if len(working) == len(stored.streams) else WARN
    words = ", ".join(
        f"{unit.unit.partition(' ')[2]} {'stale' if unit.stale else unit.state}" for unit in stored.streams
    )
    return Tile("Streams", level, f"{len(working)} of {len(stored.streams)} live", words, "/?kind=stream")


def _workers(queued: Queued) -> Tile:
    alive = [worker for worker in queued.workers if not worker.stale]
    busy = sum(worker.state == "busy" for worker in alive)
    if queued.paused:
        return Tile("Workers", WARN, "paused", f"{many(len(alive), 'worker')} told to take no job", "/queues")
    if not alive:
        return Tile("Workers", BAD, "none", "nobody works on the queues", "/queues")
    stale = len(queued.workers) - len(alive)
    detail = f"{len(alive) - busy} idle" + (f", {stale} without heartbeat" if stale else "")
    return Tile("Workers", WARN if stale else GOOD, f"{busy} of {len(alive)} busy", detail, "/queues")


def _queues(queued: Queued) -> Tile:
    waiting = sum(queue.queued + queue.later for queue in queued.queues)
    failed = sum(queue.failed for queue in queued.queues)
    words = [
        f"{queue.name} {grouped(queue.queued)}" + (f" and {grouped(queue.later)} later" if queue.later else "")
        for queue in queued.queues
        if queue.queued or queue.later
    ]
    detail = ", ".join(words) or "nothing waits"
    if failed:
        return Tile("Queues", WARN, f"{many(failed, 'job')} failed", f"{grouped(waiting)} waiting: {detail}", "/queues")
    return Tile("Queues", GOOD, f"{grouped(waiting)} waiting" if waiting else "empty", detail, "/queues")


def _errors(stored: Stored) -> Tile:
    count = sum(stored.errors_last_hour.values())
    if not count:
        return Tile("Errors", GOOD, "none", "in the last hour", "/#errors")
    newest = stored.errors[0].message[:80] if stored.errors else ""
    return Tile("Errors", WARN, grouped(count), f"in the last hour; newest: {newest}", "/#errors")


def _behind(found: list[PerpspecLag]) -> Tile:
    """Say how far behind live each exchange is: the slowest series of the main metric counts."""
    lags: dict[str, int] = {}
    late: dict[str, int] = {}
    for lag in found:
        if metric_of(lag.source) == MAIN_METRIC and lag.lag_ms is not None:
            name = lag.exchange or lag.source
            lags[name] = max(lags.get(name, 0), lag.lag_ms)
            late[name] = late.get(name, 0) + lag.behind
    if not lags:
        return Tile(
            "Behind live", IDLE, "nothing yet", f"no {METRICS[MAIN_METRIC].title.lower()} requested", "/coverage"
        )
    worst_first = sorted(lags, key=lambda name: -lags[name])
    words = [
        f"{name} {duration(lags[name])}" + (f" ({many(late[name], 'series', 'series')})" if late[name] else "")
        for name in worst_first
    ]
    slow = sum(count > 0 for count in late.values())
    text = f"{slow} of {len(lags)} late" if slow else f"{duration(lags[worst_first[0]])} at most"
    return Tile("Behind live", WARN if slow else GOOD, text, ", ".join(words), "/coverage")
