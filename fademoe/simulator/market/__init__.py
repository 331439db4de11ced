"""The simulated market: deterministic values that every simulated exchange serves."""
