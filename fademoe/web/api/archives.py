"""What came from files of archives: totals, files by state with their reasons, what waits."""

from msgspec import Struct

from fademoe.feeds import registry
from fademoe.queue.ids import ARCHIVES
from fademoe.queue.states import read_job_states
from fademoe.store.read import files as read_files
from fademoe.web.current import get_services
from fademoe.web.http.params import CURSOR, Integer, OptionalChoice, Params, Text, write_cursor
from fademoe.web.http.routes import Page, Routes
from fademoe.web.model.answer import Answer
from fademoe.web.model.services import attempt, convert_redis_errors

routes = Routes("api_archives")

STATES = ("ok", "short", "quarantined", "absent")
STATE = OptionalChoice("state", "only files in this state, all by default", STATES)
SYMBOL = Text("symbol", "only files of this symbol, all by default")
EXCHANGE = Text("exchange", "only files of this exchange, all by default")
LIMIT = Integer("limit", "files of a page, 100 by default", 100, minimum=1, maximum=1_000)


class ArchiveTerms(Struct, frozen=True):
    """An archive of an exchange, and whether FADEMOE_ARCHIVES allows it."""

    exchange: str
    terms: str
    terms_url: str
    summary: str
    word: str
    allowed: bool


class Archives(Answer):
    """Archives, what was taken of each dataset, and files, newest entries first; `waiting`: months of files to come."""

    archives: list[ArchiveTerms]
    datasets: list[read_files.DatasetFiles]
    files: list[read_files.ArchivedFile]
    waiting: int | None
    next: str | None


@routes.get(
    "/api/archives",
    "Files of the exchanges' archives: what was taken, what is in quarantine and why",
    (EXCHANGE, SYMBOL, STATE, LIMIT, CURSOR),
    page=Page("/archives", "archives.html"),
)
def list_archives(params: Params) -> Archives:
    """Answer totals by dataset and one page of files."""
    services, limit = get_services(), params[LIMIT]
    exchanges = registry.load_exchanges()
    if params[EXCHANGE] and params[EXCHANGE] not in exchanges:
        raise params.refuse(EXCHANGE, sorted(exchanges))
    (before,) = params.read_cursor("file", 1) or ("",)
    with services.reader.read() as cursor:
        datasets = read_files.list_datasets(cursor)
        found = read_files.list_files(
            cursor,
            exchange=params[EXCHANGE],
            symbol=params[SYMBOL],
            state=params[STATE],
            before=int(before) if before.isdecimal() else 2**62,
            limit=limit + 1,
        )
    waiting, _ = attempt(_count_waiting)
    return Archives(
        archives=[_describe(name) for name in sorted(exchanges) if exchanges[name].archive],
        datasets=datasets,
        files=found[:limit],
        waiting=waiting,
        next=write_cursor("file", str(found[limit - 1].id)) if len(found) > limit else None,
    )


def _count_waiting() -> int:
    connection = get_services().redis
    with convert_redis_errors(connection):
        return len(read_job_states(connection, ARCHIVES))


def _describe(name: str) -> ArchiveTerms:
    archive = registry.load_exchanges()[name].archive
    if archive is None:
        raise LookupError(name)
    return ArchiveTerms(
        exchange=name,
        terms=archive.terms,
        terms_url=archive.terms_url,
        summary=archive.summary,
        word=f"{name}:{archive.licence}".rstrip(":"),
        allowed=name in registry.select_archives(get_services().settings),
    )
