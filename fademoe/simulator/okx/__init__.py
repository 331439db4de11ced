"""The simulated OKX."""
