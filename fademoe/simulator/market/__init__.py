"""The simulated market: deterministic data that every simulated exchange serves."""
