"""The simulated Coinalyze."""
