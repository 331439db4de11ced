"""What every program starts with: settings, PostgreSQL, Redis, clients."""
