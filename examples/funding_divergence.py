"""Where did the funding rates of two exchanges part most, and are the data that say so complete?

Run it cell by cell, or as a program: python examples/funding_divergence.py [ADDRESS] [SYMBOL] [SINCE] [UNTIL]
"""

# %% What is looked at
import sys

import plotly.graph_objects as go
import polars as pl

from fademoe.client import Client

DEFAULTS = ["http://127.0.0.1:8000", "BTC", "2026-01-01", "2026-02-01"]
ADDRESS, SYMBOL, SINCE, UNTIL = [*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :]]
SOURCES = ["bin-fr", "byb-fr"]
client = Client(ADDRESS)

# %% Settlements side by side, each as a rate a year: contracts that settle every 4 and every 8 hours compare
frame = client.join(SOURCES, SYMBOL, SINCE, UNTIL, exact=False)
yearly = [(pl.col(f"{source}.fr") * 8760 / pl.col(f"{source}.fr_hours")).alias(source) for source in SOURCES]
settled = frame.select(pl.from_epoch("ts", time_unit="ms").alias("time"), *yearly).drop_nulls()
gaps = settled.with_columns((pl.col(SOURCES[0]) - pl.col(SOURCES[1])).alias("gap"))

# %% The widest gap
widest = gaps.sort(pl.col("gap").abs(), descending=True).row(0, named=True)
print(f"{gaps.height} settlements at the same time; the widest gap is {widest['gap']:+.2%} a year at {widest['time']}")

# %% Plot it
figure = go.Figure([go.Scatter(x=gaps["time"].to_list(), y=gaps[name].to_list(), name=name) for name in SOURCES])
figure.add_vline(x=widest["time"])
figure.update_layout(title=f"Funding of {SYMBOL}, a year", yaxis_tickformat=".1%")
figure.write_html("funding_divergence.html", include_plotlyjs=True)

# %% Certify the data: nothing is missing, and the same rows give the same hashes anywhere
for source in SOURCES:
    proof = client.certificate(source, SYMBOL, SINCE, UNTIL)
    print(f"{source}: complete {proof['complete']}, {proof['rows']} rows, sha256 {proof['sha256']}")
