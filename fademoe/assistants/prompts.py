"""Prompts that a person can pick: each is a plan of tool calls that ends in an answer with units and coverage."""

from typing import Any

from mcp.server.mcpserver import MCPServer

RULES = (
    "Read fademoe://semantics first. Give every number with its unit and its range of time. Say of every range whether"
    " it is complete, and name what is absent or missing with the reason; a value that is not there is unknown, never"
    " zero."
)


def register(server: MCPServer[Any]) -> None:
    """Give the prompts to a server."""

    def funding_review(symbol: str, since: str, until: str) -> str:
        """Compare the funding of a symbol over the exchanges, and what a carry position would have earned."""
        return (
            f"Review the funding of {symbol} from {since} until {until}. Call funding_summary, then compare with metric"
            " fr and step 1d, then series of bin-pfr with step 1h where the rates differ most. Say which exchange paid"
            f" most per hour and per year, how steady that was, and what long-short between two of them earned. {RULES}"
        )

    def data_quality_review(source: str, symbol: str, since: str, until: str) -> str:
        """Judge whether a series is fit for research: what is absent, missing or never requested."""
        return (
            f"Judge the data of {source} {symbol} from {since} until {until}. Call list_series with the source,"
            " coverage, and stats of each column. List every range without rows with its reason, say how much of the"
            f" whole it is, and which questions it spoils. {RULES}"
        )

    def explain_alert(rule: str, since: str, until: str) -> str:
        """Explain why an alert fired: the values of its expression, and the market around it."""
        return (
            f"Explain the alert {rule} between {since} and {until}. Call alert_replay, then series of each source in"
            " the rule from an hour before to an hour after each firing. Say what the values were, what the price did"
            f" afterwards, and whether any input was unknown. {RULES}"
        )

    def design_backtest(idea: str, symbol: str) -> str:
        """Turn an idea into a rule strategy and a backtest whose result can be proved."""
        return (
            f"Design a backtest of this idea on {symbol}: {idea}. Call list_series to see which sources exist, coverage"
            " of each over the range, and only then backtest with a strategy in TOML. State fees, slippage and funding;"
            f" name what would make the result worthless: few trades, one good month, absences. {RULES}"
        )

    for prompt in (funding_review, data_quality_review, explain_alert, design_backtest):
        server.prompt(description=prompt.__doc__)(prompt)
