"""The backtester: a strategy over stored minutes, with a certificate for every result. See docs/backtesting.md.

request       what a user asks for, as texts
plan          what a run is: symbols, range, conditions
strategies    strategy files: Python and TOML
rules         strategies of rules in TOML
columns       rows of a series as columns, a chunk at a time
market        all series of a run: what was known at a moment, and minutes for the account
view          what a strategy sees at the end of a minute
run           the run itself: minute by minute, ledger, equity, hash
calm          stretches of minutes in which positions are only marked, at once
equity        equity and cash, minute by minute
certificate   what a result is made of, and the comparison of two
report        the figures of a run
database      runs over the database: looked up, run, stored
sweep         sweeps over params, and walking forward
kernel        target strategies in floats, for sweeps
vector        expressions over all minutes in floats, for sweeps
chunks        a sweep as several jobs
"""
