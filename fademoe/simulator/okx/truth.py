"""The rows that a collector of OKX must have stored, where they differ from the rows of `market.truth`."""

from fademoe.simulator.market.truth import Row
from fademoe.simulator.okx.rows import round_usd


def adapt_truth(metric: str, rows: list[Row]) -> list[Row]:
    """Round the open interest in USD to its twelve exact digits; change no other metric. Rows are changed in place."""
    if metric == "oi":
        for row in rows:
            row["oi_usd"] = _round_text(str(row["oi_usd"]))
    return rows


def _round_text(text: str) -> str:
    """Round a decimal text to twelve digits, half to even, and keep its number of decimals."""
    whole, _, fraction = text.partition(".")
    digits = str(round_usd(int(whole + fraction)))
    if not fraction:
        return digits
    digits = digits.rjust(len(fraction) + 1, "0")
    return f"{digits[: -len(fraction)]}.{digits[-len(fraction) :]}"
