"""An account of the backtester and the paper trader: positions, orders, ledger, and the step over one minute."""
