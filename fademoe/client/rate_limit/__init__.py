"""The rate limits of the exchanges, kept in Redis and shared by all processes and hosts."""
