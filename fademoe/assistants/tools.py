"""The tools of an assistant. They read as the role of assistants, by the functions behind pages and API."""

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from difflib import get_close_matches
from functools import wraps
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, ToolAnnotations
from psycopg2.extensions import cursor as Cursor
from pydantic import Field, ValidationError
from typing_extensions import override

from fademoe.alerts.language import compile_condition
from fademoe.alerts.messages import Transition
from fademoe.alerts.replay import AFTER_MINUTES, replay_rule
from fademoe.alerts.rules import ALL, Rule, list_codes, list_default_codes
from fademoe.assistants.answer import Answer, Coverage, make_answer
from fademoe.assistants.answer_coverage import describe_coverage, describe_series, list_gaps
from fademoe.assistants.backtests import UNITS, list_series_read, queue_and_wait
from fademoe.assistants.session import open_session
from fademoe.assistants.statement import run_statement
from fademoe.backtest.request import RunRequest
from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms, parse_time, to_iso
from fademoe.errors import FadeMoeError
from fademoe.evaluation.tables import name_source
from fademoe.metrics import METRICS, STEPS_MS
from fademoe.settings import Settings
from fademoe.store.read.catalog import Perpspec, list_known_symbols, list_perpspecs, list_symbols
from fademoe.store.read.rows import Selection
from fademoe.web.model import alert_rules, screen
from fademoe.web.model.catalog import find_metric, find_perpspec
from fademoe.web.model.rows import read_page, read_side_by_side
from fademoe.web.model.series_ranges import CoverageSeries, read_series
from fademoe.web.problem import Problem

MAX_ROWS = 5_000
MAX_STATS_ROWS = 200_000
MAX_REPLAY_MS = 7 * DAY_MS  # of a rule over all its contracts, within the time of a read
MAX_SERIES = 100  # whose coverage an answer about many series names, the incomplete ones first
MAX_NAMED = 60  # symbols that an error names
MAX_ERROR_CHARACTERS = 4_000  # it may quote what was asked
PAGE_ROWS = 10_000
HOURS_OF_A_YEAR = 8_760
STEPS = ("1m", *STEPS_MS)
QUEUES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

Source = Annotated[str, Field(description="exchange code and metric, such as bin-ohlcv; list_series names them")]
Symbol = Annotated[str, Field(description="our name of a coin, such as BTC")]
Since = Annotated[str, Field(description="first instant of the range, ISO 8601 in UTC, such as 2026-11-01T00:00:00Z")]
Until = Annotated[str, Field(description="end of the range, itself left out, ISO 8601 in UTC")]
Step = Annotated[str, Field(description=f"{', '.join(STEPS)}; 1m: the rows as they are stored")]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS, description=f"rows of the answer, at most {MAX_ROWS}")]
Result = Annotated[CallToolResult, Answer]


