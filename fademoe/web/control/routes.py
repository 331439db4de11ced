"""The routes that change something: all POST, all behind the admin token, each answered by going back with a word."""

from typing import NamedTuple

from flask import Blueprint, flash, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from fademoe.clock import Window, now_ms
from fademoe.errors import ConfigError
from fademoe.settings import check_symbol
from fademoe.store.coverage import Series
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import status as read_status
from fademoe.web.api.data import json_response
from fademoe.web.api.row_query import find_perpspec
from fademoe.web.control import actions
from fademoe.web.current import current_summary, services
from fademoe.web.http.params import TIME_WORDS, read_time
from fademoe.web.http.session import own_path
from fademoe.web.model.alerts import alerts
from fademoe.web.model.failed_jobs import GROUP_MOST, failed_groups, failed_ids, failed_of
from fademoe.web.model.summary import queue_names
from fademoe.web.problem import Problem, bad_parameter

blueprint = Blueprint("control", __name__, url_prefix="/control")

BACKFILL = "backfill"  # the first word of a unit that fetches history


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
    return _done(actions.switch_on(services()) if wanted == "on" else actions.switch_off(services()))


@blueprint.post("/workers")
def pause_workers() -> BaseResponse:
    """Pause the workers, or let them go on."""
    wanted = _asked("state").choice("state", ("pause", "resume"))
    return _done(actions.go_on(services()) if wanted == "resume" else actions.pause(services()))


@blueprint.post("/fill")
def fill() -> BaseResponse:
    """Want a range of one symbol, or of all symbols of a perpspec, and enqueue what is missing of it."""
    asked = _asked("perpspec", "symbol", "from", "to")
    with services().reader.read() as cursor:
        spec = find_perpspec(cursor, asked.text("perpspec"))
        known = read_catalog.list_symbols(cursor, spec.name)
    symbols = [_symbol(asked.text("symbol"))] if asked.text("symbol") else known
    if not symbols:
        raise Problem(409, f"{spec.name} has no symbols yet: seed some with scripts/seed_backfill.py")
    window = _window(asked) if asked.text("from") or asked.text("to") else None
    return _done(actions.fill(services(), [Series(spec.name, symbol) for symbol in symbols], window))


@blueprint.post("/retry")
def retry() -> BaseResponse:
    """Queue failed jobs again: one (`job`), those of one trace (`group`), all of a queue.

    Or all of a series, or of the series that an error of perp_errors befell (`error`, its fingerprint).
    """
    asked = _asked("queue", "group", "job", "perpspec", "symbol", "error")
    if asked.text("error"):
        return _done(_retry_series(_befallen(asked.text("error")), f"error {asked.text('error')[:40]}"))
    if asked.text("perpspec"):
        with services().reader.read() as cursor:
            spec = find_perpspec(cursor, asked.text("perpspec"))
        series = Series(spec.name, _symbol(asked.text("symbol")))
        return _done(_retry_series([series], f"{series.source} {series.symbol}"))
    queue = asked.choice("queue", tuple(queue_names(services().settings)))
    jobs, whole = _failed(queue, asked.text("job"), asked.text("group"))
    if not jobs:
        raise Problem(409, "there is no such failed job any more")
    return _done(actions.retry(services(), queue, jobs, whole=whole))


@blueprint.post("/acknowledge")
def acknowledge() -> BaseResponse:
    """Take note of an alert."""
    wanted = _asked("alert").text("alert")
    for alert in alerts(services(), current_summary()):
        if alert.id == wanted:
            return _done(actions.acknowledge(services(), alert.id, alert.title))
    raise Problem(409, "this alert has ended")


def _retry_series(series: list[Series], whole: str) -> str:
    """Queue the failed windows of some series again; when none has failed, look for what is missing of them."""
    failed = failed_of(services().redis, queue_names(services().settings), series)
    if not failed:
        return actions.fill(services(), series, None)
    return "; ".join(actions.retry(services(), queue, jobs, whole=whole) for queue, jobs in failed.items())


def _befallen(fingerprint: str) -> list[Series]:
    """Return the series whose backfill an error befell."""
    with services().reader.read() as cursor:
        units = read_status.list_units_of_error(cursor, fingerprint)
    parts = [unit.split(" ") for unit in units]
    series = [Series(words[1], words[2]) for words in parts if words[0] == BACKFILL and len(words) == 3]
    if not series:
        raise Problem(409, "no backfill had this error: there is nothing to retry")
    return series


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


def _failed(queue: str, job: str, group: str) -> tuple[list[str], str]:
    """Return the failed jobs that are meant, and what they are together in words."""
    if job:
        return [known for known in failed_ids(services().redis, queue) if known == job], job
    if not group:
        return failed_ids(services().redis, queue), "all of the queue"
    for found in failed_groups(services().redis, [queue], GROUP_MOST):
        if found.fingerprint == group:
            return found.jobs, found.error
    return [], ""


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
