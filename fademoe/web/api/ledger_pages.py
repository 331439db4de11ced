"""Pages of ledgers and equity, of backtests and of paper accounts alike: rows in ascending order with a cursor."""

from typing import Any

from flask import Response

from fademoe.web.http.caching import REVALIDATE
from fademoe.web.http.formats import make_json_response
from fademoe.web.http.params import CURSOR, Integer, Params, write_cursor
from fademoe.web.model.answer import Answer

PAGE_MOST = 10_000

LIMIT = Integer("limit", "rows of a page", 1_000, minimum=1, maximum=PAGE_MOST)


class RowsPage(Answer):
    """Rows in ascending order, decimals as text, and the cursor of the next page."""

    rows: list[dict[str, Any]]
    next: str | None


def read_after(params: Params, first: int) -> int:
    """Return behind which row a page begins."""
    given = params.read_cursor("backtest", 1)
    if given is None:
        return first
    try:
        return int(given[0])
    except ValueError:
        raise params.refuse(CURSOR, "the value of `next` of the previous page") from None


def answer_page(params: Params, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Response:
    """Answer one page of rows whose first column is the place to continue from."""
    from_more = len(rows) > params[LIMIT]
    page = rows[: params[LIMIT]]
    following = write_cursor("backtest", str(page[-1][0])) if from_more else None
    records = [dict(zip(columns, row, strict=True)) for row in page]
    return revalidate(make_json_response(RowsPage(rows=records, next=following)))


def revalidate(response: Response) -> Response:
    """Let clients keep an answer, and ask each time whether it is still right; return the same response."""
    response.headers["Cache-Control"] = REVALIDATE
    return response