class Toolbox:
    """The tools over one database; `address` logs in as the role of assistants."""

    def __init__(self, address: str, settings: Settings) -> None:
        """Remember where things are; nothing is opened before a tool is called."""
        self._address = address
        self._settings = settings

    def list_series(
        self,
        source: Annotated[str | None, Field(description="only this source, such as bin-ohlcv")] = None,
        symbol: Annotated[str | None, Field(description="only this symbol, such as BTC")] = None,
    ) -> Result:
        """List the series that are stored: since when they are requested, until when they are covered, what is missing.

        A series is one source (exchange code and metric) of one symbol.
        """
        with open_session(self._address) as cursor:
            specs = list_perpspecs(cursor)
            if source is not None:
                _check("source", source, list(specs))
            series, more = read_series(
                cursor,
                now_ms=now_ms(),
                limit=MAX_ROWS,
                sources=[source] if source else None,
                symbols=[symbol] if symbol else None,
                after=("", ""),
            )
            if symbol is not None and not series:
                _check_symbol(cursor, symbol)
        columns = {
            "source": None,
            "symbol": None,
            "exchange": None,
            "title": None,
            "interval": None,
            "columns": None,
            "requested_from": "ISO 8601",
            "covered_until": "ISO 8601",
            "complete_percent": "% of the requested time",
            "missing_minutes": "minutes",
            "absent_minutes": "minutes without a row for a reason",
        }
        rows = [_write_series(each, specs.get(each.source)) for each in series]
        return make_answer(list(columns), list(columns.values()), rows, truncated=more)

    def coverage(self, source: Source, symbol: Symbol, since: Since, until: Until) -> Result:
        """Tell how complete a range of a series is: each range that has no rows, with the reason or as missing.

        Call it before concluding anything from values that are not there. When `truncated` is true, ask again from the
        last `until` on: ranges after it were left out.
        """
        window, now = _read_window(since, until)
        with open_session(self._address) as cursor:
            find_perpspec(cursor, source)
            coverage = _describe(cursor, [source], symbol, window, now)
            gaps = list_gaps(cursor, source, symbol, window, now, MAX_ROWS + 1)
        rows = [[gap[name] for name in ("since", "until", "state", "reason")] for gap in gaps[:MAX_ROWS]]
        heads, units = ["since", "until", "state", "reason"], ["ISO 8601", "ISO 8601", None, None]
        return make_answer(heads, units, rows, coverage, truncated=len(gaps) > MAX_ROWS)

    def series(
        self,
        source: Source,
        symbol: Symbol,
        since: Since,
        until: Until,
        step: Step = "1m",
        columns: Annotated[
            str | None, Field(description="comma list of the source's columns; all when left out")
        ] = None,
        limit: Limit = 1_000,
    ) -> Result:
        """Return the rows of a series, oldest first, with units, and how complete the range is.

        With a step coarser than 1m each row says how many bars it is made of (`bars`), how many were expected, how many
        of those are absent for a reason, and whether the whole step is covered and over (`complete`). When `truncated`
        is true, ask again from the last `time` on: rows after it were left out.
        """
        window, now = _read_window(since, until)
        coarse = _read_step(step)
        with open_session(self._address) as cursor:
            spec = find_perpspec(cursor, source)
            chosen = _read_columns(spec, columns)
            page = read_page(cursor, spec, _select(symbol, chosen, window, limit), coarse)
            coverage = _describe(cursor, [source], symbol, window, now)
        names, units = _head(spec, chosen, coarse)
        rows = [(ts, to_iso(ts), *values) for ts, _, _, *values in page.rows]
        return make_answer(names, units, rows, coverage, truncated=page.next is not None)

    def compare(
        self,
        metric: Annotated[str, Field(description=f"{', '.join(METRICS)}")],
        symbol: Symbol,
        since: Since,
        until: Until,
        step: Step = "1h",
        column: Annotated[
            str | None, Field(description="the column to compare; the metric's first when left out")
        ] = None,
    ) -> Result:
        """Return one column of a metric for all exchanges side by side, aligned in time; null where one has no row.

        With a coarse step `<source> complete` says whether that step of that exchange is covered and over. At most
        5,000 rows: when `truncated` is true, ask again from the last `time` on.
        """
        window, now = _read_window(since, until)
        coarse = _read_step(step)
        with open_session(self._address) as cursor:
            specs = find_metric(cursor, metric)
            names = [field.name for field in specs[0].fields]
            chosen = column or names[0]
            _check("column", chosen, names)
            answer, page = read_side_by_side(cursor, specs, _select(symbol, (chosen,), window, MAX_ROWS), coarse)
            coverage = _describe(cursor, [spec.name for spec in specs], symbol, window, now)
        unit = next(field.unit for field in specs[0].fields if field.name == chosen)
        members = [(chosen, unit), *([("complete", None)] if coarse else [])]
        heads = [(f"{spec.name} {name}", unit) for spec in specs for name, unit in members]
        rows = [
            (
                row.ts,
                to_iso(row.ts),
                *((row.values[spec.name] or {}).get(name) for spec in specs for name, _ in members),
            )
            for row in answer.rows
        ]
        return make_answer(
            ["ts", "time", *(name for name, _ in heads)],
            ["ms since 1970 UTC", "ISO 8601", *(unit for _, unit in heads)],
            rows,
            coverage,
            truncated=page.next is not None,
        )

    def stats(
        self,
        source: Source,
        symbol: Symbol,
        column: Annotated[str, Field(description="a column of the source, such as c")],
        since: Since,
        until: Until,
        step: Step = "1m",
    ) -> Result:
        """Return count, first, last, lowest, highest, sum, mean and standard deviation (population) of a column.

        The instants of the lowest and the highest value are given. Rows without a value do not count, nor steps that
        are not covered and over: `incomplete` says how many. At most 200,000 rows: a coarser step reads more time.
        """
        window, now = _read_window(since, until)
        coarse = _read_step(step)
        with open_session(self._address) as cursor:
            spec = find_perpspec(cursor, source)
            numbers = [field.name for field in spec.fields if field.type != "text"]
            _check("column", column, numbers)
            found = [row for row in _read_all(cursor, spec, symbol, (column,), window, coarse) if row[1] is not None]
            coverage = _describe(cursor, [source], symbol, window, now)
        unit = next(field.unit for field in spec.fields if field.name == column)
        points = [(ts, Decimal(str(value))) for ts, value, is_complete in found if is_complete]
        rows = _summarise(points)
        if coarse:
            rows.append(("incomplete", len(found) - len(points), None))
        return make_answer(["statistic", "value", "time"], [None, unit, "ISO 8601"], rows, coverage)

    def funding_summary(self, symbol: Symbol, since: Since, until: Until) -> Result:
        """Summarize the settled funding of a symbol on each exchange: sum, mean per hour, annualised, extremes.

        A positive rate is paid by longs to shorts. `annualised` is the mean rate per hour times 8,760. Contracts that
        settle every hour, four or eight hours compare by `per_hour` and `annualised`, never by single rates. Both are
        of the settlements whose interval is known, null where no source sends it.
        """
        window, now = _read_window(since, until)
        with open_session(self._address) as cursor:
            specs = find_metric(cursor, "fr")
            rows = []
            for spec in specs:
                settled = [
                    (ts, Decimal(rate), int(hours) if hours else None)
                    for ts, rate, hours, _ in _read_all(cursor, spec, symbol, ("fr", "fr_hours"), window, "")
                    if rate is not None
                ]
                rows.append((spec.name, *_summarise_funding(settled)))
            coverage = _describe(cursor, [spec.name for spec in specs], symbol, window, now)
        fraction = "fraction"
        columns = {
            "source": None,
            "settlements": "count",
            "hours": "hours that the settlements are for whose interval is known",
            "sum": fraction,
            "per_hour": f"{fraction} per hour",
            "annualised": f"{fraction} per year",
            "lowest": f"{fraction} per interval",
            "highest": f"{fraction} per interval",
            "last": f"{fraction} per interval",
            "last_time": "ISO 8601",
        }
        return make_answer(list(columns), list(columns.values()), rows, coverage)

    def screen(
        self,
        expr: Annotated[str, Field(max_length=2_000, description="an expression of docs/alerts.md: chg(oi, 1h) > 3%")],
        codes: Annotated[str | None, Field(description="comma list of exchange codes; all that are followed")] = None,
        symbols: Annotated[str | None, Field(description="comma list of symbols; all that are followed")] = None,
    ) -> Result:
        """Evaluate an expression for every contract at the newest minute that is over: true or false, or a number.

        null: unknown, because an input is absent or late. The greatest values come first. Prices are quote per coin,
        amounts coins, changes and rates fractions (0.01 is 1 %).
        """
        chosen = _split(codes) or list_default_codes()
        for code in chosen:
            _check("code", code, list_codes())
        with open_session(self._address) as cursor:
            for symbol in _split(symbols):
                _check_symbol(cursor, symbol)
            found = screen.evaluate_screen(cursor, expr, chosen, _split(symbols))
        rows = screen.sort_rows(found.rows, "value", descending=True)
        unit = "true or false" if found.is_truth else "as the expression gives it"
        return make_answer(
            ["minute", "code", "symbol", "value"],
            ["ISO 8601", None, None, unit],
            [(to_iso(found.minute), row.code, row.symbol, row.value) for row in rows],
            truncated=len(rows) < len(found.rows),
        )

    def alert_replay(
        self,
        rule: Annotated[str, Field(description="the name of an alert rule in force")],
        since: Since,
        until: Until,
    ) -> Result:
        """Tell when a rule fired in a range, by what live evaluation knew then, and what the price did afterwards.

        `after_15m` is the change of the close in the next 15 minutes, a fraction. `late` marks transitions that full
        knowledge would have added or left out. At most 7 days. `coverage` names what the rule reads, incomplete first.
        """
        window, now = _read_window(since, until)
        if window.end_ms - window.start_ms > MAX_REPLAY_MS:
            raise ToolError(f"the range is longer than {MAX_REPLAY_MS // DAY_MS} days: ask for less at a time")
        window = Window(floor_to(window.start_ms, MINUTE_MS), floor_to(window.end_ms, MINUTE_MS))
        with open_session(self._address) as cursor:
            found = alert_rules.find_rule(cursor, rule).rule
            if not found.expr:
                raise ToolError(
                    f"the rule {rule!r} watches the data themselves: only rules with an expression are replayed"
                )
            replayed = replay_rule(cursor, found, window)
            coverage, more = _describe_most(cursor, _list_inputs(cursor, found), window, now)
        after = [f"after_{minutes}m" for minutes in AFTER_MINUTES]
        rows = [
            (
                *_write_transition(one.transition),
                *(None if change is None else _plain(change) for change in one.after.values()),
                None,
            )
            for one in replayed.transitions
        ]
        rows += [
            (*_write_transition(one.transition), *[None] * len(after), "added" if one.is_added else "left out")
            for one in replayed.late
        ]
        return make_answer(
            ["end_of_minute", "code", "symbol", "state", "values", *after, "late"],
            ["ISO 8601", None, None, None, "as the expression gives them", *["fraction"] * len(after), None],
            rows,
            coverage,
            truncated=more,
        )

    def backtest(
        self,
        strategy: Annotated[str, Field(max_length=20_000, description="rules in TOML: long, short, exit, size")],
        symbols: Annotated[str, Field(description="comma list such as BTC,ETH")],
        exchange: Annotated[str, Field(description="the name of an exchange that is followed")],
        since: Since,
        until: Until,
    ) -> Result:
        """Queue a backtest of a rule strategy and return its figures and its certificate when it is done.

        Fees of the exchange's lowest tier, slippage 0.01 %, leverage 1. A run that takes longer than 45 seconds goes
        on; its state says so, and the page Backtester shows it. A run over missing data fails and names them.
        `ledger_…` count the rows of the ledger by kind: with `ledger_rejection`, orders were refused, as for too little
        margin. `coverage` names the series that were read.
        """
        window, now = _read_window(since, until)
        request = RunRequest(
            name="assistant.toml",
            text=strategy,
            exchange=exchange,
            symbols=symbols,
            since=_read_time("since", since),
            until=_read_time("until", until),
        )
        run = queue_and_wait(self._settings, request)
        rows = [("id", run.id), ("state", run.state), ("message", run.message or None), ("certified", run.certified)]
        report = run.report or {}
        rows += [(name, value) for name, value in report.items() if not isinstance(value, list | dict)]
        rows += [(f"ledger_{kind}", count) for kind, count in report.get("rows", {}).items()]
        rows.append(("certificate", run.certificate))
        with open_session(self._address) as cursor:
            coverage, more = _describe_most(cursor, list(list_series_read(run)), window, now)
        return make_answer(
            ["figure", "value", "unit"],
            [None, None, None],
            [(name, value, "rows" if name.startswith("ledger_") else UNITS.get(name)) for name, value in rows],
            coverage,
            truncated=more,
        )

    def sql(
        self, statement: Annotated[str, Field(max_length=20_000, description="one SELECT over the views of the schema")]
    ) -> Result:
        """Run one SQL statement over the views (named like FadeMoe's tables), read-only, for at most 5 seconds.

        fademoe://schema/perp_data and its neighbours describe the views. It says nothing of coverage: ask `coverage`.
        """
        table = run_statement(self._address, statement)
        units = {column.name: column.unit for metric in METRICS.values() for column in metric.columns}
        return make_answer(
            table.columns, [units.get(name) for name in table.columns], table.rows, truncated=table.truncated
        )


