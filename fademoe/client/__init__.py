"""What talks to an exchange: REST, rate limits, server time, lists of contracts."""
