"""Simulate the exchanges on loopback: one process that serves REST and WebSocket from one known set of data."""

EXCHANGE_NAMES = ("binance", "bybit", "okx", "coinalyze")