class BoundedTool(Tool):
    """A tool that takes no argument it does not have, and whose errors say what is wrong in a bounded text."""

    @override
    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        """Run the tool; raise ToolError."""
        try:
            return await super().run(arguments, context, convert_result)
        except UnexpectedToolError:
            raise
        except ToolError as error:
            text = self._name_faults(error.__cause__) if isinstance(error.__cause__, ValidationError) else str(error)
            raise ToolError(text[:MAX_ERROR_CHARACTERS]) from error

    def _name_faults(self, error: ValidationError) -> str:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:10]]
        return (
            f"{'; '.join(faults)[:1_000]}. The arguments of {self.name} are {', '.join(self.parameters['properties'])}"
        )


def list_tools(toolbox: Toolbox, *, with_sql: bool) -> list[Tool]:
    """Return the tools of a server; `sql` only when the user has switched it on."""
    tools: list[Callable[..., CallToolResult]] = [
        toolbox.list_series,
        toolbox.coverage,
        toolbox.series,
        toolbox.compare,
        toolbox.stats,
        toolbox.funding_summary,
        toolbox.screen,
        toolbox.alert_replay,
    ]
    if with_sql:
        tools.append(toolbox.sql)
    return [*(_make_tool(tool, READS) for tool in tools), _make_tool(toolbox.backtest, QUEUES)]


