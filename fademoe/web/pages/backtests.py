"""The pages of the backtester: runs, the form that starts one, the report of one, several side by side."""

from flask import after_this_request
from werkzeug.wrappers import Response

from fademoe.backtest.plan import list_exchanges
from fademoe.backtest.request import list_examples, read_declared_params
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, floor_to, now_ms, to_iso
from fademoe.store import backtests
from fademoe.web.api.backtests import ID, LIST_MOST, find_run
from fademoe.web.current import get_services
from fademoe.web.http.params import Names, Params, Text
from fademoe.web.http.routes import Routes
from fademoe.web.pages.charts import CHARTS_POLICY

routes = Routes("pages_backtests")

STRATEGY = Text("strategy", "a strategy file to start")
IDS = Names("ids", "the runs to compare")
AROUND_MS = 2 * HOUR_MS  # of a trade, on the chart
FIGURES = {
    "return": ("Return", "percent"),
    "buy_and_hold": ("Buy and hold", "percent"),
    "cagr": ("CAGR", "percent"),
    "volatility": ("Volatility", "percent"),
    "sharpe": ("Sharpe", "ratio"),
    "sortino": ("Sortino", "ratio"),
    "calmar": ("Calmar", "ratio"),
    "max_drawdown": ("Deepest drawdown", "percent"),
    "max_drawdown_minutes": ("Longest drawdown, minutes", "count"),
    "exposure": ("Exposure", "percent"),
    "time_in_market": ("Time in the market", "percent"),
    "turnover": ("Turnover", "ratio"),
    "trades": ("Trades", "count"),
    "hit_rate": ("Won", "percent"),
    "profit_factor": ("Profit factor", "ratio"),
    "average_holding_minutes": ("Average holding, minutes", "ratio"),
    "fees": ("Fees, USDT", "text"),
    "funding": ("Funding, USDT", "text"),
}


@routes.show("/backtester", "backtester.html", (STRATEGY,))
def show_backtester(params: Params) -> dict[str, object]:
    """Show the newest runs and the form that starts one."""
    files = list_examples()
    chosen = next((path for path in files if path.name == params[STRATEGY]), files[0] if files else None)
    with get_services().reader.read() as cursor:
        runs = [backtests.summarise(run) for run in backtests.list_runs(cursor, LIST_MOST)]
    until = floor_to(now_ms(), DAY_MS)
    return {
        "runs": runs,
        "files": [path.name for path in files],
        "chosen": chosen.name if chosen else "",
        "declared": read_declared_params(chosen) if chosen else {},
        "exchanges": list_exchanges(),
        "since": to_iso(until - 7 * DAY_MS),
        "until": to_iso(until),
        "twin": "/api/backtests",
    }


@routes.show("/backtester/run", "backtest.html", (ID,))
def show_run(params: Params) -> dict[str, object]:
    """Show a run: how far it is, or its report."""
    run = find_run(params[ID])
    after_this_request(_allow_styles)
    report = run.report or {}
    described = backtests.describe(run)
    return {
        "run": described,
        "is_over": run.state not in (backtests.QUEUED, backtests.RUNNING),
        "left_s": _find_left(run.id, run.progress) if run.state == backtests.RUNNING else None,
        "figures": [(title, kind, report.get(name)) for name, (title, kind) in FIGURES.items()]
        if run.kind == backtests.RUN and report
        else [],
        "trades": [
            trade | {"from": to_iso(trade["opened"] - AROUND_MS), "to": to_iso(_end_of(trade) + AROUND_MS)}
            for trade in reversed(report.get("trades_list", [])[-200:])
        ],
        "curve": report.get("curve", []),
        "twin": f"/api/backtests/{run.id}",
    }


@routes.show("/backtester/compare", "compare.html", (IDS,))
def compare_runs(params: Params) -> dict[str, object]:
    """Show the figures of several runs side by side."""
    runs = [find_run(run_id) for run_id in params[IDS]]
    done = [run for run in runs if run.report and run.kind == backtests.RUN]
    return {
        "runs": [backtests.summarise(run) for run in done],
        "rows": [
            (title, kind, [(run.report or {}).get(name) for run in done]) for name, (title, kind) in FIGURES.items()
        ],
    }


def _find_left(run_id: str, share: float) -> int | None:
    """Return how many seconds a run will take yet, by its progress since it was first shown; None: not known yet."""
    rates = get_services().run_rates
    rates.add(now_ms(), [(run_id, round((1 - share) * 1_000_000))])
    rate = rates.find_rate(run_id)
    return None if rate is None or rate.left_ms is None else round(rate.left_ms / SECOND_MS)


def _end_of(trade: dict[str, int | None]) -> int:
    return int(trade["closed"] or trade["opened"] or 0) + MINUTE_MS


def _allow_styles(response: Response) -> Response:
    """Let plotly write styles into the page."""
    response.headers["Content-Security-Policy"] = CHARTS_POLICY
    return response
