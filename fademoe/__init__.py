"""FadeMoe collects the market data of crypto perpetual futures into the user's own database and keeps it complete."""

__version__ = "0.1.0"