def _make_tool(function: Callable[..., CallToolResult], annotations: ToolAnnotations) -> Tool:
    tool = BoundedTool.from_function(
        _answer_errors(function),
        name=function.__name__,
        description=inspect.getdoc(function),
        annotations=annotations,
    )
    arguments = tool.fn_metadata.arg_model
    arguments.model_config["extra"] = "forbid"
    arguments.model_rebuild(force=True)
    tool.parameters = arguments.model_json_schema()
    return tool


def _answer_errors(tool: Callable[..., CallToolResult]) -> Callable[..., CallToolResult]:
    """Let the errors that a tool expects reach the assistant as text."""

    @wraps(tool)
    def call(*args: Any, **options: Any) -> CallToolResult:
        try:
            return tool(*args, **options)
        except (Problem, FadeMoeError, ValueError) as error:
            raise ToolError(str(error)) from error

    return call


def _read_window(since: str, until: str) -> tuple[Window, int]:
    """Return the range of a question, which ends now at the latest, and now."""
    now = now_ms()
    start_ms, end_ms = _read_time("since", since), min(_read_time("until", until), now)
    if start_ms >= end_ms:
        raise ToolError(f"since {since!r} must be before until {until!r} and before now, {to_iso(now)}")
    return Window(start_ms, end_ms), now


