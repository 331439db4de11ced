"""The routes that change something: all POST, all behind the admin token, each answered by going back with a word."""

from typing import NamedTuple

from flask import Blueprint, flash, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from fademoe.clock import Window, now_ms
from fademoe.errors import ConfigError
from fademoe.settings import check_symbol
from fademoe.store import reader_catalog
from fademoe.store.coverage import Series
from fademoe.web import changes
from fademoe.web.alerts import alerts
from fademoe.web.api_data import json_response
from fademoe.web.failed import FailedGroup, failed_groups, series_jobs
from fademoe.web.params import TIME_WORDS, read_time
from fademoe.web.problems import Problem, bad_parameter
from fademoe.web.selection import find_perpspec
from fademoe.web.services import services
from fademoe.web.session import own_path
from fademoe.web.summary import queue_names, summarise

blueprint = Blueprint("control", __name__, url_prefix="/control")


class Asked(NamedTuple):
    """What a form or a JSON body of the request says."""

    values: dict[str, str]

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """Return one of `allowed`."""
        value = self.values.get(name, "")
        if value not in allowed:
            raise bad_parameter(name, value, list(allowed))
        return value

    def text(self, name: str) -> str:
        """Return a value as it is, empty when missing."""
        return self.values.get(name, "").strip()


@blueprint.post("/apis")
def switch_apis() -> BaseResponse:
    """Turn the collecting off (workers pause, streams stop) or on again."""
    wanted = _asked("state").choice("state", ("on", "off"))
    return _done(changes.switch_on(services()) if wanted == "on" else changes.switch_off(services()))


@blueprint.post("/workers")
def pause_workers() -> BaseResponse:
    """Pause the workers, or let them go on."""
    wanted = _asked("state").choice("state", ("pause", "resume"))
    return _done(changes.go_on(services()) if wanted == "resume" else changes.pause(services()))


@blueprint.post("/fill")
def fill() -> BaseResponse:
    """Want a range of one symbol, or of all symbols of a perpspec, and enqueue what is missing of it."""
    asked = _asked("perpspec", "symbol", "from", "to")
    with services().reader.read() as cursor:
        spec = find_perpspec(cursor, asked.text("perpspec"))
        known = reader_catalog.symbols(cursor, spec.name)
    symbols = [_symbol(asked.text("symbol"))] if asked.text("symbol") else known
    if not symbols:
        raise Problem(409, f"{spec.name} has no symbols yet: seed some with scripts/seed_backfill.py")
    window = _window(asked) if asked.text("from") or asked.text("to") else None
    return _done(changes.fill(services(), [Series(spec.name, symbol) for symbol in symbols], window))


@blueprint.post("/retry")
def retry() -> BaseResponse:
    """Queue failed jobs again: one (`job`), those of one error (`group`), all of a queue, or all of a series."""
    asked = _asked("queue", "group", "job", "perpspec", "symbol")
    if asked.text("perpspec"):
        return _done(_retry_series(asked))
    queue = asked.choice("queue", tuple(queue_names(services().settings)))
    groups = [group for group in failed_groups(services().redis, [queue]) if _is_meant(group, asked)]
    jobs = [job for group in groups for job in group.jobs if asked.text("job") in ("", job)]
    if not jobs:
        raise Problem(409, "there is no such failed job any more")
    whole = asked.text("job") or (groups[0].error if asked.text("group") else "all of the queue")
    return _done(changes.retry(services(), queue, jobs, whole=whole))


@blueprint.post("/acknowledge")
def acknowledge() -> BaseResponse:
    """Take note of an alert."""
    wanted = _asked("alert").text("alert")
    for alert in alerts(services(), summarise(services())):
        if alert.id == wanted:
            return _done(changes.acknowledge(services(), alert.id, alert.title))
    raise Problem(409, "this alert has ended")


def _retry_series(asked: Asked) -> str:
    """Queue the failed windows of a series again; when none has failed, look for what is missing of it."""
    with services().reader.read() as cursor:
        spec = find_perpspec(cursor, asked.text("perpspec"))
    symbol = _symbol(asked.text("symbol"))
    names = queue_names(services().settings)
    failed = [job for job in series_jobs(services().redis, names, spec.name, symbol) if job.state == "failed"]
    if not failed:
        return changes.fill(services(), [Series(spec.name, symbol)], None)
    queues = sorted({job.queue for job in failed})
    whole = f"{spec.name} {symbol}"
    return "; ".join(
        changes.retry(services(), queue, [job.id for job in failed if job.queue == queue], whole=whole)
        for queue in queues
    )


def _asked(*names: str) -> Asked:
    """Read the body, form or JSON; a member that is not in `names` is refused."""
    given = request.get_json() if request.is_json else request.form.to_dict()
    if not isinstance(given, dict):
        raise Problem(400, "the body must be an object", allowed=list(names))
    values = {name: value for name, value in given.items() if name not in ("csrf", "back")}
    for name, value in values.items():
        if name not in names:
            raise Problem(400, f"{name[:100]!r} is nothing here: valid is {', '.join(names)}", allowed=list(names))
        if not isinstance(value, str) or "\0" in value:
            raise bad_parameter(name, str(value), "a text")
    return Asked(values)


def _is_meant(group: FailedGroup, asked: Asked) -> bool:
    if asked.text("job"):
        return asked.text("job") in group.jobs
    return asked.text("group") in ("", group.fingerprint)


def _symbol(text: str) -> str:
    try:
        return check_symbol(text)
    except ConfigError:
        raise bad_parameter("symbol", text, "a coin such as BTC") from None


def _window(asked: Asked) -> Window:
    start_ms, end_ms = (read_time(name, asked.text(name)) for name in ("from", "to"))
    if not start_ms < end_ms:
        raise bad_parameter("to", asked.text("to"), "a time after from")
    if start_ms > now_ms():
        raise bad_parameter("from", asked.text("from"), f"a time that has come; {TIME_WORDS}")
    return Window(start_ms, end_ms)


def _done(words: str) -> BaseResponse:
    """Answer a program with the words, a browser with the page it came from."""
    if request.is_json or request.accept_mimetypes.best == "application/json":
        return json_response({"done": words})
    flash(words)
    return redirect(own_path(request.form.get("back", "/")), 303)
