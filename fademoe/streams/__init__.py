"""Live data: one process per exchange, one runner for all."""