def _read_time(argument: str, text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        raise ToolError(
            f"{argument} is {text[:100]!r}; valid is ISO 8601 in UTC such as 2026-11-01T00:00:00Z, from 2010 to 2100;"
            f" now it is {to_iso(now_ms())}"
        ) from None


def _read_step(step: str) -> str:
    """Return the step of a question, empty for the rows as they are stored."""
    _check("step", step, STEPS)
    return "" if step == "1m" else step


def _read_columns(spec: Perpspec, columns: str | None) -> tuple[str, ...]:
    names = [field.name for field in spec.fields]
    chosen = tuple(dict.fromkeys(part.strip() for part in columns.split(","))) if columns else tuple(names)
    for name in chosen:
        _check("column", name, names)
    return chosen


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _check(argument: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ToolError(f"no {argument} {value[:100]!r}; valid are {', '.join(valid)}")


def _check_symbol(cursor: Cursor, symbol: str) -> None:
    """Raise ToolError that names symbols when this one is of no series and of no contract."""
    symbols = list_known_symbols(cursor)
    if symbol in symbols:
        return
    requested = symbol[:100].upper()
    near = [name for name in symbols if requested.startswith(name)] + get_close_matches(requested, symbols, 10, 0.5)
    named = symbols if len(symbols) <= MAX_NAMED else list(dict.fromkeys(near))
    raise ToolError(
        f"no symbol {symbol[:100]!r}; {'valid' if named is symbols else 'similar'} are {', '.join(named) or 'none'};"
        " list_series and fademoe://symbols name those with data"
    )


def _describe(cursor: Cursor, sources: Sequence[str], symbol: str, window: Window, now: int) -> list[Coverage]:
    """Return the coverage of an answer; raise ToolError for an unknown symbol."""
    coverage = describe_coverage(cursor, sources, symbol, window, now)
    if not any(series["requested_ms"] or series["covered_ms"] for series in coverage):
        _check_symbol(cursor, symbol)
    return coverage


def _describe_most(
    cursor: Cursor, keys: Sequence[tuple[str, str]], window: Window, now: int
) -> tuple[list[Coverage], bool]:
    """Return the coverage of at most MAX_SERIES series, the incomplete ones first, and whether others are left out."""
    coverage = describe_series(cursor, keys, window, now)
    coverage.sort(key=lambda series: (series["is_complete"] and not series["absent_ms"], -series["missing_ms"]))
    return coverage[:MAX_SERIES], len(coverage) > MAX_SERIES


def _list_inputs(cursor: Cursor, rule: Rule) -> list[tuple[str, str]]:
    """Return the (source, symbol) that a rule reads, of all that are stored."""
    needs = [need for text in (rule.expr, rule.clear) if text for need in compile_condition(text).needs.columns]
    sources = sorted({name_source(need.code or code, need.measure.metric) for need in needs for code in rule.codes})
    return [
        (source, symbol)
        for source in sources
        for symbol in (list_symbols(cursor, source) if rule.symbols == ALL else rule.symbols)
    ]


def _select(symbol: str, columns: tuple[str, ...], window: Window, limit: int) -> Selection:
    return Selection(
        symbols=(symbol,),
        columns=columns,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        limit=limit,
        newest_first=False,
    )


def _head(spec: Perpspec, columns: Sequence[str], step: str) -> tuple[list[str], list[str | None]]:
    units = {field.name: field.unit for field in spec.fields}
    names = ["ts", "time", *columns]
    texts: list[str | None] = ["ms since 1970 UTC", "ISO 8601", *(units[name] for name in columns)]
    if step:
        names += ["bars", "expected", "absent", "complete"]
        texts += ["rows", "rows", "rows", None]
    return names, texts


def _read_all(
    cursor: Cursor, spec: Perpspec, symbol: str, columns: tuple[str, ...], window: Window, step: str
) -> Iterator[tuple[Any, ...]]:
    """Yield (ts, values…, is_complete) of all rows of a window, oldest first; raise ToolError when there are too many.

    A row as it is stored is complete, a coarser one where its step is covered and over.
    """
    selection = _select(symbol, columns, window, PAGE_ROWS)
    count = 0
    while True:
        page = read_page(cursor, spec, selection, step)
        count += len(page.rows)
        if count > MAX_STATS_ROWS:
            raise ToolError(f"the range has more than {MAX_STATS_ROWS} rows; ask for a coarser step or a shorter range")
        yield from ((row[0], *row[3 : 3 + len(columns)], not step or bool(row[-1])) for row in page.rows)
        if page.next is None:
            return
        selection = replace(selection, after=page.next)


def _summarise(points: Sequence[tuple[int, Decimal]]) -> list[tuple[str, Any, str | None]]:
    if not points:
        return [("count", 0, None)]
    lowest, highest = min(points, key=lambda point: point[1]), max(points, key=lambda point: point[1])
    with localcontext(prec=34):
        total = sum((value for _, value in points), Decimal(0))
        mean = total / len(points)
        deviation = (sum(((value - mean) ** 2 for _, value in points), Decimal(0)) / len(points)).sqrt()
    return [
        ("count", len(points), None),
        ("first", _plain(points[0][1]), to_iso(points[0][0])),
        ("last", _plain(points[-1][1]), to_iso(points[-1][0])),
        ("lowest", _plain(lowest[1]), to_iso(lowest[0])),
        ("highest", _plain(highest[1]), to_iso(highest[0])),
        ("sum", _plain(total), None),
        ("mean", _plain(mean), None),
        ("standard deviation", _plain(deviation), None),
    ]


def _summarise_funding(settled: Sequence[tuple[int, Decimal, int | None]]) -> tuple[Any, ...]:
    """Return the columns of `funding_summary` for settlements with ts, rate and hours (None: unknown)."""
    if not settled:
        return (0, 0, *[None] * 7)
    with localcontext(prec=34):
        total = sum((rate for _, rate, _ in settled), Decimal(0))
        hours = sum(hours for _, _, hours in settled if hours)
        timed = sum((rate for _, rate, hours in settled if hours), Decimal(0))
        per_hour = timed / hours if hours else None
        rates = [rate for _, rate, _ in settled]
        last_ts, last, _ = settled[-1]
        return (
            len(settled),
            hours or None,
            _plain(total),
            None if per_hour is None else _plain(per_hour),
            None if per_hour is None else _plain(per_hour * HOURS_OF_A_YEAR),
            _plain(min(rates)),
            _plain(max(rates)),
            _plain(last),
            to_iso(last_ts),
        )


def _write_series(series: CoverageSeries, spec: Perpspec | None) -> tuple[Any, ...]:
    """Return a series as `list_series` has it; without what its perpspec says where that is not registered."""
    return (
        series.source,
        series.symbol,
        *((None,) * 4 if spec is None else (spec.exchange, spec.title, spec.interval, ",".join(_name_fields(spec)))),
        None if series.wanted_from is None else to_iso(series.wanted_from),
        None if series.newest_ms is None else to_iso(series.newest_ms),
        series.percent,
        series.missing_ms // MINUTE_MS,
        series.absent_ms // MINUTE_MS,
    )


def _name_fields(spec: Perpspec) -> list[str]:
    return [field.name for field in spec.fields]


def _write_transition(transition: Transition) -> tuple[Any, ...]:
    """Return what `alert_replay` has of a transition itself; what the price did follows."""
    values = json.dumps(dict(transition.values), ensure_ascii=False)
    end = to_iso(transition.minute + MINUTE_MS)
    return (end, transition.code, transition.symbol, transition.state, values)


def _plain(value: Decimal) -> str:
    """Return a number in plain notation without trailing zeros."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
