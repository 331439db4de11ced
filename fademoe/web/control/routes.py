"""The routes that change something: all POST, all behind the admin token. A form is answered by its page again."""

from flask import flash, redirect, request
from werkzeug.wrappers import Response

from fademoe.clock import Window, now_ms
from fademoe.store.coverage import Series
from fademoe.store.read import status as read_status
from fademoe.store.read.catalog import list_symbols
from fademoe.web.api.parameters import PERPSPEC, SYMBOL, read_window
from fademoe.web.control import actions
from fademoe.web.current import get_services, read_summary
from fademoe.web.http.formats import make_json_response
from fademoe.web.http.params import FROM, TIME_FORMS, TO, Choice, Params, Text
from fademoe.web.http.routes import Bodies, Routes
from fademoe.web.http.session import keep_own_path
from fademoe.web.model.alert_cards import find_card
from fademoe.web.model.alerts import list_alerts
from fademoe.web.model.answer import Answer
from fademoe.web.model.catalog import find_perpspec
from fademoe.web.model.failed_jobs import find_failed_of_series, find_group, list_failed
from fademoe.web.model.fill import check_fillable, find_history
from fademoe.web.model.summary import list_queue_names
from fademoe.web.problem import Problem

routes = Routes("control")

BACKFILL = "backfill"  # the first word of the name of a unit that fetches history
ON_OFF = Choice("state", "on or off", ("on", "off"), is_required=True)
PAUSE_RESUME = Choice("state", "pause or resume", ("pause", "resume"), is_required=True)
FILLED = Text("perpspec", "exchange code and metric", is_required=True)
QUEUE = Text("queue", "a queue")
GROUP = Text("group", "fingerprint of a group of failed jobs")
JOB = Text("job", "id of a failed job")
ERROR = Text("error", "fingerprint of an error of /api/system-summary")
ALERT = Text("alert", "id of an alert", is_required=True)


class Done(Answer):
    """What was done, in words."""

    done: str


DONE = Bodies(json=Done)


@routes.post("/control/apis", "Turn the collection of data on or off", (ON_OFF,), DONE)
def switch_apis(params: Params) -> Response:
    """Pause the workers and stop the streams, or resume and start them."""
    switch = actions.switch_on if params[ON_OFF] == "on" else actions.switch_off
    return answer_done(switch(get_services()))


@routes.post("/control/workers", "Pause or resume the workers", (PAUSE_RESUME,), DONE)
def pause_workers(params: Params) -> Response:
    """Pause or resume the workers."""
    change = actions.resume_workers if params[PAUSE_RESUME] == "resume" else actions.pause_workers
    return answer_done(change(get_services()))


@routes.post(
    "/control/fill",
    "Request a range and enqueue what is missing of it; without symbol for all symbols of the perpspec",
    (FILLED, SYMBOL, FROM, TO),
    DONE,
)
def fill(params: Params) -> Response:
    """Request a range of some symbols of a perpspec, and enqueue what is missing."""
    window = _read_past_window(params)
    with get_services().reader.read() as cursor:
        spec = find_perpspec(cursor, params[FILLED])
        check_fillable(cursor, spec.name, params[SYMBOL], get_services().settings)
        symbols = params[SYMBOL] or list_symbols(cursor, spec.name)
    if not symbols:
        raise Problem(409, f"{spec.name} has no symbols yet: seed some with scripts/seed_backfill.py")
    return answer_done(actions.fill(get_services(), [Series(spec.name, symbol) for symbol in symbols], window))


