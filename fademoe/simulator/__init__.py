"""Stand in for the exchanges on loopback: one process, REST and WebSocket as they are, from one known truth."""

EXCHANGE_NAMES = ("binance", "bybit", "okx", "coinalyze")
