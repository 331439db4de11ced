"""The budgets: rate limits that all processes and hosts share, in Redis."""
