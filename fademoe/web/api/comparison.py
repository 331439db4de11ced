"""One symbol over exchanges, as JSON and as a page."""

from fademoe.clock import now_ms
from fademoe.store.read.catalog import list_perpspecs
from fademoe.web.api.parameters import SYMBOL
from fademoe.web.api.row_query import STEPS
from fademoe.web.current import get_services
from fademoe.web.http.params import FROM, TO, Choice, Integer, Names, Params
from fademoe.web.http.routes import Page, Routes
from fademoe.web.model.comparison import DEFAULT_COLUMNS, Comparison, compare, list_quantities

routes = Routes("api_comparison")

DEFAULT_SYMBOL = "BTC"
STEP = Choice("step", "1h by default", STEPS, "1h")
QUANTITIES = Names("columns", f"a comma list of metric.column; {','.join(DEFAULT_COLUMNS)} by default")
LIMIT = Integer("limit", "steps, 48 by default", 48, minimum=1, maximum=1_000)


@routes.get(
    "/api/compare",
    "Columns of metrics of one symbol, the exchanges side by side in equal steps; what is missing has its reason",
    (SYMBOL, QUANTITIES, STEP, FROM, TO, LIMIT),
    page=Page("/compare", "comparison.html"),
)
def compare_exchanges(params: Params) -> Comparison:
    """Answer a comparison of the exchanges, of the newest steps by default."""
    symbols = params[SYMBOL] or (DEFAULT_SYMBOL,)
    if len(symbols) != 1:
        raise params.refuse(SYMBOL, "one coin such as BTC")
    start_ms, end_ms = params.read_span()
    with get_services().reader.read() as cursor:
        quantities = list_quantities(list_perpspecs(cursor))
        chosen = params.check_names(QUANTITIES, quantities) or [name for name in DEFAULT_COLUMNS if name in quantities]
        return compare(
            cursor,
            symbols[0],
            chosen,
            params[STEP],
            start_ms=start_ms,
            end_ms=end_ms,
            limit=params[LIMIT],
            now_ms=now_ms(),
        )
