"""The status tiles: a few facts about the system, each with a level; every page shows them."""

from typing import NamedTuple

from fademoe.alerts.conditions import is_faulty
from fademoe.metrics import MAIN_METRIC, METRICS, parse_metric
from fademoe.queue.workload import collects_data
from fademoe.store.read.completeness import PerpspecLag
from fademoe.store.read.status import Unit
from fademoe.web.model.format import count_noun, format_duration, group_digits
from fademoe.web.model.summary import Queued, Stored, Summary

GOOD, WARN, BAD, IDLE = "good", "warn", "bad", "idle"
LEVEL_WORDS = {GOOD: "OK", WARN: "Warning", BAD: "Error", IDLE: "Idle"}


class Tile(NamedTuple):
    """One fact: a title, its level, a short text and a sentence of detail, and the page that shows more."""

    title: str
    level: str
    text: str
    detail: str
    href: str

    @property
    def word(self) -> str:
        """The level as a word, for readers who do not see the colour."""
        return LEVEL_WORDS[self.level]


def list_tiles(summary: Summary) -> list[Tile]:
    """Return the tiles of a summary."""
    stored, queued = summary.stored, summary.queued
    database = (BAD, "unavailable", summary.stored_reason or "") if stored is None else _describe_stored(stored)
    redis = (BAD, "unavailable", summary.queued_reason or "") if queued is None else (GOOD, "connected", QUEUED_DETAIL)
    tiles = [Tile("Database", *database, "/schema"), Tile("Redis", *redis, "/queues")]
    if stored is not None:
        tiles += [
            _units("Streams", "stream", stored.streams, "/?kind=stream"),
            _units("Programs", "program", stored.programs, "/"),
        ]
    if queued is not None:
        tiles += [_workers(queued), _queues(queued)]
    if stored is not None:
        tiles += [_errors(stored), _lag(stored.lags)]
    return tiles


def summarise_tiles(tiles: list[Tile]) -> tuple[str, str]:
    """Return the worst level, and all tiles in one line such as `Error: Redis. Warning: Errors, Queues.`"""
    titles = {level: [tile.title for tile in tiles if tile.level == level] for level in (BAD, WARN)}
    parts = [f"{LEVEL_WORDS[level]}: {', '.join(names)}." for level, names in titles.items() if names]
    worst = next((level for level, names in titles.items() if names), GOOD)
    return worst, " ".join(parts) or "OK: no warnings."


QUEUED_DETAIL = "queues and rate limits"


def _describe_stored(stored: Stored) -> tuple[str, str, str]:
    series = sum(lag.series for lag in stored.lags)
    return (
        GOOD,
        "connected",
        f"{count_noun(series, 'series', 'series')} wanted" if series else "no series wanted yet",
    )


def _units(title: str, noun: str, units: list[Unit], href: str) -> Tile:
    """Return how many of some units work; a unit's name is the last word of it."""
    if not units:
        return Tile(title, IDLE, "none", f"no {noun} has reported yet", href)
    working = [unit for unit in units if unit.state == "running" and not unit.stale]
    level = BAD if any(map(is_faulty, units)) else GOOD if len(working) == len(units) else WARN
    states = ", ".join(f"{unit.unit.split()[-1]} {'stale' if unit.stale else unit.state}" for unit in units)
    return Tile(title, level, f"{len(working)} of {len(units)} live", states, href)


def _workers(queued: Queued) -> Tile:
    workers = [worker for worker in queued.workers if collects_data(worker.name)]
    alive = [worker for worker in workers if not worker.stale]
    busy = sum(worker.state == "busy" for worker in alive)
    if queued.paused:
        return Tile(
            "Workers", WARN, "paused", f"{count_noun(len(alive), 'worker')} paused, no new job starts", "/queues"
        )
    if not alive:
        return Tile("Workers", BAD, "none", "no worker is running", "/queues")
    stale = len(workers) - len(alive)
    detail = f"{len(alive) - busy} idle" + (f", {stale} without heartbeat" if stale else "")
    return Tile("Workers", WARN if stale else GOOD, f"{busy} of {len(alive)} busy", detail, "/queues")


def _queues(queued: Queued) -> Tile:
    waiting = sum(queue.queued + queue.later for queue in queued.queues)
    failed = sum(queue.failed for queue in queued.queues)
    parts = [
        f"{queue.name} {group_digits(queue.queued)}"
        + (f" and {group_digits(queue.later)} later" if queue.later else "")
        for queue in queued.queues
        if queue.queued or queue.later
    ]
    detail = ", ".join(parts) or "no job is queued"
    if failed:
        return Tile(
            "Queues",
            WARN,
            f"{count_noun(failed, 'job')} failed",
            f"{group_digits(waiting)} queued: {detail}",
            "/queues",
        )
    return Tile("Queues", GOOD, f"{group_digits(waiting)} queued" if waiting else "empty", detail, "/queues")


def _errors(stored: Stored) -> Tile:
    count = sum(stored.errors_last_hour.values())
    if not count:
        return Tile("Errors", GOOD, "none", "in the last hour", "/#errors")
    newest = stored.errors[0].message[:80] if stored.errors else ""
    return Tile("Errors", WARN, group_digits(count), f"in the last hour; newest: {newest}", "/#errors")


def _lag(perpspecs: list[PerpspecLag]) -> Tile:
    """Return how far behind live each exchange is: the slowest series of its main metric."""
    lags: dict[str, int] = {}
    late: dict[str, int] = {}
    for lag in perpspecs:
        if parse_metric(lag.source) == MAIN_METRIC and lag.lag_ms is not None:
            name = lag.exchange or lag.source
            lags[name] = max(lags.get(name, 0), lag.lag_ms)
            late[name] = late.get(name, 0) + lag.behind
    if not lags:
        return Tile("Behind live", IDLE, "no data yet", f"no {METRICS[MAIN_METRIC].title.lower()} wanted", "/coverage")
    worst_first = sorted(lags, key=lambda name: -lags[name])
    parts = [
        f"{name} {format_duration(lags[name])}"
        + (f" ({count_noun(late[name], 'series', 'series')})" if late[name] else "")
        for name in worst_first
    ]
    slow = sum(count > 0 for count in late.values())
    text = f"{slow} of {len(lags)} late" if slow else f"{format_duration(lags[worst_first[0]])} at most"
    return Tile("Behind live", WARN if slow else GOOD, text, ", ".join(parts), "/coverage")
