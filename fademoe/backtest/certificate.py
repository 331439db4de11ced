"""What a result is made of: a certificate, the same bytes wherever the same plan runs over the same rows."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fademoe import __version__
from fademoe.account.market import Terms
from fademoe.account.numbers import format_decimal
from fademoe.account.step import SEMANTICS
from fademoe.backtest.market import SeriesHash
from fademoe.backtest.plan import Plan, write_param, write_tiers
from fademoe.clock import MINUTE_MS, to_iso


def make_certificate(
    plan: Plan,
    terms: Mapping[str, Sequence[tuple[int, Terms]]],
    series: Sequence[SeriesHash],
    lags: Mapping[str, Mapping[str, int]],
    newest_correction: int | None,
    ledger_sha256: str,
    *,
    certified: bool,
) -> dict[str, Any]:
    """Return the certificate of a run. It holds no run id, no time of the run, no host, no path."""
    conditions = plan.conditions
    return {
        "semantics": SEMANTICS,
        "fademoe": __version__,
        "strategy": {"name": plan.strategy.name, "sha256": plan.strategy.sha256},
        "params": {name: write_param(value) for name, value in plan.params.items()},
        "exchange": plan.exchange,
        "symbols": list(plan.symbols),
        "since": to_iso(plan.since),
        "until": to_iso(plan.until),
        "capital": format_decimal(plan.capital),
        "leverage": format_decimal(conditions.leverage),
        "margin": "isolated" if conditions.isolated else "cross",
        "slippage": format_decimal(conditions.slippage),
        "latency": conditions.latency,
        "allow_holes": conditions.allow_holes,
        "fees": {
            "maker": format_decimal(conditions.maker),
            "taker": format_decimal(conditions.taker),
            "liquidation": format_decimal(conditions.liquidation_fee),
        },
        "terms": {symbol: [_describe_terms(*each) for each in dated] for symbol, dated in terms.items()},
        "tiers": {symbol: [_describe_tiers(*each) for each in dated] for symbol, dated in terms.items()},
        "lags": {source: dict(sorted(by_interval.items())) for source, by_interval in sorted(lags.items())},
        "series": [
            {
                "source": each.source,
                "symbol": each.symbol,
                "rows": each.rows,
                "sha256": each.sha256,
                "look_back_minutes": each.look_back_ms // MINUTE_MS,
                "rows_before": each.rows_before,
                "sha256_before": each.sha256_before,
            }
            for each in series
        ],
        "as_of": None if plan.as_of is None else {"time": to_iso(plan.as_of), "newest_correction": newest_correction},
        "certified": certified,
        "sha256": ledger_sha256,
    }


def write_certificate(certificate: Mapping[str, Any]) -> str:
    """Return a certificate as canonical JSON: keys sorted, no blanks."""
    return json.dumps(certificate, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def find_difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """Return the first key at which two certificates differ, with both values; None where they are equal.

    Which correction was the newest then says when a run was made, not what of, so it is not compared.
    """
    first, second = _keep_time(first), _keep_time(second)
    for key in sorted({*first, *second}):
        if first.get(key) != second.get(key):
            return f"{key}: {json.dumps(first.get(key))[:300]} is now {json.dumps(second.get(key))[:300]}"
    return None


def _keep_time(certificate: Mapping[str, Any]) -> dict[str, Any]:
    as_of = certificate.get("as_of")
    return {**certificate, "as_of": as_of and as_of["time"]}


def _describe_terms(since_ms: int, terms: Terms) -> dict[str, Any]:
    return {
        "since": to_iso(since_ms),
        "lot": format_decimal(terms.lot),
        "min_notional": format_decimal(terms.min_notional),
        "assumed": [name for name in terms.assumed if name != "tiers"],
    }


def _describe_tiers(since_ms: int, terms: Terms) -> dict[str, Any]:
    return {
        "since": to_iso(since_ms),
        "slices": write_tiers(terms.tiers),
        "unit": "coins" if terms.tiers_in_coins else "USDT",
        "assumed": "tiers" in terms.assumed,
    }
