"""Derived perpspecs: where their rows come from in a query, and the registration of what they are computed from.

Nothing of them is stored. A query reads `make_relation(...)` in the place of perp_data; coverage of all series, stored
and derived, is in the view perp_ranges, the reasons of absences in perp_reasons.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.feeds.derived import Part
from fademoe.feeds.lags import list_intervals
from fademoe.feeds.registry import find_parts
from fademoe.metrics import METRICS, SOURCES, Derived, parse_metric
from fademoe.store.queries import load_queries

SQL = load_queries("derived")
EXTRAS = ("known_ms", "is_measured", "restored")
STORED = sql.SQL(SQL["stored"])


def find_derived(source: str) -> Derived | None:
    """Return the declaration of a derived perpspec, None for a stored one."""
    metric = METRICS.get(parse_metric(source))
    return metric if isinstance(metric, Derived) else None


def is_across(source: str) -> bool:
    """Return whether a perpspec is computed over several exchanges: its rows are found by time, not one by one."""
    derived = find_derived(source)
    return derived is not None and derived.is_across


def choose_ranges(sources: Iterable[str]) -> sql.Identifier:
    """Return where the coverage of these perpspecs stands: that of derived ones is computed, which takes longer."""
    return sql.Identifier("perp_ranges" if any(find_derived(source) for source in sources) else "perp_coverage")


def read_stored(metric: str) -> sql.Composable:
    """Return perp_data, which holds the rows of every stored metric."""
    return STORED


def make_relation(
    source: str,
    stored: Callable[[str], sql.Composable] = read_stored,
    *,
    with_extras: bool = False,
    known_by_ms: int | None = None,
) -> sql.Composable:
    """Return what a query of a perpspec's rows reads: columns ts, symbol, source, interval and those of the metric.

    It is perp_data for a stored perpspec, which holds other sources too: a query always names the source. Instead of
    perp_data, `stored(metric)` may be another relation with its columns, such as what was known of the rows of a metric
    once; `with_extras` it has the columns known_ms, is_measured and restored, and so has the result. `known_by_ms`:
    across exchanges, where a covered minute without a row is zero, only times whose rows all were known by then.
    """
    derived = find_derived(source)
    if derived is None:
        return stored(parse_metric(source))
    if derived.is_across:
        return _make_across(derived, stored, with_extras=with_extras, known_by_ms=known_by_ms)
    code, (name,) = source.removesuffix(f"-{derived.name}"), derived.inputs
    earlier = "earlier_extras" if derived.lag_ms or derived.needs_previous else "own_extras"
    return sql.SQL(SQL["of_code"]).format(
        source=sql.Literal(source),
        stored=stored(name),
        input=sql.Literal(f"{code}-{name}"),
        columns=make_columns(derived),
        extras=sql.SQL(SQL[earlier] if with_extras else ""),
        earlier=_join_earlier(derived, stored(name)),
    )


def make_relation_of(sources: Collection[str]) -> sql.Composable:
    """Return what a query of several perpspecs' rows reads, all of one metric."""
    if not any(map(find_derived, sources)):
        return STORED
    return unite([make_relation(source) for source in sources])


def unite(relations: Iterable[sql.Composable]) -> sql.Composable:
    """Return relations of the same columns as one."""
    parts = [sql.SQL("SELECT * FROM {} AS u").format(relation) for relation in relations]
    return sql.SQL("({})").format(sql.SQL(" UNION ALL ").join(parts))


def make_columns(derived: Derived) -> sql.Composable:
    """Return the columns of a derived metric as SQL over its inputs' row `d`, and `p` before it."""
    computed = [column.name for column in derived.columns if column != SOURCES]
    return sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(sql.SQL(formula), sql.Identifier(name))
        for name, formula in zip(computed, derived.formulas, strict=True)
    )


def register_parts(cursor: Cursor, parts: Iterable[Part]) -> None:
    """Enter what derived perpspecs are computed from; safe to repeat."""
    for part in parts:
        metric = part.metric
        values = {"source": part.source, "code": part.code, "is_across": metric.is_across, "lag": metric.lag_ms}
        cursor.execute(SQL["register_part"], {**values, "inputs": list(part.inputs)})


def follow(cursor: Cursor, codes: Collection[str]) -> None:
    """Let the metrics across exchanges be computed over these exchange codes."""
    cursor.execute(SQL["follow"], {"codes": list(codes)})


def _make_across(
    derived: Derived, stored: Callable[[str], sql.Composable], *, with_extras: bool, known_by_ms: int | None
) -> sql.Composable:
    first, *others = derived.inputs
    aliases = ["r", *(f"r{number}" for number in range(1, len(derived.inputs)))]
    inputs: list[sql.Composable] = [
        sql.Identifier(alias, column.name)
        for alias, name in zip(aliases, derived.inputs, strict=True)
        for column in METRICS[name].columns
    ]
    if with_extras:
        inputs += [_join_extra(extra, aliases) for extra in EXTRAS]
    further = [
        sql.SQL(SQL["further"]).format(stored=stored(name), alias=sql.Identifier(alias), input=sql.Literal(f"-{name}"))
        for alias, name in zip(aliases[1:], others, strict=True)
    ]
    names = [sql.Identifier("g", column.name) for column in derived.columns if column != SOURCES]
    intervals = list_intervals(part.inputs[0] for part in find_parts(derived.name))
    zero = derived.zero_when_empty
    whole: sql.Composable = sql.SQL(SQL["all_are_covered" if zero else "all_have_rows"])
    if zero and known_by_ms is not None:
        whole += sql.SQL(SQL["known_by"]).format(at_ms=sql.Literal(known_by_ms))
    return sql.SQL(SQL["across"]).format(
        source=sql.Literal(derived.name),
        stored=stored(first),
        interval=sql.SQL(SQL["last_known"]).format(intervals=sql.SQL("{}::text[]").format(sql.Literal(intervals))),
        names=sql.SQL(", ").join(names),
        columns=make_columns(derived),
        extras=sql.SQL(SQL["joined_extras"] if with_extras else ""),
        names_of_extras=sql.SQL(SQL["names_of_extras"] if with_extras else ""),
        inputs=sql.SQL(", ").join(inputs),
        input=sql.Literal(f"-{first}"),
        further=sql.SQL(" ").join(further),
        sources=sql.SQL(SQL["codes_that_list" if zero else "codes_with_rows"]),
        whole=whole,
    )


def _join_extra(extra: str, aliases: Sequence[str]) -> sql.Composable:
    """Return one of EXTRAS over the rows of several inputs: what is known last and least surely counts."""
    columns = [sql.Identifier(alias, extra) for alias in aliases]
    join = {"known_ms": "greatest({})", "is_measured": "({})", "restored": "({})"}[extra]
    mark = {"known_ms": ", ", "is_measured": " AND ", "restored": " + "}[extra]
    return sql.SQL(f"{join} AS {extra}").format(sql.SQL(mark).join(columns))


def _join_earlier(derived: Derived, stored: sql.Composable) -> sql.Composable:
    if derived.lag_ms:
        return sql.SQL(SQL["lagged"]).format(stored=stored, lag=sql.Literal(derived.lag_ms))
    if derived.needs_previous:
        return sql.SQL(SQL["previous"]).format(stored=stored)
    return sql.SQL("")
