"""The backtester: a strategy over stored minutes, with a certificate for every result. See docs/backtesting.md.

columns       rows of a series as columns, a chunk at a time
market        all series of a run: what was known at a moment, and minutes for the account
view          what a strategy sees at the end of a minute
strategies    strategy files: Python and TOML
plan          what a run is: symbols, range, conditions
run           the run itself: minute by minute, ledger, equity, hash
certificate   what a result is made of, and the comparison of two
report        the figures of a run
"""