@routes.post(
    "/control/retry",
    "Queue failed jobs again: one, a group, all of a queue; all of a series (perpspec and symbol); or those of every"
    " series that had an error (its fingerprint)",
    (QUEUE, GROUP, JOB, PERPSPEC, SYMBOL, ERROR),
    DONE,
)
def retry(params: Params) -> Response:
    """Queue failed jobs again."""
    if params[ERROR]:
        return answer_done(_retry_series(_series_affected_by(params[ERROR]), f"error {params[ERROR][:40]}"))
    if params[PERPSPEC]:
        return answer_done(_retry_series(_read_series(params), f"{params[PERPSPEC]} {', '.join(params[SYMBOL])}"))
    names = list_queue_names(get_services().settings)
    if params[QUEUE] not in names:
        raise params.refuse(QUEUE, names)
    jobs, subject = _find_failed(params)
    if not jobs:
        raise Problem(409, "no such failed job exists any more")
    return answer_done(actions.retry(get_services(), params[QUEUE], jobs, subject))


@routes.post("/control/acknowledge", "Acknowledge an alert for a day", (ALERT,), DONE)
def acknowledge(params: Params) -> Response:
    """Acknowledge an alert."""
    for alert in list_alerts(get_services(), read_summary()).alerts:
        if alert.id == params[ALERT]:
            return answer_done(actions.acknowledge(get_services(), alert.id, alert.title))
    with get_services().reader.read() as cursor:
        card = find_card(cursor, params[ALERT])
    if card is not None:
        title = f"{card.rule} {card.code} {card.symbol}"
        return answer_done(actions.acknowledge(get_services(), card.id, title))
    raise Problem(409, "this alert has ended")


def _read_series(params: Params) -> list[Series]:
    if not params[SYMBOL]:
        raise params.refuse(SYMBOL, "a coin such as BTC")
    with get_services().reader.read() as cursor:
        spec = find_perpspec(cursor, params[PERPSPEC])
        check_fillable(cursor, spec.name, params[SYMBOL], get_services().settings)
    return [Series(spec.name, symbol) for symbol in params[SYMBOL]]


def _retry_series(series: list[Series], subject: str) -> str:
    """Queue the failed jobs of some series again; when none has failed, enqueue what is missing of them."""
    failed = find_failed_of_series(get_services().redis, list_queue_names(get_services().settings), series)
    if not failed:
        return actions.fill(get_services(), series, None)
    return "; ".join(actions.retry(get_services(), queue, jobs, subject) for queue, jobs in failed.items())


def _series_affected_by(fingerprint: str) -> list[Series]:
    """Return the series whose backfill had an error, of the perpspecs that are still fetched."""
    with get_services().reader.read() as cursor:
        units = read_status.list_units_of_error(cursor, fingerprint)
    names = [unit.split(" ") for unit in units]
    series = [Series(parts[1], parts[2]) for parts in names if parts[0] == BACKFILL and len(parts) == 3]
    if not series:
        raise Problem(409, "no backfill had this error, so there is nothing to retry")
    reasons = {source: find_history(source, get_services().settings)[2] for source, _ in series}
    if all(reasons.values()):
        raise Problem(409, "; ".join(sorted({reason for reason in reasons.values() if reason})))
    return [one for one in series if not reasons[one.source]]


def _find_failed(params: Params) -> tuple[list[str], str]:
    """Return the failed jobs that JOB, GROUP or QUEUE select, and what they are together, in words."""
    redis, queue = get_services().redis, params[QUEUE]
    if params[JOB]:
        return [job_id for job_id in list_failed(redis, queue) if job_id == params[JOB]], params[JOB]
    if params[GROUP]:
        return find_group(redis, queue, params[GROUP])
    return list_failed(redis, queue), "all of the queue"


def _read_past_window(params: Params) -> Window | None:
    """Return the range to fill, None when none is given; refuse an empty one and one that lies in the future."""
    window = read_window(params)
    if window is None:
        return None
    if not window.start_ms < window.end_ms:
        raise params.refuse(TO, "a time after from")
    if window.start_ms > now_ms():
        raise params.refuse(FROM, f"a time in the past; {TIME_FORMS}")
    return window


def answer_done(done: str) -> Response:
    """Answer a program with the words, a browser with the page that it came from."""
    if request.is_json or request.accept_mimetypes.best == "application/json":
        return make_json_response(Done(done=done))
    flash(done)
    return redirect(keep_own_path(request.form.get("back", "/")), 303)
