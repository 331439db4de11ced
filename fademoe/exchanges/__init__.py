"""One package per exchange: its table and its parsers, nothing else. Found by `fademoe.feeds.registry`."""
